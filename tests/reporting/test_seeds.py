"""Several seeds: their spread is numpy's, and nobody takes one seed, or an interval, for it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beatline.drawings import figures
from beatline.evaluation.results import Evaluated
from beatline.reporting import results, seeds
from beatline.reporting.document import Document
from beatline.reporting.report import compose
from beatline.reporting.settings import Report
from tests.reporting import project
from tests.reporting.reading import rows, section, value

ANECDOTE = "One seed is an anecdote"


@pytest.fixture(scope="module")
def model(root: Path) -> Evaluated:
    return results.read(project.only("beats", models=["cnn"]), "beats", root).models[0]


def _with(model: Evaluated, values: list[float | None]) -> Evaluated:
    made = [{"seed": number, "auc": value} for number, value in enumerate(values)]
    return replace(model, estimates={**model.estimates, "seeds": made})


def test_spread_is_numpys(document: Document) -> None:
    """The table of hearts, whose cnn has three seeds, against the made-up values."""
    text = section(document, "hearts: seeds")
    found = {row["metric"]: row for row in rows(text, "model")}
    assert list(found) == ["accuracy", "AUC", "average precision", "F1"]
    steps = -0.01 * np.arange(3) ** 2
    for row in found.values():
        first = value(row["the model"])
        values = first + steps
        assert (row["model"], row["seeds"]) == ("cnn", "3")
        assert value(row["mean"]) == pytest.approx(values.mean(), abs=1e-3)
        assert value(row["standard deviation"]) == pytest.approx(values.std(ddof=1), abs=6e-4)
        assert value(row["minimum"]) == pytest.approx(values.min(), abs=1e-3)
        assert value(row["maximum"]) == pytest.approx(values.max(), abs=1e-3)
        assert re.search(r"\[\d\.\d{3}, \d\.\d{3}\]", row["the model"])
    assert "two kinds of luck" in text
    assert "Trained from one seed: autoencoder." in text
    assert "figures/hearts/seeds.svg" in text
    assert "figures/digits/seeds.svg" in document.figures
    assert "figures/beats/seeds.svg" not in document.figures


@given(values=st.lists(st.floats(0, 1), min_size=2, max_size=9))
def test_spread_of_any_values(model: Evaluated, values: list[float]) -> None:
    found = seeds.spread(_with(model, [*values]), "auc")
    assert found
    assert found.seeds == len(values)
    assert found.mean == pytest.approx(np.mean(values))
    assert found.deviation == pytest.approx(np.std(values, ddof=1))
    assert (found.minimum, found.maximum) == (np.min(values), np.max(values))


def test_undefined_values_are_left_out(model: Evaluated) -> None:
    """Metrics are undefined where test records are all alike, and missing in estimates from before."""
    found = seeds.spread(_with(model, [0.5, None, 0.7]), "auc")
    assert found
    assert (found.seeds, found.mean) == (2, pytest.approx(0.6))
    assert seeds.spread(_with(model, [None]), "auc") is None
    before = {name: part for name, part in model.estimates.items() if name != "seeds"}
    assert seeds.spread(replace(model, estimates=before), "auc") is None
    assert not seeds.several(replace(model, estimates=before))


def test_the_figure_has_a_ring_per_seed() -> None:
    figure = figures.seeds([("cnn", 0.9, 0.8, 0.95, [0.9, 0.85, 0.87])], {"cnn": "#0072B2"}, "AUC")
    lines = figure.axes[0].lines
    drawn = [np.asarray(line.get_xdata()).tolist() for line in lines]
    assert drawn == [[0.8, 0.95], [0.9], [0.9, 0.85, 0.87]]
    assert lines[2].get_fillstyle() == "none"


@pytest.mark.usefixtures("without_pictures")
def test_where_every_model_has_one_seed_it_is_said_once(root: Path, document: Document) -> None:
    """And the parameter is named; where a model has several the opening does not say it."""
    content = project.only("beats", "machines")
    alone = compose(content, Report(mistakes=0), root, project.REPORT).markdown
    assert alone.count(ANECDOTE) == 1
    assert ANECDOTE in section(alone, "Summary of results")
    assert "`train.<model>.<data set>.seeds`" in alone
    assert ": seeds" not in alone
    assert ANECDOTE not in section(document, "Summary of results")


def test_the_model_card_has_both_spreads(document: Document) -> None:
    text = section(document.cards["cards/hearts_models.md"], "Seeds")
    assert "| cnn | AUC | 3 |" in text
    assert "![hearts: AUC with each seed](../figures/hearts/seeds.svg)" in text
    alone = section(document.cards["cards/beats_models.md"], "Seeds")
    assert "Trained from one seed: cnn and autoencoder." in alone
    assert "| metric |" not in alone
