"""The temperature that brings logits to what is observed: they are divided by it (Guo et al. 2017, On
calibration of modern neural networks, ICML). Where it is above 1 the model was too sure."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from beatline.prediction import losses
from beatline.prediction.tasks import Task
from beatline.prediction.windows import Windows, aggregated

LEAST = 1e-16  # that float64 can tell a probability from 1 by
BOUNDS = -6.0, 6.0  # of the logarithm of a temperature


def likeliest(
    task: Task,
    logits: torch.Tensor,
    targets: np.ndarray,
    windows: Windows,
    *,
    expected: float = 1.0,
    deviation: float = 0.5,
) -> float:
    """Return the temperature of the likeliest predictions, aggregated over the windows of recordings.

    `logits`: `[N, W, K]` float64, of all K classes; `targets`: 0/1 `[N, K]`. Where all records are on the
    right side the likelihood knows no limit: a weak prior sets one, that the temperature's logarithm has
    a `deviation` from that of the `expected` one: with 95 %, 0.5 means a factor of e at most.
    """
    # Not above: it takes a fifth of a second to import, and most trainings need none.
    from scipy.optimize import minimize_scalar

    exclusive = task.name == "multiclass"
    labels = targets if exclusive else np.concatenate([1 - targets, targets], axis=1)
    centre = np.log(expected)

    def loss(logarithm: float) -> float:
        cooled = logits.flatten(0, 1) / np.exp(logarithm)
        predictions = losses.for_task(task).predict(cooled, cooled).view_as(logits)
        found = aggregated(predictions, windows).numpy()
        if not exclusive:
            found = np.concatenate([1 - found, found], axis=1)
        likelihood = np.log(np.clip(found[labels == 1], LEAST, 1)).sum()
        return float(((logarithm - centre) / deviation) ** 2 / 2 - likelihood)

    found: Any = minimize_scalar(loss, bounds=BOUNDS, method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))
