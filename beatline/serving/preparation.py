"""From a recording as it was sent to what a model was trained on: its channels in their order, its unit,
its sampling rate; or the reason why it does not fit.

What the pipeline does to a recording is done by the pipeline's own code. What it need not do, since
the recordings of a data set are alike, is done here, and each time a :class:`Notice` says so.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

import numpy as np
import soxr
from PIL import Image

from beatline.common.errors import UserError
from beatline.features import sound
from beatline.formats import audio
from beatline.serving.problems import Problem, unfit
from beatline.serving.recording import Notice, Recording
from beatline.serving.settings import Serve
from beatline.serving.uploads.audio import FULL_SCALE
from beatline.serving.uploads.checks import LARGEST, check_size, listed, shown
from beatline.serving.uploads.images import GREY_LEVEL

MOST_RESAMPLED = 50  # times higher or lower a sampling rate may be
# A plateau: two samples or more at a channel's highest or lowest value, entered or left by a step that
# a signal near its peak does not take. Natural peaks that a coarse scale makes flat have no such step.
STEEP = 0.05  # of the channel's range
PLATEAUS = 2  # of one clipped channel at least
# Or the extreme value lasts: a signal that wandered out of its amplifier's range.
LASTING = (20, 0.1)  # samples, share of the recording, at least
BEYOND = 1.5  # times the range of root mean squares in training
LOUDEST = 1.5  # of samples in full scale: a little more than 1, but no integers
# Of lead II: how far Einthoven's law, II = I + III, may be missed. Of 420 real records none misses it
# by more than 0.01; in reverse order all do by 0.4 and more.
EINTHOVEN = 0.2
SAY_RATE = 'say it by the header X-Sampling-Rate (or "sampling_rate" in JSON)'
_POWERS_OF_TEN = {"v": 0, "mv": -3, "uv": -6, "\N{GREEK SMALL LETTER MU}v": -6, "nv": -9}
_WHITE = 255  # the grey level
_GENERIC = re.compile(r"(channel|column) \d+")  # names of channels that have none
_LOOKS_AT = {
    "twelve_leads": "ECGs of twelve leads",
    "trace": "signals",
    "image": "images",
    "features": "rows of features",
    "spectrogram": "sound",
}


@dataclass(frozen=True)
class Prepared:
    """`samples`: `[T, C]` in the unit, the order of channels and the sampling rate of a data set, NaN
    where one is invalid. `notices`: what was done to get there, and what is odd about it. `length`:
    how many of the first samples are the recording's own; others repeat them, of short sound."""

    samples: np.ndarray
    notices: list[Notice]
    length: int


def prepare(
    recording: Recording,
    dataset: Mapping[str, Any],
    shortest: int,
    *,
    limits: Serve,
    whole: bool = False,
) -> Prepared:
    """The recording as those of `dataset`, the entry of that name in a bundle's model.json.

    `shortest`: the fewest samples that the model looks at; `whole`: it looks at whole recordings of
    one length only. Raises Problem if the recording does not fit, which says why.
    """
    if dataset["representation"] is not None:
        prepared = _sound(recording, dataset, limits)
    elif dataset["drawing"] == "image":
        prepared = _image(recording, dataset)
    else:
        prepared = _series(recording, dataset, limits)
    samples = prepared.samples
    _check_length(len(samples), dataset, shortest, whole)
    if len(samples) < dataset["length"]:
        message = (
            f"the recording is shorter ({_length(len(samples), dataset)}) than those of the training "
            f"({_length(dataset['length'], dataset)})"
        )
        prepared.notices.append(Notice("short", message))
    if np.abs(samples).max(initial=0, where=np.isfinite(samples)) > LARGEST:
        raise unfit(
            f"the recording has samples beyond {LARGEST:g} {dataset['unit']}: check its unit"
        )
    return replace(prepared, notices=[*recording.warnings, *prepared.notices])


