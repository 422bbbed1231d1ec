"""Features of ECGs are right where the truth is known, fall where cardiologists' statements say on real
records, are the same at both sampling rates, and missing where there is nothing to measure."""

from __future__ import annotations

import ast
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import wfdb
from hypothesis import given, settings
from hypothesis import strategies as st
from wfdb.processing import xqrs_detect

from beatline import datasets
from beatline.common import params
from beatline.common.errors import UserError
from beatline.datasets import ptbxl
from beatline.features import Recorded, ecg
from beatline.features.ecg import FEATURES, ExtractFeatures, extract, measurements
from beatline.features.ecg.beats import QRS_BAND, RATE, Beats, filtered, qrs_activity, r_peaks
from beatline.features.ecg.delineation import Waves
from beatline.formats.leads import LEADS
from beatline.simulators.ecg import simulator
from beatline.simulators.ecg.cardiac_model import heartbeats
from beatline.sources.pack import Pack, PackWriter
from benchmarks.ecg_features import agreement, peaks_by_ours
from tests.paths import REAL_DATA
from tests.pools import leave_to_others

REAL = REAL_DATA / "ptbxl"
real = pytest.mark.skipif(not REAL.is_dir(), reason=f"{REAL} is not here: real ECGs")

BLOCK: dict[str, Any] = {
    "lowest_frequency": 0.67,
    "highest_frequency": 40.0,
    "peak_threshold": 0.25,
    "beat_correlation": 0.8,
    "qrs_threshold": 0.05,
}
RECORDS, SEED = 120, 11
Columns = dict[str, np.ndarray]
OF_SHAPE = [name for name in FEATURES if name.endswith(LEADS) and "amplitude" in name]


def parameters(**changes: Any) -> ExtractFeatures:
    return params.validated({**BLOCK, **changes}, "extract_features.ptbxl", ExtractFeatures)


def table(recordings: np.ndarray, rate: float = 100, **changes: Any) -> Columns:
    """The features by name, `[B]` each."""
    measured = extract(recordings, rate, LEADS, parameters(**changes))
    return dict(zip(FEATURES, measured.T, strict=True))


def change(one: Columns, other: Columns, name: str) -> np.ndarray:
    """By how much a feature differs, record by record; `one` may have fewer of them."""
    return np.abs(one[name] - other[name][: len(one[name])])


def usual_change(one: Columns, other: Columns, *names: str) -> float:
    """The largest, over features, of the median differences over records."""
    return max(float(np.nanmedian(change(one, other, name))) for name in names)


def missing(columns: Columns, names: Sequence[str]) -> np.ndarray:
    return np.stack([np.isnan(columns[name]) for name in names])


@pytest.fixture(scope="module")
def cohort() -> list[simulator.Record]:
    return simulator.cohort(RECORDS, SEED)


@pytest.fixture(scope="module")
def recordings(cohort: list[simulator.Record]) -> np.ndarray:
    return np.asarray([simulator.signals(record, SEED) for record in cohort], np.float32)


@pytest.fixture(scope="module")
def simulated(recordings: np.ndarray) -> Columns:
    return table(recordings)


@pytest.fixture(scope="module")
def beat_times(cohort: list[simulator.Record]) -> list[np.ndarray]:
    """When the ventricles of each simulated heart beat, in seconds."""
    streams = [simulator.stream(SEED, simulator.RECORD, record.ecg_id, 1) for record in cohort]
    return [
        np.array([beat.time for beat in heartbeats(record.rhythm, stream) if beat.ventricular])
        for record, stream in zip(cohort, streams, strict=True)
    ]


@pytest.fixture(scope="module")
def database() -> Columns:
    rows = pd.read_csv(REAL / "ptbxl_database.csv", keep_default_na=False)
    return {str(name): np.asarray(rows[name]) for name in rows}


@pytest.fixture(scope="module")
def statements(database: Columns) -> list[set[str]]:
    return [set(ast.literal_eval(codes)) for codes in database["scp_codes"]]


