"""Epochs in MLflow while a training runs, where MLFLOW_TRACKING_URI is set.

A training knows nothing of this: what it depends on would train it again. Its checkpoint, which is
replaced after each epoch, holds the history so far; a thread of the command that waits for the training
reads it. The run is a look at work in progress, tagged `beatline.live`: `make track` replaces it by the
run of what came of it. A training that goes on after an interruption goes on in the same run.

Nothing here can fail a training or hold one up. A server that is away costs a warning, and no more than
SECONDS_TO_STOP at the end.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from beatline.common.errors import warn

SECONDS_TO_STOP = 0.9
POLL = 2.0  # seconds
# Of the project itself, and of the copies in which DVC runs queued experiments.
CHECKPOINTS = ("data/checkpoints/*/*/*.state", ".dvc/tmp/exps/*/data/checkpoints/*/*/*.state")


@contextlib.contextmanager
def followed() -> Iterator[None]:
    """Show the epochs of all trainings below the current folder, as long as the context lasts."""
    if not os.environ.get(
        "MLFLOW_TRACKING_URI"
    ):  # client.URI, whose module takes seconds to import
        yield
        return
    stop = threading.Event()
    thread = threading.Thread(target=_follow, args=(Path.cwd(), stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(SECONDS_TO_STOP)


def _follow(root: Path, stop: threading.Event) -> None:
    try:
        from beatline.tracking import client  # seconds, in which the training begins

        follower = Follower(client.connect(), root)
        while not stop.wait(POLL):
            follower.look()
        follower.end()
    except Exception as error:  # whatever it is, it is no reason to fail a training
        warn(f"epochs are not shown while training: {error or type(error).__name__}")


class Follower:
    """Logs the epochs of the checkpoints below `root`."""

    def __init__(self, client: Any, root: Path) -> None:
        self._client, self._root = client, root
        self._seen: dict[Path, int] = {}  # modification time of each checkpoint, in ns
        self._runs: dict[Path, tuple[str, int]] = {}  # id, and the last epoch in it

    def look(self) -> None:
        """Log what is new. Raises UserError if MLflow fails."""
        paths = [path for pattern in CHECKPOINTS for path in self._root.glob(pattern)]
        for path in paths:
            with contextlib.suppress(FileNotFoundError):  # the training has just ended
                changed = path.stat().st_mtime_ns
                if self._seen.get(path) != changed:
                    self._log(path)
                    self._seen[path] = changed
        for path in self._runs.keys() - set(paths):
            self._terminate(path, "FINISHED")

    def end(self) -> None:
        """Look a last time, and close all runs: those of trainings that were stopped can go on later."""
        self.look()
        for path in list(self._runs):
            self._terminate(path, "KILLED")

    def _log(self, path: Path) -> None:
        from mlflow.entities import Metric

        from beatline.tracking.client import reporting_faults
        from beatline.tracking.runs import log
        from beatline.training.checkpoint import State

        saved = State(path).load()
        if saved is None:
            return
        history: list[dict[str, float]] = saved["history"]
        run_id, last = self._runs.get(path) or self._begin(path)
        now = int(1000 * time.time())
        metrics = [
            Metric(name, float(value), now, int(row["epoch"]))
            for row in history
            if row["epoch"] > last
            for name, value in row.items()
            if name != "epoch" and value == value  # NaN is not
        ]
        with reporting_faults():
            log(self._client, run_id, metrics=metrics)
        self._runs[path] = run_id, int(history[-1]["epoch"])

    def _begin(self, path: Path) -> tuple[str, int]:
        """Return the run of a checkpoint, begun or gone on with, and its last epoch."""
        from beatline.tracking import names
        from beatline.tracking.client import reporting_faults
        from beatline.tracking.runs import experiment

        *_, dataset, model, _ = path.parts
        project = path.parents[4]
        info = json.loads((project / f"data/normalized/{dataset}/dataset.json").read_text())
        home = experiment(self._client, dataset, info["simulated"])
        with reporting_faults():
            wanted = f"tags.`{names.KEY}` = '{path.stem}'"
            for run in self._client.search_runs([home.experiment_id], wanted):
                self._client.update_run(run.info.run_id, "RUNNING")
                steps = self._client.get_metric_history(run.info.run_id, "train_loss")
                return run.info.run_id, max((each.step for each in steps), default=0)
            tags = {names.KEY: path.stem, names.LIVE: f"{dataset}/{model}"}
            tags |= {names.SIMULATED: str(info["simulated"]).lower()}
            name = f"{model}, training"
            run = self._client.create_run(home.experiment_id, tags=tags, run_name=name)
        return run.info.run_id, 0

    def _terminate(self, path: Path, status: str) -> None:
        from beatline.tracking.client import reporting_faults

        run_id, _ = self._runs.pop(path)
        with reporting_faults():
            self._client.set_terminated(run_id, status)