def resampled_values(recording: Recording, dataset: Mapping[str, Any]) -> int:
    """How many values :func:`prepare` will give, to a step; nothing is computed for it, nor refused.

    Steps times channels, of sound frames times bands. A sampling rate that is too far from that of the
    training, which will be refused, counts as the farthest that is not.
    """
    channels, settings = dataset["channels"], dataset["representation"]
    rate = recording.sampling_rate
    if settings is not None:
        times = 1 if rate is None else min(settings["sampling_rate"] / rate, MOST_RESAMPLED)
        samples = math.ceil(max(recording.samples.shape) * times)
        frames = _frames(samples, settings["frame"], settings["hop"])
        return max(frames, dataset["length"]) * len(channels)
    if dataset["drawing"] == "image":
        return dataset["length"] * len(channels)
    steps, columns = recording.samples.shape
    if recording.channels is None and columns != len(channels):
        steps = columns  # `[C, T]`
    wanted = dataset["sampling_rate"]
    times = 1 if rate is None or wanted is None else min(wanted / rate, MOST_RESAMPLED)
    return math.ceil(steps * times) * len(channels)


def far(normalized: np.ndarray, typical: Mapping[str, Any] | None) -> Notice | None:
    """A notice if the root mean square of a normalized recording `[T, C]` is far from those of the
    training; `typical`: their range, ``{"rms": [low, high]}``, None if it is not known."""
    if typical is None:
        return None
    low, high = typical["rms"]
    found = float(np.sqrt(np.mean(np.square(normalized, dtype=np.float64))))
    if low / BEYOND <= found <= high * BEYOND:
        return None
    word = "larger" if found > high else "smaller"
    return Notice(
        "far",
        f"the recording is far from the training recordings: its deviations are {word} "
        f"({found:.3g} standard deviations; there {low:.3g} to {high:.3g}), so that the answer may "
        f"mean nothing",
    )


def _series(recording: Recording, dataset: Mapping[str, Any], limits: Serve) -> Prepared:
    """Of signals over time, and of rows of features."""
    notices: list[Notice] = []
    channels, rate, wanted = dataset["channels"], recording.sampling_rate, dataset["sampling_rate"]
    recording = _ordered(recording, dataset, notices)
    samples = _converted(recording, dataset, notices)
    if rate is None and wanted is not None:
        _check_unsaid_rate(len(samples), dataset)
    if dataset["drawing"] != "features":
        _check_present(samples, channels)
    filled, missing = _filled(samples, channels, notices)
    if dataset["drawing"] != "features":
        notices += _oddities(filled, channels)
    if dataset["drawing"] == "twelve_leads":
        notices += _by_einthoven(filled, missing, channels)
    if rate is not None and wanted is None:
        message = f"the sampling rate of {rate:g} Hz is not used: the training recordings have none"
        notices.append(Notice("sampling_rate", message))
    elif rate is not None and wanted is not None and rate != wanted:
        _check_rates(rate, wanted)
        where = f"the recording at {wanted:g} Hz"
        check_size(resampled_values(recording, dataset), limits, where)
        notices.append(_resampled_notice(rate, wanted))
        samples = _resampled(filled, missing, rate, wanted)
    return Prepared(samples, notices, len(samples))


# Channels


def _ordered(recording: Recording, dataset: Mapping[str, Any], notices: list[Notice]) -> Recording:
    """The channels of the data set in its order: found by name, or as many of them without names."""
    wanted = dataset["channels"]
    if GREY_LEVEL in (recording.units or []):
        raise unfit(f"an image does not fit: the model looks at {_LOOKS_AT[dataset['drawing']]}")
    if recording.channels is None or all(map(_GENERIC.fullmatch, wanted)):
        return _as_many(recording, wanted)
    names = [name.strip().casefold() for name in recording.channels]
    asked = [name.casefold() for name in wanted]
    missing = [name for name in wanted if name.casefold() not in names]
    if missing:
        raise unfit(
            f"the recording has no {listed(missing)} among its channels {listed(recording.channels)}: "
            f"the model needs {listed(wanted)}"
        )
    twice = [name for name in wanted if names.count(name.casefold()) > 1]
    if twice:
        raise unfit(f"the recording has two channels called {twice[0]}: leave one out")
    extra = [name for name in recording.channels if name.strip().casefold() not in asked]
    if extra:
        message = f"the model does not look at {listed(extra)}: left out"
        notices.append(Notice("dropped", message))
    if names == asked:
        return recording
    order = [names.index(name) for name in asked]
    units = recording.units and [recording.units[column] for column in order]
    return replace(recording, samples=recording.samples[:, order], channels=wanted, units=units)


