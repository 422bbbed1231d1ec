"""Recordings in any of the formats that are read, by their names and first bytes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import PurePosixPath

from beatline.common.errors import shown
from beatline.formats import csv_signals, leads, npy, times, wfdb_records
from beatline.formats.recording import BadRecording, Recording
from beatline.formats.wfdb import Files

_SUFFIXES = {
    "wfdb": (wfdb_records.HEADER,),
    "csv": (".csv", ".tsv", ".txt"),
    "npy": (".npy",),
}
EXTENSIONS = tuple(suffix for suffixes in _SUFFIXES.values() for suffix in suffixes)
_KINDS = {suffix: kind for kind, suffixes in _SUFFIXES.items() for suffix in suffixes}
_MAGIC = {"npy": (npy.MAGIC,)}
HEAD = 4096  # bytes that tell what a file is
TIMED = ("csv", "npy")  # kinds whose columns may be times

Reader = Callable[[bytes, str, float], Recording]
READERS: dict[str, Reader] = {"csv": csv_signals.read, "npy": npy.read}


def kind(name: str, head: bytes) -> str | None:
    """What a file is, by its first bytes (HEAD of them suffice), else by its name; None if neither
    tells."""
    by_magic = (kind for kind, magic in _MAGIC.items() if head.startswith(magic))
    return next(by_magic, None) or _KINDS.get(PurePosixPath(name).suffix.lower())


def read(files: Files, name: str, most: float = math.inf) -> Recording:
    """The recording in the file `name`, with those beside it that it names (of a WFDB record).

    ECG leads are called as in :data:`beatline.formats.leads.LEADS`; columns of times are taken out.
    Raises BadRecording for a file in no known format, or damaged, LargeRecording for more than `most`
    values, UnfitRecording for content that is no recording.
    """
    where = shown(PurePosixPath(name).name)
    if name not in files:
        raise BadRecording(f"{shown(name, 200)} is not there: add the file, or take its row out")
    content = files.read(name)
    form = kind(name, bytes(content[:HEAD]))
    if form is None:
        raise BadRecording(f"{where} is in no known format: use one of {', '.join(EXTENSIONS)}")
    if form == "wfdb":
        recording = wfdb_records.read(files, name, where, most)
    else:
        recording = READERS[form](bytes(content), where, most)
    if form in TIMED:
        recording = times.without_times(recording, where, most)
    channels = recording.channels and leads.lead_names(recording.channels)
    return replace(recording, channels=channels)
