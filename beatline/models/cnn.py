"""Convolutional networks over time, or over images.

``blocks: residual`` is the residual network that scored best of the small ones on PTB-XL (Strodthoff
et al. 2021, `resnet1d_wang`, after Wang, Yan & Oates 2017): a stem, then blocks of two convolutions
with a shortcut, average and maximum over time, dropout, a linear layer. ``blocks: plain`` is the
textbook network: convolution, ReLU and maximum pooling in each block; ``blocks: normalized`` is the
same with batch normalization before the ReLU. In two dimensions a window `[T, C]` is an image of one
channel, and every kernel, stride and pool is a square.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import nn

from beatline.common.params import AtLeastOne, Parameters
from beatline.models import Shape

LEARNS = "labels"


class Architecture(Parameters):
    """`filters`, `strides`: one per block. `kernels`: those of each block's convolutions when
    residual, one per block otherwise. `stem_kernel`: width of the first convolution, 0 for none.
    `pool`: width of the maximum pooling after each block that is not residual, 1 for none.
    `pooling`: over all that is left of time or image; `none` keeps it, so that the network fits windows
    of one shape only. `dense`: units of a linear layer with ReLU before the output, 0 for none."""

    dimensions: Literal[1, 2]
    blocks: Literal["residual", "plain", "normalized"]
    stem_kernel: int = Field(default=0, ge=0)
    filters: list[AtLeastOne] = Field(min_length=1)
    kernels: list[AtLeastOne] = Field(min_length=1)
    strides: list[AtLeastOne] = Field(min_length=1)
    pool: int = Field(default=1, ge=1)
    pooling: Literal["max", "average", "average_max", "none"]
    dense: int = Field(default=0, ge=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _lists_fit(self) -> Architecture:
        if len(self.strides) != len(self.filters):
            raise ValueError("strides must have one entry per entry of filters")
        if self.blocks != "residual" and len(self.kernels) != len(self.filters):
            raise ValueError(
                f"kernels must have one entry per entry of filters when blocks is {self.blocks}"
            )
        if self.blocks == "residual" and len(self.kernels) != 2:
            raise ValueError("kernels must have two entries when blocks is residual")
        if self.blocks == "residual" and any(kernel % 2 == 0 for kernel in self.kernels):
            raise ValueError("kernels must be odd when blocks is residual, to keep the length")
        return self


class Network(nn.Module):
    def __init__(self, architecture: Architecture, shape: Shape, outputs: int) -> None:
        super().__init__()
        self.dimensions = architecture.dimensions
        self.pooling = architecture.pooling
        layers: list[nn.Module] = []
        width = shape[1] if self.dimensions == 1 else 1
        if architecture.stem_kernel:
            layers.append(
                _convolution(
                    self.dimensions, width, architecture.filters[0], architecture.stem_kernel
                )
            )
            width = architecture.filters[0]
        for number, filters in enumerate(architecture.filters):
            layers += _block(architecture, number, width)
            width = filters
        self.features = nn.Sequential(*layers)
        self.head = _head(architecture, self._pooled_width(shape), outputs)
        if self.dimensions == 2:  # measured: half the time of a training step on the CPU
            self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, recordings: torch.Tensor) -> torch.Tensor:
        return self.head(self._pooled(recordings))

    def _pooled(self, recordings: torch.Tensor) -> torch.Tensor:
        inputs = recordings.transpose(1, 2) if self.dimensions == 1 else recordings.unsqueeze(1)
        features = self.features(inputs)
        places = list(range(2, features.ndim))  # time, or rows and columns
        # amax over all places is adaptive maximum pooling to one, with a deterministic gradient.
        return {
            "max": lambda: features.amax(dim=places),
            "average": lambda: features.mean(dim=places),
            "average_max": lambda: torch.cat(
                [features.mean(dim=places), features.amax(dim=places)], dim=1
            ),
            "none": lambda: features.flatten(1),
        }[self.pooling]()

    @torch.no_grad()
    def _pooled_width(self, shape: Shape) -> int:
        self.features.eval()  # so that batch normalization learns nothing from the probe
        width = self._pooled(torch.zeros(1, *shape)).shape[1]
        self.features.train()
        return width


class _Residual(nn.Module):
    def __init__(
        self, dimensions: int, width: int, filters: int, kernels: list[int], stride: int
    ) -> None:
        super().__init__()
        self.first = _convolution(dimensions, width, filters, kernels[0], stride)
        self.second = _convolution(dimensions, filters, filters, kernels[1], relu=False)
        same = width == filters and stride == 1
        self.shortcut = (
            nn.Identity()
            if same
            else _convolution(dimensions, width, filters, 1, stride, relu=False)
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.second(self.first(features)) + self.shortcut(features))


_CONVOLUTION = {1: nn.Conv1d, 2: nn.Conv2d}
_BATCH_NORMALIZATION = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d}
_MAXIMUM_POOLING = {1: nn.MaxPool1d, 2: nn.MaxPool2d}


def _block(architecture: Architecture, number: int, width: int) -> list[nn.Module]:
    dimensions, pool = architecture.dimensions, architecture.pool
    filters, stride = architecture.filters[number], architecture.strides[number]
    if architecture.blocks == "residual":
        return [_Residual(dimensions, width, filters, architecture.kernels, stride)]
    kernel = architecture.kernels[number]
    pooled = _MAXIMUM_POOLING[dimensions](pool) if pool > 1 else nn.Identity()
    if architecture.blocks == "normalized":
        return [_convolution(dimensions, width, filters, kernel, stride), pooled]
    convolution = _CONVOLUTION[dimensions]
    return [
        convolution(width, filters, kernel, stride=stride, padding=kernel // 2),
        nn.ReLU(),
        pooled,
    ]


def _convolution(
    dimensions: int, width: int, filters: int, kernel: int, stride: int = 1, *, relu: bool = True
) -> nn.Sequential:
    layers: list[nn.Module] = [
        _CONVOLUTION[dimensions](
            width, filters, kernel, stride=stride, padding=kernel // 2, bias=False
        ),
        _BATCH_NORMALIZATION[dimensions](filters),
    ]
    return nn.Sequential(*layers, *([nn.ReLU()] if relu else []))


def _head(architecture: Architecture, width: int, outputs: int) -> nn.Sequential:
    dense, dropout = architecture.dense, nn.Dropout(architecture.dropout)
    if not dense:
        return nn.Sequential(dropout, nn.Linear(width, outputs))
    return nn.Sequential(nn.Linear(width, dense), nn.ReLU(), dropout, nn.Linear(dense, outputs))