def read_real(names: list[str]) -> np.ndarray:
    return np.asarray([wfdb.rdsamp(str(REAL / name))[0] for name in names], np.float32)


@pytest.fixture(scope="module")
def real_recordings(database: Columns) -> np.ndarray:
    return read_real(list(database["filename_lr"]))


@pytest.fixture(scope="module")
def measured(real_recordings: np.ndarray) -> Columns:
    return table(real_recordings)


# ----------------------------------------------------------------------------- against the known truth


def test_r_peaks_are_where_the_simulated_heart_beats(
    recordings: np.ndarray, beat_times: list[np.ndarray]
) -> None:
    """Everything rests on the beats: hardly one missed, none invented."""
    found = agreement(peaks_by_ours(recordings, 100, BLOCK["peak_threshold"]), beat_times)
    assert found.sensitivity > 0.99
    assert found.positive_predictivity > 0.998


def test_rhythm_is_that_of_the_simulated_heart(
    simulated: Columns, beat_times: list[np.ndarray], cohort: list[simulator.Record]
) -> None:
    """Heart rate and variability, to fractions of the 10 ms between two samples."""
    steady = [
        record.rhythm.ventricular_ectopy == record.rhythm.ectopic_every == 0 for record in cohort
    ]
    inside = [times[(times > 0) & (times < 10)] for times in beat_times]
    rate = np.array([60 / np.diff(times).mean() for times in inside])
    deviation = np.array([np.diff(times).std(ddof=1) * 1000 for times in inside])
    rate_error = np.abs(simulated["heart_rate"] - rate)[steady]
    deviation_error = np.abs(simulated["sdnn"] - deviation)[steady]
    assert np.quantile(rate_error, 0.9) < 1.0
    assert np.median(rate_error) < 0.05
    assert np.median(deviation_error) < 1.0


def test_noise_hardly_changes_intervals_and_amplitudes(
    cohort: list[simulator.Record], simulated: Columns
) -> None:
    """The measurements are of the heart, not of the electrodes: the same hearts without noise."""
    quiet = simulator.cohort(40, SEED, noise=0.0)
    clean = table(np.asarray([simulator.signals(record, SEED) for record in quiet], np.float32))
    assert usual_change(clean, simulated, "qrs_duration") < 4
    assert usual_change(clean, simulated, "qt_interval", "pr_interval") < 6
    assert usual_change(clean, simulated, *OF_SHAPE) < 0.05
    assert quiet[0].patient.number == cohort[0].patient.number


def test_intervals_of_a_drawn_beat_are_as_drawn() -> None:
    """P, QRS and T of known boundaries: a triangle of 96 ms between two half sine waves."""
    rate, rr = 500, 0.9
    moments = np.arange(10 * rate) / rate % rr - 0.4
    qrs = np.clip(1 - np.abs(moments) / 0.048, 0, None)
    p = 0.15 * np.sin(np.pi * (moments + 0.2) / 0.1) * ((moments > -0.2) & (moments < -0.1))
    t = 0.30 * np.sin(np.pi * (moments - 0.16) / 0.2) * ((moments > 0.16) & (moments < 0.36))
    weights = np.array([0.8, 1, 0.2, -0.9, 0.3, 0.6, -0.5, 0.4, 0.7, 1.2, 1.1, 0.9])
    drawn = ((p + qrs + t)[:, None] * weights)[None]
    # A band up to 100 Hz, because one of 40 Hz would widen what begins so suddenly.
    row = {name: values[0] for name, values in table(drawn, rate, highest_frequency=100.0).items()}
    assert row["heart_rate"] == pytest.approx(60 / rr, abs=0.01)
    assert row["sdnn"] < 0.5
    assert row["qrs_duration"] == pytest.approx(96, abs=12)
    assert row["pr_interval"] == pytest.approx(200 - 48, abs=12)
    assert row["p_duration"] == pytest.approx(100, abs=15)
    assert row["qt_interval"] == pytest.approx(360 + 48, abs=15)
    assert row["qtc_fridericia"] == pytest.approx(row["qt_interval"] / rr ** (1 / 3))
    assert row["r_amplitude_V4"] == pytest.approx(1.2, rel=0.06)
    assert row["q_amplitude_AVR"] == pytest.approx(-0.9, rel=0.06)
    assert row["t_amplitude_AVR"] == pytest.approx(-0.3 * 0.9, rel=0.15)


