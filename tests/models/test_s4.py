"""S4: the recurrence that its convolution stands for, both directions, its graph, its learning rates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import cont2discrete

from beatline import models
from beatline.export import onnx_graph
from beatline.export.session import ANSWERS, WINDOWS, open_session
from beatline.models.s4 import Architecture, Network, StateSpace
from beatline.prediction.tasks import TASKS
from beatline.training import initial
from beatline.training.loop import _optimizer
from beatline.training.parameters import Train
from tests.parameters import ARCHITECTURES, TRAIN, TRAINING

LEARNED = ("log_step", "log_decay", "frequency")  # no weight decay, and a rate of their own


def layer(width: int = 3, pairs: int = 2, seed: int = 0) -> StateSpace:
    torch.manual_seed(seed)
    return StateSpace(width, pairs)


def signals(batch: int, length: int, width: int) -> torch.Tensor:
    return torch.randn(batch, length, width, generator=torch.Generator().manual_seed(1))


def network(width: int = 6, layers: int = 2, length: int = 40, **more: Any) -> Network:
    torch.manual_seed(0)
    architecture = Architecture(width=width, state=4, layers=layers, **more)
    return Network(architecture, (length, 3), 2)


def recurrence(space: StateSpace, direction: int, inputs: np.ndarray) -> np.ndarray:
    """The states of each channel `[T, H]`, step by step in float64, as real systems of twice the size;
    SciPy makes them discrete."""
    outputs = np.zeros_like(inputs)
    weights, skip = space.output.detach().double().numpy(), space.skip.detach().double().numpy()
    for channel in range(inputs.shape[1]):
        time_step = float(space.log_step[channel].detach().exp())
        decays = space.log_decay[channel].detach().double().exp().numpy()
        frequencies = space.frequency[channel].detach().double().numpy()
        for pair, (decay, frequency) in enumerate(zip(decays, frequencies, strict=True)):
            continuous = np.array([[-decay, -frequency], [frequency, -decay]])
            real, imaginary = weights[direction, channel, pair]
            output = 2 * np.array([[real, -imaginary]])
            system: Any = (continuous, np.array([[1.0], [0.0]]), output, np.zeros((1, 1)))
            discrete: Any = cont2discrete(system, time_step, method="zoh")
            a, b, c = discrete[:3]
            state = np.zeros(2)
            for step, value in enumerate(inputs[:, channel]):
                state = a @ state + b[:, 0] * value
                outputs[step, channel] += c[0] @ state
        outputs[:, channel] += skip[channel] * inputs[:, channel] / 2
    return outputs


@settings(max_examples=15)
@given(length=st.integers(1, 60), pairs=st.integers(1, 4), seed=st.integers(0, 99))
def test_the_convolution_is_the_recurrence(length: int, pairs: int, seed: int) -> None:
    """A discrete linear system per channel and direction, from its equation."""
    space, inputs = layer(3, pairs, seed), signals(2, length, 3)
    with torch.inference_mode():
        found = space(inputs).double().numpy()
    for one, outputs in zip(inputs.double().numpy(), found, strict=True):
        expected = recurrence(space, 0, one) + recurrence(space, 1, one[::-1])[::-1]
        np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("piece", [1, 7, 16, 99, 100, 1000])
def test_pieces_are_the_whole(piece: int) -> None:
    """A long kernel is made of pieces of any length, and is that of one piece."""
    with torch.inference_mode():
        space = layer()
        kernels = space.kernels(100, piece)
        assert kernels.shape == (2, 3, 100)
        torch.testing.assert_close(kernels, space.kernels(100, 100), rtol=1e-4, atol=1e-5)


def test_the_beginning_is_that_of_the_paper() -> None:
    """S4D-Inv: -1/2 + i N/π (N/(2n+1) - 1); time steps of 0.001 to 0.1, all over that range."""
    space = layer(1000, 4)
    torch.testing.assert_close(-space.log_decay.exp(), torch.full((1000, 4), -0.5))
    frequencies = [8 / np.pi * (8 / odd - 1) for odd in (1, 3, 5, 7)]
    np.testing.assert_allclose(space.frequency[7].detach(), frequencies, rtol=1e-6)
    steps = space.log_step.detach().exp()
    assert 0.001 <= steps.min() < 0.0011 and 0.09 < steps.max() <= 0.1
    assert float(steps.log().mean()) == pytest.approx(np.log(0.01), abs=0.1)


def test_both_directions() -> None:
    """Reversed in time, with the weights of both directions exchanged, it gives the reversed output."""
    space, inputs = layer(), signals(2, 50, 3)
    with torch.inference_mode():
        outputs = space(inputs)
        space.output.copy_(space.output.flip(0))
        torch.testing.assert_close(space(inputs.flip(1)).flip(1), outputs, rtol=1e-4, atol=1e-5)


def test_the_window_is_no_circle() -> None:
    """What is at one end changes what is far from it by as much as a longer window with zeros says."""
    space, inputs = layer(), signals(2, 50, 3)
    with torch.inference_mode():
        longer = space(torch.nn.functional.pad(inputs, (0, 0, 30, 20)))
        torch.testing.assert_close(longer[:, 30:80], space(inputs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("length", [1, 3, 40, 251, 1000])
@pytest.mark.parametrize("batch", [1, 2, 7])
def test_the_graph_predicts_the_same(length: int, batch: int) -> None:
    """For any number of windows, and with weights that are not those of the beginning."""
    made = network(16, 4, length)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    graph = onnx_graph.export(made, TASKS["multilabel"], (length, 3))
    inputs = signals(batch, length, 3)
    with torch.inference_mode():
        expected = made.eval()(inputs).sigmoid().numpy()
    found: Any = open_session(graph).run([ANSWERS], {WINDOWS: inputs.numpy()})[0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_a_shorter_window_needs_no_other_network() -> None:
    """Kernels are as long as what comes."""
    assert network(length=40)(signals(2, 17, 3)).shape == (2, 2)


def test_16_bit_arithmetic_leaves_the_kernel_alone() -> None:
    """Of the same inputs, the state space makes the same bits under mixed precision, and float32 of
    16-bit ones; the network's outputs are those of float32 up to the rounding around it."""
    space, inputs = layer(), signals(4, 40, 3)
    made = network()
    expected, kernels = made(inputs), space(inputs)
    with torch.autocast("cpu", torch.bfloat16):
        outputs, same, rounded = made(inputs), space(inputs), space(inputs.bfloat16())
    assert torch.equal(same, kernels)
    assert rounded.dtype == torch.float32 and outputs.dtype == torch.bfloat16
    outputs.float().square().sum().backward()
    assert {each.grad.dtype for each in made.parameters() if each.grad is not None} == {
        torch.float32
    }
    torch.testing.assert_close(outputs.float(), expected, rtol=0.05, atol=0.05)


