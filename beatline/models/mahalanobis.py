"""The distance of Mahalanobis to normal examples: a detector for tables, and the baseline of detectors.

Each section (machine) has the mean of its normal training examples, and all have one covariance, of the
deviations from these means; the score is the distance to the nearest mean (Mahalanobis 1936, Proc. Natl.
Inst. Sci. India 2; Lee et al. 2018, A simple unified framework for detecting out-of-distribution samples,
NeurIPS; so DCASE's baseline detects too, by reconstruction errors: Harada et al. 2023, First-shot anomaly
detection for machine condition monitoring, EUSIPCO). No section is needed in use. The covariance is that
of scikit-learn's OAS, shrunk as Chen et al. 2010 do (IEEE Trans. Signal Process. 58): there may be few
examples. A recording or window of several time steps is flattened.
"""

from __future__ import annotations

import pandas as pd
import torch
from torch import nn

from beatline.common.errors import UserError
from beatline.common.params import Parameters
from beatline.models import Examples, Learning, Shape, _estimators
from beatline.prediction import inference
from beatline.prediction.tasks import Task

LEARNS = "sections"
MOST_VALUES = 2048  # of an example, whose covariance takes 32 MiB in float64
LEAST_VARIANCE = 1e-5  # of normalized values, in any direction


class Architecture(Parameters):
    """It has none: a mean per section, and a covariance."""


class Train(Learning):
    """Nothing of its own."""


class Network(nn.Module):
    """Gives anomaly scores `[B, 1]`: the squared distance to the nearest of `means` `[S, D]`, which are
    whitened as a window is by `whitening` `[D, D]`, divided by D: near 1 for a normal window."""

    def __init__(self, architecture: Architecture, shape: Shape, outputs: int) -> None:
        del architecture  # the interface of all networks
        super().__init__()
        if (size := shape[0] * shape[1]) > MOST_VALUES:
            raise UserError(
                f"mahalanobis compares windows of at most {MOST_VALUES:,} values, not of {size:,}: set "
                f"windows.length, or train autoencoder or embedding"
            )
        self.means = nn.Parameter(torch.zeros(outputs, size))
        self.whitening = nn.Parameter(torch.eye(size))

    def forward(self, recordings: torch.Tensor) -> torch.Tensor:
        whitened = recordings.flatten(1) @ self.whitening
        squares = (whitened.unsqueeze(1) - self.means).square().mean(dim=2)
        return squares.amin(dim=1, keepdim=True)


def fit(
    network: Network, task: Task, train: Examples, validation: Examples, parameters: Train
) -> tuple[pd.DataFrame, int]:
    """Fit `network` in place. The history has one row; its losses are mean scores of normal examples."""
    # Not above: whoever only loads the model needs no scikit-learn, which takes a second to import.
    from sklearn.covariance import OAS

    rows, sections = _estimators.table(train, parameters.windows)
    sections = sections[:, sections.any(axis=0)]  # those with a normal example
    means = sections.T @ rows / sections.sum(axis=0)[:, None]
    deviations = rows - means[sections.argmax(axis=1)]
    covariance = torch.from_numpy(OAS(assume_centered=True).fit(deviations).covariance_)
    variances, directions = torch.linalg.eigh(covariance)
    whitening = directions / variances.clamp_min(LEAST_VARIANCE).sqrt()
    with torch.no_grad():
        network.whitening.copy_(whitening)
        network.means.copy_(torch.from_numpy(means[0]) @ whitening)  # of sections without examples
        network.means[: len(means)] = torch.from_numpy(means) @ whitening
    network.to(train.recordings.device)
    normal = Examples(train.recordings, train.targets[:, :1] * 0)
    parts = [
        (inference.predict(network, task, part.recordings, parameters.windows), part.targets)
        for part in (normal, validation)
    ]
    return pd.DataFrame([_estimators.history_row(task, 1, *parts)]), 1
