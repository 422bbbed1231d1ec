"""Evaluation: what is told of the test records equals scikit-learn's, with names that stay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics
from torch import nn

from beatline import evaluation, tasks
from beatline.bundle import Answers, Bundle
from beatline.evaluation import Evaluate
from beatline.files import write_json

CLASSES = ["NORM", "MI", "CD"]
EVALUATE = Evaluate(resamples=100, confidence=0.95, max_fpr=0.1, seed=1)
RECORDS = 120


def case(task: str) -> tuple[Bundle, Answers, pd.DataFrame]:
    """A model that is right more often than not, its answers, and the table of the records."""
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 3, RECORDS)
    exclusive = np.eye(3, dtype=int)[kind]
    targets = (
        np.maximum(exclusive, rng.random((RECORDS, 3)) < 0.2) if task == "multilabel" else exclusive
    )
    classes = CLASSES
    if task in ("anomaly", "binary"):
        targets, classes = (kind != 0).astype(int)[:, None], ["anomaly"]
    scores = targets + rng.standard_normal(targets.shape)
    values = scores - scores.min() if task == "anomaly" else 1 / (1 + np.exp(-scores))
    if task == "multiclass":
        values = values / values.sum(axis=1, keepdims=True)
    thresholds = [] if task == "multiclass" else [float(np.median(values))] * len(classes)
    table = pd.DataFrame(
        {
            "record": [f"{number:03d}" for number in range(RECORDS)],
            "group": [str(number // 2) for number in range(RECORDS)],
            "normal": (kind == 0).astype(int),
        }
    )
    if task != "anomaly":  # a detector is measured by `normal`, whatever classes there are
        table[classes] = targets
    description = {
        "task": task,
        "classes": classes,
        "thresholds": thresholds,
        "dataset": {"simulated": True},
    }
    decisions = tasks.TASKS[task].decide(values, thresholds)
    return Bundle(nn.Identity(), description), Answers(classes, values, decisions), table


def value(found: dict[str, Any], name: str) -> float:
    return found["overall"][name]["value"]


@pytest.mark.parametrize("task", ["multilabel", "multiclass", "binary"])
def test_classification_equals_scikit_learn(task: str) -> None:
    """Macro and per-class metrics; exclusive classes have the accuracy of records."""
    model, answers, table = case(task)
    found = evaluation.estimates(model, answers, table, EVALUATE)
    y, p, d = table[model.classes].to_numpy(), answers.values, answers.decisions
    auc = [metrics.roc_auc_score(y[:, k], p[:, k]) for k in range(y.shape[1])]
    f1 = [metrics.f1_score(y[:, k], d[:, k]) for k in range(y.shape[1])]
    brier = [metrics.brier_score_loss(y[:, k], p[:, k]) for k in range(y.shape[1])]
    assert value(found, "auc") == pytest.approx(np.mean(auc))
    assert value(found, "f1") == pytest.approx(np.mean(f1))
    assert value(found, "brier") == pytest.approx(np.mean(brier))
    right = (y == d).all(axis=1) if task == "multiclass" else (y == d)
    assert value(found, "accuracy") == pytest.approx(right.mean())
    if task == "binary":
        assert found["classes"] == {}
    else:
        assert list(found["classes"]) == CLASSES
        for k, name in enumerate(CLASSES):
            assert found["classes"][name]["auc"]["value"] == pytest.approx(auc[k])
            assert found["classes"][name]["positives"] == y[:, k].sum()


def test_anomalies_equal_scikit_learn() -> None:
    """AUC, pAUC at the parameter's rate, F1, and the confusion counts."""
    model, answers, table = case("anomaly")
    found = evaluation.estimates(model, answers, table, EVALUATE)
    y, s, d = 1 - table["normal"].to_numpy(), answers.values[:, 0], answers.decisions[:, 0]
    assert value(found, "auc") == pytest.approx(metrics.roc_auc_score(y, s))
    assert value(found, "pauc") == pytest.approx(metrics.roc_auc_score(y, s, max_fpr=0.1))
    assert value(found, "f1") == pytest.approx(metrics.f1_score(y, d))
    tn, fp, fn, tp = metrics.confusion_matrix(y, d).ravel().tolist()
    assert found["counts"] == {"tp": tp, "fp": fp, "tn": tn, "fn": fn}


@pytest.mark.parametrize("task", list(tasks.TASKS))
def test_intervals(task: str) -> None:
    """Every value lies in its interval; more confidence is a wider one; a seed repeats itself."""
    model, answers, table = case(task)
    found = evaluation.estimates(model, answers, table, EVALUATE)
    narrow = EVALUATE.model_copy(update={"confidence": 0.5})
    narrower = evaluation.estimates(model, answers, table, narrow)
    for name, estimate in found["overall"].items():
        assert estimate["low"] <= estimate["value"] <= estimate["high"] or name == "ece"
        inner = narrower["overall"][name]
        assert estimate["low"] <= inner["low"] <= inner["high"] <= estimate["high"]
    assert evaluation.estimates(model, answers, table, EVALUATE) == found


