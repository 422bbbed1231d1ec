"""Windows are put together again in one way, in the pipeline and in the service."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from beatline.prediction.windows import Windows, aggregated, averaged, starts


@pytest.mark.parametrize("aggregate", ["mean", "max"])
def test_predictions_are_aggregated_in_numpy_and_in_torch(aggregate: str) -> None:
    """Each in its own arithmetic, bit for bit: recorded predictions come from both."""
    values = np.random.default_rng(0).random((5, 7, 3), np.float32)
    windows = Windows.model_validate({"length": 2, "stride": 1, "aggregate": aggregate})
    in_torch = aggregated(torch.from_numpy(values), windows)
    expected = {"mean": torch.mean, "max": torch.amax}[aggregate](torch.from_numpy(values), dim=1)
    assert torch.equal(in_torch, expected)
    in_numpy = {"mean": np.mean, "max": np.max}[aggregate](values, axis=1)
    assert np.array_equal(aggregated(values, windows), in_numpy)
    assert in_numpy == pytest.approx(expected.numpy())


def test_windows_longer_than_a_recording_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Somebody's short recordings train with the committed parameters, as wholes, and not in silence."""
    Windows(length=10).completed(10, "train.cnn.own.windows")
    assert not capsys.readouterr().out
    whole = Windows(length=10, stride=5).completed(9, "train.cnn.own.windows")
    assert (whole.length, whole.stride) == (0, 9)
    assert "train.cnn.own.windows.length is 10" in capsys.readouterr().out


def test_windows_are_put_together_again() -> None:
    """The mean where they overlap, NaN in gaps; what was cut and not changed is there again."""
    parts = [np.full((2, 3, 1), value) for value in (1.0, 3.0, 5.0)]
    whole = averaged(parts, [0, 2, 6], 9)
    assert np.array_equal(whole[0, :, 0], [1, 1, 2, 3, 3, np.nan, 5, 5, 5], equal_nan=True)
    signal = np.random.default_rng(0).random((11, 2))
    first = starts(len(signal), Windows(length=4, stride=3, aggregate="mean"))
    cut = [signal[start : start + 4] for start in first]
    assert averaged(cut, first, len(signal)) == pytest.approx(signal)
