"""Recordings as a model wants them: exactly the pipeline's where it has seen them, else brought there or
refused with the reason."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from beatline.datasets import mnist, ptbxl, ucr
from beatline.datasets import sound as sound_data
from beatline.features import Recorded
from beatline.features import sound as sound_features
from beatline.formats.mnist import idx
from beatline.formats.recording import Recording
from beatline.formats.wfdb import read_records
from beatline.preprocessing import arrays, normalization
from beatline.preprocessing.normalization import Normalization, Normalize
from beatline.serving import uploads
from beatline.serving.preparation import far, prepare, resampled_values
from beatline.serving.problems import Problem
from beatline.serving.recording import Prepared
from beatline.serving.uploads import Upload
from beatline.simulators.ecg import simulator
from beatline.sources.pack import Pack, PackWriter
from tests.serving.uploads import (
    DIGITS,
    ECG,
    LEADS,
    LIMITS,
    REAL,
    SERIES,
    SOUND,
    csv,
    form,
    image,
    json,
    npy,
    raw,
    record,
    sound,
    upload,
)

HERE = "real recordings are not here"
real = pytest.mark.skipif(not (REAL / "ptbxl").is_dir(), reason=HERE)
RATE = 16000
TIMES = np.arange(1000) / 100


def prepared(
    recording: Recording | Upload, dataset: dict[str, Any], shortest: int = 1, **options: Any
) -> Prepared:
    if isinstance(recording, Upload):
        recording = uploads.read(recording, LIMITS)
    return prepare(recording, dataset, shortest, **{"limits": LIMITS, **options})


def refused(*arguments: Any, **options: Any) -> str:
    with pytest.raises(Problem) as caught:
        prepared(*arguments, **options)
    assert 400 <= caught.value.status < 500 and caught.value.detail.isprintable()
    return caught.value.detail


def codes(found: Prepared) -> list[str]:
    return [notice.code for notice in found.notices]


def said(found: Prepared, code: str) -> str:
    (message,) = (notice.message for notice in found.notices if notice.code == code)
    return message


def ecg(samples: int = 1000, rate: float = 100) -> np.ndarray:
    """Twelve leads with a beat a second, in mV, no two alike; II is the sum of I and III."""
    times = np.arange(samples) / rate
    beats = np.exp(-(((times % 1) - 0.5) ** 2) / 0.002)
    drift = 0.1 * np.sin(2 * np.pi * 0.3 * times)
    leads = beats[:, None] * np.linspace(0.3, 1.4, 12) + drift[:, None]
    leads[:, 1] = leads[:, 0] + leads[:, 2]
    return leads


# Equal to the pipeline


def assert_as_in_pipeline(
    sent: list[Upload], dataset: dict[str, Any], batches: Iterator[np.ndarray]
) -> None:
    """The network's input is bit for bit the one that normalize makes."""
    recordings = np.concatenate(list(batches))
    fitted = normalization.fit(
        [recordings], Normalize(recordings="", per="channel", invalid="mean")
    )
    rows = fitted.apply(recordings)
    assert len(rows) == len(sent)
    for each, row in zip(sent, rows, strict=True):
        np.testing.assert_array_equal(fitted.apply(prepared(each, dataset).samples), row)


@real
def test_records_are_those_of_the_pipeline(tmp_path: Path) -> None:
    """Real twelve-lead records, each sent as its two files."""
    headers = sorted((REAL / "ptbxl/records100").rglob("*.hea"))[::40]
    files = [(path, path.with_suffix(".dat")) for path in headers]
    with PackWriter(tmp_path / "raw.zip") as pack:
        for path in (path for pair in files for path in pair):
            pack.add(path.name, path.read_bytes())
    sent = [form(*[(path.name, path.read_bytes()) for path in pair]) for pair in files]
    with Pack(tmp_path / "raw.zip") as pack:
        names = [path.stem for path in headers]
        read = read_records(pack, names, leads=ptbxl.LEADS, sampling_rate=100, samples=1000)
        assert_as_in_pipeline(sent, ECG, read)


