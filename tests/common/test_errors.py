"""Mistakes of a user are one sentence and exit status 1; our own keep their traceback."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys

import pytest

from beatline.common.errors import UserError, names_there_are, reporting_mistakes, warn
from tests.paths import ROOT


def sentence(error: BaseException) -> str:
    with pytest.raises(SystemExit) as exit_, reporting_mistakes():
        raise error
    return str(exit_.value)


def test_user_error() -> None:
    """The sentence begins with `error:`, so that it is found in a log."""
    assert sentence(UserError("a.csv is missing: add it")) == "error: a.csv is missing: add it"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk(number: int) -> None:
    """A full disk, or a quota that is used up, says what was being written if that is known."""
    cure = "free some space and run the command again"
    error = OSError(number, os.strerror(number), "a/b")
    assert sentence(error) == f"error: the disk is full while writing a/b: {cure}"
    assert sentence(OSError(number, "x")) == f"error: the disk is full: {cure}"


@pytest.mark.parametrize(
    ("number", "cause", "cure"),
    [(errno.EROFS, "read-only", "mount it"), (errno.EIO, "the disk fails", "replace the disk")],
)
def test_a_disk_that_does_not_work(number: int, cause: str, cure: str) -> None:
    """A file system that a fault has made read-only, and a fault itself: no traceback of ours."""
    for names in ((), ("a/b",)):
        found = sentence(OSError(number, os.strerror(number), *names))
        assert cause in found and cure in found and all(name in found for name in names)


def test_forbidden_file() -> None:
    """A file without permission is the user's to mend."""
    found = sentence(PermissionError(errno.EACCES, "Permission denied", "data/raw"))
    assert found == "error: data/raw may not be read or written: correct its permissions"


@pytest.mark.parametrize("error", [ValueError("bug"), KeyError("bug"), OSError(errno.EBADF, "x")])
def test_bugs_keep_their_traceback(error: Exception) -> None:
    """An error that no user can mend is not hidden behind a sentence."""
    with pytest.raises(type(error)), reporting_mistakes():
        raise error


def test_ctrl_c_is_no_bug() -> None:
    """The process ends by the signal, so that what called it ends too, and keeps what was printed."""
    code = (
        "from beatline.common.errors import reporting_mistakes\n"
        "with reporting_mistakes():\n    print('half')\n    raise KeyboardInterrupt\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGINT, "half\n", "")


@pytest.mark.parametrize("lines", [1, 100_000])
def test_a_reader_who_has_enough_is_no_bug(lines: int) -> None:
    """`beatline describe … | head`: no traceback, whether the pipe breaks while it is written to or when
    what is left is flushed."""
    code = (
        "from beatline.common.errors import reporting_mistakes\nimport sys\nsys.stdin.read()\n"
        f"with reporting_mistakes():\n    for _ in range({lines}): print('line')\n"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True
    ) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdout.close()
        process.stdin.close()
        assert process.stderr.read() == ""
    assert process.returncode == -signal.SIGPIPE


def test_exit_status_and_stream() -> None:
    """To a shell: status 1, one line on stderr, nothing on stdout."""
    code = (
        "from beatline.common.errors import *\nwith reporting_mistakes(): raise UserError('x: y')"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (1, "", "error: x: y\n")


def test_warning(capsys: pytest.CaptureFixture[str]) -> None:
    """A warning stands among the lines of its stage."""
    warn("class X is left out")
    assert capsys.readouterr().out == "warning: class X is left out\n"


def test_names_there_are() -> None:
    """The nearest name, if one is near, and those there are, the first of very many."""
    near = names_there_are("ptbxxl", ["mnist", "ptbxl"])
    assert "did you mean ptbxl?" in near and "mnist, ptbxl" in near
    far = names_there_are("whale", ["mnist", "ptbxl"])
    assert "did you mean" not in far and "mnist, ptbxl" in far
    assert "none" in names_there_are("whale", [])
    many = names_there_are("c999", (f"c{number}" for number in range(1000)))
    assert "did you mean c999?" in many and len(many) < 300 and "970 more" in many
