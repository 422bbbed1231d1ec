"""A detector that learns to tell normal sounds apart, and scores by the distance to its memory bank.

This is how the best systems of the DCASE challenges work (Giri et al. 2020, Self-supervised
classification for detecting anomalous sounds, DCASE workshop; Wilkinghoff 2021, Sub-cluster AdaCos): a
network learns from which section (machine) a normal window is and by which pretext transform it was
changed (shifted, tilted, ...), and a window far from all normal ones in that space of embeddings is an
anomaly. No anomaly and, in use, no section is needed. With one section it learns to tell the transforms
apart.

A window's embedding is compared together with the statistics over time of its channels,
which the first layers need not keep to solve their task. Distances are those of Mahalanobis, with
the covariance of the normal windows, shrunk as Ledoit & Wolf 2004 do.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import partial

import torch
from pydantic import Field, model_validator
from torch import nn
from torch.nn import functional

from beatline.common.params import AtLeastOne, Parameters
from beatline.models import Shape
from beatline.models._distances import Distances, statistics

LEARNS = "sections"

Transform = Callable[[torch.Tensor], torch.Tensor]  # of windows [B, T, C]


class PretextTransforms(Parameters):
    """The pretext transforms to tell apart from the original windows; 0 leaves one out. `shift`: up
    and down by so many channels. `tilt`: by so many standard deviations from the first to the last
    channel, rising and falling. `boost`: by so many standard deviations in one of `regions` of
    neighbouring channels, a transform for each. `stretch`: to so many times the duration. `smooth`: the
    mean of so many time steps (an odd number). `reverse`: backwards in time."""

    shift: int = Field(default=0, ge=0)
    tilt: float = Field(default=0.0, ge=0)
    boost: float = Field(default=0.0, ge=0)
    regions: int = Field(default=0, ge=0)
    stretch: float = Field(default=0.0, ge=0)
    smooth: int = Field(default=0, ge=0)
    reverse: bool = False

    @model_validator(mode="after")
    def _values_fit(self) -> PretextTransforms:
        if 0 < self.stretch <= 1:
            raise ValueError("stretch must be above 1, or 0 for none")
        if self.smooth and self.smooth % 2 == 0:
            raise ValueError("smooth must be odd, or 0 for none")
        if (self.boost > 0) != (self.regions > 0):
            raise ValueError("boost and regions must both be 0, for none, or both be above")
        return self


class Architecture(Parameters):
    """`filters`: of the blocks, each of two convolutions of width `kernel` that halve time and
    channels. `embedding`: its dimensions. `scale`: of the cosines that the softmax is taken of
    (Wang et al. 2018, CosFace). `neighbours`: how many of the nearest normal
    windows a window's distance is the mean over. `versions`: the pretext transforms."""

    filters: list[AtLeastOne] = Field(min_length=1)
    kernel: int = Field(ge=1)
    embedding: int = Field(ge=1)
    scale: float = Field(gt=0)
    neighbours: int = Field(ge=1)
    versions: PretextTransforms

    @model_validator(mode="after")
    def _kernel_fits(self) -> Architecture:
        if self.kernel % 2 == 0:
            raise ValueError("kernel must be odd, to keep the place of what it sees")
        return self


