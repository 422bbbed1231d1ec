"""Models side by side, and each by itself: the numbers are those of scikit-learn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from scipy.stats import hmean
from sklearn import metrics

from beatline.common.files import read_csv, rounded
from beatline.drawings import figures
from beatline.evaluation import estimates
from beatline.evaluation.estimates import Evaluate
from beatline.evaluation.results import Evaluated
from beatline.reporting import models as sections
from beatline.reporting import results
from beatline.reporting.document import TASKS, Document, decided, fill
from beatline.reporting.mistakes import _score_of_errors
from beatline.reporting.results import DatasetResults
from tests.reporting import project
from tests.reporting.reading import section, table, value


def test_models_stand_side_by_side(document: Document, root: Path) -> None:
    """The comparison of the digits: accuracy first, with its interval; then what it costs."""
    text = section(document, "digits: comparison of models")
    found = table(text, "")
    assert next(iter(found)) == "accuracy"
    for model in ("cnn", "lstm"):
        answers = read_csv(root / f"data/predictions/digits/{model}/predictions.csv")
        classes = project.DIGITS["classes"]
        right = answers[classes].to_numpy().argmax(1)
        decided = answers[[f"{name} predicted" for name in classes]].to_numpy().argmax(1)
        cell = found["accuracy"][model]
        assert value(cell) == pytest.approx(metrics.accuracy_score(right, decided), abs=6e-4)
        low, high = map(float, cell.split("[")[1].rstrip("]").split(", "))
        assert low < value(cell) < high
        assert found["training time (s)"][model] == "12.3"
        assert found["time per prediction (ms)"][model] == "0.678"
        assert found["parameters"][model] == "1,234"
    assert "figures/digits/comparison.svg" in text


def test_metrics_of_each_machine_and_their_means_are_scikit_learns(
    document: Document, root: Path
) -> None:
    """Nothing pools machines; the harmonic mean is that of the AUC and pAUC of all of them."""
    answers = read_csv(root / "data/predictions/machines/embedding/predictions.csv")
    rows = table(section(document, "machines: embedding"), "machine")
    areas = []
    for name, of_machine in answers.groupby("machine_id"):
        labels, scores = of_machine["anomaly"], of_machine["anomaly predicted"]
        row = rows[str(name)]
        areas.append(
            (
                metrics.roc_auc_score(labels, scores),
                metrics.roc_auc_score(labels, scores, max_fpr=0.1),
            )
        )
        assert (value(row["AUC"]), value(row["pAUC"])) == pytest.approx(areas[-1], abs=6e-4)
        decided = of_machine["anomaly decided"]
        tn, fp, fn, tp = metrics.confusion_matrix(labels, decided).ravel()
        counts = [row[f"{name}s"] for name in _COUNTS]
        assert counts == [str(count) for count in (tp, fp, fn, tn)]
        for column, metric in _DECIDED.items():
            assert value(row[column]) == pytest.approx(metric(labels, decided), abs=6e-4)
    mean = rows["all (mean)"]
    assert value(mean["AUC"]) == pytest.approx(np.mean(areas, axis=0)[0], abs=6e-4)
    text = section(document, "machines: comparison of models")
    harmonic = table(text, "")["harmonic mean of AUC and pAUC"]["embedding"]
    assert value(harmonic) == pytest.approx(hmean(np.ravel(areas)), abs=6e-4)
    assert "the numbers above are means over machines" in text


_COUNTS = ("true positive", "false positive", "false negative", "true negative")
_DECIDED = {
    "F1": metrics.f1_score,
    "recall": metrics.recall_score,
    "precision": metrics.precision_score,
    "accuracy": metrics.accuracy_score,
}


def test_score_histograms_with_the_threshold_stand_by_machine(document: Document) -> None:
    scores = document.curves["scores"]["machines"]
    figure = figures.panels(("scores",), {"scores": scores}, {"embedding": "#0072B2"})
    assert [axes.get_title("left") for axes in figure.axes] == ["00", "01"]
    assert all(len(axes.lines) == 1 for axes in figure.axes)
    text = section(document, "machines: embedding")
    assert "figures/machines/embedding_decisions.svg" in text
    assert "The dotted line is the threshold" in text
    assert "95th percentile of the scores of normal validation records, " in text
    assert "the same for every machine" in text


def test_exclusive_classes_have_a_confusion_matrix_and_no_threshold(document: Document) -> None:
    text = section(document, "digits: cnn")
    assert "figures/digits/cnn_confusion.svg" in text
    assert "The most probable class is decided" in text
    assert "threshold is" not in text
    rows = table(text, "class")
    assert list(rows) == ["0", "1", "2", "all (mean)"]
    # Of one class against the rest it would flatter.
    assert "accuracy" not in rows["0"]


def test_the_step_that_was_kept_is_told(document: Document) -> None:
    """Epochs, iterations, penalties, or nothing of what is fitted in one step."""
    assert "; epoch 2 of 3 kept, by the validation AUC." in section(document, "digits: cnn")
    trees, regression = (
        section(document, f"rows: {name}") for name in (r"boosted\_trees", r"logistic\_regression")
    )
    assert "; iteration 2 of 3 kept" in trees
    assert "Training, iteration by iteration" in trees
    assert "; penalty 2 of 3 kept" in section(document, "rows: rocket")
    assert "kept" not in regression
    assert "figures/rows/logistic_regression_history.svg" not in document.figures


def test_detectors_are_not_compared_with_classifiers_unsaid(document: Document) -> None:
    found = table(section(document, "beats: comparison of models"), "")
    assert found["task"] == {"": "task", "cnn": "binary", "autoencoder": "reconstruction"}
    assert found["pAUC"]["cnn"] == "–"  # noqa: RUF001
    assert "do not compare" in section(document, "Summary of results")


@pytest.mark.usefixtures("without_pictures")
def test_a_partial_auc_of_few_normal_records_is_said_to_be_too_high(root: Path) -> None:
    """Of the 8 normal records of a machine 0.8 decide; of ten times as many at a rate of one half, 40."""
    read = results.read(project.CONTENT, "machines", root)
    said = []
    for times, max_fpr in ((1, 0.1), (10, 0.5)):
        larger = [
            replace(model, table=model.table.loc[model.table.index.repeat(times)])
            for model in read.models
        ]
        document = Document()
        evaluate = {**project.EVALUATE, "max_fpr": max_fpr}
        colours = {model.model: "#0072B2" for model in larger}
        sections.add_comparison(document, replace(read, models=larger), {}, colours, evaluate)
        said.append("too high" in document.markdown)
    assert said == [True, False]


def test_each_score_of_an_autoencoder_is_told_apart() -> None:
    """A reader must not take a distance for a reconstruction error; of a model from before there were
    others it is that."""
    scores = [{}, {"score": "mahalanobis"}, {"score": "nearest"}]
    said = {
        decided({"task": "reconstruction", "architecture": {"parameters": score}})
        for score in scores
    }
    assert len(said) == len(scores) and TASKS["reconstruction"] in said


@pytest.mark.usefixtures("without_pictures")
def test_test_records_that_are_all_alike_are_no_error(root: Path) -> None:
    """No AUC and no curve is defined then; the report says so with a dash."""
    read = results.read(project.only("beats", models=["cnn"]), "beats", root)
    model = read.models[0]
    undefined = {"value": None, "low": None, "high": None}
    overall = {**model.estimates["overall"], "auc": undefined}
    alike = replace(model, estimates={**model.estimates, "overall": overall})
    document = Document()
    one = replace(read, models=[alike])
    sections.add_comparison(document, one, {}, {"cnn": "#0072B2"}, project.EVALUATE)
    assert not document.figures
    assert "| AUC | – |" in document.markdown  # noqa: RUF001


def test_what_too_few_records_do_to_numbers_is_said(root: Path) -> None:
    """A class without test records, one with few, one without validation records, and a mean without an
    interval are named below the table, and only there where it is so."""
    hearts = results.read(project.CONTENT, "hearts", root)
    (model, *_) = hearts.models
    rare = model.table["M|I_x"] * (model.table["M|I_x"].cumsum() <= 3)
    auc = {**model.estimates["overall"]["auc"], "low": None, "high": None}
    overall = {**model.estimates["overall"], "auc": auc}
    validation = hearts.splits["validation"]
    unseen = replace(validation, table=validation.table.assign(NORM=0))
    said = _below(
        hearts,
        model,
        replace(hearts, splits={**hearts.splits, "validation": unseen}),
        estimates={**model.estimates, "overall": overall},
        table=model.table.assign(**{"NORM": 0, "M|I_x": rare}),
    )
    named = [[name for name in ("NORM", r"M\|I\_x", "AUC") if f" {name}." in line] for line in said]
    assert [names for names in named if names] == [[r"M\|I\_x"], ["NORM"], ["AUC"], ["NORM"]]


def _below(
    read: DatasetResults, model: Evaluated, changed: DatasetResults | None = None, **changes: Any
) -> list[str]:
    """The paragraphs below the table of classes that there would not be without the `changes`."""
    plain = sections.parts(read, model, "95 %").split("\n\n")
    text = sections.parts(changed or read, replace(model, **changes), "95 %")
    return [line for line in text.split("\n\n") if line not in plain and "|---" not in line]


@pytest.mark.parametrize("name", ["hearts", "rows", "machines"])
@pytest.mark.parametrize("rare", [0, 1])
def test_few_of_a_kind_are_said(name: str, rare: int, root: Path) -> None:
    """Of several classes, of one, or of a machine, and of those without as of those with it."""
    read = results.read(project.CONTENT, name, root)
    model = read.models[-1]
    facet, column = model.facets[0], model.classes[0]
    for number in (4, 5):
        targets = np.arange(len(model.table)) % 2
        targets[facet.inside] = 1 - rare
        targets[np.flatnonzero(facet.inside)[: 2 * number : 2]] = rare
        table = model.table.assign(**{column: targets, "group": range(len(targets))})
        text = sections.parts(read, replace(model, table=table), "95 %")
        (*_, few) = ["", *(line for line in text.split("\n\n") if "ewer than 5" in line)]
        assert (f" {facet.name}." in few) == (number == 4)


def test_few_patients_have_no_intervals(root: Path) -> None:
    """The report says why, and how to mend it; numbers stand alone, and figures draw them."""
    read = results.read(project.CONTENT, "hearts", root)
    (model, *_) = read.models
    table = model.table.assign(group=np.arange(len(model.table)) % 9)
    of_nine = replace(model, table=table)
    measured = estimates.measured(of_nine, Evaluate.model_validate(project.EVALUATE))
    few = replace(of_nine, estimates=rounded({**model.estimates, **measured}, 6))
    text = sections.parts(read, few, "95 %")
    assert "9 patients" in text and "more patients" in text and "[0" not in text
    assert "No interval of a mean" not in text
    document = Document()
    read = replace(read, models=[few])
    sections.add_comparison(document, read, {}, {model.model: "#0072B2"}, project.EVALUATE)
    assert document.figures


@pytest.mark.parametrize("name", ["hearts", "rows", "machines"])
def test_what_was_never_decided_is_said(name: str, root: Path) -> None:
    """Of several classes, of one, or of a machine: it has no precision."""
    read = results.read(project.CONTENT, name, root)
    model = read.models[-1]
    facet = model.facets[0]
    decided = model.table[f"{model.classes[0]} decided"].where(~facet.inside, 0)
    table = model.table.assign(**{f"{model.classes[0]} decided": decided})
    (said,) = _below(read, model, table=table)
    assert said.startswith("Never decided") and "precision" in said
    assert [each.name for each in model.facets if f" {each.name}." in said] == [facet.name]


def _told(**info: Any) -> str:
    """What is said of a model with two classes that model.json describes so."""
    estimates = {
        metric: {"value": value, "low": value - 0.01, "high": value + 0.01}
        for metric, value in (("auc", 0.9), ("calibration_error", 0.031), ("brier", 0.1))
    }
    description = {
        "architecture": {"parameters": {}},
        "parameters": 12,
        "training": {"monitor": "auc"},
        "task": "multilabel",
        "classes": ["MI", "CD"],
        **info,
    }
    measured: dict[str, Any] = {"overall": estimates}
    if "temperature" in info:
        measured["uncalibrated"] = {
            name: {**estimates[name], "value": 0.071} for name in ("calibration_error", "brier")
        }
    model = SimpleNamespace(
        description=description,
        estimates=measured,
        exclusive=False,
        section_column=None,
        table=[0] * 7,
    )
    return fill("summary", model=model, step="epoch", best="2 of 3", has_auc=True)


def test_a_mean_and_its_temperatures_are_told() -> None:
    """Beside what it would be without them; of a model that has none, nothing."""
    members = [{"seed": seed} for seed in (4, 5, 6)]
    both = _told(members=members, temperature=[1.234, 0.5])
    assert "3 networks" in both and "4, 5 and 6" in both
    assert "1.23 (MI), 0.50 (CD)" in both
    assert "0.031 [0.021, 0.041]" in both and "0.071" in both
    plain = _told()
    assert "networks" not in plain and "temperature" not in plain and "0.071" not in plain


def test_a_distance_is_not_explained_by_an_error() -> None:
    """Of an autoencoder that is scored by distances the error is drawn, and is not the score."""
    described = {"windows": {"aggregate": "mean"}, "architecture": {"parameters": {}}}
    described |= {"task": "reconstruction"}
    scored = {**described, "architecture": {"parameters": {"score": "nearest"}}}
    said = [
        _score_of_errors(cast(Any, SimpleNamespace(description=d))) for d in (described, scored)
    ]
    assert "is the score" in said[0] and "distance" in said[1]
