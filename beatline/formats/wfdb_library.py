"""WFDB records in layouts that :mod:`beatline.formats.wfdb` does not read, by the library wfdb.

Imported by the processes of :mod:`beatline.formats.isolated` alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import wfdb

from beatline.formats.channels import Channel, recording_of
from beatline.formats.recording import Recording, UnfitRecording


def digital(path: Path, most: float, where: str) -> Recording:
    """The digital samples `[T, C]`, integers, of the record of the header `path`."""
    del most, where  # the header announces how many there are, and was read by who asks
    record: Any = wfdb.rdrecord(str(path.with_suffix("")), physical=False, return_res=32)
    return Recording(np.asarray(record.d_signal))


def read(path: Path, most: float, where: str) -> Recording:
    """The record of the header `path`, of one or several segments: samples `[T, C]` in the units of the
    header. Of several samples per frame, each is one."""
    del most
    record: Any = wfdb.rdrecord(str(path.with_suffix("")), smooth_frames=False)
    if not record.e_p_signal:
        raise UnfitRecording(f"{where} describes no signals: use a record that has some")
    columns = zip(
        record.sig_name, record.samps_per_frame, record.units, record.e_p_signal, strict=True
    )
    channels = [
        Channel(name or "", record.fs * per_frame, unit or "", samples)
        for name, per_frame, unit, samples in columns
    ]
    return recording_of(channels, where)
