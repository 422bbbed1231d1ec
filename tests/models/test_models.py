"""Networks: shapes for any length, and the textbook architectures, layer by layer, by parameters."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from beatline import models
from beatline.errors import UserError

RESIDUAL = {
    "blocks": "residual",
    "stem_kernel": 7,
    "filters": [4, 4, 6],
    "kernels": [5, 3],
    "strides": [1, 2, 2],
    "pool": 1,
    "pooling": "average_max",
    "dropout": 0.5,
}
PLAIN = {
    "blocks": "plain",
    "stem_kernel": 0,
    "filters": [32, 64],
    "kernels": [5, 3],
    "strides": [1, 1],
    "pool": 2,
    "pooling": "max",
    "dropout": 0.5,
}
LSTM = {
    "hidden": 5,
    "layers": 2,
    "bidirectional": True,
    "frame": 4,
    "pooling": "average_max_last",
    "dropout": 0.2,
}
CNN_LSTM = {
    "filters": [4, 6],
    "kernels": [7, 5],
    "pool": 2,
    "hidden": 5,
    "pooling": "average_max_last",
    "dense": 3,
    "dropout": 0.2,
}
AUTOENCODER = {"filters": [4, 5, 3], "kernel": 5}
SMALL = {"cnn": RESIDUAL, "lstm": LSTM, "cnn_lstm": CNN_LSTM, "autoencoder": AUTOENCODER}


def create(name: str, architecture: dict[str, Any], channels: int, outputs: int) -> nn.Module:
    schema = models.module(name).Architecture
    return models.create(name, schema.model_validate(architecture), channels, outputs)


def with_weights_of(reference: nn.Module, network: nn.Module) -> nn.Module:
    """`network` with the weights of `reference`, both having the same tensors in the same order."""
    tensors = list(reference.state_dict().values())
    state = network.state_dict()
    assert [tensor.shape for tensor in state.values()] == [tensor.shape for tensor in tensors]
    network.load_state_dict(dict(zip(state, tensors, strict=True)))
    return network


def assert_same(network: nn.Module, reference: nn.Module, recordings: torch.Tensor) -> None:
    """Equal outputs and equal gradients, in training mode but for dropout, whose draws differ."""
    for module in [*network.modules(), *reference.modules()]:
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    with_weights_of(reference, network)
    assert models.count_parameters(network) == models.count_parameters(reference)
    torch.testing.assert_close(network(recordings), reference(recordings))
    for one in (network, reference):
        one.zero_grad()
        one(recordings).square().sum().backward()
    for ours, theirs in zip(network.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-4)


class Transposed(nn.Module):
    """`[B, T, C]` to `[B, C, T]` and back."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values.transpose(1, 2)


class LastStep(nn.Module):
    """An LSTM that gives its last step."""

    def __init__(self, width: int, hidden: int, bidirectional: bool) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, hidden, batch_first=True, bidirectional=bidirectional)

    def forward(self, steps: torch.Tensor) -> torch.Tensor:
        return self.lstm(steps)[0][:, -1]


