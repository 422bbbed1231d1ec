"""How well our detectors find anomalies in machine sound, against the classic dense autoencoder.

That is the baseline of DCASE 2020 Task 2 (Koizumi et al. 2020, Description and discussion on DCASE2020
challenge task 2): five frames of the log-mel spectrogram in dB, 640 numbers, through dense layers of
128, 128, 128, 128, 8, 128, 128, 128, 128 units with batch norm and ReLU; one model for all machines,
100 epochs of Adam at 1e-3 in batches of 512; a recording's score is the mean squared error of its
frames. Ours are trained by the project's own stage with the committed parameters. All learn the same
training recordings, as the project's stages make them in a folder of their own, and are measured on
the same test recordings.

Run as ``python -m benchmarks.detectors``, or with ``--source FOLDER`` on a folder of your own instead of
the data set that is committed. Exits with status 1 if one of ours has no better mean AUC than the
baseline, unless both are perfect.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import yaml
from torch import nn

from beatline import bundle, metrics
from beatline.common import params
from beatline.common.files import read_json
from beatline.prediction import devices
from beatline.preprocessing import arrays
from beatline.preprocessing.arrays import SplitArrays

ROOT = Path(__file__).resolve().parent.parent
DATASET, DETECTORS = "machine_sound", ("autoencoder", "embedding")
STAGES = ("download", "aggregate_labels", "split", "extract_features", "normalize")
FRAMES, WIDTHS = 5, (128, 128, 128, 128, 8, 128, 128, 128, 128)
EPOCHS, BATCH, LEARNING_RATE, SEED = 100, 512, 1e-3, 1
MAX_FPR = 0.1

Score = Callable[[], tuple[np.ndarray, float]]  # anomaly scores of the test recordings, and seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--source", type=Path, help="a folder with normal/ and test/")
    source = parser.parse_args().source
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PYTHONPATH"] = str(ROOT)
        prepare(Path(folder), source)
        os.chdir(folder)
        data = Path("data/normalized") / DATASET
        test = arrays.load_split(data / "test")
        detectors: dict[str, Score] = {
            "dense, DCASE 2020": lambda: dense_baseline(data),
            **{name: lambda name=name: ours(name, test) for name in DETECTORS},
        }
        machines = test.table["machine_id"].astype(str).to_numpy()
        print(
            f"{len(machines)} test recordings of {len(set(machines))} machines, {os.cpu_count()} cores"
        )
        found = {name: report(name, score, test, machines) for name, score in detectors.items()}
    baseline, *others = found.values()
    return int(any(auc <= baseline < 1 or auc < baseline for auc in others))


def prepare(folder: Path, source: Path | None) -> None:
    """Run the stages before training in `folder`, with the committed parameters."""
    content = params.load(ROOT / params.PATH)
    if source:
        content["datasets"][DATASET]["download"]["source"] = str(source.resolve())
    (folder / params.PATH).write_text(yaml.safe_dump(content))
    for stage in STAGES:
        run_stage(stage, DATASET, folder=folder)


def run_stage(name: str, *arguments: str, folder: Path) -> None:
    command = [sys.executable, "-m", f"stages.{name}", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"stage {name} failed:\n{done.stdout}{done.stderr}")


def ours(name: str, test: SplitArrays) -> tuple[np.ndarray, float]:
    """Scores of the test recordings by one of our detectors, and the seconds that its stage took."""
    run_stage("train", name, DATASET, folder=Path.cwd())
    seconds = read_json(Path(f"data/durations/{DATASET}/{name}/train.json"))["train_seconds"]
    answers = bundle.load(f"data/models/{DATASET}/{name}").answer(test.signals)
    return answers.values[:, 0], seconds


# ------------------------------------------------------------------------------------ the baseline


def dense_baseline(data: Path) -> tuple[np.ndarray, float]:
    """Scores of the test recordings by the dense autoencoder, and the seconds of its training."""
    split = arrays.load_split(data / "train")
    train = stacked(split.signals[split.anomalies()[:, 0] == 0]).flatten(0, 1)
    devices.keep_freed_memory()
    torch.manual_seed(SEED)
    network = dense(train.shape[1])
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, fused=True)
    began = time.perf_counter()
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(train)).split(BATCH):
            inputs = train[batch]
            optimizer.zero_grad()
            nn.functional.mse_loss(network(inputs), inputs).backward()
            optimizer.step()
    seconds = time.perf_counter() - began
    network.eval()
    scores = []
    with torch.inference_mode():
        for spectrogram in arrays.load_split(data / "test").signals:
            inputs = stacked(spectrogram[None])[0]
            scores.append(float(nn.functional.mse_loss(network(inputs), inputs)))
    return np.array(scores), seconds


def stacked(spectrograms: np.ndarray) -> torch.Tensor:
    """Every FRAMES successive frames of spectrograms `[N, T, C]` as one: `[N, T - 4, 5 * C]`."""
    frames = torch.from_numpy(np.array(spectrograms)).unfold(1, FRAMES, 1)
    return frames.transpose(2, 3).flatten(2)


def dense(size: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    width = size
    for units in WIDTHS:
        layers += [nn.Linear(width, units), nn.BatchNorm1d(units), nn.ReLU()]
        width = units
    return nn.Sequential(*layers, nn.Linear(width, size))


# -------------------------------------------------------------------------------------- the report


def report(name: str, score: Score, test: SplitArrays, machines: np.ndarray) -> float:
    """Print AUC and pAUC per machine, and return the mean AUC."""
    scores, seconds = score()
    anomalies = test.anomalies()
    print(f"\n{name}: trained in {seconds:.0f} s")
    values = []
    for machine in sorted(set(machines)):
        of_machine = machines == machine
        labels, of_labels = anomalies[of_machine], scores[of_machine, None]
        auc = float(metrics.roc_auc(labels, of_labels)[0])
        partial_auc = float(metrics.partial_auc(labels, of_labels, MAX_FPR)[0])
        values.append((auc, partial_auc))
        print_row(machine, auc, partial_auc)
    table = np.array(values)
    print_row("mean", *table.mean(axis=0))
    print_row("harmonic mean", *(len(table) / (1 / np.maximum(table, 1e-12)).sum(axis=0)))
    sys.stdout.flush()
    return float(table[:, 0].mean())


def print_row(name: str, auc: float, partial_auc: float) -> None:
    print(f"  {name:20s} AUC {auc:.4f}  pAUC {partial_auc:.4f}")


if __name__ == "__main__":
    sys.exit(main())