def test_sound_is_that_of_the_pipeline(tmp_path: Path) -> None:
    """Clips of other lengths, channels, sampling rates and codings: averaged, resampled, repeated."""
    random = np.random.default_rng(5)
    folder = tmp_path / "machine"
    clips = {
        "normal/long.wav": sound(random.normal(0, 0.1, 16000)),
        "normal/short.wav": sound(random.normal(0, 0.1, 5000)),
        "normal/other_rate.wav": sound(random.normal(0, 0.1, 30001), 44100),
        "test/normal_stereo.flac": sound(random.normal(0, 0.1, (9000, 2)), container="FLAC"),
        "test/anomaly_float.wav": sound(random.normal(0, 0.1, (9000, 3)), coding="FLOAT"),
    }
    for name, content in clips.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    block = {"source": str(folder), "sha256": None,
             "simulated": {"machines": 1, "train": 1, "test_normal": 1, "test_anomaly": 1,
                           "seconds": 0.25, "sampling_rate": RATE, "snr": [0.0], "seed": 1},
             "mimii": {"machine": "fan", "snr": 6}}  # fmt: skip
    with PackWriter(tmp_path / "raw.zip") as pack:
        sound_data.download(sound_data.Download.model_validate(block), pack, tmp_path)
    settings = {key: value for key, value in SOUND["representation"].items() if key != "kind"}
    names = list(clips)
    table = pd.DataFrame({"record": names, "machine_id": "a", "event_timestamp": "2024-01-01"})
    table = table.assign(normal=1, group="", fold="")
    with Pack(tmp_path / "raw.zip") as pack:
        recorded = Recorded(sound_data, pack, table, {"sampling_rate": RATE})
        parameters = sound_features.ExtractFeatures.model_validate(settings)
        described = sound_features.write(tmp_path / "features", recorded, parameters)
    read = arrays.reader(tmp_path / "features/recordings")
    spectrograms = np.concatenate(list(read(names)))
    dataset = {**SOUND, **described, "length": spectrograms.shape[1]}
    sent = [upload(content, "audio/wav") for content in clips.values()]
    assert_as_in_pipeline(sent, dataset, iter([spectrograms]))
    assert codes(prepared(sent[1], dataset)) == ["short"]
    assert codes(prepared(sent[2], dataset)) == ["resampled", "short"]


def test_images_are_those_of_the_pipeline(tmp_path: Path) -> None:
    """Digits sent as PNG files and as grey levels."""
    drawn = np.random.default_rng(6).integers(0, 256, (5, 20, 20))
    pixels = np.pad(drawn, [(0, 0), (4, 4), (4, 4)]).astype(np.uint8)
    with PackWriter(tmp_path / "raw.zip") as pack:
        pack.add("digits-images-idx3-ubyte", idx(pixels))
        pack.add("digits-labels-idx1-ubyte", idx(np.zeros(5, np.uint8)))
    names = [f"digits_{number:05d}" for number in range(5)]
    for sent in (
        [upload(image(digit), "image/png") for digit in pixels],
        [npy(digit, X_Unit="grey level") for digit in pixels],
    ):
        with Pack(tmp_path / "raw.zip") as pack:
            assert_as_in_pipeline(sent, DIGITS, mnist.read_recordings(pack, names))


@pytest.mark.skipif(not (REAL / "ecg5000").is_dir(), reason=HERE)
def test_series_are_those_of_the_pipeline(tmp_path: Path) -> None:
    """Heartbeats of ECG5000 as CSV, as a column and as a row."""
    rows = (REAL / "ecg5000/ECG5000_TEST.txt").read_bytes().splitlines(keepends=True)
    with PackWriter(tmp_path / "raw.zip") as pack:
        for part in ("TRAIN", "TEST"):
            pack.add(f"{part}.txt", b"".join(rows[:20]))
    names = [f"TEST_{number:05d}" for number in range(20)]
    with Pack(tmp_path / "raw.zip") as pack:
        beats = np.concatenate(list(ucr.read_recordings(pack, names)))
    for columns in (beats, beats.swapaxes(1, 2)):
        sent = [upload(csv(each.astype(float)), "text/csv") for each in columns]
        assert_as_in_pipeline(sent, SERIES, iter([beats]))


# Channels


@settings(max_examples=30)
@given(order=st.permutations(range(12)), extra=st.booleans(), upper=st.booleans())
def test_leads_are_found_by_name(order: list[int], extra: bool, upper: bool) -> None:
    """Whatever their order and case, with others among them."""
    samples = ecg()
    names = [LEADS[number] if upper else LEADS[number].lower() for number in order]
    sent = samples[:, order]
    if extra:
        names, sent = [*names, "VX"], np.hstack([sent, 9 * samples[:, :1]])
    found = prepared(Recording(sent, names), ECG)
    np.testing.assert_array_equal(found.samples, samples)
    assert codes(found) == (["dropped"] if extra else [])
    assert not extra or "VX" in said(found, "dropped")


