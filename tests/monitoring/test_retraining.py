"""What has been proposed stays what it is, and new recordings are another proposal. Whole retrainings are
in tests/pipeline/test_retraining.py."""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict
from pathlib import Path

import pytest

from beatline.monitoring import retraining
from beatline.monitoring.answers import Feedback
from beatline.monitoring.cases import Chosen
from beatline.monitoring.retraining import Outcome
from tests.monitoring.logs import BEGINNING, several

KEY = "ecg5000/cnn"
BRANCH = f"retrain/{KEY}/{BEGINNING:%Y-%m-%d}"


def git(*arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.invalid"]
    subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)


@pytest.fixture(autouse=True)
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    git("init", "--quiet", "--initial-branch", "main")
    git("commit", "--quiet", "--allow-empty", "--message", "begin")


def labelled(count: int) -> Chosen:
    return Chosen([Feedback(row, BEGINNING, ["anomaly"]) for row in several(count)], {})


def propose(found: Chosen, branch: str, ref: str) -> None:
    """Leave what a retraining leaves at a reference."""
    name = branch.rpartition("/")[2]
    outcome = Outcome(KEY, branch, 2, "passed", {}, len(found.feedback), {}, found.digest, "")
    path = retraining.REPORTS / KEY / name / "outcome.json"
    git("checkout", "--quiet", "--detach", "main")
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(asdict(outcome)))
    git("add", ".")
    git("commit", "--quiet", "--message", "a challenger")
    git("update-ref", ref, "HEAD")
    git("checkout", "--quiet", "main")


@pytest.mark.parametrize("where", ["refs/heads", "refs/remotes/origin"])
def test_a_proposal_is_not_changed_by_what_is_said_later(where: str) -> None:
    """Neither here nor where it was pushed to: more feedback of the same day has a branch of its own, and
    the same feedback is not learned from again."""
    first, second = labelled(3), labelled(4)
    assert retraining._proposal(KEY, first, set()) == (BRANCH, None)
    propose(first, BRANCH, f"{where}/{BRANCH}")
    branch, outcome = retraining._proposal(KEY, first, set())
    assert branch == BRANCH and outcome is not None and outcome.digest == first.digest
    assert retraining._proposal(KEY, second, set()) == (f"{BRANCH}.2", None)
    propose(second, f"{BRANCH}.2", f"{where}/{BRANCH}.2")
    branch, outcome = retraining._proposal(KEY, second, set())
    assert branch == f"{BRANCH}.2" and outcome is not None


def test_a_snapshot_that_is_merged_keeps_its_name() -> None:
    """Though its branch is deleted."""
    assert retraining._proposal(KEY, labelled(3), {BRANCH.rpartition("/")[2]})[0] == f"{BRANCH}.2"
