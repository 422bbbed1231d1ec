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

LEAST, MOST = 1 / 8, 8.0  # temperatures: beyond, the validation records do not tell how sure to be
FEWEST = 5  # records with a class, and without it: of fewer no probability is learned


def fit(
    network: nn.Module, task: Task, validation: Examples, windows: Windows, classes: list[str]
) -> np.ndarray:
    """Return the temperatures `[K]`, or `[1]` for exclusive classes, of a network that gives logits.

    A class with too few validation records, or none that speaks against a temperature at the limit, keeps
    or gets that and is warned of.
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

    def loss(logarithm: float) -> float:
        cooled = outputs.flatten(0, 1) / np.exp(logarithm)
        predictions = losses.for_task(task).predict(cooled, outputs).view_as(outputs)
        return task.prediction_loss(aggregated(predictions, windows).numpy(), targets)

    bounds = float(np.log(LEAST)), float(np.log(MOST))
    found: Any = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-4})
    logarithm = float(found.x)
    if min(abs(logarithm - bound) for bound in bounds) < 1e-3:
        warn(
            f"the validation records set no limit to the temperature of {name}: it is "
            f"{np.exp(logarithm):.3g}; use more of them"
        )
    return float(np.exp(logarithm))
