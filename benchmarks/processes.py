"""Time an epoch of the cnn of params.yaml in one process of one thread, and divided between two.

Run with `python -m benchmarks.processes`. Recordings are white noise of PTB-XL's shape: the arithmetic
does not depend on the values. Compared are one process without shards, one with two, and two with two,
each in processes of its own, in turn, and of each the fastest epoch. Exits 1 if two processes are not
1.6 times as fast as the one without shards; both cores must be free for that. Processor seconds, which
need no free cores, say what two can reach: waiting for the other is not among them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from beatline import models
from beatline.common import params
from beatline.models import Examples
from beatline.prediction import devices
from beatline.prediction.device_data import Recordings
from beatline.prediction.tasks import TASKS
from beatline.training import loop, processes
from beatline.training.checkpoint import State
from beatline.training.parameters import Train, parameters_of

RECORDS, VALIDATION = 768, 164  # as 70 to 15 %
LENGTH, LEADS, CLASSES, EPOCHS, ROUNDS = 1000, 12, 5, 4, 3
AT_LEAST = 1.6
CASES = {"1 process, 1 shard": (1, 1), "1 process, 2 shards": (1, 2), "2 processes": (2, 2)}


class _Clock(State):
    """A checkpoint that is not written, but tells when."""

    def __init__(self) -> None:
        super().__init__(Path(os.devnull))
        self.times: list[tuple[float, float]] = []

    def load(self) -> None:
        self._now()

    def save(self, state: dict[str, Any]) -> None:
        del state
        self._now()

    def _now(self) -> None:
        self.times.append((time.perf_counter(), time.process_time()))


def recordings(count: int) -> Examples:
    generator = np.random.default_rng(1)
    signals = generator.standard_normal((count, LENGTH, LEADS), dtype=np.float32)
    targets = generator.integers(0, 2, (count, CLASSES)).astype(np.int8)
    return Examples(Recordings(signals, np.arange(count), torch.device("cpu")), targets)


def train(shards: int) -> None:
    """Train, and print the fastest epoch's wall and processor seconds of process 0."""
    architecture, committed = parameters_of(params.load(), "cnn", "ptbxl")
    changes = {"epochs": EPOCHS, "shards": shards, "windows": committed.windows.completed(LENGTH)}
    parameters = Train.model_validate({**committed.model_dump(), **changes})
    place = processes.place(shards)
    processes.prepare(place, shards)
    torch.set_num_threads(1)
    devices.keep_freed_memory()
    devices.make_deterministic(seed=1)
    command = ["-m", "benchmarks.processes", str(shards)]
    with processes.joined(place, {"shards": shards}, command) as group:
        kind, shape = models.module("cnn"), (parameters.windows.length, LEADS)
        network = models.create(kind, architecture, shape, CLASSES, "cnn")
        clock = _Clock()
        state = clock if group.is_first else None
        task, train, validation = TASKS["multilabel"], recordings(RECORDS), recordings(VALIDATION)
        loop.fit(network, task, train, validation, parameters, state, group)
    if place.rank == 0:
        steps = np.diff(clock.times, axis=0)[1:].min(axis=0)  # the first epoch warms up
        print(json.dumps(steps.tolist()))


def timed(count: int, shards: int) -> tuple[float, float]:
    environment = {**os.environ, "BEATLINE_PROCESSES": str(count)}
    command = [sys.executable, "-m", "benchmarks.processes", str(shards)]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    wall, processor = json.loads(done.stdout.splitlines()[-1])
    return wall, processor


def main() -> None:
    seconds = dict.fromkeys(CASES, (np.inf, np.inf))
    for _ in range(ROUNDS):
        for name, case in CASES.items():
            wall, processor = timed(*case)
            seconds[name] = min(seconds[name][0], wall), min(seconds[name][1], processor)
    baseline = seconds["1 process, 1 shard"]
    print(f"an epoch of {RECORDS} recordings, one thread per process")
    for name, (wall, processor) in seconds.items():
        print(
            f"{name:22} {wall:6.2f} s, {baseline[0] / wall:4.2f} x   "
            f"processor {processor:6.2f} s, {baseline[1] / processor:4.2f} x"
        )
    speed = baseline[0] / seconds["2 processes"][0]
    if speed < AT_LEAST:
        sys.exit(f"two processes are {speed:.2f} times as fast as one, not {AT_LEAST}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        train(int(sys.argv[1]))
    else:
        main()
