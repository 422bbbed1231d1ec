"""Drawings of recordings, in the form that their readers know.

The data set's `drawing` names a kind in :data:`DRAWINGS`, so a data set that needs another kind adds
its module here. A :class:`Drawing` makes sheets of examples, which have room, and small strips, of which
many stand beside each other, such as the mistakes of a model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from beatline.common.errors import UserError
from beatline.drawings import features, images, series, spectrograms, twelve_leads
from beatline.drawings.figures import COLOURS, DPI, WIDTH, panel
from beatline.drawings.shown import Dataset, Shown, darkest

TOGETHER = 64  # examples on one sheet, of kinds that are drawn small
ERROR_HEIGHT = 0.46  # of the line of errors below a strip, in inches


@dataclass(frozen=True)
class Drawing:
    """A way to draw recordings of a kind.

    `sheet(examples, dataset)`: a figure of at most `per_sheet` examples. `strip(axes, shown, dataset,
    colour)`: a recording, small, with its reconstruction if that goes into the same axes.
    `error_map(axes, error, dataset, colour, largest)`: the error at each step and channel, beside the
    strip; None if its mean over channels is to stand below, as a line. `across`: strips beside each
    other, without and with errors. `height` of a strip and `margin` at its left, in inches. `axes`:
    what steps and channels of a recording are called. `how_to_read`: a sentence on the sheet.
    `colours`: of the palette that it needs. `reconstructions(rows, dataset, colour)`: a figure of
    recordings, what an autoencoder makes of them, and its error, if this kind has one.
    """

    sheet: Callable[[Sequence[Shown], Dataset], Figure]
    strip: Callable[[Axes, Shown, Dataset, str], None]
    axes: tuple[str, str]
    how_to_read: str
    per_sheet: int = 1
    error_map: Callable[[Axes, np.ndarray, Dataset, str, float], None] | None = None
    across: tuple[int, int] = (2, 2)
    height: float = 1.2
    margin: float = 0.38
    colours: int = COLOURS
    reconstructions: Callable[[Sequence[Shown], Dataset, str], Figure] | None = None


def drawing_of(dataset: Dataset) -> Drawing:
    """Return the Drawing of a data set. Raises UserError if its `drawing` is none of DRAWINGS."""
    kind = dataset.get("drawing")
    if kind not in DRAWINGS:
        raise UserError(
            f"no figure is known for drawing {kind!r} in dataset.json (known: "
            f"{', '.join(DRAWINGS)}): run `dvc repro` to make it anew, or add it to "
            f"beatline/drawings/__init__.py"
        )
    return DRAWINGS[kind]


def strips(items: Sequence[Shown], dataset: Dataset, colour: str) -> Figure:
    """Recordings small, beside and below each other, each with its title and its error, if any."""
    drawing = drawing_of(dataset)
    errors = [item.error for item in items if item.error is not None and len(item.error) > 1]
    across = min(drawing.across[bool(errors)], max(len(items), 2))
    below = ERROR_HEIGHT if errors and not drawing.error_map else 0.0
    title = 0.1 + 0.14 * max(item.title.count("\n") + 1 for item in items)
    cell = title + drawing.height + below + 0.22
    each, figure_height = WIDTH / across, -(-len(items) // across) * cell + 0.1
    figure = Figure(figsize=(WIDTH, figure_height), dpi=DPI)
    for number, item in enumerate(items):
        left = drawing.margin + (number % across) * each
        top = figure_height - (number // across) * cell
        place = (left, top - title - drawing.height, each - drawing.margin - 0.12, drawing.height)
        if not errors:
            drawing.strip(panel(figure, *place), item, dataset, colour)
        elif drawing.error_map:
            _with_error_map(figure, place, item, dataset, colour, errors)
        else:
            _with_error_line(figure, place, item, dataset, colour, errors)
        at = (left - drawing.margin + min(drawing.margin, 0.38)) / WIDTH
        figure.text(at, (top - 0.1) / figure_height, item.title, size=7.5, va="top")
    return figure


Place = tuple[float, float, float, float]  # left, bottom, width, height in inches


def _with_error_line(
    figure: Figure,
    place: Place,
    item: Shown,
    dataset: Dataset,
    colour: str,
    errors: Sequence[np.ndarray],
) -> None:
    """The strip, and below it the error, as its mean over channels; as high in all strips."""
    left, bottom, width, _ = place
    axes = panel(figure, *place)
    drawing_of(dataset).strip(axes, item, dataset, colour)
    axes.tick_params(labelbottom=False)
    if item.error is None:
        return
    highest = max(float(np.nanmax(error.mean(axis=1))) for error in errors)
    below = panel(figure, left, bottom - ERROR_HEIGHT, width, ERROR_HEIGHT - 0.08)
    line = item.error.mean(axis=1)
    below.fill_between(np.arange(len(line)), line, color=colour, linewidth=0)
    below.set(xlim=(0, len(line) - 1), ylim=(0, highest), xticks=[])
    below.set_yticks([0, highest], ["0", f"{highest:.2g}"])
    below.text(0.01, 0.9, "squared error", size=6.5, va="top", transform=below.transAxes)


def _with_error_map(
    figure: Figure,
    place: Place,
    item: Shown,
    dataset: Dataset,
    colour: str,
    errors: Sequence[np.ndarray],
) -> None:
    """The strip, and beside it the error at each step and channel; the same shades in all strips."""
    drawing = drawing_of(dataset)
    left, bottom, width, height = place
    half = (width - 0.12) / 2
    drawing.strip(panel(figure, left, bottom, half, height), item, dataset, colour)
    if item.error is not None and drawing.error_map:
        axes = panel(figure, left + half + 0.12, bottom, half, height)
        drawing.error_map(axes, item.error, dataset, colour, darkest(errors))


def _alone(draw: Callable[[Shown, Dataset], Figure]) -> Callable[..., Figure]:
    """A sheet of one example."""

    def sheet(examples: Sequence[Shown], dataset: Dataset) -> Figure:
        (example,) = examples
        return draw(example, dataset)

    return sheet


DRAWINGS: dict[str, Drawing] = {
    "twelve_leads": Drawing(
        sheet=_alone(
            lambda shown, dataset: twelve_leads.sheet(
                shown.recording, dataset["sampling_rate"], shown.title, dataset["channels"]
            )
        ),
        strip=twelve_leads.strip,
        axes=("sample", "channel"),
        how_to_read="Large squares are 0.2 s wide and 0.5 mV high; the box at the left of each row "
        "is 1 mV for 0.2 s. Columns show 2.5 s each, one after the other; the bottom row is lead II "
        "throughout.",
    ),
    "trace": Drawing(
        sheet=_alone(
            lambda shown, dataset: series.sheet(
                shown.recording, shown.title, dataset["sampling_rate"], dataset["unit"]
            )
        ),
        strip=series.strip,
        axes=("sample", "channel"),
        how_to_read="The series is drawn against time, from left to right.",
    ),
    "image": Drawing(
        sheet=lambda examples, _: images.sheet(examples),
        strip=images.strip,
        axes=("row", "column"),
        how_to_read="Samples of 0 are black, of 1 white.",
        per_sheet=TOGETHER,
        error_map=images.error_map,
        across=(6, 3),
        margin=0.1,
        colours=64,
    ),
    "features": Drawing(
        sheet=features.sheet,
        strip=features.strip,
        axes=("row", "feature"),
        how_to_read="A bar is a feature's distance from its mean over the training records, in "
        "standard deviations; beside its name stands its value. Of many features, those farthest from "
        "the mean are drawn.",
        per_sheet=TOGETHER,
        margin=1.9,
    ),
    "spectrogram": Drawing(
        sheet=spectrograms.sheet,
        strip=spectrograms.strip,
        axes=("frame", "channel"),
        how_to_read="Time runs to the right, frequency upwards in mel bands; lighter is louder.",
        per_sheet=TOGETHER,
        error_map=spectrograms.error_map,
        across=(3, 2),
        height=1.0,
        colours=256,
        reconstructions=spectrograms.reconstructions,
    ),
}
