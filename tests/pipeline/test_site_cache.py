"""DVC's state, which holds pickles, is written where this user alone may write.

DVC's own place is a folder of the whole machine's in which everybody may write: who puts a file there
before DVC does has his code run by whoever opens it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.paths import ROOT
from tests.pipeline.clones import Clone, make_heartbeats_clone

SHARED = "/var/tmp/dvc"  # written into DVC (dvc/dirs.py)
# Runs in every Python process that a command starts, and notes which databases and folders it opens.
HOOK = """
import os, sys

def note(event, arguments):
    if event in ("sqlite3.connect", "os.mkdir") and isinstance(arguments[0], (str, os.PathLike)):
        line = f"{event} {os.path.abspath(arguments[0])}\\n".encode()
        descriptor = os.open(os.environ["NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, line)
        os.close(descriptor)

sys.addaudithook(note)
"""
SETUP = re.findall(r"^\t@(.*site-cache.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
pytestmark = pytest.mark.slow
COMMANDS = {
    "beatline repro": ["python -m beatline repro split@ecg5000"],
    "dvc repro": ["dvc repro split@ecg5000"],
    "queue": [
        "dvc exp run --queue --name other -S datasets.ecg5000.split.seed=7 split@ecg5000",
        "python -m beatline run-queue",
    ],
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    folder = tmp_path_factory.mktemp("site-cache")
    clone = make_heartbeats_clone(folder / "clone")
    (folder / "hook").mkdir()
    (folder / "hook/sitecustomize.py").write_text(HOOK)
    clone.variables |= {
        "PYTHONPATH": f"{folder / 'hook'}:{clone.root}",
        "NOTES": str(folder / "notes"),
    }
    yield clone
    clone.run("dvc", "queue", "stop", "--kill")


@pytest.fixture
def clone(project: Clone) -> Clone:
    """The project as it is cloned: without settings of its own, and without state."""
    Path(project.variables["NOTES"]).unlink(missing_ok=True)
    (project.root / ".dvc/config.local").unlink(missing_ok=True)
    shutil.rmtree(project.root / ".dvc/site-cache", ignore_errors=True)
    return project


def opened_by(clone: Clone) -> set[Path]:
    """The databases that were opened and the folders that were made."""
    notes = Path(clone.variables["NOTES"]).read_text().splitlines()
    return {Path(line.split(" ", 1)[1]) for line in notes}


@pytest.mark.parametrize("name", COMMANDS)
def test_state_is_in_a_folder_of_the_users_own(clone: Clone, name: str) -> None:
    """After `make setup`, whichever command it is and whichever process of it."""
    for command in SETUP:
        clone.run("sh", "-c", command.replace("$(CURDIR)", str(clone.root)))
    for command in COMMANDS[name]:
        clone.run("sh", "-c", command)
    _private(clone)


def test_our_commands_need_no_setup_for_it(clone: Clone) -> None:
    """A second worktree shares the environment of the first, and has never seen `make setup`."""
    clone.run("python", "-m", "beatline", "repro", "split@ecg5000")
    _private(clone)


def test_a_small_runs_copy_keeps_to_it(clone: Clone) -> None:
    """A copy of the project has no settings of its own, and runs DVC too."""
    models = "train.cnn.ecg5000, train.lstm.ecg5000"
    (clone.root / "small.yaml").write_text(f"set: {{}}\nleave_out: [{models}]\n")
    printed = clone.run("sh", "-c", "python -m beatline small-run || echo no report without models")
    assert "'split@ecg5000'" in printed, "DVC got as far as its stages"
    _private(clone)


def _private(clone: Clone) -> None:
    private = clone.root / ".dvc/site-cache"
    opened = opened_by(clone)
    assert not [path for path in opened if path.is_relative_to(SHARED)]
    assert [path for path in opened if path.is_relative_to(private) and path.suffix == ".db"]
    assert private.stat().st_mode & 0o777 == 0o700
    status = subprocess.run(
        ["git", "status", "--short", "--untracked-files=all", ".dvc"],
        cwd=clone.root,
        capture_output=True,
        text=True,
        check=True,
    )
    assert not status.stdout, "machine-made, and not for Git"
