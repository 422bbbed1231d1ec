"""Pictures for the report, as PNG and SVG files whose bytes depend on nothing but what they show.

Here are those of curves and comparisons, drawn from the tables of
:mod:`beatline.evaluation.curves`, each model
in its own colour throughout (Okabe & Ito's palette and two of Tol's, which people with
colour-blindness can tell apart; lines also differ in dashes). How recordings are drawn stands in
:mod:`beatline.drawings`.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context, rcParams
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

rcParams["text.parse_math"] = False  # a dollar in the name of a file or a class begins no formula
DPI = 120
WIDTH = 9.0  # of a figure, in inches
COLUMNS = 6  # of panels beside each other, at most
MARKED = 50  # epochs, at most, that get a dot each
COLOURS = 128  # of a PNG's palette: fewer bytes, and nothing to see of it
INK, PALE, RULE = "#1a1a1a", "#8a8a8a", "#d9d9d9"
ON_SHADE = "#1b1b1b"  # ink on a shade of its own, which is light in dark mode too
# One for each model that there is: two of one colour in a figure cannot be told apart.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#882255", "#999933")
PALETTE += ("#332288", "#AA4499", "#117733", "#661100")
DASHES = ("-", (0, (5, 1.5)), (0, (3, 1, 1, 1)), (0, (1.2, 1)))


# ---------------------------------------------------------------- curves


def history(
    tables: Mapping[str, pd.DataFrame], model: str, best: int, colour: str, step: str = "epoch"
) -> Figure:
    """Loss, AUC and learning rate of a model at every step of training (`step` says what that is), as
    far as they are defined; `best` is the step that was kept."""
    curves = {
        kind: rows
        for kind in ("loss", "auc", "learning_rate")
        if kind in tables and len(rows := _where(tables[kind], "model", model))
    }
    figure = Figure(figsize=(0.15 + 2.95 * max(len(curves), 1), 2.1), dpi=DPI)
    for number, (kind, rows) in enumerate(curves.items()):
        axes = panel(figure, 0.55 + number * 2.95, 0.45, 2.35, 1.35)
        if kind == "loss":
            for split, dashes in (("train", DASHES[1]), ("validation", "-")):
                split_rows = _where(rows, "split", split)
                _epochs(axes, split_rows, kind, colour, linestyle=dashes, label=split)
            axes.legend(fontsize=7, frameon=False, handlelength=3.6)
        else:
            _epochs(axes, rows, kind, colour)
        axes.axvline(best, color=PALE, linewidth=0.8, linestyle=(0, (2, 2)), zorder=0)
        titles = {"auc": "AUC, validation", "learning_rate": "learning rate"}
        axes.set_title(titles.get(kind, kind), size=9, loc="left")
        axes.set_xlabel(step, size=8)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(4))
    return figure


def _epochs(axes: Axes, rows: pd.DataFrame, column: str, colour: str, **style: Any) -> None:
    axes.plot(
        rows["epoch"],
        rows[column],
        color=colour,
        linewidth=1.5,
        marker="o" if len(rows) <= MARKED else None,
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
            axes = panel(figure, left, bottom, size, size)
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
    axes = panel(figure, names + 0.4, names + 0.4, size, size)
    _confusion(axes, table, {})
    if max(map(len, values)) > 2:
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
    axes = panel(figure, left, 0.42, WIDTH - left - 0.2, height)
    place, ticks, y = {}, {}, 0.0
    for group in groups:
        inside = [model for line_group, model in lines if line_group == group]
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


def overview(
    groups: Mapping[str, Sequence[tuple[str, float, float, float]]], colours: Mapping[str, str]
) -> Figure:
    """Dots and whiskers, a line for each model below the heading of its group.

    `groups`: model, value, low, high, by heading.
    """
    lines = sum(len(rows) + 1 for rows in groups.values())
    names = [*groups, *(row[0] for rows in groups.values() for row in rows)]
    width, left, height = 6.5, 0.2 + 0.085 * max(map(len, names)), 0.2 * lines
    figure = Figure(figsize=(width, height + 0.4), dpi=DPI)
    axes = panel(figure, left, 0.3, width - left - 0.2, height)
    labels: list[str] = []
    for heading, rows in groups.items():
        axes.axhline(len(labels) - 0.5, color=RULE, linewidth=0.7)
        labels.append(heading)
        for model, value, low, high in rows:
            y, colour = len(labels), colours[model]
            labels.append(model)
            axes.plot([low, high], [y, y], color=colour, linewidth=1.6, solid_capstyle="butt")
            axes.plot(value, y, "o", color=colour, markersize=4.5)
    axes.set_yticks(range(lines), labels, size=9)
    for label in axes.get_yticklabels():
        label.set(fontweight="bold" if label.get_text() in groups else "normal")
    axes.set_ylim(lines - 0.5, -0.5)
    axes.grid(axis="x", color=RULE, linewidth=0.6)
    axes.tick_params(axis="x", labelsize=8.5)
    axes.tick_params(axis="y", length=0)
    return figure


def seeds(
    rows: Sequence[tuple[str, float, float, float, Sequence[float]]],
    colours: Mapping[str, str],
    measure: str,
) -> Figure:
    """For each model its value with its interval, and below it a ring per seed.

    `rows`: model, value, low, high, values of all seeds. `measure`: what the horizontal axis shows.
    """
    figure = Figure(figsize=(WIDTH, 0.42 * len(rows) + 0.6), dpi=DPI)
    left = 0.3 + 0.068 * max(len(model) for model, *_ in rows)
    axes = panel(figure, left, 0.42, WIDTH - left - 0.2, 0.42 * len(rows))
    for at, (model, value, low, high, values) in enumerate(rows):
        colour = colours[model]
        above, below = at - 0.17, at + 0.17
        axes.plot([low, high], [above, above], color=colour, linewidth=1.6, solid_capstyle="butt")
        axes.plot(value, above, "o", color=colour, markersize=4.5)
        axes.plot(values, [below] * len(values), "o", color=colour, markersize=5, fillstyle="none")
    axes.set_yticks(range(len(rows)), [model for model, *_ in rows], size=8)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="x", color=RULE, linewidth=0.6)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(measure, size=8)
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
        ink = "white" if share[i, j] > 0.55 else ON_SHADE
        axes.text(j, i, f"{count:,}", ha="center", va="center", size=size, color=ink)
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


def png(figure: Figure, colours: int = COLOURS) -> bytes:
    """The figure as a PNG with a palette of so many colours: the same bytes for the same figure, no
    date, no version."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image = image.quantize(colours, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    target = io.BytesIO()
    image.save(target, "PNG", compress_level=9, dpi=(figure.dpi, figure.dpi))
    return target.getvalue()


