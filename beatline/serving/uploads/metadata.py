"""What a recording's file may leave open: names of its channels, their unit, the sampling rate.

It comes in request headers (``X-Channels: I,II``, ``X-Unit: uV``, ``X-Sampling-Rate: 500``) or beside
the signal in JSON.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from beatline.serving.problems import Problem, malformed, unfit
from beatline.serving.recording import Recording
from beatline.serving.uploads.checks import listed, shown

HIGHEST_RATE = 1e9  # Hz
LONGEST_UNIT = 32  # characters


@dataclass(frozen=True)
class Metadata:
    """None: not said. `unit`: one for all channels; `sampling_rate`: in Hz."""

    channels: list[str] | None = None
    sampling_rate: float | None = None
    unit: str | None = None


def of_headers(headers: Mapping[str, str]) -> Metadata:
    """From request headers, whose names are in lower case. Raises Problem for one that is malformed."""
    channels, rate, unit = (
        headers.get(name) for name in ("x-channels", "x-sampling-rate", "x-unit")
    )
    return Metadata(
        None if channels is None else _names(_text(channels).split(","), "the header X-Channels"),
        None if rate is None else sampling_rate(_number(rate), "the header X-Sampling-Rate"),
        None if unit is None else unit_of(_text(unit), "the header X-Unit"),
    )


def sampling_rate(value: object, where: str) -> float:
    """In Hz. Raises Problem unless it is a positive number."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < HIGHEST_RATE:
        return float(value)
    raise unfit(f"{where} is {_kind(value)}: say the samples per second, such as 500")


def unit_of(value: object, where: str) -> str:
    """Raises Problem unless it is a short text."""
    if isinstance(value, str) and 0 < len(value.strip()) <= LONGEST_UNIT:
        return value.strip()
    raise unfit(f"{where} is {_kind(value)}: say the unit of the samples, such as mV")


def channel_names(value: object, where: str) -> list[str]:
    """Raises Problem unless it is a list of names."""
    if isinstance(value, list) and value and all(isinstance(name, str) for name in value):
        return _names(value, where)
    raise unfit(f"{where} is {_kind(value)}: list the names of the channels")


def described(recording: Recording, said: Metadata, where: str) -> Recording:
    """The recording with what is said of it.

    Samples `[C, T]` that have as many rows as there are names, and another number of columns, are
    turned. Raises Problem if the names do not fit, or the file says something else.
    """
    if said.channels is not None:
        recording = _named(recording, said.channels, where)
    if said.sampling_rate is not None:
        if recording.sampling_rate not in (None, said.sampling_rate):
            raise _contradiction(
                where, f"{recording.sampling_rate:g} Hz", f"{said.sampling_rate:g}"
            )
        recording = replace(recording, sampling_rate=said.sampling_rate)
    if said.unit is not None:
        other = [unit for unit in recording.units or [] if unit.casefold() != said.unit.casefold()]
        if other:
            raise _contradiction(where, shown(other[0], 30), shown(said.unit, 30))
        recording = replace(recording, units=[said.unit] * recording.samples.shape[1])
    return recording


def _named(recording: Recording, names: list[str], where: str) -> Recording:
    rows, columns = recording.samples.shape
    if recording.channels not in (None, names):
        raise _contradiction(where, listed(recording.channels or []), listed(names))
    if len(names) == columns:
        return replace(recording, channels=names)
    if len(names) == rows and not recording.units:
        return replace(recording, samples=recording.samples.T, channels=names)
    raise unfit(
        f"{where} has {columns} channels of {rows} samples, and {len(names)} names are said: name "
        f"each channel once"
    )


def _contradiction(where: str, own: str, said: str) -> Problem:
    return unfit(f"{where} says {own}, and the request says {said}: leave one of them out")


def _names(names: list[str], where: str) -> list[str]:
    stripped = [name.strip() for name in names]
    if "" in stripped:
        raise unfit(f"{where}: name number {stripped.index('') + 1} is empty: name each channel")
    return stripped


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if "_" in text or not math.isfinite(value):
        raise malformed(
            f"the header X-Sampling-Rate is {shown(text)!r}: say the samples per second, such as 500"
        )
    return value


def _text(value: str) -> str:
    """Headers arrive as Latin-1, also where a client wrote UTF-8 (µV)."""
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return value


def _kind(value: object) -> str:
    if isinstance(value, str | int | float):
        return repr(shown(str(value)))
    return {list: "a list of something else", dict: "an object"}.get(type(value), "null")
