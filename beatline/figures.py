"""Pictures for the report, as PNG files whose bytes depend on nothing but what they show.

Recordings are drawn as their readers know them: the data set's `drawing` names a kind in
:data:`DRAWINGS`, so a data set that needs another kind adds it there. Curves are drawn from the
tables of :mod:`beatline.curves`, each model in its own colour throughout (Okabe & Ito's palette,
which people with colour-blindness can tell apart; lines also differ in dashes).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from beatline.errors import UserError

MM_PER_INCH = 25.4
PIXELS_PER_MM = 4  # whole pixels, so that every line of the grid is equally sharp
DPI = 120
WIDTH = 9.0  # of a figure, in inches
COLUMNS = 6  # of panels beside each other, at most
COLOURS = 128  # of a PNG's palette: fewer bytes, and nothing to see of it
INK, PALE, RULE = "#1a1a1a", "#8a8a8a", "#d9d9d9"
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
DASHES = ("-", (0, (5, 1.5)), (0, (3, 1, 1, 1)), (0, (1.2, 1)))

# Electrocardiographs worldwide print 25 mm per second and 10 mm per mV on paper ruled at 1 and 5 mm
# (Kligfield et al. 2007, AHA/ACC/HRS recommendations for the standardization and interpretation of
# the electrocardiogram, Circulation 115:1306).
MM_PER_SECOND, MM_PER_MV = 25.0, 10.0
LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
LAYOUT = (("I", "aVR", "V1", "V4"), ("II", "aVL", "V2", "V5"), ("III", "aVF", "V3", "V6"))
RHYTHM_LEAD = "II"
SECONDS, COLUMN_SECONDS = 10.0, 2.5
PAPER_WIDTH, PAPER_HEIGHT, HEADER = 270.0, 130.0, 10.0  # in mm, as all that follow
SIGNAL_LEFT, ROW_HEIGHT, TOP_BASELINE = 15.0, 30.0, 110.0
PULSE_LEFT, PULSE_WIDTH = 5.0, 5.0  # a calibration pulse of 1 mV, 0.2 s wide
MONITOR_LEADS, STRIP_ROW = ("II", "V1", "V5"), 25.0  # of a small strip
MINOR, MAJOR = "#f9d9dd", "#eda7b1"

Dataset = Mapping[str, Any]
"""The content of a data set's dataset.json: `drawing`, `channels`, `sampling_rate`, `unit`."""


# ---------------------------------------------------------------- recordings


@dataclass(frozen=True)
class Drawing:
    """`sheet(recording, dataset, title)` draws one recording `[T, C]`, in its unit, as a figure;
    `strip(axes, recording, dataset, reconstruction, colour)` draws it small, a second recording over
    it. `how_to_read`: a sentence on the sheet, for the report."""

    sheet: Callable[[np.ndarray, Dataset, str], Figure]
    strip: Callable[[Axes, np.ndarray, Dataset, np.ndarray | None, str], None]
    how_to_read: str


def drawing_of(dataset: Dataset) -> Drawing:
    """How recordings of a data set are drawn. UserError if its `drawing` is none of DRAWINGS."""
    kind = dataset.get("drawing")
    if kind not in DRAWINGS:
        raise UserError(
            f"no figure is known for drawing {kind!r} in dataset.json (known: "
            f"{', '.join(DRAWINGS)}): run `dvc repro` to make it anew, or add it to "
            f"beatline/figures.py"
        )
    return DRAWINGS[kind]


