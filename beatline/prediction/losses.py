"""Each task's loss, and how a network's outputs become predictions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from beatline.prediction.tasks import Task


@dataclass(frozen=True)
class Loss:
    """`loss(outputs, inputs, targets, class_weights)`: a scalar to minimize, from logits `[B, K]` (or a
    reconstruction `[B, T, C]`), inputs `[B, T, C]`, targets `[B, K]` in {0, 1}, weights `[K]`.
    `predict(outputs, inputs)`: `[B, K]`, probabilities or an anomaly score: that of an autoencoder's
    reconstruction, or its own, if it gives `(reconstruction, score)`."""

    loss: Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]
    predict: Callable[[Any, torch.Tensor], torch.Tensor]


def for_task(task: Task) -> Loss:
    """Return the loss by which networks learn a task."""
    return _LOSSES[task.name]


def _binary_loss(
    outputs: torch.Tensor, _: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None
) -> torch.Tensor:
    return functional.binary_cross_entropy_with_logits(outputs, targets, pos_weight=weights)


def _exclusive_loss(
    outputs: torch.Tensor, _: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None
) -> torch.Tensor:
    return functional.cross_entropy(outputs, targets, weight=weights)


def _reconstruction_loss(
    outputs: torch.Tensor, inputs: torch.Tensor, _: torch.Tensor, __: torch.Tensor | None
) -> torch.Tensor:
    return functional.mse_loss(outputs, inputs)


def reconstruction(outputs: torch.Tensor | tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Return the reconstruction `[B, T, C]` in an autoencoder's outputs."""
    return outputs[0] if isinstance(outputs, tuple) else outputs


def _anomaly_score(
    outputs: torch.Tensor | tuple[torch.Tensor, torch.Tensor], inputs: torch.Tensor
) -> torch.Tensor:
    if isinstance(outputs, tuple):
        return outputs[1]
    return ((outputs - inputs) ** 2).mean(dim=(1, 2)).unsqueeze(1)


def _transform_loss(
    outputs: torch.Tensor, _: torch.Tensor, targets: torch.Tensor, __: torch.Tensor | None
) -> torch.Tensor:
    """Cross entropy over sections and pretext transforms: logits `[B, V, S * V]` of V transforms of
    each of B windows; transform v of section s is class s * V + v."""
    transforms = outputs.shape[1]
    section = targets.argmax(dim=1, keepdim=True) * transforms
    classes = section + torch.arange(transforms, device=outputs.device)
    return functional.cross_entropy(outputs.flatten(0, 1), classes.flatten())


_LABELS = Loss(_binary_loss, lambda outputs, _: torch.sigmoid(outputs))
_LOSSES = {
    "multilabel": _LABELS,
    "binary": _LABELS,
    "multiclass": Loss(_exclusive_loss, lambda outputs, _: torch.softmax(outputs, dim=1)),
    "reconstruction": Loss(_reconstruction_loss, _anomaly_score),
    "neighbours": Loss(_transform_loss, lambda outputs, _: outputs),
}
