"""Damaged and hostile files: each is read or refused in words, in little memory, and nothing is written.

1,000 cases in all by default; ``FUZZ_CASES=100000 pytest tests/serving/test_fuzz.py`` runs as many.
"""

from __future__ import annotations

import io
import os
import struct
import sys
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beatline.serving import uploads
from beatline.serving.preparation import far, prepare, resampled_values
from beatline.serving.problems import Problem
from beatline.serving.uploads import File, Upload
from tests.fuzz import CASES
from tests.serving.uploads import (
    DIGITS,
    ECG,
    LEADS,
    LIMITS,
    SERIES,
    SOUND,
    csv,
    image,
    npy,
    packed,
    record,
    sound,
)

SMALL = LIMITS.model_copy(update={"max_megabytes": 0.2, "max_values": 20_000})
# 20,000 values are 160 kB; a spectrogram is computed in 4 MB, and pandas reads in blocks of 0.25 MB.
MOST_MEMORY = 16_000_000
DATASETS = (ECG, SERIES, DIGITS, SOUND)
RANDOM = np.random.default_rng(1)
ECG_SAMPLES = RANDOM.integers(-900, 900, (300, 12))
SIGNAL = (ECG_SAMPLES / 1000)[:, :3]
WAVE = RANDOM.normal(0, 0.1, 3000)
DIGIT = RANDOM.integers(0, 255, (28, 28), np.uint8)

# Numbers that headers do not expect, as they stand in files of bytes and of text.
INTEGERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**64 - 1)
BYTES = [struct.pack(order + code, number & (2 ** (8 * size) - 1)) for number in INTEGERS
         for code, size in (("B", 1), ("H", 2), ("I", 4), ("Q", 8)) for order in "<>"]  # fmt: skip
TOKENS = [b"-1", b"0", b"1e999", b"99999999999999999999", b"nan", b"inf", b"-", b"null", b"true", b"O",
          b'"', b"[", b"]", b"{", b"}", b",", b";", b"\n", b" ", b"\0", b"\xff", b"16x9", b":7", b"+9",
          b"(", b")", b"'O'", b"|O", b"10000000", b"#", b"/etc/passwd", b"../../etc/passwd"]  # fmt: skip


def body(content: bytes, content_type: str = "", **headers: str) -> Upload:
    return Upload(content_type, headers, [File("", content)])


