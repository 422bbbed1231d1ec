"""Temperatures that bring a network's probabilities to what is observed on validation records.

Classes that exclude each other share one, others have one each. They are fitted by the likelihood of what
a user sees, the prediction aggregated over windows (:mod:`beatline.prediction.temperature`).
"""

from __future__ import annotations

import numpy as np
from torch import nn

from beatline.common.errors import warn
from beatline.models import Examples
from beatline.prediction import inference, temperature
from beatline.prediction.tasks import Task
from beatline.prediction.windows import Windows

FEWEST = 5  # records with a class, and without it: of fewer no probability is learned


def fit(
    network: nn.Module, task: Task, validation: Examples, windows: Windows, classes: list[str]
) -> np.ndarray:
    """Return the temperatures `[K]`, or `[1]` for exclusive classes, of a network that gives logits.

    A class with too few validation records keeps 1, and is warned of.
    """
    outputs = inference.window_outputs(network, validation.recordings, windows)
    targets, exclusive = validation.targets, task.name == "multiclass"
    groups = (
        [("the classes", [*range(len(classes))])]
        if exclusive
        else [(name, [k]) for k, name in enumerate(classes)]
    )
    found = []
    for name, columns in groups:
        counts = targets[:, columns].sum(axis=0)
        if not exclusive:
            counts = np.append(counts, len(targets) - counts)
        if np.sort(counts)[-2] < FEWEST:
            warn(f"too few validation records to calibrate {name}: its temperature stays 1")
            found.append(1.0)
            continue
        found.append(
            temperature.likeliest(task, outputs[..., columns], targets[:, columns], windows)
        )
    return np.array(found)
