"""Recordings on the device: the same whether they lie there or are read from the disk when drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from beatline.prediction import device_data
from beatline.prediction.device_data import Recordings

CPU = torch.device("cpu")


def signals(records: int, samples: int = 9, channels: int = 2) -> np.ndarray:
    rng = np.random.default_rng(records)
    return rng.standard_normal((records, samples, channels)).astype(np.float32)


def streamed(values: np.ndarray, rows: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> Recordings:
    """Recordings that are read from the memory map batch by batch."""
    monkeypatch.setattr(device_data, "_fits", lambda *_: False)
    return Recordings(values, rows, CPU)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 12))
def test_streamed_is_resident_bit_for_bit(seed: int, length: int, batch: int) -> None:
    """The place of recordings changes nothing: whole recordings and crops, rows in any order."""
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
    for drawn in (resident, from_map):
        assert torch.equal(drawn.batch(positions), torch.from_numpy(expected))
        crops = drawn.batch(positions, starts, length)
        for crop, whole, start in zip(crops.numpy(), expected, starts.tolist(), strict=True):
            assert np.array_equal(crop, whole[start : start + length])


def test_large_recordings_are_not_made_resident(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recordings that do not fit half of the free memory stay on the disk."""
    monkeypatch.setattr(device_data, "_free_memory", lambda: 100.0)
    assert not device_data._fits(50, CPU)
    assert device_data._fits(49, CPU)


def test_batches_may_be_changed() -> None:
    """A change that the training loop makes to a batch does not reach the recordings."""
    values = signals(3)
    drawn = Recordings(values, np.arange(3), CPU)
    drawn.batch(torch.arange(3)).zero_()
    assert torch.equal(drawn.batch(torch.arange(3)), torch.from_numpy(values))
