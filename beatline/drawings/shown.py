"""Recordings to draw, under titles, and errors in shades of a model's colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.colors import Colormap, LinearSegmentedColormap

SHADES = 32  # of errors: enough to look continuous, few enough for a PNG's palette

Dataset = Mapping[str, Any]
"""The content of a data set's dataset.json: `drawing`, `channels`, `sampling_rate`, `unit`,
`normalization`."""


@dataclass(frozen=True)
class Shown:
    """A recording `[T, C]`, in its unit, under a title of one or more lines.

    Of an autoencoder also `reconstruction` `[T, C]`, in the same unit, and `error` `[T, C]`, the
    squared error in normalized units (NaN where nothing was reconstructed).
    """

    title: str
    recording: np.ndarray
    reconstruction: np.ndarray | None = None
    error: np.ndarray | None = None


def darkest(errors: Sequence[np.ndarray]) -> float:
    """The error that is drawn darkest: the few beyond it would make all others look like nothing."""
    return max(float(np.nanquantile(error, 0.995)) for error in errors)


def shades(colour: str) -> Colormap:
    """Return the colormap from white, no error, to a model's colour and on to black."""
    return LinearSegmentedColormap.from_list("error", ["#ffffff", colour, "#000000"], N=SHADES)
