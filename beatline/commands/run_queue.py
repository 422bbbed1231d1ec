"""Run what ``dvc exp run --queue`` has queued, and wait for it.

``dvc queue start`` returns at once and tells nobody what became of the experiments. This prints a line
when one begins and when it ends, says where the log of a failed one is, and exits with 1 if any failed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from beatline.common.errors import UserError
from beatline.comparing.revisions import repository
from beatline.reporting.document import counted

POLL = 5.0  # seconds: each look at the queue costs a fifth of one
WAITING, RUNNING, FAILED, REMOVED = "Queued", "Running", "Failed", "Removed"
PATIENCE = 60.0  # seconds in which a worker takes up what is queued


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the number of workers."""
    parser.add_argument("--workers", type=int, default=1, help="experiments at a time (default: 1)")


def run(options: argparse.Namespace) -> int:
    """Run the queue; 1 if an experiment failed. Raises UserError if nothing is queued."""
    workers: int = options.workers
    if workers < 1:
        raise UserError(f"--workers is {workers}: give a number of at least 1")
    with repository() as repo:
        queue = repo.experiments.celery_queue
        names = {
            task["rev"]: task["name"] or task["rev"][:7]
            for task in queue.status()
            if task["status"] in (WAITING, RUNNING)
        }
        if not names:
            raise UserError("nothing is queued: queue an experiment with `dvc exp run --queue`")
        print(f"{counted(len(names), 'experiment')}, {workers} at a time", flush=True)
        _start(workers)
        failed = 0
        for revision, failed_now in _finished(queue, names):
            failed += failed_now
            if failed_now:
                print(_failure(names[revision], _log(queue, revision)), flush=True)
    print(
        f"{len(names) - failed} ended, {failed} failed: see `make experiments`, `make leaderboard`"
    )
    return 1 if failed else 0


def _start(workers: int) -> None:
    """Start workers, which share the processors and outlive this command."""
    threads = max(1, len(os.sched_getaffinity(0)) // workers)
    # Workers keep what they inherit as output: on a pipe they would hold up whoever reads it.
    started = subprocess.run(
        [sys.executable, "-m", "dvc", "queue", "start", "--jobs", str(workers)],
        env={"OMP_NUM_THREADS": str(threads), **os.environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    if started.returncode:
        raise UserError("the workers did not start: run `dvc queue start` to see why")


def _finished(queue: Any, names: dict[str, str]) -> Iterator[tuple[str, bool]]:
    """Each experiment as it ends, and whether it failed; prints when one begins and ends."""
    began: dict[str, float] = {}
    open_, idle_since = set(names), time.monotonic()
    while open_:
        states = {task["rev"]: task["status"] for task in queue.status() if task["rev"] in open_}
        now = time.monotonic()
        for revision in sorted(open_, key=list(names).index):
            state = states.get(revision, REMOVED)
            if state == RUNNING and revision not in began:
                began[revision] = now
                print(f"{names[revision]}: running", flush=True)
            if state not in (WAITING, RUNNING):
                open_.remove(revision)
                seconds = now - began.get(revision, now)
                print(f"{names[revision]}: {state.lower()} after {seconds:.0f} s", flush=True)
                yield revision, state == FAILED
        idle_since = now if RUNNING in states.values() else idle_since
        if open_ and now - idle_since > PATIENCE:
            raise UserError(
                f"no worker has taken up the {len(open_)} queued experiments: see `dvc queue status`"
            )
        time.sleep(POLL)


def _log(queue: Any, revision: str) -> Path | None:
    """Return the path of an experiment's log; None if it ended before it had one."""
    try:
        log = Path(queue.proc[revision].stdout)
    except (KeyError, TypeError):
        return None
    return log if log.is_file() else None


def _failure(name: str, log: Path | None) -> str:
    """Say that an experiment failed, why by the end of its log, and where the log is."""
    if log is None:
        return f"{name} failed before it had a log: run it without --queue to see why"
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("error:", "ERROR:"))] or lines[-1:]
    reason = f" ({errors[0]})" if errors else ""
    place = log.relative_to(Path.cwd()) if log.is_relative_to(Path.cwd()) else log
    return f"{name} failed{reason}: its log is {place}"
