"""Rows of tables: features as bars."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from beatline.drawings.figures import DPI, INK, PALE, RULE, WIDTH, panel
from beatline.drawings.shown import Dataset, Shown

BARS, STRIP_BARS = 20, 8  # features that are drawn: those farthest from the training mean
ROUNDING = 1e-5  # of a standard deviation


def sheet(examples: Sequence[Shown], dataset: Dataset) -> Figure:
    """Rows of a table, `[1, F]`: each a panel with a bar per feature, two panels beside each other."""
    height = 0.145 * min(BARS, len(dataset["channels"])) + 0.05
    cell, margin = height + 0.72, 1.95
    rows, each = -(-len(examples) // 2), WIDTH / 2
    figure = Figure(figsize=(WIDTH, rows * cell), dpi=DPI)
    farthest = max(float(np.abs(_standardized(e.recording, dataset)).max()) for e in examples)
    for number, example in enumerate(examples):
        left, top = margin + (number % 2) * each, figure.get_figheight() - (number // 2) * cell
        axes = panel(figure, left, top - 0.3 - height, each - margin - 0.15, height)
        _bars(axes, example, dataset, BARS, INK)
        axes.set_xlim(-1.05 * farthest, 1.05 * farthest)
        axes.set_xlabel("standard deviations from the training mean", size=7.5, labelpad=1)
        at = (left - margin + 0.1) / WIDTH, (top - 0.08) / figure.get_figheight()
        figure.text(*at, example.title, size=8.5, va="top", weight="bold")
    return figure


def strip(axes: Axes, shown: Shown, dataset: Dataset, colour: str) -> None:
    _bars(axes, shown, dataset, STRIP_BARS, colour)
    farthest = 1.1 * max(abs(value) for value in axes.get_xlim())
    axes.set_xlim(-farthest, farthest)


def _bars(axes: Axes, shown: Shown, dataset: Dataset, most: int, colour: str) -> None:
    """A bar per feature, with its value; of many features those farthest from the training mean, the
    farthest at the top. A dot is the reconstruction."""
    standardized = _standardized(shown.recording, dataset)
    places = list(range(len(standardized)))
    if len(places) > most:
        places = np.argsort(-np.abs(standardized), kind="stable")[:most].tolist()
    heights = np.arange(len(places))
    axes.barh(heights, standardized[places], height=0.7, color=PALE)
    if shown.reconstruction is not None:
        copy = _standardized(shown.reconstruction, dataset)[places]
        axes.plot(copy, heights, "o", color=colour, markersize=3.5)
    names = [_cut(dataset["channels"][place]) for place in places]
    values = [_value(shown.recording[0, place], dataset, place) for place in places]
    labels = [f"{name}  {value}" for name, value in zip(names, values, strict=True)]
    axes.set_yticks(heights, labels, size=6.5)
    axes.set_ylim(len(places) - 0.4, -0.6)
    axes.axvline(0, color=INK, linewidth=0.7)
    axes.grid(axis="x", color=RULE, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def _value(value: float, dataset: Dataset, place: int) -> str:
    """Write a value with three digits, and 0 for a mere rounding error of normalized values."""
    spread = dataset["normalization"]["standard_deviation"][place]
    return "0" if abs(value) < ROUNDING * spread else f"{value:.3g}"


def _standardized(recording: np.ndarray, dataset: Dataset) -> np.ndarray:
    """`[F]`, in standard deviations from the training mean."""
    if recording.ndim != 2 or len(recording) != 1:
        raise ValueError(f"a row of features is [1, F], not {list(recording.shape)}")
    values = dataset["normalization"]
    return (recording[0] - np.array(values["mean"])) / np.array(values["standard_deviation"])


def _cut(name: str, most: int = 24) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"
