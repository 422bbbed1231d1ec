"""What every command has in common, before it begins."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from beatline import cli
from beatline.commands import drift
from beatline.common.errors import UserError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place of DVC's state in a project where no setting names another."""
    (tmp_path / ".dvc").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(cli.SITE_CACHE, "")
    monkeypatch.delenv(cli.SITE_CACHE)
    return tmp_path / ".dvc/site-cache"


def test_a_folder_that_was_open_to_all_is_closed(folder: Path) -> None:
    """DVC itself makes it open to all, where it is missing: after `git clean`, say."""
    folder.mkdir()
    folder.chmod(0o777)
    cli.keep_state_private()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert os.environ[cli.SITE_CACHE] == str(folder)


def test_a_folder_of_the_users_choice_is_left(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the project is on a network, state may have to be elsewhere."""
    monkeypatch.setenv(cli.SITE_CACHE, "elsewhere")
    cli.keep_state_private()
    assert os.environ[cli.SITE_CACHE] == "elsewhere" and not folder.exists()


def test_a_folder_that_cannot_be_ones_own_is_refused(folder: Path) -> None:
    """Going on would fall back to the folder that all may write, in silence."""
    folder.write_text("not a folder")
    with pytest.raises(UserError, match=rf"{folder}.*{cli.SITE_CACHE}"):
        cli.keep_state_private()


def test_no_folder_is_made_outside_a_project(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder `.dvc` would look like the root of a project."""
    folder.parent.rmdir()
    cli.keep_state_private()
    assert not folder.parent.exists() and cli.SITE_CACHE not in os.environ


@pytest.mark.parametrize(("command", "status"), [("drift", drift.ERROR), ("log", 1)])
def test_a_package_that_is_missing(command: str, status: int) -> None:
    """Is no drift, to whoever looks at the exit status; the sentence says what to install."""
    code = (
        "import sys; sys.modules['psycopg'] = None; from beatline.cli import main; sys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", code, command], capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (status, 1)
    assert "psycopg" in done.stderr and "install" in done.stderr
