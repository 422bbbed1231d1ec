"""Checks that all formats share: how they refuse, and what no recording may be."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from beatline.common.errors import UserError
from beatline.serving.problems import Problem, malformed, shown, too_large, unfit, wording
from beatline.serving.recording import Recording
from beatline.serving.settings import Serve

LARGEST = 1e12  # of a sample, either sign: beyond it squares of single precision may overflow
_ADDRESS = re.compile(r":? *<[^<>]* at 0x[0-9a-f]+>")


@contextmanager
def decoding(where: str, format_name: str) -> Iterator[None]:
    """Makes a Problem of whatever a decoder raises.

    Decoders are written by others for undamaged files. At a damaged one they raise far more than they
    document (struct.error, IndexError, RecursionError …), and it is the file's fault each time.
    """
    try:
        yield
    except (Problem, UserError):  # which are sentences already
        raise
    except Exception as error:
        # Of several sentences the first, without addresses in memory; the others are for programmers.
        reason = _ADDRESS.sub("", wording(error)).split(". ")[0] or type(error).__name__
        raise malformed(
            f"{where} is no {format_name} that can be read ({reason}): send an undamaged file"
        ) from None


def check_size(values: int, limits: Serve, where: str) -> None:
    """Raise Problem 413 if a recording announces more values than a request may hold."""
    if values > limits.max_values:
        raise too_large(
            f"{where} holds {values:,} values, more than the {limits.max_values:,} that one "
            f"recording may have: send a shorter part of it"
        )


def two_dimensional(values: np.ndarray, where: str) -> np.ndarray:
    """`[T, C]` of `[T]`, `[T, C]` or `[1, T, C]`. Raises Problem for any other shape."""
    if values.ndim == 1:
        return values[:, None]
    if values.ndim == 3 and len(values) == 1:
        return values[0]
    if values.ndim == 2:
        return values
    shape = " x ".join(map(str, values.shape)) or "a single value"
    raise unfit(f"{where} is an array of {shape}: send one of time steps x channels")


def checked(recording: Recording, limits: Serve, where: str) -> Recording:
    """The recording, if it has a valid sample and none that is infinite or beyond 1e12.

    Raises Problem, which says where the sample is.
    """
    samples = recording.samples
    if not samples.size:
        raise unfit(f"{where} holds no samples: send a recording that has some")
    check_size(samples.size, limits, where)
    low, high = samples.min(), samples.max()
    if not (low >= -LARGEST and high <= LARGEST):  # not so for NaN either
        _check_each(recording, where)
    if samples.dtype not in (np.float32, np.float64):
        return replace(recording, samples=samples.astype(np.float64))
    return recording


def _check_each(recording: Recording, where: str) -> None:
    samples = recording.samples
    wrong = np.abs(samples) > LARGEST
    if wrong.any():
        step, column = (int(index) for index in np.argwhere(wrong)[0])
        names = recording.channels
        channel = shown(names[column], 30) if names else f"number {column + 1}"
        value = samples[step, column]
        fault = "infinite" if np.isinf(value) else f"{value:g}, beyond {LARGEST:g}"
        raise unfit(
            f"{where}: sample {step + 1} of channel {channel} is {fault}: correct it, or mark it as "
            f"missing (null in JSON, NaN or empty elsewhere)"
        )
    if np.isnan(samples).all():
        raise unfit(f"{where} has no valid sample: every one is marked as missing")
