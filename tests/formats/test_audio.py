"""Audio files: the samples of every format are librosa's, and every damage is named with its file."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import Any

import librosa
import miniaudio
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
    # librosa takes the filling of an ADPCM file's last block for sound: here is a whole number of them.
    samples = 253 * 2024 // channels if coding == "MS_ADPCM" else 12001
    content = encoded(container, coding, channels, samples)
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


@settings(max_examples=120)
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


def bursts(mode: str, rate: int = RATE, channels: int = 1, samples: int = 30000) -> bytes:
    """An MP3 file of `mode` bitrate that is quiet for a while, then loud; it has a Xing frame."""
    sound = np.random.default_rng(3).normal(0, 0.2, (samples, channels)).clip(-1, 1)
    sound[: samples // 2] *= 0.01
    file = io.BytesIO()
    form: Any = {"format": "MP3", "subtype": "MPEG_LAYER_III", "bitrate_mode": mode}
    with soundfile.SoundFile(file, "w", rate, channels, compression_level=0.3, **form) as mp3:
        mp3.write(sound)
    return file.getvalue()


def frame_length(content: bytes) -> int:
    """Bytes of the first frame of an MP3 file."""
    return content.index(content[:2], 4)


def without_xing(content: bytes) -> bytes:
    return content[frame_length(content) :]


def same_as_miniaudio(content: bytes, decoder: Callable[[bytes], Any]) -> audio.Sound:
    """The sound of `content`, which is that of an independent decoder to the last sample."""
    sound, reference = audio.read(content, "x"), decoder(content)
    assert sound.sampling_rate == reference.sample_rate
    expected = np.frombuffer(reference.samples, np.float32).reshape(-1, reference.nchannels)
    np.testing.assert_allclose(sound.samples.clip(-1, 1), expected, rtol=0, atol=1e-4)
    return sound


@pytest.mark.parametrize("rate", [8000, 12000, 16000, 22050, 32000, 44100, 48000])
@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize("channels", [1, 2])
def test_mp3_without_a_xing_frame(rate: int, mode: str, channels: int) -> None:
    """mpg123 guesses how long it is from the first frames, and stops there: quiet ones of a variable
    bitrate make it too short, others too long. Tags around it are no sound."""
    content = bursts(mode, rate, channels, 20000)
    same_as_miniaudio(content, miniaudio.mp3_read_f32)
    bare = without_xing(content)
    sound = same_as_miniaudio(bare, miniaudio.mp3_read_f32)
    id3 = b"ID3\4\0\0\0\0\1\0" + bytes(128)
    header, footer = (
        struct.pack("<8sIIII8x", b"APETAGEX", 2000, 32, 0, 1 << 31 | first << 29)
        for first in (1, 0)
    )
    tagged = id3 + id3 + bare + header + footer + b"TAG" + bytes(125)
    np.testing.assert_array_equal(audio.read(tagged, "x").samples, sound.samples)


def test_an_mp3_file_with_a_checksum_before_its_xing_frame() -> None:
    """mpg123 overlooks it there, and guesses."""
    content = bursts("VARIABLE")
    length = frame_length(content)
    head = bytes([content[0], content[1] & 0xFE]) + content[2:4]
    protected = head + bytes(2) + content[4 : length - 2] + content[length:]
    np.testing.assert_array_equal(
        audio.read(protected, "x").samples, audio.read(content, "x").samples
    )


MP3 = bursts("VARIABLE")
BARE = without_xing(MP3)


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (BARE[:-1], "cut short"),
        (BARE[frame_length(BARE) :], "parts of an MP3 frame are gone"),
        (BARE[:200] + BARE[300:], "no MP3 frame"),
        (BARE + b"no tag" * 40 + BARE, "no MP3 frame"),
        (MP3[: MP3.rindex(MP3[:2])], "frames announced"),
        (MP3 + BARE, "frames announced"),
        (MP3 + MP3, "several MP3 files"),
        (BARE + without_xing(bursts("VARIABLE", 24000)), "no MP3 frame of its kind"),
        (b"\xff\xf3\x08" + BARE[3:], "no audio file"),  # a free bitrate
    ],
)
def test_mp3_of_which_a_part_would_be_lost(content: bytes, cause: str) -> None:
    """Cut at either end, damaged in between, joined: no decoder says so."""
    with pytest.raises(UserError, match=rf"^pump\.mp3 .*{cause}.*: .*remove it$"):
        audio.read(content, "pump.mp3")


@pytest.mark.parametrize("coding", ["VORBIS", "OPUS"])
def test_ogg_streams_that_follow_each_other(coding: str) -> None:
    """Ogg files may be joined by joining their bytes; libsndfile reads the first one."""
    contents = [encoded("OGG", coding, samples=samples) for samples in (12001, 300, 40000)]
    apart = [audio.read(content, "x").samples for content in contents]
    joined = b"".join(contents)
    np.testing.assert_array_equal(audio.read(joined, "x").samples, np.concatenate(apart))
    audio.read(joined, "x", most=52301)
    with pytest.raises(audio.TooLong):
        audio.read(joined, "x", most=52300)
    with pytest.raises(UserError, match=r"^x consists of streams that differ .*: export"):
        audio.read(contents[0] + encoded("OGG", coding, 2), "x")


def pages(content: bytes) -> list[bytes]:
    return [b"OggS" + page for page in content.split(b"OggS")[1:]]


@pytest.mark.parametrize("coding", ["VORBIS", "OPUS"])
def test_ogg_of_which_a_part_would_be_lost(coding: str) -> None:
    """libogg leaves out damaged pages, libsndfile all streams but one, and neither says so."""
    first, second = (encoded("OGG", coding, samples=60000) for _ in range(2))
    flipped = bytearray(first)
    flipped[-40] ^= 1
    a, b = pages(first), pages(second)
    for content, cause in (
        (bytes(flipped), "checksum"),
        (b"".join(a[:-1]), "cut short"),
        (b"".join(a[:-2] + a[-1:]), "page missing"),
        (first + a[-1], "page missing"),
        (first + b"no page", "no Ogg page"),
        (b"".join(a[:1] + b[:1] + a[1:] + b[1:]), "several Ogg streams"),
        (b"".join(a[:-1]) + second, "without its end"),
    ):
        with pytest.raises(UserError, match=rf"^pump\.ogg .*{cause}.*: .*remove it$"):
            audio.read(content, "pump.ogg")


@pytest.mark.parametrize("unknown", [False, True])
def test_flac_of_which_a_part_would_be_lost(unknown: bool) -> None:
    """libFLAC fills a gap with silence; it ends where the header says so, whatever follows."""
    content = bytearray(encoded("FLAC", "PCM_16", samples=20000))
    place = content.index(b"\xff\xf8")
    starts = [content.index(content[place : place + 4] + bytes([number])) for number in range(3)]
    if unknown:
        content[21] &= 0xF0
        content[22:26] = bytes(4)
    for gap in (slice(starts[0], starts[1]), slice(starts[1], starts[2])):
        damaged = content.copy()
        del damaged[gap]
        with pytest.raises(UserError, match=r"^a\.flac is (cut short|damaged .*a gap)"):
            audio.read(bytes(damaged), "a.flac")
    content[22:26] = struct.pack(">I", 5000)
    with pytest.raises(UserError, match=r"^a\.flac is damaged .*5000 samples announced, 20000"):
        audio.read(bytes(content), "a.flac")


@pytest.mark.parametrize("name", [b"RF64", b"BW64"])
def test_wav_of_64_bits(name: bytes) -> None:
    """Its sizes are in a chunk before: what is cut off is noticed, and what is streamed is read."""
    content = name + encoded("RF64", "PCM_16")[4:]
    expected = audio.read(encoded("WAV", "PCM_16"), "x").samples
    np.testing.assert_array_equal(audio.read(content, "x").samples, expected)
    with pytest.raises(UserError, match=r"^a\.wav is cut short"):
        audio.read(content[:-2], "a.wav")
    streamed = content[:20] + bytes(24) + content[44:]
    np.testing.assert_array_equal(audio.read(streamed, "x").samples, expected)


def big_endian(content: bytes) -> bytes:
    """A plain WAV file of 16 bits (RIFF) as RIFX."""
    sizes = struct.unpack_from("<I4s4sIHHIIHH4sI", content, 4)
    return b"RIFX" + struct.pack(">I4s4sIHHIIHH4sI", *sizes) + swapped(content[44:])


def swapped(data: bytes) -> bytes:
    return np.frombuffer(data, "<i2").astype(">i2").tobytes()


def test_wav_of_other_bytes_order() -> None:
    """RIFX is RIFF with the most significant byte first."""
    content = encoded("WAV", "PCM_16", 2)
    np.testing.assert_array_equal(
        audio.read(big_endian(content), "x").samples, audio.read(content, "x").samples
    )
    with pytest.raises(UserError, match=r"^a\.wav is cut short"):
        audio.read(big_endian(content)[:-1], "a.wav")


def form(channels: int = 1, frame: int = 2, rate: int = RATE, bits: int = 16) -> bytes:
    return struct.pack("<HHIIHH", 1, channels, rate, rate * frame % 2**32, frame, bits)


DATA = np.arange(1, 4001, dtype="<i2").tobytes()


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (riff((b"fmt ", form()), (b"data", DATA), (b"data", DATA)), "several sounds"),
        (2 * riff((b"fmt ", form()), (b"data", DATA)), "several sounds"),
        (riff((b"fmt ", form()), (b"data", DATA[:-1])), "cut short"),
        (riff((b"fmt ", form()), (b"data", DATA)) + DATA, "no chunk"),
        (riff((b"data", DATA), (b"fmt ", form())), "no format"),
        (riff((b"fmt ", form(2)), (b"data", DATA)), "frames of 2 bytes, 2 channels"),
        (riff((b"fmt ", form(rate=0)), (b"data", DATA)), "no audio file|0 Hz"),
        (riff((b"fmt ", form(rate=3)), (b"data", DATA)), "3 Hz"),
        (riff((b"fmt ", form(0, 0)), (b"data", DATA)), "no audio file"),
        (riff((b"fmt ", form(rate=2**32 - 1)), (b"data", DATA)), "no audio file|Hz"),
    ],
)
def test_wav_that_contradicts_itself(content: bytes, cause: str) -> None:
    """libsndfile reads something of each: the first chunk, every other sample, no sample."""
    with pytest.raises(UserError, match=rf"^pump\.wav .*({cause}).*: .*remove it$"):
        audio.read(content, "pump.wav")


def test_tags_before_and_chunks_after_a_wav_file() -> None:
    """With an ID3 tag before it, libsndfile drops its last samples; some writers forget the byte that
    makes a chunk even."""
    odd = riff((b"fmt ", form(1, 1, bits=8)), (b"data", DATA[:999]))
    expected = audio.read(odd, "x").samples
    for content in (
        b"ID3\4\0\0\0\0\0\x0a" + bytes(10) + odd,
        odd + b"LIST" + struct.pack("<I", 4) + b"INFO",
        odd[:-1] + b"LIST" + struct.pack("<I", 4) + b"INFO",
        odd + bytes(100),
    ):
        np.testing.assert_array_equal(audio.read(content, "x").samples, expected)
    assert len(expected) == 999


def test_the_filling_of_an_adpcm_block_is_no_sound() -> None:
    """The fact chunk says where the sound ends; one that does not fit is not believed."""
    content = bytearray(encoded("WAV", "MS_ADPCM"))
    assert len(audio.read(bytes(content), "x").samples) == 12001
    place = content.index(b"fact") + 8
    for unfit in (0, 5, 0xFFFFFFFF):
        content[place : place + 4] = struct.pack("<I", unfit)
        assert len(audio.read(bytes(content), "x").samples) == 12144
    content[32:34] = bytes(2)  # of a block
    with pytest.raises(UserError, match=r"^a\.wav is no audio file"):
        audio.read(bytes(content), "a.wav")


@pytest.mark.parametrize("container", ["AIFF", "W64", "AU", "CAF"])
def test_other_formats_are_named(container: str) -> None:
    """libsndfile reads them too, and takes what it gets of one that is cut short."""
    with pytest.raises(UserError, match=r"^a\.wav is no audio file .*: convert it"):
        audio.read(encoded(container, "PCM_16"), "a.wav")


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