def parameters(**changes: Any) -> Train:
    optimizer = {"name": "adamw", "learning_rate": 0.02, "weight_decay": 0.3}
    return Train.model_validate({**TRAINING, **TRAIN, "optimizer": optimizer, **changes})


@pytest.mark.parametrize("initial_rate", [1.0, 0.01])
def test_the_state_learns_at_its_own_rate(initial_rate: float) -> None:
    """At most at `state_rate` and without weight decay, also where the first layers learn slower; every
    parameter is in one group, and the last group's rate is that of the history."""
    made = network(layers=3, state_rate=0.004)
    changes = {"initial": "a/b", "initial_rate": initial_rate} if initial_rate < 1 else {}
    optimizer = _optimizer(made, parameters(**changes))
    plain = {
        id(each): group["lr"]
        for group in initial.groups(
            torch.nn.ModuleDict(dict(made.named_children())), 0.02, initial_rate
        )
        for each in group["params"]
    }
    rates = {id(each): group for group in optimizer.param_groups for each in group["params"]}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(rates)
    for name, parameter in made.named_parameters():
        own = name.rpartition(".")[2] in LEARNED
        group, rate = rates[id(parameter)], plain[id(parameter)]
        assert group["weight_decay"] == (0 if own else 0.3), name
        assert group["lr"] == pytest.approx(min(rate, 0.004) if own else rate), name
    assert optimizer.param_groups[-1]["lr"] == 0.02
    state_rates = {group["lr"] for group in optimizer.param_groups if not group["weight_decay"]}
    assert max(state_rates) == 0.004 and (initial_rate == 1) == (len(state_rates) == 1)


def test_networks_without_such_parameters_have_one_group() -> None:
    """No other network is trained otherwise than before."""
    architecture = models.module("cnn").Architecture.model_validate(ARCHITECTURES["cnn"])
    made = models.create(models.module("cnn"), architecture, (40, 3), 2, "key")
    (group,) = _optimizer(made, parameters()).param_groups
    assert group["weight_decay"] == 0.3 and len(group["params"]) == len([*made.parameters()])


def test_states_come_in_pairs() -> None:
    """An odd size of the state is refused and not rounded."""
    with pytest.raises(ValueError, match="state"):
        Architecture(width=4, state=3, layers=1)
