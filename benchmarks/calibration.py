"""For which models a temperature pays, by validation records alone.

The trained models that give probabilities, each with the temperature of four fifths of the validation
patients on the last fifth, five times: the log loss and the calibration error that come of it, with
intervals over patients of the difference in log loss. Who reads the test records for this decision has
no test records any more.

Run as ``python -m benchmarks.calibration`` in a project whose models are trained (a minute). Exits 0: it
judges nothing.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from beatline import bundle
from beatline.bundle.combined import Combined, as_trained
from beatline.common.errors import reporting_mistakes
from beatline.evaluation import bootstrap
from beatline.models import Examples
from beatline.prediction import inference
from beatline.prediction.device_data import Recordings
from beatline.prediction.tasks import Task
from beatline.preprocessing import arrays
from beatline.training import calibration

FOLDS, RESAMPLES, SEED = 5, 2000, 1
CPU = torch.device("cpu")


def crossed(
    trained: bundle.Bundle, validation: arrays.SplitArrays, fold: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Predictions `[N, K]` of the validation records without a temperature, and each with that of the
    other folds."""
    targets, task, windows = validation.targets(trained.classes), trained.task, trained.windows
    network = Combined([as_trained(trained.network)], task, len(trained.classes), calibrated=True)

    def examples(rows: np.ndarray) -> Examples:
        return Examples(Recordings(validation.signals, rows, CPU), targets[rows])

    everything = Recordings(validation.signals, np.arange(len(targets)), CPU)
    before = inference.predict(network, task, everything, windows)
    after = np.empty_like(before)
    for number in range(FOLDS):
        inside, outside = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
        fitted = calibration.fit(network, task, examples(outside), windows, trained.classes)
        network.temperature.copy_(torch.from_numpy(fitted))
        held_out = examples(inside).recordings
        after[inside] = inference.predict(network, task, held_out, windows)
        network.temperature.fill_(1)
    return before, after


def losses_of(task: Task, targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """The log loss `[N]` of each record."""
    return np.array(
        [task.prediction_loss(predictions[[row]], targets[[row]]) for row in range(len(targets))]
    )


def main() -> int:
    """Print a row per model; return the exit status."""
    print(f"{'':24} log loss      with          difference                     calibration error")
    for path in sorted(Path("data/models").glob(f"*/*/{bundle.DESCRIPTION}")):
        trained = bundle.load(path.parent)
        task = trained.task
        if task.learns_normal_only or trained.description.get("members"):
            continue
        dataset, model = path.parts[-3:-1]
        validation = arrays.load_split(
            Path(f"data/normalized/{dataset}/validation"), trained.classes
        )
        groups, number = np.unique(validation.table["group"], return_inverse=True)
        fold = np.random.default_rng(SEED).permutation(len(groups))[number] % FOLDS
        targets = validation.targets(trained.classes)
        sides = crossed(trained, validation, fold)
        each = [losses_of(task, targets, side) for side in sides]
        weights = bootstrap.once_and_resampled(number, RESAMPLES, SEED)
        gain = weights @ (each[1] - each[0]) / weights.sum(axis=1)
        low, high = bootstrap.percentile_interval(gain[1:])
        squared = [
            bootstrap.squared_calibration_error(targets, side, number, weights[:1]).mean()
            for side in sides
        ]
        errors = np.sqrt(np.maximum(squared, 0))
        print(
            f"{f'{dataset}/{model}':24} {each[0].mean():.4f} → {each[1].mean():.4f}   "
            f"{gain[0]:+.4f} [{low:+.4f}, {high:+.4f}]   {errors[0]:.3f} → {errors[1]:.3f}",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    with reporting_mistakes():
        sys.exit(main())