def _as_many(recording: Recording, wanted: list[str]) -> Recording:
    rows, columns = recording.samples.shape
    if columns == len(wanted):
        return recording
    if rows == len(wanted):
        units = set(recording.units or [])
        if len(units) < 2:
            turned = [unit for unit in units for _ in wanted] or None
            return replace(recording, samples=recording.samples.T, channels=None, units=turned)
    named = "" if all(map(_GENERIC.fullmatch, wanted)) else f" ({listed(wanted)}), or name them"
    raise unfit(
        f"the recording has {columns} channels of {rows} samples, and the model looks at "
        f"{len(wanted)}: send these{named}"
    )


# Units


def _converted(
    recording: Recording, dataset: Mapping[str, Any], notices: list[Notice]
) -> np.ndarray:
    """The samples in the data set's unit, which is taken for granted if the recording names none."""
    samples, units, wanted = recording.samples, recording.units, dataset["unit"]
    if units is None or all(unit == wanted for unit in units):
        return samples
    powers = np.array([_power(unit, wanted) for unit in units])
    if not powers.any():
        return samples
    given = sorted({unit for unit, power in zip(units, powers, strict=True) if power})
    notices.append(Notice("converted", f"converted from {listed(given)} to {wanted}"))
    # A division by 1000 is exact to the last bit, a multiplication by 0.001 is not.
    larger, smaller = (10.0 ** np.maximum(sign * powers, 0) for sign in (1, -1))
    return samples * larger.astype(samples.dtype) / smaller.astype(samples.dtype)


def _power(unit: str, wanted: str) -> int:
    """Of ten, by which samples in `unit` become those in `wanted`."""
    if unit.strip().casefold() == wanted.casefold():
        return 0
    own, other = (_POWERS_OF_TEN.get(name.strip().casefold()) for name in (unit, wanted))
    if own is None or other is None:
        known = f"{wanted}, or V, mV, uV, nV" if other is not None else wanted
        raise unfit(
            f"samples in {shown(unit, 30)!r} cannot be converted to {wanted}: send them in {known}"
        )
    return own - other


# Missing samples


def _check_present(samples: np.ndarray, channels: list[str]) -> None:
    """Raise Problem if a channel has no valid sample: it is as absent as one that is not sent."""
    absent = np.flatnonzero(np.isnan(samples).all(axis=0))
    if len(absent):
        names = listed([channels[number] for number in absent])
        raise unfit(
            f"the recording has no valid sample of {names}: the model needs all of "
            f"{listed(channels)}"
        )


def _filled(
    samples: np.ndarray, channels: list[str], notices: list[Notice]
) -> tuple[np.ndarray, np.ndarray | None]:
    """The samples with those in between for missing ones, and which are missing (None: none is)."""
    missing = np.isnan(samples)
    count = int(np.count_nonzero(missing))
    if not count:
        return samples, None
    where = [channels[number] for number in np.flatnonzero(missing.any(axis=0))]
    notices.append(
        Notice(
            "missing",
            f"{count} of {samples.size} values are missing (in {listed(where)}): what is usual in the "
            f"training recordings stands in for them",
        )
    )
    filled = samples.copy()
    steps = np.arange(len(samples))
    for column in np.flatnonzero(missing.any(axis=0)):
        valid = ~missing[:, column]
        values = samples[valid, column]
        filled[:, column] = np.interp(steps, steps[valid], values) if len(values) else 0
    return filled, missing


# Time


