"""The table of experiments: what differs, names folded, no wider than the terminal."""

from __future__ import annotations

from typing import Any

import pytest

from beatline.commands import experiments
from beatline.common.errors import UserError

AUC, F1 = (f"reports/metrics/ecg5000/cnn.json:{metric}" for metric in ("auc", "f1"))
RATE, EPOCHS = "train.cnn.ecg5000.optimizer.learning_rate", "train.cnn.ecg5000.epochs"


def _row(
    name: str | None, values: dict[str, float | str] | None = None, state: str | None = None
) -> dict[str, Any]:
    about = dict.fromkeys(experiments.ABOUT) | {"Experiment": name, "rev": "0b2efde"}
    about |= {"State": state, "typ": "branch_base" if name else "baseline"}
    return {
        **about,
        AUC: 0.9,
        F1: 0.5,
        RATE: 0.01,
        EPOCHS: 8.0,
        "data/models": "1f",
        **(values or {}),
    }


def test_only_what_differs_is_shown() -> None:
    """A column per parameter and metric would be hundreds; files that stages read are none."""
    changed = {AUC: 0.95, RATE: 0.003, "data/models": "2e"}
    text = experiments.table([_row(None), _row("slower", changed)], 100)
    words = text.split()
    assert words.count("auc") == words.count("learning_rate") == 1
    assert not {"f1", "epochs", "data/models", "8"} & set(words)
    assert [line.split() for line in text.splitlines()[-2:]] == [
        ["0b2efde", "0.9", "0.01"],
        ["slower", "0.95", "0.003"],
    ]


def test_what_is_as_before_is_a_dot() -> None:
    """A value that did not change is a dot: among twenty experiments the rest would be noise."""
    rows = [_row(None), _row("a", {AUC: 0.95}), _row("b", {EPOCHS: 4.0})]
    assert [line.split() for line in experiments.table(rows, 100).splitlines()[-2:]] == [
        ["a", "0.95", "."],
        ["b", ".", "4"],
    ]


def test_an_experiment_that_is_not_done_has_no_metrics() -> None:
    """DVC gives those of the commit that it started from."""
    rows = [_row(None), _row("b", {AUC: 0.95}), _row("c", {AUC: 0.9, EPOCHS: 4.0}, "Queued")]
    assert experiments.table(rows, 100).splitlines()[-1].split() == ["c", "(queued)", "-", "4"]


def test_a_narrow_terminal_gets_the_columns_in_blocks() -> None:
    """No line is longer than the terminal is wide, and nothing is left out."""
    changed: dict[str, float | str] = {AUC: 0.95, F1: 0.6, RATE: 0.003, EPOCHS: 4.0}
    text = experiments.table([_row(None), _row("slower", changed)], 40)
    assert max(map(len, text.splitlines())) <= 40
    assert {"auc", "f1", "learning_rate", "epochs"} <= set(text.split())


def test_without_experiments_it_says_how_to_run_one() -> None:
    """The first thing that a new clone prints."""
    with pytest.raises(UserError, match="dvc exp run -S"):
        experiments.table([_row(None)], 100)


def test_what_some_rows_do_not_have_yet_is_one_column() -> None:
    """A data set that is not committed has dozens of parameters, which no experiment changed."""
    names = ("datasets.mine.a", "datasets.mine.b", "datasets.mine.c", "train.cnn.mine.epochs")
    mine: dict[str, float | str] = dict.fromkeys(names, 8.0)
    without: dict[str, float | str] = dict.fromkeys(mine, "None")
    changed = _row("b", {**mine, "train.cnn.mine.epochs": 4.0, EPOCHS: 4.0})
    text = experiments.table([_row("workspace", mine), _row(None, without), changed], 100)
    assert text.split().count("there") == 4
    assert not {"a", "c"} & set(text.split())
    assert [line.split() for line in text.splitlines()[-2:]] == [
        ["0b2efde", "8", "-", "-", "-"],
        ["b", "4", "there", "there", "4"],
    ]


def test_a_null_that_an_experiment_changes_is_shown() -> None:
    """DVC gives the word None for it, as for what is missing."""
    text = experiments.table([_row(None, {EPOCHS: "None"}), _row("b", {EPOCHS: 4.0})], 100)
    assert [line.split()[-1] for line in text.splitlines()[-2:]] == ["-", "4"]
