"""Networks: recordings `[B, T, C]` in, logits `[B, K]` out; the autoencoder gives back `[B, T, C]`.

One module per architecture. Each holds ``Architecture``, its hyperparameters as they stand in
params.yaml, and ``Network(architecture, channels, outputs)``, the module that they describe.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from torch import nn

from beatline.params import Parameters


def module(name: str) -> ModuleType:
    """The module of the architecture called `name`, such as cnn."""
    return importlib.import_module(f"beatline.models.{name}")


def create(name: str, architecture: Parameters, channels: int, outputs: int) -> nn.Module:
    """An untrained network. `channels`: of the input. `outputs`: classes (unused to reconstruct)."""
    return module(name).Network(architecture, channels, outputs)


def count_parameters(network: nn.Module) -> int:
    """The number of trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
