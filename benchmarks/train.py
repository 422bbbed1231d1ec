"""Training throughput: the project's loop against the plain one of most notebooks.

The same networks on the same recordings (12 leads x 1000 samples, white noise: the arithmetic does
not depend on the values) and the same machine, each loop in a process of its own, because the
project's loop changes how the process keeps memory. The plain loop is a DataLoader over a Dataset,
batch 32, float32, Adam. Run by ``make bench`` or ``python -m benchmarks.train``; exits 1 if the
project's loop is not at least 1.5 times as fast with the cnn_lstm.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from beatline import models
from beatline.common import params
from beatline.models import Examples
from beatline.prediction import devices, tasks
from beatline.prediction.device_data import Recordings
from beatline.training.loop import fit
from beatline.training.parameters import Train

RECORDS, LENGTH, LEADS, CLASSES = 512, 1000, 12, 5
REPEATS = 3
AT_LEAST = {"cnn_lstm": 1.5}
# The textbook networks, so that both loops run what a notebook would.
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "cnn_lstm": {
        "filters": [64, 128],
        "kernels": [7, 5],
        "pool": 2,
        "hidden": 128,
        "pooling": "last",
        "dense": 64,
        "dropout": 0.5,
    },
    "lstm": {
        "hidden": 128,
        "layers": 1,
        "pooling": "last",
        "dropout": 0.5,
    },
    "cnn": {
        "dimensions": 1,
        "blocks": "residual",
        "stem_kernel": 7,
        "filters": [64, 64, 128],
        "kernels": [5, 3],
        "strides": [1, 2, 2],
        "pooling": "average_max",
        "dropout": 0.5,
    },
}
TRAINING: dict[str, Any] = {
    "optimizer": {"name": "adam", "learning_rate": 1e-3, "weight_decay": 0.0},
    "schedule": {"name": "constant", "patience": 1},
    "epochs": 1,
    "batch_size": 64,
    "monitor": "loss",
    "threshold_percentile": 95,
    "seed": 1,
}


def recordings() -> tuple[np.ndarray, np.ndarray]:
    """Signals `[N, T, C]` float32 and targets `[N, K]`."""
    draw = np.random.default_rng(1)
    signals = draw.standard_normal((RECORDS, LENGTH, LEADS), dtype=np.float32)
    return signals, draw.integers(0, 2, (RECORDS, CLASSES)).astype(np.int8)


def network(name: str) -> nn.Module:
    torch.manual_seed(1)
    architecture = models.module(name).Architecture.model_validate(ARCHITECTURES[name])
    return models.create(
        models.module(name), architecture, (LENGTH, LEADS), CLASSES, f"benchmarks.train: {name}"
    )


def plain_epoch(name: str) -> float:
    """Seconds of one epoch of the plain loop, after a warm-up of a few steps."""
    signals, targets = recordings()
    dataset = TensorDataset(torch.from_numpy(signals), torch.from_numpy(targets).float())
    device = devices.choose()
    net = network(name).to(device).train()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    loss_of = nn.BCEWithLogitsLoss()

    def steps(most: int | None = None) -> None:
        for number, (inputs, wanted) in enumerate(DataLoader(dataset, 32, shuffle=True)):
            if number == most:
                return
            optimizer.zero_grad()
            loss = loss_of(net(inputs.to(device)), wanted.to(device))
            loss.backward()
            optimizer.step()
            loss.item()

    steps(3)
    began = time.perf_counter()
    steps()
    return time.perf_counter() - began


def our_epoch(name: str) -> float:
    """Seconds that an epoch adds to the project's loop: three epochs less one, halved."""
    signals, targets = recordings()
    device = devices.choose()
    devices.keep_freed_memory()
    devices.make_deterministic(seed=1)
    rows = np.arange(RECORDS)
    train = Examples(Recordings(signals, rows, device), targets)
    # Two validation records: the plain loop has none, and its epochs shall be compared like with like.
    validation = Examples(Recordings(signals, rows[:2], device), np.eye(2, CLASSES))
    seconds = {}
    for epochs in (1, 3):
        parameters = params.validated({**TRAINING, "epochs": epochs}, "benchmark", Train)
        began = time.perf_counter()
        fit(network(name), tasks.TASKS["multilabel"], train, validation, parameters)
        seconds[epochs] = time.perf_counter() - began
    return (seconds[3] - seconds[1]) / 2


def main() -> int:
    failed = False
    print(
        f"{'network':10s} {'plain':>12s} {'ours':>12s} {'ratio':>7s}   (records/s, {LEADS} x {LENGTH})"
    )
    for name in ARCHITECTURES:
        rates: dict[str, list[float]] = {"plain": [], "ours": []}
        for _ in range(REPEATS):  # in turn, so that a drift of the machine's speed hits both
            for loop in rates:
                rates[loop].append(RECORDS / _in_own_process(loop, name))
        plain, ours = (statistics.median(rates[loop]) for loop in ("plain", "ours"))
        print(f"{name:10s} {plain:12.0f} {ours:12.0f} {ours / plain:6.2f}x", flush=True)
        failed |= ours / plain < AT_LEAST.get(name, 0)
    return int(failed)


def _in_own_process(loop: str, name: str) -> float:
    command = [sys.executable, "-m", "benchmarks.train", loop, name]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(run.stdout.splitlines()[-1])


if __name__ == "__main__":
    if sys.argv[1:]:
        print(json.dumps({"plain": plain_epoch, "ours": our_epoch}[sys.argv[1]](sys.argv[2])))
    else:
        sys.exit(main())
