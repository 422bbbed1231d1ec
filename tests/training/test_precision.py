"""`precision: auto` takes what pays, tells which, and changes nothing else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from beatline.prediction import devices
from beatline.prediction.devices import Precision
from beatline.prediction.tasks import TASKS
from beatline.training import precision
from tests.training import test_loop

CPU, TASK, SHAPE = torch.device("cpu"), TASKS["multiclass"], (8, 20, 2)


class _Slow(nn.Module):
    """A network that takes its time in one precision, draws random numbers and keeps statistics."""

    def __init__(self, slow_in: Precision) -> None:
        super().__init__()
        self.slow_in = slow_in
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(40, 3), nn.BatchNorm1d(3), nn.Dropout())

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        if torch.is_autocast_enabled("cpu") == (self.slow_in == "bfloat16"):
            time.sleep(0.01)
        return self.layers(windows)


def test_what_is_asked_for_is_done() -> None:
    """A precision that is named is not measured, on any device."""
    network = nn.Linear(2, 3)
    for name in ("float32", "bfloat16", "float16"):
        for device in ("cpu", "cuda", "mps"):
            assert precision.chosen(name, network, TASK, SHAPE, torch.device(device)) == name


@pytest.mark.parametrize(
    ("fast", "steps", "expected"),
    [(True, 20, "bfloat16"), (True, 1, "float32"), (False, 20, "float32")],
)
def test_on_a_cpu_it_is_a_rule(
    fast: bool, steps: int, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same processor gives the same bytes: nothing is measured; rows of tables stay in float32."""
    monkeypatch.setattr(devices, "has_fast_bfloat16", lambda: fast)
    assert precision.chosen("auto", nn.Linear(2, 3), TASK, (8, steps, 2), CPU) == expected


@pytest.mark.parametrize(
    ("slow_in", "expected"), [("float32", "bfloat16"), ("bfloat16", "float32")]
)
def test_the_faster_one_is_chosen_by_measuring(slow_in: Precision, expected: str) -> None:
    """And the training afterwards is the one that it would have been: weights, statistics and random
    numbers are as they were."""
    torch.manual_seed(1)
    network = _Slow(slow_in)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    assert precision.measured(network, TASK, SHAPE, CPU) == expected
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize(("model", "task"), test_loop.TASKS_OF_MODELS)
def test_every_network_can_be_measured(model: str, task: str) -> None:
    """With the loss of its task."""
    outputs = test_loop.toy(task).targets.shape[1]
    network = test_loop.network_of(model, outputs)
    assert precision.measured(network, TASKS[task], SHAPE, CPU) in ("float32", "bfloat16")


def test_a_network_is_measured_once(tmp_path: Path) -> None:
    """What was chosen for it on this GPU holds for the next training, which so gives the same bytes; a
    damaged list is no reason to stop."""
    answers: Iterator[Precision] = iter(("bfloat16", "float32"))

    def measure() -> Precision:
        return next(answers)

    path = tmp_path / "checkpoints/precision.json"
    assert precision.remembered(path, ["a", [8, 20, 2]], measure) == "bfloat16"
    assert precision.remembered(path, ["a", [8, 20, 2]], measure) == "bfloat16"
    assert precision.remembered(path, ["a", [16, 20, 2]], measure) == "float32"
    assert precision.remembered(path, ["a", [8, 20, 2]], measure) == "bfloat16"
    for damaged in ("{", "[]", '{"a": 1}'):
        path.write_text(damaged)
        remembered = precision.remembered(path, ["a", [8, 20, 2]], lambda: "float16")
        assert remembered == "float16"


def test_the_history_says_which() -> None:
    """Beside the losses that it led to."""
    _, history, _ = test_loop.fitted(precision="bfloat16", epochs=2)
    assert list(history["precision"]) == ["bfloat16"] * 2
    _, history, _ = test_loop.fitted(precision="float32", epochs=1)
    assert list(history["precision"]) == ["float32"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_cuda_measures_and_remembers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU two trainings in a row take the same precision, and give the same weights."""
    monkeypatch.chdir(tmp_path)
    device, task = torch.device("cuda"), TASKS["multiclass"]
    network = test_loop.network_of("cnn", 3).to(device)
    first = precision.chosen("auto", network, task, SHAPE, device)
    assert (tmp_path / precision.MEASURED).is_file()
    assert precision.chosen("auto", network, task, SHAPE, device) == first
