"""What `beatline retrain` has made reaches a pull or merge request once, from a job that holds no code of
anybody else's."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.paths import ROOT

BRANCH = "retrain/ecg5000/cnn/2026-03-02"
REPORT = f"reports/retraining/{BRANCH.removeprefix('retrain/')}/comparison.md"
HOSTS = {
    "github": {
        "GH_TOKEN": "secret",
        "GITHUB_REPOSITORY": "team/project",
        "url": "https://x-access-token:secret@github.com/team/project.git",
    },
    "gitlab": {
        "WATCH_TOKEN": "secret",
        "CI_SERVER_HOST": "git.example",
        "CI_PROJECT_PATH": "team/project",
        "url": "https://oauth2:secret@git.example/team/project.git",
    },
}


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b.invalid", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout with the script, whose origin is a bare repository beside it."""
    folder = tmp_path / "project"
    (folder / ".ci").mkdir(parents=True)
    shutil.copy(ROOT / ".ci/propose.sh", folder / ".ci")
    git(folder, "init", "--quiet", "--initial-branch", "main")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "begin")
    git(tmp_path, "clone", "--quiet", "--bare", "project", "host.git")
    git(tmp_path / "host.git", "config", "receive.advertisePushOptions", "true")
    return folder


def propose(folder: Path, host: str) -> None:
    """Run the script where the host's address leads to the repository beside it, and `gh` writes down
    what
    it is told."""
    settings = {**HOSTS[host]}
    url, bare = settings.pop("url"), folder.parent / "host.git"
    programs = folder.parent / "bin"
    programs.mkdir(exist_ok=True)
    (programs / "gh").write_text(
        f'#!/bin/sh\necho "$@" >> {folder.parent}/gh\ncat >> {folder.parent}/gh\n'
    )
    (programs / "gh").chmod(0o755)
    environment = {
        **os.environ,
        **settings,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{bare}.insteadOf",
        "GIT_CONFIG_VALUE_0": url,
    }
    subprocess.run([".ci/propose.sh", host], cwd=folder, env=environment, check=True)


@pytest.mark.parametrize("host", HOSTS)
def test_a_branch_is_proposed_once(project: Path, host: str) -> None:
    """With its commits and its report; a second schedule says nothing more of it."""
    git(project, "checkout", "--quiet", "-b", BRANCH)
    report = project / REPORT
    report.parent.mkdir(parents=True)
    report.write_text("# ecg5000/cnn version 2 against the champion: passed\n\nall of it\n")
    git(project, "add", ".")
    git(project, "commit", "--quiet", "--message", "a challenger")
    head = git(project, "rev-parse", "HEAD").strip()
    git(project, "checkout", "--quiet", "main")
    subprocess.run([".ci/propose.sh", "pack"], cwd=project, check=True)

    other = project.parent / "other"
    git(project.parent, "clone", "--quiet", "host.git", "other")
    shutil.copytree(project / "review", other / "review")
    for _ in range(2):
        propose(other, host)
    assert git(project.parent / "host.git", "rev-parse", BRANCH).strip() == head
    told = project.parent / "gh"
    if host == "github":
        assert (
            told.read_text().count("version 2 against the champion: passed") == 2
        )  # and the report
        assert told.read_text().count("all of it") == 1


def test_nothing_is_proposed_of_nothing(project: Path) -> None:
    """Without drift there is no branch, and the second job does nothing."""
    subprocess.run([".ci/propose.sh", "pack"], cwd=project, check=True)
    propose(project, "github")
    assert not (project.parent / "gh").exists()
