"""Sound as the spectrograms of the training, by the code of extract_features."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from beatline.common.errors import UserError, shown
from beatline.features import sound
from beatline.formats import audio
from beatline.formats.oddities import oddities
from beatline.formats.recording import Notice, Recording, note
from beatline.formats.resampling import MOST_RESAMPLED
from beatline.serving.preparation.signals import (
    SAY_RATE,
    check_present,
    filled,
    resampling,
)
from beatline.serving.problems import unfit
from beatline.serving.recording import Prepared
from beatline.serving.settings import Serve
from beatline.serving.uploads.checks import check_size
from beatline.serving.uploads.images import GREY_LEVEL

LOUDEST = 1.5  # of samples in full scale: a little more than 1, but no integers


def steps(recording: Recording, dataset: Mapping[str, Any]) -> int:
    """Return how many frames a spectrogram will have, give or take one."""
    settings, rate = dataset["representation"], recording.sampling_rate
    times = 1 if rate is None else min(settings["sampling_rate"] / rate, MOST_RESAMPLED)
    samples = math.ceil(max(recording.samples.shape) * times)
    return max(_frames(samples, settings["frame"], settings["hop"]), dataset["length"])


def prepare(recording: Recording, dataset: Mapping[str, Any], limits: Serve) -> Prepared:
    """The spectrogram of a waveform `[samples, channels]`."""
    notices: list[Notice] = []
    settings = {key: value for key, value in dataset["representation"].items() if key != "kind"}
    parameters = sound.ExtractFeatures.model_validate(settings)
    rate, wanted = recording.sampling_rate, settings["sampling_rate"]
    waveform = _waveform(recording, notices)
    if rate is None:
        raise unfit(f"the file names no sampling rate, which sound needs: {SAY_RATE}")
    waveform = _one_channel(waveform, parameters.channel)
    notices += oddities(waveform[:, None], ["the sound"])
    if rate != wanted:
        notices.append(resampling(rate, wanted))
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
    try:
        extracted = next(sound.extract([waveform], wanted, parameters))
    except UserError as error:
        raise unfit(f"the sound cannot be used ({str(error).partition(':')[0]})") from None
    spectrogram = extracted.spectrograms[0]
    if len(spectrogram) < dataset["length"]:
        message = (
            f"the sound is shorter ({len(waveform) / wanted:.4g} s) than those of the training: it is "
            f"repeated, as in training"
        )
        notices.append(note("short", message))
        spectrogram = sound.repeated(spectrogram, dataset["length"])
    return Prepared(spectrogram, notices, length, extracted.features[0], waveform)


def _frames(samples: int, frame: int, hop: int) -> int:
    """Return how many frames :func:`beatline.features.sound.extract` cuts a waveform into."""
    return 1 + (samples + 2 * (frame // 2) - frame) // hop


def _waveform(recording: Recording, notices: list[Notice]) -> np.ndarray:
    """`[samples, channels]` float32 in full scale, without gaps."""
    odd = [unit for unit in recording.units or [] if unit.strip().casefold() != audio.FULL_SCALE]
    if odd:
        refused = "an image" if odd[0] == GREY_LEVEL else f"samples in {shown(odd[0], 30)!r}"
        raise unfit(
            f"{refused} cannot be used as sound: send it in {audio.FULL_SCALE}, from -1 to 1"
        )
    waveform = recording.samples
    if recording.units is None and np.nanmax(np.abs(waveform)) > LOUDEST:
        raise unfit(
            f"the sound has samples beyond {LOUDEST:g}: send them in {audio.FULL_SCALE}, from -1 to 1 "
            f"(16-bit integers divided by 32768)"
        )
    if waveform.shape[1] > len(waveform):  # channels x samples: none has more channels
        waveform = waveform.T
    names = [f"channel {number}" for number in range(1, waveform.shape[1] + 1)]
    check_present(waveform, names)
    return filled(waveform.astype(np.float32, copy=False), names, notices)[0]


def _one_channel(waveform: np.ndarray, channel: audio.Channel) -> np.ndarray:
    try:
        return audio.mono(waveform, channel, "the sound")
    except UserError:
        raise unfit(
            f"the sound has {waveform.shape[1]} channels, and the model listens to number {channel}: "
            f"send a sound that has it"
        ) from None
