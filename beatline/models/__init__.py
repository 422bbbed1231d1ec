"""Networks: recordings `[B, T, C]` in, logits `[B, K]` out; the autoencoder gives back `[B, T, C]`.

One module per architecture. Each holds ``Architecture``, its hyperparameters as they stand in
params.yaml, and ``Network(architecture, channels, outputs)``, the module that they describe.
"""

from __future__ import annotations

import importlib
from types import ModuleType

import torch
from torch import nn

from beatline import params
from beatline.errors import UserError
from beatline.params import Parameters


def module(name: str) -> ModuleType:
    """The module of the architecture called `name`, such as cnn; ModuleNotFoundError without."""
    return importlib.import_module(f"beatline.models.{name}")


def create(name: str, architecture: Parameters, channels: int, outputs: int) -> nn.Module:
    """An untrained network. `channels`: of the input. `outputs`: classes (unused to reconstruct)."""
    return module(name).Network(architecture, channels, outputs)


def require_fit(network: nn.Module, length: int, channels: int, key: str) -> None:
    """Raise UserError, naming `key` of params.yaml, if recordings of `length` are too short for it."""
    try:
        with torch.inference_mode():
            network.eval()(torch.zeros(1, length, channels))
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise UserError(
            f"{params.PATH}: {key} does not fit recordings or windows of {length} samples "
            f"({reason}): use fewer or narrower layers, or longer windows"
        ) from None


def count_parameters(network: nn.Module) -> int:
    """The number of trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