def test_units_go_with_their_leads() -> None:
    """A record may store each lead in another unit, and in another order."""
    samples = ecg()
    scale = np.where(np.arange(12) < 6, 1000.0, 1.0)
    units = ["uV"] * 6 + ["mV"] * 6
    order = np.random.default_rng(7).permutation(12)
    recording = Recording(
        (samples * scale)[:, order],
        [LEADS[number] for number in order],
        units=[units[number] for number in order],
    )
    found = prepared(recording, ECG)
    np.testing.assert_allclose(found.samples, samples, rtol=1e-14)
    assert said(found, "converted") == "converted from uV to mV"


@pytest.mark.parametrize(
    ("unit", "factor"),
    [("V", 1e3), ("mV", 1), ("mv", 1), ("uV", 1e-3), ("µV", 1e-3), ("μV", 1e-3), ("nV", 1e-6)],
)
def test_units_are_converted(unit: str, factor: float) -> None:
    """Both signs for micro, any case; a notice where something was changed."""
    samples = ecg()
    found = prepared(Recording(samples / factor, units=[unit] * 12), ECG)
    np.testing.assert_allclose(found.samples, samples, rtol=1e-14)
    assert codes(found) == (["converted"] if factor != 1 else [])


def test_units_that_cannot_be_converted_are_refused() -> None:
    """Nothing is guessed."""
    assert "'furlong'" in refused(Recording(ecg(), units=["furlong"] * 12), ECG)
    assert "archive units" in refused(Recording(np.ones((140, 1)), units=["mV"]), SERIES)
    huge = Recording(ecg() * 1e11, units=["V"] * 12)
    assert "beyond 1e+12 mV" in refused(huge, ECG)


def test_arrays_of_channels_are_turned() -> None:
    """`[C][T]`, unless as many rows as channels are also as many columns."""
    samples = ecg()
    np.testing.assert_array_equal(prepared(raw(samples.T), ECG).samples, samples.astype("f4"))
    square = ecg(12)
    np.testing.assert_array_equal(
        prepared(raw(square, X_Sampling_Rate="100"), ECG).samples, square.astype("f4")
    )
    with_unit = prepared(raw(samples.T * 1000, X_Unit="uV"), ECG)
    np.testing.assert_allclose(with_unit.samples, samples, atol=1e-5)


def test_wrong_leads_are_refused_by_name() -> None:
    """Missing ones, two of one name, another number of them without names."""
    samples = ecg()
    detail = refused(Recording(samples[:, :11], LEADS[:11]), ECG)
    assert "has no V6" in detail
    assert "two channels called I:" in refused(
        Recording(ecg()[:, [*range(12), 0]], [*LEADS, "i"]), ECG
    )
    detail = refused(Recording(samples[:, :3]), ECG)
    assert "3 channels of 1000 samples" in detail and "AVR" in detail
    assert "looks at 1" in refused(Recording(samples), SERIES)


@pytest.mark.parametrize(
    "form", ["Lead {}", "lead {}", "ECG Lead {}", "LEAD_{}", "MDC_ECG_LEAD_{}"]
)
def test_leads_that_are_called_leads(form: str) -> None:
    """Lead II and lead aVR are the leads II and AVR, in whatever order and file; each counts once."""
    samples = np.random.default_rng(0).normal(size=(1000, 12)).round(3)
    order = np.random.default_rng(1).permutation(12)
    names = [form.format(LEADS[number].replace("AV", "aV")) for number in order]
    found = prepared(upload(csv(samples[:, order], names), "text/csv"), ECG)
    np.testing.assert_allclose(found.samples, samples)
    assert "dropped" not in codes(found)
    twice = Recording(np.hstack([samples, samples[:, :1]]), [*LEADS, form.format("I")])
    assert "two channels called I" in refused(twice, ECG)


def test_channels_without_names_of_their_own_are_counted() -> None:
    """`channel 1` of an archive is no name that a stranger's file could have."""
    found = prepared(Recording(np.arange(140.0)[:, None], ["ECG"]), SERIES)
    assert found.samples.shape == (140, 1)


# Grades


def flat() -> np.ndarray:
    samples = ecg()
    samples[:, 4] = 0
    return samples


