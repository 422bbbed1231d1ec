"""Data larger than memory: what a batch costs from disk, and what stages need when records are many.

First the committed cnn's epochs of simulated ECGs in windows of 2.5 s: resident, the baseline, against
streamed from the disk, whose cache is emptied of the file (cold) or holds it (warm). Exits 1 if streamed
is below 70 % of resident.

Then split, normalize, train (one epoch of that cnn) and evaluate, of 20,000 ECGs and ten times as many,
100 Hz, 12 leads, 10 s, where BEATLINE_RESIDENT_MB allows 1,000 MB: 256 simulated ones, over and over with
another beginning and gain. Exits 1 if a stage needs more than 3 GB, or 1.3 times as long per record as
with the few. Run by ``python -m benchmarks.memory [records]``: the default, 200,000, needs 15 GB of disk.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from beatline.common import params, sums
from beatline.common.files import read_json, write_csv, write_json
from beatline.formats.leads import LEADS
from beatline.models import Examples
from beatline.prediction import devices, tasks
from beatline.prediction.device_data import RESIDENT_MB, Recordings
from beatline.preprocessing import arrays
from beatline.preprocessing.arrays import Encoding
from beatline.simulators.ecg import simulator

SIMULATED, SEED, SAMPLING_RATE = 256, 1, 100
CLASSES = ["NORM", "MI", "STTC", "CD", "HYP"]
FEW, MANY, RESIDENT, MOST_MB, SLOWER = 20_000, 200_000, "1000", 3000, 1.3
SPEED_RECORDS, REPEATS, AT_LEAST = 2048, 3, 0.7
PLACES = ("resident", "streamed, warm", "streamed, cold")
NAME = "ecgs"
ROOT = Path(__file__).parents[1]


def ecgs(records: int, seed: int = SEED) -> Iterator[np.ndarray]:
    """Recordings in mV, as batches `[B, T, 12]` float32."""
    cohort = simulator.cohort(SIMULATED, SEED)
    simulated = [simulator.signals(record, SEED, SAMPLING_RATE) for record in cohort]
    base = np.asarray(simulated, np.float32)
    rng = np.random.default_rng(seed)
    for first in range(0, records, SIMULATED):
        gain = rng.uniform(0.7, 1.3, (SIMULATED, 1, 1)).astype(np.float32)
        moved = np.roll(base, rng.integers(base.shape[1]), axis=1) * gain
        yield moved[: records - first]


def labels(records: int) -> pd.DataFrame:
    """A table of two records per patient, with classes at random: speed does not depend on them."""
    rng = np.random.default_rng(SEED)
    numbers = np.arange(records)
    table = pd.DataFrame({"record": numbers.astype(str), "group": (numbers // 2).astype(str)})
    classes = rng.integers(0, 5, records)
    table["normal"], table["fold"] = (classes == 0).astype(int), "train"
    return table.assign(**{name: (classes == k).astype(int) for k, name in enumerate(CLASSES)})


# ---------------------------------------------------------------- streamed against resident


def epoch(place: str, folder: Path) -> float:
    """Seconds of one more epoch, of recordings in that place: the fastest of REPEATS."""
    from beatline.bundle import model as bundle  # its process alone needs torch's export
    from beatline.training import loop
    from beatline.training.parameters import Train

    os.environ[RESIDENT_MB] = "1000" if place == "resident" else "0"
    content = params.load(ROOT / params.PATH)
    cnn = dict(content["train"]["cnn"]["ptbxl"])
    architecture = cnn.pop("architecture")
    parameters = params.validated({**content["training"], **cnn, "epochs": 1}, "cnn", Train)
    devices.keep_freed_memory()
    devices.make_deterministic(SEED)
    split, device = arrays.load_split(folder), devices.choose()
    targets = split.targets(CLASSES)
    train = Examples(Recordings(split.signals, np.arange(len(targets)), device), targets)
    validation = Examples(Recordings(split.signals, np.arange(2), device), np.eye(2, 5, dtype="i1"))
    info = {
        "architecture": {"name": "cnn", "parameters": architecture},
        "dataset": {"channels": list(LEADS), "length": train.recordings.length},
        "windows": parameters.windows.completed(train.recordings.length, "windows").model_dump(),
        "classes": CLASSES,
        "sections": [],
    }
    seconds = []
    for repeat in range(REPEATS + 1):
        if place.endswith("cold"):
            _empty_cache(folder / arrays.SIGNALS)
        began = time.perf_counter()
        loop.fit(
            bundle.network_of(info, "benchmarks.memory"),
            tasks.TASKS["multilabel"],
            train,
            validation,
            parameters,
        )
        seconds += [time.perf_counter() - began] if repeat else []
    return min(seconds)


def _empty_cache(path: Path) -> None:
    with path.open("rb") as file:
        os.fdatasync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def compare_places(folder: Path) -> bool:
    arrays.write_split(folder, ecgs(SPEED_RECORDS), labels(SPEED_RECORDS))
    rates: dict[str, list[float]] = {place: [] for place in PLACES}
    for _ in range(REPEATS):  # in turn, so that a drift of the machine's speed hits all
        for place in PLACES:
            command = [sys.executable, "-m", "benchmarks.memory", "epoch", place, str(folder)]
            run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
            rates[place].append(SPEED_RECORDS / json.loads(run.stdout.splitlines()[-1]))
    medians = {place: statistics.median(rates[place]) for place in PLACES}
    for place, rate in medians.items():
        print(f"{place:16s} {rate:8.0f} windows/s  {rate / medians['resident']:6.0%}", flush=True)
    return min(medians.values()) >= AT_LEAST * medians["resident"]


# ---------------------------------------------------------------- few records against many


def prepare(root: Path, records: int) -> None:
    """Write the recordings, their labels and params.yaml into a project in `root`."""
    info: dict[str, Any] = {
        "title": "simulated 12-lead ECGs, over and over",
        "source": "beatline/simulators/ecg",
        "citation": "benchmarks/memory.py",
        "simulated": True,
        "channels": list(LEADS),
        "sampling_rate": SAMPLING_RATE,
        "unit": "mV",
        "drawing": "twelve_leads",
        "task": "multilabel",
        "sections": None,
        "representation": None,
        "classes": CLASSES,
        "counts": {"records": records},
    }
    recordings, table = root / "data/features" / NAME, labels(records)
    # 16 bits, as recorders store them.
    encoding = Encoding("int16", [50.0] * len(LEADS))
    arrays.write_split(recordings / "recordings", ecgs(records), table, encoding)
    write_csv(root / "data/labels" / NAME / "labels.csv", table)
    for folder in (recordings, root / "data/labels" / NAME):
        write_json(folder / "dataset.json", info)
        sums.seal(folder)
    content = params.load(ROOT / params.PATH)
    block = content["datasets"]["ptbxl"]
    block["normalize"]["recordings"] = f"data/features/{NAME}"
    cnn = {**content["train"]["cnn"]["ptbxl"], "epochs": 1}
    content |= {"datasets": {NAME: block}, "extract_features": {}, "train": {"cnn": {NAME: cnn}}}
    content["report"] = {}
    write_json(root / params.PATH, content)  # which is YAML too


def measured(root: Path, stage: list[str], **settings: str) -> tuple[float, float, float]:
    """Seconds, seconds of the processor and megabytes, at their most, of a stage in a process of its
    own, which has more `settings` in its environment. It has no fewer megabytes than this process, of
    which it is a copy at first."""
    environment = {**os.environ, **settings, "PYTHONPATH": str(ROOT)}
    began = time.perf_counter()
    with (root / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *stage], cwd=root, env=environment, stdout=log, stderr=log
        )
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{stage} failed:\n{(root / 'log').read_text()[-2000:]}")
    processor = usage.ru_utime + usage.ru_stime
    return time.perf_counter() - began, processor, usage.ru_maxrss / 1000


def few_and_many(folder: Path, many: int) -> bool:
    stages = [["stages.split", NAME], ["stages.normalize", NAME]]
    stages += [["stages.train", "cnn", NAME], ["stages.evaluate", "cnn", NAME]]
    fits, of_few = True, {}
    for records in (FEW, many):
        with tempfile.TemporaryDirectory(dir=folder) as root:
            prepare(Path(root), records)
            for stage in stages:
                seconds, processor, megabytes = measured(
                    Path(root), stage, **{RESIDENT_MB: RESIDENT}
                )
                each = 1000 * seconds / records
                ratio = each / of_few.setdefault(stage[0], each)
                print(
                    f"{stage[0]:17s} {records:9,d} records {seconds:8.1f} s {each:7.2f} ms each "
                    f"({ratio:4.2f}x) {processor:8.1f} s of processor {megabytes:7.0f} MB",
                    flush=True,
                )
                fits &= megabytes <= MOST_MB and ratio <= SLOWER
            shares = read_json(Path(root) / f"reports/metrics/{NAME}/split.json")
            assert shares["leak"] == 0
    return fits


def main(many: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        fast = compare_places(Path(folder) / "speed")
        return int(not (few_and_many(Path(folder), many) and fast))


if __name__ == "__main__":
    if sys.argv[1:2] == ["epoch"]:
        print(json.dumps(epoch(sys.argv[2], Path(sys.argv[3]))))
    else:
        sys.exit(main(int(sys.argv[1]) if sys.argv[1:] else MANY))
