"""Files of every format: the samples that they hold, and each way of being wrong a refusal in words."""

from __future__ import annotations

import io
import re
import struct
import sys
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wfdb
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import ExifTags, Image

from beatline.formats import audio
from beatline.formats.recording import Recording
from beatline.serving import uploads
from beatline.serving.problems import Problem
from beatline.serving.uploads import File, Upload
from beatline.serving.uploads.raw_float32 import SHAPE, SHAPE_PATTERN
from tests.formats import ecg_files
from tests.paths import ROOT
from tests.serving.uploads import (
    LEADS,
    LIMITS,
    REAL,
    csv,
    form,
    image,
    json,
    npy,
    packed,
    raw,
    record,
    sound,
    upload,
)

SAMPLES = np.random.default_rng(1).normal(0, 0.3, (50, 3)).round(3)
DIGITAL = np.random.default_rng(2).integers(-900, 900, (50, 2))
SOUND = np.random.default_rng(4).normal(0, 0.2, (3000, 2)).clip(-1, 1)
NAMES = ["I", "II", "V1"]
JSON, CSV, OCTETS = "application/json", "text/csv", "application/octet-stream"
real = pytest.mark.skipif(not (REAL / "ptbxl").is_dir(), reason="real recordings are not here")


def read(sent: Upload) -> Recording:
    return uploads.read(sent, LIMITS)


def refused(sent: Upload) -> Problem:
    with pytest.raises(Problem) as caught:
        read(sent)
    assert "\n" not in caught.value.detail
    return caught.value


def same(recording: Recording, expected: np.ndarray, within: float = 0) -> None:
    np.testing.assert_allclose(recording.samples, expected, rtol=0, atol=within)


# What is read


@settings(max_examples=60)
@given(
    array=arrays.arrays(
        np.float32,
        arrays.array_shapes(min_dims=2, max_dims=2, max_side=6),
        elements=st.floats(-1e9, 1e9, width=32) | st.just(float("nan")),
    )
)
def test_every_format_of_arrays_gives_the_samples_that_went_in(array: np.ndarray) -> None:
    """JSON, NPY, CSV and raw float32 are the same numbers, with the missing ones missing."""
    if np.isnan(array).all():
        array = np.nan_to_num(array)
    listed = [[None if np.isnan(x) else x for x in row] for row in array.astype(float).tolist()]
    for sent in (raw(array), npy(array), json(listed), json({"signal": listed})):
        same(read(sent), array)
    if array.shape[1] > 1:  # an empty line in a single column may be the end of the file
        table = csv(array.astype(float)).replace(b"nan", b"")
        for delimiter in (b",", b";", b"\t"):
            same(read(upload(table.replace(b",", delimiter), "text/csv")), array)