def gap() -> np.ndarray:
    samples = ecg()
    samples[100:200, 3] = np.nan
    return samples


@pytest.mark.parametrize(
    ("sent", "dataset", "expected"),
    [
        (Recording(ecg() * 1000, units=["uV"] * 12), ECG, {"converted": "note"}),
        (Recording(ecg(5000, 500), sampling_rate=500), ECG, {"resampled": "note"}),
        (Recording(ecg(500, 50), sampling_rate=50), ECG, {"resampled": "caution"}),
        (Recording(np.hstack([ecg(), ecg()[:, :1]]), [*LEADS, "VX"]), ECG, {"dropped": "note"}),
        (Recording(flat()), ECG, {"flat": "caution"}),
        (Recording(gap()), ECG, {"missing": "caution"}),
        (Recording(ecg(500), sampling_rate=100), ECG, {"short": "caution"}),
        (
            Recording(np.arange(140.0)[:, None], sampling_rate=250),
            SERIES,
            {"sampling_rate": "caution"},
        ),
        (upload(sound(np.random.default_rng(1).normal(0, 0.1, 8000))), SOUND, {"short": "note"}),
        # Hours may be minutes, where seconds are what a name says.
        (csv(np.column_stack([TIMES, ecg()]), ["time (s)", *LEADS]), ECG, {}),
        (csv(np.column_stack([TIMES, ecg()])), ECG, {"times": "caution"}),
        (csv(np.column_stack([np.arange(1000), ecg()])), ECG, {"times": "note"}),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) and "unit" not in value else "",
)
def test_what_may_make_an_answer_wrong_is_a_caution(
    sent: Recording | Upload | bytes, dataset: dict[str, Any], expected: dict[str, str]
) -> None:
    """And what loses nothing that the model looks at is a note: cautions alone are enough to read."""
    recording = upload(sent, "text/csv") if isinstance(sent, bytes) else sent
    found = prepared(recording, dataset)
    assert {notice.code: notice.grade for notice in found.notices} == expected


# Time


@pytest.mark.parametrize("rate", [50, 128, 250, 360, 500, 1000])
def test_other_sampling_rates_are_resampled(rate: int) -> None:
    """Waves below half of both rates keep their values, as by the exact formula, and by scipy."""
    times = np.arange(10 * rate) / rate
    frequencies = np.linspace(1, 15, 12)
    wave = 3 + np.sin(2 * np.pi * frequencies * times[:, None])
    found = prepared(Recording(wave, sampling_rate=rate), ECG)
    assert found.samples.shape == (1000, 12)
    assert f"from {rate} Hz to 100 Hz" in said(found, "resampled")
    exact = 3 + np.sin(2 * np.pi * frequencies * TIMES[:, None])
    middle = slice(100, 900)  # a filter rings at the ends
    np.testing.assert_allclose(found.samples[middle], exact[middle], atol=2e-3)
    other = signal.resample_poly(wave - 3, 100, rate, window=("kaiser", 12.0)) + 3
    np.testing.assert_allclose(found.samples[middle], other[middle], atol=0.02)


def test_equal_rates_are_left_as_they_are() -> None:
    """Said or not said, without a notice."""
    for rate in (None, 100.0):
        found = prepared(Recording(ecg(), sampling_rate=rate), ECG)
        np.testing.assert_array_equal(found.samples, ecg())
        assert not found.notices and found.length == 1000


@pytest.mark.parametrize("samples", [250, 999, 1001, 5000])
def test_a_rate_that_nobody_says_is_not_guessed(samples: int) -> None:
    """5000 steps may be 10 s at 500 Hz or 50 s at 100 Hz: answers about either would differ. Only as many
    steps as in training are taken to be at its rate."""
    for sent in (npy(ecg(samples)), raw(ecg(samples).T), Recording(ecg(samples), LEADS)):
        detail = refused(sent, ECG)
        assert "no sampling rate" in detail and f"{samples} steps" in detail
        assert "1000" in detail and "X-Sampling-Rate" in detail and '"sampling_rate"' in detail
    assert prepared(npy(ecg(samples), X_Sampling_Rate="100"), ECG).length == samples


