"""Inference: recordings to predictions, the same way in training, in evaluation and in a bundle."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from beatline.prediction import losses
from beatline.prediction.device_data import Recordings
from beatline.prediction.tasks import Task
from beatline.prediction.windows import Windows, aggregated, starts

BATCH = 128  # windows in one forward pass: bounds memory; small enough for the processor's cache


@torch.inference_mode()
def predict(network: nn.Module, task: Task, recordings: Recordings, windows: Windows) -> np.ndarray:
    """Return predictions `[N, K]` (probabilities or an anomaly score), float32, in the recordings' order.

    The network computes in float32 here, whatever it was trained in, so that a prediction does not
    depend on the processor's 16-bit arithmetic.
    """
    network.eval()
    each = len(starts(recordings.length, windows))
    parts = []
    for inputs in batches(recordings, windows):
        window_predictions = losses.for_task(task).predict(network(inputs), inputs).float()
        window_predictions = window_predictions.reshape(len(inputs) // each, each, -1)
        parts.append(aggregated(window_predictions, windows).cpu().numpy())
    return np.concatenate(parts)


@torch.inference_mode()
def window_outputs(network: nn.Module, recordings: Recordings, windows: Windows) -> torch.Tensor:
    """The network's outputs for the windows of each recording, `[N, W, K]` float64, on the CPU."""
    network.eval()
    each = len(starts(recordings.length, windows))
    outputs = torch.cat([network(inputs).cpu() for inputs in batches(recordings, windows)])
    return outputs.double().unflatten(0, (-1, each))


def records_at_once(recording_length: int, windows: Windows) -> int:
    """The number of recordings whose windows are one batch."""
    return max(BATCH // len(starts(recording_length, windows)), 1)


def batches(recordings: Recordings, windows: Windows) -> Iterator[torch.Tensor]:
    """The windows of all recordings in order, `[B, T, C]`, those of one recording in one batch."""
    first = starts(recordings.length, windows)
    length = windows.steps(recordings.length)
    whole = first == [0] and length == recordings.length
    at_once = records_at_once(recordings.length, windows)
    runs = torch.arange(len(recordings)).split(at_once)
    if whole:
        return recordings.stream((positions, None) for positions in runs)
    each = torch.tensor(first)
    return recordings.stream(
        ((run.repeat_interleave(len(first)), each.repeat(len(run))) for run in runs), length
    )
