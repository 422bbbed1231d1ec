"""DVC's queue of experiments, and how it comes back after a kill.

An experiment is an entry of a stash in Git, a message below `.dvc/tmp/exps/celery/broker` (in `in` until
a worker takes it, in `processed` from then on) and, when it has ended, a result. DVC looks at no process:
what a killed worker was running counts as running for ever, while its training may go on without it. Its
stash entry is gone then, and without that DVC would run the message under another name and baseline.

While any worker lives nothing is put back, so nothing runs twice at a time: the others go on with the
queue, and what was lost follows when they are done.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from dvc.exceptions import DvcException
from dvc.lock import LockError, make_lock
from dvc.repo.experiments.executor.base import ExecutorInfo
from dvc.repo.experiments.refs import TEMP_NAMESPACE
from dvc.repo.experiments.stash import ExpStash
from dvc.repo.experiments.utils import get_exp_rwlock

from beatline.commands.rwlock import listed_processes
from beatline.common.errors import UserError, warn
from beatline.common.files import write_json

WAITING, RUNNING, FAILED, SUCCESS = "queued", "running", "failed", "success"
SECONDS_TO_END = 10  # of a process that is killed


@dataclass(frozen=True)
class Task:
    """A queued experiment. `entry` is DVC's, `message` the file in which its broker holds it."""

    entry: Any
    id: str
    message: Path
    state: str

    @property
    def revision(self) -> str:
        """The commit of its stash entry, by which DVC knows it."""
        return self.entry.stash_rev

    @property
    def name(self) -> str:
        """Its name, or the beginning of its revision."""
        return self.entry.name or self.revision[:7]