def _shape(content: bytes) -> str:
    return f"{len(content) // 48},12" if len(content) % 48 == 0 else str(len(content) // 4)


def _record_form(content: bytes) -> Upload:
    """A header and its file, which are one piece for whoever damages them."""
    header, _, signal = content.partition(b"\0\0")
    return Upload("multipart/form-data", {}, [File("one.hea", header), File("one.dat", signal)])


HEADER, SIGNAL_FILE = record(ECG_SAMPLES, LEADS, "100")
UNCHECKED = "\n".join(["one 12 100", *["one.dat 212 1000/uV"] * 12]).encode()
JSON, SOME = "application/json", "application/octet-stream"
# Of each format: files that are in order, and how their bytes are sent.
FORMATS: dict[str, tuple[list[bytes], Callable[[bytes], Upload]]] = {
    "json": (
        [
            orjson.dumps(SIGNAL.tolist()),
            orjson.dumps({"signal": SIGNAL.T.tolist(), "sampling_rate": 250, "unit": "uV"}),
            orjson.dumps({"signal": {"I": [1, 2.5, None], "II": [3, 4, 5]}, "channels": None}),
        ],
        lambda content: body(content, JSON),
    ),
    "raw": (
        [ECG_SAMPLES.astype("<f4").tobytes(), np.zeros(140, "<f4").tobytes()],
        lambda content: body(content, SOME, **{"X-Shape": _shape(content)}),
    ),
    "npy": (
        [npy(array).files[0].content for array in (ECG_SAMPLES / 1e3, DIGIT, SIGNAL.T, SIGNAL > 0)],
        body,
    ),
    "csv": (
        [
            csv(ECG_SAMPLES / 1e3, LEADS),
            csv(np.column_stack([np.arange(300) / 100, ECG_SAMPLES]), ["time", *LEADS], ";"),
            csv(
                np.column_stack([np.arange(300) * 10, SIGNAL])[np.arange(300) % 40 > 0],
                ["ms", *"abc"],
            ),
            csv(np.zeros((140, 1))),
        ],
        lambda content: body(content, "text/csv"),
    ),
    "wfdb": (
        [
            HEADER[1] + b"\0\0" + SIGNAL_FILE[1],
            UNCHECKED + b"\0\0" + SIGNAL_FILE[1],
        ],
        _record_form,
    ),
    "zip": (
        [packed(HEADER, SIGNAL_FILE), packed(("x.csv", csv(SIGNAL)), method=zipfile.ZIP_STORED)],
        body,
    ),
    "wav": (
        [sound(WAVE, coding=coding) for coding in ("PCM_16", "PCM_24", "FLOAT", "ULAW", "MS_ADPCM")]
        + [sound(SIGNAL[:, :2], 44100)],
        lambda content: body(content, "audio/wav"),
    ),
    "audio": (
        [sound(WAVE, container=container) for container in ("FLAC", "OGG", "MP3")],
        lambda content: body(content, "audio/x"),
    ),
    "image": (
        [
            image(DIGIT),
            image(DIGIT, "JPEG"),
            image(DIGIT, mode="P"),
            image(np.dstack([DIGIT] * 4)),
            image(DIGIT.astype(np.uint16) * 257),
        ],
        body,
    ),
}


@st.composite
def damaged(draw: st.DrawFn, files: list[bytes]) -> bytes:
    """A file in order, after one to six accidents; more often near its beginning, where headers are."""
    content = bytearray(draw(st.sampled_from(files)))
    for _ in range(draw(st.integers(1, 6))):
        end = draw(st.sampled_from([64, 512, len(content)]))
        place = draw(st.integers(0, min(end, len(content))))
        length = draw(st.integers(0, 20))
        accident = draw(
            st.sampled_from(["flip", "number", "token", "cut", "drop", "repeat", "any"])
        )
        if accident == "flip" and place < len(content):
            content[place] ^= 1 << draw(st.integers(0, 7))
        elif accident == "number":
            number = draw(st.sampled_from(BYTES))
            content[place : place + len(number)] = number
        elif accident == "token":
            content[place : place + draw(st.integers(0, 3))] = draw(st.sampled_from(TOKENS))
        elif accident == "cut":
            del content[place:]
        elif accident == "drop":
            del content[place : place + length]
        elif accident == "repeat":
            content[place:place] = content[place : place + length] * draw(st.integers(1, 50))
        else:
            content[place:place] = draw(st.binary(max_size=20))
    return bytes(content)


WRITTEN: list[str] = []
_watching = False


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching and event == "open":
        path, mode, flags = arguments
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        # A descriptor was opened before: of a pipe to the process that reads files for others.
        is_file = not isinstance(path, int) and path != os.devnull
        if is_file and (writes or (isinstance(mode, str) and set(mode) & set("wax+"))):
            WRITTEN.append(str(path))


sys.addaudithook(_hook)  # cannot be removed: it looks only while somebody asks


@contextmanager
def watched() -> Iterator[None]:
    """Fails where a file is written or much memory is taken."""
    global _watching
    WRITTEN.clear()
    tracemalloc.start()
    _watching = True
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        _watching = False
        tracemalloc.stop()
    assert not WRITTEN
    assert peak < MOST_MEMORY


def check(sent: Upload) -> bool:
    """Read what was sent, prepare it for each data set, and check all that comes of it; whether it could
    be read. Any exception but Problem is a failure."""
    with watched():
        try:
            recording = uploads.read(sent, SMALL)
        except Problem as problem:
            check_problem(problem)
            return False
        samples = recording.samples
        assert samples.dtype in (np.float32, np.float64) and samples.ndim == 2
        assert 0 < samples.size <= SMALL.max_values
        assert not np.isinf(samples).any() and not np.isnan(samples).all()
        for names in (recording.channels, recording.units):
            assert names is None or len(names) == samples.shape[1]
        for dataset in DATASETS:
            assert resampled_values(recording, dataset) > 0
            try:
                prepared = prepare(recording, dataset, 1, limits=SMALL)
            except Problem as problem:
                check_problem(problem)
                continue
            assert prepared.samples.shape[1] == len(dataset["channels"])
            assert 0 < prepared.samples.size <= SMALL.max_values
            assert 0 < prepared.length <= len(prepared.samples)
            assert not np.isinf(prepared.samples).any()
            far(np.nan_to_num(prepared.samples), {"rms": [0.5, 2]})
            assert all(notice.message.isprintable() for notice in prepared.notices)
    return True


def check_problem(problem: Problem) -> None:
    """Raises AssertionError unless it is a client's mistake, told in one line without addresses."""
    assert 400 <= problem.status < 500
    assert problem.detail.isprintable() and len(problem.detail) < 1000
    assert " at 0x" not in problem.detail


fuzzed = settings(
    max_examples=max(1, CASES // (len(FORMATS) + 2)),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


@pytest.mark.parametrize("name", FORMATS)
def test_files_in_order_are_read(name: str) -> None:
    """The fuzz starts from files that are read: otherwise it would test the first check alone."""
    files, sent = FORMATS[name]
    assert all(check(sent(content)) for content in files)


@pytest.mark.parametrize("name", FORMATS)
@fuzzed
@given(data=st.data())
def test_damaged_files(name: str, data: st.DataObject) -> None:
    """Bytes flipped, cut, inserted, repeated; lengths and counts that are absurd."""
    files, sent = FORMATS[name]
    check(sent(data.draw(damaged(files))))


@fuzzed
@given(
    content=st.binary(max_size=300),
    start=st.sampled_from([b"", b"\x93NUMPY\1\0", b"PK\3\4", b"RIFF\xff\0\0\0WAVEfmt ", b"fLaC", b"OggS",
                           b"ID3", b"\xff\xfb", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"[[", b"{"]),
    content_type=st.sampled_from(["", JSON, SOME, "text/csv", "audio/wav", "image/png",
                                  "application/x-npy", "application/zip", "text/html"]),
    name=st.sampled_from(["", "x", "x.hea", "x.dat", "x.csv", "../../x.wav", "\n.mp3"]),
)  # fmt: skip
def test_random_bytes(content: bytes, start: bytes, content_type: str, name: str) -> None:
    """Bytes that are no file at all, whatever their sender calls them."""
    check(Upload(content_type, {}, [File(name, start + content)]))


@fuzzed
@given(
    shape=st.text(max_size=12)
    | st.sampled_from(["100,12", "1200", "-1,2", "0,1", "9" * 12, "1,2,3,4"]),
    rate=st.text(max_size=8) | st.floats().map(str) | st.sampled_from(["100", "1e-300", "1_0"]),
    unit=st.text(max_size=8) | st.sampled_from(["mV", "uV", "V", "grey level", "full scale"]),
    channels=st.text(max_size=40) | st.sampled_from([",".join(LEADS), "I" + ",I" * 11, "," * 11]),
    given=st.sets(st.sampled_from(["X-Shape", "X-Sampling-Rate", "X-Unit", "X-Channels"])),
)
def test_headers(shape: str, rate: str, unit: str, channels: str, given: set[str]) -> None:
    """Headers that a request sends with an array."""
    values = (shape, rate, unit, channels)
    names = ("X-Shape", "X-Sampling-Rate", "X-Unit", "X-Channels")
    headers = {name: value for name, value in zip(names, values, strict=True) if name in given}
    array = ECG_SAMPLES[:100].astype("<f4")
    check(Upload(SOME, headers, [File("", array.tobytes())]))
    file = io.BytesIO()
    np.save(file, array)
    check(Upload("application/x-npy", headers, [File("", file.getvalue())]))
