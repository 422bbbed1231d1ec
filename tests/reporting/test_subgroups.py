"""Sex and age groups: measured as scikit-learn does, and with no more said than the records bear."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sklearn.metrics import roc_auc_score

from beatline.common.files import read_csv
from beatline.evaluation.results import Evaluated
from beatline.reporting import results, subgroups
from beatline.reporting.document import Document
from tests.reporting import project
from tests.reporting.reading import rows, section, value


@pytest.fixture(scope="module")
def model(root: Path) -> Evaluated:
    return results.read(project.only("hearts", models=["cnn"]), "hearts", root).models[0]


def _estimate(value: float | None, low: float | None, high: float | None) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high}


def _remarks(model: Evaluated, **group: Any) -> str:
    overall = {**model.estimates["overall"], "auc": _estimate(0.8, 0.75, 0.85)}
    groups = {"sex": {"female": {"records": 100, **group}}}
    changed = {**model.estimates, "overall": overall, "subgroups": groups}
    return " ".join(subgroups.remarks(replace(model, estimates=changed)))


def test_groups_are_measured_as_scikit_learn_does(document: Document, root: Path) -> None:
    """The AUC of women; of the few men there is none; the last row is of all."""
    found = {(row["by"], row["group"]): row for row in rows(section(document, "hearts: cnn"), "by")}
    table = read_csv(root / "data/normalized/hearts/test/records.csv")
    women = (table["sex"] == 1).to_numpy()
    answers = read_csv(root / "data/predictions/hearts/cnn/predictions.csv").loc[women]
    classes = project.HEARTS["classes"]
    expected = roc_auc_score(answers[classes], answers[[f"{name} predicted" for name in classes]])
    assert value(found["sex", "female"]["AUC"]) == pytest.approx(expected, abs=6e-4)
    assert found["sex", "female"]["records"] == str(women.sum())
    assert found["sex", "male"]["AUC"] == "–"  # noqa: RUF001
    assert found["sex", "male"]["records"] == str((~women).sum())
    assert found["all", "–"]["records"] == "24"  # noqa: RUF001
    text = section(document, "hearts: cnn")
    assert "to measure: sex male, age under 40" in text
    assert "| by | group |" not in section(document, "beats: cnn")


def test_a_wide_interval_says_nothing(model: Evaluated) -> None:
    sentences = _remarks(model, auc=_estimate(0.8, 0.6, 0.9))
    assert (
        sentences
        == "The interval of the AUC is too wide to say anything: sex female (0.600 to 0.900)."
    )
    assert _remarks(model, auc=_estimate(0.8, 0.72, 0.88)) == ""


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [(0.6, 0.74, "**below**"), (0.86, 0.95, "**above**"), (0.7, 0.76, ""), (0.84, 0.9, "")],
)
def test_a_group_apart_from_all_is_named(
    model: Evaluated, low: float, high: float, word: str
) -> None:
    """A group is named if its interval does not overlap with that of all records, and only there."""
    sentences = _remarks(model, auc=_estimate((low + high) / 2, low, high))
    assert bool(sentences) == bool(word)
    assert word in sentences


def test_few_patients_are_not_apart(model: Evaluated) -> None:
    """Without an interval nothing lies below; the group is named, and why."""
    sentences = _remarks(model, auc=_estimate(0.4, None, None))
    assert sentences.endswith(": sex female.") and "10 patients" in sentences
    assert "below" not in sentences


def test_a_mean_over_fewer_classes_is_not_compared(model: Evaluated) -> None:
    sentences = _remarks(model, auc=_estimate(0.6, 0.55, 0.65), classes=1)
    assert sentences.endswith("does not compare with that of all: sex female (1 of 2).")
    assert "below" not in sentences


def test_undefined_estimates_are_no_error(model: Evaluated) -> None:
    assert "to measure: sex female." in _remarks(model, auc=_estimate(None, None, None))
    assert "to measure: sex female." in _remarks(model)
    before = {name: part for name, part in model.estimates.items() if name != "subgroups"}
    assert not subgroups.subgroups(replace(model, estimates=before))
