"""Images in grey levels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from beatline.drawings.figures import DPI, panel
from beatline.drawings.shown import Dataset, Shown, shades

IMAGE_SIDE = 1.3  # of an image on a sheet, in inches


def sheet(examples: Sequence[Shown], across: int = 6) -> Figure:
    """Images `[rows, columns]` of samples from 0, black, to 1, white, at most `across` in a row."""
    rows = -(-len(examples) // across)
    across = -(-len(examples) // rows)
    cell = IMAGE_SIDE + 0.28
    figure = Figure(figsize=(across * cell + 0.1, rows * cell), dpi=DPI)
    for number, example in enumerate(examples):
        left = 0.1 + (number % across) * cell
        bottom = figure.get_figheight() - (number // across + 1) * cell + 0.06
        axes = panel(figure, left, bottom, IMAGE_SIDE, IMAGE_SIDE)
        _image(axes, example.recording)
        axes.set_title(example.title, size=8, loc="left", pad=2.5)
    return figure


def _image(axes: Axes, recording: np.ndarray) -> None:
    axes.imshow(recording, cmap="gray", vmin=0, vmax=1, interpolation="nearest", aspect="equal")
    _no_ticks(axes)


def strip(axes: Axes, shown: Shown, dataset: Dataset, colour: str) -> None:
    del dataset, colour
    _image(axes, shown.recording)
    axes.set_anchor("NW")


def error_map(axes: Axes, error: np.ndarray, dataset: Dataset, colour: str, largest: float) -> None:
    del dataset
    axes.imshow(error, cmap=shades(colour), vmin=0, vmax=largest, interpolation="nearest")
    _no_ticks(axes)
    axes.set_anchor("NW")


def _no_ticks(axes: Axes) -> None:
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