def test_rhythm_by_hand() -> None:
    """SDNN, RMSSD and pNN50 of normal intervals only; rate and variation of all that are known."""
    dominant = np.array([True, True, True, True, False, True, True])
    rr = np.array([0.80, 0.86, 0.82, 0.50, 1.10, np.nan])
    empty = np.empty((0, 0))
    rate, variation, sdnn, rmssd, pnn50, ectopic = measurements.rhythm(
        Beats(rr, dominant, empty, empty)
    )
    assert rate == pytest.approx(60 / 0.816)
    assert variation == pytest.approx(np.std([0.8, 0.86, 0.82, 0.5, 1.1], ddof=1) / 0.816)
    assert sdnn == pytest.approx(np.std([800, 860, 820], ddof=1))
    assert rmssd == pytest.approx(np.sqrt((60**2 + 40**2) / 2))
    assert pnn50 == 50
    assert ectopic == pytest.approx(1 / 7)


@pytest.mark.parametrize(
    ("complex_", "q", "r", "s"),
    [
        ([0, -0.1, 1.0, -0.3, 0], -0.1, 1.0, -0.3),
        ([0, 0.2, -1.2, 0, 0], 0.0, 0.2, -1.2),
        ([0, -0.8, -1.2, 0.01, 0], -1.2, 0.01, 0.0),
        ([0, 0.4, 0.9, 0.2, 0], 0.0, 0.9, 0.0),
    ],
    ids=["qRs", "rS", "QS", "R"],
)
def test_q_r_and_s(complex_: list[float], q: float, r: float, s: float) -> None:
    """Deflections before and after R are told apart; a complex without R is a Q."""
    beat = np.full((12, 270), 0.25)
    beat[:, 100:105] += complex_
    waves = Waves(qrs_onset=100.0, qrs_offset=104.0, t_end=180.0, t_latest=220.0)
    found = measurements.amplitudes(beat, waves)
    assert found[:3, 6] == pytest.approx([q, r, s])
    assert found[3:, 6] == pytest.approx([0, 0])


@given(st.floats(-179, 179), st.floats(-179, 179))
def test_axes_are_the_directions_of_the_vectors(qrs: float, t: float) -> None:
    """Einthoven's triangle: any direction in the frontal plane is found again."""

    def leads(degrees: float) -> np.ndarray:
        x, y = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        first, second = x, x / 2 + y * np.sqrt(3) / 2
        values = np.zeros(12)
        values[:6] = (
            first,
            second,
            second - first,
            -(first + second) / 2,
            first - second / 2,
            second - first / 2,
        )
        return values

    beat = np.zeros((12, 270))
    beat[:, 101:104] = leads(qrs)[:, None]
    beat[:, 140:160] = 0.3 * leads(t)[:, None]
    waves = Waves(qrs_onset=100.0, qrs_offset=104.0, t_end=180.0, t_latest=220.0)
    found = measurements.vectors(beat, waves, measurements.amplitudes(beat, waves))
    apart = abs(qrs - t)
    assert found[:3] == pytest.approx([qrs, t, min(apart, 360 - apart)], abs=1e-6)


# ------------------------------------------------------------------------------------ on real records


@real
def test_heart_rates_agree_with_an_independent_detector(
    real_recordings: np.ndarray, measured: Columns
) -> None:
    """wfdb's detector, on the deflection of all leads, counts the same beats in nearly every record."""
    leads = filtered(real_recordings.transpose(0, 2, 1).repeat(3, axis=2)[:100], QRS_BAND)
    size = np.sqrt((leads**2).mean(axis=1))[:, ::3]
    theirs = []
    for signal in size:
        intervals = np.diff(np.asarray(xqrs_detect(signal, 100, verbose=False))) / 100
        theirs.append(60 / np.median(intervals))
    error = np.abs(measured["heart_rate"][:100] / theirs - 1)
    assert (error < 0.05).mean() > 0.85
    assert np.median(error) < 0.01