def _check_unsaid_rate(steps: int, dataset: Mapping[str, Any]) -> None:
    """Raise Problem unless a recording without a sampling rate is as long as those of the training, and
    so probably sampled as they were."""
    length, rate = dataset["length"], dataset["sampling_rate"]
    if steps != length:
        raise unfit(
            f"the file names no sampling rate, and its {steps} steps are not the {length} of the "
            f"training recordings ({length / rate:.4g} s at {rate:g} Hz): {SAY_RATE}"
        )


def _check_rates(rate: float, wanted: float) -> None:
    if not 1 / MOST_RESAMPLED <= rate / wanted <= MOST_RESAMPLED:
        raise unfit(
            f"a sampling rate of {rate:g} Hz is too far from the {wanted:g} Hz of the training "
            f"recordings: send one between {wanted / MOST_RESAMPLED:g} and "
            f"{wanted * MOST_RESAMPLED:g} Hz"
        )


def _resampled(
    filled: np.ndarray, missing: np.ndarray | None, rate: float, wanted: float
) -> np.ndarray:
    """`[T, C]` at another sampling rate, NaN again where a neighbour in time was missing."""
    # The filter sees zeros beyond both ends: without its offset a signal has no step there.
    offset = filled.mean(axis=0)
    resampled = soxr.resample(np.ascontiguousarray(filled - offset), rate, wanted, quality="HQ")
    resampled += offset
    if missing is not None:
        places = np.arange(len(resampled)) * (rate / wanted)
        before = np.minimum(places.astype(int), len(missing) - 1)
        after = np.minimum(np.ceil(places).astype(int), len(missing) - 1)
        resampled[missing[before] | missing[after]] = np.nan
    return resampled


def _resampled_notice(rate: float, wanted: float) -> Notice:
    return Notice("resampled", f"resampled from {rate:g} Hz to {wanted:g} Hz")


def _check_length(samples: int, dataset: Mapping[str, Any], shortest: int, whole: bool) -> None:
    if whole and samples != dataset["length"]:
        raise unfit(
            f"the recording has {_length(samples, dataset)}, and the model looks at recordings of "
            f"exactly {_length(dataset['length'], dataset)}: send one of these"
        )
    if samples < shortest:
        raise unfit(
            f"the recording has {_length(samples, dataset)}, and the model looks at no less than "
            f"{_length(shortest, dataset)}: send a longer one"
        )


def _length(samples: int, dataset: Mapping[str, Any]) -> str:
    rate = dataset["sampling_rate"]
    return f"{samples} steps" + (f", {samples / rate:.4g} s" if rate else "")


# What is odd about a signal


def _oddities(samples: np.ndarray, channels: list[str]) -> list[Notice]:
    """Notices of channels of `[T, C]`, without NaN, that never change or are clipped."""
    high, low = samples.max(axis=0), samples.min(axis=0)
    constant = high == low
    clipped = _is_clipped(samples, high, high - low) | _is_clipped(samples, low, high - low)
    notices = []
    if constant.any() and len(samples) > 1:
        names, verb = _those(channels, constant, "never changes", "never change")
        notices.append(Notice("flat", f"{names} {verb}: is everything connected?"))
    if (clipped & ~constant).any():
        names, verb = _those(channels, clipped & ~constant, "is", "are")
        plateau = "the highest or lowest value recurs as a plateau"
        notices.append(Notice("clipped", f"{names} {verb} clipped: {plateau}"))
    return notices


def _by_einthoven(
    samples: np.ndarray, missing: np.ndarray | None, channels: list[str]
) -> list[Notice]:
    """A notice if leads I, II and III of `[T, C]`, without NaN, miss II = I + III at the moments at which
    none is `missing` (Einthoven, Fahr and de Waart, Pflügers Archiv 150, 1913).

    Offsets of amplifiers do not count. Exchanged electrodes are not found: the law holds for any three.
    """
    if not {"I", "II", "III"} <= set(channels):
        return []
    limbs = [channels.index(name) for name in ("I", "II", "III")]
    valid = slice(None) if missing is None else ~missing[:, limbs].any(axis=1)
    first, second, third = samples[valid][:, limbs].astype(np.float64).T
    if not len(second) or second.max() == second.min():
        return []
    if np.std(first + third - second) <= EINTHOVEN * np.std(second):
        return []
    message = (
        "leads I, II and III do not belong together (I and III should add up to II): are the leads in "
        "the right order, and free of noise?"
    )
    return [Notice("leads", message)]


