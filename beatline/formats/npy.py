"""NPY, numpy's own format (numpy.lib.format, versions 1 and 2). Never with objects: those are pickles."""

from __future__ import annotations

import io
import math
from typing import NamedTuple

import numpy as np
from numpy.lib import format as numpy_format

from beatline.common.errors import shown
from beatline.formats.recording import (
    BadRecording,
    Recording,
    UnfitRecording,
    check_size,
    decoding,
    two_dimensional,
)

MAGIC = b"\x93NUMPY"
LONGEST_HEADER = 1024  # characters; that of a matrix has 118
_READERS = {
    (1, 0): numpy_format.read_array_header_1_0,
    (2, 0): numpy_format.read_array_header_2_0,
}
NUMBERS = "fiub"  # kinds of numpy's dtypes: floats, integers of both sorts, true and false


class _Header(NamedTuple):
    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype
    length: int  # bytes before the data


def read(content: bytes, where: str, most: float) -> Recording:
    """The array `[T]`, `[T, C]` or `[1, T, C]` of numbers. Raises BadRecording for any other."""
    with decoding(where, "NPY file"):
        header = _header(content)
    if header.dtype.kind not in NUMBERS or header.dtype.fields or header.dtype.shape:
        raise UnfitRecording(
            f"{where} has the dtype {shown(str(header.dtype))!r}, which is no plain number: save it "
            f"as float32"
        )
    if any(size < 0 for size in header.shape):
        raise BadRecording(f"{where} has a negative shape: save it again")
    values = math.prod(header.shape)
    check_size(values, most, where)
    n_bytes = values * header.dtype.itemsize
    if len(content) - header.length != n_bytes:
        raise BadRecording(
            f"{where} has {len(content) - header.length} bytes of data, and its header announces "
            f"{n_bytes}: use the whole file"
        )
    stored = np.frombuffer(content, header.dtype, values, header.length)
    order = "F" if header.fortran_order else "C"
    array = two_dimensional(stored.reshape(header.shape, order=order), where)
    return Recording(array.astype(float_for(header.dtype), copy=False))


def float_for(dtype: np.dtype) -> type[np.floating]:
    """Return the float type that holds (nearly) every number of a dtype: float64 for long integers."""
    if dtype.kind == "b" or (dtype.kind == "f" and dtype.itemsize <= 4):
        return np.float32
    return np.float64


def _header(content: bytes) -> _Header:
    file = io.BytesIO(content)
    version = numpy_format.read_magic(file)
    if version not in _READERS:
        raise ValueError("version {}.{}, of which 1.0 and 2.0 are read".format(*version))
    shape, fortran_order, dtype = _READERS[version](file, max_header_size=LONGEST_HEADER)
    return _Header(shape, fortran_order, dtype, file.tell())
