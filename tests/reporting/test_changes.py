"""What the summary says has changed since the last commit is what Git and the metrics files say."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from beatline.reporting import changes
from beatline.reporting.changes import FOLDER, Committed, committed


def metrics(auc: float, f1: float = 0.5, records: str = "r") -> dict[str, Any]:
    rows = [{"metric": "auc", "value": auc}, {"metric": "f1", "value": f1}]
    return {"metrics": rows, "about": [{"test_records": records}]}


def write(root: Path, **models: dict[str, Any]) -> None:
    for name, content in models.items():
        path = root / FOLDER / "hearts" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))


def hearts(*models: str) -> Sequence[Any]:
    of_models = [SimpleNamespace(model=name) for name in models]
    return [SimpleNamespace(name="hearts", models=of_models, main_metric="auc")]


def since(before: Committed | None, root: Path, *models: str) -> str:
    assert before is not None
    return changes.since(before, hearts(*models), root)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with metrics of two models, committed, of a split, and of an older form."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path, cnn=metrics(0.9), lstm=metrics(0.8), split={"records": 3}, old={"auc": 0.7})
    git("init", "-q")
    git("add", ".")
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "first")
    return tmp_path


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_the_last_commit_is_what_is_compared_with(repository: Path) -> None:
    """By its name; what is not a model's is left out, and what lies there now plays no part."""
    write(repository, cnn=metrics(0.1), mlp=metrics(0.2))
    before = committed()
    assert before and before.revision == git("rev-parse", "--short", "HEAD")
    assert before.metrics == {
        ("hearts", "cnn"): metrics(0.9),
        ("hearts", "lstm"): metrics(0.8),
        ("hearts", "old"): None,
    }


def test_each_change_is_told_and_nothing_else(repository: Path) -> None:
    """A changed metric with both values, a new model, one that is no more, and how many are as before."""
    assert since(committed(), repository, "cnn", "lstm").count("→") == 0
    assert "2 models as before" in since(committed(), repository, "cnn", "lstm")
    write(repository, cnn=metrics(0.95), mlp=metrics(0.6))
    told = since(committed(), repository, "cnn", "lstm", "mlp")
    assert "hearts/cnn: AUC 0.900 → 0.950." in told and told.count("→") == 1
    assert "New: hearts/mlp." in told and "1 model as before" in told
    assert "No more: hearts/old." in told
    assert f"BASE={git('rev-parse', '--short', 'HEAD')}`" in told
    assert len(told.splitlines()) == 1


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (metrics(0.9, f1=0.6), "AUC 0.900 as before, other metrics not"),
        (metrics(0.95, records="s"), "AUC 0.900 → 0.950, other test records"),
    ],
)
def test_what_is_not_told_by_the_main_metric(
    repository: Path, now: dict[str, Any], words: str
) -> None:
    """Another metric has changed, or the values are not of the same records."""
    write(repository, cnn=now)
    assert f"hearts/cnn: {words}." in since(committed(), repository, "cnn", "lstm")


def test_metrics_of_an_older_form_are_said_to_be_such(repository: Path) -> None:
    write(repository, old=metrics(0.7))
    assert "hearts/old: its metrics were of an older form." in since(committed(), repository, "old")


def test_without_git_nothing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container, and in a repository without a commit."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    assert committed() is None
    git("init", "-q")
    assert committed() is None
