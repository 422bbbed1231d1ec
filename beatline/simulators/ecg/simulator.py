"""Simulated patients and their 12-lead ECGs in the files of PTB-XL 1.0.3.

Who the patients are, what they have, and the tables and WFDB files that say so. How often diagnoses
occur, alone and together, is PTB-XL's (Wagner et al. 2020, Scientific Data 7:154,
https://doi.org/10.1038/s41597-020-0495-6); what the signals look like is up to `cardiac_model`,
`findings` and `electrode_noise`.

Every finding has a severity, from one that nobody can see to one that nobody misses. Annotations
are as unsure as a human's: some name what can hardly be seen, and some normal records hide a slight
finding. That, not noise alone, keeps a model from being always right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.random import PCG64, Generator, SeedSequence
from numpy.typing import NDArray
from scipy.signal import firwin, upfirdn

from beatline.common import parallel
from beatline.common.errors import UserError
from beatline.common.files import replacing
from beatline.formats.leads import LEADS
from beatline.simulators.ecg import electrode_noise as noise_model
from beatline.simulators.ecg.cardiac_model import (
    MODEL_RATE,
    Array,
    Beat,
    Rhythm,
    dipole,
    frontal_axis,
    heartbeats,
    individual_beat,
    individual_torso,
)
from beatline.simulators.ecg.findings import FINDINGS, ventricular_pacing

Samples = NDArray[np.int16]

# Codes, kinds and diagnostic classes of PTB-XL 1.0.3 (Wagner et al. 2020, Scientific Data 7:154). The
# cross-references to other code systems are left empty: nothing in this project reads them.
STATEMENTS = Path(__file__).with_name("scp_statements.csv")

# Records of PTB-XL 1.0.3 with each combination of superclasses; they add up to 21,799.
SUPERCLASS_COMBINATIONS: dict[tuple[str, ...], int] = {
    ("NORM",): 9069,
    ("MI",): 2532,
    ("STTC",): 2400,
    ("CD",): 1708,
    ("MI", "CD"): 1297,
    ("STTC", "HYP"): 781,
    ("MI", "STTC"): 599,
    ("HYP",): 535,
    ("STTC", "CD"): 471,
    (): 411,
    ("NORM", "CD"): 407,
    ("MI", "STTC", "HYP"): 361,
    ("CD", "HYP"): 300,
    ("MI", "STTC", "CD"): 223,
    ("STTC", "CD", "HYP"): 211,
    ("MI", "HYP"): 183,
    ("MI", "STTC", "CD", "HYP"): 156,
    ("MI", "CD", "HYP"): 117,
    ("NORM", "STTC"): 28,
    ("NORM", "STTC", "CD"): 5,
    ("NORM", "HYP"): 2,
    ("NORM", "CD", "HYP"): 2,
    ("NORM", "MI", "CD", "HYP"): 1,
}

# Records of PTB-XL with each diagnostic statement.
DIAGNOSES: dict[str, dict[str, int]] = {
    "MI": {
        "IMI": 2676, "ASMI": 2357, "ILMI": 478, "AMI": 353, "ALMI": 288, "INJAS": 215, "LMI": 201,
        "INJAL": 148, "IPLMI": 51, "IPMI": 33, "INJIN": 18, "INJLA": 17, "PMI": 17, "INJIL": 15,
    },
    "STTC": {
        "NDT": 1825, "ISC_": 1272, "NST_": 768, "ISCAL": 658, "ISCIN": 217, "DIG": 181,
        "ISCIL": 179, "ISCAS": 170, "ISCLA": 142, "LNGQT": 117, "ANEUR": 104, "EL": 96,
        "ISCAN": 43,
    },
    "CD": {
        "LAFB": 1623, "IRBBB": 1118, "1AVB": 793, "IVCD": 787, "CRBBB": 541, "CLBBB": 536,
        "LPFB": 177, "WPW": 79, "ILBBB": 77, "3AVB": 16, "2AVB": 14,
    },
    "HYP": {"LVH": 2132, "LAO/LAE": 426, "RVH": 126, "RAO/RAE": 99, "SEHYP": 29},
}  # fmt: skip

# What a second diagnosis of the same superclass is, if it is not the first: compatible ones only.
SECOND_DIAGNOSES: dict[str, tuple[str, str]] = {
    "MI": ("ASMI", "IMI"),
    "STTC": ("NDT", "ISC_"),
    "CD": ("1AVB", "LAFB"),
    "HYP": ("LAO/LAE", "LVH"),
}
SECOND_DIAGNOSIS_SHARE = 0.12
# In a normal ECG only these are let pass.
HARMLESS = {"MI": ("IMI",), "STTC": ("NST_", "NDT"), "CD": ("IRBBB", "1AVB"), "HYP": ("LVH",)}

# Rhythms: heart rate (mean, SD, in 1/min), RR variability and weights, PTB-XL's record counts, in
# records with and without abnormal diagnoses; fibrillation and pacing hardly go with NORM.
RHYTHMS: dict[str, tuple[float, float, float, float, float]] = {
    "SR": (72, 11, 0.035, 8900, 7900),
    "AFIB": (84, 17, 0.0, 1480, 15),
    "STACH": (110, 9, 0.015, 600, 220),
    "SARRH": (66, 9, 0.11, 230, 540),
    "SBRAD": (53, 3.5, 0.045, 230, 400),
    "AFLT": (90, 14, 0.0, 73, 0),
    "SVTAC": (150, 12, 0.005, 50, 0),
}
# Records without a superclass are mostly paced, or carry only a rhythm.
PACED_SHARE_WITHOUT_DIAGNOSIS = 0.6
ATRIA = {"AFIB": "fibrillation", "AFLT": "flutter", "PACE": "paced"}

REVISIT_SHARE = 1 - 18869 / 21799  # records of patients who have an earlier one
PROGRESS_SHARE = 0.15  # of later records, in which the patient has got other diagnoses
HIDDEN_FINDING_SHARE = 0.15  # of records without an abnormal diagnosis
HIDDEN_FINDINGS = ("NDT", "NST_", "IMI", "ASMI", "LVH", "IRBBB", "LAFB", "IVCD")
FOLDS = 10
# Multiples of it, modulo 1, fill the unit interval evenly from the first on: any number of patients
# has nearly the shares of SUPERCLASS_COMBINATIONS.
GOLDEN_RATIO = (5**0.5 - 1) / 2
SAMPLES_PER_MILLIVOLT = 1000
RECORDS_A_TASK = 32  # that a process makes at a time
FIRST_RECORDING = datetime(1984, 11, 9, 9, 17, 34)
BETWEEN_RECORDINGS = timedelta(hours=1, minutes=58)

# PTB-XL keeps 100 Hz versions of what it recorded at 500 Hz.
DECIMATION = MODEL_RATE // 100
DECIMATION_FILTER = firwin(81, 44, fs=MODEL_RATE)

# Streams of random numbers: what is drawn for one patient or record is independent of the others.
COHORT, PATIENT, RECORD = range(3)


@dataclass(frozen=True)
class Patient:
    """One person: who they are, and their healthy heart and torso."""

    number: int
    age: float
    male: bool
    height: float
    weight: float
    beat: Beat
    torso: Array
    superclasses: tuple[str, ...]
    severities: dict[str, float]
    rhythm: str
    fold: int


@dataclass
class Record:
    """One ECG: who, what is annotated, and what the models need to make its signals.

    `severities` are the diagnoses annotated, `hidden` those in the signal only; `forms` are form
    statements, `rhythm_code` is the rhythm's statement.
    """

    ecg_id: int
    patient: Patient
    superclasses: tuple[str, ...]
    severities: dict[str, float]
    hidden: dict[str, float]
    rhythm_code: str
    rhythm: Rhythm
    forms: tuple[str, ...]
    levels: noise_model.NoiseLevels
    beat: Beat = field(repr=False)


def simulate(
    folder: Path,
    *,
    records: int,
    seed: int,
    sampling_rate: int = 100,
    noise: float = 1.0,
    subtlety: float = 1.0,
) -> None:
    """Write `records` simulated ECGs into `folder` in the layout of PTB-XL 1.0.3.

    The folder gets `ptbxl_database.csv`, `scp_statements.csv` and, for a `sampling_rate` of 100 Hz,
    `records100/00000/00001_lr.{hea,dat}` and so on; for 500 Hz `records500/00000/00001_hr.*`. Each
    record has 12 leads of 10 s as 16-bit samples of 1 µV. `noise` scales all noise (0: none).
    `subtlety` makes findings harder to see: the severities, between 0 and 1, are raised to its
    power (0: all are clear).

    The same arguments give the same bytes, and record i does not depend on `records`. Raises
    UserError for arguments out of range.
    """
    _check(records, sampling_rate, noise, subtlety)
    suffix, directory = ("lr", "records100") if sampling_rate == 100 else ("hr", "records500")
    everyone = cohort(records, seed, noise=noise, subtlety=subtlety)
    few = [everyone[start : start + RECORDS_A_TASK] for start in range(0, records, RECORDS_A_TASK)]
    work = partial(_samples, seed=seed, sampling_rate=sampling_rate)
    for record, samples in zip(
        everyone, chain.from_iterable(parallel.ordered(work, few)), strict=True
    ):
        name = f"{record.ecg_id:05d}_{suffix}"
        subfolder = folder / directory / f"{record.ecg_id // 1000 * 1000:05d}"
        subfolder.mkdir(parents=True, exist_ok=True)
        _write_wfdb(subfolder, name, samples, sampling_rate)
        if record.ecg_id % 500 == 0 or record.ecg_id == records:
            print(f"simulated {record.ecg_id} of {records} ECG records", flush=True)
    with replacing(folder / "ptbxl_database.csv") as beside:
        database_table(everyone, seed).to_csv(beside, index=False, lineterminator="\n")
    with replacing(folder / STATEMENTS.name) as beside:
        beside.write_bytes(STATEMENTS.read_bytes())


def _samples(records: Sequence[Record], seed: int, sampling_rate: int) -> list[Samples]:
    """The samples of the records as their files hold them."""
    return [_digital(signals(record, seed, sampling_rate)) for record in records]


def _check(records: int, sampling_rate: int, noise: float, subtlety: float) -> None:
    if not 1 <= records <= 99_999:
        raise UserError(f"records is {records}: PTB-XL's file names have room for 1 to 99999")
    if sampling_rate not in (100, MODEL_RATE):
        raise UserError(f"sampling_rate is {sampling_rate}: PTB-XL has 100 and {MODEL_RATE} Hz")
    for name, value in (("noise", noise), ("subtlety", subtlety)):
        if not 0 <= value < np.inf:
            raise UserError(f"{name} is {value}: it must be a number that is not negative")


def stream(seed: int, *key: int) -> Generator:
    """The random numbers of one patient, record or purpose, told apart by `key`."""
    return Generator(PCG64(SeedSequence(entropy=seed, spawn_key=key)))


# ------------------------------------------------------------------------------------ the patients


def cohort(records: int, seed: int, *, noise: float = 1.0, subtlety: float = 1.0) -> list[Record]:
    """The records in the order of `ecg_id`, without their signals.

    A later record belongs to an earlier patient with PTB-XL's share of such records. Each patient
    goes to the fold that has the fewest records of the patient's superclasses so far, so folds are
    alike and nobody is in two.
    """
    offset = stream(seed, COHORT).random()
    folds: Counter[tuple[tuple[str, ...], int]] = Counter()
    patients = 0
    everyone: list[Record] = []
    for ecg_id in range(1, records + 1):
        rng = stream(seed, COHORT, ecg_id)
        again = bool(everyone) and rng.random() < REVISIT_SHARE
        if again:
            patient = everyone[rng.integers(len(everyone))].patient
        else:
            superclasses = _superclasses(offset + patients * GOLDEN_RATIO)
            fold = _emptiest_fold(folds, superclasses, rng)
            patient = _new_patient(patients, superclasses, fold, seed)
            patients += 1
        record = _new_record(ecg_id, patient, again, seed, noise, subtlety)
        folds[record.superclasses, patient.fold] += 1
        everyone.append(record)
    return everyone


def _superclasses(position: float) -> tuple[str, ...]:
    """The combination at a position (modulo 1) of the table, laid out by their shares."""
    shares = np.cumsum(list(SUPERCLASS_COMBINATIONS.values()))
    index = np.searchsorted(shares, position % 1 * shares[-1], side="right")
    return list(SUPERCLASS_COMBINATIONS)[int(index)]


def _emptiest_fold(folds: Counter, superclasses: tuple[str, ...], rng: Generator) -> int:
    order = rng.permutation(FOLDS) + 1
    return int(min(order, key=lambda fold: folds[superclasses, int(fold)]))


def _new_patient(number: int, superclasses: tuple[str, ...], fold: int, seed: int) -> Patient:
    rng = stream(seed, PATIENT, number)
    male = bool(rng.random() < 0.52)
    ill = bool(superclasses) and "NORM" not in superclasses
    age = float(np.clip(rng.normal(67, 13) if ill else rng.normal(52, 17), 18, 89).round())
    height = float(np.clip(rng.normal(175 if male else 163, 7), 140, 205).round())
    weight = float(np.clip(rng.normal(78 if male else 67, 13), 38, 160).round())
    return Patient(
        number=number,
        age=age,
        male=male,
        height=height,
        weight=weight,
        beat=individual_beat(rng, age, male),
        torso=individual_torso(rng, weight),
        superclasses=superclasses,
        severities=_diagnoses(superclasses, rng),
        rhythm=_rhythm_code(superclasses, rng),
        fold=fold,
    )


def _diagnoses(superclasses: tuple[str, ...], rng: Generator) -> dict[str, float]:
    """Diagnostic statements of the superclasses, each with a severity between 0 and 1."""
    severities: dict[str, float] = {}
    normal = "NORM" in superclasses
    for superclass in superclasses:
        if superclass == "NORM":
            continue
        weights = DIAGNOSES[superclass]
        if normal:
            weights = {code: weights[code] for code in HARMLESS[superclass]}
        shares = np.cumsum(list(weights.values()))
        first = list(weights)[int(np.searchsorted(shares, rng.random() * shares[-1], "right"))]
        codes = [first]
        if not normal and rng.random() < SECOND_DIAGNOSIS_SHARE:
            codes.append(next(code for code in SECOND_DIAGNOSES[superclass] if code != first))
        for code in codes:
            severities[code] = _severity(rng) * (0.6 if normal else 1.0)
    return severities


def _severity(rng: Generator) -> float:
    """A severity: anything between 0 and 1, most often about two thirds."""
    return float(rng.beta(2.4, 1.4))


def _rhythm_code(superclasses: tuple[str, ...], rng: Generator) -> str:
    if not superclasses and rng.random() < PACED_SHARE_WITHOUT_DIAGNOSIS:
        return "PACE"
    weights = np.array([row[4 if "NORM" in superclasses else 3] for row in RHYTHMS.values()])
    return list(RHYTHMS)[int(rng.choice(len(weights), p=weights / weights.sum()))]


# ------------------------------------------------------------------------------------- the records


def _new_record(
    ecg_id: int, patient: Patient, again: bool, seed: int, noise: float, subtlety: float
) -> Record:
    rng = stream(seed, RECORD, ecg_id)
    superclasses, severities, code = patient.superclasses, patient.severities, patient.rhythm
    if again and rng.random() < PROGRESS_SHARE:
        superclasses = _superclasses(rng.random())
        severities, code = _diagnoses(superclasses, rng), _rhythm_code(superclasses, rng)
    severities = {
        name: float(np.clip(severity + rng.normal(0, 0.08), 0, 1)) ** subtlety
        for name, severity in severities.items()
    }
    hidden: dict[str, float] = {}
    if set(superclasses) <= {"NORM"} and rng.random() < HIDDEN_FINDING_SHARE:
        hidden = {str(rng.choice(HIDDEN_FINDINGS)): rng.uniform(0.1, 0.6) ** subtlety}
    rhythm = _rhythm(code, severities, superclasses, rng)
    beat = _diseased_beat(patient.beat, severities | hidden, code, rng)
    return Record(
        ecg_id=ecg_id,
        patient=patient,
        superclasses=superclasses,
        severities=severities,
        hidden=hidden,
        rhythm_code=code,
        rhythm=rhythm,
        forms=_forms(severities, superclasses, rhythm, rng),
        levels=noise_model.random_levels(rng, noise),
        beat=beat,
    )


def _diseased_beat(healthy: Beat, severities: dict[str, float], code: str, rng: Generator) -> Beat:
    """The patient's beat with all findings, and with what changes from day to day."""
    beat = healthy.copy()
    beat.dipoles *= np.exp(rng.normal(0, 0.06, (len(beat.dipoles), 1)))
    for name, severity in severities.items():
        FINDINGS[name](beat, severity, rng)
    if code == "PACE":
        ventricular_pacing(beat, rng)
    return beat


