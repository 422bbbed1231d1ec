"""`make watch` on a fresh clone, as CI calls it: trained models come from DVC's cache or a remote."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT

DVC = (sys.executable, "-m", "dvc")
PIPELINE = """
stages:
  train_cnn:
    foreach: [ecg5000]
    do:
      cmd: mkdir -p data/models/${item}/cnn && echo x > data/models/${item}/cnn/model.json
      outs: ["data/models/${item}/cnn"]
  evaluate_cnn:
    foreach: [ecg5000]
    do:
      cmd: mkdir -p data/predictions/${item}/cnn && echo x > data/predictions/${item}/cnn/estimates.json
      deps: ["data/models/${item}/cnn"]
      outs: ["data/predictions/${item}/cnn"]
"""
# In place of `beatline drift`, for which these models are none.
DRIFT = """#!/bin/sh
[ -e "data/models/$2/model.json" ] && [ -e "data/predictions/$2/estimates.json" ] || exit 3
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of DVC's with its Makefile, in which a model was trained and evaluated."""
    folder = tmp_path / "project"
    (folder / ".venv/bin").mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", folder)
    (folder / "dvc.yaml").write_text(PIPELINE)
    (folder / ".gitignore").write_text("/data/?*\n/.venv\n")
    for command in (
        ["git", "init", "--quiet"],
        [*DVC, "init", "--quiet"],
        [*DVC, "repro", "--quiet"],
    ):
        subprocess.run(command, cwd=folder, check=True)
    dvc = folder / ".venv/bin/dvc"
    dvc.write_text(f'#!/bin/sh\nexec {sys.executable} -m dvc "$@"\n')
    beatline = folder / ".venv/bin/beatline"
    beatline.write_text(DRIFT)
    for program in (dvc, beatline):
        program.chmod(0o755)
    return folder


def watch(project: Path, *models: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "--silent", "watch", f"WATCHED={' '.join(models)}"]
    command += [f"--old-file=.venv/.ready-{name}" for name in ("serve", "tracking")]
    return subprocess.run(command, cwd=project, capture_output=True, text=True)


@pytest.mark.parametrize("place", ["cache", "remote"])
def test_what_is_watched_is_there(project: Path, place: str) -> None:
    """A clone has no data: they come from the cache that CI has kept of main, or from a remote."""
    if place == "remote":
        for words in (
            ["remote", "add", "--default", "team", str(project.parent / "team")],
            ["push"],
        ):
            subprocess.run([*DVC, *words, "--quiet"], cwd=project, check=True)
        shutil.rmtree(project / ".dvc/cache")
    shutil.rmtree(project / "data")
    done = watch(project, "ecg5000/cnn")
    assert done.returncode == 0, done.stderr


def test_without_either_it_is_said(project: Path) -> None:
    """What is missing, and how to have it."""
    for folder in ("data", ".dvc/cache"):
        shutil.rmtree(project / folder)
    done = watch(project, "ecg5000/cnn")
    assert done.returncode and "ecg5000/cnn" in done.stderr and "remote" in done.stderr
