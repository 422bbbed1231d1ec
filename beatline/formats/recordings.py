"""Recordings in any of the formats that are read, by their first bytes and their names."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import PurePosixPath

from beatline.common.errors import shown, wording
from beatline.formats import (
    audio,
    containers,
    csv_signals,
    isolated,
    leads,
    npy,
    times,
    wfdb_records,
)
from beatline.formats.recording import (
    BadRecording,
    Recording,
    UnfitRecording,
    check_size,
    decoding,
)
from beatline.formats.wfdb import Files

Reader = Callable[[bytes, str, float], Recording]

HEAD = 4096  # bytes that tell what a file is
TIMED = ("csv", "npy")  # kinds whose columns may be times

_SUFFIXES = {  # ends of names, by formats
    "wfdb": (wfdb_records.HEADER,),
    "csv": (".csv", ".tsv", ".txt"),
    "npy": (".npy",),
    "mat": (".mat",),
    "edf": (".edf", ".bdf"),
    "scp": (".scp",),
    "dicom": (".dcm", ".dicom"),
    "mfer": (".mwf", ".mfer", ".mfr"),
    "audio": audio.EXTENSIONS,
}
_ONLY_BY_CONTENT = (".xml", ".ecg")  # in which several formats are stored
EXTENSIONS = (*(end for ends in _SUFFIXES.values() for end in ends), *_ONLY_BY_CONTENT)
_KINDS = {end: kind for kind, ends in _SUFFIXES.items() for end in ends}
_MAGIC = {
    "npy": npy.MAGIC,
    "audio": containers.MAGIC,
    "ishne": b"ISHNE1.0",
    "mat": (b"MATLAB 5.0 MAT-file", b"MATLAB 7.3 MAT-file"),
    "edf": b"\xffBIOSEMI",
}
_TEXTS = {  # that stand near the beginning of an XML or JSON file
    "sierra": re.compile(r"<restingecgdata[\s>]"),
    "muse": re.compile(r"<RestingECG[\s>]"),
    "aecg": re.compile(r"<([\w.-]+:)?AnnotatedECG[\s>]"),
    "mortara": re.compile(r"<ECG[\s>].*(ACQUISITION_TIME|<CHANNEL|<SUBJECT)", re.S),
    "kardia": re.compile(r"\s*\{.*\"recordedAt\"", re.S),
}
_VENDORS = {
    "muse": "GE MUSE XML file",
    "sierra": "Philips Sierra XML file",
    "aecg": "HL7 aECG file",
    "mortara": "Mortara ELI XML file",
    "scp": "SCP-ECG file",
    "dicom": "DICOM waveform",
    "ishne": "ISHNE file",
    "mfer": "MFER file",
    "kardia": "Kardia JSON file",
}


def kind(name: str, head: bytes) -> str | None:
    """What a file is, by its first bytes (HEAD of them suffice), else by its name; None if neither
    tells."""
    by_name = _KINDS.get(PurePosixPath(name).suffix.lower())
    return by_content(head) or by_name or ("audio" if containers.is_mp3(head) else None)


def by_content(head: bytes) -> str | None:
    """What a file is by its first bytes, None if they do not tell."""
    if head[128:132] == b"DICM":
        return "dicom"
    # SCP-ECG: section 0 begins at byte 7, as its first pointer says, which is to itself.
    if head[8:10] == head[22:24] == b"\0\0" and head[28:32] == b"\7\0\0\0":
        return "scp"
    if head[:1] == b"@" and head[2:6] == b"MFR ":
        return "mfer"
    # EDF: the version is 0, and numbers say how long the header is and how many signals there are.
    numbers = head[184:192].strip().isdigit() and head[252:256].strip().isdigit()
    if head.startswith(b"0       ") and numbers:
        return "edf"
    by_magic = (kind for kind, magic in _MAGIC.items() if head.startswith(magic))
    return next(by_magic, None) or _by_text(head)


def _by_text(head: bytes) -> str | None:
    encoding = "utf-8-sig"
    if head[:2] in (b"\xff\xfe", b"<\0"):
        encoding = "utf-16-le"
    elif head[:2] in (b"\xfe\xff", b"\0<"):
        encoding = "utf-16-be"
    text = head.decode(encoding, "ignore").lstrip("\ufeff \t\r\n")
    if text[:1] not in ("<", "{"):
        return None
    return next((kind for kind, pattern in _TEXTS.items() if pattern.search(text)), None)


def read(files: Files, name: str, most: float = math.inf) -> Recording:
    """The recording in the file `name`, with those beside it that it needs (of a WFDB record; a MAT file
    with a header is one).

    ECG leads are called as in :data:`beatline.formats.leads.LEADS`, voltages of electrocardiographs'
    files are in mV, and columns of times are taken out. Raises BadRecording for a file that is damaged or
    in no known format, LargeRecording for more than `most` values, UnfitRecording for no recording.
    """
    where = shown(PurePosixPath(name).name)
    if name not in files:
        raise BadRecording(f"{shown(name, 200)} is not there: add the file, or take its row out")
    content = files.read(name)
    form = kind(name, bytes(content[:HEAD]))
    if form is None:
        raise BadRecording(f"{where} is in no known format: use one of {', '.join(EXTENSIONS)}")
    header = name.rpartition(".")[0] + wfdb_records.HEADER
    if form == "mat" and header in files:
        form, name = "wfdb", header
    if form == "wfdb":
        recording = wfdb_records.read(files, name, where, most)
    else:
        recording = READERS[form](bytes(content), where, most)
    if form in TIMED:
        recording = times.without_times(recording, where, most)
    channels = recording.channels and leads.lead_names(recording.channels)
    return replace(recording, channels=channels)


def _sound(content: bytes, where: str, most: float) -> Recording:
    """The samples of an audio file, float32 `[samples, channels]` in full scale."""
    try:
        with decoding(where, "audio file"):
            sound = audio.read(content, where, most)
    except audio.TooLong as error:
        check_size(error.values, most, where)
        raise
    except audio.Unusable as error:
        raise UnfitRecording(_without_cure(error)) from None
    except BadRecording:
        raise
    except audio.UserError as error:
        raise BadRecording(_without_cure(error)) from None
    units = [audio.FULL_SCALE] * sound.samples.shape[1]
    return Recording(sound.samples, sampling_rate=float(sound.sampling_rate), units=units)


def _without_cure(error: Exception) -> str:
    """What the reader of sound says of a file, without its advice for a data set."""
    reason = wording(error).rpartition(": ")[0]
    return f"{reason}: use an undamaged WAV, FLAC, Ogg or MP3 file"


def _by_vendor(form: str, content: bytes, where: str, most: float) -> Recording:
    files = {f"recording.{form}": content}
    reader, format_name = "beatline.formats.vendors:read", _VENDORS[form]
    return isolated.read(reader, files, where, most, format_name, form=form)


def _edf(content: bytes, where: str, most: float) -> Recording:
    files = {"recording.edf": content}
    return isolated.read("beatline.formats.edf:read", files, where, most, "EDF file")


def _mat(content: bytes, where: str, most: float) -> Recording:
    files = {"recording.mat": content}
    return isolated.read("beatline.formats.mat:read", files, where, most, "MAT file")


READERS: dict[str, Reader] = {
    "csv": csv_signals.read,
    "npy": npy.read,
    "audio": _sound,
    "edf": _edf,
    "mat": _mat,
    **{form: partial(_by_vendor, form) for form in _VENDORS},
}
