"""Audio files: the samples of every format are librosa's, and every damage is named with its file."""

from __future__ import annotations

import io

import librosa
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import wavfile

from beatline.common.errors import UserError
from beatline.formats import audio

RATE = 16000
FORMATS = [
    ("WAV", "PCM_U8"),
    ("WAV", "PCM_16"),
    ("WAV", "PCM_24"),
    ("WAV", "PCM_32"),
    ("WAV", "FLOAT"),
    ("WAV", "DOUBLE"),
    ("WAV", "ULAW"),
    ("WAV", "MS_ADPCM"),
    ("WAVEX", "PCM_16"),
    ("WAVEX", "FLOAT"),
    ("FLAC", "PCM_16"),
    ("FLAC", "PCM_24"),
    ("OGG", "VORBIS"),
    ("MP3", "MPEG_LAYER_III"),
]
formats = pytest.mark.parametrize(("container", "coding"), FORMATS)


def encoded(container: str, coding: str, channels: int = 1, samples: int = 12001) -> bytes:
    sound = np.random.default_rng(1).normal(0, 0.2, (samples, channels)).clip(-1, 1)
    file = io.BytesIO()
    soundfile.write(file, sound, RATE, format=container, subtype=coding)
    return file.getvalue()


@formats
@pytest.mark.parametrize("channels", [1, 2])
def test_samples_are_those_of_librosa(container: str, coding: str, channels: int) -> None:
    """Full scale, the order of the channels and the mix to one are those of librosa.load(sr=None)."""
    content = encoded(container, coding, channels)
    sound = audio.read(content, "x")
    apart, rate = librosa.load(io.BytesIO(content), sr=None, mono=False)
    assert sound.sampling_rate == rate and sound.samples.dtype == np.float32
    np.testing.assert_allclose(sound.samples, np.atleast_2d(apart).T, rtol=0, atol=1e-6)
    mixed, _ = librosa.load(io.BytesIO(content), sr=None)
    np.testing.assert_allclose(audio.mono(sound.samples, "mean", "x"), mixed, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(audio.mono(sound.samples, channels, "x"), sound.samples[:, -1])


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["u1", "<i2", "<i4", "<f4", "<f8"]),
    st.integers(1, 8),
    st.integers(1, 40),
    st.integers(0, 2**32 - 1),
)
def test_plain_wav_at_its_extremes(dtype: str, channels: int, samples: int, seed: int) -> None:
    """The reader without a library agrees with libsndfile on any bytes that a WAV file may hold."""
    kind = np.dtype(dtype)
    rng = np.random.default_rng(seed)
    if kind.kind == "f":
        values = rng.uniform(-3, 3, (samples, channels)).astype(kind)
    else:
        limits = np.iinfo(kind)
        values = rng.integers(limits.min, limits.max, (samples, channels), kind, endpoint=True)
    file = io.BytesIO()
    wavfile.write(file, 44100, values)
    reference, rate = soundfile.read(io.BytesIO(file.getvalue()), dtype="float32", always_2d=True)
    sound = audio.read(file.getvalue(), "x")
    assert sound.sampling_rate == rate == 44100
    np.testing.assert_allclose(sound.samples, reference, rtol=0, atol=1e-6)


@formats
@pytest.mark.parametrize("part", [0.03, 0.5, 0.999])
def test_a_file_cut_short_is_named(container: str, coding: str, part: float) -> None:
    """Half a recording must not be taken for a short one, whatever its format."""
    content = encoded(container, coding)
    with pytest.raises(UserError, match=r"^pump\.x is (cut short|no audio file)"):
        audio.read(content[: int(len(content) * part)], "pump.x")


@pytest.mark.parametrize(
    "content", [b"", b"RIFF", b"no sound at all " * 90, bytes(5000), b"RIFF\0\0\0\0WAVEfmt "]
)
def test_what_is_no_audio_is_named(content: bytes) -> None:
    """Text, zeros and headers without a body end in a sentence with the file's name."""
    with pytest.raises(UserError, match=r"^a\.wav is (no audio file|cut short)"):
        audio.read(content, "a.wav")


def test_an_empty_recording_is_named() -> None:
    """A file with a header and no samples is refused."""
    with pytest.raises(UserError, match=r"^a\.wav holds no samples"):
        audio.read(encoded("WAV", "PCM_16", samples=0), "a.wav")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_that_are_not_finite_are_named(bad: float) -> None:
    """One NaN would make a whole spectrogram NaN, and every score after it."""
    file = io.BytesIO()
    wavfile.write(file, RATE, np.array([0.1, bad, 0.2], np.float32))
    with pytest.raises(UserError, match=r"^a\.wav holds samples that are not finite"):
        audio.read(file.getvalue(), "a.wav")


def test_a_header_that_announces_frames_of_no_bytes() -> None:
    """0 bits in frames of 0 bytes agree with each other, and are no sound."""
    content = bytearray(encoded("WAV", "PCM_16"))
    place = content.index(b"fmt ") + 8
    content[place + 12 : place + 16] = bytes(4)
    with pytest.raises(UserError, match=r"^a\.wav is no audio file that can be read"):
        audio.read(bytes(content), "a.wav")


def test_a_wav_file_of_unknown_length_is_read_to_its_end() -> None:
    """Programs that write to a pipe leave 0xFFFFFFFF where the size should stand."""
    content = bytearray(encoded("WAV", "PCM_16"))
    place = content.index(b"data") + 4
    expected = audio.read(bytes(content), "x").samples
    content[place : place + 4] = b"\xff" * 4
    np.testing.assert_array_equal(audio.read(bytes(content), "x").samples, expected)


@pytest.mark.parametrize(("rate", "wanted"), [(48000, 16000), (22050, 16000), (16000, 44100)])
def test_resampling_is_that_of_librosa(rate: int, wanted: int) -> None:
    """Sample for sample, and of the same length."""
    samples = np.random.default_rng(2).normal(0, 0.2, 7001).astype(np.float32)
    resampled = audio.resample(samples, rate, wanted)
    reference = librosa.resample(samples, orig_sr=rate, target_sr=wanted)
    assert len(resampled) == audio.resampled_length(len(samples), rate, wanted)
    np.testing.assert_allclose(resampled, reference, rtol=0, atol=1e-6)


@pytest.mark.parametrize("channel", [0, 3])
def test_a_microphone_that_is_not_there(channel: int) -> None:
    """Microphones are counted from 1, and one too many is an error, not another one."""
    with pytest.raises(UserError, match=f"2 channel.* none with the number {channel}"):
        audio.mono(np.zeros((5, 2), np.float32), channel, "a.wav")
