"""Evaluation: what is told of the test records equals scikit-learn's, with names that stay."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import hmean
from sklearn import metrics
from torch import nn

from beatline import evaluation, tasks
from beatline.bundle import Answers, Bundle
from beatline.evaluation import Evaluate
from beatline.files import write_json

CLASSES = ["NORM", "MI", "CD"]
EVALUATE = Evaluate(resamples=100, confidence=0.95, max_fpr=0.1, seed=1)
RECORDS = 120
DETECTORS = ("reconstruction", "neighbours")
MACHINES = ["00", "02", "04"]


def case(task: str, sections: str | None = None) -> tuple[Bundle, Answers, pd.DataFrame]:
    """A model that is right more often than not, its answers, and the table of the records, which name
    machines in the column `sections`."""
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 3, RECORDS)
    exclusive = np.eye(3, dtype=int)[kind]
    targets = (
        np.maximum(exclusive, rng.random((RECORDS, 3)) < 0.2) if task == "multilabel" else exclusive
    )
    classes = CLASSES
    if task in ("binary", *DETECTORS):
        targets, classes = (kind != 0).astype(int)[:, None], ["anomaly"]
    scores = targets + rng.standard_normal(targets.shape)
    values = scores - scores.min() if task in DETECTORS else 1 / (1 + np.exp(-scores))
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
    if sections:
        table[sections] = [MACHINES[number % 3] for number in range(RECORDS)]
    if task not in DETECTORS:  # a detector is measured by `normal`, whatever classes there are
        table[classes] = targets
    description = {
        "task": task,
        "classes": classes,
        "thresholds": thresholds,
        "dataset": {"simulated": True, "sections": sections},
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
        assert found["parts"] == {}
    else:
        assert list(found["parts"]) == CLASSES
        for k, name in enumerate(CLASSES):
            assert found["parts"][name]["auc"]["value"] == pytest.approx(auc[k])
            assert found["parts"][name]["positives"] == y[:, k].sum()


@pytest.mark.parametrize("task", DETECTORS)
def test_anomalies_equal_scikit_learn(task: str) -> None:
    """AUC, pAUC at the parameter's rate, F1, and the confusion counts."""
    model, answers, table = case(task)
    found = evaluation.estimates(model, answers, table, EVALUATE)
    y, s, d = 1 - table["normal"].to_numpy(), answers.values[:, 0], answers.decisions[:, 0]
    assert value(found, "auc") == pytest.approx(metrics.roc_auc_score(y, s))
    assert value(found, "pauc") == pytest.approx(metrics.roc_auc_score(y, s, max_fpr=0.1))
    assert value(found, "f1") == pytest.approx(metrics.f1_score(y, d))
    tn, fp, fn, tp = metrics.confusion_matrix(y, d).ravel().tolist()
    assert found["counts"] == {"tp": tp, "fp": fp, "tn": tn, "fn": fn}
    assert found["parts"] == {} and "harmonic_mean" not in found["overall"]


@pytest.mark.parametrize("task", DETECTORS)
def test_machines_are_measured_each_on_its_own(task: str) -> None:
    """By machine scikit-learn's numbers on its records alone, which are told by their names as the
    table has them; overall the mean, and the harmonic mean."""
    model, answers, table = case(task, "machine_id")
    found = evaluation.estimates(model, answers, table, EVALUATE)
    assert list(found["parts"]) == MACHINES
    y, s = 1 - table["normal"].to_numpy(), answers.values[:, 0]
    ranking: dict[str, list[float]] = {"auc": [], "pauc": []}
    for name in MACHINES:
        inside = (table["machine_id"] == name).to_numpy()
        ranking["auc"].append(float(metrics.roc_auc_score(y[inside], s[inside])))
        ranking["pauc"].append(float(metrics.roc_auc_score(y[inside], s[inside], max_fpr=0.1)))
        for metric, values in ranking.items():
            assert found["parts"][name][metric]["value"] == pytest.approx(values[-1])
        assert found["parts"][name]["positives"] == y[inside].sum()
    for metric, values in ranking.items():
        assert value(found, metric) == pytest.approx(np.mean(values))
    assert value(found, "harmonic_mean") == pytest.approx(
        hmean([*ranking["auc"], *ranking["pauc"]])
    )


def test_classifiers_pool_the_machines() -> None:
    """Sections are for detectors; a classifier has classes, wherever its records come from."""
    for task in ("multilabel", "multiclass", "binary"):
        plain = evaluation.estimates(*case(task), EVALUATE)
        model, answers, table = case(task, "machine_id")
        assert evaluation.estimates(model, answers, table, EVALUATE) == plain
        assert evaluation.part_kind(model) == "class"


@pytest.mark.parametrize("name", ["machine_id", "ward"])
def test_kind_of_the_parts_is_the_column(name: str) -> None:
    """What the parts are called is what the data set calls its sections."""
    model, answers, table = case("reconstruction", name)
    assert evaluation.part_kind(model) == name
    found = evaluation.estimates(model, answers, table, EVALUATE)
    content = evaluation.metrics_of(model, found)
    assert [part[name] for part in content["parts"]] == MACHINES
    assert list(evaluation.by_class(model, found)["class"]) == MACHINES


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


