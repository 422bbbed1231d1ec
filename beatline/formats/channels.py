"""Channels as files of several hold them, each with a rate, a unit and a length of its own, as one
recording."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from beatline.common.errors import shown
from beatline.formats.leads import POSITION, lead_name
from beatline.formats.recording import Notice, Recording, UnfitRecording, caution, note
from beatline.formats.units import power_of_ten

# Channels of a Holter recorder, beside those of motion and the like.
_ECG = re.compile(r"e[ck]g\b", re.I)
_MOST_NAMED = 8


class Channel(NamedTuple):
    """A channel of a file: its `samples` `[T]` in `unit`, the first of them at step `start`."""

    name: str
    sampling_rate: float  # Hz
    unit: str  # "" if the file does not say
    samples: np.ndarray
    start: int = 0


def recording_of(
    channels: Sequence[Channel], where: str, notices: Sequence[Notice] = ()
) -> Recording:
    """Samples `[T, C]` float32, leads of an ECG first and in their usual order, voltages in mV, NaN where
    a channel has none.

    Where channels differ in their sampling rate and those of the ECG do not, the others are left out,
    with a notice. Raises UnfitRecording for ECG leads of several rates or of no unit, and for
    samples that are infinite.
    """
    notices = list(notices)
    channels = sorted(_of_one_rate(channels, where, notices), key=_position)
    powers = [_power(channel, where) for channel in channels]
    length = max(channel.start + len(channel.samples) for channel in channels)
    samples = np.full((length, len(channels)), np.nan, np.float32)
    for column, (channel, power) in enumerate(zip(channels, powers, strict=True)):
        # A division by 1000 is exact to the last bit, a multiplication by 0.001 is not.
        values = channel.samples * 10.0**power if power > 0 else channel.samples / 10.0**-power
        samples[channel.start : channel.start + len(values), column] = values
    if np.isinf(samples).any():
        raise UnfitRecording(f"{where} holds samples that are infinite: repair or remove them")
    if ragged := [c.name for c in channels if len(c.samples) < length]:
        message = (
            f"of {_listed(ragged)} there are fewer samples than of others: the rest is missing"
        )
        notices.append(caution("missing", message))
    return Recording(
        samples,
        [channel.name for channel in channels],
        channels[0].sampling_rate,
        ["mV" if _is_voltage(channel.unit) else channel.unit for channel in channels],
        notices,
    )


def _of_one_rate(
    channels: Sequence[Channel], where: str, notices: list[Notice]
) -> Sequence[Channel]:
    rates = {channel.sampling_rate for channel in channels}
    if len(rates) == 1:
        return channels
    ecg = {channel.sampling_rate for channel in channels if _is_ecg(channel.name)}
    if len(ecg) != 1:
        each = ", ".join(f"{c.name} {c.sampling_rate:g} Hz" for c in channels[:_MOST_NAMED])
        raise UnfitRecording(
            f"{where} holds channels of several sampling rates ({shown(each, 200)}): export those of one"
        )
    kept = [channel for channel in channels if channel.sampling_rate in ecg]
    others = [channel.name for channel in channels if channel.sampling_rate not in ecg]
    message = f"{_listed(others)} have another sampling rate than the ECG: left out"
    notices.append(note("dropped", message))
    return kept


def _is_ecg(name: str) -> bool:
    return lead_name(name) is not None or _ECG.match(name) is not None


def _position(channel: Channel) -> int:
    return POSITION.get(lead_name(channel.name) or "", len(POSITION))


def _is_voltage(unit: str) -> bool:
    return power_of_ten(unit, "mV") is not None


def _power(channel: Channel, where: str) -> int:
    """The power of ten by which a channel's samples become those in mV; 0 if they are no voltage."""
    power = power_of_ten(channel.unit, "mV")
    if power is None and lead_name(channel.name):
        raise UnfitRecording(
            f"{where} has lead {shown(channel.name, 30)} in {shown(channel.unit, 20) or 'no unit'}, "
            f"which is no voltage: export it in \N{MICRO SIGN}V or mV"
        )
    return power or 0


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return shown(", ".join(names[:_MOST_NAMED]), 200) + more
