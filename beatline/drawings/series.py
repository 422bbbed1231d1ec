"""Series of one channel, against time."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from beatline.drawings.figures import DPI, INK, WIDTH, panel
from beatline.drawings.shown import Dataset, Shown


def sheet(
    recording: np.ndarray,
    title: str,
    sampling_rate: float | None = None,
    unit: str = "",
) -> Figure:
    """A series of one channel, `recording` `[T, 1]`, against time in s, or in samples if
    `sampling_rate` is None. Raises ValueError for another shape."""
    figure = Figure(figsize=(WIDTH / 2, 2.0), dpi=DPI)
    axes = panel(figure, 0.55, 0.45, WIDTH / 2 - 0.65, 1.25)
    _series(axes, recording, sampling_rate, INK, 1.1)
    axes.set_xlabel("time (s)" if sampling_rate else "sample", size=8)
    axes.set_ylabel(unit, size=8)
    axes.set_title(title, size=9, loc="left", weight="bold")
    return figure


def strip(axes: Axes, shown: Shown, dataset: Dataset, colour: str) -> None:
    _series(axes, shown.recording, dataset["sampling_rate"], INK, 1.0)
    if shown.reconstruction is not None:
        _series(axes, shown.reconstruction, dataset["sampling_rate"], colour, 1.0)


def _series(
    axes: Axes, recording: np.ndarray, sampling_rate: float | None, colour: str, width: float
) -> None:
    if recording.ndim != 2 or recording.shape[1] != 1:
        raise ValueError(f"a trace is [T, 1], not {list(recording.shape)}")
    time = np.arange(len(recording)) / (sampling_rate or 1)
    axes.plot(time, recording[:, 0], color=colour, linewidth=width)
    axes.set_xlim(0, time[-1])
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_locator(MaxNLocator(4))
