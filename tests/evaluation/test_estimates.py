"""Evaluation: what is told of the test records equals scikit-learn's, with names that stay."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import beta, hmean
from sklearn import metrics

from beatline.common.files import sha256, write_json
from beatline.evaluation import bootstrap, estimates, predictions
from beatline.evaluation.estimates import Evaluate
from beatline.evaluation.predictions import Predictions
from beatline.prediction import tasks

CLASSES = ["NORM", "MI", "CD"]
EVALUATE = Evaluate(resamples=100, confidence=0.95, max_fpr=0.1, seed=1)
RECORDS = 120
DETECTORS = ("reconstruction", "neighbours")
MACHINES = ["00", "02", "04"]


def case(task: str, sections: str | None = None) -> tuple[Predictions, pd.DataFrame]:
    """Predictions that are right more often than not, and the table of the records, which name machines
    in the column `sections`."""
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
    model_info = {
        "task": task,
        "classes": classes,
        "thresholds": thresholds,
        "dataset": {"sections": sections},
    }
    decisions = tasks.TASKS[task].decide(values, thresholds)
    return predictions.made(model_info, values, decisions, table), table


def with_people(table: pd.DataFrame) -> pd.DataFrame:
    """The same records of people: two men in three, some of unknown sex or age, 300 for over 89."""
    rng = np.random.default_rng(5)
    people = len(table) // 2
    sex = rng.choice([0, 0, 1, np.nan], people)
    age = rng.choice([30, 39, 40, 59, 60, 79, 80, 300, np.nan], people)
    return table.assign(sex=np.repeat(sex, 2), age=np.repeat(age, 2))


MEMBERS: dict[str, dict[str, Callable[[float], bool]]] = {
    "sex": {"female": lambda sex: sex == 1, "male": lambda sex: sex == 0},
    "age": {
        "under 40": lambda age: age < 40,
        "40 to 59": lambda age: 40 <= age < 60,
        "60 to 79": lambda age: 60 <= age < 80,
        "80 and over": lambda age: age >= 80,
    },
}


def content_of(predicted: Predictions, table: pd.DataFrame, folder: Path) -> dict[str, Any]:
    """The metrics file, as a reader of JSON finds it."""
    found = estimates.estimates(predicted, table, EVALUATE)
    found["seeds"] = [{"seed": 1}]
    predictions.write(folder, predicted)
    about = estimates.about(predicted, EVALUATE, 17, folder / predictions.FILE)
    write_json(folder / "m.json", estimates.metrics_of(predicted, found, about, simulated=True))
    return json.loads((folder / "m.json").read_text())


def value(found: dict[str, Any], name: str) -> float:
    return found["overall"][name]["value"]


@pytest.mark.parametrize("task", ["multilabel", "multiclass", "binary"])
def test_classification_equals_scikit_learn(task: str) -> None:
    """Macro and per-class metrics; exclusive classes have the accuracy of records."""
    model, table = case(task)
    found = estimates.estimates(model, table, EVALUATE)
    y, p, d = table[model.classes].to_numpy(), model.scores, model.decisions
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
    model, table = case(task)
    found = estimates.estimates(model, table, EVALUATE)
    y, s, d = 1 - table["normal"].to_numpy(), model.scores[:, 0], model.decisions[:, 0]
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
    model, table = case(task, "machine_id")
    found = estimates.estimates(model, table, EVALUATE)
    assert list(found["parts"]) == MACHINES
    y, s = 1 - table["normal"].to_numpy(), model.scores[:, 0]
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
        plain = estimates.estimates(*case(task), EVALUATE)
        model, table = case(task, "machine_id")
        assert estimates.estimates(model, table, EVALUATE) == plain
        assert [facet.name for facet in model.facets] == model.classes


@pytest.mark.parametrize("name", ["machine_id", "ward"])
def test_kind_of_the_parts_is_the_column(name: str, tmp_path: Path) -> None:
    """The parts are called what the data set calls its sections."""
    model, table = case("reconstruction", name)
    found = estimates.estimates(model, table, EVALUATE)
    content = content_of(model, table, tmp_path)
    assert [part[name] for part in content["parts"]] == MACHINES
    assert list(estimates.by_class(model, found)["class"]) == MACHINES


@pytest.mark.parametrize("task", list(tasks.TASKS))
def test_intervals(task: str) -> None:
    """Every value lies in its interval; more confidence is a wider one; a seed repeats itself."""
    model, table = case(task)
    found = estimates.estimates(model, table, EVALUATE)
    narrow = EVALUATE.model_copy(update={"confidence": 0.5})
    narrower = estimates.estimates(model, table, narrow)
    for name, estimate in found["overall"].items():
        assert estimate["low"] <= estimate["value"] <= estimate["high"], name
        inner = narrower["overall"][name]
        assert estimate["low"] <= inner["low"] <= inner["high"] <= estimate["high"]
    assert estimates.estimates(model, table, EVALUATE) == found


def test_intervals_are_by_patient() -> None:
    """Two records of a patient are not twice the evidence: all alike, they widen the interval."""
    model, _ = case("binary")
    twins = model.rows(np.repeat(np.arange(0, RECORDS, 2), 2))

    def auc(groups: list[int]) -> dict[str, float]:
        predicted = replace(twins, table=twins.table.assign(group=groups))
        return estimates.measured(predicted, EVALUATE)["overall"]["auc"]

    by_patient = auc([number // 2 for number in range(RECORDS)])
    by_record = auc([*range(RECORDS)])
    width = by_patient["high"] - by_patient["low"]
    assert width > 1.2 * (by_record["high"] - by_record["low"])


@pytest.mark.parametrize("by", list(MEMBERS))
@pytest.mark.parametrize("task", ["multilabel", "multiclass", "binary"])
def test_subgroups_equal_scikit_learn(task: str, by: str) -> None:
    """Each group's metrics are those of its records, found by a mask: macro over the classes that have
    enough records of both kinds there; unknown sex or age belongs to nobody."""
    model, table = case(task)
    table = with_people(table)
    found = estimates.estimates(model, table, EVALUATE)["subgroups"][by]
    assert list(found) == list(MEMBERS[by])
    for name, belongs in MEMBERS[by].items():
        inside = np.array([belongs(one) for one in table[by]])
        y, p = table.loc[inside, model.classes].to_numpy(), model.scores[inside]
        d, of_group = model.decisions[inside], found[name]
        assert of_group["records"] == inside.sum()
        if inside.sum() < estimates.FEWEST:
            assert of_group.keys() == {"records"}
            continue
        patients = table.loc[inside, "group"].to_numpy()
        numbers = [
            [len(set(patients[y[:, k] == kind])) for kind in (0, 1)] for k in range(y.shape[1])
        ]
        both = [k for k, number in enumerate(numbers) if min(number) >= estimates.FEWEST_OF_A_KIND]
        if not both or (task == "multiclass" and len(both) < y.shape[1]):
            assert of_group.keys() == {"records"}
            continue
        positives, y, p, d = y.sum(), y[:, both], p[:, both], d[:, both]
        assert (of_group["positives"], of_group["classes"]) == (positives, len(both))
        auc = np.mean([metrics.roc_auc_score(y[:, k], p[:, k]) for k in range(len(both))])
        f1 = np.mean([metrics.f1_score(y[:, k], d[:, k]) for k in range(len(both))])
        right = (y == d).all(axis=1) if task == "multiclass" else y == d
        assert of_group["auc"]["value"] == pytest.approx(auc)
        assert of_group["f1"]["value"] == pytest.approx(f1)
        assert of_group["accuracy"]["value"] == pytest.approx(right.mean())
    assert sum(of_group["records"] for of_group in found.values()) < RECORDS


@pytest.mark.parametrize("sections", [None, "machine_id"])
def test_subgroups_of_a_detector(sections: str | None) -> None:
    """A subgroup is measured as all are: the mean over machines, in the group's records alone."""
    model, table = case("reconstruction", sections)
    table = with_people(table)
    found = estimates.estimates(model, table, EVALUATE)["subgroups"]["sex"]["male"]
    inside = (table["sex"] == 0).to_numpy()
    y, s = 1 - table["normal"].to_numpy(), model.scores[:, 0]
    machines = table["machine_id"] if sections else pd.Series(["all"] * RECORDS)
    masks = [inside & (machines == name).to_numpy() for name in sorted(set(machines))]
    expected = np.mean([metrics.roc_auc_score(y[mask], s[mask]) for mask in masks])
    assert found["auc"]["value"] == pytest.approx(expected)
    assert (found["records"], found["positives"]) == (inside.sum(), y[inside].sum())


