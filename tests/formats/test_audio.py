"""Audio files: the samples of every format are librosa's, and every damage is named with its file."""

from __future__ import annotations

import io
import struct

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


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    """A WAV file of these chunks."""
    body = b"".join(
        kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for kind, data in chunks
    )
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body


@settings(max_examples=120, deadline=None)
@given(
    st.sampled_from([("u1", 128, 128), ("<i2", 0, 2**15), ("<i4", 0, 2**31), ("<f4", 0, 1),
                     ("<f8", 0, 1), ("24", 0, 2**31)]),
    st.integers(1, 9),
    st.integers(1, 40),
    st.booleans(),
    st.lists(st.tuples(st.sampled_from([b"LIST", b"fact", b"cue ", b"PEAK", b"bext"]),
                       st.binary(max_size=9)), max_size=3),
    st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_wav_at_its_extremes(
    stored: tuple[str, int, int],
    channels: int,
    samples: int,
    extensible: bool,
    others: list[tuple[bytes, bytes]],
    seed: int,
) -> None:
    """Every value that a WAV file may hold is what stands there, over 2^(bits - 1): in the plain and
    the extensible header, beside chunks of any size and content, before the format and after it."""
    kind, zero, scale = stored
    values = np.random.default_rng(seed).bytes(4 * samples * channels)
    if kind == "24":
        wide = np.frombuffer(values, "<i4").reshape(-1, channels) & -256
        data = wide.astype("<i4").view("u1").reshape(-1, 4)[:, 1:].tobytes()
        expected, bits = (wide / scale).astype(np.float32), 24
    else:
        raw = np.frombuffer(values, "<i4")
        wide = (raw / 2**29).astype(kind) if "f" in kind else raw.astype(kind)
        wide = wide.reshape(-1, channels)
        expected, bits = ((wide.astype(float) - zero) / scale).astype(np.float32), 8 * wide.itemsize
        data = wide.tobytes()
    code, frame = 3 if "f" in kind else 1, channels * bits // 8
    head = struct.pack("<HIIHH", channels, RATE, RATE * frame, frame, bits)
    if extensible:
        guid = struct.pack("<H", code) + bytes.fromhex("000000001000800000aa00389b71")
        form = struct.pack("<H", 0xFFFE) + head + struct.pack("<HHI", 22, bits, 0) + guid
    else:
        form = struct.pack("<H", code) + head
    half = len(others) // 2
    content = riff(*others[:half], (b"fmt ", form), *others[half:], (b"data", data), *others[:1])
    sound = audio.read(content, "x")
    assert sound.sampling_rate == RATE
    np.testing.assert_array_equal(sound.samples, expected)


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


@pytest.mark.parametrize("whole", [0xFFFFFFFF, 0x7FFFF024, 0x80000024, 0])
def test_a_wav_file_of_unknown_length_is_read_to_its_end(whole: int) -> None:
    """Programs that write to a pipe leave some number near 2 or 4 GB where the sizes should stand
    (ffmpeg, sox, arecord), and one that was stopped leaves 0."""
    content = bytearray(encoded("WAV", "PCM_16"))
    place = content.index(b"data") + 4
    expected = audio.read(bytes(content), "x").samples
    content[4:8] = struct.pack("<I", whole)
    content[place : place + 4] = struct.pack("<I", whole - 36 if 0 < whole < 0xFFFFFFFF else whole)
    np.testing.assert_array_equal(audio.read(bytes(content), "x").samples, expected)


def test_a_flac_file_of_unknown_length_is_read_to_its_end() -> None:
    """0 samples in its header says that it was written to a pipe, not that it is empty; a reader
    that takes only so many values stops there."""
    content = bytearray(encoded("FLAC", "PCM_16", channels=2))
    expected = audio.read(bytes(content), "x").samples
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    np.testing.assert_array_equal(audio.read(bytes(content), "x").samples, expected)
    audio.read(bytes(content), "x", most=24002)
    with pytest.raises(audio.TooLong, match=r"^x holds 24,002 values"):
        audio.read(bytes(content), "x", most=24001)


@pytest.mark.parametrize("coding", ["G721_32", "GSM610"])
def test_codings_that_fill_up_their_last_block_are_named(coding: str) -> None:
    """Nobody could tell the filling from the sound."""
    with pytest.raises(UserError, match=rf"^a\.wav is coded as {coding}.* convert it"):
        audio.read(encoded("WAV", coding), "a.wav")


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