@real
def test_rates_are_what_the_statements_say(measured: Columns, statements: list[set[str]]) -> None:
    """Sinus tachycardia is above 100, bradycardia below 60 a minute; fibrillation is irregular."""
    rate, variation = measured["heart_rate"], measured["rr_variation"]
    assert rate[having(statements, "STACH")].min() > 100
    assert rate[having(statements, "SBRAD")].max() < 60
    assert ((rate > 25) & (rate < 220)).all()
    irregular = np.median(variation[having(statements, "AFIB")])
    assert irregular > 2 * np.median(variation[having(statements, "SR")])
    ectopic = measured["ectopic_share"]
    assert (ectopic[having(statements, "PVC")] > 0).mean() > 0.8
    assert (ectopic[having(statements, "NORM") & ~having(statements, "PVC")] == 0).mean() > 0.85


@real
def test_intervals_are_what_the_statements_say(
    measured: Columns, statements: list[set[str]]
) -> None:
    """Normal intervals in normal ECGs; QRS of 120 ms and more in complete bundle branch blocks; long
    PR and QT where the statements say so; no P wave in fibrillation."""
    normal = having(statements, "NORM")
    qrs, qtc, pr = (measured[name] for name in ("qrs_duration", "qtc_fridericia", "pr_interval"))
    assert 80 < np.median(qrs[normal]) < 100
    assert np.quantile(qrs[normal], 0.98) < 120
    assert 350 < np.nanmedian(qtc[normal]) < 430
    assert np.nanquantile(qtc[normal], 0.98) < 450
    assert ((pr[normal] > 110) & (pr[normal] < 220)).mean() > 0.9
    blocks = having(statements, "CLBBB") | having(statements, "CRBBB")
    assert qrs[blocks].min() > 120
    assert np.nanmedian(pr[having(statements, "1AVB")]) > 210
    assert np.nanmedian(qtc[having(statements, "LNGQT")]) > 450
    assert np.isnan(pr[having(statements, "AFIB")]).mean() > 0.8


@real
def test_axes_and_voltages_are_what_the_statements_say(
    measured: Columns, database: Columns, statements: list[set[str]]
) -> None:
    """The table's axis deviations have other axes than normal ones, hypertrophy has high voltages."""
    axis = {
        name: np.median(measured["qrs_axis"][database["heart_axis"] == name])
        for name in ("ALAD", "LAD", "MID", "RAD")
    }
    assert axis["ALAD"] < axis["LAD"] < 0 < axis["MID"] < 90 < axis["RAD"]
    voltage = measured["sokolow_lyon_voltage"]
    normal = np.nanmedian(voltage[having(statements, "NORM")])
    assert np.nanmedian(voltage[having(statements, "VCLVH")]) > 3.0 > normal


@real
def test_both_sampling_rates_give_the_same(database: Columns, measured: Columns) -> None:
    """The same 20 records at 500 and at 100 Hz: to a few ms, and a few hundredths of a mV."""
    fine = table(read_real(list(database["filename_hr"][:20])), 500)
    assert change(fine, measured, "heart_rate").max() < 0.5
    assert change(fine, measured, "qrs_duration").max() < 4
    assert np.nanmax(change(fine, measured, "qt_interval")) < 30
    assert usual_change(fine, measured, "qt_interval", "rmssd") < 2
    assert usual_change(fine, measured, "pr_interval") < 4
    assert usual_change(fine, measured, *OF_SHAPE) < 0.03
    assert (missing(fine, FEATURES) != missing(measured, FEATURES)[:, :20]).mean() < 0.002


def having(statements: list[set[str]], code: str) -> np.ndarray:
    return np.array([code in codes for codes in statements])


