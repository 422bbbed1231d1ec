"""MATLAB's MAT files (versions 4 and 5 to 7), such as those of the PhysioNet challenges, read by scipy.

Imported by the processes of :mod:`beatline.formats.isolated` alone.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from scipy import io

from beatline.common.errors import shown
from beatline.formats.npy import NUMBERS, float_for
from beatline.formats.recording import BadRecording, Recording, UnfitRecording, check_size, note

_VALUES = "val"  # what the challenges call their matrix, of a row per lead
_CLASSES = (  # of MATLAB, that are numbers
    "double", "single", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
)  # fmt: skip


def read(path: Path, most: float, where: str) -> Recording:
    """The matrix `val` `[C, T]` as samples `[T, C]`, or that of another name if there is no other; its
    longer side is time then, with a notice.

    Raises UnfitRecording if there is none or one of several, BadRecording for a file of version 7.3.
    """
    if path.read_bytes()[:10] == b"MATLAB 7.3":
        raise BadRecording(
            f"{where} is of MATLAB's version 7.3, which is not read: save it with -v7"
        )
    names = [
        (name, shape)
        for name, shape, kind in io.whosmat(path)
        if kind in _CLASSES and len(shape) == 2 and math.prod(shape) > 1
    ]
    chosen = [each for each in names if each[0] == _VALUES] or names
    if len(chosen) != 1:
        raise UnfitRecording(
            f"{where} holds {len(chosen)} matrices of numbers and none called {_VALUES}: save the "
            f"recording alone, or as {_VALUES}"
        )
    name, shape = chosen[0]
    check_size(math.prod(shape), most, where)
    values = np.asarray(io.loadmat(path, variable_names=[name])[name])
    if values.dtype.kind not in NUMBERS:
        raise UnfitRecording(
            f"{where} holds {shown(name, 30)} as {values.dtype}: save plain numbers"
        )
    turned = name == _VALUES or shape[0] < shape[1]
    notices = []
    if name != _VALUES:
        rows = "a row is a channel" if turned else "a row is a time step"
        notices.append(note("matrix", f"{shown(name, 30)} has the shape {shape}: {rows}"))
    values = values.T if turned else values
    return Recording(values.astype(float_for(values.dtype)), warnings=notices)