def twelve_leads(
    recording: np.ndarray,
    sampling_rate: float,
    title: str,
    leads: Sequence[str] = LEADS,
) -> Figure:
    """A 12-lead ECG as cardiologists expect it: true-to-scale paper, 25 mm/s and 10 mm/mV.

    `recording` `[T, 12]` in mV, its columns in the order of `leads`; `sampling_rate` in Hz. Three
    rows of four leads show 2.5 s each, one after the other; below runs lead II for 10 s. What is
    shorter leaves the paper blank, what lies beyond 10 s is not drawn. Raises ValueError for another
    shape or other leads.
    """
    if recording.ndim != 2 or recording.shape[1] != len(LEADS):
        raise ValueError(f"a 12-lead ECG is [T, 12], not {list(recording.shape)}")
    column_of = _columns(leads, LEADS)
    figure = Figure(
        figsize=(PAPER_WIDTH / MM_PER_INCH, (PAPER_HEIGHT + HEADER) / MM_PER_INCH),
        dpi=PIXELS_PER_MM * MM_PER_INCH,
    )
    axes = figure.add_axes((0, 0, 1, PAPER_HEIGHT / (PAPER_HEIGHT + HEADER)))
    axes.set(xlim=(0, PAPER_WIDTH), ylim=(0, PAPER_HEIGHT))
    axes.set_axis_off()
    _paper(axes, PAPER_WIDTH, PAPER_HEIGHT, {1: MINOR, 5: MAJOR})
    for row, names in enumerate(LAYOUT):
        baseline = TOP_BASELINE - row * ROW_HEIGHT
        _pulse(axes, baseline)
        for column, name in enumerate(names):
            start = column * COLUMN_SECONDS
            part = _part(recording[:, column_of[name]], sampling_rate, start, COLUMN_SECONDS)
            _lead(axes, part, sampling_rate, start, baseline, name)
    baseline = TOP_BASELINE - len(LAYOUT) * ROW_HEIGHT
    _pulse(axes, baseline)
    rhythm = _part(recording[:, column_of[RHYTHM_LEAD]], sampling_rate, 0, SECONDS)
    _lead(axes, rhythm, sampling_rate, 0, baseline, RHYTHM_LEAD)
    _header(figure, title, f"25 mm/s   10 mm/mV   {sampling_rate:g} Hz")
    return figure


def trace(
    recording: np.ndarray,
    title: str,
    sampling_rate: float | None = None,
    unit: str = "",
) -> Figure:
    """A series of one channel, `recording` `[T, 1]`, against time in s, or in samples if
    `sampling_rate` is None. Raises ValueError for another shape."""
    figure = Figure(figsize=(WIDTH / 2, 2.0), dpi=DPI)
    axes = _panel(figure, 0.55, 0.45, WIDTH / 2 - 0.65, 1.25)
    _series(axes, recording, sampling_rate, INK, 1.1)
    axes.set_xlabel("time (s)" if sampling_rate else "sample", size=8)
    axes.set_ylabel(unit, size=8)
    axes.set_title(title, size=9, loc="left", weight="bold")
    return figure


def _columns(leads: Sequence[str], expected: Sequence[str]) -> dict[str, int]:
    """Where each expected lead is; `AVR` and `aVR` are the same lead."""
    places = {name.upper(): number for number, name in enumerate(leads)}
    if missing := [name for name in expected if name.upper() not in places]:
        raise ValueError(f"there is no lead {missing[0]} among {', '.join(leads)}")
    return {name: places[name.upper()] for name in expected}


def _paper(axes: Axes, width: float, height: float, rulings: Mapping[int, str]) -> None:
    """Ruled paper from (0, 0), in mm; `rulings`: colour by distance of the lines."""
    for step, colour in rulings.items():
        across = [[(x, 0), (x, height)] for x in np.arange(0, width + 0.1, step)]
        up = [[(0, y), (width, y)] for y in np.arange(0, height + 0.1, step)]
        # Without antialiasing all lines are equally dark, and the file is a third as large.
        axes.add_collection(
            LineCollection(
                [*across, *up], colors=colour, linewidths=0.5, antialiaseds=False, zorder=0
            ),
            autolim=False,
        )


def _header(figure: Figure, title: str, scale: str) -> None:
    height = 1 - HEADER / 2 / (PAPER_HEIGHT + HEADER)
    style: dict[str, Any] = {"va": "center_baseline", "color": INK}
    figure.text(0.008, height, title, size=10, weight="bold", **style)
    figure.text(0.992, height, scale, size=9, ha="right", **style)


def _part(lead: np.ndarray, sampling_rate: float, start: float, seconds: float) -> np.ndarray:
    """The samples from `start` for `seconds`, and the one after, so that neighbours join."""
    return lead[round(start * sampling_rate) : round((start + seconds) * sampling_rate) + 1]


def _lead(
    axes: Axes, part: np.ndarray, sampling_rate: float, start: float, baseline: float, name: str
) -> None:
    seconds = start + np.arange(len(part)) / sampling_rate
    left = SIGNAL_LEFT + start * MM_PER_SECOND
    axes.plot(
        SIGNAL_LEFT + seconds * MM_PER_SECOND,
        baseline + part * MM_PER_MV,
        color=INK,
        linewidth=0.9,
        solid_joinstyle="round",
        gid=f"lead {name}",
    )
    if start:
        axes.plot([left, left], [baseline - 4, baseline + 4], color=INK, linewidth=0.9)
    axes.text(left + 1.5, baseline + 11, name, size=9, weight="bold", color=INK)


