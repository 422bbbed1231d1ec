"""Training examples that are changed a little each time they are seen, so that there seem to be more.

Every random number comes from the given generator, on its device; what is left out draws nothing.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from pydantic import Field
from torch.nn import functional

from beatline.common.errors import UserError
from beatline.common.params import Parameters

OF_IMAGES = ("rotate", "zoom", "shear", "move")
IMAGES = ("image", "spectrogram")  # drawings of recordings whose channels lie side by side


class Augment(Parameters):
    """Changes to a training recording, drawn anew each time; 0 leaves one out.

    In time: `noise`, standard deviation of added white noise, and `scale`, spread of a random gain,
    both in standard deviations of the normalized signal; `shift`, largest shift in samples, either
    way, filled with zeros; `drop_channels`, how often a channel (a lead) is left out, which then is at
    its mean throughout. Of an image, whose edge is repeated where it ends: `rotate`, largest
    rotation in degrees, either way; `zoom`, largest change of height and of width, as a share of each;
    `shear`, largest slant, in columns per row; `move`, largest shift in pixels along rows and columns.
    """

    noise: float = Field(default=0.0, ge=0)
    scale: float = Field(default=0.0, ge=0)
    shift: int = Field(default=0, ge=0)
    # A bundle does not speak of what was not done.
    drop_channels: float = Field(default=0.0, ge=0, lt=1, exclude_if=lambda share: share == 0)
    rotate: float = Field(default=0.0, ge=0, le=180)
    zoom: float = Field(default=0.0, ge=0, lt=1)
    shear: float = Field(default=0.0, ge=0)
    move: float = Field(default=0.0, ge=0)


def check(augment: Augment, drawing: str, steps: int, key: str) -> None:
    """Raise UserError, naming `key`, where `augment` stands, for what is not meant for recordings drawn
    as `drawing`, or may leave nothing of the `steps` in time that a network looks at."""
    of_images = [name for name in OF_IMAGES if getattr(augment, name)]
    if of_images and drawing not in IMAGES:
        raise UserError(f"{key}.{of_images[0]} is for images, and these are none: leave it out")
    if augment.shift >= steps:
        raise UserError(
            f"{key}.shift is {augment.shift}, which may leave nothing of {steps} time steps: make it "
            f"smaller"
        )


def augmented(inputs: torch.Tensor, augment: Augment, generator: torch.Generator) -> torch.Tensor:
    """Recordings `[B, T, C]` (of an image: rows, columns), changed at random as `augment` says. They
    and the `generator` are on one device."""
    drawn_by: dict[str, Any] = {"generator": generator, "device": generator.device}
    if any(getattr(augment, name) for name in OF_IMAGES):
        inputs = _resampled(inputs, _affine_maps(len(inputs), augment, generator))
    if augment.shift:
        inputs = _shifted(inputs, augment.shift, generator)
    if augment.scale:
        inputs = inputs * (1 + augment.scale * torch.randn((len(inputs), 1, 1), **drawn_by))
    if augment.noise:
        inputs = inputs + augment.noise * torch.randn(inputs.shape, **drawn_by)
    if augment.drop_channels:
        drawn = torch.rand((len(inputs), 1, inputs.shape[2]), **drawn_by)
        inputs = inputs * (drawn >= augment.drop_channels).to(inputs)
    return inputs


def _affine_maps(count: int, augment: Augment, generator: torch.Generator) -> torch.Tensor:
    """`[B, 2, 3]`: from a place (column, row) in the new image to one in the old, in pixels from the
    centre."""
    drawn = torch.rand((6, count), generator=generator, device=generator.device)
    angle, slant, wide, high, right, down = 2 * drawn - 1
    angle = angle * math.radians(augment.rotate)
    slant = slant * augment.shear
    wide, high = 1 + wide * augment.zoom, 1 + high * augment.zoom
    cosine, sine = angle.cos(), angle.sin()
    rows = [
        torch.stack([cosine * wide, (cosine * slant - sine) * high, right * augment.move], dim=1),
        torch.stack([sine * wide, (sine * slant + cosine) * high, down * augment.move], dim=1),
    ]
    return torch.stack(rows, dim=1)


def _resampled(images: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """Images `[B, T, C]` interpolated linearly at the places of :func:`_affine_maps`."""
    height, width = images.shape[1:]
    # affine_grid reckons in halves of the image's width and height.
    halves = torch.tensor([width / 2, height / 2, 1], device=maps.device)
    theta = maps * halves / halves[:2, None]
    grid = functional.affine_grid(theta, [len(images), 1, height, width], align_corners=False)
    return functional.grid_sample(
        images.unsqueeze(1), grid, padding_mode="border", align_corners=False
    ).squeeze(1)


def _shifted(inputs: torch.Tensor, most: int, generator: torch.Generator) -> torch.Tensor:
    padded = functional.pad(inputs, (0, 0, most, most))
    first = torch.randint(
        2 * most + 1, (len(inputs),), generator=generator, device=generator.device
    )
    rows = torch.arange(len(inputs), device=inputs.device)
    return padded.unfold(1, inputs.shape[1], 1)[rows, first].transpose(1, 2)
