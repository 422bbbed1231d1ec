"""A multilayer perceptron: dense layers with ReLU, for tables of features.

A recording or window of several time steps is flattened.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import nn

from beatline.common.params import AtLeastOne, Parameters
from beatline.models import Shape

LEARNS = "labels"


class Architecture(Parameters):
    """`dense`: units of the hidden layers, each followed by batch normalization, if `batch_norm`, ReLU
    and dropout."""

    dense: list[AtLeastOne] = Field(min_length=1)
    batch_norm: bool
    dropout: float = Field(default=0.0, ge=0, lt=1)


class Network(nn.Module):
    def __init__(self, architecture: Architecture, shape: Shape, outputs: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten()]
        width = shape[0] * shape[1]
        for units in architecture.dense:
            layers.append(nn.Linear(width, units))
            layers += [nn.BatchNorm1d(units)] if architecture.batch_norm else []
            layers += [nn.ReLU(), nn.Dropout(architecture.dropout)]
            width = units
        self.layers = nn.Sequential(*layers, nn.Linear(width, outputs))

    def forward(self, recordings: torch.Tensor) -> torch.Tensor:
        return self.layers(recordings)
