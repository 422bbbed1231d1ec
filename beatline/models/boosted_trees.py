"""Gradient-boosted trees, grown by scikit-learn: the strong baseline for tables.

scikit-learn's HistGradientBoostingClassifier (after LightGBM, Ke et al. 2017) grows them. Classes that
exclude each other are one problem with a tree per class and iteration, others one problem each. A
recording or window of several time steps is flattened.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import nn
from tqdm import tqdm

from beatline.common.params import AtLeastOne, Parameters
from beatline.models import Examples, Learning, Shape, _estimators
from beatline.models._estimators import ClassWeights, Problem
from beatline.prediction.tasks import Task

LEARNS = "labels"


class Architecture(Parameters):
    """`iterations`: of boosting, at most; each grows a tree per output. `leaves`: of a tree, at most."""

    iterations: AtLeastOne
    leaves: int = Field(ge=2)


class Train(Learning):
    """`learning_rate`: share of a tree's value that is added. `leaf_records`: least number of training
    records (or windows) in a leaf. `l2`: penalty on the leaves' values. `features`: share of the
    features that is drawn for each split. `monitor`: `loss` keeps the iterations up to the one of least
    validation loss, `epoch` keeps all."""

    learning_rate: float = Field(gt=0, le=1)
    leaf_records: AtLeastOne
    l2: float = Field(ge=0)
    features: float = Field(gt=0, le=1)
    monitor: Literal["loss", "epoch"]
    class_weights: ClassWeights = "none"


class Network(nn.Module):
    """All nodes of all trees, those of a tree below its root in order, so that children follow parents.

    `number` `[nodes]`: the threshold of an inner node, the value of a leaf. `feature` `[nodes]`: which
    feature an inner node compares. `below` `[nodes, 2]`: where it goes on if that is not above,
    and if it is above the threshold; a leaf's are itself. `roots` `[K, trees]`. `bias` `[K]`. How many
    nodes and trees there are is only known when they are grown, or loaded.
    """

    number: nn.Parameter
    bias: nn.Parameter
    feature: torch.Tensor
    below: torch.Tensor
    roots: torch.Tensor

    def __init__(self, architecture: Architecture, shape: Shape, outputs: int) -> None:
        super().__init__()
        self.architecture = architecture
        self.inputs = shape[0] * shape[1]
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.number = nn.Parameter(torch.zeros(1))
        self.register_buffer("feature", torch.zeros(1, dtype=torch.int64))
        self.register_buffer("below", torch.zeros(1, 2, dtype=torch.int64))
        self.register_buffer("roots", torch.zeros(outputs, 1, dtype=torch.int64))
        self.depth = 0

    def forward(self, recordings: torch.Tensor) -> torch.Tensor:
        features = recordings.flatten(1)
        node = self.roots.flatten().expand(features.shape[0], -1)
        for _ in range(self.depth):
            above = features.gather(1, self.feature[node]) > self.number[node]
            node = self.below[node, above.long()]
        return self.bias + self.number[node].unflatten(1, self.roots.shape).sum(dim=2)

    def _load_from_state_dict(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, state_dict: Mapping[str, Any], prefix: str, *rest: Any
    ) -> None:
        """Load any number of nodes; ValueError if they are no trees."""
        for name in ("number", "feature", "below", "roots"):
            if (saved := state_dict.get(f"{prefix}{name}")) is not None:
                room = torch.empty_like(saved, device=self.bias.device)
                setattr(self, name, nn.Parameter(room) if name == "number" else room)
        super()._load_from_state_dict(state_dict, prefix, *rest)  # pyright: ignore
        self.depth = self._measured_depth()

    def _measured_depth(self) -> int:
        """Return the depth of the deepest leaf, its root being at 0."""
        below, roots, feature = self.below.cpu(), self.roots.cpu(), self.feature.cpu()
        own = torch.arange(len(below))[:, None]
        leaf = (below == own).all(dim=1)
        follow = ((below > own) & (below < len(own))).all(dim=1) | leaf
        rooted = (roots >= 0) & (roots < len(own))
        valid = (feature >= 0) & (feature < self.inputs)
        if not (follow.all() and rooted.all() and valid.all()):
            raise ValueError("the nodes are no trees")
        depth, level = 0, roots.flatten().unique()
        while not leaf[level].all():
            depth, level = depth + 1, below[level[~leaf[level]]].unique()
        return depth


def fit(
    network: Network, task: Task, train: Examples, validation: Examples, parameters: Train
) -> tuple[pd.DataFrame, int]:
    """Grow the trees of `network`. The history has a row per iteration."""
    rows, targets = _estimators.table(train, parameters.windows)
    problems = tqdm(_estimators.problems(task, targets), "grow trees", mininterval=10)
    grown = [_Grown(problem, rows, network.architecture, parameters) for problem in problems]
    stages = zip(
        _staged(grown, task, train, parameters),
        _staged(grown, task, validation, parameters),
        strict=True,
    )
    history = pd.DataFrame(
        _estimators.history_row(task, iteration, *parts)
        for iteration, parts in enumerate(stages, 1)
    )
    best = network.architecture.iterations
    if parameters.monitor == "loss":
        best = int(history["validation_loss"].to_numpy().argmin()) + 1
    network.load_state_dict(_nodes(grown, targets.shape[1], best))
    network.to(train.recordings.device)
    return history, best


class _Grown:
    """The trees for one problem; none if there is nothing to learn."""

    def __init__(
        self, problem: Problem, rows: np.ndarray, architecture: Architecture, parameters: Train
    ) -> None:
        # Not above: whoever only loads the model needs no scikit-learn, which takes a second to import.
        from sklearn.ensemble import HistGradientBoostingClassifier

        self.outputs = [] if problem.constant else problem.learned()
        self.logits = problem.prior()
        self.iterations = architecture.iterations
        self._estimator: Any = HistGradientBoostingClassifier(
            max_iter=architecture.iterations,
            max_leaf_nodes=architecture.leaves,
            learning_rate=parameters.learning_rate,
            min_samples_leaf=parameters.leaf_records,
            l2_regularization=parameters.l2,
            max_features=parameters.features,
            early_stopping=False,  # pyright: ignore - its stub knows texts only
            random_state=parameters.seed,
        )
        if self.outputs:
            self._estimator.fit(rows, problem.labels, problem.weights(parameters.class_weights))
            start = self._estimator._baseline_prediction.ravel().tolist()
            self.logits |= dict(zip(self.outputs, start, strict=True))

    def staged(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        """The logits `[N, outputs]` of `rows` after each iteration."""
        if not self.outputs:
            yield from itertools.repeat(np.empty((len(rows), 0)), self.iterations)
        else:
            for logits in self._estimator.staged_decision_function(rows):
                yield logits.reshape(len(rows), -1)

    def trees(self, iterations: int) -> Iterator[tuple[int, int, np.ndarray]]:
        """Iteration, output and nodes of each tree of the first iterations."""
        for iteration, trees in enumerate(
            self._estimator._predictors[:iterations] if self.outputs else []
        ):
            for output, tree in zip(self.outputs, trees, strict=True):
                yield iteration, output, tree.nodes


def _staged(
    grown: list[_Grown], task: Task, examples: Examples, parameters: Train
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield predictions after each iteration, and targets, `[N, K]` both."""
    rows, _ = _estimators.table(examples, parameters.windows)
    logits = np.zeros((len(rows), examples.targets.shape[1]))
    for stage in zip(*(ensemble.staged(rows) for ensemble in grown), strict=True):
        for ensemble, added in zip(grown, stage, strict=True):
            logits[:, list(ensemble.logits)] = list(ensemble.logits.values())
            logits[:, ensemble.outputs] = added
        yield _estimators.predictions(task, logits, examples, parameters.windows), examples.targets


