"""Inference: windows cover a recording, and batches do not show in the predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from beatline.prediction import device_data, inference, tasks
from beatline.prediction.device_data import Recordings
from beatline.prediction.windows import Windows, starts

CPU = torch.device("cpu")


def windows(length: int, stride: int, aggregate: str = "mean") -> Windows:
    return Windows.model_validate({"length": length, "stride": stride, "aggregate": aggregate})


class Probe(nn.Module):
    """Logits that depend on every sample and its place: [B, T, C] to [B, 2]."""

    def forward(self, recordings: torch.Tensor) -> torch.Tensor:
        place = torch.arange(1, recordings.shape[1] + 1) / recordings.shape[1]
        return (recordings * place[:, None]).sum(dim=1)


def recordings_of(records: int, samples: int) -> np.ndarray:
    rng = np.random.default_rng(records)
    return rng.standard_normal((records, samples, 2)).astype(np.float32)


def answers(values: np.ndarray, how: Windows, task: str = "multilabel") -> np.ndarray:
    return inference.predict(
        Probe(), tasks.TASKS[task], Recordings(values, np.arange(len(values)), CPU), how
    )


@given(st.integers(1, 2000), st.integers(0, 2500), st.integers(1, 600))
def test_windows_cover_a_recording(recording: int, length: int, stride: int) -> None:
    """Windows begin at 0, end at the recording's end, lie inside of it, and leave no gap that the
    stride does not leave."""
    found = starts(recording, windows(length, stride))
    width = min(length or recording, recording)
    assert found[0] == 0
    assert found[-1] + width == recording
    assert found == sorted(set(found))
    gaps = np.diff(found)
    assert (gaps[:-1] == stride).all() and (gaps <= stride).all()
    if stride <= width:
        covered = {sample for start in found for sample in range(start, start + width)}
        assert covered == set(range(recording))


def test_windows_of_the_published_recipe() -> None:
    """2.5 s of 10 s, every 1.25 s, at 100 Hz: seven windows."""
    assert starts(1000, windows(250, 125)) == [0, 125, 250, 375, 500, 625, 750]
    assert starts(140, windows(0, 140)) == [0]
    assert starts(10, windows(4, 4)) == [0, 4, 6]


@pytest.mark.parametrize("aggregate", ["mean", "max"])
def test_aggregated_windows(aggregate: str) -> None:
    """Probabilities of the windows are aggregated, not logits: told by a loop."""
    values = recordings_of(5, 11)
    expected = []
    for recording in torch.from_numpy(values):
        logits = torch.cat([Probe()(recording[None, i : i + 4]) for i in (0, 3, 6, 7)])
        chances = torch.sigmoid(logits)
        expected.append((chances.mean(0) if aggregate == "mean" else chances.amax(0)).numpy())
    found = answers(values, windows(4, 3, aggregate))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.stack(expected), rtol=1e-6)


@pytest.mark.parametrize("how", [windows(0, 1), windows(5, 2)])
@pytest.mark.parametrize("task", ["multilabel", "multiclass"])
def test_batches_do_not_show(how: Windows, task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording has the same answer alone and among others, whatever the batch size."""
    values = recordings_of(7, 12)
    expected = answers(values, how, task)
    for batch in (1, 3, 1000):
        monkeypatch.setattr(inference, "BATCH", batch)
        np.testing.assert_allclose(answers(values, how, task), expected, rtol=1e-6)
    alone = np.concatenate([answers(values[i : i + 1], how, task) for i in range(7)])
    np.testing.assert_allclose(alone, expected, rtol=1e-6)


@given(st.integers(1, 9), st.integers(0, 14), st.integers(1, 6), st.integers(1, 30))
def test_batches_are_all_windows_in_order(
    records: int, length: int, stride: int, at_once: int
) -> None:
    """Every window of every recording once, recording by recording, told by slicing; those of one
    recording are never in two batches, and a batch is no larger than it must be."""
    values, how = recordings_of(records, 12), windows(length, stride)
    first, width = starts(12, how), min(length or 12, 12)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inference, "BATCH", at_once)
        found = list(inference.batches(Recordings(values, np.arange(records), CPU), how))
    expected = [values[i, start : start + width] for i in range(records) for start in first]
    assert np.array_equal(torch.cat(found).numpy(), np.stack(expected))
    for batch in found:
        assert len(batch) % len(first) == 0
        assert len(batch) <= max(at_once, len(first))


@pytest.mark.parametrize("how", [windows(0, 1), windows(5, 2)])
def test_streamed_is_resident(
    how: Windows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers from the memory map are those from memory, bit for bit."""
    np.save(tmp_path / "signals.npy", recordings_of(9, 12))
    values: Any = np.load(tmp_path / "signals.npy", mmap_mode="r")
    resident = answers(values, how)
    monkeypatch.setattr(device_data, "_fits", lambda *_: False)
    assert np.array_equal(answers(values, how), resident)


def test_the_network_is_asked_in_its_evaluation_mode() -> None:
    """Dropout is off and batch statistics are not touched when a model answers."""
    network = nn.Sequential(nn.Dropout(0.9), Probe())
    values = recordings_of(4, 6)
    network.train()
    asked = Recordings(values, np.arange(4), CPU)
    first = inference.predict(network, tasks.TASKS["binary"], asked, windows(0, 1))
    assert not network.training
    assert np.array_equal(first, answers(values, windows(0, 1), "binary"))
