"""Explanations: the parts of a recording that moved an answer.

Parts are replaced, one after the other, by the training mean, and the answer is asked for again:
occlusion (Zeiler & Fergus 2014, Visualizing and understanding convolutional networks, ECCV). It needs
nothing of the network but its answers, so that all models are explained in the same way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from beatline.prediction.windows import aggregated, starts
from beatline.serving.model import Check, Model, Outputs, go_on

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


def explain(
    model: Model,
    signal: np.ndarray,
    outputs: Outputs,
    length: int,
    check: Check = go_on,
) -> Explanation:
    """Explain the answer `outputs` about the first `length` steps of a normalized recording `[T, C]`.

    `check` is called before each run of the model, and may raise to stop.
    """
    steps, groups = _parts(signal.shape, length)
    importance = np.empty((len(outputs.values), len(steps), len(groups)), dtype=np.float32)
    for number, step in enumerate(steps):
        without = _without(model, signal, outputs, step, groups, check)
        importance[:, number] = (outputs.values - without).T
    names = model.model_info["dataset"]["channels"]
    return Explanation(steps, [names[begin:end] for begin, end in groups], importance)


def seconds(model: Model, samples: int, *, explain: bool) -> float:
    """Estimate how long the answer for a recording takes that has so many `samples` per channel when it
    is prepared, without preparing it; `explain`: with the explanation of the whole."""
    return model.cost.seconds(*effort(model, samples, explain=explain))


def effort(model: Model, samples: int, *, explain: bool) -> tuple[int, int]:
    """Count the runs of a model's ONNX graph, and the windows in them, that an answer takes."""
    first = np.array(starts(samples, model.windows))
    runs, windows = model.runs(len(first)), len(first)
    if explain:
        channels = len(model.model_info["dataset"]["channels"])
        steps, groups = _parts((samples, channels), samples)
        seen = sum(len(_seen(model, first, step)) for step in steps)
        runs, windows = runs + seen * model.runs(len(groups)), windows + seen * len(groups)
    return runs, windows


def _parts(shape: tuple[int, ...], length: int) -> tuple[list[tuple[int, int]], ...]:
    """The parts of the first `length` steps and of the channels of a recording, by its shape `[T, C]`."""
    # A row of a table has no time: each feature is looked at on its own.
    return parts(length, PARTS), parts(shape[1], PARTS if shape[0] > 1 else shape[1])


def _seen(model: Model, first: np.ndarray, step: tuple[int, int]) -> list[int]:
    """The numbers of the windows, which begin at `first`, that see a part of the time."""
    return np.flatnonzero((first < step[1]) & (step[0] < first + model.length)).tolist()


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
    check: Check,
) -> np.ndarray:
    """Values `[G, K]` without one part of the time in each group of channels in turn.

    Only the windows that see the part are looked at again.
    """
    by_window = np.repeat(outputs.by_window[None], len(groups), axis=0)
    for number in _seen(model, np.array(outputs.starts), step):
        start = outputs.starts[number]
        window = signal[start : start + model.length]
        occluded = np.repeat(window[None], len(groups), axis=0)
        inside = slice(max(step[0] - start, 0), step[1] - start)
        for group, (begin, end) in enumerate(groups):
            occluded[group, inside, begin:end] = 0
        by_window[:, number] = model.run(occluded, check)[0]
    return aggregated(by_window, model.windows)