def test_missing_samples_stay_missing() -> None:
    """They do not spread through the filter, and what is beside them is not lost."""
    samples = ecg(5000, 500)
    samples[2000:2500, 3] = np.nan
    samples[4000:, 5] = np.nan
    found = prepared(Recording(samples, sampling_rate=500), ECG)
    missing = np.isnan(found.samples)
    expected = np.zeros((1000, 12), dtype=bool)
    expected[400:500, 3] = expected[800:, 5] = True
    assert np.count_nonzero(missing != expected) <= 2
    whole = prepared(Recording(ecg(5000, 500), sampling_rate=500), ECG).samples
    apart = np.abs(found.samples - whole)
    assert np.nanmax(apart[600:, 3]) < 1e-3 and np.nanmax(apart[:, 4]) == 0
    assert "1500 of 60000" in said(found, "missing") and "AVR, AVF" in said(found, "missing")
    assert "flat" not in codes(found)


def test_channels_without_a_valid_sample_are_refused() -> None:
    """Such leads are refused like those absent by name: zeros would be an answer about another heart."""
    samples = ecg()
    samples[:, [3, 7]] = np.nan
    for sent in (Recording(samples), Recording(samples[:, ::-1], LEADS[::-1])):
        assert "AVR, V2" in refused(sent, ECG)
    stereo = np.random.default_rng(12).normal(0, 0.1, (12000, 2))
    stereo[:, 1] = np.nan
    assert "channel 2" in refused(Recording(stereo, sampling_rate=RATE), SOUND)
    digit = np.zeros((28, 28))
    digit[:, 4] = np.nan
    assert "column 5" in refused(Recording(digit), DIGITS)


def test_rows_of_features_may_lack_some() -> None:
    """A value that was not measured is what the training fills with a median."""
    row = {**SERIES, "channels": ["age", "pulse"], "drawing": "features", "length": 1}
    found = prepared(Recording(np.array([[np.nan, 71.0]])), row)
    assert codes(found) == ["missing"] and np.isnan(found.samples[0, 0])


def test_absurd_rates_are_refused() -> None:
    """Nor may a small file become a large one."""
    assert "between 2 and 5000 Hz" in refused(Recording(ecg(), sampling_rate=5001), ECG)
    assert "between 2 and 5000 Hz" in refused(Recording(ecg(), sampling_rate=1.9), ECG)
    few = LIMITS.model_copy(update={"max_values": 20_000})
    detail = refused(Recording(ecg(), sampling_rate=50), ECG, limits=few)
    assert "24,000 values" in detail


def test_rates_of_data_without_any_are_not_used() -> None:
    """Images and the archive's series are not in time."""
    beat = Recording(np.arange(140.0)[:, None], sampling_rate=250)
    assert codes(prepared(beat, SERIES)) == ["sampling_rate"]
    digit = Recording(np.eye(28), sampling_rate=250)
    assert codes(prepared(digit, DIGITS)) == ["sampling_rate"]


def test_lengths() -> None:
    """Too short for the model is refused; shorter than in training is told; whole means exactly."""

    def at_rate(samples: int) -> Recording:
        return Recording(ecg(samples), sampling_rate=100)

    assert "249 steps, 2.49 s" in refused(at_rate(249), ECG, 250)
    assert codes(prepared(at_rate(250), ECG, 250)) == ["short"]
    assert not prepared(Recording(ecg(1000)), ECG, 250).notices
    assert not prepared(at_rate(3000), ECG, 250).notices
    detail = refused(at_rate(999), ECG, 1000, whole=True)
    assert "exactly 1000 steps" in detail
    assert "exactly 1000 steps" in refused(at_rate(1001), ECG, 1000, whole=True)
    assert not prepared(Recording(ecg(1000)), ECG, 1000, whole=True).notices


# Notices


@real
@pytest.mark.parametrize("folder", ["records100", "records500"])
def test_real_records_are_rarely_called_clipped(folder: str) -> None:
    """And all of those whose leads are cut off at half of their height are."""
    false = true = count = 0
    for header in sorted((REAL / "ptbxl" / folder).rglob("*.hea"))[::4]:
        files = [(path.name, path.read_bytes()) for path in (header, header.with_suffix(".dat"))]
        recording = uploads.read(form(*files), LIMITS)
        false += "clipped" in codes(prepared(recording, ECG))
        half = 0.5 * np.abs(recording.samples).max(axis=0)
        cut = Recording(recording.samples.clip(-half, half), LEADS, recording.sampling_rate)
        true += "clipped" in codes(prepared(cut, ECG))
        count += 1
    assert false <= 0.01 * count and true == count


