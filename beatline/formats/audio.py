"""Audio files as samples in full scale: WAV, FLAC, Ogg and MP3, decoded from memory by libsndfile.

The samples are those of ``librosa.load(..., sr=None)``: integers over 2^(bits - 1), floats as they
are. Whether all of a file is there says :mod:`beatline.formats.containers`.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import soundfile
import soxr
from pydantic import Field

from beatline.common.errors import UserError
from beatline.formats.containers import Stream, cut_short, damaged, streams

EXTENSIONS = (".wav", ".flac", ".ogg", ".mp3")
FULL_SCALE = "full scale"  # the unit of samples, from -1 to 1
Channel = Annotated[int, Field(ge=1)] | Literal["mean"]

_BLOCK = 1 << 18  # values decoded at a time
_RATES = (100, 10_000_000)  # Hz: below and above no microphone was sampled


class Unusable(UserError):
    """A file that can be read, and holds no samples, or some that are NaN or infinite."""


@dataclass(frozen=True)
class Sound:
    """`samples`: float32 `[samples, channels]` in full scale. `sampling_rate`: in Hz."""

    samples: np.ndarray
    sampling_rate: int


class TooLong(UserError):
    """A sound of more values than the caller takes; how many it announces, or has so far."""

    def __init__(self, values: int, where: str) -> None:
        super().__init__(f"{where} holds {values:,} values, which are too many: send a part of it")
        self.values = values


def read(content: bytes | memoryview, where: str, most: float = math.inf) -> Sound:
    """The sound in a file's content; `where` is its name, for messages.

    Raises UserError if it is no audio or cut short, Unusable if it holds no sample or one that is not
    finite, and TooLong if it announces more than `most` values, or as soon as more are decoded.
    """
    sound = _decoded(content, where, most)
    if not len(sound.samples):
        raise Unusable(f"{where} holds no samples: record it again, or remove it")
    if not np.isfinite(sound.samples.sum()) and not np.isfinite(sound.samples).all():
        raise Unusable(f"{where} holds samples that are not finite: repair or remove it")
    return sound


def mono(samples: np.ndarray, channel: int | str, where: str) -> np.ndarray:
    """`[samples, channels]` to `[samples]`: the mean of all channels, or one, counted from 1.

    Raises UserError if there is no such channel.
    """
    if channel == "mean":
        return samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1)
    if not 1 <= int(channel) <= samples.shape[1]:
        raise UserError(
            f"{where} has {samples.shape[1]} channel(s), none with the number {channel}: set "
            f"`channel` in params.yaml to mean, or to a number from 1 to {samples.shape[1]}"
        )
    return samples[:, int(channel) - 1]


def resample(samples: np.ndarray, sampling_rate: int, target_rate: int) -> np.ndarray:
    """`[samples]` at another sampling rate (Hz), as ``librosa.resample`` with `soxr_hq` does it."""
    if sampling_rate == target_rate:
        return samples
    length = resampled_length(len(samples), sampling_rate, target_rate)
    resampled = soxr.resample(
        np.ascontiguousarray(samples), sampling_rate, target_rate, quality="HQ"
    )
    return np.pad(resampled[:length], (0, max(0, length - len(resampled))))


def resampled_length(samples: int, sampling_rate: int, target_rate: int) -> int:
    """How many samples :func:`resample` gives for so many."""
    return math.ceil(samples * target_rate / sampling_rate)


class _File(soundfile.SoundFile):
    """A file read from front to back: libsndfile cannot go to a place in each that it can read."""

    def seekable(self) -> bool:
        return False


def _decoded(content: bytes | memoryview, where: str, most: float) -> Sound:
    blocks: list[np.ndarray] = []
    forms = set()
    try:
        for stream in streams(content, where):
            with _File(io.BytesIO(stream.content)) as file:
                forms.add((file.samplerate, file.channels))
                _check(file, forms, where)
                before = sum(block.size for block in blocks)
                blocks += _blocks(file, stream, before, most, where)
    except soundfile.SoundFileError as error:
        reason = str(getattr(error, "error_string", error)).rstrip(".")
        raise UserError(
            f"{where} is no audio file that can be read ({reason}): get it again, or remove it"
        ) from None
    (rate, _), *_ = forms
    return Sound(np.concatenate(blocks), rate)


def _check(file: _File, forms: set[tuple[int, int]], where: str) -> None:
    if not soundfile.SoundFile.seekable(file):  # its last block would be filled up
        raise UserError(
            f"{where} is coded as {file.subtype}, which does not say how many samples it has:"
            " convert it to PCM, or remove it"
        )
    if len(forms) > 1:
        raise UserError(
            f"{where} consists of streams that differ in sampling rate or channels: export each as "
            f"a file, or remove it"
        )
    if not _RATES[0] <= file.samplerate <= _RATES[1]:
        raise UserError(
            f"{where} says that it was sampled at {file.samplerate} Hz: correct its header, or "
            f"remove it"
        )


def _blocks(
    file: _File, stream: Stream, before: int, most: float, where: str
) -> Iterator[np.ndarray]:
    """Yield `[frames, channels]` until the stream ends, or holds more than `most` values, with `before`
    that were read already; raises UserError if it holds fewer or more than it announces."""
    announced = file.frames if stream.frames is None else stream.frames
    frames, block = 0, np.empty((0, file.channels), np.float32)
    while True:
        values = before + max(announced, frames) * file.channels
        if values > most:
            raise TooLong(values, where)
        yield block
        block = file.read(_BLOCK // file.channels, dtype="float32", always_2d=True)
        if stream.filled and stream.frames is not None:
            block = block[: stream.frames - frames]
        if not len(block):
            break
        frames += len(block)
    if frames < announced:
        raise cut_short(where)
    if stream.frames is not None and frames > stream.frames:
        raise damaged(where, f"a gap after {stream.frames} of {frames} samples")
