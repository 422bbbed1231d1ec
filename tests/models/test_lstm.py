"""The recurrent network: its poolings and its head, against networks written out layer by layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from beatline import models
from beatline.models import lstm

BASE = {
    "hidden": 6, "layers": 2, "bidirectional": True, "frame": 4, "pooling": "average_max_last",
    "dense": 0, "dropout": 0.2,
}  # fmt: skip
TEXTBOOK = {
    **BASE, "hidden": 128, "layers": 1, "bidirectional": False, "frame": 1, "pooling": "last",
    "dropout": 0.5,
}  # fmt: skip


def create(
    architecture: dict[str, Any], shape: models.Shape = (28, 28), outputs: int = 10
) -> nn.Module:
    schema = lstm.Architecture.model_validate(architecture)
    return models.create(models.module("lstm"), schema, shape, outputs, "here").train()


def windows(batch: int, length: int = 28, channels: int = 28) -> torch.Tensor:
    return torch.randn(batch, length, channels, generator=torch.Generator().manual_seed(0))


class Steps(nn.Module):
    """All that an LSTM says, `[B, T, H]`."""

    def __init__(self, width: int, hidden: int, **options: Any) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, hidden, batch_first=True, **options)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return self.lstm(values)[0]


class Last(nn.Module):
    """The last step."""

    def forward(self, steps: torch.Tensor) -> torch.Tensor:
        return steps[:, -1]


def textbook() -> nn.Module:
    """The network of many MNIST tutorials: 128 units over the rows, dropout, the output."""
    return nn.Sequential(Steps(28, 128), Last(), nn.Dropout(0.5), nn.Linear(128, 10))


def every_step() -> nn.Module:
    """Frames of two rows, all 14 steps to a dense layer."""
    return nn.Sequential(
        nn.Unflatten(1, (14, 2)), nn.Flatten(2), Steps(56, 7), nn.Flatten(),
        nn.Linear(14 * 7, 5), nn.ReLU(), nn.Dropout(0.1), nn.Linear(5, 10),
    )  # fmt: skip


def filled_up() -> nn.Module:
    """Frames of three rows: 28 rows make ten, the last one filled up with two rows of zeros."""
    return nn.Sequential(
        nn.ZeroPad2d((0, 0, 0, 2)), nn.Unflatten(1, (10, 3)), nn.Flatten(2),
        Steps(84, 7, bidirectional=True), nn.Flatten(), nn.Linear(10 * 14, 10),
    )  # fmt: skip


EVERY_STEP = {**TEXTBOOK, "hidden": 7, "frame": 2, "pooling": "none", "dense": 5}
FILLED_UP = {**EVERY_STEP, "frame": 3, "bidirectional": True, "dense": 0}


@pytest.mark.parametrize(
    ("architecture", "reference"),
    [(TEXTBOOK, textbook), (EVERY_STEP, every_step), (FILLED_UP, filled_up)],
)
def test_written_out(architecture: dict[str, Any], reference: Any) -> None:
    """The same tensors in the same order, drawn from the same seed, and the same gradients."""
    torch.manual_seed(5)
    network = create(architecture)
    torch.manual_seed(5)
    expected = reference()
    for ours, theirs in zip(
        network.state_dict().values(), expected.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs)
    outputs = []
    for one in (network, expected):
        for module in one.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        outputs.append(one(windows(6)))
        outputs[-1].square().sum().backward()
    torch.testing.assert_close(*outputs)
    for ours, theirs in zip(network.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-4)


def test_textbook_size() -> None:
    """4 x 128 x (28 + 128 + 2) and 1,290 parameters."""
    assert models.count_parameters(create(TEXTBOOK)) == 82_186


def test_names_of_tensors() -> None:
    """Bundles that were trained before there was a dense layer still load."""
    found = list(create({**TEXTBOOK, "layers": 1}).state_dict())
    lstm_names = [f"lstm.{what}_l0" for what in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    assert found == [*lstm_names, "head.1.weight", "head.1.bias"]


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_layers_are_those_of_torch(layers: int, bidirectional: bool, dropout: float) -> None:
    """Tensors are called, ordered and drawn as those of one nn.LSTM, whose bundles load; on the CPU
    its dropout is drawn alike, too, in training and not after it."""
    chosen: Any = {"layers": layers, "bidirectional": bidirectional, "dropout": dropout}
    torch.manual_seed(5)
    network = create({**BASE, **chosen, "frame": 1, "pooling": "none"}, (9, 4))
    torch.manual_seed(5)
    expected = Steps(4, 6, num_layers=layers, bidirectional=bidirectional, dropout=dropout)
    ours, theirs = network.state_dict(), expected.state_dict()
    assert [name for name in ours if not name.startswith("head")] == list(theirs)
    for name, tensor in theirs.items():
        assert torch.equal(ours[name], tensor), name
        tensor += 0.1
    network.load_state_dict(ours | theirs)
    network.head = nn.Identity()
    for training in (True, False):
        outputs = []
        for one in (network.train(training), expected.train(training)):
            torch.manual_seed(6)
            outputs.append(one(windows(5, 9, 4)).flatten(1))
        assert torch.equal(*outputs)


@pytest.mark.parametrize("pooling", ["last", "average_max_last", "none"])
@pytest.mark.parametrize("dense", [0, 3])
@pytest.mark.parametrize("length", [4, 21])
def test_every_combination(pooling: str, dense: int, length: int) -> None:
    """Logits `[B, K]` for each, every parameter used, and each record answered on its own."""
    network = create({**BASE, "pooling": pooling, "dense": dense}, (length, 5), 3)
    batch = windows(4, length, 5)
    network(batch).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
    network.eval()
    assert network(batch).shape == (4, 3)
    torch.testing.assert_close(network(batch), torch.cat([network(one[None]) for one in batch]))


def test_pooled_over_time_any_length_will_do() -> None:
    """The same weights read longer windows; `none` fits one length only."""
    assert create(BASE)(windows(2, 50)).shape == (2, 10)
    with pytest.raises(RuntimeError):
        create({**BASE, "pooling": "none"})(windows(2, 50))
