"""Recordings on the device: the same whether they lie there or are read from the disk when drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from beatline.common.errors import UserError
from beatline.prediction import device_data
from beatline.prediction.device_data import RESIDENT_MB, Recordings
from beatline.preprocessing.arrays import Encoding, Signals, Store

CPU = torch.device("cpu")


def signals(records: int, samples: int = 9, channels: int = 2) -> np.ndarray:
    rng = np.random.default_rng(records)
    return rng.standard_normal((records, samples, channels)).astype(np.float32)


def streamed(values: Signals, rows: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> Recordings:
    """Recordings that are read from the memory map batch by batch."""
    monkeypatch.setattr(device_data, "_fits", lambda *_: False)
    return Recordings(values, rows, CPU)


@settings(max_examples=60)
@given(
    st.integers(0, 10**6),
    st.integers(1, 9),
    st.integers(1, 12),
    st.sampled_from(["float32", "float16", "int16"]),
)
def test_streamed_is_resident_bit_for_bit(seed: int, length: int, batch: int, store: Store) -> None:
    """The place of recordings changes nothing: whole recordings and crops, rows in any order, however
    they are stored. The layout is the same too, on which a network's rounding may depend."""
    rng = np.random.default_rng(seed)
    encoding = Encoding(store, [5.0, 7.0])
    stored = Signals(encoding.encoded(signals(13)), encoding.steps)
    rows = rng.permutation(13)[:8]
    positions = torch.from_numpy(rng.integers(0, 8, batch))
    starts = torch.from_numpy(rng.integers(0, 9 - length + 1, batch))
    with pytest.MonkeyPatch.context() as patch:
        from_map = streamed(stored, rows, patch)
    resident = Recordings(stored, rows, CPU)
    assert resident.resident and not from_map.resident
    assert len(from_map) == len(resident) == 8
    expected = stored[rows[positions.numpy()]]
    assert expected.dtype == np.float32
    for drawn in (resident, from_map):
        assert torch.equal(drawn.batch(positions), torch.from_numpy(expected))
        crops = drawn.batch(positions, starts, length)
        for crop, whole, start in zip(crops.numpy(), expected, starts.tolist(), strict=True):
            assert np.array_equal(crop, whole[start : start + length])
        assert crops.stride() == resident.batch(positions, starts, length).stride()


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.integers(0, 20), st.booleans())
def test_a_stream_is_its_batches_in_order(seed: int, count: int, crop: bool) -> None:
    """Reading ahead loses no batch and changes no order, with fewer batches than are read ahead too."""
    rng = np.random.default_rng(seed)
    requests = [
        (
            torch.from_numpy(rng.integers(0, 13, size)),
            torch.from_numpy(rng.integers(0, 5, size)) if crop else None,
        )
        for size in rng.integers(1, 6, count)
    ]
    length = 4 if crop else 0
    with pytest.MonkeyPatch.context() as patch:
        from_map = streamed(Signals(signals(13)), np.arange(13), patch)
    for drawn in (from_map, Recordings(signals(13), np.arange(13), CPU)):
        batches = list(drawn.stream(iter(requests), length))
        assert len(batches) == count
        for batch, request in zip(batches, requests, strict=True):
            assert torch.equal(batch, from_map.batch(*request, length))


def test_reading_that_fails_is_not_lost_in_its_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the thread that reads ahead reaches whoever takes the batches."""
    from_map = streamed(Signals(signals(3)), np.arange(3), monkeypatch)
    with pytest.raises(IndexError):
        list(from_map.stream([(torch.tensor([0]), None), (torch.tensor([7]), None)]))


def test_large_recordings_are_not_made_resident(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recordings that do not fit half of the free memory stay on the disk."""
    monkeypatch.setattr(device_data, "_free_memory", lambda: 100.0)
    assert not device_data._fits(50, CPU)
    assert device_data._fits(49, CPU)
    monkeypatch.setenv(device_data.ON_THIS_MACHINE, "4")  # each of which has its copy
    assert not device_data._fits(13, CPU) and device_data._fits(12, CPU)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, 8e6 * 1024),
        ({"": "3000000"}, 3e6),
        ({"": "max", "job": "2000000", "job/step": "max"}, 2e6),
        ({"": "9000000000000", "job": "max"}, 8e6 * 1024),
    ],
)
def test_a_container_has_less_memory_than_its_machine(
    limits: dict[str, str], expected: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a container or a job may have counts, not what its machine has: it would be killed."""
    (tmp_path / "self").mkdir()
    (tmp_path / "self/cgroup").write_text("3:cpuset:/\n0::/job/step\n")
    (tmp_path / "meminfo").write_text("MemTotal: 9000000 kB\nMemAvailable: 8000000 kB\n")
    for group, limit in limits.items():
        (tmp_path / "groups" / group).mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / group / "memory.max").write_text(f"{limit}\n")
    monkeypatch.setattr(device_data, "_PROC", tmp_path)
    monkeypatch.setattr(device_data, "_GROUPS", tmp_path / "groups")
    assert device_data._free_memory() == expected


def test_less_may_be_resident(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment bounds what is resident, below half of the free memory; what is no number is
    refused rather than taken for no bound."""
    monkeypatch.setattr(device_data, "_free_memory", lambda: 10e6)
    for megabytes, fitting in (("3", 3e6), ("7", 5e6), ("", 5e6)):
        monkeypatch.setenv(RESIDENT_MB, megabytes)
        assert device_data._fits(int(fitting) - 1, CPU) and not device_data._fits(int(fitting), CPU)
    monkeypatch.setenv(RESIDENT_MB, "0")
    assert not Recordings(signals(2), np.arange(2), CPU).resident
    for wrong in ("2 GB", "-1", "1e3"):
        monkeypatch.setenv(RESIDENT_MB, wrong)
        with pytest.raises(UserError, match=RESIDENT_MB):
            Recordings(signals(2), np.arange(2), CPU)


def test_batches_may_be_changed() -> None:
    """A change that the training loop makes to a batch does not reach the recordings."""
    values = signals(3)
    drawn = Recordings(values, np.arange(3), CPU)
    drawn.batch(torch.arange(3)).zero_()
    assert torch.equal(drawn.batch(torch.arange(3)), torch.from_numpy(values))