def test_intervals_of_subgroups_are_by_patient() -> None:
    """The patients of the group are drawn again, all of a patient's records with them: the quantiles of
    scikit-learn's AUC over the same draws, written out."""
    model, table = case("binary")
    table = with_people(table)
    found = estimates.estimates(model, table, EVALUATE)["subgroups"]["sex"]["male"]
    inside = (table["sex"] == 0).to_numpy()
    y, p = table.loc[inside, "anomaly"].to_numpy(), model.scores[inside, 0]
    draws = bootstrap.group_weights(table.loc[inside, "group"], EVALUATE.resamples, EVALUATE.seed)
    auc = [metrics.roc_auc_score(np.repeat(y, draw), np.repeat(p, draw)) for draw in draws]
    expected = np.quantile(auc, [0.025, 0.975])
    assert (found["auc"]["low"], found["auc"]["high"]) == pytest.approx(tuple(expected))


def test_what_cannot_be_measured_is_counted() -> None:
    """A group of few records, or of one label alone, has its size and no metric; there are no groups
    where nothing is known of people, or nobody can be told by it."""
    model, table = case("binary")
    assert estimates.estimates(model, table, EVALUATE)["subgroups"] == {}
    few = np.arange(RECORDS) < estimates.FEWEST - 1
    found = estimates.subgroups(model, table.assign(sex=few.astype(int)), EVALUATE)
    assert found.keys() == {"sex"}
    assert found["sex"]["female"] == {"records": estimates.FEWEST - 1}
    assert {"auc", "f1", "records", "positives", "classes"} <= found["sex"]["male"].keys()
    alike = table.assign(sex=table["anomaly"])
    found = estimates.subgroups(model, alike, EVALUATE)["sex"]
    assert found == {name: {"records": len(alike[alike["sex"] == code])}
                     for name, code in {"female": 1, "male": 0}.items()}  # fmt: skip
    for unknown in (np.nan, "unknown"):
        table["sex"], table["age"] = unknown, unknown
        assert estimates.subgroups(model, table, EVALUATE) == {}