def test_clipped_and_flat_leads_are_named() -> None:
    """Also one that has wandered out of range, and no coarse one whose peaks are round."""
    samples = ecg(5000, 500)
    samples[:, 2] = samples[:, 2].clip(None, 0.2)
    samples[2000:3000, 7] = 9
    samples[:, 4] = -0.25
    found = prepared(Recording(samples, LEADS, 500), ECG)
    assert said(found, "clipped").startswith("III, V2 ")
    assert said(found, "flat").startswith("AVL ")
    coarse = prepared(Recording((ecg(5000, 500) / 0.02).round() * 0.02, None, 500), ECG)
    assert codes(coarse) == ["resampled"]


def test_clipped_sound_is_told() -> None:
    """A recorder that was too loud; not a quiet tone of few steps."""
    times = np.arange(RATE) / RATE
    noise = np.random.default_rng(8).normal(0, 1, RATE)
    assert "clipped" in codes(prepared(upload(sound(noise.clip(-1, 1))), SOUND))
    assert "clipped" not in codes(prepared(upload(sound(0.1 * noise)), SOUND))
    hum = np.sin(2 * np.pi * 50 * times) * 50 / 2**15
    assert "clipped" not in codes(prepared(upload(sound(hum)), SOUND))
    assert "flat" in codes(prepared(upload(sound(0 * hum)), SOUND))


def test_recordings_far_from_the_training_are_told() -> None:
    """Half as large again as any root mean square in training, or as small."""
    typical = {"rms": [0.5, 2.0]}
    normalized = np.ones((100, 12), np.float32)
    for factor, is_far in ((1, False), (2.9, False), (3.1, True), (0.34, False), (0.3, True)):
        notice = far(factor * normalized, typical)
        assert (notice is not None) == is_far
    assert far(100 * normalized, None) is None


def test_what_reading_found_is_passed_on() -> None:
    """The answer has one list of warnings."""
    steps = [step for step in range(140) if step != 70]
    times = "t,channel 1\n" + "\n".join(f"{step / 100},{step}" for step in steps)
    found = prepared(upload(times.encode(), "text/csv"), SERIES)
    assert codes(found) == ["irregular", "missing", "sampling_rate"]
    assert found.length == 140


def is_told_of_leads(samples: np.ndarray, names: list[str] | None = None) -> bool:
    return "leads" in codes(prepared(Recording(samples, names, len(samples) / 10), ECG))


@real
@pytest.mark.parametrize("folder", ["records100", "records500"])
def test_leads_in_another_order_are_told_by_einthovens_law(folder: str) -> None:
    """No real record raises the warning; nearly all do if their unnamed leads come in another order."""
    random = np.random.default_rng(13)
    asis = reverse = shuffled = count = 0
    for header in sorted((REAL / "ptbxl" / folder).rglob("*.hea"))[::4]:
        files = [(path.name, path.read_bytes()) for path in (header, header.with_suffix(".dat"))]
        samples = uploads.read(form(*files), LIMITS).samples
        asis += is_told_of_leads(samples)
        reverse += is_told_of_leads(samples[:, ::-1])
        shuffled += is_told_of_leads(samples[:, random.permutation(12)])
        assert not is_told_of_leads(samples[:, ::-1], LEADS[::-1]), "names put them in order"
        count += 1
    assert asis == 0 and reverse == count and shuffled >= 0.95 * count


def test_simulated_records_obey_einthovens_law() -> None:
    """They obey it with their noise of electrodes, which the model was trained on."""
    records = simulator.cohort(40, 5)
    told = [is_told_of_leads(simulator.signals(record, 5)) for record in records]
    assert sum(told) == 0


def test_einthovens_law_is_not_asked_of_what_is_missing_or_flat() -> None:
    """A lead that is off, an offset of an amplifier and a gap are other faults."""
    samples = ecg()
    assert not is_told_of_leads(samples + np.linspace(0, 5, 12))
    gap = samples.copy()
    gap[300:700, 1] = np.nan
    assert not is_told_of_leads(gap)
    off = samples.copy()
    off[:, 1] = 0
    assert not is_told_of_leads(off)
    assert not is_told_of_leads(samples * 1e-9)
    noisy = samples + np.random.default_rng(14).normal(0, 0.2, samples.shape)
    assert is_told_of_leads(noisy)
    three = {**ECG, "channels": ["V1", "V2", "V3"]}
    assert not prepared(Recording(samples[:, :3]), three).notices


