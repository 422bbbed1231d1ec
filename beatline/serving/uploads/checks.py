"""Checks that all formats share: how they refuse, and what no recording may be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from beatline.common.errors import UserError, shown
from beatline.formats import recording as formats
from beatline.formats.recording import Recording
from beatline.serving.problems import Problem, malformed, too_large, unavailable, unfit
from beatline.serving.settings import Serve

LARGEST = 1e12  # of a sample, either sign: beyond it squares of single precision may overflow


@contextmanager
def refusing() -> Iterator[None]:
    """Makes a Problem of what the readers of formats refuse."""
    try:
        yield
    except formats.LargeRecording as error:
        raise too_large(str(error)) from None
    except formats.UnfitRecording as error:
        raise unfit(str(error)) from None
    except formats.BadRecording as error:
        raise malformed(str(error)) from None
    except UserError as error:  # no file's fault: there is no process to read it in
        raise unavailable(str(error)) from None


@contextmanager
def decoding(where: str, format_name: str) -> Iterator[None]:
    """Makes a Problem of whatever a decoder raises."""
    problem: Problem | None = None
    with refusing(), formats.decoding(where, format_name):
        try:
            yield
        except Problem as error:
            problem = error
    if problem is not None:
        raise problem


def check_size(values: int, limits: Serve, where: str) -> None:
    """Raise Problem 413 if a recording announces more values than a request may hold."""
    with refusing():
        formats.check_size(values, limits.max_values, where)


def two_dimensional(values: np.ndarray, where: str) -> np.ndarray:
    """As the readers of formats do; raises Problem."""
    with refusing():
        return formats.two_dimensional(values, where)


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
