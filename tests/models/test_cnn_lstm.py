"""CNN-LSTM: the textbook network, layer by layer, by parameters."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from beatline import models
from beatline.models.cnn_lstm import Architecture, Network


class Transposed(nn.Module):
    """`[B, T, C]` to `[B, C, T]` and back."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values.transpose(1, 2)


class LastStep(nn.Module):
    """A bidirectional LSTM that gives its last step."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, hidden, batch_first=True, bidirectional=True)

    def forward(self, steps: torch.Tensor) -> torch.Tensor:
        return self.lstm(steps)[0][:, -1]


def recordings(batch: int, length: int, channels: int) -> torch.Tensor:
    return torch.randn(batch, length, channels, generator=torch.Generator().manual_seed(0))


def with_weights_of(reference: nn.Module, network: nn.Module) -> None:
    """Give `network` the weights of `reference`, both having the same tensors in the same order."""
    tensors = list(reference.state_dict().values())
    state = network.state_dict()
    assert [tensor.shape for tensor in state.values()] == [tensor.shape for tensor in tensors]
    network.load_state_dict(dict(zip(state, tensors, strict=True)))


def test_textbook_cnn_lstm() -> None:
    """64 filters of width 7, 128 of width 5, batch norm, ReLU, max pool 2; a bidirectional LSTM with
    as many hidden units as inputs; the last step, a linear layer, dropout 0.5, output: the same
    outputs and gradients, but for dropout, whose draws differ."""
    architecture = Architecture(
        filters=[64, 128],
        kernels=[7, 5],
        pool=2,
        hidden=128,
        pooling="last",
        dense=64,
        dropout=0.0,
    )
    reference = nn.Sequential(
        Transposed(),
        nn.Conv1d(12, 64, 7, padding=3, bias=False),
        nn.BatchNorm1d(64),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Conv1d(64, 128, 5, padding=2, bias=False),
        nn.BatchNorm1d(128),
        nn.ReLU(),
        nn.MaxPool1d(2),
        Transposed(),
        LastStep(128, 128),
        nn.Linear(256, 64),
        nn.ReLU(),
        nn.Linear(64, 5),
    )
    network = Network(architecture, (50, 12), 5)
    with_weights_of(reference, network)
    assert models.count_parameters(network) == models.count_parameters(reference)
    signals = recordings(3, 50, 12)
    torch.testing.assert_close(network(signals), reference(signals))
    for one in (network, reference):
        one.zero_grad()
        one(signals).square().sum().backward()
    for ours, theirs in zip(network.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("length", [4, 50, 83])
def test_any_length(length: int) -> None:
    """Built for windows of 50 samples, it reads others just as well."""
    architecture = Architecture(
        filters=[4, 6],
        kernels=[7, 5],
        pool=2,
        hidden=5,
        pooling="average_max_last",
        dense=3,
        dropout=0.2,
    )
    found = Network(architecture, (50, 3), 2)(recordings(4, length, 3))
    assert found.shape == (4, 2) and torch.isfinite(found).all()
