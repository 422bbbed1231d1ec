"""Sounds of every format, whole, joined and damaged: read to the last sample, or refused in a sentence.

What is read is held to NumPy's arithmetic for PCM, and to miniaudio (dr_libs, stb_vorbis), which shares
no code with libsndfile: FLAC, A-law, µ-law and ADPCM to the last bit or nearly, Vorbis and MP3 within
rounding. miniaudio does not read Opus: its length is what was written, and its samples are those of the
undamaged file. A flipped bit of WAV data or an MP3 frame is another sound, as there is no checksum: there
miniaudio's reading of the same bytes counts. Of ADPCM and MP3 the length alone does, as decoders differ
in what they make of damage: miniaudio leaves out MP3 frames that it cannot decode.

400 cases by default; ``FUZZ_CASES=20000 pytest tests/formats/test_fuzz_audio.py`` runs as many.
"""

from __future__ import annotations

import io
import os
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import miniaudio
import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beatline.common.errors import UserError
from beatline.formats import audio

CASES = int(os.environ.get("FUZZ_CASES", "400"))
OUTCOMES: Counter[str] = Counter()
WAV = (
    "PCM_U8",
    "PCM_16",
    "PCM_24",
    "PCM_32",
    "FLOAT",
    "DOUBLE",
    "ALAW",
    "ULAW",
    "MS_ADPCM",
    "IMA_ADPCM",
)
KINDS = (
    [("WAV", coding) for coding in WAV]
    + [(container, "PCM_16") for container in ("WAVEX", "RF64", "RIFX", "BW64")]
    + [("FLAC", "PCM_16"), ("FLAC", "PCM_24"), ("FLAC", "unknown length")]
    + [("OGG", "VORBIS"), ("OGG", "OPUS")]
    + [("MP3", coding) for coding in ("CONSTANT", "VARIABLE", "CONSTANT bare", "VARIABLE bare")]
)
ID3 = b"ID3\4\0\0\0\0\0\x0a" + bytes(10)
LIST = b"LIST" + struct.pack("<I", 7) + b"INFOabc\0"


@dataclass(frozen=True)
class Case:
    """A file, its samples, and how near they are to be."""

    content: bytes
    samples: np.ndarray
    near: float