def _rhythm(
    code: str, severities: dict[str, float], superclasses: tuple[str, ...], rng: Generator
) -> Rhythm:
    mean, spread, variability, *_ = RHYTHMS.get(code, (70, 4, 0.003))
    healthy = set(superclasses) <= {"NORM"}
    rate = float(np.clip(rng.normal(mean, spread), 40, 190))
    if code == "SR":
        rate = float(np.clip(rate, 58, 100))
    ectopic = rng.random()
    return Rhythm(
        heart_rate=rate,
        variability=variability * float(np.exp(rng.normal(0, 0.35))),
        respiration_rate=float(np.clip(rng.normal(0.25, 0.04), 0.13, 0.4)),
        atria=ATRIA.get(code, "sinus"),
        ventricular_ectopy=0.15 if ectopic < (0.03 if healthy else 0.075) else 0.0,
        atrial_ectopy=0.12 if ectopic > 0.98 and code not in ATRIA else 0.0,
        ectopic_every=int(rng.integers(2, 4)) if not healthy and rng.random() < 0.008 else 0,
        av_block=2 if "2AVB" in severities else 3 if "3AVB" in severities else 0,
    )


def _forms(
    severities: dict[str, float], superclasses: tuple[str, ...], rhythm: Rhythm, rng: Generator
) -> tuple[str, ...]:
    """Form statements: those that go with the diagnoses, each in a part of the records."""
    diagnosed = set(severities)
    shares = {
        "PVC": 1.0 * (rhythm.ventricular_ectopy > 0 or rhythm.ectopic_every > 0),
        "PAC": 1.0 * (rhythm.atrial_ectopy > 0),
        "ABQRS": 0.45 * ("MI" in superclasses) + 0.3 * (not superclasses),
        "QWAVE": 0.10 * ("MI" in superclasses),
        "VCLVH": 0.30 * ("LVH" in diagnosed),
        "LPR": 0.25 * ("1AVB" in diagnosed),
        "STD_": 0.25 * bool(diagnosed & {"NST_", "ISC_", "DIG"}),
        "LOWT": 0.10 * ("NDT" in diagnosed),
        "INVT": 0.07 * bool(diagnosed & {"NDT", "ISC_"}),
        "NT_": 0.05 * ("STTC" in superclasses),
    }
    draws = rng.random(len(shares))
    return tuple(code for code, chance in zip(shares, draws, strict=True) if chance < shares[code])


