"""The report of a check can be read without anything else, and its state is what the service shows."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from beatline.common.files import read_json
from beatline.monitoring import drift_report, states
from beatline.monitoring.drift import Finding, check
from beatline.monitoring.settings import Drift
from tests.monitoring.watched import KINDS, recordings, records, watched

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def finding(kind: str, gain: float = 1.0, count: int = 60) -> Finding:
    window = records(kind, gain * recordings(kind, count, 11))
    return check(
        watched(kind), replace(window, warnings=[["far"]] * count), Drift(), NOW, (NOW, NOW)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_report_of_every_kind(tmp_path: Path, kind: str) -> None:
    """It names each feature, score and class, has its figures inside, and fetches nothing."""
    made = finding(kind, gain=2)
    page = drift_report.write(tmp_path, made)
    markdown, html = (page.with_suffix(ending).read_text() for ending in (".md", ".html"))
    for name in (*made.families, *(column.name for column in made.columns)):
        assert name in html and name in markdown.replace("\\", "")
    assert "Drift" in markdown and "simulated" in markdown
    for picture in re.findall(r"\]\((figures/[^)]+)\)", markdown):
        assert (page.parent / picture).is_file()
    assert html.count("<figure") == 2
    assert not re.search(r"(src|href)=\"?(https?:)?//", html)


def test_too_few_records_have_a_report_without_numbers_that_nobody_knows(tmp_path: Path) -> None:
    page = drift_report.write(tmp_path, finding("table", count=10))
    assert "nan" not in page.with_suffix(".md").read_text() and page.is_file()


def test_state_is_the_finding(tmp_path: Path) -> None:
    """All of it, to the digits that are written; a later check takes its place."""
    drift_report.write(tmp_path, finding("table", gain=2))
    made = finding("table")
    drift_report.write(tmp_path, made)
    drift_report.write(tmp_path, finding("binary"))
    found = states.drift(tmp_path)
    assert [state["model"] for state in found] == ["binary", "table"]
    state, expected = found[1], asdict(made)
    assert state["p"] == pytest.approx(made.p) and state["verdict"] == made.verdict
    assert datetime.fromisoformat(state["checked"]) == NOW
    assert state["culprits"] == made.culprits
    shifts = [column["shift"] for column in state["columns"]]
    np.testing.assert_allclose(shifts, [each["shift"] for each in expected["columns"]], rtol=1e-5)
    assert state.keys() == {*expected, "culprits", "worse"}


def test_a_state_that_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    """The metrics of the service do not fail because of it; the model's time of a check is missing."""
    page = drift_report.write(tmp_path, finding("table"))
    drift_report.write(tmp_path, finding("binary"))
    (page.parent / states.STATE).write_text("{")
    assert [state["model"] for state in states.drift(tmp_path)] == ["binary"]
    assert states.drift(tmp_path / "nowhere") == []
    assert read_json(tmp_path / "reports/drift/made/binary/drift.json")["records"] == 60
