"""The convolutional network in one and two dimensions, against networks written out layer by layer."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from safetensors import torch as safetensors
from torch import nn

from beatline import models
from beatline.common.errors import UserError
from beatline.models import cnn

BASE = {
    "dimensions": 1, "blocks": "residual", "stem_kernel": 5, "filters": [4, 4, 6], "kernels": [5, 3],
    "strides": [1, 2, 2], "pool": 1, "pooling": "average_max", "dense": 0, "dropout": 0.0,
}  # fmt: skip
RESIDUAL = {**BASE, "dimensions": 2}
PLAIN = {**BASE, "blocks": "plain", "stem_kernel": 0, "kernels": [5, 3, 3], "pool": 2}
TEXTBOOK = {
    **RESIDUAL, "blocks": "plain", "stem_kernel": 0, "filters": [32, 64], "kernels": [3, 3],
    "strides": [1, 1], "pool": 2, "pooling": "none", "dense": 128, "dropout": 0.5,
}  # fmt: skip


def create(
    architecture: dict[str, Any], shape: models.Shape = (28, 28), outputs: int = 10
) -> nn.Module:
    schema = cnn.Architecture.model_validate(architecture)
    return models.create(models.module("cnn"), schema, shape, outputs, "here").train()


def images(batch: int, height: int = 28, width: int = 28) -> torch.Tensor:
    return torch.randn(batch, height, width, generator=torch.Generator().manual_seed(0))


class Image(nn.Module):
    """`[B, T, C]` to `[B, 1, T, C]`."""

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        return windows.unsqueeze(1)


class Signal(nn.Module):
    """`[B, T, C]` to `[B, C, T]`."""

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        return windows.transpose(1, 2)


class AverageMax(nn.Module):
    """Average and maximum over all places."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        places = features.flatten(2)
        return torch.cat([places.mean(dim=2), places.amax(dim=2)], dim=1)


class Shortcut(nn.Module):
    """A residual block in two dimensions, as in He et al. 2016."""

    def __init__(self, width: int, filters: int, stride: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(width, filters, 5, stride, 2, bias=False), nn.BatchNorm2d(filters), nn.ReLU(),
            nn.Conv2d(filters, filters, 3, 1, 1, bias=False), nn.BatchNorm2d(filters),
        )  # fmt: skip
        self.side = nn.Sequential()
        if width != filters or stride != 1:
            self.side = nn.Sequential(
                nn.Conv2d(width, filters, 1, stride, bias=False), nn.BatchNorm2d(filters)
            )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return nn.functional.relu(self.main(features) + self.side(features))


def textbook() -> nn.Module:
    """The network of many MNIST tutorials: 32 and 64 filters of 3 x 3, max pooling, dense 128."""
    return nn.Sequential(
        Image(), nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(64 * 7 * 7, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10),
    )  # fmt: skip


