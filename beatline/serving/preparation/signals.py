"""Signals over time and rows of features: channels, units, missing samples, sampling rate."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from beatline.common.errors import listed, shown
from beatline.formats import leads
from beatline.formats.oddities import by_einthoven, oddities
from beatline.formats.recording import Notice, Recording, caution, note
from beatline.formats.resampling import MOST_RESAMPLED, interpolated, resampled
from beatline.formats.units import power_of_ten, scaled
from beatline.serving.problems import unfit
from beatline.serving.recording import Prepared
from beatline.serving.settings import Serve
from beatline.serving.uploads.checks import check_size
from beatline.serving.uploads.images import GREY_LEVEL

SAY_RATE = 'say it by the header X-Sampling-Rate (or "sampling_rate" in JSON)'
_GENERIC = re.compile(r"(channel|column) \d+")  # names of channels that have none
_LOOKS_AT = {
    "twelve_leads": "ECGs of twelve leads",
    "trace": "signals",
    "features": "rows of features",
}


def steps(recording: Recording, dataset: Mapping[str, Any]) -> int:
    """Return how many steps in time there will be, give or take one."""
    rate, wanted = recording.sampling_rate, dataset["sampling_rate"]
    length, columns = recording.samples.shape
    if recording.channels is None and columns != len(dataset["channels"]):
        length = columns  # `[C, T]`
    times = 1 if rate is None or wanted is None else min(wanted / rate, MOST_RESAMPLED)
    return math.ceil(length * times)


def prepare(recording: Recording, dataset: Mapping[str, Any], limits: Serve) -> Prepared:
    """The samples of the data set's channels, in its unit and at its rate."""
    notices: list[Notice] = []
    channels, rate, wanted = dataset["channels"], recording.sampling_rate, dataset["sampling_rate"]
    if dataset["drawing"] == "twelve_leads":
        recording = _with_derived(recording, channels, notices)
    recording = _ordered(recording, dataset, notices)
    samples = _converted(recording, dataset["unit"], notices)
    if rate is None and wanted is not None:
        _check_unsaid_rate(len(samples), dataset["length"], wanted)
    if dataset["drawing"] != "features":
        check_present(samples, channels)
    whole, missing = filled(samples, channels, notices)
    if dataset["drawing"] != "features":
        notices += oddities(whole, channels)
    if dataset["drawing"] == "twelve_leads":
        notices += by_einthoven(whole, missing, channels)
    if rate is None or rate == wanted:
        return Prepared(samples, notices, len(samples))
    if wanted is None:
        message = f"the sampling rate of {rate:g} Hz is not used: the training recordings have none"
        notices.append(caution("sampling_rate", message))
    else:
        notices.append(resampling(rate, wanted))
        values = steps(recording, dataset) * len(channels)
        check_size(values, limits, f"the recording at {wanted:g} Hz")
        samples = resampled(whole, missing, rate, wanted)
    return Prepared(samples, notices, len(samples))


def _with_derived(recording: Recording, wanted: list[str], notices: list[Notice]) -> Recording:
    """The recording with those leads of the limbs that it lacks and that follow from two that it has, if
    these are in one unit."""
    if recording.channels is None:
        return recording
    names = leads.lead_names(recording.channels)
    limbs = [column for column, name in enumerate(names) if name in leads.LIMBS]
    units = recording.units or ["as trained"] * len(names)
    if len({units[column] for column in limbs}) != 1:
        return recording
    samples, channels = leads.derived(recording.samples, names, wanted)
    if not (made := channels[len(names) :]):
        return recording
    verb = "follows" if len(made) == 1 else "follow"
    message = f"{listed(made)} {verb} from other leads of the limbs (Einthoven, Goldberger)"
    notices.append(note("derived", message))
    more = recording.units and [units[limbs[0]]] * len(made)
    units = recording.units and [*recording.units, *(more or [])]
    return replace(recording, samples=samples, channels=[*recording.channels, *made], units=units)


def _ordered(recording: Recording, dataset: Mapping[str, Any], notices: list[Notice]) -> Recording:
    """The channels of the data set in its order: found by name, or as many of them without names."""
    wanted = dataset["channels"]
    if GREY_LEVEL in (recording.units or []):
        raise unfit(f"an image does not fit: the model looks at {_LOOKS_AT[dataset['drawing']]}")
    if recording.channels is None or all(map(_GENERIC.fullmatch, wanted)):
        return _as_many(recording, wanted)
    names, asked = (
        [_plain(name) for name in channels] for channels in (recording.channels, wanted)
    )
    if missing := [name for name, plain in zip(wanted, asked, strict=True) if plain not in names]:
        raise unfit(
            f"the recording has no {listed(missing)} among its channels {listed(recording.channels)}: "
            f"the model needs {listed(wanted)}"
        )
    if twice := [name for name, plain in zip(wanted, asked, strict=True) if names.count(plain) > 1]:
        raise unfit(f"the recording has two channels called {twice[0]}: leave one out")
    if extra := [
        name for name, plain in zip(recording.channels, names, strict=True) if plain not in asked
    ]:
        message = f"the model does not look at {listed(extra)}: left out"
        notices.append(note("dropped", message))
    if names == asked:
        return recording
    order = [names.index(name) for name in asked]
    units = recording.units and [recording.units[column] for column in order]
    return replace(recording, samples=recording.samples[:, order], channels=wanted, units=units)


