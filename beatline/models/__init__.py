"""Networks: windows `[B, T, C]` in; logits `[B, K]` out, or a reconstruction, or an anomaly score.

One module per architecture. Each holds

- ``Architecture``, its hyperparameters as they stand in params.yaml;
- ``LEARNS``, what it learns from: `labels` (it gives logits `[B, K]`), `normal` (it gives back the
  normal windows that it saw, `[B, T, C]`; in evaluation mode, if it is not scored by these, scores
  `[B, 1]` too: see `autoencoder`), or `sections` (it tells apart the machines that normal recordings
  come from, and scores by how far a window is from all of them: see `embedding`);
- ``Network(architecture, shape, outputs)``, the module that they describe, for windows of `shape`
  `(T, C)` and `outputs` classes or sections;
- if it is not trained by gradient descent, ``Train`` and ``fit``, which stand in for those of
  :mod:`beatline.training.loop`, with the same arguments (see `logistic_regression`).
"""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import nn

from beatline.common.errors import UserError
from beatline.common.params import Parameters
from beatline.prediction.device_data import Recordings
from beatline.prediction.windows import Windows


class Learning(Parameters):
    """Parameters of every training.

    `threshold_percentile`: of the validation normals' anomaly scores, for detectors. `seeds`: so many
    networks are trained, from `seed`, `seed` + 1 and so on; the first is the model, and the others show
    the seed variance, or the model predicts with the mean of all (`predict_with`). `calibrate`:
    probabilities are brought to what is observed, by a temperature fitted on validation records.
    """

    windows: Windows = Windows()
    threshold_percentile: float = Field(gt=0, lt=100)
    seed: int = Field(ge=0)
    seeds: int = Field(default=1, ge=1)
    # A bundle does not speak of what was not done.
    predict_with: Literal["first", "mean"] = Field(
        default="first", exclude_if=lambda value: value == "first"
    )
    calibrate: Literal["none", "temperature"] = Field(
        default="none", exclude_if=lambda value: value == "none"
    )

    @model_validator(mode="after")
    def _has_a_mean(self) -> Learning:
        if self.predict_with == "mean" and self.seeds < 2:
            raise ValueError("seeds must be 2 or more, where predict_with is mean")
        return self

    @model_validator(mode="after")
    def _windows_leave_no_gaps(self) -> Learning:
        length, stride = self.windows.length, self.windows.stride or 0
        if stride and not length:
            raise ValueError("windows.stride is between windows: windows.length must be given too")
        if stride > length:
            raise ValueError(
                f"windows.stride must be at most windows.length, {length}, or nothing looks at what lies "
                f"between windows"
            )
        return self


@dataclass(frozen=True)
class Examples:
    """Examples to learn from or to validate on: recordings and 0/1 targets `[N, K]`."""

    recordings: Recordings
    targets: np.ndarray


class WithMemoryBank(ABC):
    """A network whose predictions need a memory bank of the training windows, besides its weights, unless
    it says of itself that it needs none."""

    needs_memory_bank = True

    @abstractmethod
    def build_memory_bank(self, windows: Iterable[torch.Tensor]) -> None:
        """Keep, in buffers, what the network needs of the training windows, which come as `[B, T, C]`."""


Shape = tuple[int, int]  # of what a network looks at: T time steps (or rows), C channels


def module(name: str) -> ModuleType:
    """The module of the architecture called `name`, such as cnn; ModuleNotFoundError without."""
    return importlib.import_module(f"beatline.models.{name}")


def detectors() -> list[str]:
    """Return the names of the models that learn from normal recordings alone."""
    names = [found.name for found in pkgutil.iter_modules(__path__) if found.name[0] != "_"]
    return [name for name in names if module(name).LEARNS != "labels"]


def create(
    kind: ModuleType, architecture: Parameters, shape: Shape, outputs: int, key: str
) -> nn.Module:
    """An untrained network of a :func:`module` for windows of `shape`.

    Raises UserError, naming `key`, where the architecture's hyperparameters stand, if they do not fit
    windows of that shape.
    """
    try:
        network = kind.Network(architecture, shape, outputs)
        look_at(network, shape)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise UserError(
            f"{key} does not fit recordings or windows of {shape[0]} samples of "
            f"{shape[1]} channels ({reason}): use fewer or narrower layers, or longer windows"
        ) from None
    return network


@torch.inference_mode()
def look_at(network: nn.Module, shape: Shape) -> None:
    """Show a network one window of zeros. RuntimeError or ValueError if windows of `shape` do not fit."""
    network.eval()(torch.zeros(1, *shape))


def needs_memory_bank(network: nn.Module) -> bool:
    """Whether a network must be shown the training windows before it predicts."""
    return isinstance(network, WithMemoryBank) and network.needs_memory_bank


def count_parameters(network: nn.Module) -> int:
    """The number of trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
