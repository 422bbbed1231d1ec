"""Run the pipeline as `dvc repro` does, and mend what an interruption has left behind.

Arguments are those of `dvc repro`. DVC empties dvc.lock before it writes it anew, and so it does with
its list of who reads and writes what (.dvc/tmp/rwlock): a signal in between leaves files with which no
`dvc repro` can begin. Before and after a run a damaged dvc.lock is restored from the copy that the last
run has kept, or from Git, and an unreadable list is removed. What has run comes from DVC's run cache,
also where dvc.lock names results of another machine. At the end the report is told what has changed since
the last commit; if networks came out other though nothing that they are made of has changed, so is who
runs it.

What a killed run was writing (`.<name>.partial`) is removed, wherever it is: a later run replaces only
what has the same name.

If DVC alone is killed, the stage that it was running is ended too: the next run would race it.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import psutil
from dvc.lock import LockError, make_lock

from beatline.commands import validate
from beatline.commands.committed import check_no_conflict
from beatline.commands.rwlock import listed_processes
from beatline.common import params
from beatline.common.errors import UserError, warn
from beatline.common.files import remove_half_written, replacing
from beatline.lineage.lock import DVC_LOCK, is_sound
from beatline.tracking import live

PATCHED_DVC = "beatline.commands.patched_dvc"
TMP = Path(".dvc/tmp")
WRITTEN = (Path("data"), Path("reports"))
EMPTY = 'schema: "2.0"\n'  # of a dvc.lock in which nothing has run
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
SECONDS_TO_END = 10  # of a stage that is asked to end, before it is killed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take whatever `dvc repro` takes."""
    parser.prefix_chars = "\0"  # what begins with a dash is DVC's, too
    parser.add_argument("arguments", nargs="*", help="options and stages, for DVC")


def run(options: argparse.Namespace) -> int:
    """DVC's exit status. Raises UserError for a mistake in params.yaml, or marks of a merge conflict."""
    validate.validate(params.load())
    mend()
    try:
        with live.followed():
            status = dvc_repro(options.arguments)
    finally:
        mend()
    if status == 0:
        _tell_changes()
    return status


def _tell_changes() -> None:
    """Say what is other than in the last commit: in the report whatever it is, and here if nothing has
    changed that it is made of."""
    status = ["git", "status", "--porcelain", "--untracked-files=all", "--", "reports/metrics"]
    changed = subprocess.run(status, capture_output=True)
    committed = subprocess.run(["git", "rev-parse", "--verify", "HEAD"], capture_output=True)
    if changed.returncode or committed.returncode:  # here is no Git, or no commit
        return
    # Only here: it takes a second.
    from beatline.comparing import since_commit
    from beatline.comparing.comparison import compare
    from beatline.comparing.differences import Compare
    from beatline.comparing.reproduction import other_results
    from beatline.comparing.revisions import WORKSPACE, Revision, repository

    with repository() as repo:
        before, comparison = Revision(repo, "HEAD"), None
        try:
            if changed.stdout:
                parameters = params.block(params.load(), "compare", Compare)
                comparison = compare(before, Revision(repo, WORKSPACE), parameters)
        except UserError as error:  # as where no result was committed: the run itself is good
            since_commit.write_reason(Path("reports"), before, str(error))
            return
        for sentences in other_results(comparison) if comparison else ():
            print(sentences, flush=True)
        since_commit.write(Path("reports"), before, comparison)


def mend() -> None:
    """Restore a damaged dvc.lock, keep a copy of a sound one, and remove an unreadable list of DVC's
    readers and writers and what killed runs left half written. Nothing is touched while another DVC
    process is at work.

    Raises UserError if dvc.lock holds the marks of a merge conflict.
    """
    with contextlib.suppress(LockError), _locked("lock"):
        _mend_lock()
        with _locked("rwlock.lock"):
            _mend_rwlock()
            if not _stages_are_running():
                _remove_half_written()


@contextlib.contextmanager
def _locked(name: str) -> Iterator[None]:
    """Hold a lock of DVC's, which raises LockError if another process does."""
    TMP.mkdir(parents=True, exist_ok=True)
    with make_lock(str(TMP / name), tmp_dir=str(TMP)):
        yield


def _mend_lock() -> None:
    lock = DVC_LOCK.resolve()  # a link where the project's folder may not be written
    if not lock.exists():
        return
    kept = lock.with_name(f".{DVC_LOCK.name}.kept")
    content = lock.read_text(errors="replace")
    check_no_conflict(content)
    if is_sound(content):
        if not kept.exists() or kept.read_text() != content:
            with replacing(kept) as beside:
                shutil.copyfile(lock, beside)
        return
    committed = subprocess.run(
        ["git", "show", f"HEAD:./{DVC_LOCK}"], capture_output=True, text=True, errors="replace"
    )
    for candidate, origin in (
        (kept.read_text(errors="replace") if kept.exists() else "", "as the last run has left it"),
        (committed.stdout, "as it was committed"),
        (EMPTY, "without entries, for want of a copy: results come from DVC's cache"),
    ):
        if is_sound(candidate):
            with replacing(lock) as beside:
                beside.write_text(candidate)
            warn(f"{DVC_LOCK} was damaged by an interruption, and is restored {origin}")
            return


def _mend_rwlock() -> None:
    path = TMP / "rwlock"
    try:
        json.loads(path.read_text(errors="replace"))
    except FileNotFoundError:
        return
    except ValueError:
        path.unlink()
        warn(f"{path} was damaged by an interruption, and is removed")


def _stages_are_running() -> bool:
    """Whether a process that lives is in the list of readers and writers: DVC's own lock is free while a
    stage runs."""
    return any(psutil.pid_exists(process["pid"]) for process in listed_processes(TMP / "rwlock"))


def _remove_half_written() -> None:
    if left := [path for folder in WRITTEN for path in remove_half_written(folder)]:
        warn(f"removed what an interrupted run had half written: {', '.join(map(str, left))}")


def dvc_repro(arguments: list[str]) -> int:
    """Run `dvc repro`, passing signals on, and leave none of its processes behind if it was killed."""
    if (
        sys.platform == "linux"
    ):  # so that a stage whose DVC was killed becomes a child of this process
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    process = subprocess.Popen([sys.executable, "-m", PATCHED_DVC, "repro", *arguments])

    def pass_on(number: int, frame: FrameType | None) -> None:
        del frame
        process.send_signal(number)

    before = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, pass_on),
        # The terminal sends it to DVC too.
        signal.SIGINT: signal.signal(signal.SIGINT, signal.SIG_IGN),
    }
    try:
        status = process.wait()
    finally:
        _end_what_is_left()
        for number, handler in before.items():
            signal.signal(number, handler)
    return status if status >= 0 else 128 - status


def _end_what_is_left() -> None:
    """End the processes that DVC has started, if there still are any."""
    left = psutil.Process().children(recursive=True)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    for process in psutil.wait_procs(left, SECONDS_TO_END)[1]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
