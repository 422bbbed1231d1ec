"""Sound features: equal to librosa's, the same whatever stands beside a clip, in bounded memory."""

from __future__ import annotations

import io
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pandas as pd
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from beatline.common import params
from beatline.common.errors import UserError
from beatline.datasets import sound as sound_data
from beatline.features import Recorded, sound
from beatline.features.sound import FEATURES, Extracted, ExtractFeatures, extract
from beatline.features.sound.mel import centre_frequencies, filter_bank
from beatline.sources.pack import Pack, PackWriter
from benchmarks.sound_features import by_librosa
from tests.paths import REAL_DATA
from tests.pools import leave_to_others

REAL = REAL_DATA / "bearing_vibration"
real = pytest.mark.skipif(not REAL.is_dir(), reason=f"{REAL} is not here: real vibrations")
short_clips = pytest.mark.filterwarnings(
    "ignore:n_fft=:UserWarning"
)  # librosa's, of what it can do
empty_bands = pytest.mark.filterwarnings("ignore:Empty filters:UserWarning")

PLAIN: dict[str, Any] = {
    "channel": "mean",
    "sampling_rate": None,
    "frame": 1024,
    "hop": 512,
    "bands": 128,
    "lowest_frequency": 0,
    "highest_frequency": None,
    "top_db": 80,
    "contrast_bands": 6,
}


def parameters(**changes: Any) -> ExtractFeatures:
    return params.validated({**PLAIN, **changes}, "extract_features.x", ExtractFeatures)


def waveform(kind: str, samples: int, rate: int, gain: float = 0.3, seed: int = 0) -> np.ndarray:
    """`[samples]` float32 of one of KINDS, at most `gain` loud (noise: about four times that)."""
    draw = np.random.default_rng(seed)
    moments = np.arange(samples) / rate
    tone = np.sin(2 * np.pi * draw.uniform(30, 6000) * moments)
    noise = draw.standard_normal(samples)
    values = {
        "silence": np.zeros(samples),
        "constant": np.ones(samples),
        "tone": tone,
        "noise": noise,
        "tone in noise": tone + 0.05 * noise,
        "click": np.eye(1, samples, samples // 3)[0],
        "noise, then silence": np.where(moments < moments.mean(), noise, 0),
        "coarse steps": np.round(tone * 3) / 3,
    }[kind]
    return (gain * values).astype(np.float32)


KINDS = (
    "silence",
    "constant",
    "tone",
    "noise",
    "tone in noise",
    "click",
    "noise, then silence",
    "coarse steps",
)


def of_one(clip: np.ndarray, rate: int, chosen: ExtractFeatures) -> tuple[np.ndarray, np.ndarray]:
    """Spectrogram `[T, bands]` and features `[13]` of a clip."""
    (batch,) = extract([clip], rate, chosen)
    return batch.spectrograms[0], batch.features[0]


def joined(batches: list[Extracted]) -> tuple[list[np.ndarray], np.ndarray]:
    spectrograms = [one for batch in batches for one in batch.spectrograms]
    return spectrograms, np.concatenate([batch.features for batch in batches])


def assert_as_librosa(clip: np.ndarray, rate: int, chosen: ExtractFeatures) -> None:
    """Amplitudes and frequencies to 1e-4 relatively, decibels to 1e-4 either way."""
    spectrogram, features = of_one(clip, rate, chosen)
    expected_spectrogram, expected = by_librosa(clip, rate, chosen)
    assert spectrogram.dtype == np.float32
    np.testing.assert_allclose(spectrogram, expected_spectrogram, rtol=1e-6, atol=1e-4)
    for name, found, wanted in zip(FEATURES, features, expected, strict=True):
        in_decibels = name.startswith(("mfcc", "spectral_contrast"))
        least = 1e-4 if in_decibels else 1e-9
        if name == "rms_std":  # of equal frames it is the rounding of float32, in librosa's case
            least = 1e-6 * expected[0]
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=least, err_msg=name)