def residual() -> nn.Module:
    """RESIDUAL, written out."""
    return nn.Sequential(
        Image(), nn.Conv2d(1, 4, 5, padding=2, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
        Shortcut(4, 4, 1), Shortcut(4, 4, 2), Shortcut(4, 6, 2), AverageMax(), nn.Linear(12, 10),
    )  # fmt: skip


def plain_in_time() -> nn.Module:
    """PLAIN, written out."""
    layers: list[nn.Module] = [Signal()]
    for (width, filters), kernel, stride in zip(
        itertools.pairwise([28, 4, 4, 6]), [5, 3, 3], [1, 2, 2], strict=True
    ):
        convolution = nn.Conv1d(width, filters, kernel, stride, kernel // 2)
        layers += [convolution, nn.ReLU(), nn.MaxPool1d(2)]
    return nn.Sequential(*layers, AverageMax(), nn.Linear(12, 10))


@pytest.mark.parametrize(
    ("architecture", "reference", "shape"),
    [
        (TEXTBOOK, textbook, (28, 28)),
        (RESIDUAL, residual, (28, 28)),
        (RESIDUAL, residual, (17, 30)),
        (PLAIN, plain_in_time, (64, 28)),
    ],
)
def test_written_out(architecture: dict[str, Any], reference: Any, shape: models.Shape) -> None:
    """The same tensors in the same order, drawn from the same seed, and the same gradients: what other
    runs trained stays loadable and repeatable."""
    torch.manual_seed(5)
    network = create(architecture, shape)
    torch.manual_seed(5)
    expected = reference()
    for ours, theirs in zip(
        network.state_dict().values(), expected.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs)
    windows = images(6, *shape)
    outputs = []
    for one in (network, expected):
        for module in one.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        outputs.append(one(windows))
        outputs[-1].square().sum().backward()
    torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-4)
    for ours, theirs in zip(network.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-3)


def test_textbook_size() -> None:
    """320 + 18,496 + 401,536 + 1,290 parameters."""
    assert models.count_parameters(create(TEXTBOOK)) == 421_642


def test_names_of_tensors_in_time() -> None:
    """Bundles that were trained before there were two dimensions still load."""
    residual_names = [
        "features.0.0.weight", "features.0.1.weight", "features.1.first.0.weight",
        "features.1.second.1.bias", "features.2.shortcut.0.weight", "head.1.weight", "head.1.bias",
    ]  # fmt: skip
    assert set(residual_names) <= set(create(BASE).state_dict())
    plain_names = ["features.0", "features.3", "features.6", "head.1"]
    found = list(create(PLAIN, (64, 28)).state_dict())
    assert found == [f"{name}.{what}" for name in plain_names for what in ("weight", "bias")]


@pytest.mark.parametrize("pooling", ["max", "average", "average_max", "none"])
@pytest.mark.parametrize("dense", [0, 7])
@pytest.mark.parametrize("dimensions", [1, 2])
@pytest.mark.parametrize("blocks", [RESIDUAL, {**PLAIN, "pool": 1}])
def test_every_combination(
    blocks: dict[str, Any], dimensions: int, dense: int, pooling: str
) -> None:
    """Logits `[B, K]` for each, every parameter used, and each record answered on its own."""
    changes = {"dimensions": dimensions, "pooling": pooling, "dense": dense}
    network = create({**blocks, **changes}, (21, 12), 3)
    windows = images(4, 21, 12)
    network(windows).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
    network.eval()
    assert network(windows).shape == (4, 3)
    alone = torch.cat([network(one[None]) for one in windows])
    torch.testing.assert_close(network(windows), alone, rtol=1e-4, atol=1e-5)


def test_an_image_may_have_any_size_where_it_is_pooled() -> None:
    """Pooled over all places, the same weights take other images; `none` fits one shape only."""
    pooled = create(RESIDUAL)
    assert pooled(images(2, 50, 19)).shape == (2, 10)
    with pytest.raises(RuntimeError):
        create({**RESIDUAL, "pooling": "none"})(images(2, 50, 19))


def test_creation_leaves_no_trace() -> None:
    """To find out how wide the features are, nothing is drawn, learned or left in evaluation mode."""
    schema = cnn.Architecture.model_validate({**RESIDUAL, "pooling": "none"})
    network = cnn.Network(schema, (28, 28), 10)
    assert all(module.training for module in network.modules())
    seen = [tensor for name, tensor in network.named_buffers() if name.endswith("tracked")]
    means = [tensor for name, tensor in network.named_buffers() if name.endswith("running_mean")]
    assert seen and means
    assert not any(tensor.any() for tensor in [*seen, *means])


def test_weights_survive_a_file() -> None:
    """Weights that lie in memory channels last come back from a file as they were."""
    network = create(TEXTBOOK).eval()
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    other = create(TEXTBOOK).eval()
    other.load_state_dict(safetensors.load(safetensors.save(state)))
    assert torch.equal(other(images(3)), network(images(3)))


@pytest.mark.parametrize(
    "changes",
    [
        {"filters": [4] * 6, "kernels": [3] * 6, "strides": [1] * 6},  # pooled to nothing
        {"kernels": [3, 3, 40]},  # wider than what is left
    ],
)
def test_images_that_are_too_small(changes: dict[str, Any]) -> None:
    """One sentence that names the key."""
    architecture = {**PLAIN, "dimensions": 2, "strides": [1, 1, 1], **changes}
    if changes.get("kernels", [])[-1:] == [40]:
        architecture["pool"] = 4
    with pytest.raises(UserError, match="here does not fit"):
        create(architecture)