# Images


def test_what_is_no_image_is_refused() -> None:
    """Rather than made one."""
    assert "X-Unit: grey level" in refused(Recording(np.full((28, 28), 200.0)), DIGITS)
    assert "1 x 784" in refused(Recording(np.zeros((1, 784))), DIGITS)
    gaps = np.zeros((20, 20))
    gaps[3, 4] = np.nan
    assert "missing" in refused(Recording(gaps), DIGITS)
    assert "mV" in refused(Recording(np.zeros((28, 28)), units=["mV"] * 28), DIGITS)
    kept = np.zeros((28, 28))
    kept[3, 4] = np.nan
    assert codes(prepared(Recording(kept), DIGITS)) == ["missing"]


def test_other_files_do_not_fit() -> None:
    """An image for an ECG model, an ECG for one of sound."""
    picture = upload(image(np.eye(12, dtype=np.uint8)))
    assert "an image does not fit" in refused(picture, ECG)
    assert "an image" in refused(picture, SOUND)
    digital = (1000 * ecg()).astype(int)
    assert "'mV'" in refused(form(*record(digital, LEADS, "100")), SOUND)


# Sound


def test_stereo_is_averaged_or_a_channel_chosen() -> None:
    """The channel is mixed as extract_features mixes it."""
    stereo = np.random.default_rng(9).normal(0, 0.1, (12000, 2)).astype(np.float32)
    both = prepared(upload(sound(stereo, coding="FLOAT")), SOUND).samples
    mean = prepared(upload(sound(stereo.mean(axis=1), coding="FLOAT")), SOUND).samples
    np.testing.assert_allclose(both, mean, atol=1e-3)
    second = {**SOUND, "representation": {**SOUND["representation"], "channel": 2}}
    chosen = prepared(upload(sound(stereo, coding="FLOAT")), second).samples
    alone = prepared(upload(sound(stereo[:, 1], coding="FLOAT")), SOUND).samples
    np.testing.assert_array_equal(chosen, alone)
    assert "listens to number 2" in refused(upload(sound(stereo[:, 0])), second)


def test_arrays_are_sound_too() -> None:
    """The page sends its examples as NPY with a sampling rate in a header; turned or not."""
    waveform = np.random.default_rng(10).normal(0, 0.1, (12000, 1)).astype(np.float32)
    expected = prepared(upload(sound(waveform, coding="FLOAT")), SOUND).samples
    for sent in (npy(waveform), raw(waveform.T), raw(waveform[:, 0])):
        assert "X-Sampling-Rate" in refused(sent, SOUND), "sound of any rate has any length"
        sent = replace(sent, headers={**sent.headers, "X-Sampling-Rate": "16000"})
        np.testing.assert_array_equal(prepared(sent, SOUND).samples, expected)


def test_long_sound_stays_long_and_has_a_limit() -> None:
    """The model's windows run over it."""
    seconds = np.random.default_rng(11).normal(0, 0.1, 3 * RATE)
    assert prepared(upload(sound(seconds)), SOUND).samples.shape == (94, 32)
    few = LIMITS.model_copy(update={"max_values": 50_000})
    slow = Recording(seconds[:40_000, None], sampling_rate=8000)
    assert "80,000 values" in refused(slow, SOUND, limits=few)
    assert "too far" in refused(Recording(seconds[:, None], sampling_rate=100), SOUND)


def test_gaps_in_sound_are_bridged() -> None:
    """A spectrum needs every sample."""
    waveform = np.random.default_rng(12).normal(0, 0.1, (12000, 1))
    waveform[100:103] = np.nan
    found = prepared(Recording(waveform, sampling_rate=RATE), SOUND)
    assert np.isfinite(found.samples).all() and "missing" in codes(found)


