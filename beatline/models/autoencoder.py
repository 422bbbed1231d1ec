"""Convolutional autoencoders: learn normal recordings, and reconstruct the rest less well.

In one dimension the convolutions run over time. In two they run over time and channels, for
spectrograms, whose neighbouring channels are neighbouring bands: what the dense autoencoder of the
DCASE 2020 challenge is for machine sound (Koizumi et al. 2020), with convolutions around the code.
"""

from __future__ import annotations

import itertools
import math
from typing import Literal

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from beatline.common.params import AtLeastOne, Parameters
from beatline.models import Shape

LEARNS = "normal"


class Architecture(Parameters):
    """`dimensions`: 1 to convolve over time alone, 2 over time and channels. `filters`: of the
    convolutions down, each of stride 2. `code`: units of the dense layer between the way down and its
    mirror, the way up; 0 for none, and then the last of `filters` is the width of a code that keeps
    one step per 2 ** len(filters) samples."""

    dimensions: Literal[1, 2]
    filters: list[AtLeastOne] = Field(min_length=1)
    kernel: int = Field(ge=2)
    code: int = Field(default=0, ge=0)


class Network(nn.Module):
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

    def forward(self, recordings: torch.Tensor) -> torch.Tensor:
        """The reconstruction `[B, T, C]` of windows `[B, T, C]`."""
        return self._over_image(recordings) if self.flat else self._over_time(recordings)

    def _over_time(self, recordings: torch.Tensor) -> torch.Tensor:
        length = recordings.shape[1]
        missing = -length % self.multiple
        signals = recordings.transpose(1, 2)
        if missing:
            signals = functional.pad(signals, (0, missing), mode="replicate")
        return self.decoder(self.encoder(signals)).transpose(1, 2)[:, :length]

    def _over_image(self, recordings: torch.Tensor) -> torch.Tensor:
        _, length, channels = recordings.shape
        missing = (0, -channels % self.multiple, 0, -length % self.multiple)
        images = recordings.unsqueeze(1)
        if any(missing):
            images = functional.pad(images, missing, mode="replicate")
        return self.decoder(self.encoder(images)).squeeze(1)[:, :length, :channels]
