"""`beatline log` tells what is in the log of answers, and erases what is about one entity."""

from __future__ import annotations

from pathlib import Path

import pytest

from beatline.cli import main
from beatline.monitoring.answers import AnswerLog
from beatline.monitoring.settings import VARIABLE
from tests.monitoring.logs import several
from tests.serving import project


@pytest.fixture
def where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A log in the project of the current folder."""
    monkeypatch.chdir(project.make(tmp_path))
    monkeypatch.setenv(VARIABLE, "data/monitoring/answers.db")
    with AnswerLog("data/monitoring/answers.db") as log:
        log.write([*several(3, entity="patient-1"), *several(4, entity="patient-2")])
    return "data/monitoring/answers.db"


def mistake(*arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["log", *arguments])
    return str(ended.value)


def test_what_there_is(where: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["log"]) == 0
    lines = dict(line.split(":", 1) for line in capsys.readouterr().out.splitlines())
    assert lines["answers"].split()[0] == "7" and "2026-03-01" in lines["answers"]
    assert lines["entities"].strip() == "2" and lines["feedback"].strip() == "0"


def test_an_entity_is_erased(where: str, capsys: pytest.CaptureFixture[str]) -> None:
    """And a misspelt one is no success, which whoever asked for it would rely on."""
    assert main(["log", "--erase", "patient-1"]) == 0
    assert "3 answers" in capsys.readouterr().out
    with AnswerLog(where) as log:
        assert set(log.window("ptbxl", "cnn").entities) == {"patient-2"}
    assert "patient-1" in mistake("--erase", "patient-1")


def test_without_a_log(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told which key is to be set, or which file is not there."""
    monkeypatch.setenv(VARIABLE, "elsewhere.db")
    assert "elsewhere.db" in mistake() and "elsewhere.db" in mistake("--erase", "x")
    monkeypatch.delenv(VARIABLE)
    assert "monitoring.log" in mistake()