def test_sound_that_fills_no_frame_is_refused() -> None:
    """One sample, repeated to two seconds, is no sound of a machine."""
    noise = np.random.default_rng(15).normal(0, 0.1, 3000)
    for samples, rate in ((1, RATE), (1023, RATE), (511, RATE // 2), (2819, 44100)):
        detail = refused(upload(sound(noise[:samples], rate)), SOUND)
        assert "1024 samples" in detail and "0.064 s" in detail
    for samples, rate in ((1024, RATE), (512, RATE // 2), (2823, 44100)):
        assert prepared(upload(sound(noise[:samples], rate)), SOUND).samples.shape == (20, 32)


@settings(max_examples=20)
@given(samples=st.integers(1024, 20_000))
def test_the_part_of_sound_that_is_not_repeated_is_known(samples: int) -> None:
    """So that an error is located where somebody can listen to it."""
    noise = np.random.default_rng(16).normal(0, 0.1, samples)
    found = prepared(upload(sound(noise)), SOUND)
    assert found.length == 1 + samples // 512
    assert len(found.samples) == max(20, found.length)
    assert ("short" in codes(found)) == (found.length < 20)
    np.testing.assert_array_equal(found.samples[found.length :], found.samples[: -found.length])


@pytest.mark.parametrize("dtype", ["<i2", "<f4", "<i8"])
def test_arrays_of_integers_are_no_sound(dtype: str) -> None:
    """16 bits as they are in a WAV file would be 90 dB too loud."""
    noise = np.random.default_rng(17).normal(0, 0.1, (12000, 1))
    detail = refused(npy((noise * 2**15).astype(dtype), X_Sampling_Rate="16000"), SOUND)
    assert "from -1 to 1" in detail and "32768" in detail
    assert "from -1 to 1" in refused(json({"signal": [3] * 2000, "sampling_rate": RATE}), SOUND)
    assert prepared(npy(10 * noise.clip(-0.15, 0.15), X_Sampling_Rate="16000"), SOUND)


# What it will cost


@settings(max_examples=60)
@given(
    steps=st.integers(1, 3000),
    rate=st.sampled_from([None, 2.0, 5.0, 50.0, 99.7, 100.0, 360.0, 5000.0]),
    turned=st.booleans(),
)
def test_values_after_resampling_are_known_before(
    steps: int, rate: float | None, turned: bool
) -> None:
    """The number of values is right but for a rounded step, without computing one."""
    samples = np.random.default_rng(18).normal(0, 1, (steps, 12))
    recording = Recording(samples.T if turned and steps != 12 else samples, sampling_rate=rate)
    expected = resampled_values(recording, ECG)
    if rate is None and steps != 1000:
        assert expected == samples.size
    else:
        assert abs(prepared(recording, ECG, 0).samples.size - expected) <= 12


def test_values_of_sound_images_and_others_are_known() -> None:
    """A spectrogram counts its own steps; extra channels do not count; absurd rates are no error."""
    noise = np.random.default_rng(19).normal(0, 0.1, (40_000, 1))
    for rate in (8000, 16000, 44100):
        recording = Recording(noise, sampling_rate=rate)
        expected = prepared(recording, SOUND).samples.size
        assert resampled_values(recording, SOUND) == expected
        assert resampled_values(Recording(noise.T, sampling_rate=rate), SOUND) == expected
    assert resampled_values(Recording(noise[:2000], sampling_rate=16000), SOUND) == 20 * 32
    extra = Recording(np.zeros((1000, 14)), [*LEADS, "a", "b"], 500)
    assert resampled_values(extra, ECG) == 200 * 12
    assert resampled_values(Recording(np.zeros((280, 280))), DIGITS) == 28 * 28
    for dataset in (ECG, SERIES, DIGITS, SOUND):
        for rate in (5e-324, 1e-9, 1e9):
            assert resampled_values(Recording(noise, sampling_rate=rate), dataset) > 0


def test_a_file_of_the_simulator_needs_no_notice() -> None:
    """A recording like those of the training raises no warning."""
    block = {"machines": 1, "train": 1, "test_normal": 1, "test_anomaly": 1, "seconds": 0.75,
             "sampling_rate": RATE, "snr": [6.0], "seed": 3}  # fmt: skip
    simulated = sound_data.simulator.Simulated.model_validate(block)
    for clip in sound_data.simulator.simulate(simulated):
        waveform, _ = soundfile.read(io.BytesIO(clip.content))
        found = prepared(upload(clip.content, "audio/wav"), SOUND)
        assert not found.notices and len(waveform) == 12000


def test_normalization_takes_what_is_prepared() -> None:
    """Missing samples get the training mean, and the network never sees NaN."""
    samples = ecg()
    samples[100, 2] = np.nan
    found = prepared(Recording(samples), ECG)
    fitted = Normalization([0.5] * 12, [2.0] * 12, [0.5] * 12, [])
    normalized = fitted.apply(found.samples)
    assert np.isfinite(normalized).all() and normalized[100, 2] == 0
