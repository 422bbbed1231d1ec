"""Run what ``dvc exp run --queue`` has queued, and wait for it.

``dvc queue start`` returns at once and tells nobody what became of the experiments. This prints a line
when one begins and when it ends, says where the log of a failed one is, and exits with 1 if any failed.

Experiments that were killed, or whose worker was, are put back under their name and settings, as soon as
no worker lives: at the start, or when the others are done. One that is killed each time has failed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter
from pathlib import Path
from typing import Any

from dvc.repo import Repo
from tqdm import tqdm

from beatline.commands import cluster_experiment
from beatline.commands.experiment_queue import (
    FAILED,
    RUNNING,
    SUCCESS,
    WAITING,
    ExperimentQueue,
    Task,
)
from beatline.common import cluster
from beatline.common.errors import UserError
from beatline.common.words import counted
from beatline.comparing.revisions import Revision, repository
from beatline.tracking import live

POLL = 5.0  # seconds: each look at the queue costs a fifth of one
REMOVED = "removed"
PATIENCE = 60.0  # seconds in which a worker takes up what is queued
MANY = 3  # models of which a metric is printed
ATTEMPTS = 3  # at an experiment that is killed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the number of workers."""
    parser.add_argument("--workers", type=int, default=1, help="experiments at a time (default: 1)")
    parser.add_argument(
        "--cluster",
        metavar="TCP",
        help="the address of a Dask scheduler, such as tcp://host:8786, whose workers run them instead",
    )


def run(options: argparse.Namespace) -> int:
    """Run the queue; 1 if an experiment failed. Raises UserError if nothing is queued."""
    workers: int = options.workers
    if workers < 1:
        raise UserError(f"--workers is {workers}: give a number of at least 1")
    with repository() as repo:
        queue = ExperimentQueue(repo)
        awaited = queue.awaited()
        open_ = [
            task
            for task in queue.tasks().values()
            if task.state in (WAITING, RUNNING)
            or (task.revision in awaited and queue.was_killed(task))
        ]
        if not open_:
            raise UserError("nothing is queued: queue an experiment with `dvc exp run --queue`")
        with queue.held(), live.followed():
            where = f"on {options.cluster}" if options.cluster else f"{workers} at a time"
            print(f"{counted(len(open_), 'experiment')}, {where}", flush=True)
            if options.cluster:
                failed = _run_on_cluster(repo, queue, open_, options.cluster)
            else:
                failed = _Watch(repo, queue, open_, workers).wait()
    print(
        f"{len(open_) - failed} ended, {failed} failed: see `make experiments`, `make leaderboard`"
    )
    return 1 if failed else 0


def _run_on_cluster(repo: Repo, queue: ExperimentQueue, tasks: list[Task], address: str) -> int:
    """Run experiments on the workers of a cluster, each in a clone of its own; return how many failed.

    What has succeeded is an experiment of this repository and leaves the queue; what has failed, or was
    not run when this ended, stays there. Raises UserError where local workers are at it.
    """
    if queue.has_workers() or any(task.state != WAITING for task in tasks):
        raise UserError(
            "workers of this machine have begun with the queue: wait for them by `beatline run-queue` "
            "without --cluster"
        )
    import torch  # here alone: it takes a second

    failed, threads = 0, torch.get_num_threads()
    with cluster.connected(address) as client:
        futures = [
            client.submit(
                cluster_experiment.run,
                cluster_experiment.Experiment(
                    root=repo.root_dir,
                    cache=repo.cache.local_cache_dir,
                    revision=task.revision,
                    baseline=task.entry.baseline_rev,
                    name=task.entry.name,
                    threads=threads,
                ),
                pure=False,
            )
            for task in tasks
        ]
        tasks_of = dict(zip(futures, tasks, strict=True))
        for future in cluster.completed(client, futures):
            task = tasks_of[future]
            try:
                succeeded, printed = cluster.value(future)
            except Exception as error:  # of this one; the others go on
                if future.status != "error":
                    raise
                succeeded, printed = False, f"error: {error}\n"
            if succeeded:
                queue.remove(task)
                print(f"{task.name}: {SUCCESS}", flush=True)
                continue
            failed += 1
            log = Path(repo.root_dir, ".dvc/tmp/exps", f"cluster-{task.name}.log")
            log.write_text(printed)
            print(f"{_failure(task.name, log, killed=False)}; it stays queued", flush=True)
    return failed