def _pulse(axes: Axes, baseline: float) -> None:
    x = PULSE_LEFT + np.array([-1.5, 0, 0, PULSE_WIDTH, PULSE_WIDTH, PULSE_WIDTH + 1.5])
    y = baseline + MM_PER_MV * np.array([0, 0, 1, 1, 0, 0])
    axes.plot(x, y, color=INK, linewidth=0.9, gid="calibration")


def _ecg_strip(
    axes: Axes,
    recording: np.ndarray,
    dataset: Dataset,
    reconstruction: np.ndarray | None,
    colour: str,
) -> None:
    """Leads II, V1 and V5 below each other on paper of the same proportions, reduced."""
    width, height = SECONDS * MM_PER_SECOND, len(MONITOR_LEADS) * STRIP_ROW
    column_of = _columns(dataset["channels"], MONITOR_LEADS)
    _paper(axes, width, height, {5: MINOR})
    for row, name in enumerate(MONITOR_LEADS):
        baseline = height - (row + 0.58) * STRIP_ROW
        for signal, line in ((recording, INK), (reconstruction, colour)):
            if signal is not None:
                part = _part(signal[:, column_of[name]], dataset["sampling_rate"], 0, SECONDS)
                x = np.arange(len(part)) / dataset["sampling_rate"] * MM_PER_SECOND
                axes.plot(x, baseline + part * MM_PER_MV, color=line, linewidth=0.8)
        axes.text(2, baseline + 7, name, size=7, weight="bold", color=INK)
    axes.set(xlim=(0, width), ylim=(0, height), aspect="equal", anchor="NW")
    axes.set_axis_off()


def _trace_strip(
    axes: Axes,
    recording: np.ndarray,
    dataset: Dataset,
    reconstruction: np.ndarray | None,
    colour: str,
) -> None:
    _series(axes, recording, dataset["sampling_rate"], INK, 1.0)
    if reconstruction is not None:
        _series(axes, reconstruction, dataset["sampling_rate"], colour, 1.0)


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


DRAWINGS: dict[str, Drawing] = {
    "twelve_leads": Drawing(
        sheet=lambda recording, dataset, title: twelve_leads(
            recording, dataset["sampling_rate"], title, dataset["channels"]
        ),
        strip=_ecg_strip,
        how_to_read="Large squares are 0.2 s wide and 0.5 mV high; the box at the left of each row "
        "is 1 mV for 0.2 s. Columns show 2.5 s each, one after the other; the bottom row is lead II "
        "throughout.",
    ),
    "trace": Drawing(
        sheet=lambda recording, dataset, title: trace(
            recording, title, dataset["sampling_rate"], dataset["unit"]
        ),
        strip=_trace_strip,
        how_to_read="The series is drawn against time, from left to right.",
    ),
}


@dataclass(frozen=True)
class Mistake:
    """A recording `[T, C]`, in its unit, that was decided wrongly, and what is to be said of it.

    Of an autoencoder also `reconstruction` `[T, C]`, in the same unit, and `error` `[T]`: the squared
    error at each time, averaged over channels, in normalized units.
    """

    title: str
    recording: np.ndarray
    reconstruction: np.ndarray | None = None
    error: np.ndarray | None = None


