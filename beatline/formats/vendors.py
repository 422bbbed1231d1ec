"""Files of electrocardiographs and their archives, read by ecgdatakit.

Imported by the processes of :mod:`beatline.formats.isolated` alone. Samples, names of leads, sampling
rate and units leave this module; who was recorded, when and by whom does not. EDAN's files and XLE, which
ecgdatakit reads by what was guessed of them, are not read.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
from ecgdatakit.exceptions import ChecksumWarning
from ecgdatakit.models import ECGRecord, Lead
from ecgdatakit.parsing.parser import Parser
from ecgdatakit.parsing.parsers.alivecor_kardia import AliveCorKardiaParser
from ecgdatakit.parsing.parsers.dicom_waveform import DICOMWaveformParser
from ecgdatakit.parsing.parsers.ge_muse_xml import GEMuseXMLParser
from ecgdatakit.parsing.parsers.hl7_aecg import HL7aECGParser
from ecgdatakit.parsing.parsers.ishne_holter import ISHNEHolterParser
from ecgdatakit.parsing.parsers.mfer import MFERParser
from ecgdatakit.parsing.parsers.mortara_el250 import MortaraEL250Parser
from ecgdatakit.parsing.parsers.scp_ecg import SCPECGParser
from ecgdatakit.parsing.parsers.sierra_xml import SierraXMLParser

from beatline.common.errors import shown
from beatline.formats.channels import Channel, recording_of
from beatline.formats.recording import (
    BadRecording,
    Notice,
    Recording,
    UnfitRecording,
    caution,
    note,
)

_PARSERS: dict[str, type[Parser]] = {
    "muse": GEMuseXMLParser,
    "sierra": SierraXMLParser,
    "aecg": HL7aECGParser,
    "mortara": MortaraEL250Parser,
    "scp": SCPECGParser,
    "dicom": DICOMWaveformParser,
    "ishne": ISHNEHolterParser,
    "mfer": MFERParser,
    "kardia": AliveCorKardiaParser,
}
# Stored in ISHNE files while an electrode is off; ecgdatakit takes it for a voltage.
_FAULT = -32768
# Of what ecgdatakit warns: that samples are not there, what nobody here looks at, and what is of the
# signal. All else may be of the patient, and is not passed on.
_CUT_SHORT = re.compile(r"truncat|shorter than the frame|no waveform data|incomplete|odd number")
_OF_BEATS = re.compile(r"median|repbeat|representative beat|reference beat|typical_cycle", re.I)
_OF_SIGNAL = re.compile(
    r"rate|sampl|lead|channel|sequence|series|group|frame|offset|waveform|scale|resolution|[Ss]ection"
)
_POOR = {  # what a lead's annotations may say of its samples
    "LeadOff": "was off",
    "LeadTimeOffset": "is shifted in time",
    "sample_skew_ms": "is shifted in time",
}
_LEADS_TO_TELL = 8  # that are equal only where no heart is recorded
_EXACT = 1e-6  # mV, of float32
_WHOLE = 1e-3  # share of a rate by which that of a file may be off a whole number, by its rounding


def read(path: Path, most: float, where: str, *, form: str) -> Recording:
    """The rhythm in a file, `[T, C]` float32, voltages in mV. `where`: the file's name for messages;
    `form`: see _PARSERS.

    Raises BadRecording for a file that is cut short or whose checksums are wrong, UnfitRecording if it
    has no rhythm, leads of two sampling rates, or one that does not say its unit.
    """
    del most  # how much a file holds is known when it is read; memory has its own limit
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        record = _PARSERS[form]().parse(path)
    notices = _notices(caught, path, where)
    if not record.leads:
        raise UnfitRecording(f"{where} holds no rhythm: export the ECG itself")
    if form == "ishne":
        _check_ishne(record, where)
    rates = _rates(form, record)
    channels = [_channel(lead, rate) for lead, rate in zip(record.leads, rates, strict=True)]
    notices += [
        _poor(lead, key) for lead in record.leads for key in _POOR if key in lead.annotations
    ]
    return _without_calibration(recording_of(channels, where, notices))


def _without_calibration(recording: Recording) -> Recording:
    """The recording without a pulse of 1 mV at its end, the same in all leads, by which Philips'
    electrocardiographs show their scale; ecgdatakit and sierraecg take it for a part of the ECG."""
    samples = recording.samples
    high = np.abs(samples - 1).max(axis=1) < _EXACT
    others = np.flatnonzero(~(high | (samples == 0).all(axis=1)))
    length = int(others[-1]) + 1 if len(others) else 0
    if samples.shape[1] < _LEADS_TO_TELL or not length or not high[length:].any():
        return recording
    message = f"the calibration of 1 mV in the last {len(samples) - length} samples is left out"
    notices = [*recording.warnings, note("calibration", message)]
    return replace(recording, samples=samples[:length], warnings=notices)


def _channel(lead: Lead, rate: float) -> Channel:
    return Channel(
        lead.label,
        rate,
        lead.resolution_unit or lead.units,
        lead.samples * lead.resolution + lead.offset,
        int(lead.annotations.get("start_sample", 1)) - 1,
    )


def _rates(form: str, record: ECGRecord) -> list[float]:
    """The sampling rate of each lead in Hz, which ecgdatakit rounds to a whole number."""
    rounded, raw = [float(lead.sampling_rate) for lead in record.leads], record.raw_metadata
    exact = rounded
    if form == "mfer":
        exact = raw["sampling_rates"]
    elif form == "aecg":
        exact = [raw["rhythm_time"]["sampling_rate_exact"]] * len(rounded)
    elif form == "scp":
        exact = [1e6 / raw["rhythm_sample_interval_us"]] * len(rounded)
    elif form == "dicom":
        groups = [group["sampling_frequency"] for group in raw["multiplex_groups"]]
        exact = [next(rate for rate in groups if round(rate) == whole) for whole in rounded]
    pairs = zip(exact, rounded, strict=True)
    return [whole if abs(rate - whole) <= _WHOLE * whole else rate for rate, whole in pairs]


def _check_ishne(record: ECGRecord, where: str) -> None:
    """Mark faults. Raises BadRecording if the file holds fewer samples than it announces, per lead or, as
    some do, of all leads together: ecgdatakit does not compare them."""
    for lead in record.leads:
        lead.samples[lead.samples == _FAULT] = np.nan
    announced, present = record.raw_metadata["ecg_size"], len(record.leads[0].samples)
    if announced > present and announced != present * len(record.leads):
        raise BadRecording(
            f"{where} announces {announced:,} samples of each lead and holds {present:,}: use the whole "
            f"file"
        )


def _poor(lead: Lead, key: str) -> Notice:
    value = shown(lead.annotations[key], 20)
    return caution("lead", f"by its file, lead {lead.label} {_POOR[key]} ({key}: {value})")


def _notices(caught: list[warnings.WarningMessage], path: Path, where: str) -> list[Notice]:
    notices = []
    for warning in caught:
        message = " ".join(str(warning.message).split())
        message = shown(message.replace(str(path), where).replace(path.name, where), 200)
        if issubclass(warning.category, ChecksumWarning):
            raise BadRecording(f"{where} is damaged ({message}): use an undamaged file")
        if "pydicom" in warning.filename or _OF_BEATS.search(message):
            continue
        if _CUT_SHORT.search(message):
            raise BadRecording(f"{where} is cut short ({message}): use the whole file")
        if _OF_SIGNAL.search(message):
            notices.append(caution("format", message))
    return notices
