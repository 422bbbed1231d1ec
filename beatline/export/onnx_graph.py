"""Export of a network as an ONNX graph, which :mod:`beatline.export.session` runs without torch.

ONNX Runtime predicts faster than torch with every model of ours, one recording at a time on one thread;
`python -m benchmarks.serving --networks` measures by how much.
"""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from beatline.export import limits
from beatline.export.session import ANSWERS, RECONSTRUCTION, WINDOWS, open_session
from beatline.prediction import losses
from beatline.prediction.tasks import Task

TOLERANCE = 1e-5  # of a prediction, relative to it where it is above 1
COMPARED = 3  # windows: another number than the graph was traced with


class NotExported(Exception):
    """The reason why a network has no ONNX graph, in one line."""


class _Predicting(nn.Module):
    """The network and its task's prediction in one module: windows `[B, T, C]` to the graph's outputs."""

    def __init__(self, network: nn.Module, task: Task) -> None:
        super().__init__()
        self.network = network
        self.predict: Callable[..., torch.Tensor] = losses.for_task(task).predict
        self.reconstructs = task.name == "reconstruction"

    def forward(self, windows: torch.Tensor) -> tuple[torch.Tensor, ...]:
        outputs = self.network(windows)
        predictions = self.predict(outputs, windows).float()
        return (
            (predictions, losses.reconstruction(outputs)) if self.reconstructs else (predictions,)
        )


def export(network: nn.Module, task: Task, shape: tuple[int, int]) -> bytes:
    """The graph: `windows` `[B, T, C]` in; `answers` `[B, K]` out, and of an autoencoder
    `reconstruction` `[B, T, C]` too. `shape`: T and C.

    Raises NotExported if the network cannot be written as one, if the graph is beyond the limits that the
    service holds it to, or if its predictions are others.
    """
    predicting = _Predicting(copy.deepcopy(network).cpu(), task).eval()
    samples = np.random.default_rng(0).standard_normal((COMPARED, *shape)).astype(np.float32)
    outputs = [ANSWERS, RECONSTRUCTION][: 1 + predicting.reconstructs]
    written = io.BytesIO()
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tracing; what it gets wrong, the comparison finds
            # By tracing: the newer exporter takes seconds a model, and fixes the number of windows.
            torch.onnx.export(
                predicting,
                (torch.from_numpy(samples[:1]),),
                written,  # pyright: ignore[reportArgumentType] (a file is fine by tracing)
                dynamo=False,
                input_names=[WINDOWS],
                output_names=outputs,
                dynamic_axes={name: {0: "number"} for name in (WINDOWS, *outputs)},
            )
            expected = predicting(torch.from_numpy(samples))[0].numpy()
        limits.check(
            written.getvalue(), shape, expected.shape[1], reconstructs=predicting.reconstructs
        )
        actual = open_session(written.getvalue()).run([ANSWERS], {WINDOWS: samples})[0]
    except Exception as error:  # any operation may be one that cannot be exported
        reason = next(iter(str(error).splitlines()), "")
        raise NotExported(f"{type(error).__name__}: {reason}") from None
    difference = np.abs(actual - expected) / np.maximum(np.abs(expected), 1)
    if not (difference <= TOLERANCE).all():
        raise NotExported(f"its predictions differ from torch's by {difference.max():.1e}")
    return written.getvalue()