def _those(channels: list[str], which: np.ndarray, one: str, several: str) -> tuple[str, str]:
    names = [channels[number] for number in np.flatnonzero(which)]
    return listed(names), one if len(names) == 1 else several


def _is_clipped(samples: np.ndarray, extreme: np.ndarray, span: np.ndarray) -> np.ndarray:
    """Of each channel of `[T, C]`, whether it stays at its `extreme` `[C]` as a clipped one does."""
    at = samples == extreme
    if not (at[1:] & at[:-1]).any():
        return np.zeros(at.shape[1], dtype=bool)
    steep = np.abs(np.diff(samples, axis=0)) >= STEEP * span
    entered = at[2:] & at[1:-1] & ~at[:-2] & steep[:-1]
    left = at[:-2] & at[1:-1] & ~at[2:] & steep[1:]
    plateaus = np.maximum(entered.sum(axis=0), left.sum(axis=0))
    lasting = max(LASTING[0], int(LASTING[1] * len(samples)))
    return (plateaus >= PLATEAUS) | (_longest_run(at) >= lasting)


def _longest_run(at: np.ndarray) -> np.ndarray:
    """Of each column of `[T, C]` booleans, the longest stretch of True."""
    longest = np.zeros(at.shape[1], dtype=int)
    for column in np.flatnonzero(at.sum(axis=0) >= LASTING[0]):
        edges = np.flatnonzero(np.diff(at[:, column], prepend=False, append=False))
        longest[column] = (edges[1::2] - edges[::2]).max()
    return longest


# Images


def _image(recording: Recording, dataset: Mapping[str, Any]) -> Prepared:
    """Shares of white `[rows, columns]`, 0 for black."""
    notices: list[Notice] = []
    units = set(recording.units or [dataset["unit"]])
    if units == {GREY_LEVEL}:
        pixels = recording.samples.astype(np.float32) / np.float32(_WHITE)
        if pixels.mean() > 0.5:
            pixels = 1 - pixels
            notices.append(
                Notice("inverted", "dark on light in the image: inverted, as in training")
            )
    elif units == {dataset["unit"]}:
        pixels = recording.samples
    else:
        raise unfit(
            f"pixels in {listed(sorted(units))} cannot be used: send an image, or {dataset['unit']} "
            f"from 0 to 1"
        )
    if recording.sampling_rate is not None:
        notices.append(Notice("sampling_rate", "an image has no sampling rate: it is not used"))
    if not (np.isnan(pixels) | ((pixels >= 0) & (pixels <= 1))).all():
        raise unfit(
            f"pixels must be {dataset['unit']}, from 0 to 1: say X-Unit: {GREY_LEVEL} if they go from "
            f"0 to {_WHITE}"
        )
    pixels = _resized(pixels, dataset, notices)
    return Prepared(pixels, notices, len(pixels))


def _resized(pixels: np.ndarray, dataset: Mapping[str, Any], notices: list[Notice]) -> np.ndarray:
    rows, columns = dataset["length"], len(dataset["channels"])
    missing = int(np.count_nonzero(np.isnan(pixels)))
    if missing:
        notices.append(Notice("missing", f"{missing} of {pixels.size} pixels are missing"))
    if pixels.shape == (rows, columns):
        _check_present(pixels, dataset["channels"])
        return pixels
    if missing or min(pixels.shape) == 1:
        found = " x ".join(map(str, pixels.shape))
        raise unfit(
            f"{found} values{' of which some are missing' if missing else ''} are no image that can be "
            f"resized to {rows} x {columns}: send an image of this size"
        )
    message = f"resized from {pixels.shape[0]} x {pixels.shape[1]} to {rows} x {columns} pixels"
    notices.append(Notice("resized", message))
    image = Image.fromarray(np.ascontiguousarray(pixels, dtype=np.float32))
    smaller = image.resize((columns, rows), Image.Resampling.BILINEAR)
    return np.clip(np.asarray(smaller), 0, 1)


