"""Audio files as samples in full scale: WAV, FLAC, Ogg and MP3, decoded from memory by libsndfile.

The samples are those of ``librosa.load(..., sr=None)``: integers over 2^(bits - 1), floats as they
are. Of our own is only the look whether all of a file is there, where libsndfile takes what it gets:
WAV (Microsoft's and IBM's "Multimedia Programming Interface and Data Specifications 1.0", 1991) and
Ogg (RFC 3533).
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import soundfile
import soxr
from pydantic import Field

from beatline.common.errors import UserError

EXTENSIONS = (".wav", ".flac", ".ogg", ".mp3")
Channel = Annotated[int, Field(ge=1)] | Literal["mean"]

_BLOCK = 1 << 18  # values decoded at a time
_UNKNOWN_FRAMES = 1 << 62  # and more: what libsndfile says of a FLAC file that was streamed
_PLACEHOLDER = 0x7FFF0000  # bytes, and more: of a WAV file that was streamed
_OGG_PAGE = struct.Struct("<4s22xB")  # capture pattern, number of segments


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
    if content[:4] in (b"RIFF", b"RIFX") and content[8:12] == b"WAVE":
        content = _bare_wav(content, where)
    if content[:4] == b"OggS":
        _check_ogg_pages(memoryview(content), where)
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


class _Stream(soundfile.SoundFile):
    """A file read from front to back: libsndfile cannot go to a place in each that it can read."""

    def seekable(self) -> bool:
        return False


def _decoded(content: bytes | memoryview, where: str, most: float) -> Sound:
    try:
        with _Stream(io.BytesIO(content)) as file:
            if not soundfile.SoundFile.seekable(file):  # its last block would be filled up
                raise UserError(
                    f"{where} is coded as {file.subtype}, which does not say how many samples it has:"
                    " convert it to PCM, or remove it"
                )
            announced = file.frames if file.frames < _UNKNOWN_FRAMES else 0
            samples = np.concatenate(list(_blocks(file, announced, most, where)))
            rate = file.samplerate
    except soundfile.SoundFileError as error:
        reason = str(getattr(error, "error_string", error)).rstrip(".")
        raise UserError(
            f"{where} is no audio file that can be read ({reason}): get it again, or remove it"
        ) from None
    if len(samples) < announced:
        raise _cut_short(where)
    return Sound(samples, rate)


def _blocks(file: _Stream, announced: int, most: float, where: str) -> Iterator[np.ndarray]:
    """Yield `[frames, channels]` until the file ends, or holds more than `most` values."""
    values = announced * file.channels
    frames, block = 0, np.empty((0, file.channels), np.float32)
    while True:
        if values > most:
            raise TooLong(values, where)
        yield block
        block = file.read(_BLOCK // file.channels, dtype="float32", always_2d=True)
        if not len(block):
            return
        frames += len(block)
        values = max(values, frames * file.channels)


def _bare_wav(content: bytes | memoryview, where: str) -> bytes | memoryview:
    """A WAV file of its format and its data alone, of which all are there.

    libsndfile takes what it gets of data that are cut short, and refuses a file for chunks that say
    nothing about the sound. Programs that write to a pipe (sox, arecord, ffmpeg) leave a size near 2
    or 4 GB where that of the data should stand, and one that was stopped leaves 0.
    """
    order = ">" if content[:4] == b"RIFX" else "<"
    (whole,) = struct.unpack_from(f"{order}I", content, 4)
    position, kept = 12, [content[:12]]
    while position + 8 <= len(content):
        kind, size = struct.unpack_from(f"{order}4sI", content, position)
        start, left = position + 8, len(content) - position - 8
        if kind == b"data":
            if size >= _PLACEHOLDER or (not size and whole <= position):
                size = left
            if size > left:
                raise _cut_short(where)
            announced = struct.pack(f"{order}4sI", kind, min(size, 0xFFFFFFFF))
            return b"".join((*kept, announced, content[start : start + size]))
        position = start + size + size % 2
        if kind == b"fmt ":
            kept.append(content[start - 8 : position])
    raise _cut_short(where)


def _check_ogg_pages(content: memoryview, where: str) -> None:
    """Raise UserError unless the last page is whole (RFC 3533): libsndfile would just stop there."""
    position = 0
    while position < len(content):
        if position + _OGG_PAGE.size > len(content):
            raise _cut_short(where)
        capture, segments = _OGG_PAGE.unpack_from(content, position)
        if capture != b"OggS":
            return  # something follows that is no Ogg: libsndfile's to judge
        lacing = content[position + _OGG_PAGE.size : position + _OGG_PAGE.size + segments]
        position += _OGG_PAGE.size + segments + sum(lacing)
    if position > len(content):
        raise _cut_short(where)


def _cut_short(where: str) -> UserError:
    return UserError(f"{where} is cut short: get it again, or remove it")
