"""Explanations: the parts of a recording that moved an answer.

Parts are replaced, one after the other, by the training mean, and the answer is asked for again:
occlusion (Zeiler & Fergus 2014, Visualizing and understanding convolutional networks, ECCV). It needs
nothing of the network but its answers, so that all models are explained in the same way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from beatline.prediction.windows import aggregated
from beatline.serving.model import Model, Outputs

PARTS = 20  # of the time and of the channels, at most
METHOD = (
    "occlusion: one part of the recording after the other is replaced by the mean of the training; "
    "shown is by how much the answer falls without it, or rises where that is below 0"
)


@dataclass(frozen=True)
class Explanation:
    """`steps`: S parts of the time, each from its first sample to the one after its last; `channels`: G
    groups of channels; `importance` `[K, S, G]`: by how much each value falls without the part."""

    steps: list[tuple[int, int]]
    channels: list[list[str]]
    importance: np.ndarray


def explain(model: Model, signal: np.ndarray, outputs: Outputs, length: int) -> Explanation:
    """Explain the answer `outputs` about the first `length` steps of a normalized recording `[T, C]`."""
    steps = parts(length, PARTS)
    # A row of a table has no time: each feature is looked at on its own.
    groups = parts(signal.shape[1], PARTS if len(signal) > 1 else signal.shape[1])
    importance = np.empty((len(outputs.values), len(steps), len(groups)), dtype=np.float32)
    for number, step in enumerate(steps):
        without = _without(model, signal, outputs, step, groups)
        importance[:, number] = (outputs.values - without).T
    names = model.model_info["dataset"]["channels"]
    return Explanation(steps, [names[begin:end] for begin, end in groups], importance)


def parts(size: int, at_most: int) -> list[tuple[int, int]]:
    """Equal parts of `size`, the last of which may be smaller: where each begins and ends."""
    step = math.ceil(size / at_most)
    return [(begin, min(begin + step, size)) for begin in range(0, size, step)]


def _without(
    model: Model,
    signal: np.ndarray,
    outputs: Outputs,
    step: tuple[int, int],
    groups: list[tuple[int, int]],
) -> np.ndarray:
    """Values `[G, K]` without one part of the time in each group of channels in turn.

    Only the windows that see the part are looked at again.
    """
    seen = [
        number
        for number, start in enumerate(outputs.starts)
        if start < step[1] and step[0] < start + model.length
    ]
    by_window = np.repeat(outputs.by_window[None], len(groups), axis=0)
    for number in seen:
        start = outputs.starts[number]
        window = signal[start : start + model.length]
        occluded = np.repeat(window[None], len(groups), axis=0)
        inside = slice(max(step[0] - start, 0), step[1] - start)
        for group, (begin, end) in enumerate(groups):
            occluded[group, inside, begin:end] = 0
        by_window[:, number] = model.run(occluded)[0]
    return aggregated(by_window, model.windows)