def mistakes(items: Sequence[Mistake], dataset: Dataset, colour: str) -> Figure:
    """Recordings in two columns, each with its title; below each the reconstruction error, if any."""
    strip = drawing_of(dataset).strip
    with_error = any(item.error is not None for item in items)
    title, body, error, gap = 0.4, 1.2, 0.38, 0.2
    cell = title + body + (error + 0.08 if with_error else 0) + gap
    rows, width = -(-len(items) // 2), WIDTH / 2 - 0.5
    figure = Figure(figsize=(WIDTH, rows * cell + 0.1), dpi=DPI)
    top_error = max(
        (float(item.error.max()) for item in items if item.error is not None), default=0
    )
    for number, item in enumerate(items):
        left = 0.38 + (number % 2) * (WIDTH / 2)
        top = rows * cell + 0.1 - (number // 2) * cell
        axes = _panel(figure, left, top - title - body, width, body)
        strip(axes, item.recording, dataset, item.reconstruction, colour)
        figure.text(
            left / WIDTH, (top - 0.1) / figure.get_figheight(), item.title, size=7.5, va="top"
        )
        if item.error is not None:
            below = _panel(figure, left, top - title - body - error - 0.08, width, error)
            below.fill_between(np.arange(len(item.error)), item.error, color=colour, linewidth=0)
            below.set(xlim=(0, len(item.error) - 1), ylim=(0, top_error), xticks=[])
            below.set_yticks([0, top_error], ["0", f"{top_error:.2g}"])
            below.text(0.01, 0.9, "squared error", size=6.5, va="top", transform=below.transAxes)
            axes.tick_params(labelbottom=False)
    return figure


# ---------------------------------------------------------------- curves


def history(tables: Mapping[str, pd.DataFrame], model: str, best: int, colour: str) -> Figure:
    """Loss, AUC and learning rate of a model at every epoch; `best` is the epoch that was kept."""
    figure = Figure(figsize=(WIDTH, 2.1), dpi=DPI)
    for number, kind in enumerate(("loss", "auc", "learning_rate")):
        axes = _panel(figure, 0.55 + number * 2.95, 0.45, 2.35, 1.35)
        table = _where(tables[kind], "model", model) if kind in tables else _NO_EPOCHS
        if kind == "loss":
            for split, dashes in (("train", DASHES[1]), ("validation", "-")):
                _epochs(
                    axes, _where(table, "split", split), kind, colour, linestyle=dashes, label=split
                )
            axes.legend(fontsize=7, frameon=False, handlelength=3.6)
        else:
            _epochs(axes, table, kind, colour)
        axes.axvline(best, color=PALE, linewidth=0.8, linestyle=(0, (2, 2)), zorder=0)
        titles = {"auc": "AUC, validation", "learning_rate": "learning rate"}
        axes.set_title(titles.get(kind, kind), size=9, loc="left")
        axes.set_xlabel("epoch", size=8)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(4))
    return figure


_NO_EPOCHS = pd.DataFrame({"epoch": [], "auc": []})  # of a model whose AUC is never defined


def _epochs(axes: Axes, rows: pd.DataFrame, column: str, colour: str, **style: Any) -> None:
    axes.plot(
        rows["epoch"],
        rows[column],
        color=colour,
        linewidth=1.5,
        marker="o",
        markersize=2.5,
        **style,
    )


def panels(
    kinds: Sequence[str], tables: Mapping[str, pd.DataFrame], colours: Mapping[str, str]
) -> Figure:
    """Curves of the models named in `colours`, a panel per kind and class.

    `kinds`: of roc, precision_recall, calibration, confusion (of one model), scores (of one model).
    A kind fills rows of its own; if there is one class only, all kinds stand in one row.
    """
    cells = [_facets(tables, kind, list(colours)) for kind in kinds if kind in tables]
    one_row = all(len(facets) == 1 for facets in cells)
    rows = [[facet for facets in cells for facet in facets]] if one_row else []
    rows = rows or [row for facets in cells for row in _rows(facets)]
    across, gap = max(map(len, rows)), 0.75 if one_row else 0.45
    size = min(1.9, (WIDTH - 0.2) / across - gap)
    cell, legend = size + 0.72, 0.25 if len(colours) > 1 else 0.0
    width = min(WIDTH, 0.2 + across * (size + gap))
    figure = Figure(figsize=(max(width, WIDTH / 2), len(rows) * cell + legend), dpi=DPI)
    for down, row in enumerate(rows):
        for right, (kind, name, table) in enumerate(row):
            left, bottom = 0.5 + right * (size + gap), (len(rows) - down - 1) * cell + 0.42
            axes = _panel(figure, left, bottom, size, size)
            _PANELS[kind](axes, table, colours)
            axes.set_title(_TITLES[kind] if one_row else name, size=8.5, loc="left")
            if right and not one_row:
                axes.set_ylabel("")
    if legend:
        _legend(figure, colours)
    return figure


def confusion_matrix(table: pd.DataFrame) -> Figure:
    """Class against class, of one model whose classes exclude each other."""
    values = list(dict.fromkeys(table["actual"]))
    size = min(max(1.9, 0.42 * len(values)), WIDTH - 2)
    names = 0.068 * max(map(len, values))
    figure = Figure(figsize=(size + names + 0.5, size + names + 0.5), dpi=DPI)
    axes = _panel(figure, names + 0.4, names + 0.4, size, size)
    _confusion(axes, table, {})
    axes.tick_params(axis="x", rotation=90)
    return figure


def comparison(
    rows: Sequence[tuple[str, str, float, float, float]],
    groups: Sequence[str],
    colours: Mapping[str, str],
    measure: str,
) -> Figure:
    """Dots and whiskers: for each group (a class, or a metric) every model's value and interval.

    `rows`: group, model, value, low, high. `measure`: what the horizontal axis shows.
    """
    lines = [(group, model) for group in groups for model in colours if _has(rows, group, model)]
    figure = Figure(figsize=(WIDTH, 0.2 * len(lines) + 0.16 * len(groups) + 0.75), dpi=DPI)
    height = figure.get_figheight() - 0.75
    left = 0.3 + 0.068 * max(map(len, groups))
    axes = _panel(figure, left, 0.42, WIDTH - left - 0.2, height)
    place, ticks, y = {}, {}, 0.0
    for group in groups:
        inside = [model for of_group, model in lines if of_group == group]
        for model in inside:
            place[group, model] = y
            y += 1
        ticks[group] = y - (len(inside) + 1) / 2
        axes.axhline(y - 0.1, color=RULE, linewidth=0.7)
        y += 0.8
    for group, model, value, low, high in rows:
        at, colour = place[group, model], colours[model]
        axes.plot([low, high], [at, at], color=colour, linewidth=1.6, solid_capstyle="butt")
        axes.plot(value, at, "o", color=colour, markersize=4.5)
    axes.set_yticks(list(ticks.values()), list(ticks), size=8)
    axes.set_ylim(y - 0.9, -0.7)
    axes.grid(axis="x", color=RULE, linewidth=0.6)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(measure, size=8)
    _legend(figure, colours, markers=True)
    return figure


def colours_of(models: Sequence[str]) -> dict[str, str]:
    """A colour for each model, by its place among all models of params.yaml."""
    return {model: PALETTE[number % len(PALETTE)] for number, model in enumerate(models)}


def _has(rows: Sequence[tuple[str, str, float, float, float]], group: str, model: str) -> bool:
    return any(row[:2] == (group, model) for row in rows)


Facet = tuple[str, str, pd.DataFrame]


def _facets(tables: Mapping[str, pd.DataFrame], kind: str, models: list[str]) -> list[Facet]:
    table = tables[kind].query("model in @models")
    names = dict.fromkeys(table["class"])
    return [(kind, str(name), _where(table, "class", name)) for name in names]


def _rows(facets: list[Facet]) -> list[list[Facet]]:
    """Facets in rows of about equal length."""
    rows = -(-len(facets) // COLUMNS)
    across = -(-len(facets) // rows)
    return [facets[first : first + across] for first in range(0, len(facets), across)]


def _where(table: pd.DataFrame, column: str, value: str) -> pd.DataFrame:
    return table.loc[table[column] == value, :]


def _legend(figure: Figure, colours: Mapping[str, str], *, markers: bool = False) -> None:
    handles = [
        figure.axes[0].plot(
            [], [], color=colour, linewidth=1.8, label=model, **_style(number, markers)
        )[0]
        for number, (model, colour) in enumerate(colours.items())
    ]
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0.04, 1.0),
        ncols=len(handles),
        fontsize=8,
        frameon=False,
        handlelength=2.4,
        borderpad=0.1,
    )


def _style(number: int, markers: bool) -> dict[str, Any]:
    return {"marker": "o"} if markers else {"linestyle": DASHES[number % len(DASHES)]}


def _lines(
    axes: Axes, table: pd.DataFrame, colours: Mapping[str, str], x: str, y: str, **style: Any
) -> None:
    for number, (model, colour) in enumerate(colours.items()):
        rows = _where(table, "model", model)
        if len(rows):
            look = {"color": colour, "linewidth": 1.4, "linestyle": DASHES[number % len(DASHES)]}
            axes.plot(rows[x], rows[y], **(look | style))


def _unit_square(axes: Axes, x: str, y: str) -> None:
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_xlabel(x, size=7.5, labelpad=1)
    axes.set_ylabel(y, size=7.5, labelpad=1)


def _roc(axes: Axes, table: pd.DataFrame, colours: Mapping[str, str]) -> None:
    axes.plot([0, 1], [0, 1], color=PALE, linewidth=0.7, linestyle=(0, (2, 2)))
    _lines(axes, table, colours, "fpr", "tpr")
    _unit_square(axes, "false positive rate", "true positive rate")


def _precision_recall(axes: Axes, table: pd.DataFrame, colours: Mapping[str, str]) -> None:
    # The last point's precision is the share of positives: what guessing gives.
    chance = table["precision"].to_numpy()[-1]
    axes.plot([0, 1], [chance, chance], color=PALE, linewidth=0.7, linestyle=(0, (2, 2)))
    _lines(axes, table, colours, "recall", "precision")
    _unit_square(axes, "recall", "precision")


def _calibration(axes: Axes, table: pd.DataFrame, colours: Mapping[str, str]) -> None:
    axes.plot([0, 1], [0, 1], color=PALE, linewidth=0.7, linestyle=(0, (2, 2)))
    _lines(axes, table, colours, "predicted", "observed", linewidth=1.0)
    for model, colour in colours.items():
        rows = _where(table, "model", model)
        area = 4 + 50 * rows["records"] / max(rows["records"].sum(), 1)
        axes.scatter(rows["predicted"], rows["observed"], s=area, color=colour, linewidths=0)
    _unit_square(axes, "predicted probability", "observed frequency")


def _confusion(axes: Axes, table: pd.DataFrame, _: Mapping[str, str]) -> None:
    values = list(dict.fromkeys(table["actual"]))
    counts = table.pivot(index="actual", columns="predicted", values="records")
    counts = counts.loc[values, values].to_numpy()
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Greys", vmin=0, vmax=1.15, aspect="auto")
    size = 8.5 if len(values) <= 2 else 7.5
    for (i, j), count in np.ndenumerate(counts):
        shade = "white" if share[i, j] > 0.55 else INK
        axes.text(j, i, f"{count:,}", ha="center", va="center", size=size, color=shade)
    axes.set_xticks(range(len(values)), values, size=7.5)
    axes.set_yticks(range(len(values)), values, size=7.5)
    axes.tick_params(length=0)
    axes.set_xlabel("decided", size=7.5, labelpad=1)
    axes.set_ylabel("actual", size=7.5, labelpad=1)


def _scores(axes: Axes, table: pd.DataFrame, colours: Mapping[str, str]) -> None:
    (colour,) = colours.values()
    for actual, filled in (("no", False), ("yes", True)):
        rows = _where(table, "actual", actual)
        edges = [*rows["low"], rows["high"].max()]
        fill = {"color": colour, "alpha": 0.55} if filled else {"color": INK, "linewidth": 1.1}
        axes.stairs(rows["share"].to_numpy(), edges, fill=filled, label=actual, **fill)
    end, threshold = (float(table[name].to_numpy(float).max()) for name in ("high", "threshold"))
    if np.isfinite(threshold):
        axes.axvline(threshold, color=INK, linewidth=0.9, linestyle=(0, (2, 2)))
    axes.set_xlim(0, end)
    axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.set_xlabel("score", size=7.5, labelpad=1)
    axes.set_ylabel("share of records", size=7.5, labelpad=1)


_PANELS: dict[str, Callable[[Axes, pd.DataFrame, Mapping[str, str]], None]] = {
    "roc": _roc,
    "precision_recall": _precision_recall,
    "calibration": _calibration,
    "confusion": _confusion,
    "scores": _scores,
}
_TITLES = {
    "roc": "ROC",
    "precision_recall": "precision and recall",
    "calibration": "calibration",
    "confusion": "confusion",
    "scores": "scores",
}


# ---------------------------------------------------------------- files


def png(figure: Figure) -> bytes:
    """The figure as a PNG with a palette: the same bytes for the same figure, no date, no version."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image = image.quantize(COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    target = io.BytesIO()
    image.save(target, "PNG", compress_level=9, dpi=(figure.dpi, figure.dpi))
    return target.getvalue()


def _panel(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place given in inches: fixed margins need no layout engine, which is slow."""
    across, up = figure.get_size_inches()
    axes = figure.add_axes((left / across, bottom / up, width / across, height / up))
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(PALE)
    axes.tick_params(labelsize=7, color=PALE, length=2.5, pad=1.5, labelcolor=INK)
    return axes