# ---------------------------------------------------------------------- what may not change the result


def test_a_record_is_measured_alone(recordings: np.ndarray, simulated: Columns) -> None:
    """Equal bytes whatever stands beside a record, in whatever batch."""
    alone = table(recordings[37:38])
    assert all(alone[name].tobytes() == simulated[name][37:38].tobytes() for name in FEATURES)


def test_leads_may_come_in_any_order_and_case(recordings: np.ndarray) -> None:
    """It is the names that count."""
    order = np.random.default_rng(0).permutation(12)
    names = [LEADS[position].lower() for position in order]
    shuffled = extract(recordings[:5][..., order], 100, names, parameters())
    assert shuffled.tobytes() == extract(recordings[:5], 100, LEADS, parameters()).tobytes()


@pytest.mark.parametrize(("gain", "offset"), [(2.5, 0.0), (0.6, 0.0), (1.0, 0.7), (1.7, -3.0)])
def test_gain_and_offset(
    recordings: np.ndarray, simulated: Columns, gain: float, offset: float
) -> None:
    """Amplitudes go with the gain, rhythm and QRS do not; the offset of the electrodes is nothing."""
    other = table(gain * recordings[:30].astype(np.float64) + offset)
    assert change(other, simulated, "heart_rate").max() < 0.01
    assert change(other, simulated, "qrs_duration").max() < 2
    for name in ("r_amplitude_V5", "s_amplitude_V2", "st_level_II"):
        expected = gain * simulated[name][:30]
        np.testing.assert_allclose(other[name], expected, rtol=1e-2, atol=2e-3)


# ----------------------------------------------------------------------------------- missing and wrong


def test_a_flat_lead_has_no_amplitudes_and_spoils_no_others(
    recordings: np.ndarray, simulated: Columns
) -> None:
    """An electrode that fell off: its lead and what is computed with it are missing, no more."""
    broken = recordings[:20].copy()
    broken[..., LEADS.index("V3")] = 0.4
    found = table(broken)
    lost = [name for name in FEATURES if name.endswith("_V3")] + ["cornell_voltage"]
    assert missing(found, lost).all()
    kept = [name for name in FEATURES if name not in lost]
    assert missing(found, kept).sum() <= missing(simulated, kept)[:, :20].sum() + 8
    assert usual_change(found, simulated, "heart_rate") < 0.05
    assert usual_change(found, simulated, "qrs_duration") < 2


def test_invalid_samples_are_bridged_and_not_measured(
    recordings: np.ndarray, simulated: Columns
) -> None:
    """A gap of 0.6 s in all leads hides a beat, and lowers no heart rate; garbage is never seen."""
    broken = recordings[:30].copy()
    broken[:, 300:360] = np.nan
    broken[:, 700:710, 3] = np.inf
    found = table(broken)
    assert usual_change(found, simulated, "heart_rate") < 0.6
    assert usual_change(found, simulated, "qrs_duration") < 2
    assert usual_change(found, simulated, *OF_SHAPE) < 0.02
    assert not missing(found, ["heart_rate"]).any()


@pytest.mark.parametrize("kind", ["zeros", "constant", "missing", "noise", "one beat"])
def test_what_is_no_ecg_has_no_heart_rate(kind: str) -> None:
    """Nothing is invented: no rate, no interval, no amplitude."""
    noise = np.random.default_rng(3).normal(0, 0.1, (8, 1000, 12))
    pulse = np.zeros((8, 1000, 12))
    pulse[:, 500:505] = 1.0
    recordings = {
        "zeros": np.zeros((8, 1000, 12)),
        "constant": np.full((8, 1000, 12), -1.5),
        "missing": np.full((8, 1000, 12), np.nan),
        "noise": noise,
        "one beat": pulse,
    }[kind]
    found = table(recordings)
    assert missing(found, ecg.RHYTHM_AND_SHAPE).all()
    if kind in ("zeros", "constant", "missing"):
        assert missing(found, FEATURES).all()


