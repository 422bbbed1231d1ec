"""Temperatures that bring a network's probabilities to what is observed on validation records.

A network's logits are divided by one number (Guo et al. 2017, On calibration of modern neural networks,
ICML): where it is above 1 the network was too sure. Classes that exclude each other share one, others
have one each. It is fitted by the likelihood of what a user sees, the prediction aggregated over windows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from beatline.common.errors import warn
from beatline.models import Examples
from beatline.prediction import inference, losses
from beatline.prediction.tasks import Task
from beatline.prediction.windows import Windows, aggregated

LEAST = 1e-16  # that float64 can tell a probability from 1 by
BOUNDS = -5.0, 5.0  # of the logarithm of a temperature
FEWEST = 5  # records with a class, and without it: of fewer no probability is learned


def fit(
    network: nn.Module, task: Task, validation: Examples, windows: Windows, classes: list[str]
) -> np.ndarray:
    """Return the temperatures `[K]`, or `[1]` for exclusive classes, of a network that gives logits.

    A class with too few validation records keeps 1, and is warned of.
    """
    outputs = inference.window_outputs(network, validation.recordings, windows)
    targets = validation.targets
    if task.name == "multiclass":
        return np.array([_fitted(task, outputs, targets, windows, "the classes")])
    return np.array(
        [
            _fitted(task, outputs[..., [k]], targets[:, [k]], windows, name)
            for k, name in enumerate(classes)
        ]
    )


def _fitted(
    task: Task, outputs: torch.Tensor, targets: np.ndarray, windows: Windows, name: str
) -> float:
    # Not above: it takes a fifth of a second to import, and most trainings need none.
    from scipy.optimize import minimize_scalar

    counts = targets.sum(axis=0)
    if task.name != "multiclass":
        counts = np.append(counts, len(targets) - counts)
    if np.sort(counts)[-2] < FEWEST:
        warn(f"too few validation records to calibrate {name}: its temperature stays 1")
        return 1.0

    if task.name != "multiclass":
        targets = np.concatenate([1 - targets, targets], axis=1)
    # One more record with each label, as in Laplace's rule of succession: where all validation records
    # are on the right side, the likelihood alone would ask for certainty.
    smoothed = (len(targets) * targets.astype(float) + 1) / (len(targets) + targets.shape[1])

    def loss(logarithm: float) -> float:
        cooled = outputs.flatten(0, 1) / np.exp(logarithm)
        predictions = losses.for_task(task).predict(cooled, outputs).view_as(outputs)
        found = aggregated(predictions, windows).numpy()
        if task.name != "multiclass":
            found = np.concatenate([1 - found, found], axis=1)
        return -float((smoothed * np.log(np.clip(found, LEAST, 1))).sum(axis=1).mean())

    found: Any = minimize_scalar(loss, bounds=BOUNDS, method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))