def recordings(batch: int, length: int, channels: int) -> torch.Tensor:
    return torch.randn(batch, length, channels, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", SMALL)
@settings(max_examples=25, deadline=None)
@given(
    length=st.integers(4, 150),
    batch=st.integers(1, 3),
    channels=st.integers(1, 12),
    outputs=st.integers(1, 5),
)
def test_shapes(name: str, length: int, batch: int, channels: int, outputs: int) -> None:
    """Recordings `[B, T, C]` of any length in; logits `[B, K]`, or the reconstruction, out."""
    network = create(name, SMALL[name], channels, outputs).eval()
    found = network(recordings(batch, length, channels))
    expected = (batch, length, channels) if name == "autoencoder" else (batch, outputs)
    assert found.shape == expected
    assert torch.isfinite(found).all()


@pytest.mark.parametrize("name", SMALL)
def test_a_record_is_answered_on_its_own(name: str) -> None:
    """In evaluation mode the others in the batch change nothing."""
    network = create(name, SMALL[name], 3, 2).eval()
    batch = recordings(5, 33, 3)
    alone = torch.cat([network(one[None]) for one in batch])
    torch.testing.assert_close(network(batch), alone)


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_is_used(name: str) -> None:
    """No layer is built that the forward pass leaves out: each parameter has a gradient."""
    network = create(name, SMALL[name], 3, 2)
    network(recordings(4, 64, 3)).square().sum().backward()
    for parameter_name, parameter in network.named_parameters():
        assert parameter.grad is not None, parameter_name


@pytest.mark.parametrize("pooling", ["max", "average", "average_max"])
@pytest.mark.parametrize("blocks", [RESIDUAL, PLAIN])
def test_poolings_of_the_cnn(blocks: dict[str, Any], pooling: str) -> None:
    """Every pooling gives logits, for either kind of block."""
    network = create("cnn", {**blocks, "pooling": pooling}, 2, 3)
    assert network(recordings(4, 31, 2)).shape == (4, 3)


def test_textbook_cnn() -> None:
    """Two convolutions, adaptive maximum pooling, dropout, a linear layer."""
    reference = nn.Sequential(
        Transposed(),
        nn.Conv1d(12, 32, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Conv1d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.AdaptiveMaxPool1d(1),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(64, 5),
    )
    assert_same(create("cnn", PLAIN, 12, 5), reference, recordings(3, 101, 12))


def test_textbook_lstm() -> None:
    """One LSTM layer, its last step, dropout, a linear layer."""
    architecture = {
        "hidden": 128,
        "layers": 1,
        "bidirectional": False,
        "frame": 1,
        "pooling": "last",
        "dropout": 0.5,
    }
    reference = nn.Sequential(LastStep(12, 128, False), nn.Dropout(0.5), nn.Linear(128, 5))
    assert_same(create("lstm", architecture, 12, 5), reference, recordings(3, 21, 12))


def test_textbook_cnn_lstm() -> None:
    """64 filters of width 7, 128 of width 5, batch norm, ReLU, max pool 2; a bidirectional LSTM with
    as many hidden units as inputs; the last step, a linear layer, dropout 0.5, output."""
    architecture = {
        "filters": [64, 128],
        "kernels": [7, 5],
        "pool": 2,
        "hidden": 128,
        "pooling": "last",
        "dense": 64,
        "dropout": 0.5,
    }
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
        LastStep(128, 128, True),
        nn.Linear(256, 64),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(64, 5),
    )
    assert_same(create("cnn_lstm", architecture, 12, 5), reference, recordings(3, 50, 12))


def test_textbook_autoencoder() -> None:
    """Five convolutions 32-64-128-256-z of stride 2 and their mirror."""
    widths, z = [12, 32, 64, 128, 256], 16
    down: list[nn.Module] = []
    for wide, narrow in itertools.pairwise(widths):
        down += [nn.Conv1d(wide, narrow, 5, 2, 2), nn.BatchNorm1d(narrow), nn.ReLU()]
    up: list[nn.Module] = []
    for narrow, wide in zip([z, *widths[:1:-1]], widths[:0:-1], strict=True):
        up += [nn.ConvTranspose1d(narrow, wide, 5, 2, 2, 1), nn.BatchNorm1d(wide), nn.ReLU()]
    reference = nn.Sequential(
        Transposed(),
        *down,
        nn.Conv1d(256, z, 5, 2, 2),
        *up,
        nn.ConvTranspose1d(32, 12, 5, 2, 2, 1),
        Transposed(),
    )
    architecture = {"filters": [32, 64, 128, 256, z], "kernel": 5}
    assert_same(create("autoencoder", architecture, 12, 1), reference, recordings(3, 128, 12))


@pytest.mark.parametrize("kernel", [2, 3, 4, 5, 8])
def test_autoencoder_mirrors_every_kernel(kernel: int) -> None:
    """Even or odd, the way up ends where the way down began."""
    network = create("autoencoder", {"filters": [3, 4], "kernel": kernel}, 2, 1)
    assert network(recordings(2, 37, 2)).shape == (2, 37, 2)


def test_residual_block_is_the_published_one() -> None:
    """Convolution, batch norm, ReLU, convolution, batch norm, shortcut, ReLU, written out."""
    architecture = {**RESIDUAL, "filters": [4], "strides": [2]}
    network: Any = create("cnn", architecture, 3, 2).eval()
    stem, block = network.features
    first, second, shortcut = block.first, block.second, block.shortcut
    features = stem(recordings(2, 40, 3).transpose(1, 2))
    inner = torch.relu(first[1](first[0](features)))
    expected = torch.relu(second[1](second[0](inner)) + shortcut[1](shortcut[0](features)))
    torch.testing.assert_close(block(features), expected)
    assert (first[0].kernel_size, second[0].kernel_size) == ((5,), (3,))
    assert (first[0].stride, shortcut[0].stride, second[0].stride) == ((2,), (2,), (1,))


@pytest.mark.parametrize("layers", [1, 2])
def test_pooling_of_the_lstm(layers: int) -> None:
    """Average, maximum and last step of the last layer; the backward direction's last step is the
    first in time."""
    network: Any = create("lstm", {**LSTM, "layers": layers}, 3, 2).eval()
    signals = recordings(2, 10, 3)
    framed = nn.functional.pad(signals, (0, 0, 0, 2)).reshape(2, 3, 12)
    steps, _ = network.lstm(framed)
    last = torch.cat([steps[:, -1, :5], steps[:, 0, 5:]], dim=1)
    pooled = torch.cat([steps.mean(dim=1), steps.amax(dim=1), last], dim=1)
    torch.testing.assert_close(network(signals), network.head(pooled))


def test_recordings_too_short_for_the_architecture() -> None:
    """Pooling more than there is ends in one sentence that names the key."""
    architecture = {**CNN_LSTM, "pool": 50}
    network = create("cnn_lstm", architecture, 1, 1)
    with pytest.raises(
        UserError, match=r"^params\.yaml: train\.x does not fit .* 140 samples"
    ) as e:
        models.require_fit(network, 140, 1, "train.x")
    assert "\n" not in str(e.value)
    models.require_fit(create("cnn_lstm", CNN_LSTM, 1, 1), 140, 1, "train.x")


def test_count_of_parameters() -> None:
    """What the log and model.json call parameters: those that training changes."""
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    assert models.count_parameters(network) == 6 + 2 + 2 + 2
    next(network.parameters()).requires_grad = False
    assert models.count_parameters(network) == 6
