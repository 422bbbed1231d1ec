"""Convolutional networks over time.

``blocks: residual`` is the residual network that scored best of the small ones on PTB-XL (Strodthoff
et al. 2021, `resnet1d_wang`, after Wang, Yan & Oates 2017): a stem, then blocks of two convolutions
with a shortcut, average and maximum over time, dropout, a linear layer. ``blocks: plain`` is the
textbook network: convolution, ReLU and maximum pooling in each block.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import nn

from beatline.params import AtLeastOne, Parameters


class Architecture(Parameters):
    """`filters`, `strides`: one per block. `kernels`: those of each block's convolutions when
    residual, one per block when plain. `stem_kernel`: width of the first convolution, 0 for none.
    `pool`: width of the maximum pooling after each plain block, 1 for none."""

    blocks: Literal["residual", "plain"]
    stem_kernel: int = Field(ge=0)
    filters: list[AtLeastOne] = Field(min_length=1)
    kernels: list[AtLeastOne] = Field(min_length=1)
    strides: list[AtLeastOne] = Field(min_length=1)
    pool: int = Field(ge=1)
    pooling: Literal["max", "average", "average_max"]
    dropout: float = Field(ge=0, lt=1)

    @model_validator(mode="after")
    def _lists_fit(self) -> Architecture:
        if len(self.strides) != len(self.filters):
            raise ValueError("strides must have one entry per entry of filters")
        if self.blocks == "plain" and len(self.kernels) != len(self.filters):
            raise ValueError(
                "kernels must have one entry per entry of filters when blocks is plain"
            )
        if self.blocks == "residual" and len(self.kernels) != 2:
            raise ValueError("kernels must have two entries when blocks is residual")
        if self.blocks == "residual" and any(kernel % 2 == 0 for kernel in self.kernels):
            raise ValueError("kernels must be odd when blocks is residual, to keep the length")
        return self


class Network(nn.Module):
    def __init__(self, architecture: Architecture, channels: int, outputs: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = channels
        if architecture.stem_kernel:
            width = architecture.filters[0]
            layers.append(_convolution(channels, width, architecture.stem_kernel))
        for number, filters in enumerate(architecture.filters):
            stride = architecture.strides[number]
            if architecture.blocks == "residual":
                layers.append(_Residual(width, filters, architecture.kernels, stride))
            else:
                kernel = architecture.kernels[number]
                layers += [
                    nn.Conv1d(width, filters, kernel, stride=stride, padding=kernel // 2),
                    nn.ReLU(),
                    nn.MaxPool1d(architecture.pool) if architecture.pool > 1 else nn.Identity(),
                ]
            width = filters
        self.features = nn.Sequential(*layers)
        self.pooling = architecture.pooling
        width *= 2 if architecture.pooling == "average_max" else 1
        self.head = nn.Sequential(nn.Dropout(architecture.dropout), nn.Linear(width, outputs))

    def forward(self, recordings: torch.Tensor) -> torch.Tensor:
        features = self.features(recordings.transpose(1, 2))
        # amax over all steps is adaptive maximum pooling to one step, with a deterministic gradient.
        pooled = {
            "max": lambda: features.amax(dim=2),
            "average": lambda: features.mean(dim=2),
            "average_max": lambda: torch.cat([features.mean(dim=2), features.amax(dim=2)], dim=1),
        }[self.pooling]()
        return self.head(pooled)


class _Residual(nn.Module):
    def __init__(self, width: int, filters: int, kernels: list[int], stride: int) -> None:
        super().__init__()
        self.first = _convolution(width, filters, kernels[0], stride)
        self.second = _convolution(filters, filters, kernels[1], relu=False)
        same = width == filters and stride == 1
        self.shortcut = (
            nn.Identity() if same else _convolution(width, filters, 1, stride, relu=False)
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.second(self.first(features)) + self.shortcut(features))


def _convolution(
    width: int, filters: int, kernel: int, stride: int = 1, *, relu: bool = True
) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv1d(width, filters, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm1d(filters),
    ]
    return nn.Sequential(*layers, *([nn.ReLU()] if relu else []))