class ExperimentQueue:
    """DVC's queue in a project. Where it reads DVC's own files, that is DVC 3.67's layout."""

    def __init__(self, repo: Any) -> None:
        self._repo = repo
        self._queue = repo.experiments.celery_queue
        self._app = self._queue.celery
        self._folder = Path(repo.tmp_dir, "exps").resolve()
        self._awaited = self._folder / "run-queue.json"
        self._broker = Path(self._queue.wdir, "broker")
        digest = hashlib.sha256(self._queue.wdir.encode()).hexdigest()[:6]
        self._node = f"dvc-exp-{digest}-"  # as DVC names workers: no other project has it

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Wait until no other process holds the queue: two would put back the same experiment."""
        with (self._folder / "run-queue.lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print("waiting for another `beatline run-queue` to end", flush=True)
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def awaited(self) -> set[str]:
        """Revisions of the experiments whose end the last `beatline run-queue` has not seen."""
        try:
            return set(json.loads(self._awaited.read_text()))
        except (OSError, ValueError):
            return set()

    def set_awaited(self, revisions: Iterable[str]) -> None:
        """Keep for the next call what this one waits for, should it be killed."""
        write_json(self._awaited, list(revisions))

    def tasks(self) -> dict[str, Task]:
        """All experiments by revision. A message that is taken while this reads is seen twice, not never,
        and then as taken."""
        tasks: dict[str, Task] = {}
        queue, app = self._queue, self._app
        for messages, paths in (
            (queue._iter_queued, app._queued_msg_path_cache),
            (queue._iter_processed, app._processed_msg_path_cache),
        ):
            for message, entry in messages():
                path, number = Path(paths[message.delivery_tag]), message.headers["id"]
                state = WAITING if path.parent.name == "in" else self._state(number, entry)
                tasks[entry.stash_rev] = Task(entry, number, path, state)
        return tasks

    def _state(self, number: str, entry: Any) -> str:
        result = self._app.AsyncResult(number)
        if not result.ready():
            return RUNNING
        info = self._info(entry.stash_rev)
        return SUCCESS if result.successful() and info and info.result_ref else FAILED

    def _info(self, revision: str) -> ExecutorInfo | None:
        """What DVC has written of a run; None if nothing, or half a file."""
        with contextlib.suppress(OSError, DvcException, TypeError, ValueError):
            return self._queue._load_info(revision)
        return None

    def result(self, task: Task) -> str | None:
        """The commit of an experiment that has succeeded, by its revision; None if it is gone."""
        info = self._info(task.revision)
        return self._queue.scm.get_ref(info.result_ref) if info and info.result_ref else None

    def was_killed(self, task: Task) -> bool:
        """Whether an experiment counts as failed without having ended by itself."""
        process = self._queue.proc.get(task.revision)
        status = process.returncode if process else None
        return task.state == FAILED and (status is None or status < 0)

    def log(self, revision: str) -> Path | None:
        """Return the path of an experiment's log; None if it ended before it had one."""
        process = self._queue.proc.get(revision)
        return Path(process.stdout) if process and Path(process.stdout).is_file() else None

    # Processes, known by their command lines: pids are reused

    def has_workers(self) -> bool:
        """Whether any worker lives."""
        return any(
            "queue-worker" in words and any(word.startswith(self._node) for word in words)
            for _, words in _processes()
        )

    def end_orphans(self) -> None:
        """End what killed workers have left running. Raises UserError if one does not end."""
        deadline = time.monotonic() + SECONDS_TO_END
        while orphans := [each for each, words in _processes() if self._is_experiment(each, words)]:
            if time.monotonic() > deadline:
                raise UserError(
                    f"process {orphans[0].pid} runs an experiment whose worker was killed, and does"
                    " not end: end it, then run the command again"
                )
            for process in orphans:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            time.sleep(0.1)

    def _is_experiment(self, process: psutil.Process, words: list[str]) -> bool:
        """Whether a process runs an experiment of the queue, or a stage of one."""
        if "exec-run" in words:
            return any(word.startswith(self._queue.pid_dir) for word in words)
        with contextlib.suppress(psutil.Error, OSError, ValueError):
            folder = Path(process.cwd()).relative_to(self._folder).parts[:1]
            # A person's shell in that folder lives; `standalone` has what `dvc exp run --temp` runs.
            return "".join(folder).startswith("tmp") and "DVC_EXP_NAME" in process.environ()
        return False

    def start_workers(self, count: int) -> None:
        """Start workers, which share the processors and outlive this process."""
        threads = max(1, len(os.sched_getaffinity(0)) // count)
        for number in range(1, count + 1):
            command = ["exp", "queue-worker", f"{self._node}{number}@localhost"]
            with self.worker_log(number).open("ab") as log:
                subprocess.Popen(
                    [sys.executable, "-m", "dvc", *command, *(["--clean"] if number == 1 else [])],
                    env={"OMP_NUM_THREADS": str(threads), **os.environ},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )

    def worker_log(self, number: int = 1) -> Path:
        """The log of a worker, where DVC has it."""
        return Path(self._queue.wdir, f"dvc-exp-worker-{number}.out")

    # Putting back

    def requeue(self, task: Task) -> None:
        """Put an experiment that nobody runs back under its name and settings. Until the last step it
        stays lost, so that a kill in between loses nothing. Raises UserError if the stash is in use."""
        self._keep(task)
        if failed := self._queue.failed_stash.stash_revs.get(task.revision):
            self._queue.failed_stash.remove_revs([failed])
        self._forget(task)
        self._remove_workspace(task)
        shutil.rmtree(Path(self._queue.pid_dir, task.revision), ignore_errors=True)
        task.message.replace(self._broker / "in" / task.message.name)

    def _keep(self, task: Task) -> None:
        """Have an experiment in the stash, which others use for moments."""
        blocker = ""
        for _ in range(20):
            try:
                with get_exp_rwlock(self._repo, writes=[self._queue.ref]):
                    if task.revision not in self._queue.stash.stash_revs:
                        self._stash(task)
                    return
            except LockError as error:
                blocker = str(error)
                time.sleep(0.5)
        raise UserError(
            f"{task.name} was killed and cannot be put back: {blocker}; then run the command again"
        )

    def remove(self, task: Task) -> None:
        """Remove an experiment that waits: it was run elsewhere."""
        self._queue.remove([task.revision])

    def is_collected(self, task: Task) -> bool:
        """Whether the experiment is in Git, though its worker did not live to say so."""
        info = self._info(task.revision)
        return bool(
            info
            and info.result_ref
            and not info.result_force  # then one of that name may have been there before
            and self._queue.scm.get_ref(info.result_ref)
        )

    def end(self, task: Task, *, failed: bool) -> None:
        """Record that an experiment which nobody runs has ended."""
        self._remove_workspace(task)
        if failed:
            Path(self._queue.get_infofile_path(task.revision)).unlink(missing_ok=True)
            self._queue.stash_failed(task.entry)
            self._app.backend.mark_as_failure(task.id, None)
        else:
            self._app.backend.mark_as_done(task.id, None)

    def _stash(self, task: Task) -> None:
        entry = task.entry
        message = ExpStash.format_message(
            entry.head_rev, entry.baseline_rev, entry.name, entry.branch
        )
        scm, ref = self._queue.scm, self._queue.ref
        scm.set_ref(ref, entry.head_rev)  # where a ref has its value already, nothing is listed
        scm.set_ref(ref, task.revision, message=f"commit: {message}")

    def _forget(self, task: Task) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._app.AsyncResult(task.id).forget()

    def _remove_workspace(self, task: Task) -> None:
        info = self._info(task.revision)
        if info and Path(info.root_dir).resolve().parent == self._folder:
            shutil.rmtree(info.root_dir, ignore_errors=True)

    # What a kill leaves of DVC's and Git's own files

    def mend(self) -> None:
        """Remove what killed workers have left of locks, messages to them, refs and folders, and bring
        back stash entries of what is queued. To be called while no worker lives.

        Raises UserError if a lock that may be Git's own does not go away.
        """
        self._remove_locks_of_git()
        with (
            contextlib.suppress(LockError),  # a person queues: not before the next time
            make_lock(str(self._folder / "rwlock.lock"), tmp_dir=str(self._folder)),
        ):
            if not self._somebody_is_at_work():
                (self._folder / "rwlock").unlink(missing_ok=True)
                self._mend_stash()
                for ref in list(self._queue.scm.iter_refs(TEMP_NAMESPACE)):
                    self._queue.scm.remove_ref(ref)
        for folder in self._folder.glob("tmp*"):
            shutil.rmtree(folder, ignore_errors=True)
        self._remove_orders()

    def _git(self) -> Path:
        return Path(self._queue.scm.backends["dulwich"].repo.commondir())

    def _remove_locks_of_git(self) -> None:
        """Remove locks of experiments' refs that stay as they are for a second: who lives is done with
        one in milliseconds."""
        packed = self._git() / "packed-refs.lock"
        places = (self._git() / "refs/exps", self._git() / "logs/refs/exps")
        locks = [packed, *(lock for place in places for lock in place.rglob("*.lock"))]
        before = {lock: identity for lock in locks if (identity := _identity(lock))}
        if before:
            time.sleep(1)
        for lock in [lock for lock in before if _identity(lock) == before[lock]]:
            if lock == packed:  # every git writes it
                raise UserError(
                    f"{packed} was left by a killed process, or another git is at work: if none is,"
                    " remove it and run the command again"
                )
            lock.unlink(missing_ok=True)

    def _somebody_is_at_work(self) -> bool:
        """Whether a living DVC is in the queue's list of readers and writers, which a kill can leave
        unreadable. Held with `rwlock.lock`, under which alone DVC writes it."""
        try:
            return any(map(_lives, listed_processes(self._folder / "rwlock")))
        except (OSError, ValueError, AttributeError):
            return False

    def _mend_stash(self) -> None:
        """Bring back stash entries of queued experiments: DVC rewrites the list of them in place."""
        try:
            entries = self._queue.stash.stash_revs
        except (ValueError, IndexError, AssertionError):
            (self._git() / "logs" / self._queue.ref).unlink(missing_ok=True)
            entries = {}
        for task in self.tasks().values():
            if task.state == WAITING and task.revision not in entries:
                warn(f"{task.name}: its entry in Git's stash was lost, and is restored")
                self._stash(task)

    def _remove_orders(self) -> None:
        """Remove messages to and from workers that are no more (an order to end, say, which the next of
        that name would follow), and lists of addressees that are theirs or unreadable."""
        for path in (self._broker / "in").glob("*.pidbox.msg"):
            path.unlink(missing_ok=True)
        for path in (self._broker / "control").glob("*.exchange"):
            if path.name.endswith(".pidbox.exchange") or not _is_json(path):
                path.unlink(missing_ok=True)


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text())
    except ValueError:
        return False
    return True


def _processes() -> Iterator[tuple[psutil.Process, list[str]]]:
    for process in psutil.process_iter(["cmdline"]):
        yield process, process.info["cmdline"] or []


def _identity(path: Path) -> tuple[int, int] | None:
    """What another file of the same name differs in; None if there is none."""
    try:
        return path.stat().st_ino, path.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def _lives(listed: dict[str, Any]) -> bool:
    """Whether a process in a list of DVC's is there, and no other has its pid."""
    with contextlib.suppress(psutil.Error):
        command = " ".join(psutil.Process(listed["pid"]).cmdline())
        return (listed["cmd"].split() or [""])[-1] in command
    return False
