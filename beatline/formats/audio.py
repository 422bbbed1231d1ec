"""Audio files as samples in full scale: WAV, FLAC, Ogg and MP3, read from memory.

Plain WAV files (the bulk of machine sound) are sliced out of the bytes without a library, which is
five times faster than one; everything else goes through libsndfile. The samples are those of
``librosa.load(..., sr=None)``: integers over 2^(bits - 1), floats as they are.

The layout of a WAV file is that of Microsoft's and IBM's "Multimedia Programming Interface and Data
Specifications 1.0" (1991) and of WAVEFORMATEXTENSIBLE.
"""

from __future__ import annotations

import io
import math
import struct
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import soundfile
import soxr
from pydantic import Field

from beatline.common.errors import UserError

EXTENSIONS = (".wav", ".flac", ".ogg", ".mp3")
Channel = Annotated[int, Field(ge=1)] | Literal["mean"]

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_FORMAT = struct.Struct("<HHIIHH")  # format, channels, sampling rate, bytes/s, bytes/frame, bits
_UNKNOWN_SIZE = 0xFFFFFFFF  # of a file that was written to a pipe
_OGG_PAGE = struct.Struct("<4s22xB")  # capture pattern, number of segments
_SAMPLES = {(_PCM, 8): "u1", (_PCM, 16): "<i2", (_PCM, 32): "<i4", (_FLOAT, 32): "<f4",
            (_FLOAT, 64): "<f8"}  # fmt: skip


class NotFinite(UserError):
    """A sound that holds NaN or infinity."""


@dataclass(frozen=True)
class Sound:
    """`samples`: float32 `[samples, channels]` in full scale. `sampling_rate`: in Hz."""

    samples: np.ndarray
    sampling_rate: int


def read(content: bytes | memoryview, where: str) -> Sound:
    """The sound in a file's content; `where` is its name, for messages.

    Raises UserError if it is no audio, cut short or holds no sample, NotFinite if one is not finite.
    """
    sound = _plain_wav(memoryview(content), where) or _any_format(content, where)
    if not len(sound.samples):
        raise UserError(f"{where} holds no samples: record it again, or remove it")
    if not np.isfinite(sound.samples.sum()) and not np.isfinite(sound.samples).all():
        raise NotFinite(f"{where} holds samples that are not finite: repair or remove it")
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


def resample(samples: np.ndarray, sampling_rate: int, wanted: int) -> np.ndarray:
    """`[samples]` at another sampling rate (Hz), as ``librosa.resample`` with `soxr_hq` does it."""
    if sampling_rate == wanted:
        return samples
    length = resampled_length(len(samples), sampling_rate, wanted)
    resampled = soxr.resample(np.ascontiguousarray(samples), sampling_rate, wanted, quality="HQ")
    return np.pad(resampled[:length], (0, max(0, length - len(resampled))))


def resampled_length(samples: int, sampling_rate: int, wanted: int) -> int:
    """How many samples :func:`resample` gives for so many."""
    return math.ceil(samples * wanted / sampling_rate)


def _plain_wav(content: memoryview, where: str) -> Sound | None:
    """The sound of a WAV file of integers or floats; None for whatever else a file may be."""
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        return None
    position, header = 12, None
    while position + 8 <= len(content):
        kind, size = struct.unpack_from("<4sI", content, position)
        position += 8
        if kind == b"fmt ":
            header = content[position : position + size]
        if kind == b"data":
            size = len(content) - position if size == _UNKNOWN_SIZE else size
            if position + size > len(content):
                raise _cut_short(where)
            return _wav_samples(header, content[position : position + size])
        position += size + size % 2
    raise _cut_short(where)


def _wav_samples(header: memoryview | None, data: memoryview) -> Sound | None:
    if header is None or len(header) < _FORMAT.size:
        return None
    code, channels, rate, _, frame, bits = _FORMAT.unpack_from(header)
    if code == _EXTENSIBLE and len(header) >= 26:
        (code,) = struct.unpack_from("<H", header, 24)
    if not channels or not rate or not frame or frame * 8 != channels * bits:
        return None
    data = data[: len(data) // frame * frame]
    if (code, bits) == (_PCM, 24):
        samples = _from_24_bits(data)
    elif dtype := _SAMPLES.get((code, bits)):
        samples = np.frombuffer(data, dtype)
    else:
        return None
    return Sound(_full_scale(samples).reshape(-1, channels), rate)


def _from_24_bits(data: memoryview) -> np.ndarray:
    """Integers of three bytes as the upper three of four."""
    wide = np.zeros((len(data) // 3, 4), np.uint8)
    wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
    return wide.reshape(-1).view("<i4")


def _full_scale(samples: np.ndarray) -> np.ndarray:
    values = samples.astype(np.float32)
    if samples.dtype == np.uint8:
        return (values - 128) / 128
    if samples.dtype.kind == "i":
        values *= np.float32(2.0 ** (1 - 8 * samples.dtype.itemsize))
    return values


def _any_format(content: bytes | memoryview, where: str) -> Sound:
    """Whatever libsndfile reads."""
    if content[:4] == b"OggS":
        _check_ogg_pages(memoryview(content), where)
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            samples = file.read(dtype="float32", always_2d=True)
            claimed, rate = file.frames, file.samplerate
    except soundfile.SoundFileError as error:
        reason = str(getattr(error, "error_string", error)).rstrip(".")
        raise UserError(f"{where} is no audio file that can be read ({reason}): get it again, "
                        f"or remove it") from None  # fmt: skip
    if len(samples) < claimed:
        raise _cut_short(where)
    return Sound(samples, rate)


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
