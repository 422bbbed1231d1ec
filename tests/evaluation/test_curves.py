"""Tables behind the pictures: the same points that scikit-learn gives, and counts that add up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import auc, confusion_matrix, precision_recall_curve, roc_curve

from beatline.evaluation import curves, predictions
from beatline.evaluation.predictions import Predictions
from beatline.prediction import tasks

RECORDS = 60


HISTORY = pd.DataFrame(
    {
        "epoch": [1, 2],
        "train_loss": [0.5, 0.4],
        "validation_loss": [0.6, np.nan],
        "validation_auc": [0.7, np.nan],
        "learning_rate": [0.1, 0.01],
    }
)


def _predicted(
    task: str, classes: list[str], targets: np.ndarray, values: np.ndarray, thresholds: list[float]
) -> Predictions:
    """Predictions on records of no data set."""
    info = {
        "task": task,
        "classes": classes,
        "thresholds": thresholds,
        "dataset": {"sections": None},
    }
    records = pd.DataFrame({"record": [f"r{number}" for number in range(len(targets))]})
    records = records.assign(group=records["record"], normal=1 - targets.max(axis=1))
    records[classes] = targets
    decisions = tasks.TASKS[task].decide(values, thresholds)
    return predictions.made(info, values, decisions, records)


@pytest.fixture
def multilabel() -> Predictions:
    rng = np.random.default_rng(3)
    targets = rng.integers(0, 2, (RECORDS, 2))
    values = np.clip(targets * 0.3 + rng.uniform(0, 0.7, (RECORDS, 2)), 0, 1)
    return _predicted("multilabel", ["A", "B"], targets, values, [0.4, 0.6])


@pytest.fixture
def multiclass() -> Predictions:
    rng = np.random.default_rng(4)
    targets = np.eye(3, dtype=int)[rng.integers(0, 3, RECORDS)]
    values = rng.dirichlet(np.ones(3), RECORDS) * 0.5 + targets * 0.5 * rng.random((RECORDS, 1))
    return _predicted("multiclass", list("XYZ"), targets, values / values.sum(1)[:, None], [])


@pytest.fixture
def anomaly() -> Predictions:
    rng = np.random.default_rng(5)
    targets = np.arange(RECORDS)[:, None] % 3 == 0
    values = rng.exponential(1 + 3 * targets)
    return _predicted("reconstruction", ["anomaly"], targets.astype(int), values, [2.0])


@pytest.fixture
def machines(anomaly: Predictions) -> Predictions:
    """The same detector, whose records are of two machines with names that look like numbers."""
    names = [f"0{number % 2}" for number in range(RECORDS)]
    table = anomaly.table.assign(machine_id=names)
    return replace(anomaly, section_column="machine_id", table=table)


def _of(table: pd.DataFrame, name: str) -> pd.DataFrame:
    return table.loc[table["class"] == name, :]


def test_roc_is_scikit_learns(multilabel: Predictions) -> None:
    table = curves.roc(multilabel)
    for k, name in enumerate(multilabel.classes):
        mine = _of(table, name)
        fpr, tpr, _ = roc_curve(multilabel.targets[:, k], multilabel.scores[:, k])
        points = set(zip(fpr.round(9), tpr.round(9), strict=True))
        assert set(zip(mine["fpr"].round(9), mine["tpr"].round(9), strict=True)) <= points
        assert auc(mine["fpr"], mine["tpr"]) == pytest.approx(auc(fpr, tpr))


def test_precision_and_recall_are_scikit_learns(multilabel: Predictions) -> None:
    table = curves.precision_recall(multilabel)
    for k, name in enumerate(multilabel.classes):
        mine = _of(table, name)
        precision, recall, _ = precision_recall_curve(
            multilabel.targets[:, k], multilabel.scores[:, k]
        )
        points = set(zip(recall.round(9), precision.round(9), strict=True))
        assert set(zip(mine["recall"].round(9), mine["precision"].round(9), strict=True)) <= points
        assert (np.diff(mine["recall"]) >= 0).all()


def test_calibration_is_scikit_learns(multilabel: Predictions) -> None:
    table = curves.calibration(multilabel)
    for k, name in enumerate(multilabel.classes):
        observed, predicted = calibration_curve(
            multilabel.targets[:, k], multilabel.scores[:, k], n_bins=curves.CALIBRATION_BINS
        )
        mine = _of(table, name)
        np.testing.assert_allclose(mine["observed"], observed)
        np.testing.assert_allclose(mine["predicted"], predicted)
        assert sum(mine["records"]) == RECORDS


def test_confusion_of_each_class_is_scikit_learns(multilabel: Predictions) -> None:
    table = curves.confusion(multilabel)
    for k, name in enumerate(multilabel.classes):
        mine = _of(table, name)["records"].to_numpy().reshape(2, 2)
        theirs = confusion_matrix(multilabel.targets[:, k], multilabel.decisions[:, k])
        np.testing.assert_array_equal(mine, theirs)


def test_confusion_of_exclusive_classes_is_class_against_class(multiclass: Predictions) -> None:
    table = curves.confusion(multiclass)
    assert set(table["class"]) == {curves.ALL_CLASSES}
    mine = table.pivot(index="actual", columns="predicted", values="records").to_numpy()
    theirs = confusion_matrix(multiclass.targets.argmax(1), multiclass.decisions.argmax(1))
    np.testing.assert_array_equal(mine, theirs)


def test_score_histograms_hold_every_record_once(
    multilabel: Predictions, multiclass: Predictions, anomaly: Predictions
) -> None:
    """Also scores beyond the last edge; the threshold stands in every row, if there is one."""
    for model in (multilabel, multiclass, anomaly):
        table = curves.scores(model)
        assert len(table) == 2 * len(model.classes) * curves.BINS
        shares = table["share"].to_numpy().reshape(-1, curves.BINS)
        np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert np.isnan(curves.scores(multiclass)["threshold"]).all()
    assert set(curves.scores(multilabel)["threshold"]) == {0.4, 0.6}
    end = max(curves.scores(anomaly)["high"])
    assert anomaly.thresholds[0] < end < anomaly.scores.max()


def test_no_curve_of_a_detector_pools_machines(machines: Predictions) -> None:
    """Each machine has curves, counts and a histogram of its own records alone."""
    tables = curves.tables({}, {"m": machines})
    for kind in ("roc", "precision_recall", "confusion", "scores"):
        assert list(dict.fromkeys(tables[kind]["class"])) == ["00", "01"]
    for name in ("00", "01"):
        inside = (machines.table["machine_id"] == name).to_numpy()
        targets, scores = machines.targets[inside, 0], machines.scores[inside, 0]
        fpr, tpr, _ = roc_curve(targets, scores)
        mine = _of(tables["roc"], name)
        assert auc(mine["fpr"], mine["tpr"]) == pytest.approx(auc(fpr, tpr))
        counts = _of(tables["confusion"], name)["records"].to_numpy().reshape(2, 2)
        np.testing.assert_array_equal(counts, confusion_matrix(targets, scores >= 2.0))
        assert set(_of(tables["scores"], name)["threshold"]) == {2.0}


def test_a_class_without_positives_has_a_histogram_and_no_curve() -> None:
    values = np.linspace(0, 1, 10)[:, None]
    model = _predicted("binary", ["A"], np.zeros((10, 1), int), values, [0.5])
    tables = curves.tables({}, {"m": model})
    assert "roc" not in tables
    assert "precision_recall" not in tables
    assert sum(tables["scores"].query("actual == 'yes'")["share"]) == 0


def test_histories_leave_out_what_is_not_defined() -> None:
    loss = curves.loss(HISTORY)
    assert list(loss.columns) == ["epoch", "split", "loss"]
    assert loss["loss"].tolist() == [0.5, 0.4, 0.6]
    assert curves.auc(HISTORY)["auc"].tolist() == [0.7]
    assert curves.learning_rate(HISTORY)["learning_rate"].tolist() == [0.1, 0.01]


def test_all_models_of_a_data_set_stand_in_one_table(
    multilabel: Predictions, anomaly: Predictions
) -> None:
    """One picture for several models; an anomaly score is no probability and is not calibrated."""
    histories = {"m": HISTORY, "n": HISTORY}
    tables = curves.tables(histories, {"m": multilabel, "n": anomaly})
    assert set(tables) == set(curves.KINDS)
    for kind, table in tables.items():
        models = {"m"} if kind == "calibration" else {"m", "n"}
        assert set(table["model"]) == models, kind
        assert table.columns[0] == "model"
    assert "calibration" not in curves.tables({}, {"n": anomaly})
    assert curves.tables({}, {}) == {}
