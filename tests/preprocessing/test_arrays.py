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
from beatline.preprocessing.arrays import load_split, reader, write_split


def table(records: int) -> pd.DataFrame:
    names = [f"00{number}" for number in range(records)]
    normal = [number % 2 for number in range(records)]
    return pd.DataFrame({"record": names, "group": names, "normal": normal, "MI": 1})


def signals(records: int, samples: int = 9, channels: int = 2) -> np.ndarray:
    rng = np.random.default_rng(records)
    return rng.standard_normal((records, samples, channels)).astype(np.float32)


@settings(max_examples=30, deadline=None)
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
    assert isinstance(split.signals, np.memmap)
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
    (folder / arrays.RECORDS).unlink()
    with pytest.raises(UserError, match=r"train/records\.csv is missing"):
        load_split(folder)


@settings(max_examples=40, deadline=None)
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
