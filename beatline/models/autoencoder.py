"""A convolutional autoencoder: learns normal recordings, and reconstructs the rest less well."""

from __future__ import annotations

import itertools

import torch
from pydantic import Field
from torch import nn

from beatline.params import AtLeastOne, Parameters


class Architecture(Parameters):
    """`filters`: of the convolutions down, each of stride 2; the last of them is the width of the
    code, which keeps one step per 2 ** len(filters) samples. The way up is their mirror."""

    filters: list[AtLeastOne] = Field(min_length=1)
    kernel: int = Field(ge=2)


class Network(nn.Module):
    def __init__(self, architecture: Architecture, channels: int, outputs: int) -> None:
        del outputs  # the interface of all networks: a reconstruction has the channels of its input
        super().__init__()
        widths = [channels, *architecture.filters]
        padding = (architecture.kernel - 1) // 2
        down: list[nn.Module] = []
        up: list[nn.Module] = []
        for number, (wide, narrow) in enumerate(itertools.pairwise(widths)):
            innermost = number == len(architecture.filters) - 1
            down.append(nn.Conv1d(wide, narrow, architecture.kernel, stride=2, padding=padding))
            down += [] if innermost else [nn.BatchNorm1d(narrow), nn.ReLU()]
            mirror: list[nn.Module] = [
                nn.ConvTranspose1d(
                    narrow,
                    wide,
                    architecture.kernel,
                    stride=2,
                    padding=padding,
                    output_padding=architecture.kernel % 2,
                )
            ]
            mirror += [] if number == 0 else [nn.BatchNorm1d(wide), nn.ReLU()]
            up = mirror + up
        self.encoder = nn.Sequential(*down)
        self.decoder = nn.Sequential(*up)
        self.multiple = 2 ** len(architecture.filters)

    def forward(self, recordings: torch.Tensor) -> torch.Tensor:
        length = recordings.shape[1]
        missing = -length % self.multiple
        signals = recordings.transpose(1, 2)
        if missing:
            signals = nn.functional.pad(signals, (0, missing), mode="replicate")
        return self.decoder(self.encoder(signals)).transpose(1, 2)[:, :length]
