"""Recordings on disk: exact bytes, bounded memory, read back by name."""

from __future__ import annotations

import io
import random
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beatline.common import sums
from beatline.common.errors import UserError
from beatline.preprocessing import arrays
from beatline.preprocessing.arrays import Encoding, Signals, Store, load_split, reader, write_split


def table(records: int) -> pd.DataFrame:
    names = [f"00{number}" for number in range(records)]
    normal = [number % 2 for number in range(records)]
    return pd.DataFrame({"record": names, "group": names, "normal": normal, "MI": 1})


def signals(records: int, samples: int = 9, channels: int = 2) -> np.ndarray:
    rng = np.random.default_rng(records)
    return rng.standard_normal((records, samples, channels)).astype(np.float32)


@settings(max_examples=30)
@given(st.integers(1, 20), st.integers(1, 7))
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, records: int, size: int
) -> None:
    """Batches of any size make the file that numpy.save makes of the whole, byte for byte."""
    folder = tmp_path_factory.mktemp("x") / "train"
    values = signals(records)
    write_split(folder, (values[i : i + size] for i in range(0, records, size)), table(records))
    expected = io.BytesIO()
    np.save(expected, values)
    assert (folder / arrays.SIGNALS).read_bytes() == expected.getvalue()
    split = load_split(folder)
    assert isinstance(split.signals.stored, np.memmap)
    assert np.array_equal(split.signals[:], values)
    assert split.table["record"].to_list() == table(records)["record"].to_list()
    assert (split.targets(["MI"]) == 1).all()
    assert split.anomalies()[:, 0].tolist() == [1 - number % 2 for number in range(records)]


def test_memory_does_not_grow_with_the_records(tmp_path: Path) -> None:
    """One batch is in memory at a time, on the way to the disk and back."""
    batch = signals(16, 500, 12)  # 0.4 MB
    tracemalloc.start()
    write_split(tmp_path / "train", (batch.copy() for _ in range(50)), table(800))
    load_split(tmp_path / "train")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * batch.nbytes


@pytest.mark.parametrize("records", [0, 3, 5])
def test_other_number_of_recordings_than_rows(tmp_path: Path, records: int) -> None:
    """Recordings that went missing on the way stop the stage; the split that was there stays."""
    write_split(tmp_path / "train", [signals(2)], table(2))
    batches = [signals(records)] if records else []
    with pytest.raises(UserError, match=rf"train: {records} of 4 recordings could be read"):
        write_split(tmp_path / "train", batches, table(4))
    assert len(load_split(tmp_path / "train").signals) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["train"]


@settings(max_examples=40)
@given(
    st.sampled_from(["float16", "int16"]),
    st.lists(st.floats(0, 100), min_size=2, max_size=2),
    st.integers(1, 20),
)
def test_sixteen_bits_keep_what_they_promise(
    tmp_path_factory: pytest.TempPathFactory, store: Store, largest: list[float], records: int
) -> None:
    """What is read is float32 and as near as the type can be; float16 to 11 bits, int16 to half a step of
    a range twice that of the training samples, in half the space. Nothing is counted as clipped."""
    folder = tmp_path_factory.mktemp("x") / "train"
    values = np.clip(signals(records) * np.float32(30), *np.outer((-1, 1), largest).astype("f4"))
    encoding = Encoding(store, largest)
    write_split(folder, [values], table(records), encoding)
    split = load_split(folder)
    assert split.signals.stored.nbytes == values.nbytes / 2
    read = split.signals[:]
    assert read.dtype == np.float32 and encoding.clipped == 0
    tolerance = np.abs(values) * 2.0**-11 + 2.0**-24
    if store == "int16":
        tolerance = 2 * np.maximum(largest, 1) / 32767 * 0.501
    assert (np.abs(read - values) <= tolerance).all()
    assert np.array_equal(np.stack(list(split.signals)), read)
    assert np.array_equal(np.concatenate(list(split.signals.batches())), read)


@pytest.mark.parametrize(("store", "reach"), [("float16", 65504), ("int16", 2)])
def test_what_does_not_fit_is_counted(tmp_path: Path, store: Store, reach: float) -> None:
    """A sample beyond the type's range becomes the end of it, not a number from the other end or an
    infinity, and is counted."""
    values = signals(2, 3) / 10
    values[1, 2] = [1e5, -np.inf]
    encoding = Encoding(store, [0.5, 1.0])
    write_split(tmp_path / "x", [values], table(2), encoding)
    read = load_split(tmp_path / "x").signals[:]
    np.testing.assert_allclose(read[1, 2], [reach, -reach], rtol=1e-6)
    np.testing.assert_allclose(read[0], values[0], atol=1e-3)
    assert encoding.clipped == 2