@pytest.mark.parametrize("sections", [None, "machine_id"])
@pytest.mark.parametrize("task", list(tasks.TASKS))
def test_metrics_file(task: str, sections: str | None, tmp_path: Path) -> None:
    """Four numbers for the table of `dvc metrics show`, and in lists, which it leaves out, every metric
    of every part, subgroup and seed."""
    model, table = case(task, sections)
    content = content_of(model, with_people(table), tmp_path)
    scalars = {name: item for name, item in content.items() if not isinstance(item, list)}
    assert list(scalars) == ["simulated", "auc", "f1", "accuracy"]
    assert content["simulated"] is True
    assert list(content)[4:] == ["metrics", "parts", "subgroups", "seeds", "about"]
    known = {"auc", "average_precision", "f1", "recall", "precision", "accuracy"}
    of_task = {"pauc"} if task in DETECTORS else {"brier", "calibration_error"}
    overall = {row["metric"]: row for row in content["metrics"]}
    means = {"harmonic_mean"} if task in DETECTORS and sections else set()
    assert overall.keys() == known | of_task | means
    for name in ("auc", "f1", "accuracy"):
        assert overall[name]["low"] <= content[name] == overall[name]["value"]
    names = model.classes if len(model.classes) > 1 else []
    names = MACHINES if sections and task in DETECTORS else names
    assert [part[model.section_column or "class"] for part in content["parts"]] == names
    for row in [*content["parts"], *content["subgroups"][1:2]]:
        assert row["auc_low"] <= row["auc"] <= row["auc_high"]
        ends = {f"{name}{end}" for name in known | of_task for end in ("", "_low", "_high")}
        assert {"positives", *ends} <= row.keys()
    expected = [(by, name) for by, groups in MEMBERS.items() for name in groups]
    assert [(row["by"], row["group"]) for row in content["subgroups"]] == expected
    assert content["seeds"] == [{"seed": 1}]


