"""Logistic regression, fitted by scikit-learn: what a table says without any interaction.

Classes that exclude each other are one multinomial regression, others one regression each. A
recording or window of several time steps is flattened.
"""

from __future__ import annotations

import warnings

import pandas as pd
import torch
from pydantic import Field
from torch import nn

from beatline.common.errors import warn
from beatline.common.params import AtLeastOne, Parameters
from beatline.models import Examples, Learning, Shape, _estimators
from beatline.models._estimators import ClassWeights
from beatline.prediction import inference
from beatline.prediction.tasks import Task

LEARNS = "labels"


class Architecture(Parameters):
    """It has none: a coefficient per feature and output."""


class Train(Learning):
    """`l2`: strength of the penalty ``l2 / 2 * |coefficients|^2``, beside the sum of the examples' losses
    (scikit-learn's C is 1 / l2). `iterations`: at most so many of L-BFGS."""

    l2: float = Field(gt=0)
    iterations: AtLeastOne
    class_weights: ClassWeights = "none"


class Network(nn.Module):
    def __init__(self, architecture: Architecture, shape: Shape, outputs: int) -> None:
        del architecture  # the interface of all networks
        super().__init__()
        self.linear = nn.Linear(shape[0] * shape[1], outputs)

    def forward(self, recordings: torch.Tensor) -> torch.Tensor:
        return self.linear(recordings.flatten(1))


def fit(
    network: Network, task: Task, train: Examples, validation: Examples, parameters: Train
) -> tuple[pd.DataFrame, int]:
    """Fit `network` in place. The history has one row."""
    # Not above: whoever only loads the model needs no scikit-learn, which takes a second to import.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    rows, targets = _estimators.table(train, parameters.windows)
    weight, bias = torch.zeros_like(network.linear.weight), torch.zeros_like(network.linear.bias)
    for problem in _estimators.problems(task, targets):
        for output, logit in problem.prior().items():
            bias[output] = logit
        if problem.constant:
            continue
        estimator = LogisticRegression(C=1 / parameters.l2, max_iter=parameters.iterations)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            estimator.fit(rows, problem.labels, problem.weights(parameters.class_weights))
        if any(issubclass(warning.category, ConvergenceWarning) for warning in caught):
            warn(f"not converged in {parameters.iterations} iterations: raise iterations or l2")
        outputs = problem.learned()
        weight[outputs] = torch.from_numpy(estimator.coef_).to(weight)
        bias[outputs] = torch.from_numpy(estimator.intercept_).to(bias)
    with torch.no_grad():
        network.linear.weight.copy_(weight)
        network.linear.bias.copy_(bias)
    network.to(train.recordings.device)
    parts = [
        (inference.predict(network, task, part.recordings, parameters.windows), part.targets)
        for part in (train, validation)
    ]
    return pd.DataFrame([_estimators.history_row(task, 1, *parts)]), 1