_SVG: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: smaller, searched and read aloud
    "svg.hashsalt": "beatline",  # identifiers depend on what is drawn alone
    "font.sans-serif": ["DejaVu Sans", "Verdana"],  # which are equally wide
}
# Inside the file, so that a picture in Markdown goes dark as the page does. Its paper goes with it: on
# Git hosts the reader's theme may be another than the system's.
_DARK = """<style>
@media (prefers-color-scheme: dark) {
path[style*="fill: #ffffff"] { fill: #14171a !important }
text:not([style*="fill:"]), text[style*="fill: #1a1a1a"] { fill: #dfe3e8 !important }
[style*="stroke: #1a1a1a"] { stroke: #dfe3e8 !important }
[style*="stroke: #d9d9d9"] { stroke: #383e45 !important }
[style*="fill: #0072b2"] { fill: #3d9ad1 !important }
[style*="stroke: #0072b2"] { stroke: #3d9ad1 !important }
[style*="fill: #882255"] { fill: #c9568f !important }
[style*="stroke: #882255"] { stroke: #c9568f !important }
}
</style>
"""


def svg(figure: Figure) -> bytes:
    """The figure as an SVG that follows light and dark mode: the same bytes for the same figure."""
    target = io.StringIO()
    with rc_context(_SVG):
        # Without what would be written of software and date.
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        FigureCanvasSVG(figure).print_svg(target, metadata=nothing)
    text = target.getvalue()
    head, start, rest = text[text.index("<svg") :].partition(">\n")
    return (head + start + _DARK + _TAG.sub(_to_hundredths, rest)).encode()


_TAG = re.compile(r"<(?:path|rect|text|use) [^>]*>")


def _to_hundredths(tag: re.Match[str]) -> str:
    """A tag whose coordinates keep two digits, in points; the text between tags is left alone."""
    return re.sub(r"(\d\.\d\d)\d+", r"\1", tag[0])


def panel(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place in `figure` given in inches: fixed margins need no layout engine, which is slow."""
    across, up = figure.get_size_inches()
    axes = figure.add_axes((left / across, bottom / up, width / across, height / up))
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(PALE)
    axes.tick_params(labelsize=7, color=PALE, length=2.5, pad=1.5, labelcolor=INK)
    return axes