def test_what_the_numbers_are_of(tmp_path: Path) -> None:
    """Two metrics files tell whether they are of the same records, whatever the records' order."""
    model, table = case("multilabel")
    (about,) = content_of(model, table, tmp_path)["about"]
    assert (about["task"], about["classes"]) == ("multilabel", "NORM, MI, CD")
    assert (about["records"], about["parameters"], about["resamples"]) == (RECORDS, 17, 100)
    assert about["predictions"] == sha256(tmp_path / "predictions.csv")
    order = np.random.default_rng(1).permutation(RECORDS)
    (same,) = content_of(model.rows(order), table.iloc[order], tmp_path)["about"]
    assert same["test_records"] == about["test_records"]
    assert same["predictions"] != about["predictions"]
    for column, of_first in {"record": "x", "group": "x", "MI": 1 - table["MI"].iloc[0]}.items():
        rows = model.table.assign(**{column: [of_first, *table[column].iloc[1:]]})
        (changed,) = content_of(replace(model, table=rows), table, tmp_path)["about"]
        assert changed["test_records"] != about["test_records"]


@pytest.mark.parametrize("task", DETECTORS)
def test_counts_of_a_detector(task: str, tmp_path: Path) -> None:
    """How many records were called anomalous, rightly and wrongly, is told beside the metrics."""
    model, table = case(task)
    (about,) = content_of(model, table, tmp_path)["about"]
    y, d = 1 - table["normal"].to_numpy(), model.decisions[:, 0]
    tn, fp, fn, tp = metrics.confusion_matrix(y, d).ravel().tolist()
    assert [about[name] for name in ("tn", "fp", "fn", "tp")] == [tn, fp, fn, tp]


@pytest.mark.parametrize("sections", [None, "machine_id"])
@pytest.mark.parametrize("task", list(tasks.TASKS))
def test_table_by_class(task: str, sections: str | None) -> None:
    """A row per class or machine with each metric's interval; one row where there is one class."""
    model, table = case(task, sections)
    found = estimates.estimates(model, table, EVALUATE)
    rows = estimates.by_class(model, found)
    of_machines = sections and task in DETECTORS
    assert rows["class"].to_list() == (MACHINES if of_machines else model.classes)
    low, auc, high = (rows[name].to_numpy() for name in ("auc_low", "auc", "auc_high"))
    assert (low <= auc).all() and (auc <= high).all()


def test_time_of_a_prediction() -> None:
    """The median of several tries on one recording alone, in milliseconds, warm-up left out."""
    asked: list[int] = []

    def slow(recordings: np.ndarray) -> None:
        asked.append(len(recordings))
        time.sleep(0.05 if len(asked) <= estimates.WARM_UP else 0.002)

    milliseconds = estimates.time_of_a_prediction(slow, np.zeros((3, 4, 1), dtype=np.float32))
    assert 2 <= milliseconds < 40
    assert asked == [1] * (estimates.WARM_UP + estimates.TIMED)


def test_class_without_test_records(tmp_path: Path) -> None:
    """A class that the test split lacks has no score, and the others keep theirs."""
    model, table = case("multilabel")
    model = replace(model, table=model.table.assign(MI=0))
    found = estimates.estimates(model, table, EVALUATE)
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


