"""``python -m beatline.commands.cluster_experiment``: a queued experiment, run in a clone of the project.

A worker of a cluster calls it in a folder of its own. Code, parameters and what is uncommitted are those
of the experiment's entry in the stash, the cache is the caller's, and the result is pushed to the
caller's repository as an experiment, as if it had been run there.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

from beatline.common.errors import UserError, reporting_mistakes

OF_THE_WORKER = ("DVC_", "DASK_", "SLURM_", "PMI", "BEATLINE_WORKERS")
LAUNCHED = (
    *("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"),
    *("LOCAL_RANK", "LOCAL_WORLD_SIZE", "JOB_COMPLETION_INDEX"),
)
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
POLL = 1.0  # seconds: is the result still wanted?


@dataclass(frozen=True)
class Experiment:
    """A queued experiment of the project in the folder `root`, which all machines see under this path.

    `revision`: of its stash entry; `baseline`: the commit that it belongs to; `cache`: DVC's; `threads`:
    that it computes with, those of the caller, since another number changes last digits.
    """

    root: str
    cache: str
    revision: str
    baseline: str
    name: str | None
    threads: int


def run(experiment: Experiment) -> tuple[bool, str]:
    """Run an experiment in a clone, in a worker of a cluster. Returns whether it succeeded, and its log.

    What nobody waits for any more, since the caller, the scheduler or this worker is gone, is ended.
    """
    with tempfile.TemporaryDirectory(prefix="beatline-") as folder:
        log, clone = Path(folder, "log"), Path(folder, "clone")
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(clone), *_words(experiment)],
                env=_environment(clone, experiment.threads),
                stdin=subprocess.PIPE,  # which is closed when this process ends, however it does
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        while process.poll() is None:
            try:
                process.wait(POLL)
            except subprocess.TimeoutExpired:
                if not _is_wanted():
                    os.killpg(process.pid, signal.SIGKILL)
        assert process.stdin
        process.stdin.close()
        return process.returncode == 0, log.read_text(errors="replace")


def _words(experiment: Experiment) -> list[str]:
    words = (experiment.root, experiment.cache, experiment.revision, experiment.baseline)
    return [*words, experiment.name or "", str(experiment.threads)]


def _environment(clone: Path, threads: int) -> dict[str, str]:
    """The environment of an experiment: its own code comes first, no cluster is asked from it, it knows
    nothing of those among whom the worker was started, and computes with so many threads."""
    variables = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(OF_THE_WORKER) and name not in LAUNCHED
    }
    variables |= dict.fromkeys(THREADS, str(threads))
    paths = {"PATH": Path(sys.executable).parent, "PYTHONPATH": clone}
    for name, path in paths.items():
        variables[name] = os.pathsep.join([str(path), *filter(None, [os.environ.get(name)])])
    return {**variables, "DVC_SITE_CACHE_DIR": f"{clone}-state"}


def _is_wanted() -> bool:
    """Whether the task that this thread does is still one of the scheduler's."""
    from distributed import get_worker

    worker = get_worker()
    task = worker.state.tasks.get(worker.get_current_task())
    return task is not None and task.state == "executing"


def _end_with_worker() -> None:
    """End this process and all that it has started when the worker that holds its input is gone."""
    os.read(0, 1)  # not by sys.stdin, whose lock a thread may not hold at the end
    os.killpg(0, signal.SIGKILL)


def main(clone: Path, experiment: Experiment) -> None:
    """Clone, run, and push the result."""
    _git("clone", "--quiet", "--shared", "--no-checkout", experiment.root, str(clone))
    os.chdir(clone)
    _git("update-ref", "--no-deref", "HEAD", experiment.baseline)
    # As the workspace was when it was queued.
    _git("read-tree", "--reset", "-u", experiment.revision)
    _git("reset", "--quiet")
    local = Path(experiment.root, ".dvc/config.local")
    if local.exists():
        shutil.copy(local, ".dvc/config.local")
    subprocess.run(
        [sys.executable, "-m", "dvc", "config", "--local", "cache.dir", experiment.cache],
        check=True,
    )
    _reproduce(experiment.name)
    listed = _git("for-each-ref", "--format=%(refname)", "refs/exps").split()
    results = [ref for ref in listed if len(ref.split("/")) == 5]  # refs/exps/ab/cdef…/name
    if not results:
        raise UserError("the experiment has ended without a result: run it without a cluster")
    # By force: a worker that was lost may have pushed it, and nobody knows.
    _git("push", "--quiet", "--force", experiment.root, *(f"{ref}:{ref}" for ref in results))


def _reproduce(name: str | None) -> None:
    """Run the experiment in the workspace, as it was asked for when it was queued."""
    from dvc.repo import Repo
    from dvc.repo.experiments.executor.base import BaseExecutor

    packed = Path(".dvc/tmp", BaseExecutor.PACKED_ARGS_FILE)
    _, options = BaseExecutor.unpack_repro_args(packed)
    packed.unlink()
    options.pop("run_env", None)  # names the caller's folder
    with Repo() as repo:
        repo.experiments.run(**{**options, "name": name})


def _git(*words: str) -> str:
    return subprocess.run(
        ["git", *words], check=True, stdout=subprocess.PIPE, encoding="utf-8"
    ).stdout


if __name__ == "__main__":
    folder, *rest = sys.argv[1:]
    threading.Thread(target=_end_with_worker, daemon=True).start()
    with reporting_mistakes():
        main(Path(folder), Experiment(*rest[:4], name=rest[4] or None, threads=int(rest[5])))