class Network(Distances):
    """In training mode logits `[B, V, S * V]` of V transforms of each window, for S sections:
    transform v of section s is class s * V + v. In evaluation mode the anomaly score `[B, 1]`: the mean
    squared distance to the nearest normal windows per dimension, near 1 for a normal window."""

    def __init__(self, architecture: Architecture, shape: Shape, outputs: int) -> None:
        super().__init__()
        self.transforms = pretext_transforms(architecture.versions)
        self.scale = architecture.scale
        blocks: list[nn.Module] = []
        channels = shape[1]
        for wide, narrow in itertools.pairwise([1, *architecture.filters]):
            blocks += _block(wide, narrow, architecture.kernel)
            channels = math.ceil(channels / 2)
        self.features = nn.Sequential(*blocks)
        self.projection = nn.Linear(2 * architecture.filters[-1] * channels, architecture.embedding)
        directions = torch.empty(outputs * len(self.transforms), architecture.embedding)
        self.directions = nn.Parameter(nn.init.xavier_uniform_(directions))
        self.features.to(memory_format=torch.channels_last)  # pyright: ignore
        self.prepare(architecture.embedding + 2 * shape[1], architecture.neighbours)

    def forward(self, recordings: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return self.distances(self.embeddings(recordings))
        transformed = torch.stack([transform(recordings) for transform in self.transforms], dim=1)
        embedded = self.embed(transformed.flatten(0, 1))
        cosines = functional.normalize(embedded) @ functional.normalize(self.directions).T
        return self.scale * cosines.unflatten(0, transformed.shape[:2])

    def embed(self, windows: torch.Tensor) -> torch.Tensor:
        """The learned embedding `[B, embedding]` of windows `[B, T, C]`."""
        features = self.features(windows.unsqueeze(1))
        return self.projection(statistics(features.transpose(1, 2)).flatten(1))

    def embeddings(self, windows: torch.Tensor) -> torch.Tensor:
        """Return embedding and channel statistics `[B, embedding + 2 * C]` of windows `[B, T, C]`."""
        return torch.cat([self.embed(windows), statistics(windows).flatten(1)], dim=1)


def pretext_transforms(parameters: PretextTransforms) -> list[Transform]:
    """Return the transforms of windows `[B, T, C]`, the first of which leaves them as they are."""
    transforms: list[Transform] = [lambda windows: windows]
    if parameters.shift:
        transforms += [partial(_shifted, by=by) for by in (parameters.shift, -parameters.shift)]
    if parameters.tilt:
        transforms += [partial(_tilted, rise=rise) for rise in (parameters.tilt, -parameters.tilt)]
    if parameters.boost:
        centres = [(region + 0.5) / parameters.regions for region in range(parameters.regions)]
        width = 0.25 / parameters.regions
        transforms += [
            partial(_boosted, by=parameters.boost, centre=centre, width=width) for centre in centres
        ]
    if parameters.stretch:
        transforms += [partial(_stretched, factor=parameters.stretch)]
    if parameters.smooth:
        transforms += [partial(_smoothed, steps=parameters.smooth)]
    if parameters.reverse:
        transforms += [lambda windows: windows.flip(1)]
    return transforms


def _shifted(windows: torch.Tensor, by: int) -> torch.Tensor:
    """Moved towards higher channels; the channel at the edge fills up."""
    channels = torch.arange(windows.shape[2], device=windows.device) - by
    return windows[:, :, channels.clamp(0, windows.shape[2] - 1)]


def _tilted(windows: torch.Tensor, rise: float) -> torch.Tensor:
    size = windows.shape[2]
    return windows + torch.linspace(-rise / 2, rise / 2, size, device=windows.device)


def _boosted(windows: torch.Tensor, by: float, centre: float, width: float) -> torch.Tensor:
    """Raised around one channel: `centre` and standard deviation `width` are shares of all channels."""
    size = windows.shape[2]
    channels = torch.arange(size, device=windows.device)
    return windows + by * torch.exp(-0.5 * ((channels - centre * size) / (width * size)) ** 2)


def _stretched(windows: torch.Tensor, factor: float) -> torch.Tensor:
    """The first part of the windows, slowed down to fill their whole length."""
    length = windows.shape[1]
    part = windows[:, : math.ceil(length / factor)].transpose(1, 2)
    return functional.interpolate(part, length, mode="linear").transpose(1, 2)


def _smoothed(windows: torch.Tensor, steps: int) -> torch.Tensor:
    means = functional.avg_pool1d(
        windows.transpose(1, 2), steps, 1, steps // 2, count_include_pad=False
    )
    return means.transpose(1, 2)


def _block(wide: int, narrow: int, kernel: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for width, stride in ((wide, 2), (narrow, 1)):
        layers += [
            nn.Conv2d(width, narrow, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(narrow),
            nn.ReLU(),
        ]
    return layers