# Sound


def _sound(recording: Recording, dataset: Mapping[str, Any], limits: Serve) -> Prepared:
    """The spectrogram of a waveform `[samples, channels]`, by the code of extract_features."""
    notices: list[Notice] = []
    settings = {key: value for key, value in dataset["representation"].items() if key != "kind"}
    parameters = sound.ExtractFeatures.model_validate(settings)
    rate, wanted = recording.sampling_rate, settings["sampling_rate"]
    waveform = _waveform(recording, notices)
    if rate is None:
        raise unfit(f"the file names no sampling rate, which sound needs: {SAY_RATE}")
    waveform = _one_channel(waveform, parameters.channel)
    notices += _oddities(waveform[:, None], ["the sound"])
    if rate != wanted:
        _check_rates(rate, wanted)
        notices.append(_resampled_notice(rate, wanted))
    samples = audio.resampled_length(len(waveform), round(rate), wanted)
    if samples < parameters.frame:
        raise unfit(
            f"the sound has {samples} samples at {wanted} Hz, and its spectrogram needs "
            f"{parameters.frame} samples, {parameters.frame / wanted:.4g} s, or more: send a longer one"
        )
    length = _frames(samples, parameters.frame, parameters.hop)
    values = max(samples, length * parameters.bands)
    check_size(values, limits, f"the sound at {wanted:g} Hz")
    waveform = audio.resample(waveform, round(rate), wanted)
    spectrogram = _spectrogram(waveform, wanted, parameters)
    if len(spectrogram) < dataset["length"]:
        message = (
            f"the sound is shorter ({len(waveform) / wanted:.4g} s) than those of the training: it is "
            f"repeated, as in training"
        )
        notices.append(Notice("short", message))
        spectrogram = sound.repeated(spectrogram, dataset["length"])
    return Prepared(spectrogram, notices, length)


def _frames(samples: int, frame: int, hop: int) -> int:
    """How many frames :func:`beatline.features.sound.extract` cuts a waveform into."""
    return 1 + (samples + 2 * (frame // 2) - frame) // hop


def _waveform(recording: Recording, notices: list[Notice]) -> np.ndarray:
    """`[samples, channels]` float32 in full scale, without gaps."""
    odd = [unit for unit in recording.units or [] if unit.strip().casefold() != FULL_SCALE]
    if odd:
        what = "an image" if odd[0] == GREY_LEVEL else f"samples in {shown(odd[0], 30)!r}"
        raise unfit(f"{what} cannot be used as sound: send it in {FULL_SCALE}, from -1 to 1")
    waveform = recording.samples
    if recording.units is None and np.nanmax(np.abs(waveform)) > LOUDEST:
        raise unfit(
            f"the sound has samples beyond {LOUDEST:g}: send them in {FULL_SCALE}, from -1 to 1 (16-bit "
            f"integers divided by 32768)"
        )
    if waveform.shape[1] > len(waveform):  # channels x samples: none has more channels
        waveform = waveform.T
    names = [f"channel {number}" for number in range(1, waveform.shape[1] + 1)]
    _check_present(waveform, names)
    return _filled(waveform.astype(np.float32, copy=False), names, notices)[0]


def _one_channel(waveform: np.ndarray, channel: audio.Channel) -> np.ndarray:
    try:
        return audio.mono(waveform, channel, "the sound")
    except UserError:
        raise unfit(
            f"the sound has {waveform.shape[1]} channels, and the model listens to number {channel}: "
            f"send a sound that has it"
        ) from None


def _spectrogram(waveform: np.ndarray, rate: int, parameters: sound.ExtractFeatures) -> np.ndarray:
    try:
        return next(sound.extract([waveform], rate, parameters)).spectrograms[0]
    except UserError as error:
        raise _unusable(error) from None


def _unusable(error: UserError) -> Problem:
    reason = str(error).partition(":")[0]
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"the sound cannot be used ({reason})")