@pytest.mark.parametrize("dtype", ["<f2", ">f4", "<f8", ">i2", "<i8", "u1", "?"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_of_any_plain_number(dtype: str, order: Any) -> None:
    """Any byte order, any width, either order of the axes, one recording in a batch."""
    array = np.asarray(SAMPLES * 3, order=order).astype(dtype)
    same(read(npy(array)), array.astype(float))
    same(read(npy(array[None])), array.astype(float))
    assert read(npy(array[:, 0])).samples.shape == (50, 1)


def test_raw_float32_is_not_copied() -> None:
    """The fastest way in: the samples are the bytes of the body."""
    sent = raw(SAMPLES)
    samples = read(sent).samples
    assert np.shares_memory(samples, np.frombuffer(sent.files[0].content, "<f4"))


def test_metadata_of_headers() -> None:
    """Headers say what an array cannot, also in another client's spelling of µ."""
    sent = raw(SAMPLES, X_Sampling_Rate="500", X_Channels="I, II,V1", X_Unit="µV")
    recording = read(sent)
    assert recording.channels == NAMES and recording.sampling_rate == 500
    assert recording.units == ["µV"] * 3
    as_utf8 = "µV".encode().decode("latin-1")
    assert read(raw(SAMPLES, X_Unit=as_utf8)).units == ["µV"] * 3
    turned = read(raw(SAMPLES.T, X_Channels="I,II,V1"))
    assert turned.samples.shape == (50, 3)


def test_metadata_in_json() -> None:
    """An object by channel name, or an array with names."""
    said = {"sampling_rate": 250, "unit": "mV"}
    by_name = dict(zip(NAMES, SAMPLES.T.tolist(), strict=True))
    for document in (
        {"signal": by_name, **said},
        {"signal": SAMPLES, "channels": NAMES, **said},
        {"signal": SAMPLES.T, "channels": NAMES, **said},
        {"signal": by_name, "sampling_rate": 250, "unit": "m\\V"[:1] + "V"},
    ):
        recording = read(json(document))
        same(recording, SAMPLES)
        assert (recording.channels, recording.sampling_rate) == (NAMES, 250)
        assert recording.units == ["mV"] * 3


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_with_names_and_times(delimiter: str) -> None:
    """A column of times is no channel and tells the sampling rate; one of numbers is none either."""
    times = (np.arange(50) / 360).round(3)[:, None]  # steps of 3, 3 and 2 ms
    table = csv(np.hstack([times, SAMPLES]), ["Time", *NAMES], delimiter)
    recording = read(upload(table, "text/csv"))
    same(recording, SAMPLES)
    assert recording.channels == NAMES and recording.sampling_rate == 360
    table = csv(np.hstack([np.arange(7, 57)[:, None], SAMPLES]), ["index", *NAMES], delimiter)
    recording = read(form(("x.csv", table)))
    same(recording, SAMPLES)
    assert recording.channels == NAMES and recording.sampling_rate is None


def test_csv_of_spreadsheets() -> None:
    """A byte order mark, quotes, Windows' line ends, decimal commas, numpy's comment before names."""
    table = b'\xef\xbb\xbf"I";"II"\r\n"1,5";"2"\r\n;"4"\r\n'
    recording = read(upload(table, "text/csv"))
    same(recording, np.array([[1.5, 2], [np.nan, 4]]))
    assert recording.channels == ["I", "II"]
    assert read(upload(b"# I,II\n1,2\n3,4\n", "text/csv")).channels == ["I", "II"]
    same(read(upload(b"1\n\n3\n\n", "text/csv")), np.array([[1], [np.nan], [3]]))


def timed(times: np.ndarray, name: str = "t") -> Upload:
    """A channel of 0, 1, 2 … at those times."""
    table = np.column_stack([times, np.arange(len(times), dtype=float)])
    return upload(csv(table, [name, "I"]), "text/csv")


@pytest.mark.parametrize(
    ("name", "factor"),
    [("timestamp", 1), ("time_s", 1), ("Seconds", 1), ("time (s)", 1), ("time [s]", 1), ("T", 1),
     ("time_ms", 1000), ("ms", 1000), ("Milliseconds", 1000), ("time (ms)", 1000),
     ("time [ms]", 1000)],
)  # fmt: skip
@pytest.mark.parametrize("rate", [100, 250, 500])
def test_columns_of_times_by_many_names(name: str, factor: float, rate: float) -> None:
    """In seconds or milliseconds; also of a clock that did not begin at 0."""
    for start in (0, 1_700_000_000):
        recording = read(timed(start * factor + np.arange(50) / rate * factor, name))
        assert recording.channels == ["I"] and recording.sampling_rate == rate
        assert not recording.warnings


COUNT = np.arange(1000)
PAIR = np.random.default_rng(3).normal(0, 0.3, (1000, 2)).round(3)


@pytest.mark.parametrize(
    ("name", "times", "rate", "notice"),
    [
        ("Elapsed time", COUNT / 500, 500, ""),
        ("Time(s)", COUNT / 500, 500, ""),
        ("sec", COUNT / 500, 500, ""),
        ("timeMs", COUNT * 2, 500, ""),
        ("time (µs)", COUNT * 2000, 500, ""),
        ("t [min]", COUNT / 30_000, 500, ""),
        ("Unix timestamp", 1.7e12 + COUNT * 2, 500, ""),
        ("timestamp", 1.7e18 + COUNT * 2e6, 500, ""),
        ("time", COUNT * 2, 500, "in milliseconds, at 500 Hz"),
        ("time", COUNT / 0.36, 360, "in milliseconds, at 360 Hz"),
        ("time", COUNT * 2000, 500, "in microseconds, at 500 Hz"),
        ("time", COUNT / 25, 25, "in seconds, at 25 Hz"),
        ("time", COUNT, None, "tells no sampling rate"),
        ("zeitpunkt", COUNT / 500, 500, "in seconds, at 500 Hz"),
        ("", COUNT / 500, 500, "in seconds, at 500 Hz"),
        ("zeitpunkt", COUNT, None, "counts the samples"),
        ("Sample #", COUNT + 1, None, ""),
        ("Unnamed: 0", COUNT, None, ""),
        (None, COUNT / 500, 500, "column 1 rises as times do: it is taken as times in seconds"),
        (None, COUNT, None, "column 1 counts the samples"),
    ],
)  # fmt: skip
def test_times_are_known_by_their_values(
    name: str | None, times: np.ndarray, rate: float | None, notice: str
) -> None:
    """A rate that the file holds is used, whatever its column is called; what was guessed is said. So it
    is in JSON and NPY."""
    names = None if name is None else ["I", "II"]
    array = np.column_stack([times, PAIR])
    sent = [upload(csv(array, names and [str(name), *names]), "text/csv")]
    if names is None:
        sent += [npy(array), raw(array), json(array)]
    else:
        by_name = dict(zip([name, *names], array.T.tolist(), strict=True))
        sent += [json({"signal": by_name})] * bool(name)
        sent += [json({"signal": array, "channels": [str(name) or "index", *names]})] * bool(name)
    for one in sent:
        recording = read(one)
        same(recording, PAIR, 1e-6)
        assert (recording.channels, recording.sampling_rate) == (names, rate)
        messages = [notice.message for notice in recording.warnings]
        assert notice in messages[0] if notice else not messages, messages
        assert all(notice.code == "times" for notice in recording.warnings)


def test_what_the_request_says_of_times() -> None:
    """Its rate tells the unit, and may not contradict; who names every column says which are times."""
    table = csv(np.column_stack([COUNT * 50, PAIR]), ["time", "I", "II"])
    assert "name no unit" in refused(upload(table, "text/csv")).detail
    recording = read(upload(table, "text/csv", X_Sampling_Rate="20"))
    assert recording.sampling_rate == 20 and not recording.warnings
    assert (
        "leave one of them out" in refused(upload(table, "text/csv", X_Sampling_Rate="30")).detail
    )
    document = {"signal": {"time": COUNT / 500, "I": PAIR[:, 0]}, "sampling_rate": 250}
    assert "leave one of them out" in refused(json(document)).detail
    array = np.column_stack([COUNT / 500, PAIR])
    assert read(npy(array, X_Channels="I,II")).sampling_rate == 500
    assert read(npy(array, X_Channels="t,I,II")).channels == ["I", "II"]
    recording = read(npy(array, X_Channels="III,I,II"))
    assert recording.sampling_rate is None and recording.samples.shape == (1000, 3)


@pytest.mark.parametrize(
    ("array", "names"),
    [
        (np.arange(3000).reshape(1000, 3), None),
        (np.column_stack([COUNT / 500, PAIR]), ["I", "II", "III"]),
        (np.column_stack([PAIR, COUNT / 500]), ["a", "b", "c"]),
        (np.column_stack([COUNT / 500, PAIR])[:9], ["a", "b", "c"]),
        (np.column_stack([COUNT * 50, PAIR]), ["a", "b", "c"]),
        ((COUNT / 500)[:, None], ["a"]),
    ],
)
def test_channels_that_rise_stay(array: np.ndarray, names: list[str] | None) -> None:
    """A ramp is no time where a lead's name, its place, its few samples or its step say otherwise."""
    recording = read(upload(csv(array.astype(float), names), "text/csv"))
    same(recording, array)
    assert recording.sampling_rate is None and recording.channels == names


@pytest.mark.parametrize("head", ["when,I,II\n", ""])
@pytest.mark.parametrize("zone", ["", "Z", "+01:00"])
@pytest.mark.parametrize("first", ["2024-01-01T23:59:59", "2024-02-29 00:00:00.5", "23:59:59.900"])
def test_times_of_day(first: str, zone: str, head: str) -> None:
    """ISO 8601 and clocks, over midnight; a cell that is none is refused."""
    dated = "-" in first
    start = np.datetime64(first.replace(" ", "T") if dated else f"2024-01-01T{first}")
    texts = [str(start + np.timedelta64(2 * n, "ms")) for n in range(1000)]
    texts = [text if dated else text[11:] for text in texts]
    lines = [f"{text}{zone},{one},{two}" for text, (one, two) in zip(texts, PAIR, strict=True)]
    recording = read(upload((head + "\n".join(lines)).encode(), "text/csv"))
    same(recording, PAIR)
    assert recording.sampling_rate == 500 and not recording.warnings
    assert recording.channels == (["I", "II"] if head else None)
    lines[500] = "noon,1,2"
    assert "sample 501" in refused(upload((head + "\n".join(lines)).encode(), "text/csv")).detail


def test_tables_of_pandas_without_names() -> None:
    """Their first line counts the columns, and is no sample."""
    table = b",0,1\n0,0.5,1.5\n1,2.5,3.5\n"
    same(read(upload(table, "text/csv")), np.array([[0.5, 1.5], [2.5, 3.5]]))


def test_byte_order_marks() -> None:
    """An editor's mark before JSON or a WFDB header is no part of it."""
    mark = b"\xef\xbb\xbf"
    for content_type in ("", JSON):
        same(read(upload(mark + b"[[1,2],[3,4]]", content_type)), np.array([[1, 2], [3, 4]]))
    (name, header), signal = record(DIGITAL, ["I", "II"])
    same(read(form((name, mark + header), signal)), DIGITAL / 1000, 1e-6)


def test_cells_of_csv() -> None:
    """Every mark of a missing value, and commas that may be those of thousands."""
    table = b"I;II\n0,5;?\n-1.#IND;-1,250\nNone;1,5\n"
    same(read(upload(table, CSV)), np.array([[0.5, np.nan], [np.nan, -1.25], [np.nan, 1.5]]))
    assert "1,234 may be 1234" in refused(upload(b"I;II\n1,234;2\n2,345;3\n", CSV)).detail


@settings(max_examples=60)
@given(
    rate=st.floats(1, 450),
    start=st.floats(-1e4, 1e4),
    rounding=st.sampled_from([np.round, np.floor, np.ceil]),
)
def test_rounded_times_are_regular(rate: float, start: float, rounding: Any) -> None:
    """Written in whole milliseconds, as loggers do, at rates that do not divide a second."""
    times = rounding((start + np.arange(400) / rate) * 1000)
    recording = read(timed(times, "ms"))
    assert recording.sampling_rate == pytest.approx(rate, rel=3e-3)
    same(recording, np.arange(400)[:, None])


@settings(max_examples=40)
@given(
    rate=st.sampled_from([1, 100, 128, 250, 500]),
    lost=st.sets(st.integers(1, 198), min_size=1, max_size=8),
    start=st.sampled_from([0.0, -3.5, 1_700_000_000.0]),
)
def test_lost_samples_are_missing_where_they_were(
    rate: float, lost: set[int], start: float
) -> None:
    """Each sample of a stream with gaps stays in its place on a grid of the usual step."""
    kept = np.array([step for step in range(200) if step not in lost])
    recording = read(timed(start + kept / rate, "t (s)"))
    assert recording.sampling_rate == rate
    expected = np.full((200, 1), np.nan)
    expected[kept, 0] = np.arange(len(kept))
    np.testing.assert_array_equal(recording.samples, expected)
    (notice,) = recording.warnings
    assert notice.code == "irregular" and f"{len(lost)} of 200 samples" in notice.message


@pytest.mark.parametrize(
    "times",
    [
        [0, 1, 9],
        [0, 1, 1, 2],
        [3, 2, 1, 0],
        [0, 0, 0],
        [*range(30), 29.5, *range(31, 60)],
        [*range(30), *np.arange(30.5, 60)],
        np.arange(100) + np.random.default_rng(5).uniform(-0.3, 0.3, 100),
        [*range(30), np.nan, *range(31, 60)],
        np.cumsum([0, *[1, 3] * 20]),
        [0, 1e-320, 2e-320, 1],
        [0, 1, 2, np.inf],
        [-1e308, 0, 1e308, 2e308],
    ],
)
def test_irregular_times_are_refused(times: Any) -> None:
    """An answer by another clock than the file's would be wrong without anybody's knowing."""
    problem = refused(timed(np.array(times, dtype=float)))
    assert int(problem.status) == 422 and "column 't'" in problem.detail
    assert "X-Sampling-Rate" in problem.detail


def test_a_long_gap_takes_no_memory() -> None:
    """A recorder that was switched off for a month."""
    times = np.concatenate([np.arange(50), 1e7 + np.arange(50)])
    tracemalloc.start()
    try:
        assert int(refused(timed(times)).status) == 413
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("shape", ["50, 3", " 50 , 3 ", "1,50,3", "150", "050,3"])
def test_shapes_are_those_of_the_documentation(shape: str) -> None:
    """One to three integers, with spaces where people put them."""
    assert re.search(SHAPE, shape) and SHAPE_PATTERN.fullmatch(shape)
    assert read(Upload(OCTETS, {"X-Shape": shape}, raw(SAMPLES).files)).samples.size == 150


@pytest.mark.parametrize(
    "shape", ["", "50;3", "50,3,", "1,1,50,3", "-50,3", "5e1,3", "\N{ARABIC-INDIC DIGIT FIVE},3"]
)
def test_shapes_that_are_none_are_refused(shape: str) -> None:
    """By the pattern of the documentation as well as by the reader."""
    assert not SHAPE_PATTERN.fullmatch(shape)
    assert int(refused(Upload(OCTETS, {"X-Shape": shape}, raw(SAMPLES).files)).status) == 400


def test_long_names_take_no_time() -> None:
    """To look for a similar name takes time that grows with the square of its length."""
    long = b"x" * 15_000_000
    for sent in (
        upload(b'{"' + long + b'": 1}', JSON),
        upload(b'{"signal": {"' + long + b'": 1}}', JSON),
        upload(b'{"signal": [1], "unit": "' + long + b'"}', JSON),
        upload(b'{"signal": [1], "channels": ["' + long + b'", "I"]}', JSON),
        upload(b"t," + long + b"\n1,2\n1,2\n", CSV),
        upload(long, CSV),
    ):
        start = time.process_time()
        assert len(refused(sent).detail) < 1000
        assert time.process_time() - start < 1


@real
@pytest.mark.parametrize("folder", ["records100", "records500"])
def test_real_records_are_those_of_wfdb(folder: str) -> None:
    """Header and signal file by a form, in a ZIP archive, and in folders that nobody looks at."""
    for header in sorted((REAL / "ptbxl" / folder).rglob("*.hea"))[:5]:
        files = [(path.name, path.read_bytes()) for path in (header, header.with_suffix(".dat"))]
        expected: Any = wfdb.rdrecord(str(header.with_suffix("")))
        elsewhere = [(f"a/../b\\{name}", content) for name, content in files]
        zipped = upload(packed(*files), "application/zip")
        for sent in (form(*files), form(*reversed(files)), form(*elsewhere), zipped):
            recording = read(sent)
            same(recording, expected.p_signal, 1e-6)
            assert recording.channels == expected.sig_name
            assert recording.sampling_rate == expected.fs and recording.units == expected.units


def test_files_that_are_not_of_the_record_are_told() -> None:
    """A second recording, or annotations, beside a record are not read, and its sender learns of it."""
    alone = read(form(HEA, DAT))
    assert not alone.warnings
    recording = read(form(("two.dat", DAT[1]), HEA, DAT, ("one.atr", b"\0\0")))
    np.testing.assert_array_equal(recording.samples, alone.samples)
    (notice,) = recording.warnings
    assert (notice.grade, notice.code) == ("caution", "unread")
    assert "two.dat" in notice.message and "one.atr" in notice.message


def test_written_records_are_those_of_wfdb(tmp_path: Path) -> None:
    """Another format, another unit for each lead, a gain that is no power of ten."""
    units = ["uV", "mV", "V"]
    wfdb.wrsamp("one", 250, units, NAMES, SAMPLES, fmt=["32"] * 3, write_dir=str(tmp_path))
    files = [(path.name, path.read_bytes()) for path in sorted(tmp_path.iterdir())]
    recording = read(form(*files))
    expected: Any = wfdb.rdrecord(str(tmp_path / "one"))
    same(recording, expected.p_signal, 1e-6)
    assert (recording.units, recording.channels, recording.sampling_rate) == (units, NAMES, 250)


@pytest.mark.parametrize("container", ["WAV", "FLAC", "OGG", "MP3"])
def test_audio(container: str) -> None:
    """The samples are the pipeline's own; a lossy format is about the same sound."""
    times = np.arange(16000) / 16000
    waveform = 0.3 * np.sin(2 * np.pi * np.array([440, 660]) * times[:, None])
    for sent in (
        upload(sound(waveform, container=container), "audio/x-something"),
        upload(sound(waveform, container=container)),
        form((f"x.{container.lower()}", sound(waveform, container=container))),
    ):
        recording = read(sent)
        assert recording.sampling_rate == 16000
        power = np.abs(np.fft.rfft(recording.samples[:16000], axis=0))
        assert power.argmax(axis=0).tolist() == [440, 660]


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize(
    ("container", "coding"),
    [
        (form, coding)
        for form in ("WAV", "WAVEX", "RF64")
        for coding in ("PCM_16", "PCM_24", "FLOAT")
    ]
    + [("WAV", coding) for coding in ("PCM_U8", "DOUBLE", "ALAW", "MS_ADPCM", "IMA_ADPCM")]
    + [("FLAC", None), ("OGG", "VORBIS"), ("MP3", None)],
)
def test_sound_is_read_as_by_the_pipeline(container: str, coding: str | None, rate: int) -> None:
    """Whatever the pipeline reads, to the sample, by its name or by its first bytes alone: of MPEG-1, 2
    and 2.5, with and without what an encoder says of the file, in all headers of WAV."""
    content = sound(SOUND, rate, container, coding)
    variants = [content]
    if container == "MP3":
        frame = content.index(content[:2], 4)
        variants += [content[frame:], b"ID3\4\0\0\0\0\0\x0a" + bytes(10) + content]
    if container == "OGG":
        variants.append(content + content)
    if container == "RF64":
        variants.append(b"BW64" + content[4:])
    if (container, coding) == ("WAV", "PCM_16"):
        numbers = struct.unpack_from("<I4s4sIHHIIHH4sI", content, 4)
        data = np.frombuffer(content, "<i2", offset=44).astype(">i2").tobytes()
        variants.append(b"RIFX" + struct.pack(">I4s4sIHHIIHH4sI", *numbers) + data)
    for variant in variants:
        expected = audio.read(variant, "x")
        for sent in (upload(variant), form((f"x.{container}", variant))):
            recording = read(sent)
            same(recording, expected.samples)
            assert recording.sampling_rate == expected.sampling_rate == rate


def test_the_page_knows_the_extensions_of_the_pipeline() -> None:
    """A file that it does not know is sent without a content type."""
    script = (ROOT / "beatline/serving/page/uploads.js").read_text()
    known = set(re.findall(r'^  (\w+): "audio/', script, re.MULTILINE))
    assert {f".{extension}" for extension in known} == set(audio.EXTENSIONS)


def test_images() -> None:
    """Grey levels of PNG (8 and 16 bits, colours, transparent) and JPEG."""
    pixels = np.arange(200, dtype=np.uint8).reshape(10, 20)
    same(read(upload(image(pixels), "image/png")), pixels)
    same(read(form(("x.png", image(pixels.astype(np.uint16) * 257)))), pixels)
    same(read(upload(image(pixels, mode="RGB"))), pixels)
    same(read(upload(image(pixels, "JPEG"), "image/jpeg")), pixels, 8)
    ink = np.zeros((10, 20, 4), np.uint8)  # black, and transparent but for one pixel
    ink[3, 4, 3] = 255
    expected = np.full((10, 20), 255)
    expected[3, 4] = 0
    same(read(upload(image(ink))), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_upright(orientation: int) -> None:
    """A telephone stores what its sensor saw, and in EXIF how it was held: eight ways."""
    stored = np.zeros((16, 24), np.uint8)
    stored[:8, :16] = 255  # a corner that is unlike each other turn of it
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    file = io.BytesIO()
    Image.fromarray(stored).save(file, "PNG", exif=exif)
    mirrored = stored[:, ::-1]
    upright = [stored, mirrored, stored[::-1, ::-1], stored[::-1], stored.T, np.rot90(stored, -1),
               stored[::-1, ::-1].T, np.rot90(stored)]  # fmt: skip
    same(read(upload(file.getvalue(), "image/png")), upright[orientation - 1])


@pytest.mark.parametrize("shape", [(2000, 2100), (3024, 4032), (4500, 7000)])
def test_large_photos_are_decoded_at_a_fraction_of_their_size(shape: tuple[int, int]) -> None:
    """A telephone's 12 million pixels are beyond what a recording may hold; the same picture fits."""
    pixels = np.zeros(shape, np.uint8)
    pixels[: shape[0] // 2, : shape[1] // 4] = 200
    shrunk = read(upload(image(pixels, "JPEG"), "image/jpeg")).samples
    assert shrunk.size <= LIMITS.max_values
    assert shrunk.shape[1] / shrunk.shape[0] == pytest.approx(shape[1] / shape[0], rel=0.01)
    bright = shrunk > 100
    assert bright.mean() == pytest.approx(1 / 8, abs=0.01) and bright[0, 0]


def test_what_has_no_type_is_known_by_its_name_or_first_bytes() -> None:
    """A page or curl may not know what it sends."""
    same(read(form(("x.tsv", csv(SAMPLES, delimiter="\t")))), SAMPLES)
    same(read(upload(npy(SAMPLES).files[0].content)), SAMPLES)
    text = b" [[1, 2], [3, 4]]"
    same(read(upload(text, "application/x-www-form-urlencoded")), np.array([[1, 2], [3, 4]]))
    same(read(upload(packed(("x.csv", csv(SAMPLES))))), SAMPLES)


def test_flac_of_unknown_length() -> None:
    """A file that was written to a pipe does not say how long it is: it is read as far as a request
    may be long, and refused from there on."""
    content = bytearray(sound(SAMPLES, container="FLAC"))
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    same(read(upload(bytes(content))), read(upload(sound(SAMPLES, container="FLAC"))).samples)
    few = LIMITS.model_copy(update={"max_values": SAMPLES.size - 1})
    with pytest.raises(Problem) as problem:
        uploads.read(upload(bytes(content)), few)
    assert problem.value.status == 413 and f"{SAMPLES.size:,} values" in problem.value.detail


# What is refused


def with_header(lines: str, *more: tuple[str, bytes]) -> Upload:
    return form(("one.hea", lines.encode()), *more)


def npy_header(header: str, data: bytes = b"", version: bytes = b"\1\0") -> Upload:
    length = struct.pack("<H", len(header))
    return upload(b"\x93NUMPY" + version + length + header.encode("latin-1") + data)


def dtype_header(descr: str, shape: str = "(2, 3)") -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"


def chunk(kind: bytes, content: bytes) -> bytes:
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def png_of(width: int, height: int) -> bytes:
    """The beginning of an image that is larger than it looks."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


ENCRYPTED = bytearray(packed(("x.csv", b"1,2")))
ENCRYPTED[ENCRYPTED.index(b"PK\1\2") + 8] |= 1
ENCRYPTED[6] |= 1
HEA, DAT = record(DIGITAL, ["I", "II"])
NOISE = image(np.random.default_rng(4).integers(0, 255, (28, 28), np.uint8))
NO_BITS = bytearray(sound(SAMPLES[:, 0]))
NO_BITS[32:36] = bytes(4)  # bytes of a frame, bits of a sample
REFUSALS: dict[str, tuple[Upload, int, str]] = {
    "nothing": (Upload("", {}, []), 400, "holds no file"),
    "an empty body": (upload(b"", JSON), 400, "empty"),
    "an unknown format": (upload(b"\0\1\2\3"), 415, "no known format"),
    "an unknown type": (upload(b"\0\1\2\3", "application/pdf"), 415, "application/pdf"),
    "octets without a shape": (upload(b"\0" * 8, OCTETS), 415, "X-Shape"),
    "a shape that is none": (upload(b"\0" * 8, OCTETS, X_Shape="2;1"), 400, "X-Shape"),
    "a shape that does not fit": (upload(b"\0" * 8, OCTETS, X_Shape="3,1"), 400, "12"),
    "a shape without samples": (upload(b"\0", OCTETS, X_Shape="0,12"), 422, "no samples"),
    "10 million samples": (upload(b"\0", OCTETS, X_Shape="10000000,1"), 413, "4,000,000"),
    "a rate that is none": (raw(SAMPLES, X_Sampling_Rate="fast"), 400, "X-Sampling-Rate"),
    "a rate of 0": (raw(SAMPLES, X_Sampling_Rate="0"), 422, "X-Sampling-Rate"),
    "an infinite rate": (raw(SAMPLES, X_Sampling_Rate="inf"), 400, "X-Sampling-Rate"),
    "names that do not fit": (raw(SAMPLES, X_Channels="I,II"), 422, "2 names"),
    "an empty name": (raw(SAMPLES, X_Channels="I,,II"), 422, "number 2 is empty"),
    "an infinite sample": (raw(np.array([[1, 2], [3, np.inf]])), 422, "sample 2 of channel number 2"),
    "minus infinity": (raw(np.array([[-np.inf, 2]])), 422, "infinite"),
    "a huge sample": (raw(np.array([[1, 2e12]])), 422, "beyond 1e+12"),
    "only NaN": (raw(np.full((3, 2), np.nan)), 422, "no valid sample"),
    "no JSON": (upload(b"[[1, 2], [3", JSON), 400, "no JSON"),
    "NaN in JSON": (upload(b"[1, NaN]", JSON), 400, "null"),
    "JSON in another coding": (upload("[1]".encode("utf-16"), JSON), 400, "no JSON"),
    "JSON beyond all depth": (upload(b"[" * 100_000, JSON), 400, "no JSON"),
    "nested deeply": (upload(b"[" * 500 + b"]" * 500, JSON), 422, "equally long"),
    "a JSON number": (json(3), 422, "single value"),
    "a JSON text": (json("abc"), 422, "single value"),
    "null": (json(None), 422, "single value"),
    "an unknown key": (json({"signal": [1], "sampling_rte": 5}), 422, "did you mean sampling_rate"),
    "no signal": (json({"unit": "mV"}), 422, "no key signal"),
    "a signal that is none": (json({"signal": 5}), 422, "no array"),
    "ragged rows": (json([[1, 2], [3]]), 422, "equally long"),
    "numbers as text": (json([["1", "2"]]), 422, "holds text"),
    "true": (json([[True, 0.5]]), 422, "true or false"),
    "false": (json([0.5, False]), 422, "true or false"),
    "text beside the keys": (json({"signal": [["1"]], "unit": "mV"}), 422, "holds text"),
    "an object within": (json([[{}, 1]]), 422, "an object"),
    "too many dimensions": (json(np.zeros((2, 2, 2))), 422, "2 x 2 x 2"),
    "an empty array": (json([]), 422, "no samples"),
    "empty rows": (json([[], []]), 422, "no samples"),
    "channels that differ": (json({"signal": {"I": [1], "II": [1, 2]}}), 422, "1 to 2"),
    "no channels": (json({"signal": {}}), 422, "no list"),
    "a channel of lists": (json({"signal": {"I": [[1]]}}), 422, "no list of numbers"),
    "a channel of a number": (json({"signal": {"I": 1}}), 422, "no list"),
    "names twice": (json({"signal": {"I": [1]}, "channels": ["I"]}), 422, "twice"),
    "names that are numbers": (json({"signal": [1], "channels": [1]}), 422, "channels"),
    "names that are none": (json({"signal": [1], "channels": "I"}), 422, "channels"),
    "a rate as text": (json({"signal": [1], "sampling_rate": "500"}), 422, "sampling_rate"),
    "a rate as truth": (json({"signal": [1], "sampling_rate": True}), 422, "sampling_rate"),
    "a unit as number": (json({"signal": [1], "unit": 5}), 422, "unit"),
    "a number beyond all": (upload(b"[1, 1e400]", JSON), 400, "infinity"),
    "another unit in the header": (
        Upload(JSON, {"X-Unit": "V"}, [File("", b'{"signal": [1, 2], "unit": "mV"}')]),
        422,
        "mV",
    ),
    "objects in NPY": (npy(np.array([[1, None]], dtype=object)), 422, "object"),
    "text in NPY": (npy(np.array(["a", "b"])), 422, "<U1"),
    "complex numbers in NPY": (npy(np.ones((2, 2), complex)), 422, "complex128"),
    "dates in NPY": (npy(np.zeros(3, "M8[s]")), 422, "datetime64"),
    "fields in NPY": (npy(np.zeros(3, [("a", "f4")])), 422, "'a'"),
    "0 samples in NPY": (npy(np.zeros((0, 12))), 422, "no samples"),
    "a single number in NPY": (npy(np.array(1.0)), 422, "a single value"),
    "a huge NPY": (npy_header(dtype_header("'<f4'", "(10000000, 1)")), 413, "4,000,000"),
    "an absurd NPY": (npy_header(dtype_header("'<f4'", "(10**9, 10**9)")), 400, "NPY"),
    "a negative NPY": (npy_header(dtype_header("'<f4'", "(-1, -4)"), b"\0" * 16), 400, "negative"),
    "a cut NPY": (upload(npy(SAMPLES).files[0].content[:-1]), 400, "whole file"),
    "a header of NPY alone": (upload(b"\x93NUMPY"), 400, "NPY"),
    "NPY of a later version": (npy_header("{}", version=b"\3\0"), 400, "3.0"),
    "a pickle in the dtype": (npy_header(dtype_header("'|O'"), b"cos\nsystem\n."), 422, "object"),
    "code in NPY": (npy_header("__import__('os').system('true')"), 400, "NPY"),
    "a deep NPY header": (npy_header("-" * 900 + "1"), 400, "NPY"),
    "a long NPY header": (npy_header(" " * 60_000), 400, "NPY"),
    "words in CSV": (upload(b"1,2\n3,x\n", CSV), 400, "'x' is no number"),
    "ragged CSV": (upload(b"1,2\n3\n", CSV), 400, "line 2"),
    "CSV that is binary": (upload(b"\xff\xfe1\0,\0", CSV), 400, "UTF-8"),
    "CSV of names alone": (upload(b"I,II\n", CSV), 422, "no samples"),
    "CSV of nothing": (upload(b"\n\n", CSV), 422, "no samples"),
    "infinity in CSV": (upload(b"I,II\n1,inf\n", CSV), 422, "sample 1 of channel II"),
    "a large CSV": (upload(b",\n" * 2_100_000, CSV), 413, "4,000,000"),
    "a header alone": (form((HEA, DAT)[0]), 400, "one.dat, which is missing"),
    "a signal file alone": (form((HEA, DAT)[1]), 400, "without its header"),
    "two headers": (form(HEA, DAT, ("two.hea", HEA[1])), 422, "2 headers"),
    "two files of one name": (form(HEA, DAT, ("x/one.dat", DAT[1])), 422, "one.dat"),
    "no header among two": (form(("a.csv", b"1"), ("b.csv", b"1")), 422, "2 files"),
    "a cut signal file": (form(HEA, (DAT[0], DAT[1][:-1])), 400, "cut short"),
    "a wrong checksum": (form(HEA, (DAT[0], b"\1" + DAT[1][1:])), 400, "checksum"),
    "a folder above": (with_header("one 1 500 9\n../../etc/passwd 16\n"), 400, "own folder"),
    "an absolute file": (with_header("one 1 500 9\n/etc/passwd 16\n"), 400, "own folder"),
    "a file at home": (with_header("one 1 500 9\n~/secret 16\n"), 400, "own folder"),
    "a file of Windows": (with_header("one 1 500 9\nC:\\boot.ini 16\n"), 400, "own folder"),
    "a local file": (with_header("one 1 500 9\nREADME.md 16\n"), 400, "missing"),
    "a huge record": (with_header("one 1 500 10000000\none.dat 16\n", DAT), 413, "4,000,000"),
    "endless leads": (with_header("one 2000 5 1\n" + "a 16\n" * 2000), 413, "1024 leads"),
    "an endless line": (with_header("one 1 500 9\none.dat 16 " + "9" * 9000), 413, "512"),
    "an empty header": (with_header("# nothing\n", DAT), 400, "empty header"),
    "a rare layout": (with_header("one 1 500 9\none.dat 17\n", DAT), 400, "format 17"),
    "no audio": (upload(b"abcdefgh", "audio/wav"), 400, "no WAV"),
    "a cut WAV": (upload(sound(SAMPLES)[:-9]), 400, "cut short"),
    "a cut FLAC": (upload(sound(SAMPLES, container="FLAC")[:20]), 400, "audio"),
    "a WAV of no bits": (upload(bytes(NO_BITS)), 400, "audio"),
    "a WAV without samples": (upload(sound(SAMPLES[:0])), 422, "no samples"),
    "infinity in a WAV": (
        upload(sound(np.array([0, np.inf]), coding="FLOAT")), 422, "not finite"
    ),
    "a long FLAC": (upload(sound(np.zeros(4_000_001), container="FLAC")), 413, "4,000,000"),
    "no image": (upload(b"\x89PNG\r\n\x1a\nabc"), 400, "image"),
    "a cut image": (upload(NOISE[: len(NOISE) // 2]), 400, "image"),
    "another image": (upload(image(np.eye(28, dtype=np.uint8), "GIF"), "image/png"), 400, "image"),
    "a large image": (upload(png_of(3000, 3000)), 413, "4,000,000"),
    "a larger photo": (upload(image(np.zeros((6000, 6000), np.uint8), "JPEG")), 413, "4,000,000"),
    "an image that is a bomb": (upload(png_of(100_000, 100_000)), 413, "far too many"),
    "no ZIP": (upload(b"PK\3\4abc"), 400, "ZIP"),
    "an encrypted ZIP": (upload(bytes(ENCRYPTED)), 422, "encrypted"),
    "a ZIP of folders": (upload(packed(("a/one.csv", b"1"))), 422, "top level"),
    "a ZIP that climbs": (upload(packed(("../one.csv", b"1"))), 422, "top level"),
    "a ZIP of many": (upload(packed(*[(f"{n}.csv", b"1") for n in range(65)])), 413, "64"),
    "a ZIP in a ZIP": (upload(packed(("x.zip", packed(("x.csv", b"1"))))), 422, "in an archive"),
    "a workbook": (upload(packed(("xl/workbook.xml", b"1"), ("[Content_Types].xml", b"1"))), 422, "CSV"),
    "a ZIP of LZMA": (upload(packed(DAT, method=zipfile.ZIP_LZMA)), 400, "deflate"),
    "an empty ZIP": (upload(packed()), 422, "top level"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
def test_what_is_wrong_is_said(case: str) -> None:
    """Each mistake is a 4xx with one sentence that names what is wrong."""
    sent, status, words = REFUSALS[case]
    problem = refused(sent)
    assert (int(problem.status), words in problem.detail) == (status, True), problem.detail


def bomb(megabytes: int) -> bytes:
    return packed(("x.csv", b"0" * (megabytes * 1_000_000)))


def lying_bomb(megabytes: int) -> bytes:
    """A ZIP archive whose directory says that it unpacks to one byte."""
    content = bytearray(bomb(megabytes))
    for signature, place in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        start = content.index(signature) + place
        content[start : start + 4] = struct.pack("<I", 1)
    return bytes(content)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (upload(bomb(100)), 413),
        (upload(lying_bomb(100)), 400),
        (REFUSALS["a huge NPY"][0], 413),
        (REFUSALS["a huge record"][0], 413),
        (REFUSALS["10 million samples"][0], 413),
        (REFUSALS["a large image"][0], 413),
        (REFUSALS["an image that is a bomb"][0], 413),
        (upload(b"[" + b"1," * 5_000_000 + b"1]", JSON), 413),
        (upload(b"[" + b"[]," * 4_100_000 + b"[]]", JSON), 413),
        (REFUSALS["a long FLAC"][0], 413),
    ],
)
def test_memory_is_not_taken_for_what_is_only_announced(sent: Upload, status: int) -> None:
    """A small request cannot make a large array: it is refused before one is made."""
    tracemalloc.start()
    try:
        assert int(refused(sent).status) == status
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


def test_a_table_of_one_long_line_is_read_in_little_memory() -> None:
    """pandas would take kilobytes for each of its columns."""
    tracemalloc.start()
    try:
        same(read(upload(b"1," * 50_000 + b"2", CSV)), np.array([[1] * 50_000 + [2]]))
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size", [16_000_001, 40_000_000])
def test_large_requests_are_refused(size: int) -> None:
    """The limit holds for all files of a form together."""
    problem = refused(form(("a.dat", bytes(size // 2)), ("a.hea", bytes(size - size // 2))))
    assert int(problem.status) == 413


OPENED: list[str] = []
_watching = False


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching and event == "open":
        OPENED.append(str(arguments[0]))


sys.addaudithook(_hook)  # cannot be removed: it looks only while somebody asks


@contextmanager
def watched() -> Iterator[list[str]]:
    """The paths of all files that are opened, by whatever part of Python."""
    global _watching
    OPENED.clear()
    _watching = True
    try:
        yield OPENED
    finally:
        _watching = False


def test_the_watch_sees_files(tmp_path: Path) -> None:
    """The assumption of the next test."""
    with watched() as opened:
        (tmp_path / "x").write_bytes(b"")
        io.FileIO(tmp_path / "x").close()
    assert opened.count(str(tmp_path / "x")) == 2


def test_no_file_is_opened() -> None:
    """Neither one that is named in a request, nor a temporary one: all happens in memory."""
    sent = [case[0] for case in REFUSALS.values()]
    good = [raw(SAMPLES), npy(SAMPLES), form(HEA, DAT), upload(packed(HEA, DAT)), json(SAMPLES),
            upload(csv(SAMPLES), CSV), upload(sound(SAMPLES)), upload(image(np.eye(28) > 0)),
            upload(ecg_files.muse(ecg_files.digital()))]  # fmt: skip
    for each in good:
        read(each)  # what is imported when it is first needed is imported now
    for each in sent:
        refused(each)
    with watched() as opened:
        for each in good:
            read(each)
        for each in sent:
            refused(each)
    assert not opened


def test_names_of_a_client_do_not_break_a_sentence() -> None:
    """Line ends, control characters and long names do not reach a log or a page."""
    name = "a\r\nb\x1b[31m\u2028" + "x" * 500 + ".csv"
    detail = refused(form((name, b"1,2\n3\n"))).detail
    assert detail.isprintable() and len(detail) < 300
    header = b"one 1 500 9\nmissing\x07\x1b[2J.dat 16\n"
    assert refused(form(("one.hea", header))).detail.isprintable()


def test_all_leads_of_an_ecg_have_their_names() -> None:
    """A record of twelve leads, as it comes from a device."""
    digital = np.random.default_rng(3).integers(-1000, 1000, (100, 12))
    recording = read(form(*record(digital, LEADS)))
    assert recording.channels == LEADS
    same(recording, digital / 1000, 1e-6)
