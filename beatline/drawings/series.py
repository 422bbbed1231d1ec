"""Series against time: of one channel, or of several below each other."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from beatline.drawings.figures import DPI, INK, WIDTH, panel
from beatline.drawings.shown import Dataset, Shown

MOST = 12  # channels that are drawn, the first ones
ROW = 0.5  # inches more for each channel of a sheet


def sheet(
    recording: np.ndarray,
    title: str,
    sampling_rate: float | None = None,
    unit: str = "",
) -> Figure:
    """Series `recording` `[T, C]` against time in s, or in samples if `sampling_rate` is None; several
    channels below each other, to one scale. Raises ValueError for another shape."""
    more = ROW * (min(MOST, recording.shape[-1]) - 1)
    figure = Figure(figsize=(WIDTH / 2, 2.0 + more), dpi=DPI)
    axes = panel(figure, 0.55, 0.45, WIDTH / 2 - 0.65, 1.25 + more)
    _series(axes, recording, sampling_rate, INK, 1.1)
    axes.set_xlabel("time (s)" if sampling_rate else "sample", size=8)
    axes.set_ylabel(unit, size=8)
    axes.set_title(title, size=9, loc="left", weight="bold")
    return figure


def strip(axes: Axes, shown: Shown, dataset: Dataset, colour: str) -> None:
    step = _series(axes, shown.recording, dataset["sampling_rate"], INK, 1.0)
    if shown.reconstruction is not None:
        _series(axes, shown.reconstruction, dataset["sampling_rate"], colour, 1.0, step)


def _series(
    axes: Axes,
    recording: np.ndarray,
    sampling_rate: float | None,
    colour: str,
    width: float,
    step: float | None = None,
) -> float:
    """Draw the channels, each `step` below the one before; return `step`, by default the
    largest range."""
    if recording.ndim != 2:
        raise ValueError(f"a trace is [T, C], not {list(recording.shape)}")
    shown = recording[:, :MOST]
    step = float(np.ptp(shown, axis=0).max()) if step is None else step
    time = np.arange(len(shown)) / (sampling_rate or 1)
    axes.plot(time, shown - step * np.arange(shown.shape[1]), color=colour, linewidth=width)
    axes.set_xlim(0, time[-1])
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    return step