class _Watch:
    """Waits for experiments, and sees to it that somebody runs them."""

    def __init__(self, repo: Repo, queue: ExperimentQueue, tasks: list[Task], workers: int) -> None:
        self.repo, self.queue, self.workers = repo, queue, workers
        self.open = {task.revision: task.name for task in tasks}
        self.began: dict[str, float] = {}
        self.failed = 0
        self.took: list[float] = []  # seconds of each that has ended
        self.attempts: Counter[str] = Counter()

    def wait(self) -> int:
        """Return how many experiments have failed, when all have ended; prints their begins and ends, and
        after Ctrl-C who goes on with them."""
        try:
            return self._wait()
        except KeyboardInterrupt:
            print(
                "the workers go on with the queue: `beatline run-queue` waits for them again, and "
                "`dvc queue stop` ends them after what they are running (--kill: at once)",
                flush=True,
            )
            raise

    def _wait(self) -> int:
        idle_since = time.monotonic()
        while self.open:
            self.queue.set_awaited(self.open)
            if not self.queue.has_workers():
                self._recover()
                if any(task.state == WAITING for task in self.queue.tasks().values()):
                    self.queue.start_workers(self.workers)
            running = self._tell(self.queue.tasks())
            idle_since = time.monotonic() if running else idle_since
            if self.open and time.monotonic() - idle_since > PATIENCE:
                raise UserError(
                    f"no worker has taken up the {len(self.open)} queued experiments: see"
                    f" {_shown(self.queue.worker_log())}"
                )
            if self.open:
                time.sleep(POLL)
        self.queue.set_awaited([])
        return self.failed

    def _recover(self) -> None:
        """Put back what nobody runs any more, or record that it has ended."""
        self.queue.end_orphans()
        self.queue.mend()
        for task in self.queue.tasks().values():
            if task.state == RUNNING and self.queue.is_collected(task):
                self.queue.end(task, failed=False)
            elif task.state == RUNNING or self._may_try_again(task):
                self._put_back(task)

    def _put_back(self, task: Task) -> None:
        self.attempts[task.revision] += 1
        if self.attempts[task.revision] >= ATTEMPTS:
            self.queue.end(task, failed=True)
            return
        self.queue.requeue(task)
        self.began.pop(task.revision, None)
        print(f"{task.name}: was killed, or its worker was; it is queued again", flush=True)

    def _may_try_again(self, task: Task) -> bool:
        return (
            task.revision in self.open
            and self.attempts[task.revision] + 1 < ATTEMPTS
            and self.queue.was_killed(task)
        )

    def _tell(self, tasks: dict[str, Task]) -> bool:
        """Print what has begun and ended since the last time, and return whether any is running."""
        now, running = time.monotonic(), False
        for revision, name in list(self.open.items()):
            task = tasks.get(revision)
            if task and task.state == RUNNING:
                running = True
                if revision not in self.began:
                    self.began[revision] = now
                    print(f"{name}: running", flush=True)
            if task and (task.state in (WAITING, RUNNING) or self._may_try_again(task)):
                continue
            del self.open[revision]
            state, seconds = task.state if task else REMOVED, now - self.began.get(revision, now)
            self.took += [seconds] if revision in self.began else []
            metrics = self._metrics(task) if task and state == SUCCESS else ""
            print(f"{name}: {state} after {seconds:.0f} s{metrics}{self._left()}", flush=True)
            if task and state == FAILED:
                self.failed += 1
                killed = self.queue.was_killed(task)
                print(_failure(name, self.queue.log(revision), killed), flush=True)
        return running

    def _metrics(self, task: Task) -> str:
        """Say the first metric of each model that is not as the experiment found it."""
        commit = self.queue.result(task)
        if commit is None:
            return ""
        new, old = (Revision(self.repo, each) for each in (commit, task.entry.baseline_rev))
        try:
            changed = [
                f", {dataset} {model} {_first(after)} ({_first(before)} before)"
                for dataset, model in new.trained
                if (after := new.metrics(dataset, model)) != (before := old.metrics(dataset, model))
            ]
        except UserError as error:  # the others are to be waited for
            return f", and its metrics cannot be read: {error}"
        more = f", and {counted(len(changed) - MANY, 'model')} more" if len(changed) > MANY else ""
        return "".join(changed[:MANY]) + more or ", no metric changed"

    def _left(self) -> str:
        """Say how long the others will take, by the mean of those that have ended."""
        if not (self.open and self.took):
            return ""
        now, mean = time.monotonic(), statistics.mean(self.took)
        left = sum(max(0, mean - now + self.began.get(each, now)) for each in self.open)
        return f"; about {tqdm.format_interval(left / min(self.workers, len(self.open)))} left"


def _first(metrics: dict[str, Any] | None) -> str:
    row = metrics["metrics"][0] if metrics else {"metric": "no metric", "value": None}
    return row["metric"] if row["value"] is None else f"{row['metric']} {row['value']:.4f}"


def _failure(name: str, log: Path | None, killed: bool) -> str:
    """Say that an experiment failed, why by the end of its log, and where the log is."""
    if log is None:
        return f"{name} failed before it had a log: run it without --queue to see why"
    if killed:
        return (
            f"{name} failed (it was killed {ATTEMPTS} times, as happens for want of memory): queue"
            f" it again with less to compute, or run it alone; its log is {_shown(log)}"
        )
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("error:", "ERROR:"))] or lines[-1:]
    reason = f" ({errors[0]})" if errors else ""
    return f"{name} failed{reason}: its log is {_shown(log)}"


def _shown(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
