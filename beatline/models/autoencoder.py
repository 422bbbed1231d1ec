"""Convolutional autoencoders: learn normal recordings, and reconstruct the rest less well.

In one dimension the convolutions run over time. In two they run over time and channels, for
spectrograms, whose neighbouring channels are neighbouring bands: what the dense autoencoder of the
DCASE 2020 challenge is for machine sound (Koizumi et al. 2020), with convolutions around the code.

A window is scored by the error of its reconstruction, or by the distance of its bottleneck, together with
the statistics over time of its channels, to those of normal windows (:mod:`beatline.models._distances`).
"""

from __future__ import annotations

import itertools
import math
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import nn
from torch.nn import functional

from beatline.common.errors import UserError
from beatline.common.params import AtLeastOne, Parameters
from beatline.models import Shape
from beatline.models._distances import Distances, statistics

LEARNS = "normal"
MOST_VALUES = 2048  # of a bottleneck with statistics, whose covariance takes 32 MiB in float64


class Architecture(Parameters):
    """`dimensions`: 1 to convolve over time alone, 2 over time and channels. `filters`: of the
    convolutions down, each of stride 2. `code`: units of the dense layer between the way down and its
    mirror, the way up; 0 for none, and then the last of `filters` is the width of a code that keeps
    one step per 2 ** len(filters) samples. `score`: the error of the reconstruction, or the distance to
    the mean of the normal windows, `mahalanobis`, or to the `neighbours` `nearest` of them. Distances
    after different epochs do not compare, so `monitor: epoch` goes with them."""

    dimensions: Literal[1, 2]
    filters: list[AtLeastOne] = Field(min_length=1)
    kernel: int = Field(ge=2)
    code: int = Field(default=0, ge=0)
    # What is not asked for, a bundle does not speak of.
    score: Literal["reconstruction", "mahalanobis", "nearest"] = Field(
        default="reconstruction", exclude_if=lambda score: score == "reconstruction"
    )
    neighbours: int = Field(default=1, ge=1, exclude_if=lambda neighbours: neighbours == 1)

    @model_validator(mode="after")
    def _neighbours_count(self) -> Architecture:
        if self.neighbours > 1 and self.score != "nearest":
            raise ValueError(f"neighbours counts where score is nearest, and not {self.score}")
        return self


class Network(Distances):
    """Gives the reconstruction `[B, T, C]` of windows `[B, T, C]`, and in evaluation mode, if it is not
    scored by that, their anomaly scores `[B, 1]` too."""

    def __init__(self, architecture: Architecture, shape: Shape, outputs: int) -> None:
        del outputs  # the interface of all networks: a reconstruction has the channels of its input
        super().__init__()
        self.flat = architecture.dimensions == 2
        self.multiple = 2 ** len(architecture.filters)
        convolution, transposed, normalization = (
            (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d)
            if self.flat
            else (nn.Conv1d, nn.ConvTranspose1d, nn.BatchNorm1d)
        )
        widths = [1 if self.flat else shape[1], *architecture.filters]
        kernel, padding = architecture.kernel, (architecture.kernel - 1) // 2
        down: list[nn.Module] = []
        up: list[nn.Module] = []
        for number, (wide, narrow) in enumerate(itertools.pairwise(widths)):
            is_code = number == len(architecture.filters) - 1 and not architecture.code
            down.append(convolution(wide, narrow, kernel, stride=2, padding=padding))
            down += [] if is_code else [normalization(narrow), nn.ReLU()]
            mirror: list[nn.Module] = [
                transposed(
                    narrow, wide, kernel, stride=2, padding=padding, output_padding=kernel % 2
                )
            ]
            mirror += [] if number == 0 else [normalization(wide), nn.ReLU()]
            up = mirror + up
        if architecture.code:
            axes = shape if self.flat else shape[:1]
            innermost = [widths[-1], *(math.ceil(size / self.multiple) for size in axes)]
            units = math.prod(innermost)
            down += [nn.Flatten(), nn.Linear(units, architecture.code)]
            up = [nn.Linear(architecture.code, units), nn.Unflatten(1, innermost), *up]
        self.encoder = nn.Sequential(*down)
        self.decoder = nn.Sequential(*up)
        if self.flat:  # in this layout two-dimensional convolutions take a fifth less time on CPUs
            self.to(memory_format=torch.channels_last)  # pyright: ignore
        self.needs_memory_bank = architecture.score != "reconstruction"
        if self.needs_memory_bank:
            self.prepare(
                self._size(shape), architecture.neighbours if architecture.score == "nearest" else 0
            )

    def forward(self, recordings: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        _, length, channels = recordings.shape
        codes = self.encoder(self._filled(recordings))
        decoded = self.decoder(codes)
        if self.flat:
            reconstruction = decoded.squeeze(1)[:, :length, :channels]
        else:
            reconstruction = decoded.transpose(1, 2)[:, :length]
        if self.training or not self.needs_memory_bank:
            return reconstruction
        return reconstruction, self.distances(_with_statistics(codes, recordings))

    def embeddings(self, windows: torch.Tensor) -> torch.Tensor:
        """Return bottlenecks and channel statistics `[B, D]` of windows `[B, T, C]`."""
        return _with_statistics(self.encoder(self._filled(windows)), windows)

    def _filled(self, recordings: torch.Tensor) -> torch.Tensor:
        """Signals `[B, C, T]` or images `[B, 1, T, C]` whose edge is repeated up to a multiple of all
        strides."""
        _, length, channels = recordings.shape
        if self.flat:
            missing = (0, -channels % self.multiple, 0, -length % self.multiple)
            signals = recordings.unsqueeze(1)
        else:
            missing = (0, -length % self.multiple)
            signals = recordings.transpose(1, 2)
        return functional.pad(signals, missing, mode="replicate") if any(missing) else signals

    @torch.no_grad()
    def _size(self, shape: Shape) -> int:
        self.encoder.eval()  # so that batch normalization learns nothing from the probe
        size = self.embeddings(torch.zeros(1, *shape)).shape[1]
        self.encoder.train()
        if size > MOST_VALUES:
            raise UserError(
                f"score compares bottlenecks and statistics of at most {MOST_VALUES:,} values, not of "
                f"{size:,}: set code, or score: reconstruction"
            )
        return size


def _with_statistics(codes: torch.Tensor, windows: torch.Tensor) -> torch.Tensor:
    return torch.cat([codes.flatten(1).float(), statistics(windows).flatten(1)], dim=1)
