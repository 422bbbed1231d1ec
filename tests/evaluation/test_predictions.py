"""predictions.csv: who reads it knows which columns are meant, whatever else stands there."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from beatline.common import sums
from beatline.common.errors import UserError
from beatline.common.files import write_csv, write_json
from beatline.evaluation import predictions, results
from beatline.evaluation.predictions import Predictions
from beatline.prediction import tasks

RECORDS = 6


def info(task: str, classes: list[str], sections: str | None = None) -> dict[str, Any]:
    """The columns as model.json has them."""
    thresholds = [] if task == "multiclass" else [0.5] * len(classes)
    dataset = {"sections": sections}
    return {"task": task, "classes": classes, "thresholds": thresholds, "dataset": dataset}


def told(predicted: Predictions) -> dict[str, Any]:
    """The columns as the metrics file has them."""
    column = predicted.section_column
    parts = [{column or "class": facet.name, "auc": 0.5} for facet in predicted.facets]
    if not column and len(parts) == 1:
        parts = []
    about = {"task": predicted.task.name, "classes": ", ".join(predicted.classes)}
    return {"parts": parts, "about": [about]}


def predicted_by(model_info: dict[str, Any]) -> Predictions:
    rng = np.random.default_rng(0)
    classes = model_info["classes"]
    records = pd.DataFrame({"record": [f"0{number}" for number in range(RECORDS)]})
    records["group"], records["normal"] = records["record"], rng.integers(0, 2, RECORDS)
    records[classes] = np.eye(len(classes), dtype=int)[rng.integers(0, len(classes), RECORDS)]
    records["machine_id"] = ["00", "01"] * (RECORDS // 2)
    values = rng.random((RECORDS, len(classes))).astype(np.float32)
    decisions = tasks.TASKS[model_info["task"]].decide(values, model_info["thresholds"])
    return predictions.made(model_info, values, decisions, records)


CASES = [
    info("multilabel", ["NORM", "MI"]),
    info("multiclass", ["0", "1", "2"]),
    info("multilabel", ["a, b", "b", "c"]),  # a comma in a name
    info("binary", ["anomaly"]),
    info("binary", ["anomaly"], "machine_id"),  # of a classifier, which pools machines
    info("reconstruction", ["anomaly"]),
    info("neighbours", ["anomaly"], "machine_id"),
]


@pytest.mark.parametrize("model_info", CASES)
def test_header_and_columns(model_info: dict[str, Any]) -> None:
    """Who, which machine, what it is, and of each class what the model said and decided."""
    predicted = predicted_by(model_info)
    sections = model_info["dataset"]["sections"]
    columns = ["record", "group", "normal", *([sections] if sections else [])]
    for name in model_info["classes"]:
        columns += [name, f"{name} predicted", f"{name} decided"]
    assert list(predicted.table.columns) == columns
    if predicted.task.learns_normal_only:
        assert (predicted.targets[:, 0] == 1 - predicted.table["normal"]).all()
        assert predicted.section_column == sections
    else:
        assert predicted.section_column is None
        assert [facet.name for facet in predicted.facets] == model_info["classes"]


@pytest.mark.parametrize("further", [False, True])
@pytest.mark.parametrize("model_info", CASES)
def test_what_is_written_is_read(model_info: dict[str, Any], further: bool, tmp_path: Path) -> None:
    """By model.json or by the metrics file, and as if further columns were not there, even one that
    looks like a class."""
    predicted = predicted_by(model_info)
    predictions.write(tmp_path, predicted)
    path = tmp_path / predictions.FILE
    if further:
        table = pd.read_csv(path, dtype=str)
        table.insert(2, "age", "")
        write_csv(path, table.assign(**{"X": 1, "X predicted": 0.5, "X decided": 1, "ward": "a"}))
    sums.seal(tmp_path)
    parsed = [
        predictions.parse(path.read_bytes(), each, "x") for each in (told(predicted), model_info)
    ]
    for found in (*parsed, predictions.read(tmp_path, model_info)):
        assert found.classes == predicted.classes
        assert (found.task, found.section_column) == (predicted.task, predicted.section_column)
        assert list(found.table["record"]) == list(predicted.table["record"])
        for one, other in zip(found.facets, predicted.facets, strict=True):
            assert one.name == other.name
            for part in ("inside", "targets", "decisions"):
                assert np.array_equal(getattr(one, part), getattr(other, part))
            assert np.array_equal(one.scores.astype(np.float32), other.scores)


@pytest.mark.parametrize(
    "column", ["record", "group", "machine_id", "anomaly", "anomaly predicted", "anomaly decided"]
)
def test_a_missing_column_is_named(column: str, tmp_path: Path) -> None:
    predicted = predicted_by(CASES[-1])
    predictions.write(tmp_path, predicted)
    path = tmp_path / predictions.FILE
    write_csv(path, pd.read_csv(path).drop(columns=column))
    sums.seal(tmp_path)
    with pytest.raises(UserError, match=f"has no column {column}: .*beatline repair"):
        predictions.read(tmp_path, CASES[-1])
    for told_by in (told(predicted), CASES[-1]):
        with pytest.raises(UserError, match=f"^main has no column {column}: .*beatline repair"):
            predictions.parse(path.read_bytes(), told_by, "main")


def test_half_a_file_is_damaged(tmp_path: Path) -> None:
    """Cut off within a row, or empty."""
    predicted = predicted_by(CASES[0])
    predictions.write(tmp_path, predicted)
    content = (tmp_path / predictions.FILE).read_bytes()
    for damaged in (content[:-12], b""):
        with pytest.raises(UserError, match=r"^x (has gaps|is not a CSV table).*beatline repair"):
            predictions.parse(damaged, told(predicted), "x")


def test_all_that_is_known_of_a_model_is_read(tmp_path: Path) -> None:
    """Predictions, history, estimates, and what training and predicting took."""
    predicted = predicted_by(CASES[0])
    predictions.write(tmp_path, predicted)
    write_json(tmp_path / "model.json", CASES[0])
    write_csv(tmp_path / "history.csv", pd.DataFrame({"epoch": [1, 2]}))
    write_json(tmp_path / "estimates.json", {"overall": {}})
    sums.seal(tmp_path)
    durations = tmp_path.parent / "durations"
    for name, key, value in (
        ("train.json", "train_seconds", 12.5),
        ("predict.json", "predict_milliseconds", 0.75),
    ):
        sums.write_sealed_json(durations / name, {key: value})
    found = results.load("cnn", tmp_path, tmp_path, durations)
    assert found.durations == {"train_seconds": 12.5, "predict_milliseconds": 0.75}
    assert (found.model, found.classes, len(found.history)) == ("cnn", ["NORM", "MI"], 2)
    for name in ("estimates.json", "history.csv", "predictions.csv", "model.json"):
        shutil.copytree(tmp_path, copy := tmp_path.parent / f"without {name}")
        (copy / name).unlink()
        with pytest.raises(UserError, match=f"{name} is missing"):
            results.load("cnn", copy, copy, durations)
    (durations / "predict.json").unlink()
    with pytest.raises(UserError, match=r"predict\.json is missing"):
        results.load("cnn", tmp_path, tmp_path, durations)


@pytest.mark.parametrize("model_info", CASES, ids=str)
def test_the_table_says_which_records_are_wrong(tmp_path: Path, model_info: dict[str, Any]) -> None:
    """A person filters by one column, whatever the task, and finds those whose decisions differ."""
    predicted = predicted_by(model_info)
    predictions.write(tmp_path, predicted)
    table = pd.read_csv(tmp_path / predictions.FILE)
    wrong = [
        any(row[name] != row[f"{name} decided"] for name in model_info["classes"])
        for _, row in table.iterrows()
    ]
    assert table["wrong"].tolist() == list(map(int, wrong))
    assert sum(wrong) > 0


def test_predictions_of_before_the_column_wrong_are_read(tmp_path: Path) -> None:
    """Older files lie in caches and at older revisions; they compare with new ones."""
    model_info = CASES[0]
    predicted = predicted_by(model_info)
    predictions.write(tmp_path, predicted)
    new = (tmp_path / predictions.FILE).read_bytes()
    old = predicted.table.to_csv(index=False).encode()
    assert b"wrong" not in old
    for told_by in (model_info, told(predicted)):
        before, after = (predictions.parse(content, told_by, "here") for content in (old, new))
        assert list(before.table.columns) == list(after.table.columns)
        np.testing.assert_array_equal(before.decisions, after.decisions)
        np.testing.assert_allclose(before.scores, after.scores, rtol=1e-6)


def test_a_class_called_as_the_column_is_refused(tmp_path: Path) -> None:
    """Two columns of one name would be read as one."""
    with pytest.raises(UserError, match=r"class is called wrong.*another name"):
        predictions.write(tmp_path, predicted_by(info("multilabel", ["right", "wrong"])))
    assert not list(tmp_path.iterdir())