@pytest.mark.parametrize("sections", [None, "machine_id"])
@pytest.mark.parametrize("task", list(tasks.TASKS))
def test_metrics_file(task: str, sections: str | None, tmp_path: Path) -> None:
    """Few names for the table of `dvc metrics show`, every part with its interval for a reader."""
    model, answers, table = case(task, sections)
    found = evaluation.estimates(model, answers, table, EVALUATE)
    metrics_file = evaluation.metrics_of(model, found)
    write_json(tmp_path / "m.json", metrics_file)
    content = json.loads((tmp_path / "m.json").read_text())
    assert list(content)[:4] == ["simulated", "auc", "auc_low", "auc_high"]
    assert content["simulated"] is True
    if task in DETECTORS:
        assert {"pauc", "f1", "tp", "fp", "tn", "fn"} <= content.keys()
        assert ("harmonic" in content) == bool(sections)
    else:
        assert {"ap", "f1", "recall", "precision", "accuracy", "brier", "ece"} <= content.keys()
    parts = content.get("parts", [])
    names = model.classes if len(model.classes) > 1 else []
    names = MACHINES if sections and task in DETECTORS else names
    assert [part[evaluation.part_kind(model)] for part in parts] == names
    for part in parts:
        assert part["auc_low"] <= part["auc"] <= part["auc_high"]
        assert {"positives", "ap", "f1", "recall", "precision", "accuracy"} <= part.keys()
        assert ({"pauc", "tp", "fp", "tn", "fn"} <= part.keys()) == (task in DETECTORS)
    scalars = {name: item for name, item in content.items() if name != "parts"}
    assert all(isinstance(item, (int, float)) for item in scalars.values())


@pytest.mark.parametrize("sections", [None, "machine_id"])
@pytest.mark.parametrize("task", list(tasks.TASKS))
def test_table_by_class(task: str, sections: str | None) -> None:
    """A row per class or machine with each metric's interval; one row where there is one class."""
    model, answers, table = case(task, sections)
    found = evaluation.estimates(model, answers, table, EVALUATE)
    rows = evaluation.by_class(model, found)
    of_machines = sections and task in DETECTORS
    assert rows["class"].to_list() == (MACHINES if of_machines else model.classes)
    low, auc, high = (rows[name].to_numpy() for name in ("auc_low", "auc", "auc_high"))
    assert (low <= auc).all() and (auc <= high).all()


@pytest.mark.parametrize("sections", [None, "machine_id"])
@pytest.mark.parametrize("task", list(tasks.TASKS))
def test_predictions(task: str, sections: str | None) -> None:
    """A row per test record: who, which machine, what it is, what the model said and decided."""
    model, answers, table = case(task, sections)
    rows = evaluation.predictions(model, answers, table)
    columns = ["record", "group", "normal", *([sections] if sections else [])]
    for name in model.classes:
        columns += [name, f"{name} predicted", f"{name} decided"]
    assert list(rows.columns) == columns
    for name in ("record", *([sections] if sections else [])):
        assert rows[name].to_list() == table[name].to_list()
    for k, name in enumerate(model.classes):
        assert np.array_equal(rows[f"{name} predicted"].to_numpy(), answers.values[:, k])
        assert np.array_equal(rows[f"{name} decided"].to_numpy(), answers.decisions[:, k])
        assert np.array_equal(rows[name].to_numpy(), evaluation.targets_of(model, table)[:, k])


def test_time_of_an_answer() -> None:
    """The median of several tries on one recording alone, in milliseconds, warm-up left out."""
    asked: list[int] = []

    class Slow(nn.Module):
        def forward(self, recordings: torch.Tensor) -> torch.Tensor:
            asked.append(len(recordings))
            time.sleep(0.05 if len(asked) <= evaluation.WARM_UP else 0.002)
            return recordings.sum(dim=1)

    description = {
        "task": "binary",
        "classes": ["anomaly"],
        "thresholds": [0.5],
        "windows": {"length": 0, "stride": 1, "aggregate": "mean"},
    }
    signals = np.zeros((3, 4, 1), dtype=np.float32)
    milliseconds = evaluation.time_of_an_answer(Bundle(Slow(), description), signals)
    assert 2 <= milliseconds < 40
    assert asked == [1] * (evaluation.WARM_UP + evaluation.TIMED)


def test_class_without_test_records(tmp_path: Path) -> None:
    """A class that the test split lacks has no score, and the others keep theirs."""
    model, answers, table = case("multilabel")
    table["MI"] = 0
    found = evaluation.estimates(model, answers, table, EVALUATE)
    assert np.isnan(found["parts"]["MI"]["auc"]["value"])
    others = [found["parts"][name]["auc"]["value"] for name in ("NORM", "CD")]
    assert value(found, "auc") == pytest.approx(np.mean(others))
    write_json(tmp_path / "e.json", found)
    assert json.loads((tmp_path / "e.json").read_text())["parts"]["MI"]["auc"]["value"] is None


@pytest.mark.parametrize(
    "wrong", [{"resamples": 10}, {"confidence": 1.0}, {"max_fpr": 0.0}, {"seed": -1}, {"seeds": 1}]
)
def test_impossible_parameters(wrong: dict[str, Any]) -> None:
    """The block `evaluate` is held to its schema."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Evaluate.model_validate({**EVALUATE.model_dump(), **wrong})