def _waveform(seed: int, channels: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    samples = int(random.integers(300, 9000))
    return random.normal(0, 0.15, (samples, channels)).clip(-0.99, 0.99)


@cache
def case(container: str, coding: str, rate: int, channels: int, seed: int) -> Case:
    """A sound in a file in order, and what an independent decoder reads in it."""
    waveform, file = _waveform(seed, channels), io.BytesIO()
    if container == "MP3":
        mode: Any = coding.split()[0]
        waveform[: len(waveform) // 2] *= 0.01
        form: Any = {"format": "MP3", "subtype": "MPEG_LAYER_III", "bitrate_mode": mode}
        with soundfile.SoundFile(file, "w", rate, channels, compression_level=0.5, **form) as mp3:
            mp3.write(waveform)
        content = file.getvalue()
        content = content[content.index(content[:2], 4) :] if coding.endswith("bare") else content
        return Case(content, _by_miniaudio(content), 1e-4)
    written = "WAV" if container == "RIFX" else "RF64" if container == "BW64" else container
    subtype = "PCM_16" if coding == "unknown length" else coding
    soundfile.write(file, waveform, rate, format=written, subtype=subtype)
    content = bytearray(file.getvalue())
    if container == "RIFX":
        numbers = struct.unpack_from("<I4s4sIHHIIHH4sI", content, 4)
        data = np.frombuffer(bytes(content), "<i2", offset=44).astype(">i2").tobytes()
        content = b"RIFX" + struct.pack(">I4s4sIHHIIHH4sI", *numbers) + data
    elif container == "BW64":
        content[:4] = b"BW64"
    elif coding == "unknown length":
        content[21] &= 0xF0
        content[22:26] = bytes(4)
    return Case(bytes(content), *_expected(bytes(content), container, coding, waveform))


def _expected(
    content: bytes, container: str, coding: str, waveform: np.ndarray
) -> tuple[np.ndarray, float]:
    if coding == "OPUS":
        samples = audio.read(content, "x").samples
        assert len(samples) == len(waveform)
        return samples, 0.0
    kinds = {"PCM_U8": "u1", "PCM_16": "i2", "PCM_32": "i4", "FLOAT": "f4", "DOUBLE": "f8"}
    if container != "FLAC" and coding in kinds:
        kind, order = kinds[coding], ">" if container == "RIFX" else "<"
        start = content.index(b"data") + 8
        stored = np.frombuffer(content, order + kind, waveform.size, start).astype(float)
        zero = 128 if coding == "PCM_U8" else 0
        scale = 1.0 if kind[0] == "f" else 2.0 ** (8 * int(kind[1]) - 1)
        return ((stored - zero) / scale).reshape(waveform.shape).astype(np.float32), 0.0
    samples = _by_miniaudio(content)
    if coding == "MS_ADPCM":  # of which miniaudio, too, takes the filling for sound
        samples = samples[: len(waveform)]
    return samples, 2e-4 if coding == "VORBIS" else 1e-4 if "LAW" in coding else 1e-6


def _by_miniaudio(content: bytes) -> np.ndarray:
    readers: dict[bytes, Callable[[bytes], Any]] = {
        b"fLaC": miniaudio.flac_read_f32,
        b"OggS": miniaudio.vorbis_read,
        b"RIFF": miniaudio.wav_read_f32,
    }
    decoded = readers.get(content[:4], miniaudio.mp3_read_f32)(content)
    samples = np.asarray(decoded.samples).reshape(-1, decoded.nchannels)
    return samples / np.float32(2**15) if samples.dtype == np.int16 else samples


def _same(samples: np.ndarray, expected: np.ndarray, near: float) -> bool:
    limit = 1 if near else np.inf  # miniaudio's lossy decoders do not go beyond full scale
    return samples.shape == expected.shape and bool(
        np.abs(samples.clip(-limit, limit) - expected.clip(-limit, limit)).max(initial=0) <= near
    )


def read(content: bytes) -> audio.Sound | None:
    """The sound, or None after checking that it was refused in one sentence with a cure."""
    try:
        return audio.read(content, "pump.x")
    except UserError as error:
        message = str(error)
        assert message.startswith("pump.x ") and ": " in message and message.isprintable()
        OUTCOMES[
            f"refused: {''.join(' ' if c.isdigit() else c for c in message.rpartition(': ')[0])}"
        ] += 1
        return None


@pytest.fixture(scope="module", autouse=True)
def outcomes() -> Iterator[None]:
    """Print what became of all cases, for ``pytest -s``."""
    yield
    for name, number in OUTCOMES.most_common():
        print(f"{number:6} {name}")


fuzzed = settings(max_examples=max(1, CASES // 4), suppress_health_check=[HealthCheck.too_slow])
cases = st.builds(
    lambda kind, rate, channels, seed: (kind, case(*kind, rate, channels, seed)),
    st.sampled_from(KINDS),
    st.sampled_from([8000, 16000, 48000]),
    st.integers(1, 2),
    st.integers(0, 30),
)


@fuzzed
@given(cases, st.booleans(), st.sampled_from(["", "tag", "chunk", "sizes"]))
def test_files_in_order(drawn: tuple[tuple[str, str], Case], before: bool, after: str) -> None:
    """Every sample, with tags and chunks around them and sizes that were never filled in."""
    (container, coding), whole = drawn
    content = whole.content
    wav = container in ("WAV", "WAVEX")
    if after == "tag" and container == "MP3":
        content += b"TAG" + bytes(125)
    elif after == "chunk" and wav:
        content += bytes(len(content) % 2) + LIST
        content = content[:12] + LIST + content[12:]
    elif after == "sizes" and container == "WAV" and "ADPCM" not in coding:
        place = content.index(b"data") + 4
        content = content[:place] + b"\xff" * 4 + content[place + 4 :]
    content = (ID3 if before else b"") + content
    sound = read(content)
    if after == "sizes" and sound is not None and wav:
        # What follows the data of unknown size counts as sound: a byte of padding, a PEAK chunk.
        assert _same(sound.samples[: len(whole.samples)], whole.samples, whole.near)
        assert len(sound.samples) <= len(whole.samples) + 1
    else:
        assert sound is not None and _same(sound.samples, whole.samples, whole.near)
    OUTCOMES["equal"] += 1


@fuzzed
@given(cases, cases)
def test_joined(one: tuple[tuple[str, str], Case], other: tuple[tuple[str, str], Case]) -> None:
    """All of both, or a sentence."""
    sound = read(one[1].content + other[1].content)
    if sound is not None:
        near = max(one[1].near, other[1].near)
        apart = [one[1].samples, other[1].samples]
        if one[0][0] == "MP3":  # the decoder's window and reservoir reach over the joint
            assert len(sound.samples) == sum(map(len, apart))
        else:
            assert _same(sound.samples, np.concatenate(apart), near)
        OUTCOMES["equal, joined"] += 1


@fuzzed
@given(cases, st.data())
def test_cut(drawn: tuple[tuple[str, str], Case], data: st.DataObject) -> None:
    """At either end or in between: refused, unless nothing of the sound is gone. (One byte less of a WAV
    file may be the one that made its data even.)"""
    (container, coding), whole = drawn
    content = whole.content
    start = data.draw(st.integers(0, len(content) - 1))
    length = data.draw(st.sampled_from([2, 4, 100, len(content)]))
    sound = read(content[:start] + content[start + length :])
    if sound is None:
        return
    if container == "MP3" or coding == "unknown length" or start < 100:
        # A frame less of MP3, or of FLAC at its end, and a shorter header make another file.
        reference = _reference(content[:start] + content[start + length :])
        assert reference is None or len(reference) == len(sound.samples)
        OUTCOMES["equal to miniaudio, cut"] += 1
        return
    assert _same(sound.samples, whole.samples, whole.near)
    OUTCOMES["equal, cut"] += 1


def _reference(content: bytes) -> np.ndarray | None:
    try:
        return _by_miniaudio(content)
    except (miniaudio.DecodeError, miniaudio.MiniaudioError):
        return None


@fuzzed
@given(cases, st.data())
def test_flipped(drawn: tuple[tuple[str, str], Case], data: st.DataObject) -> None:
    """Another sound only where the bytes say so to an independent decoder, too."""
    (container, coding), whole = drawn
    content = bytearray(whole.content)
    end = data.draw(st.sampled_from([64, len(content)]))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, end - 1))] ^= 1 << data.draw(st.integers(0, 7))
    sound = read(bytes(content))
    if sound is None:
        return
    if _same(sound.samples, whole.samples, whole.near):
        OUTCOMES["equal, flipped"] += 1
        return
    assert container not in ("FLAC", "OGG")
    reference = _reference(bytes(content))
    if container == "MP3":
        # Where a tag is damaged, some heed it and some do not; mpg123 leaves its delay (529) out.
        least = len(whole.samples) if reference is None else len(reference) - 529
        assert len(sound.samples) >= min(least, len(whole.samples))
        OUTCOMES["not shorter than miniaudio, flipped"] += 1
    elif "ADPCM" in coding:  # whose fact chunk says where in the last block the sound ends
        assert abs(sound.samples.size - whole.samples.size) < 8192
        OUTCOMES["as long but for a block, flipped"] += 1
    elif reference is None or container in ("RIFX", "RF64", "BW64"):
        size = whole.samples.size  # a header may halve the width of a sample, or double it
        assert sound.samples.size in (size, size // 2, 2 * size)
        OUTCOMES["as long, flipped"] += 1
    else:
        # Of 8 bits miniaudio makes 2 x / 255 - 1.
        near = 0.01 if coding == "PCM_U8" else max(whole.near, 1e-6)
        assert _same(sound.samples, reference[: len(sound.samples)], near)
        OUTCOMES["equal to miniaudio, flipped"] += 1
