"""Figures: an ECG is true to scale, a model keeps its colour, a file depends on its content only."""

from __future__ import annotations

import struct
from typing import cast

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from beatline import figures
from beatline.errors import UserError

RATE = 100
ECG = {"drawing": "twelve_leads", "channels": list(figures.LEADS), "sampling_rate": RATE}
TRACE = {"drawing": "trace", "channels": ["x"], "sampling_rate": None, "unit": "V"}


def _ecg(seconds: float = 10) -> np.ndarray:
    """Twelve leads, of which number k is at k / 10 mV throughout."""
    return np.tile(np.arange(12) / 10, (round(seconds * RATE), 1)).astype(np.float32)


def _lines(figure: Figure, name: str) -> list[Line2D]:
    return [line for line in figure.axes[0].lines if line.get_gid() == name]


def _xy(line: Line2D) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)


def test_one_second_is_25_mm_and_one_millivolt_10_mm_on_the_page() -> None:
    """A reader may lay a ruler on the printed page."""
    recording = _ecg()
    recording[:, 1] = 0
    recording[100:200, 1] = 1  # lead II: 1 mV from second 1 to second 2
    figure = figures.twelve_leads(recording, RATE, "x")
    rhythm = _lines(figure, "lead II")[-1]
    x, y = _xy(rhythm)
    pixels = figure.axes[0].transData.transform(np.column_stack([x, y]))
    in_mm = pixels / figure.dpi * figures.MM_PER_INCH
    assert in_mm[200, 0] - in_mm[100, 0] == pytest.approx(25)
    assert in_mm[150, 1] - in_mm[50, 1] == pytest.approx(10)
    assert in_mm[999, 0] - in_mm[0, 0] == pytest.approx(250, abs=0.3)


def test_the_paper_is_ruled_at_1_and_5_mm() -> None:
    figure = figures.twelve_leads(_ecg(), RATE, "x")
    fine, bold = (c for c in figure.axes[0].collections if isinstance(c, LineCollection))
    for collection, step in ((fine, 1), (bold, 5)):
        segments = [np.asarray(segment) for segment in collection.get_segments()]
        upright = sorted({float(s[0, 0]) for s in segments if s[0, 0] == s[1, 0]})
        level = sorted({float(s[0, 1]) for s in segments if s[0, 1] == s[1, 1]})
        assert set(np.diff(upright)) == set(np.diff(level)) == {step}
    assert np.allclose(fine.get_edgecolor(), to_rgba(figures.MINOR))
    assert np.allclose(bold.get_edgecolor(), to_rgba(figures.MAJOR))


def test_the_calibration_pulse_is_one_millivolt_for_a_fifth_of_a_second() -> None:
    pulses = _lines(figures.twelve_leads(_ecg(), RATE, "x"), "calibration")
    assert len(pulses) == 4
    for pulse in pulses:
        x, y = _xy(pulse)
        assert np.ptp(y) == figures.MM_PER_MV
        assert np.ptp(x[y == y.max()]) == figures.MM_PER_SECOND * 0.2


def test_leads_stand_where_cardiologists_look_for_them() -> None:
    """Three rows of four leads, 2.5 s each, of one and the same ten seconds; lead II below."""
    recording = np.random.default_rng(0).normal(size=(1000, 12)).astype(np.float32)
    figure = figures.twelve_leads(recording, RATE, "x")
    lefts, tops = {}, {}
    for row in figures.LAYOUT:
        for column, name in enumerate(row):
            x, y = _xy(_lines(figure, f"lead {name}")[0])
            sample = round(column * 2.5 * RATE)
            lefts[name], tops[name] = x[0], y[0] - 10 * recording[sample, _at(name)]
            assert x[0] == pytest.approx(figures.SIGNAL_LEFT + column * 62.5)
            np.testing.assert_allclose(
                np.diff(y[:250]), 10 * np.diff(recording[sample:, _at(name)][:250]), atol=1e-4
            )
    assert lefts["I"] == lefts["II"] == lefts["III"] < lefts["aVR"] < lefts["V1"] < lefts["V4"]
    assert tops["V1"] > tops["V2"] > tops["V3"]
    rhythm = _xy(_lines(figure, "lead II")[1])[1]
    assert len(rhythm) == 1000
    assert rhythm.mean() < tops["III"]