def _nodes(grown: list[_Grown], outputs: int, iterations: int) -> dict[str, torch.Tensor]:
    """The state of a network of the first iterations. Node 0 is a leaf of value 0, which is all there is
    of an output without trees."""
    numbers, features = [np.zeros(1)], [np.zeros(1, np.int64)]
    below = [np.zeros((1, 2), np.int64)]
    roots, bias = np.zeros((outputs, iterations), np.int64), np.zeros(outputs)
    count = 1
    for ensemble in grown:
        bias[list(ensemble.logits)] = list(ensemble.logits.values())
        for iteration, output, nodes in ensemble.trees(iterations):
            leaf = nodes["is_leaf"] == 1
            children = np.stack([nodes["left"], nodes["right"]], axis=1).astype(np.int64)
            itself = np.arange(len(nodes))[:, None]
            below.append(count + np.where(leaf[:, None], itself, children))
            features.append(np.where(leaf, 0, nodes["feature_idx"]))
            numbers.append(np.where(leaf, nodes["value"], _rounded_down(nodes["num_threshold"])))
            roots[output, iteration] = count
            count += len(nodes)
    return {
        "number": torch.from_numpy(np.concatenate(numbers).astype(np.float32)),
        "bias": torch.from_numpy(bias.astype(np.float32)),
        "feature": torch.from_numpy(np.concatenate(features)),
        "below": torch.from_numpy(np.concatenate(below)),
        "roots": torch.from_numpy(roots),
    }


def _rounded_down(thresholds: np.ndarray) -> np.ndarray:
    """To float32: no float32 lies between a threshold and this, so each falls on the same side."""
    nearest = thresholds.astype(np.float32)
    return np.where(nearest > thresholds, np.nextafter(nearest, np.float32(-np.inf)), nearest)