def signals(record: Record, seed: int, sampling_rate: int = 100) -> Array:
    """The twelve leads of a record, `[T, 12]` in mV, at 100 or 500 Hz."""
    rng = stream(seed, RECORD, record.ecg_id, 1)
    beats = heartbeats(record.rhythm, rng)
    heart = dipole(record.beat, beats, record.rhythm, rng)
    disturbance = noise_model.electrode_noise(record.levels, record.rhythm.respiration_rate, rng)
    sources = np.concatenate((heart, disturbance))
    if sampling_rate != MODEL_RATE:
        sources = _decimated(sources)
    mixing = np.concatenate((record.patient.torso, noise_model.LEADS_FROM_ELECTRODES), axis=1)
    leads = (mixing @ sources).T
    if record.levels.dead_lead is not None:
        leads[:, record.levels.dead_lead] = 0
    return leads


def _decimated(sources: Array) -> Array:
    """`[S, samples]` from 500 to 100 Hz, without what a rate of 100 Hz would alias."""
    half = len(DECIMATION_FILTER) // 2
    padded = np.pad(sources, ((0, 0), (half, half)), mode="edge")
    filtered = upfirdn(DECIMATION_FILTER, padded, down=DECIMATION, axis=1)
    skipped = 2 * half // DECIMATION
    return filtered[:, skipped : skipped + sources.shape[1] // DECIMATION]


# --------------------------------------------------------------------------------------- the files


def _digital(leads: Array) -> Samples:
    """Leads `[T, 12]` in mV as 16-bit samples of 1 µV."""
    return np.clip(np.rint(leads * SAMPLES_PER_MILLIVOLT), -32767, 32767).astype("<i2")


def _write_wfdb(folder: Path, name: str, samples: Samples, sampling_rate: int) -> None:
    """Write samples `[T, 12]` of 1 µV as a WFDB record of format 16, as PTB-XL's are.

    The format: https://physionet.org/physiotools/wag/header-5.htm and signal-5.htm. The checksum of
    a lead is the sum of its samples, modulo 65,536.
    """
    checksums = samples.sum(axis=0, dtype=np.int64) % 65536
    header = [f"{name} {len(LEADS)} {sampling_rate} {len(samples)}"]
    header += [
        f"{name}.dat 16 {SAMPLES_PER_MILLIVOLT:.1f}(0)/mV 16 0 {first} {checksum} 0 {lead}"
        for first, checksum, lead in zip(samples[0], checksums, LEADS, strict=True)
    ]
    (folder / f"{name}.dat").write_bytes(samples.tobytes())
    (folder / f"{name}.hea").write_text("\n".join(header) + "\n")


def database_table(everyone: list[Record], seed: int) -> pd.DataFrame:
    """The table `ptbxl_database.csv`, one row a record."""
    return pd.DataFrame(
        [_row(record, stream(seed, RECORD, record.ecg_id, 2)) for record in everyone]
    )


def _row(record: Record, rng: Generator) -> dict[str, object]:
    patient, folder = record.patient, f"{record.ecg_id // 1000 * 1000:05d}"
    date = FIRST_RECORDING + record.ecg_id * BETWEEN_RECORDINGS
    # As in PTB-XL a human has validated every record of the folds for validation and test.
    validated = patient.fold > 8 or rng.random() < 0.7
    quality = _signal_quality(record.levels)
    return {
        "ecg_id": record.ecg_id,
        "patient_id": float(patient.number + 1),
        "age": patient.age,
        "sex": int(not patient.male),
        "height": patient.height if rng.random() < 0.32 else None,
        "weight": patient.weight if rng.random() < 0.43 else None,
        "nurse": float(rng.integers(0, 12)),
        "site": float(rng.integers(0, 4)),
        "device": "Beatline simulator",
        "recording_date": f"{date + timedelta(seconds=int(rng.integers(3600))):%Y-%m-%d %H:%M:%S}",
        "report": "simulated record",
        "scp_codes": str(scp_codes(record, rng)),
        "heart_axis": _heart_axis(frontal_axis(record.beat)) if rng.random() < 0.6 else None,
        "infarction_stadium1": _infarction_stadium(record, rng),
        "infarction_stadium2": None,
        "validated_by": float(rng.integers(0, 11)) if validated else None,
        "second_opinion": bool(rng.random() < 0.03),
        "initial_autogenerated_report": not validated,
        "validated_by_human": validated,
        **quality,
        "extra_beats": "VES"
        if "PVC" in record.forms
        else "SVES"
        if "PAC" in record.forms
        else None,
        "pacemaker": "ja, pacemaker" if record.rhythm_code == "PACE" else None,
        "strat_fold": patient.fold,
        "filename_lr": f"records100/{folder}/{record.ecg_id:05d}_lr",
        "filename_hr": f"records500/{folder}/{record.ecg_id:05d}_hr",
    }


def scp_codes(record: Record, rng: Generator) -> dict[str, float]:
    """The statements of a record with their likelihoods in per cent, 0 for forms and rhythms.

    A diagnosis is the surer the more severe it is; as in PTB-XL the likelihoods are words of the
    report in numbers (15, 35, 50, 80, 100).
    """
    codes: dict[str, float] = {}
    if "NORM" in record.superclasses:
        codes["NORM"] = 100.0 if rng.random() < 0.8 else 80.0
    for code, severity in record.severities.items():
        doubt = severity + rng.normal(0, 0.15)
        codes[code] = next(
            (value for value, limit in ((15.0, 0.12), (35.0, 0.22), (50.0, 0.38)) if doubt < limit),
            80.0 if rng.random() < 0.1 else 100.0,
        )
    codes = dict(sorted(codes.items(), key=lambda item: -item[1]))
    return codes | dict.fromkeys((*record.forms, record.rhythm_code), 0.0)


def _heart_axis(degrees: float) -> str:
    names = (("ALAD", -30), ("LAD", 0), ("MID", 90), ("RAD", 120))
    return next((name for name, limit in names if -90 < degrees < limit), "AXR")


def _infarction_stadium(record: Record, rng: Generator) -> str | None:
    if "MI" not in record.superclasses:
        return None
    return str(rng.choice(["unknown", "Stadium III", "Stadium II-III", "Stadium II", "Stadium I"],
                          p=[0.6, 0.3, 0.05, 0.03, 0.02]))  # fmt: skip


def _signal_quality(levels: noise_model.NoiseLevels) -> dict[str, str | None]:
    """PTB-XL's columns about noise: the worst lead, or "alles" (all), where it is marked."""
    mixing = np.abs(noise_model.LEADS_FROM_ELECTRODES)

    def worst(size: Array, limit: float) -> str | None:
        by_lead = mixing @ size
        if by_lead.max() < limit:
            return None
        return " , alles" if by_lead.min() > limit / 2 else f" , {LEADS[int(by_lead.argmax())]}"

    dead = levels.dead_lead
    return {
        "baseline_drift": worst(levels.drift, 0.25),
        "static_noise": worst(levels.muscle + levels.mains, 0.07),
        "burst_noise": "alles" if levels.bursts and levels.muscle.any() else None,
        "electrodes_problems": None if dead is None else LEADS[dead],
    }
