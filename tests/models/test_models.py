"""Networks, all of them: shapes by what they learn, one architecture each, and what does not fit."""

from __future__ import annotations

import inspect
from types import ModuleType, SimpleNamespace
from typing import cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from beatline import models
from beatline.common import params
from beatline.common.errors import UserError
from beatline.common.params import Parameters
from tests.parameters import ARCHITECTURES


def create(name: str, length: int, channels: int, outputs: int) -> nn.Module:
    architecture = models.module(name).Architecture.model_validate(ARCHITECTURES[name])
    return models.create(models.module(name), architecture, (length, channels), outputs, "key")


def windows(batch: int, length: int, channels: int) -> torch.Tensor:
    return torch.randn(batch, length, channels, generator=torch.Generator().manual_seed(0))


def taught(name: str, length: int, channels: int, outputs: int) -> nn.Module:
    """A network that can predict; one with a memory bank has ten windows in it."""
    network = create(name, length, channels, outputs)
    if models.needs_memory_bank(network):
        assert isinstance(network, models.WithMemoryBank)
        with torch.inference_mode():
            network.build_memory_bank(windows(10, length, channels).split(4))
    return network


def test_no_model_is_left_out() -> None:
    """The tests below are of every module there is."""
    assert sorted(ARCHITECTURES) == params._modules("models")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_randomness_is_torchs_own(name: str) -> None:
    """A checkpoint saves torch's generators. The dropout of torch's recurrent layers is drawn from
    elsewhere on CUDA, so that a resumed training would give other bytes."""
    module = models.module(name)
    block = {**ARCHITECTURES[name], "layers": 3, "dropout": 0.5}
    allowed = {
        key: value for key, value in block.items() if key in module.Architecture.model_fields
    }
    architecture = module.Architecture.model_validate(allowed)
    network = models.create(module, architecture, (20, 2), 3, "key")
    assert not [one for one in network.modules() if isinstance(one, nn.RNNBase) and one.dropout]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_what_a_model_holds(name: str) -> None:
    """A strict schema, what it learns from, a network, and, if it is not trained by gradient descent,
    both its parameters and its way to learn."""
    module = models.module(name)
    assert issubclass(module.Architecture, Parameters)
    assert module.LEARNS in ("labels", "normal", "sections")
    signature = inspect.signature(module.Network)
    assert list(signature.parameters) == ["architecture", "shape", "outputs"]
    assert hasattr(module, "fit") == hasattr(module, "Train")


@pytest.mark.parametrize("name", ARCHITECTURES)
@settings(max_examples=15)
@given(
    length=st.integers(9, 150),
    batch=st.integers(1, 3),
    channels=st.integers(1, 12),
    outputs=st.integers(1, 5),
)
def test_shapes(name: str, length: int, batch: int, channels: int, outputs: int) -> None:
    """Windows `[B, T, C]` in; logits `[B, K]`, the reconstruction `[B, T, C]`, or anomaly scores
    `[B, 1]` out."""
    network = taught(name, length, channels, outputs).eval()
    with torch.inference_mode():
        found = network(windows(batch, length, channels))
    expected = {
        "labels": (batch, outputs),
        "normal": (batch, length, channels),
        "sections": (batch, 1),
    }[models.module(name).LEARNS]
    assert found.shape == expected
    assert torch.isfinite(found).all()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_window_is_answered_on_its_own(name: str) -> None:
    """In evaluation mode the others in the batch change nothing."""
    network = taught(name, 33, 3, 2).eval()
    batch = windows(5, 33, 3)
    with torch.inference_mode():
        alone = torch.cat([network(one[None]) for one in batch])
        torch.testing.assert_close(network(batch), alone)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_parameter_is_used(name: str) -> None:
    """No layer is built that the forward pass leaves out: each parameter has a gradient."""
    network = create(name, 64, 3, 2).train()
    network(windows(4, 64, 3)).square().sum().backward()
    for parameter_name, parameter in network.named_parameters():
        assert parameter.grad is not None, parameter_name


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_seed_decides_the_weights(name: str) -> None:
    """Created twice with one seed, a network has equal weights, for its first look at a window of zeros
    draws nothing."""
    networks = []
    for _ in range(2):
        torch.manual_seed(3)
        networks.append((create(name, 20, 2, 3), torch.rand(1)))
    (one, after), (other, after_other) = networks
    assert one.state_dict().keys() == other.state_dict().keys()
    for key, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[key])
    assert torch.equal(after, after_other)


def test_architecture_that_does_not_fit_its_windows() -> None:
    """Pooling more than there is ends in one sentence that names the key, the shape and the cure."""
    architecture = models.module("cnn_lstm").Architecture.model_validate(
        {**ARCHITECTURES["cnn_lstm"], "pool": 50}
    )
    expected = r"^params\.yaml: train\.x does not fit .* 49 samples of 3 channels \(.+\): use fewer"
    with pytest.raises(UserError, match=expected) as error:
        models.create(models.module("cnn_lstm"), architecture, (49, 3), 1, "params.yaml: train.x")
    assert len(str(error.value).splitlines()) == 1
    models.create(models.module("cnn_lstm"), architecture, (50, 3), 1, "params.yaml: train.x")


@pytest.mark.parametrize("wrong", [ValueError("no room.\nat all"), RuntimeError("no room.")])
@pytest.mark.parametrize("while_", ["built", "run"])
def test_whatever_a_network_says_does_not_fit(
    wrong: Exception, while_: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told while it is built or at its first window, in one sentence with its reason."""

    class Network(nn.Module):
        def __init__(self, *_: object) -> None:
            super().__init__()
            if while_ == "built":
                raise wrong

        def forward(self, _: torch.Tensor) -> torch.Tensor:
            raise wrong

    expected = r"key does not fit recordings or windows of 5 samples of 2 channels \(no room\): use"
    with pytest.raises(UserError, match=expected):
        models.create(
            cast(ModuleType, SimpleNamespace(Network=Network)), Parameters(), (5, 2), 1, "key"
        )


def test_a_bug_is_not_called_a_wrong_parameter() -> None:
    """An error that no parameter mends keeps its traceback."""

    def network(*_: object) -> nn.Module:
        raise AttributeError("typo")

    with pytest.raises(AttributeError):
        models.create(
            cast(ModuleType, SimpleNamespace(Network=network)), Parameters(), (5, 2), 1, "key"
        )


def test_count_of_parameters() -> None:
    """The parameters that the log and model.json count are those that training changes."""
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    assert models.count_parameters(network) == 6 + 2 + 2 + 2
    next(network.parameters()).requires_grad = False
    assert models.count_parameters(network) == 6