def test_names_and_shapes() -> None:
    """A feature store and the stage rely on these: names, order, shapes, types."""
    assert FEATURES == (
        "rms_mean", "rms_std", "zcr_mean", "spectral_centroid", "spectral_bandwidth",
        "spectral_rolloff", "spectral_contrast", "mfcc_0", "mfcc_1", "mfcc_2", "mfcc_3", "mfcc_4",
        "mfcc_5",
    )  # fmt: skip
    clips = [waveform("noise", samples, 16_000) for samples in (16_000, 511, 512)]
    spectrograms, features = joined(list(extract(clips, 16_000, parameters())))
    assert [one.shape for one in spectrograms] == [(32, 128), (1, 128), (2, 128)]
    assert features.shape == (3, 13) and features.dtype == np.float64


@short_clips
@pytest.mark.parametrize("rate", [16_000, 48_000])
@pytest.mark.parametrize("samples", [1, 2, 300, 1_023, 30_000])
@pytest.mark.parametrize("kind", KINDS)
def test_equal_to_librosa(kind: str, samples: int, rate: int) -> None:
    """Silence, pure tones, clips shorter than a frame: no figure is off, none is NaN."""
    assert_as_librosa(waveform(kind, samples, rate), rate, parameters())


@short_clips
@empty_bands
@settings(max_examples=60)
@given(
    clip=st.fixed_dictionaries(
        {
            "kind": st.sampled_from(KINDS),
            "samples": st.integers(1, 20_000),
            "gain": st.sampled_from([1e-7, 1e-3, 0.5, 1.0, 32_767.0, 2.0**31]),
            "seed": st.integers(0, 2**32),
        }
    ),
    rate=st.sampled_from([16_000, 22_050, 44_100, 48_000]),
    frame=st.sampled_from([256, 512, 1_001, 1_024, 2_048]),
    hop_share=st.sampled_from([1, 2, 3, 4]),
    changes=st.fixed_dictionaries(
        {
            "bands": st.sampled_from([6, 40, 128]),
            "lowest_frequency": st.sampled_from([0, 50.0, 1_500]),
            "highest_frequency": st.sampled_from([None, 4_000.0, 8_000]),
            "top_db": st.sampled_from([None, 60.0, 80]),
            "contrast_bands": st.integers(1, 6),
        }
    ),
)
def test_equal_to_librosa_whatever_the_parameters(
    clip: dict[str, Any], rate: int, frame: int, hop_share: int, changes: dict[str, Any]
) -> None:
    """Every knob means what it means in librosa."""
    chosen = parameters(frame=frame, hop=frame // hop_share, **changes)
    assert_as_librosa(waveform(rate=rate, **clip), rate, chosen)


@real
@pytest.mark.parametrize("rate", [48_000, 16_000])
def test_equal_to_librosa_on_real_recordings(rate: int) -> None:
    """72 vibrations of real bearings, at their own rate and as if recorded at another."""
    for path in sorted(REAL.glob("*/*.wav"))[::4]:
        clip, own_rate = soundfile.read(path, dtype="float32")
        assert own_rate == 48_000
        assert_as_librosa(clip, rate, parameters(frame=2_048))


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.sampled_from(KINDS), st.integers(1, 9_000)), min_size=2, max_size=8),
    st.integers(1, 40),
)
def test_neighbours_change_nothing(described: list[tuple[str, int]], frames: int) -> None:
    """A clip's result is the same, bit by bit, alone, among others, and in batches of any size."""
    clips = [waveform(*one, 16_000, seed=seed) for seed, one in enumerate(described)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sound, "FRAMES_AT_ONCE", frames)
        spectrograms, features = joined(list(extract(clips, 16_000, parameters())))
    for clip, spectrogram, row in zip(clips, spectrograms, features, strict=True):
        alone = of_one(clip, 16_000, parameters())
        assert alone[0].tobytes() == spectrogram.tobytes()
        assert alone[1].tobytes() == row.tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_long_clips_in_parts(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clip that is transformed in many parts is the clip that is transformed at once."""
    clip = waveform(kind, 40_000, 16_000)
    spectrogram, features = of_one(clip, 16_000, parameters())
    monkeypatch.setattr(sound, "SAMPLES_AT_ONCE", 3 * 1024)
    in_parts = of_one(clip, 16_000, parameters())
    np.testing.assert_allclose(in_parts[0], spectrogram, rtol=0, atol=1e-5)
    np.testing.assert_allclose(in_parts[1], features, rtol=1e-6, atol=1e-9)


def peak_memory(clips: list[np.ndarray]) -> int:
    """Bytes allocated at a time besides the clips themselves."""
    tracemalloc.start()
    for _ in extract(clips, 16_000, parameters()):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_memory_is_bounded() -> None:
    """Three times the clips need no more; a long clip needs little more than its spectrogram."""
    clip = waveform("noise", 160_000, 16_000)
    few, many = (peak_memory([clip] * number) for number in (60, 180))
    assert many < few + 1e6
    long = np.tile(clip, 60)
    spectrogram = len(long) // 512 * 128 * 4
    assert peak_memory([long]) < 2.5 * spectrogram + 10e6 < long.nbytes * 1.5


def test_waveforms_are_read_one_by_one() -> None:
    """A generator is not drained before the first batch is out."""
    asked: list[int] = []

    def clips() -> Any:
        for number in range(100):
            asked.append(number)
            yield waveform("noise", 160_000, 16_000)

    next(extract(clips(), 16_000, parameters()))
    assert len(asked) == -(-sound.FRAMES_AT_ONCE // 313)


def test_no_clips() -> None:
    """Nothing gives nothing."""
    assert list(extract([], 16_000, parameters())) == []


def test_the_waveform_is_left_as_it_was() -> None:
    """A read-only view of a file will do, of any floating type."""
    clip = waveform("tone in noise", 5_000, 16_000)
    clip.setflags(write=False)
    before = clip.tobytes()
    expected = of_one(clip, 16_000, parameters())
    assert clip.tobytes() == before
    for other in (clip.astype(np.float64), np.repeat(clip, 2)[::2]):
        found = of_one(other, 16_000, parameters())
        assert found[0].tobytes() == expected[0].tobytes()
        assert found[1].tobytes() == expected[1].tobytes()


@empty_bands
@settings(max_examples=60)
@given(
    rate=st.integers(8_000, 96_000),
    frame=st.integers(2, 4_096),
    bands=st.integers(1, 256),
    lowest=st.floats(0, 2_000),
    width=st.floats(100, 2_000),
)
def test_mel_filters(rate: int, frame: int, bands: int, lowest: float, width: float) -> None:
    """The filter bank is librosa's."""
    highest = lowest + width
    expected = librosa.filters.mel(sr=rate, n_fft=frame, n_mels=bands, fmin=lowest, fmax=highest)
    found = filter_bank(np.fft.rfftfreq(frame, 1 / rate), bands, lowest, highest)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7 * expected.max())
    centres = librosa.mel_frequencies(bands + 2, fmin=lowest, fmax=highest)[1:-1]
    np.testing.assert_allclose(centre_frequencies(bands, lowest, highest), centres, rtol=1e-9)