def test_intervals_are_by_patient() -> None:
    """Two records of a patient are not twice the evidence: all alike, they widen the interval."""
    model, answers, table = case("binary")
    first = np.repeat(np.arange(0, RECORDS, 2), 2)
    twins = Answers(answers.classes, answers.values[first], answers.decisions[first])
    table = table.iloc[first].reset_index(drop=True)
    table["group"] = [str(number // 2) for number in range(RECORDS)]
    by_patient = evaluation.estimates(model, twins, table, EVALUATE)["overall"]["auc"]
    alone = table.assign(group=[str(number) for number in range(RECORDS)])
    by_record = evaluation.estimates(model, twins, alone, EVALUATE)["overall"]["auc"]
    width = by_patient["high"] - by_patient["low"]
    assert width > 1.2 * (by_record["high"] - by_record["low"])


@pytest.mark.parametrize("task", list(tasks.TASKS))
def test_metrics_file(task: str, tmp_path: Path) -> None:
    """Few names for the table of `dvc metrics show`, every class with its interval for a reader."""
    model, answers, table = case(task)
    found = evaluation.estimates(model, answers, table, EVALUATE)
    metrics_file = evaluation.metrics_of(model, found)
    write_json(tmp_path / "m.json", metrics_file)
    content = json.loads((tmp_path / "m.json").read_text())
    assert list(content)[:4] == ["simulated", "auc", "auc_low", "auc_high"]
    assert content["simulated"] is True
    if task == "anomaly":
        assert {"pauc", "f1", "tp", "fp", "tn", "fn"} <= content.keys()
    else:
        assert {"ap", "f1", "recall", "precision", "accuracy", "brier", "ece"} <= content.keys()
    of_classes = content.get("classes", [])
    assert [one["class"] for one in of_classes] == (model.classes if len(model.classes) > 1 else [])
    for one in of_classes:
        assert one["auc_low"] <= one["auc"] <= one["auc_high"]
        assert {"positives", "ap", "f1", "brier", "ece"} <= one.keys()


@pytest.mark.parametrize("task", list(tasks.TASKS))
def test_table_by_class(task: str) -> None:
    """A row per class with each metric's interval; one row where there is one class."""
    model, answers, table = case(task)
    found = evaluation.estimates(model, answers, table, EVALUATE)
    rows = evaluation.by_class(model, found)
    assert rows["class"].to_list() == model.classes
    low, auc, high = (rows[name].to_numpy() for name in ("auc_low", "auc", "auc_high"))
    assert (low <= auc).all() and (auc <= high).all()


@pytest.mark.parametrize("task", list(tasks.TASKS))
def test_predictions(task: str) -> None:
    """A row per test record: who, what it is, what the model said and decided."""
    model, answers, table = case(task)
    rows = evaluation.predictions(model, answers, table)
    columns = ["record", "group", "normal"]
    for name in model.classes:
        columns += [name, f"{name} predicted", f"{name} decided"]
    assert list(rows.columns) == columns
    assert rows["record"].to_list() == table["record"].to_list()
    for k, name in enumerate(model.classes):
        assert np.array_equal(rows[f"{name} predicted"].to_numpy(), answers.values[:, k])
        assert np.array_equal(rows[f"{name} decided"].to_numpy(), answers.decisions[:, k])
        assert np.array_equal(rows[name].to_numpy(), evaluation.targets_of(model, table)[:, k])


def test_class_without_test_records(tmp_path: Path) -> None:
    """A class that the test split lacks has no score, and the others keep theirs."""
    model, answers, table = case("multilabel")
    table["MI"] = 0
    found = evaluation.estimates(model, answers, table, EVALUATE)
    assert np.isnan(found["classes"]["MI"]["auc"]["value"])
    others = [found["classes"][name]["auc"]["value"] for name in ("NORM", "CD")]
    assert value(found, "auc") == pytest.approx(np.mean(others))
    write_json(tmp_path / "e.json", found)
    assert json.loads((tmp_path / "e.json").read_text())["classes"]["MI"]["auc"]["value"] is None


@pytest.mark.parametrize(
    "wrong", [{"resamples": 10}, {"confidence": 1.0}, {"max_fpr": 0.0}, {"seed": -1}, {"seeds": 1}]
)
def test_impossible_parameters(wrong: dict[str, Any]) -> None:
    """The block `evaluate` is held to its schema."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Evaluate.model_validate({**EVALUATE.model_dump(), **wrong})
