"""Convolutions find the waves, a bidirectional LSTM reads their order."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import nn

from beatline.common.params import AtLeastOne, Parameters
from beatline.models import Shape

LEARNS = "labels"


class Architecture(Parameters):
    """`filters`, `kernels`: one per convolution, each followed by batch normalization, ReLU and
    maximum pooling of width `pool`. `hidden`: units of each direction. `pooling`: what is seen of
    their outputs, at the `last` time step alone, where the backward direction has only begun, or mean
    and maximum over all steps and the last one of each direction. `dense`: units of the linear layer
    before the output."""

    filters: list[AtLeastOne] = Field(min_length=1)
    kernels: list[AtLeastOne] = Field(min_length=1)
    pool: int = Field(ge=1)
    hidden: int = Field(ge=1)
    pooling: Literal["last", "average_max_last"]
    dense: int = Field(ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _lists_fit(self) -> Architecture:
        if len(self.kernels) != len(self.filters):
            raise ValueError("kernels must have one entry per entry of filters")
        return self


class Network(nn.Module):
    def __init__(self, architecture: Architecture, shape: Shape, outputs: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = shape[1]
        for filters, kernel in zip(architecture.filters, architecture.kernels, strict=True):
            layers += [
                nn.Conv1d(width, filters, kernel, padding=kernel // 2, bias=False),
                nn.BatchNorm1d(filters),
                nn.ReLU(),
                nn.MaxPool1d(architecture.pool),
            ]
            width = filters
        self.convolutions = nn.Sequential(*layers)
        self.lstm = nn.LSTM(width, architecture.hidden, batch_first=True, bidirectional=True)
        self.pooling = architecture.pooling
        width = 2 * architecture.hidden * (3 if architecture.pooling == "average_max_last" else 1)
        self.head = nn.Sequential(
            nn.Linear(width, architecture.dense),
            nn.ReLU(),
            nn.Dropout(architecture.dropout),
            nn.Linear(architecture.dense, outputs),
        )

    def forward(self, recordings: torch.Tensor) -> torch.Tensor:
        features = self.convolutions(recordings.transpose(1, 2)).transpose(1, 2)
        steps, (hidden, _) = self.lstm(features)
        if self.pooling == "last":
            return self.head(steps[:, -1])
        last = torch.cat([hidden[0], hidden[1]], dim=1)
        return self.head(torch.cat([steps.mean(dim=1), steps.amax(dim=1), last], dim=1))
