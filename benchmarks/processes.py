"""Time an epoch of the cnn of params.yaml in one process of one thread, and divided between two.

Run with `python -m benchmarks.processes`. Recordings are white noise of PTB-XL's shape: the arithmetic
does not depend on the values; computed is in float32 (bfloat16 with --auto, where the memory that both
cores share may be what limits two). Compared are one process without shards, one with two, and two with
two, each in processes of its own, in turn: of each round the median epochs are compared, and the median
round counts, since a machine is not always equally fast. Exits 1 if two processes are not 1.6 times as
fast as the one without shards; both cores must be free for that.
"""

from __future__ import annotations

import os
import statistics
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

RECORDS, VALIDATION = 1536, 384  # whose windows are six batches
LENGTH, LEADS, CLASSES, EPOCHS, ROUNDS = 1000, 12, 5, 4, 5
AT_LEAST = 1.6
CASES = {"1 process, 1 shard": (1, 1), "1 process, 2 shards": (1, 2), "2 processes": (2, 2)}


class _Clock(State):
    """A checkpoint that is not written, but tells when."""

    def __init__(self) -> None:
        super().__init__(Path(os.devnull))
        self.times: list[float] = []

    def load(self) -> None:
        self._now()

    def save(self, state: dict[str, Any]) -> None:
        del state
        self._now()

    def _now(self) -> None:
        self.times.append(time.perf_counter())


def recordings(count: int) -> Examples:
    generator = np.random.default_rng(1)
    signals = generator.standard_normal((count, LENGTH, LEADS), dtype=np.float32)
    targets = generator.integers(0, 2, (count, CLASSES)).astype(np.int8)
    return Examples(Recordings(signals, np.arange(count), torch.device("cpu")), targets)


def train(shards: int, precision: str) -> None:
    """Train, and print the median epoch's seconds."""
    architecture, committed = parameters_of(params.load(), "cnn", "ptbxl")
    changes = {
        "precision": precision,
        "epochs": EPOCHS,
        "shards": shards,
        "windows": committed.windows.completed(LENGTH, "windows"),
    }
    parameters = Train.model_validate({**committed.model_dump(), **changes})
    place = processes.place(shards)
    processes.prepare(place, shards)
    torch.set_num_threads(1)
    devices.keep_freed_memory()
    devices.make_deterministic(seed=1)
    command = ["-m", "benchmarks.processes", str(shards), precision]
    with processes.joined(place, {"shards": shards}, command) as group:
        kind, shape = models.module("cnn"), (parameters.windows.length, LEADS)
        network = models.create(kind, architecture, shape, CLASSES, "cnn")
        clock = _Clock()
        state = clock if group.is_first else None
        task, train, validation = TASKS["multilabel"], recordings(RECORDS), recordings(VALIDATION)
        loop.fit(network, task, train, validation, parameters, state, group)
    if place.rank == 0:
        print(statistics.median(np.diff(clock.times)[1:]))  # the first epoch warms up


def timed(count: int, shards: int, precision: str) -> float:
    environment = {**os.environ, "BEATLINE_PROCESSES": str(count)}
    command = [sys.executable, "-m", "benchmarks.processes", str(shards), precision]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout.splitlines()[-1])


def main() -> None:
    precision = "auto" if "--auto" in sys.argv else "float32"
    rounds = [
        {name: timed(*case, precision) for name, case in CASES.items()} for _ in range(ROUNDS)
    ]
    baseline = next(iter(CASES))
    faster = {
        name: statistics.median(seconds[baseline] / seconds[name] for seconds in rounds)
        for name in CASES
    }
    print(f"an epoch of {RECORDS} recordings, one thread per process, {precision}")
    for name in CASES:
        seconds = statistics.median(each[name] for each in rounds)
        print(f"{name:22} {seconds:6.2f} s, {faster[name]:4.2f} x", flush=True)
    if faster["2 processes"] < AT_LEAST:
        sys.exit(f"two processes are {faster['2 processes']:.2f} times as fast, not {AT_LEAST}")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        train(int(sys.argv[1]), sys.argv[2])
    else:
        main()