def test_steps_that_would_be_coarse_are_refused() -> None:
    """One artefact among the training samples would leave int16 no digits for the others."""
    with pytest.raises(UserError, match=r"normalize\.store.*channel number 2.*5,000.*float16"):
        Encoding("int16", [3.0, 5000.0])


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="Linux tells what is mapped")
@pytest.mark.parametrize("way", ["rows", "batches"])
def test_reading_leaves_little_of_a_file_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Whoever reads all of a file does not hold all of it: its pages are unmapped on the way."""
    monkeypatch.setattr(arrays, "MAPPED", 2**21)
    write_split(tmp_path / "x", (signals(16, 500, 12) for _ in range(100)), table(1600))  # 38 MB
    read: Signals = load_split(tmp_path / "x").signals
    most = 0
    for number, part in enumerate(read if way == "rows" else read.batches()):
        assert part.any()
        if way == "batches" or number % 50 == 0:
            most = max(most, _mapped_of(tmp_path / "x"))
    assert 0 < most < 2**23


def _mapped_of(folder: Path) -> int:
    """Return the bytes of the files in a folder that are mapped into this process."""
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    return sum(
        1024 * int(next(line for line in lines if line.startswith("Rss")).split()[1])
        for header in lines
        if str(folder) in header
    )


def test_missing_and_damaged_splits(tmp_path: Path) -> None:
    """Each file that is missing, cut short or no array is named, with the cure."""
    folder = tmp_path / "train"
    with pytest.raises(UserError, match=r"train/signals\.npy is missing: run `dvc repro`"):
        load_split(folder)
    write_split(folder, [signals(3)], table(3))
    whole = (folder / arrays.SIGNALS).read_bytes()
    for damaged in (whole[:-10], whole[:20], b"", b"no array at all"):
        (folder / arrays.SIGNALS).write_bytes(damaged)
        for _ in range(2):  # as if another program had written it so, the second time
            with pytest.raises(UserError, match=r"train/signals\.npy is damaged .*beatline repair"):
                load_split(folder)
            sums.seal(folder)
    (folder / arrays.SIGNALS).write_bytes(whole)
    (folder / arrays.RECORDS).write_text("record,group\n")
    sums.seal(folder)
    with pytest.raises(UserError, match=r"records\.csv has no column normal"):
        load_split(folder)
    (folder / arrays.RECORDS).write_text("record,group,normal\na,a,1\n")
    sums.seal(folder)
    with pytest.raises(UserError, match=r"train is damaged \(3 recordings, 1 rows\)"):
        load_split(folder)
    write_split(folder, [signals(3)], table(3), Encoding("int16", [9.0, 9.0]))
    (folder / arrays.STEPS).unlink()
    with pytest.raises(UserError, match=r"steps\.npy is missing"):
        load_split(folder)
    (folder / arrays.RECORDS).unlink()
    with pytest.raises(UserError, match=r"train/records\.csv is missing"):
        load_split(folder)


@settings(max_examples=40)
@given(st.integers(1, 30), st.integers(1, 9), st.randoms(use_true_random=False))
def test_reader_gives_recordings_in_the_order_asked_for(
    tmp_path_factory: pytest.TempPathFactory, records: int, at_once: int, draw: random.Random
) -> None:
    """By name: any order, some left out, some twice; in batches of at most so many."""
    folder = tmp_path_factory.mktemp("x") / "recordings"
    values, names = signals(records), table(records)["record"].to_list()
    write_split(folder, [values], table(records))
    asked = [draw.randrange(records) for _ in range(draw.randrange(1, 40))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "BATCH", at_once)
        batches = list(reader(folder)([names[number] for number in asked]))
    assert all(len(batch) == at_once for batch in batches[:-1])
    assert 1 <= len(batches[-1]) <= at_once
    assert np.array_equal(np.concatenate(batches), values[asked])


def test_names_that_look_like_numbers_are_texts(tmp_path: Path) -> None:
    """`007` is not `7`, neither in the table nor for the reader."""
    names = ["007", "7", "7.0"]
    write_split(tmp_path / "x", [signals(3)], table(3).assign(record=names))
    (found,) = reader(tmp_path / "x")(["7", "007"])
    assert np.array_equal(found, signals(3)[[1, 0]])


def test_reader_of_what_is_not_there(tmp_path: Path) -> None:
    """A name that was not written and a folder that was not made are told, with the cure."""
    write_split(tmp_path / "x", [signals(3)], table(3))
    with pytest.raises(UserError, match=r"x has no recording 009: run `dvc repro`"):
        list(reader(tmp_path / "x")(["000", "009"]))
    with pytest.raises(UserError, match=r"nowhere/signals\.npy is missing: run `dvc repro`"):
        reader(tmp_path / "nowhere")


def test_reader_keeps_memory_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One batch at a time comes into memory, however many recordings are asked for."""
    batch = signals(16, 500, 12)  # 0.4 MB
    write_split(tmp_path / "x", (batch for _ in range(50)), table(800))
    monkeypatch.setattr(arrays, "BATCH", 16)
    tracemalloc.start()
    for _ in reader(tmp_path / "x")(table(800)["record"].to_list()):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * batch.nbytes
