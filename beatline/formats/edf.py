"""EDF, EDF+, BDF and BDF+ (https://www.edfplus.info), read by edfio.

Imported by the processes of :mod:`beatline.formats.isolated` alone.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import edfio

from beatline.formats.channels import Channel, recording_of
from beatline.formats.recording import BadRecording, Recording, UnfitRecording, caution, check_size

_BDF = b"\xff"  # the first byte
_RECORDS, _RESERVED = slice(236, 244), slice(192, 236)  # bytes of the header


def read(path: Path, most: float, where: str) -> Recording:
    """The signals of a file, `[T, C]` float32, voltages in mV; annotations are left out.

    Raises BadRecording if it is cut short, UnfitRecording if it has no signal, is recorded with
    interruptions (EDF+D), or has signals of two sampling rates.
    """
    with path.open("rb") as file:
        header = file.read(256)
    if header[_RESERVED].strip().endswith(b"+D"):
        raise UnfitRecording(
            f"{where} is recorded with interruptions (+D): export a part without any"
        )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        reader = edfio.read_bdf if header[:1] == _BDF else edfio.read_edf
        file = reader(path, header_encoding="latin-1")
        signals = file.signals
    notices = []
    if header[_RECORDS].strip() == b"-1":
        message = "the recorder did not finish the file: what is there is used"
        notices.append(caution("format", message))
    elif caught:
        raise BadRecording(f"{where} is damaged ({caught[0].message}): use the whole file")
    if not signals:
        raise UnfitRecording(f"{where} holds no signals: export the recording itself")
    check_size(sum(len(signal.digital) for signal in signals), most, where)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of a range of nothing
        channels = [
            # UTF-8 was not foreseen for the header, and µ is found in it.
            Channel(
                each.label,
                each.sampling_frequency,
                each.physical_dimension.replace("\u00c2", ""),
                each.data,
            )
            for each in signals
        ]
    return recording_of(channels, where, notices)
