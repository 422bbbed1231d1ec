"""Which plots differ between two revisions, and what is said of those that cannot be compared."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from beatline.comparing.plots import Plot, collect
from beatline.comparing.revisions import Revision
from tests.paths import ROOT

MODELS = ("cnn", "cnn_lstm")
ROC = "reports/plots/roc/ptbxl.csv"
HISTORY = "reports/figures/ptbxl/{}_history.png"
DECLARED = {
    ROC: {"template": "roc", "x": "fpr", "y": "tpr"},
    **{HISTORY.format(model): {} for model in MODELS},
}


class Stored(Revision):
    """A revision that holds these files, and declares all of them as plots."""

    def __init__(self, name: str, files: dict[str, str | None]) -> None:
        self.name, self.commit, self.files = name, None, files
        self.plots = {path: DECLARED.get(path, {}) for path in files}
        self.params = {"datasets": {"ptbxl": {}}, "train": {name: {"ptbxl": {}} for name in MODELS}}

    def content(self, path: str) -> bytes | None:
        text = self.files.get(path)
        return None if text is None else text.encode()


def revision(name: str, changed: Any = (), **files: str | None) -> Stored:
    """A ROC table of two models and a picture of each; `changed` names those that are of another
    training: (model, "roc") or (model, "history")."""
    rows = [
        f"{model},NORM,{fpr},{fpr if (model, 'roc') in changed else 1}"
        for model in MODELS
        for fpr in (0, 0.5, 1)
    ]
    content = {ROC: "\n".join(["model,class,fpr,tpr", *rows, ""])}
    for model in MODELS:
        content[HISTORY.format(model)] = str((model, "history") in changed)
    return Stored(name, content | files)


def kinds(plots: list[Plot]) -> set[tuple[str, str]]:
    return {(plot.model, "roc" if plot.spec else "history") for plot in plots}


@given(st.sets(st.tuples(st.sampled_from(MODELS), st.sampled_from(["roc", "history"]))))
def test_just_what_changed(changed: set[tuple[str, str]]) -> None:
    """A model whose rows are the same has no chart although its table has changed, and no plot that
    changed is left out or put down to another model, of whose name its own is the beginning."""
    found = collect(revision("main"), revision("workspace", changed)).plots
    assert kinds(found) == changed
    assert {plot.dataset for plot in found} <= {"ptbxl"}
    assert len(found) == len(changed)


def test_both_revisions_are_in_one_chart_baseline_first() -> None:
    """One chart, hence the same axes; who reads the legend reads the baseline first, whatever the
    names' alphabetical order, and it is the dashed one."""
    for before, after in (("main", "workspace"), ("workspace", "main")):
        (plot,) = collect(revision(before), revision(after, {("cnn", "roc")})).plots
        assert list(dict.fromkeys(point["rev"] for point in plot.points)) == [before, after]
        line = plot.spec["spec"]["layer"][1]["encoding"]
        for channel in ("color", "strokeDash"):
            assert line[channel]["field"] == "rev"
            assert line[channel]["scale"]["domain"] == [before, after]
        assert line["strokeDash"]["scale"]["range"][1] == [1, 0]  # solid
        assert "resolve" not in plot.spec


@pytest.mark.parametrize("base_is_without", [True, False])
def test_a_plot_of_one_revision_says_so(base_is_without: bool) -> None:
    """A new plot is no changed one, and neither is one that is gone."""
    without = Stored("less", {})
    pair = (without, revision("more")) if base_is_without else (revision("more"), without)
    found = collect(*pair).plots
    assert kinds(found) == {(model, kind) for model in MODELS for kind in ("roc", "history")}
    assert all(plot.notes == ["not in less"] for plot in found)


def test_a_model_that_one_table_lacks_says_so() -> None:
    table = "model,class,fpr,tpr\ncnn,NORM,0,1\ncnn,NORM,0.5,1\ncnn,NORM,1,1\n"
    (plot,) = collect(revision("main", **{ROC: table}), revision("workspace")).plots
    assert (plot.model, plot.notes) == ("cnn_lstm", ["not in main"])


def test_what_cannot_be_had_is_not_taken_for_absent() -> None:
    """A plot that a revision declares, and that is in neither Git nor DVC's cache."""
    (plot,) = collect(revision("main", **{ROC: None}), revision("workspace")).plots[:1]
    assert plot.notes == ["not at hand in main"]


@pytest.mark.parametrize(
    "damaged",
    [
        "",
        "model,class,fpr,tpr\ncnn,NORM,0",  # cut off
        "model,class,fpr\ncnn,NORM,0\n",  # a column is missing
        "model,class,fpr,tpr\n",
        "<<<<<<< HEAD\nmodel,class,fpr,tpr\n=======\n",
    ],
)
def test_a_damaged_table_is_a_plot_with_a_reason(damaged: str) -> None:
    """Neither a traceback, nor a chart of what is left, nor no word."""
    (plot,) = collect(revision("main"), revision("workspace", **{ROC: damaged})).plots
    assert not plot.spec
    assert ROC in plot.notes[0]
    assert "workspace" in plot.notes[0]


def test_a_table_in_json_is_drawn_as_well() -> None:
    """Whatever DVC draws; and what has no template, DVC's own one."""
    path = "reports/plots/ptbxl/cnn_steps.json"
    old, new = (
        json.dumps([{"step": step, "loss": step * rate} for step in (1, 2)]) for rate in (1, 2)
    )
    (plot,) = collect(Stored("main", {path: old}), Stored("workspace", {path: new})).plots
    assert (plot.dataset, plot.model, len(plot.points)) == ("ptbxl", "cnn", 4)
    assert '"field": "loss"' in json.dumps(plot.spec)


def test_a_bar_of_class_counts_is_one_row() -> None:
    """Rows that share a bar would be added up: records of all splits, as one number."""
    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"].values()
    plots = [plot for stage in stages for plot in stage.get("do", stage).get("plots", [])]
    (declared,) = [plot[path] for plot in plots for path in plot if "class_counts" in path]
    path = "reports/plots/ptbxl/class_counts.csv"
    tables = [
        "\n".join(
            ["split,class,records"]
            + [f"{split},{name},{n}" for split in ("train", "test") for name in ("MI", "all")]
        )
        for n in (1, 2)
    ]
    sides = [Stored(name, {path: table}) for name, table in zip("ab", tables, strict=True)]
    for side in sides:
        side.plots[path] = declared
    (plot,) = collect(*sides).plots
    encoding = plot.spec["spec"]["encoding"]
    bar = [plot.spec["facet"]["field"], *(encoding[axis]["field"] for axis in ("y", "yOffset"))]
    assert (
        len({tuple(point[name] for name in bar) for point in plot.points}) == len(plot.points) == 8
    )