@settings(max_examples=25)
@given(st.lists(st.floats(0, 2), min_size=3, max_size=400), st.floats(0.05, 0.95))
def test_r_peaks_keep_their_distance(values: list[float], threshold: float) -> None:
    """Whatever the activity: peaks in order, inside, and no two within the refractory time."""
    activity = np.interp(np.arange(0, len(values), 0.2), np.arange(len(values)), values)
    peaks = r_peaks(activity, threshold)
    assert ((peaks >= 0) & (peaks < len(activity))).all()
    assert (np.diff(peaks) >= 0.2 * RATE - 1).all()


def test_activity_is_of_all_leads_and_not_of_one() -> None:
    """A lead that alone is disturbed hardly shows."""
    leads = np.zeros((8, 500))
    leads[:, 100], leads[0, 300] = 1.0, 1.0
    activity = qrs_activity(leads)
    assert activity[300] < 0.05 * activity[100]


def test_clear_errors(recordings: np.ndarray) -> None:
    """A user learns what is wrong with the recordings or the parameters."""
    with pytest.raises(UserError, match=r"twelve leads.*not so: V6"):
        extract(recordings[:1], 100, [*LEADS[:11], "V5R"], parameters())
    with pytest.raises(UserError, match=r"50 Hz hold nothing up to highest_frequency = 40 Hz"):
        extract(recordings[:1], 50, LEADS, parameters())
    with pytest.raises(UserError, match=r"last 1.5 s.*at least 2 s"):
        extract(recordings[:1, :150], 100, LEADS, parameters())
    with pytest.raises(UserError, match="highest_frequency must exceed"):
        parameters(lowest_frequency=40.0, highest_frequency=30.0)
    with pytest.raises(UserError, match=r"peak_threshold: .*less than 1"):
        parameters(peak_threshold=1.5)
    assert extract(recordings[:0], 100, LEADS, parameters()).shape == (0, len(FEATURES))


def test_names_are_plain_and_unique() -> None:
    """They become columns of a table and of a feature store."""
    assert len(set(FEATURES)) == len(FEATURES) == 87
    assert all(name.isidentifier() for name in FEATURES)


def test_the_tables_hold_a_row_per_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels, then the features in their order, the same in both tables, whose bytes are equal from run
    to run, by however many processes."""
    download = ptbxl.Download.model_validate(
        {
            "source": "beatline/simulators/ecg",
            "sampling_rate": 100,
            "sha256": None,
            "simulated": {"records": 20, "seed": 1},
        }
    )
    with PackWriter(tmp_path / "raw.zip") as writer:
        manifest = ptbxl.download(download, writer, tmp_path)
        writer.add(datasets.MANIFEST, json.dumps(manifest.as_dict()).encode())
    with Pack(tmp_path / "raw.zip") as pack:
        names = [f"00000/{number:05d}" for number in (3, 1, 2)]
        labels = pd.DataFrame({"record": names, "NORM": [1, 0, 0], "MI": [1, 0, 1]})
        description = {**manifest.as_dict(), "classes": ["NORM", "MI"]}
        recorded = Recorded(ptbxl, pack, labels, description)
        for run in ("one", "two"):
            (tmp_path / run).mkdir()
            said = ecg.write(tmp_path / run, recorded, parameters())
            leave_to_others(monkeypatch)
            monkeypatch.setattr(ecg, "RECORDS_AT_ONCE", 1)
    found = pd.read_parquet(tmp_path / "one" / "features.parquet")
    assert found["record"].to_list() == names
    assert found["diagnosis"].to_list() == ["several", "none", "MI"]
    assert tuple(found.columns[-len(FEATURES) :]) == FEATURES
    np.testing.assert_allclose(
        pd.read_csv(tmp_path / "one" / "features.csv")[list(FEATURES)], found[list(FEATURES)]
    )
    for file in ("features.csv", "features.parquet"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    assert said["representation"]["qrs_threshold"] == BLOCK["qrs_threshold"]
