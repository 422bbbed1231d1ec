"""Figures: they show their tables, a model keeps its colour, a file depends on its content only."""

from __future__ import annotations

import pkgutil
import re
import struct
from typing import cast
from xml.etree import ElementTree

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from beatline import models
from beatline.drawings import figures

SVG = "{http://www.w3.org/2000/svg}"


def _xy(line: Line2D) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)


def test_a_png_holds_no_date_no_software_and_is_the_same_twice() -> None:
    """A figure in Git must change only when what it shows does."""
    rows = [("A", "m", 0.8, 0.7, 0.95)]
    drawn = [figures.comparison(rows, ["A"], {"m": "#0072B2"}, "AUC") for _ in range(2)]
    once, again = map(figures.png, drawn)
    assert once == again
    assert _chunks(once) <= {"IHDR", "PLTE", "pHYs", "IDAT", "IEND"}
    assert len(once) < 100_000


def test_an_svg_keeps_its_text_and_is_the_same_twice() -> None:
    """Names and numbers of users stand as they are, also those that look like coordinates; no date, no
    version, nothing to be fetched; and dark mode is in the file, for Markdown has no style."""
    name = "class 0.123456 <b>"
    rows = [(name, "m", 0.8, 0.7, 0.95)]
    drawn = [figures.comparison(rows, [name], {"m": "#0072B2"}, "AUC") for _ in range(2)]
    once, again = map(figures.svg, drawn)
    assert once == again
    texts = [node.text for node in ElementTree.fromstring(once).iter(f"{SVG}text")]
    assert name in texts
    assert "0.80" in texts
    assert b"prefers-color-scheme: dark" in once
    assert not re.search(rb"matplotlib v|20\d\d-|https?://(?!www\.w3\.org/)", once)


def test_what_is_written_on_a_shade_stays_dark_in_dark_mode() -> None:
    """The shade of a cell stays light there, and light ink on it would not be seen."""
    table = pd.DataFrame(
        [("no", "no", 9), ("no", "yes", 1), ("yes", "no", 4), ("yes", "yes", 6)],
        columns=["actual", "predicted", "records"],
    )
    tree = ElementTree.fromstring(figures.svg(figures.confusion_matrix(table)))
    counts = [node for node in tree.iter(f"{SVG}text") if node.text in ("1", "4")]
    assert len(counts) == 2
    assert not any(figures.INK in node.attrib["style"] for node in counts)


def _chunks(png: bytes) -> set[str]:
    place, names = 8, set()
    while place < len(png):
        length, name = struct.unpack(">I4s", png[place : place + 8])
        names.add(name.decode())
        place += length + 12
    return names


def test_a_model_has_one_colour_in_all_figures() -> None:
    colours = figures.colours_of(["cnn", "lstm", "autoencoder"])
    assert len(set(colours.values())) == 3
    curve = pd.DataFrame({"model": "lstm", "class": "A", "fpr": [0.0, 0, 1], "tpr": [0.0, 1, 1]})
    axes = figures.panels(["roc"], {"roc": curve}, {"lstm": colours["lstm"]}).axes[0]
    drawn = next(line for line in axes.lines if list(_xy(line)[0]) == [0, 0, 1])
    assert drawn.get_color() == colours["lstm"]
    dots = figures.comparison([("A", "lstm", 0.5, 0.4, 0.7)], ["A"], colours, "AUC").axes[0]
    assert dots.lines[1].get_color() == colours["lstm"]


def test_whiskers_span_the_interval_and_the_dot_is_the_value() -> None:
    rows = [("A", "m", 0.8, 0.7, 0.95), ("B", "m", 0.6, 0.5, 0.65), ("B", "n", 0.9, 0.88, 0.91)]
    figure = figures.comparison(rows, ["A", "B"], {"m": "#0072B2", "n": "#D55E00"}, "AUC")
    spans = [tuple(_xy(line)[0]) for line in figure.axes[0].lines]
    for _, _, value, low, high in rows:
        assert (low, high) in spans
        assert (value,) in spans


def test_panels_show_the_tables() -> None:
    """A panel per kind and class; in the histogram stands the threshold."""
    confusion = pd.DataFrame(
        [("m", name, a, p, n) for name in "AB" for a, p, n in _CELLS],
        columns=["model", "class", "actual", "predicted", "records"],
    )
    bins = {"low": [0.0, 0.5], "high": [0.5, 1.0], "share": [0.5, 0.5], "threshold": 0.3}
    scores = pd.concat(
        pd.DataFrame({"model": "m", "class": name, "actual": actual, **bins})
        for name in "AB"
        for actual in ("no", "yes")
    )
    tables = {"confusion": confusion, "scores": scores}
    figure = figures.panels(("confusion", "scores"), tables, {"m": "#0072B2"})
    assert [axes.get_title("left") for axes in figure.axes] == ["A", "B", "A", "B"]
    assert [text.get_text() for text in figure.axes[0].texts] == ["1,234", "5", "6", "7"]
    lines = cast("list[Line2D]", figure.axes[2].lines)
    assert [_xy(line)[0][0] for line in lines] == [0.3]


_CELLS = (("no", "no", 1234), ("no", "yes", 5), ("yes", "no", 6), ("yes", "yes", 7))


def test_a_confusion_matrix_of_many_classes_has_room_for_its_numbers() -> None:
    names = [f"class {number}" for number in range(10)]
    rows = [("m", "all classes", a, p, 1000) for a in names for p in names]
    table = pd.DataFrame(rows, columns=["model", "class", "actual", "predicted", "records"])
    figure = figures.confusion_matrix(table)
    axes = figure.axes[0]
    assert len(axes.texts) == 100
    assert [label.get_text() for label in axes.get_yticklabels()] == names
    inches = figure.get_size_inches() * axes.get_position().size
    assert (inches / len(names) >= 0.4).all()


def test_history_marks_the_step_that_was_kept() -> None:
    """An undefined metric, such as the AUC of normal records alone, has no panel."""
    steps = {"model": "m", "epoch": [1, 2, 3]}
    loss = [
        pd.DataFrame({**steps, "split": split, "loss": [3.0, 2, 1]})
        for split in ("train", "validation")
    ]
    other = pd.DataFrame({"model": "other", "epoch": [1], "auc": [0.5]})
    tables = {
        "loss": pd.concat(loss),
        "auc": other,
        "learning_rate": pd.DataFrame({**steps, "learning_rate": [1.0, 2, 1]}),
    }
    figure = figures.history(tables, "m", 2, "#0072B2", "iteration")
    assert [axes.get_title("left") for axes in figure.axes] == ["loss", "learning rate"]
    for axes in figure.axes:
        assert [2, 2] in [list(_xy(line)[0]) for line in axes.lines]
        assert axes.get_xlabel() == "iteration"


def test_eight_models_have_eight_colours() -> None:
    """There are as many colours as the project needs, so that none is taken for another."""
    assert len(set(figures.colours_of([f"m{number}" for number in range(8)]).values())) == 8


def test_a_dollar_in_a_name_begins_no_formula() -> None:
    """Names come from files and tables of users; as a formula this one cannot be drawn."""
    rows = [("$^$", "m", 0.8, 0.7, 0.95)]
    assert figures.png(figures.comparison(rows, ["$^$"], {"m": "#0072B2"}, "AUC"))


def test_every_model_has_a_colour_of_its_own() -> None:
    """Two of one colour in one figure cannot be told apart; a new architecture needs a new colour."""
    names = [found.name for found in pkgutil.iter_modules(models.__path__) if found.name[0] != "_"]
    colours = figures.colours_of(names)
    assert len(set(colours.values())) == len(names)