@pytest.mark.parametrize("patients", [1, 5, 9, 10])
@pytest.mark.parametrize("task", ["multilabel", "binary", "reconstruction"])
def test_few_patients_have_no_interval(task: str, patients: int) -> None:
    """However many records there are: one patient is drawn again and again, and nothing varies."""
    model, table = case(task)
    few = replace(model, table=model.table.assign(group=np.arange(RECORDS) % patients))
    found = estimates.measured(few, EVALUATE)
    for row in (*found["overall"].values(), *(part["auc"] for part in found["parts"].values())):
        assert np.isfinite([row["low"], row["high"]]).all() == (patients >= 10)
    if patients == 1 and task != "reconstruction":
        assert np.isnan(value(found, "calibration_error"))  # and is not 0
    table = table.assign(group=few.table["group"], sex=np.arange(RECORDS) % 2)
    of_women = estimates.subgroups(few, table, EVALUATE)["sex"]["female"]
    assert ("auc" in of_women) == (patients >= estimates.FEWEST_OF_A_KIND)
    if patients >= estimates.FEWEST_OF_A_KIND:
        assert np.isnan(of_women["auc"]["low"])


def _right(counts: tuple[int, int, int, int]) -> Predictions:
    """A detector with so many true positives, false positives, false negatives and true negatives."""
    y, d = np.repeat([[1, 1], [0, 1], [1, 0], [0, 0]], counts, axis=0).T
    table = pd.DataFrame({"record": np.arange(len(y)), "group": np.arange(len(y)), "a": y})
    table = table.assign(**{"a predicted": (y + d) / 2, "a decided": d})
    return Predictions(tasks.TASKS["binary"], ["a"], [0.5], None, table)


@pytest.mark.parametrize(
    ("counts", "metric", "right", "of"),
    [
        ((0, 3, 7, 40), "recall", 0, 7),
        ((7, 3, 0, 40), "recall", 7, 7),
        ((12, 0, 5, 40), "precision", 12, 12),
        ((0, 4, 5, 40), "precision", 0, 4),
        ((20, 0, 0, 30), "accuracy", 50, 50),
    ],
)
def test_what_never_varies_has_the_interval_of_its_cases(
    counts: tuple[int, int, int, int], metric: str, right: int, of: int
) -> None:
    """None of seven positives is no recall of exactly 0: the interval is the exact one of binomial
    proportions."""
    row = estimates.measured(_right(counts), EVALUATE)["overall"][metric]
    exact = proportion_confint(right, of)
    assert (row["low"], row["high"]) == pytest.approx(exact)


def proportion_confint(right: int, of: int) -> tuple[float, float]:
    """The interval of Clopper & Pearson, by quantiles of the beta distribution."""
    low = beta.ppf(0.025, right, of - right + 1) if right else 0.0
    high = beta.ppf(0.975, right + 1, of - right) if right < of else 1.0
    return float(low), float(high)


def test_f1_and_rankings_that_never_vary_have_a_width() -> None:
    """An F1 of 0 may be as high as all precision and the recall that is open make it; a ranking without
    a mistake may have one among as many records as the rarer kind has."""
    never = estimates.measured(_right((0, 2, 7, 40)), EVALUATE)["overall"]["f1"]
    recall = proportion_confint(0, 7)[1]
    assert (never["low"], never["high"]) == pytest.approx((0, hmean([1, recall])))
    perfect = estimates.measured(_right((15, 0, 0, 40)), EVALUATE)["overall"]
    for name in ("auc", "average_precision", "f1"):
        low, high = proportion_confint(15, 15)
        assert (perfect[name]["low"], perfect[name]["high"]) == pytest.approx((low, high))
    model, _ = case("reconstruction")
    y = np.arange(RECORDS) % 3 == 0
    table = model.table.assign(
        **{"anomaly": y, "anomaly predicted": y + 0.0, "group": range(RECORDS)}
    )
    pauc = estimates.measured(replace(model, table=table), EVALUATE)["overall"]["pauc"]
    share = 1 - proportion_confint(40, 40)[0]
    scores = np.arange(100_000) / 1e6
    normal = np.concatenate([scores[: -int(share * 1e5)], scores[-int(share * 1e5) :] + 9])
    of_share = metrics.roc_auc_score(np.r_[0 * normal, 1], np.r_[normal, 5], max_fpr=0.1)
    assert pauc["high"] == 1 and pauc["low"] == pytest.approx(of_share, abs=1e-3)
