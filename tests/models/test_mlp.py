"""The multilayer perceptron: the layers that its parameters say, for tables and for recordings."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from beatline import models
from beatline.models import mlp


def network(
    dense: list[int], shape: tuple[int, int], outputs: int, *, batch_norm: bool = False
) -> nn.Module:
    architecture = mlp.Architecture(dense=dense, batch_norm=batch_norm, dropout=0.5)
    return models.create(models.module("mlp"), architecture, shape, outputs, "train.mlp.x")


def test_dense_128_and_64() -> None:
    """The textbook network of the issue: 128 and 64 units with ReLU, written out."""
    reference = nn.Sequential(
        nn.Linear(30, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 5)
    )
    ours = network([128, 64], (1, 30), 5).eval()
    state = dict(zip(ours.state_dict(), reference.state_dict().values(), strict=True))
    ours.load_state_dict(state)
    rows = torch.randn(7, 1, 30, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours(rows), reference(rows[:, 0]))
    assert models.count_parameters(ours) == 30 * 128 + 128 + 128 * 64 + 64 + 64 * 5 + 5


def test_batch_norm() -> None:
    """Before each ReLU, written out."""
    reference = nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2)
    )
    ours = network([8], (1, 6), 2, batch_norm=True)
    ours.load_state_dict(dict(zip(ours.state_dict(), reference.state_dict().values(), strict=True)))
    rows = torch.randn(7, 1, 6, generator=torch.Generator().manual_seed(0))
    for one in (ours, reference):
        one.train()
    for one, inputs in ((ours, rows), (reference, rows[:, 0])):
        torch.manual_seed(0)
        one(inputs)
    assert torch.equal(ours.eval()(rows), reference.eval()(rows[:, 0]))


def test_recordings_are_flattened() -> None:
    """Several time steps are as many times more inputs; other than they were built for do not fit."""
    ours = network([4], (6, 3), 2).eval()
    assert ours(torch.zeros(5, 6, 3)).shape == (5, 2)
    with pytest.raises(RuntimeError):
        ours(torch.zeros(5, 7, 3))


def test_dropout_is_for_training() -> None:
    """Answers do not depend on chance; training does."""
    ours = network([64], (1, 8), 3)
    rows = torch.ones(2, 1, 8)
    assert torch.equal(ours.eval()(rows), ours(rows))
    assert not torch.equal(ours.train()(rows), ours(rows))


def test_no_layer_is_an_error() -> None:
    """Without hidden layers it is logistic regression, which is a model of its own."""
    with pytest.raises(ValueError, match="at least 1 item"):
        mlp.Architecture(dense=[], batch_norm=False, dropout=0.0)
