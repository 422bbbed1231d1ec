"""The network of a bundle that is more than one network as it was trained: the mean of several, or one
whose probabilities are calibrated.

A mean of networks from several seeds is right more often than each of them (Lakshminarayanan, Pritzel &
Blundell 2017, Simple and scalable predictive uncertainty estimation using deep ensembles, NeurIPS), and a
temperature brings probabilities to what is observed (Guo et al. 2017, On calibration of modern neural
networks, ICML). Both give outputs as one network does, so that weights and graph are one file each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from beatline.prediction.tasks import Task


class Combined(nn.Module):
    """Gives the logits of the mean of the probabilities of `networks`, divided by the `temperature` if it
    is `calibrated`: one number per class, or one where classes exclude each other, 1 as long as none was
    fitted. Of reconstructions and anomaly scores it gives the mean itself."""

    temperature: torch.Tensor

    def __init__(
        self, networks: Sequence[nn.Module], task: Task, classes: int, *, calibrated: bool
    ) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.task, self.calibrated = task.name, calibrated
        if calibrated:
            numbers = 1 if task.name == "multiclass" else classes
            self.register_buffer("temperature", torch.ones(numbers))

    def forward(self, windows: torch.Tensor) -> Any:
        outputs = [network(windows) for network in self.networks]
        if isinstance(outputs[0], tuple):  # reconstructions, and scores that are not by them
            return tuple(_mean(parts, self.task) for parts in zip(*outputs, strict=True))
        combined = _mean(outputs, self.task)
        return combined / self.temperature if self.calibrated else combined


def as_trained(network: nn.Module) -> nn.Module:
    """Return a network that is no mean as it was trained, without a temperature."""
    return network.networks[0] if isinstance(network, Combined) else network  # pyright: ignore


def _mean(outputs: Sequence[torch.Tensor], task: str) -> torch.Tensor:
    """Combine outputs so that what is predicted from them is the mean of the single predictions."""
    if len(outputs) == 1:
        return outputs[0]
    stacked = torch.stack(list(outputs))
    if task == "multiclass":
        return torch.logsumexp(torch.log_softmax(stacked, dim=-1), dim=0)
    if task in ("multilabel", "binary"):  # the logarithm of the odds of the mean
        yes, no = (-functional.softplus(sign * stacked) for sign in (-1, 1))
        return torch.logsumexp(yes, dim=0) - torch.logsumexp(no, dim=0)
    return stacked.mean(dim=0)