def _at(name: str) -> int:
    return figures.LEADS.index(name)


def test_leads_are_found_by_name_in_any_order_and_spelling() -> None:
    turned = [name.upper() for name in reversed(figures.LEADS)]
    recording = np.random.default_rng(0).normal(size=(1000, 12))
    straight = figures.twelve_leads(recording, RATE, "x")
    assert figures.png(straight) == figures.png(
        figures.twelve_leads(recording[:, ::-1], RATE, "x", turned)
    )


def test_short_and_long_recordings() -> None:
    """A short one leaves paper blank, of a long one ten seconds are drawn."""
    short = figures.twelve_leads(_ecg(4), RATE, "x")
    assert len(_xy(_lines(short, "lead V1")[0])[0]) == 0
    assert len(_xy(_lines(short, "lead II")[1])[0]) == 400
    long = figures.twelve_leads(_ecg(12), RATE, "x")
    assert len(_xy(_lines(long, "lead II")[1])[0]) == 1001


def test_what_is_no_twelve_lead_ecg_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\[T, 12\]"):
        figures.twelve_leads(np.zeros((100, 3)), RATE, "x")
    with pytest.raises(ValueError, match="no lead V6"):
        figures.twelve_leads(np.zeros((100, 12)), RATE, "x", [*figures.LEADS[:-1], "other"])
    with pytest.raises(ValueError, match=r"\[T, 1\]"):
        figures.trace(np.zeros((100, 2)), "x")
    with pytest.raises(UserError, match=r"drawing 'spectrum'.*twelve_leads, trace"):
        figures.drawing_of({"drawing": "spectrum"})


@pytest.mark.parametrize(("dataset", "recording"), [(ECG, _ecg()), (TRACE, np.ones((50, 1)))])
def test_every_drawing_has_a_sheet_and_a_strip(dataset: dict, recording: np.ndarray) -> None:
    sheet = figures.drawing_of(dataset).sheet(recording, dataset, "title")
    assert figures.png(sheet)[:4] == b"\x89PNG"
    error = np.ones(len(recording))
    items = [
        figures.Mistake("plain", recording),
        figures.Mistake("reconstructed", recording, recording / 2, error),
    ]
    drawn = figures.mistakes(items, dataset, "#0072B2")
    assert {text.get_text() for text in drawn.texts} == {"plain", "reconstructed"}
    assert len(drawn.axes) == 3


def test_a_trace_is_drawn_against_seconds_or_samples() -> None:
    recording = np.arange(50.0)[:, None]
    x, y = _xy(figures.trace(recording, "x", 25, "V").axes[0].lines[0])
    assert x[-1] == pytest.approx(49 / 25)
    np.testing.assert_array_equal(y, recording[:, 0])
    in_samples = figures.trace(recording, "x").axes[0]
    assert _xy(in_samples.lines[0])[0][-1] == 49
    assert in_samples.get_xlabel() == "sample"


def test_a_png_holds_no_date_no_software_and_is_the_same_twice() -> None:
    """What is in Git must change only when what it shows does."""
    once, again = (figures.png(figures.twelve_leads(_ecg(), RATE, "x")) for _ in range(2))
    assert once == again
    assert _chunks(once) <= {"IHDR", "PLTE", "pHYs", "IDAT", "IEND"}
    assert len(once) < 100_000


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


def test_history_marks_the_epoch_that_was_kept() -> None:
    """A model whose AUC is never defined has no AUC curve, and still a figure."""
    epochs = {"model": "m", "epoch": [1, 2, 3]}
    loss = [
        pd.DataFrame({**epochs, "split": split, "loss": [3.0, 2, 1]})
        for split in ("train", "validation")
    ]
    tables = {
        "loss": pd.concat(loss),
        "learning_rate": pd.DataFrame({**epochs, "learning_rate": [1.0, 2, 1]}),
    }
    figure = figures.history(tables, "m", 2, "#0072B2")
    assert len(figure.axes) == 3
    for axes in figure.axes:
        assert [2, 2] in [list(_xy(line)[0]) for line in axes.lines]