def _plain(name: str) -> str:
    """Return a channel's name as names are compared: "Lead aVR" and "AVR" are one lead."""
    return leads.lead_name(name) or name.strip().casefold()


def _as_many(recording: Recording, wanted: list[str]) -> Recording:
    rows, columns = recording.samples.shape
    if columns == len(wanted):
        return recording
    units = set(recording.units or [])
    if rows == len(wanted) and len(units) < 2:
        turned = [unit for unit in units for _ in wanted] or None
        return replace(recording, samples=recording.samples.T, channels=None, units=turned)
    named = "" if all(map(_GENERIC.fullmatch, wanted)) else f" ({listed(wanted)}), or name them"
    raise unfit(
        f"the recording has {columns} channels of {rows} samples, and the model looks at "
        f"{len(wanted)}: send these{named}"
    )


def _converted(recording: Recording, wanted: str, notices: list[Notice]) -> np.ndarray:
    """The samples in the unit `wanted`, which is taken for granted if the recording names none."""
    samples, units = recording.samples, recording.units
    if units is None or all(unit == wanted for unit in units):
        return samples
    powers = [_power(unit, wanted) for unit in units]
    if not any(powers):
        return samples
    given = sorted({unit for unit, power in zip(units, powers, strict=True) if power})
    notices.append(note("converted", f"converted from {listed(given)} to {wanted}"))
    return scaled(samples, powers)


def _power(unit: str, wanted: str) -> int:
    """The power of ten by which samples in `unit` become those in `wanted`."""
    power = power_of_ten(unit, wanted)
    if power is None:
        known = wanted if power_of_ten("V", wanted) is None else f"{wanted}, or V, mV, uV, nV"
        raise unfit(
            f"samples in {shown(unit, 30)!r} cannot be converted to {wanted}: send them in {known}"
        )
    return power


def check_present(samples: np.ndarray, channels: list[str]) -> None:
    """Raise Problem if a channel has no valid sample: it is as absent as one that is not sent."""
    absent = np.flatnonzero(np.isnan(samples).all(axis=0))
    if len(absent):
        names = listed([channels[number] for number in absent])
        raise unfit(
            f"the recording has no valid sample of {names}: the model needs all of "
            f"{listed(channels)}"
        )


def filled(
    samples: np.ndarray, channels: list[str], notices: list[Notice]
) -> tuple[np.ndarray, np.ndarray | None]:
    """The samples with those in between for missing ones, and which are missing (None: none is)."""
    whole, missing = interpolated(samples)
    if missing is None:
        return whole, None
    columns = np.flatnonzero(missing.any(axis=0))
    notices.append(
        caution(
            "missing",
            f"{np.count_nonzero(missing)} of {samples.size} values are missing (in "
            f"{listed([channels[column] for column in columns])}): what is usual in the training "
            f"recordings stands in for them",
        )
    )
    return whole, missing


def _check_unsaid_rate(n_steps: int, length: int, rate: float) -> None:
    """Raise Problem unless a recording without a sampling rate is as long as those of the training, and
    so probably sampled as they were."""
    if n_steps != length:
        raise unfit(
            f"the file names no sampling rate, and its {n_steps} steps are not the {length} of the "
            f"training recordings ({length / rate:.4g} s at {rate:g} Hz): {SAY_RATE}"
        )


def resampling(rate: float, wanted: float) -> Notice:
    """The notice of another sampling rate. Raises Problem if it is too far from that of the training."""
    if not 1 / MOST_RESAMPLED <= rate / wanted <= MOST_RESAMPLED:
        raise unfit(
            f"a sampling rate of {rate:g} Hz is too far from the {wanted:g} Hz of the training "
            f"recordings: send one between {wanted / MOST_RESAMPLED:g} and "
            f"{wanted * MOST_RESAMPLED:g} Hz"
        )
    message = f"resampled from {rate:g} Hz to {wanted:g} Hz"
    if rate >= wanted:
        return note("resampled", message)
    lost = f"{message}: what the training recordings have above {rate / 2:g} Hz is not in it"
    return caution("resampled", lost)
