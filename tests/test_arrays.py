"""Recordings on disk and on the device: exact bytes, bounded memory, and the same from either place."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from beatline import arrays
from beatline.arrays import Recordings, load_split, write_split
from beatline.errors import UserError

CPU = torch.device("cpu")


def table(records: int) -> pd.DataFrame:
    names = [f"00{number}" for number in range(records)]
    normal = [number % 2 for number in range(records)]
    return pd.DataFrame({"record": names, "group": names, "normal": normal, "MI": 1})


def signals(records: int, samples: int = 9, channels: int = 2) -> np.ndarray:
    rng = np.random.default_rng(records)
    return rng.standard_normal((records, samples, channels)).astype(np.float32)


def streamed(values: np.ndarray, rows: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> Recordings:
    """Recordings that are read from the memory map batch by batch."""
    monkeypatch.setattr(arrays, "_fits", lambda *_: False)
    return Recordings(values, rows, CPU)


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
        with pytest.raises(UserError, match=r"train/signals\.npy is damaged .*dvc repro"):
            load_split(folder)
    (folder / arrays.SIGNALS).write_bytes(whole)
    (folder / arrays.RECORDS).write_text("record,group\n")
    with pytest.raises(UserError, match=r"records\.csv has no column normal"):
        load_split(folder)
    (folder / arrays.RECORDS).write_text("record,group,normal\na,a,1\n")
    with pytest.raises(UserError, match=r"train is damaged \(3 recordings, 1 rows\)"):
        load_split(folder)
    (folder / arrays.RECORDS).unlink()
    with pytest.raises(UserError, match=r"train/records\.csv is missing"):
        load_split(folder)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 12))
def test_streamed_is_resident_bit_for_bit(seed: int, length: int, batch: int) -> None:
    """Where recordings lie changes nothing: whole recordings and crops, rows in any order."""
    rng = np.random.default_rng(seed)
    values = signals(13)
    rows = rng.permutation(13)[:8]
    positions = torch.from_numpy(rng.integers(0, 8, batch))
    starts = torch.from_numpy(rng.integers(0, 9 - length + 1, batch))
    with pytest.MonkeyPatch.context() as patch:
        from_map = streamed(values, rows, patch)
    resident = Recordings(values, rows, CPU)
    assert len(from_map) == len(resident) == 8
    expected = values[rows[positions.numpy()]]
    for recordings in (resident, from_map):
        assert torch.equal(recordings.batch(positions), torch.from_numpy(expected))
        crops = recordings.batch(positions, starts, length)
        for crop, whole, start in zip(crops.numpy(), expected, starts.tolist(), strict=True):
            assert np.array_equal(crop, whole[start : start + length])


def test_large_recordings_are_not_made_resident(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit half of the free memory stays on the disk."""
    monkeypatch.setattr(arrays, "_free_memory", lambda: 100.0)
    assert not arrays._fits(50, CPU)
    assert arrays._fits(49, CPU)


def test_batches_may_be_changed() -> None:
    """What the training loop does with a batch does not reach the recordings."""
    values = signals(3)
    recordings = Recordings(values, np.arange(3), CPU)
    recordings.batch(torch.arange(3)).zero_()
    assert torch.equal(recordings.batch(torch.arange(3)), torch.from_numpy(values))
