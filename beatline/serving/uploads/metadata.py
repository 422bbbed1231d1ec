"""Metadata that a recording's file may lack: its channels' names, their unit, the sampling rate.

It comes in request headers (``X-Channels: I,II``, ``X-Unit: uV``, ``X-Sampling-Rate: 500``) or beside
the signal in JSON.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from beatline.common.errors import listed, shown
from beatline.formats.recording import Recording
from beatline.serving.problems import Problem, malformed, unfit

HIGHEST_RATE = 1e9  # Hz
LONGEST_UNIT = 32  # characters
HEADERS = {"channels": "X-Channels", "sampling_rate": "X-Sampling-Rate", "unit": "X-Unit"}
CURES = {
    "channels": "list the names of the channels",
    "sampling_rate": "say the samples per second, such as 500",
    "unit": "say the unit of the samples, such as mV",
}


class Metadata(BaseModel):
    """Metadata of a recording, None where unknown. `unit`: of all channels; `sampling_rate`: in Hz."""

    model_config = ConfigDict(strict=True, str_strip_whitespace=True)

    channels: Annotated[list[str], Field(min_length=1)] | None = None
    sampling_rate: Annotated[float, Field(gt=0, lt=HIGHEST_RATE)] | None = None
    unit: Annotated[str, Field(min_length=1, max_length=LONGEST_UNIT)] | None = None


def from_headers(headers: Mapping[str, str]) -> Metadata:
    """Read the metadata in request headers (names in lower case). Raises Problem for a malformed one."""
    channels, rate, unit = (headers.get(header.lower()) for header in HEADERS.values())
    values = {
        "channels": None if channels is None else _text(channels).split(","),
        "sampling_rate": None if rate is None else _number(rate),
        "unit": None if unit is None else _text(unit),
    }
    return validated(values, {name: f"the header {header}" for name, header in HEADERS.items()})


def validated(values: Mapping[str, Any], where: Mapping[str, str]) -> Metadata:
    """The `values` of the fields of Metadata, which messages call `where`. Raises Problem if one is not
    what it should be."""
    try:
        metadata = Metadata(**values)
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        raise unfit(f"{where[name]} is {_kind(values[name])}: {CURES[name]}") from None
    if "" in (names := metadata.channels or []):
        number = names.index("") + 1
        raise unfit(f"{where['channels']}: name number {number} is empty: name each channel")
    return metadata


def described(recording: Recording, metadata: Metadata, where: str) -> Recording:
    """The recording with what is said of it.

    Samples `[C, T]` that have as many rows as there are names, and another number of columns, are
    turned. Raises Problem if the names do not fit, or the file says something else.
    """
    if metadata.channels is not None:
        recording = _named(recording, metadata.channels, where)
    if metadata.sampling_rate is not None:
        if recording.sampling_rate not in (None, metadata.sampling_rate):
            raise _contradiction(
                where, f"{recording.sampling_rate:g} Hz", f"{metadata.sampling_rate:g}"
            )
        recording = replace(recording, sampling_rate=metadata.sampling_rate)
    if metadata.unit is not None:
        other = [
            unit for unit in recording.units or [] if unit.casefold() != metadata.unit.casefold()
        ]
        if other:
            raise _contradiction(where, shown(other[0], 30), shown(metadata.unit, 30))
        recording = replace(recording, units=[metadata.unit] * recording.samples.shape[1])
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


def _contradiction(where: str, own: str, sent: str) -> Problem:
    return unfit(f"{where} says {own}, and the request says {sent}: leave one of them out")


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