@pytest.mark.parametrize(
    ("rate", "changes", "message"),
    [
        (
            8_000,
            {},
            r"6 octaves .* need a sampling rate above 12800 Hz, not 8000: lower contrast_b",
        ),
        (12_800, {}, r"need a sampling rate above 12800 Hz, not 12800"),
        (48_000, {"frame": 128, "hop": 64}, r"frames of 128 samples .* raise frame"),
        (16_000, {"highest_frequency": 9_000}, r"from 0 to 9000 Hz .* below 8000 Hz.*null"),
        (16_000, {"lowest_frequency": 8_000}, r"from 8000 to 8000 Hz .* correct lowest_frequency"),
        (16_000, {"hop": 2_000}, r"hop \(2000\) may not exceed frame \(1024\)"),
        (
            16_000,
            {"lowest_frequency": 500, "highest_frequency": 400},
            r"highest_frequency must exceed lowest_frequency",
        ),
        (16_000, {"bands": 5}, r"extract_features\.x\.bands: .*greater than or equal to 6"),
        (16_000, {"top_db": -1}, r"extract_features\.x\.top_db"),
        (16_000, {"window": "hann"}, r"extract_features\.x\.window: unknown parameter"),
    ],
)
def test_wrong_parameters(rate: int, changes: dict[str, Any], message: str) -> None:
    """Parameters that do not fit the sampling rate, or each other, are refused in one sentence."""
    with pytest.raises(UserError, match=message) as error:
        list(extract([waveform("noise", 5_000, rate)], rate, parameters(**changes)))
    assert "\n" not in str(error.value)


