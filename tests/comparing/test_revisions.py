"""Reading a revision, older ones included."""

from __future__ import annotations

import json
from typing import Any

import pytest

from beatline.common.errors import UserError
from beatline.comparing.revisions import ABOUT, Revision

PREDICTIONS = """record,group,normal,machine_id,anomaly,anomaly predicted,anomaly decided
a,a,1,00,0,0.25,0
b,b,0,02,1,1.5,1
"""
MODEL = {
    "task": "reconstruction",
    "classes": ["anomaly"],
    "thresholds": [1.0],
    "dataset": {"sections": "machine_id"},
}
METRICS = {
    "metrics": [{"metric": "auc", "value": 1, "low": 1, "high": 1}],
    "parts": [{"machine_id": "00", "auc": 0.5}, {"machine_id": "02", "auc": 0.5}],
    "about": [{**dict.fromkeys(ABOUT, 0), "task": "reconstruction", "classes": "anomaly"}],
}


class Stored(Revision):
    """A revision that holds these files and nothing else."""

    def __init__(self, predictions: str | None, **told_by: Any) -> None:
        self.name = "main"
        self.files = {"data/predictions/d/m/predictions.csv": predictions}
        paths = {"metrics": "reports/metrics/d/m.json", "model": "data/models/d/m/model.json"}
        self.files |= {paths[name]: json.dumps(content) for name, content in told_by.items()}

    def content(self, path: str) -> bytes | None:
        text = self.files.get(path)
        return None if text is None else text.encode()


OLD_METRICS = {"auc": 0.5}  # of before metrics had intervals


@pytest.mark.parametrize(
    "told_by", [{"metrics": METRICS}, {"model": MODEL}, {"metrics": OLD_METRICS, "model": MODEL}]
)
def test_a_further_column_changes_nothing(told_by: dict[str, Any]) -> None:
    """The age of whom was recorded is not taken for the machine; a revision whose metrics tell nothing
    is read by its model."""
    lines = PREDICTIONS.splitlines()
    with_age = "\n".join(
        [f"age,{lines[0]}", *(f"{number}0,{line}" for number, line in enumerate(lines[1:]))]
    )
    plain, aged = (
        Stored(text, **told_by).predictions("d", "m") for text in (PREDICTIONS, with_age)
    )
    assert plain and aged
    assert (aged.classes, aged.section_column) == (["anomaly"], "machine_id")
    assert aged.table.equals(plain.table)
    assert [facet.name for facet in aged.facets] == ["00", "02"]


def test_a_missing_column_is_one_sentence() -> None:
    with pytest.raises(
        UserError, match=r"predictions\.csv of main has no column machine_id: .*beatline repair"
    ):
        Stored(PREDICTIONS.replace("machine_id", "age"), metrics=METRICS).predictions("d", "m")


def test_what_is_not_at_hand_is_none() -> None:
    """Neither predictions, nor anything that tells what they are."""
    assert Stored(None, metrics=METRICS).predictions("d", "m") is None
    assert Stored(PREDICTIONS).predictions("d", "m") is None


def test_a_revision_from_before_tasks_and_machines_is_read() -> None:
    """Its task has no model any more, and differs from all of today's."""
    old = {"task": "anomaly", "classes": ["anomaly"], "thresholds": [1.0], "dataset": {}}
    found = Stored(PREDICTIONS.replace("machine_id", "ward"), model=old).predictions("d", "m")
    assert found
    assert (found.task.name, found.section_column, found.classes) == ("anomaly", None, ["anomaly"])
