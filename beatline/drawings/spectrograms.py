"""Spectrograms as colours: time to the right, frequency in mel bands upwards."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from beatline.drawings.figures import DPI, INK, PALE, WIDTH, panel
from beatline.drawings.shown import Dataset, Shown, darkest, shades

# Perceptually uniform: equal steps in dB are equal steps in lightness. So many steps look continuous,
# and leave the palette of a PNG room for shades of errors and of text.
LEVELS = colormaps["magma"].resampled(48)
CELLS = (180, 64)  # frames and bands of a spectrogram that are told apart; neighbours are averaged
TICK_HZ = (16000, 8000, 4000, 2000, 1000, 500, 250, 125, 63, 31)


def sheet(examples: Sequence[Shown], dataset: Dataset) -> Figure:
    """Spectrograms `[T, bands]` in dB, two beside each other, with one scale of colours for all."""
    each, height, cell = 4.05, 1.35, 1.95
    rows = -(-len(examples) // 2)
    figure = Figure(figsize=(WIDTH, rows * cell + 0.05), dpi=DPI)
    limits = _limits([example.recording for example in examples])
    image = None
    for number, example in enumerate(examples):
        left, top = 0.52 + (number % 2) * each, figure.get_figheight() - (number // 2) * cell
        axes = panel(figure, left, top - 0.3 - height, each - 0.6, height)
        image = _spectrogram(axes, example.recording, dataset, limits)
        axes.set_title(example.title, size=8.5, loc="left", weight="bold")
    _colour_bar(figure, image, dataset["unit"], figure.get_figheight() - 0.3 - height, height)
    return figure


def reconstructions(rows: Sequence[Shown], dataset: Dataset, colour: str) -> Figure:
    """A row per recording: its spectrogram, the reconstruction and its squared error, each with one
    scale of colours for all rows."""
    width, height, above, below = 2.3, 1.35, 0.5, 0.42
    cell = above + height + below
    figure = Figure(figsize=(WIDTH, len(rows) * cell), dpi=DPI)
    limits = _limits([shown.recording for shown in rows])
    largest = darkest([shown.error for shown in rows if shown.error is not None])
    level = fault = None
    for number, shown in enumerate(rows):
        bottom = (len(rows) - number - 1) * cell + below
        at = 0.52 / WIDTH, (bottom + height + above - 0.1) / figure.get_figheight()
        figure.text(*at, shown.title, size=8.5, va="top", weight="bold")
        places = [(0.52 + column * (width + 0.12), bottom, width, height) for column in range(3)]
        axes = [panel(figure, *place) for place in places]
        for pane, title in zip(axes, ("recording", "reconstruction", "squared error"), strict=True):
            pane.set_title(title, size=8, loc="left", pad=2.5)
        level = _spectrogram(axes[0], shown.recording, dataset, limits)
        if shown.reconstruction is not None and shown.error is not None:
            _spectrogram(axes[1], shown.reconstruction, dataset, limits)
            fault = _spectrogram(axes[2], shown.error, dataset, (0, largest), shades(colour))
        for pane in axes[1:]:
            pane.set_ylabel("")
            pane.tick_params(labelleft=False)
    bottom = (len(rows) - 1) * cell + below
    _colour_bar(figure, level, dataset["unit"], bottom, height)
    _colour_bar(figure, fault, "squared error", below, height)
    return figure


def strip(axes: Axes, shown: Shown, dataset: Dataset, colour: str) -> None:
    del colour
    _spectrogram(axes, shown.recording, dataset, _limits([shown.recording]))
    axes.set_ylabel("")


def error_map(axes: Axes, error: np.ndarray, dataset: Dataset, colour: str, largest: float) -> None:
    _spectrogram(axes, error, dataset, (0, largest), shades(colour))
    axes.set_ylabel("")
    axes.tick_params(labelleft=False)


def _spectrogram(
    axes: Axes,
    values: np.ndarray,
    dataset: Dataset,
    limits: tuple[float, float],
    colours: Colormap = LEVELS,
) -> AxesImage:
    """`[T, bands]` as colours: time to the right, bands upwards."""
    length, bands = values.shape
    rate = dataset["sampling_rate"]
    image = axes.imshow(
        averaged(values, CELLS).T,
        cmap=colours,
        vmin=limits[0],
        vmax=limits[1],
        origin="lower",
        aspect="auto",
        extent=(0, length / (rate or 1), -0.5, bands - 0.5),
        interpolation="nearest",
    )
    axes.set_yticks(*_frequency_ticks(dataset["channels"]))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel("time (s)" if rate else "frame", size=7.5, labelpad=1)
    axes.set_ylabel("mel band (Hz)", size=7.5, labelpad=2)
    return image


def averaged(values: np.ndarray, cells: tuple[int, int]) -> np.ndarray:
    """The means of blocks of neighbours, as few as leave at most `cells`: what a picture can show, in
    a fraction of the bytes. NaN is left out of the means."""
    valid = np.isfinite(values)
    totals, counts = np.where(valid, values, 0.0), valid.astype(float)
    for axis, most in enumerate(cells):
        size = -(-values.shape[axis] // most)
        starts = np.arange(0, values.shape[axis], size)
        totals, counts = (np.add.reduceat(sums, starts, axis=axis) for sums in (totals, counts))
    return np.divide(totals, counts, out=np.full(totals.shape, np.nan), where=counts > 0)


def _frequency_ticks(channels: Sequence[str]) -> tuple[list[float], list[str]]:
    """Places and labels of round frequencies among bands called as `mel band 7 (220 Hz)`, from the
    highest downwards while there is room; of bands without frequencies their numbers."""
    matches = [re.search(r"\(([\d.]+) Hz\)", name) for name in channels]
    hertz = [float(match[1]) for match in matches if match]
    if len(hertz) < len(channels) or (np.diff(hertz) < 0).any():
        places = range(0, len(channels), -(-len(channels) // 4))
        return [float(place) for place in places], [str(place + 1) for place in places]
    ticks: dict[float, str] = {}
    for frequency in TICK_HZ:
        place = float(np.interp(frequency, hertz, np.arange(len(hertz))))
        inside = hertz[0] <= frequency <= hertz[-1]
        if inside and all(abs(place - other) >= len(hertz) / 9 for other in ticks):
            ticks[place] = str(frequency)
    return list(ticks), list(ticks.values())


def _limits(recordings: Sequence[np.ndarray]) -> tuple[float, float]:
    """The levels that get the darkest and the lightest colour: nearly all lie between them."""
    low, high = np.nanquantile(np.concatenate([one.ravel() for one in recordings]), [0.01, 0.999])
    return float(low), float(max(high, low + 1e-6))


def _colour_bar(
    figure: Figure, image: AxesImage | None, unit: str, bottom: float, height: float
) -> None:
    if image is None:
        return
    axes = panel(figure, WIDTH - 0.72, bottom, 0.1, height)
    bar = figure.colorbar(image, cax=axes)
    bar.outline.set_visible(False)  # pyright: ignore
    bar.ax.yaxis.set_major_locator(MaxNLocator(4))
    axes.tick_params(labelsize=7, color=PALE, length=2.5, pad=1.5, labelcolor=INK)
    axes.set_ylabel(unit, size=7.5, labelpad=2)