def test_lower_sampling_rates_with_fewer_octaves() -> None:
    """The cure that the message names does cure: telephone quality with five octaves."""
    assert_as_librosa(waveform("noise", 9_000, 8_000), 8_000, parameters(contrast_bands=5))


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        (np.zeros(0, dtype=np.float32), "recording number 2 has no samples"),
        (np.array([0.1, np.nan, 0.2]), "recording number 2 has samples that are not finite"),
        (np.array([0.1, -np.inf]), "recording number 2 has samples that are not finite"),
        (np.array([1e30, 0.0]), "recording number 2 has samples .* beyond 1e"),
    ],
)
def test_bad_recordings(clip: np.ndarray, message: str) -> None:
    """A recording that cannot be transformed is named, and never becomes a NaN in a table."""
    with pytest.raises(UserError, match=message):
        list(extract([waveform("noise", 500, 16_000), clip], 16_000, parameters()))


def test_the_loudest_recording_stays_finite() -> None:
    """Up to the limit nothing overflows, whatever the frame."""
    clip = waveform("constant", 70_000, 16_000, gain=sound.LOUDEST)
    spectrogram, features = of_one(clip, 16_000, parameters(frame=65_536))
    assert np.isfinite(spectrogram).all() and np.isfinite(features).all()


def test_empty_mel_bands_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    """More bands than the transform can tell apart: a warning, as librosa gives one."""
    clip = [waveform("noise", 5_000, 48_000)]
    list(extract(clip, 48_000, parameters(bands=256)))
    assert "of 256 mel bands fall between two frequencies" in capsys.readouterr().out
    list(extract(clip, 48_000, parameters()))
    assert capsys.readouterr().out == ""


def test_importing_it_compiles_nothing() -> None:
    """librosa brings numba, which compiles for many seconds in a new environment."""
    code = "import sys, beatline.features.sound; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"librosa", "numba", "torch"}.isdisjoint(run.stdout.split())


@pytest.fixture
def recorded(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Recorded]:
    """Nine sounds of several lengths and sampling rates, in stereo; one may be louder than the others."""
    louder = getattr(request, "param", 1)
    rows = []
    with PackWriter(tmp_path / "raw.zip") as writer:
        for number in range(9):
            rate, samples = (16000, 22050)[number % 2], 6000 + 500 * number
            both = np.stack(
                [waveform("tone in noise", samples, rate, seed=seed) for seed in (0, number)]
            )
            content = io.BytesIO()
            both = both * (louder if number == 7 else 1)
            soundfile.write(content, both.T, rate, format="WAV", subtype="FLOAT")
            name = f"normal/fan/{number}.wav"
            writer.add(name, content.getvalue())
            rows.append({"record": name, "frames": samples, "sampling_rate": rate})
        table = pd.DataFrame(rows).assign(
            machine_id="fan", group="fan", normal=1, event_timestamp="2024-01-01T00:00:00Z", snr=""
        )
        writer.add(sound_data.RECORDINGS, table.to_csv(index=False).encode())
    with Pack(tmp_path / "raw.zip") as pack:
        yield Recorded(sound_data, pack, table, {"sampling_rate": 16000})


def written(folder: Path, recorded: Recorded, **changes: Any) -> dict[str, bytes]:
    """The files that come of the recordings, by name."""
    folder.mkdir()
    sound.write(folder, recorded, parameters(**changes))
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_several_processes_write_the_bytes_of_one(
    tmp_path: Path,
    recorded: Recorded,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Neither the cache of DVC nor a reader of the log can tell how many processes there were: what is
    wrong with the parameters is said once."""
    alone = written(tmp_path / "alone", recorded, bands=400)
    words = capfd.readouterr().out
    leave_to_others(monkeypatch)
    monkeypatch.setattr(sound, "SAMPLES_A_TASK", 20000)
    assert written(tmp_path / "many", recorded, bands=400) == alone
    assert len(alone) == 5 and capfd.readouterr().out == words and words.count("mel bands") == 1


@pytest.mark.parametrize("recorded", [1e15], indirect=True)
def test_a_process_names_a_recording_as_one_alone_does(
    tmp_path: Path, recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of a recording is its number in the data set, whoever has found it."""
    monkeypatch.setattr(sound, "SAMPLES_A_TASK", 20000)
    with pytest.raises(UserError, match="number 8"):
        written(tmp_path / "alone", recorded)
    leave_to_others(monkeypatch)
    with pytest.raises(UserError, match="number 8"):
        written(tmp_path / "many", recorded)
