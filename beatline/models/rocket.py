"""Random convolutions and a linear classifier: MiniRocket (Dempster, Schmidt and Webb 2021).

The 84 kernels of nine weights, three of them 2 and six -1, look at the windows at several dilations.
A feature is the proportion of time steps at which one of them gives more than a bias, a quantile of what
it gives for a training window. In windows of several channels, each kernel and dilation looks at the sum
of a random subset, as in the authors' multivariate version.

Whether a convolution is above its bias may hang on its last bit. Windows are therefore rounded to
multiples of 2^-12 of a standard deviation and clipped to 32 of them: float32 then holds every sum
exactly, and every processor and ONNX Runtime count the same time steps, in whatever order they add.
"""

from __future__ import annotations

import functools
import itertools
import math
import warnings
from typing import Annotated, Literal

import numpy as np
import pandas as pd
import torch
from pydantic import Field, field_validator
from torch import nn
from torch.nn import functional
from tqdm import tqdm

from beatline.common.errors import warn
from beatline.common.params import Parameters
from beatline.models import Examples, Learning, Shape, _estimators
from beatline.models._estimators import ClassWeights, Problem
from beatline.prediction import inference, temperature
from beatline.prediction.device_data import Recordings
from beatline.prediction.tasks import Task
from beatline.prediction.windows import Windows, starts

LEARNS = "labels"

KERNEL = 9  # weights of a kernel
TAPS = list(itertools.combinations(range(KERNEL), 3))  # which of them are 2, kernel by kernel
DILATIONS = 32  # at most
CHANNELS = 9  # of a subset, at most
# In standard deviations. The largest sum is of 9 channels times 12 * LARGEST, in float32's 24 bits.
LARGEST, STEP = 32.0, 2.0**-12
AT_ONCE = 4096  # time steps whose convolutions are in memory, and in the processor's cache
CHUNK = 1024  # features or windows that are in float64 at once
NEGLIGIBLE = 1e-9  # of the largest variance
ITERATIONS = 1000  # of L-BFGS, at most
SHARPEST = 0.1  # temperature that is expected of scores around -1 and 1


class Architecture(Parameters):
    """`features`: how many, as many of each of the 84 kernels."""

    features: int = Field(default=9996, ge=len(TAPS), multiple_of=len(TAPS))


class Train(Learning):
    """`head`: a `ridge` regression on -1 and 1, the published one, whose scores a temperature turns into
    logits, or a `logistic` regression. `l2`: strengths of the penalty ``l2 * |coefficients|^2`` of
    standardized features beside the sum of squared errors (``l2 / 2`` beside the sum of log losses), of
    which the one of least validation loss is kept."""

    class_weights: ClassWeights = "none"
    head: Literal["ridge", "logistic"] = "ridge"
    l2: list[Annotated[float, Field(gt=0)]] = Field(
        default=[1e5, 3e4, 1e4, 3e3, 1e3, 300, 100, 30, 10], min_length=1
    )

    @field_validator("class_weights")
    @classmethod
    def _are_none(cls, value: ClassWeights) -> ClassWeights:
        if value != "none":
            raise ValueError(
                f"all records count the same to a rocket: where `training` says {value}, say none in "
                f"its own block"
            )
        return value


class Network(nn.Module):
    """`subsets` `[dilations, 84, C]`: 1 for each channel that a kernel looks at. `bias` `[F]`, in steps.
    `mean` `[F]`: the training windows' features, without which the logits would be small differences of
    large sums."""

    bias: torch.Tensor
    mean: torch.Tensor
    subsets: torch.Tensor
    kernels: torch.Tensor

    def __init__(self, architecture: Architecture, shape: Shape, outputs: int) -> None:
        super().__init__()
        length, channels = shape
        if length < KERNEL:
            raise ValueError(f"a kernel has {KERNEL} samples")
        self.dilations = _dilations(length, architecture.features // len(TAPS))
        kernels = torch.full((len(TAPS), 1, KERNEL), -1.0)
        kernels.scatter_(2, torch.tensor(TAPS)[:, None], 2.0)
        self.register_buffer("kernels", kernels, persistent=False)
        self.register_buffer("subsets", _subsets(len(self.dilations), channels))
        self.register_buffer("bias", torch.zeros(architecture.features))
        self.register_buffer("mean", torch.zeros(architecture.features))
        self.linear = nn.Linear(architecture.features, outputs)

    def forward(self, recordings: torch.Tensor) -> torch.Tensor:
        return self.linear(self.features(recordings) - self.mean)

    def features(self, windows: torch.Tensor) -> torch.Tensor:
        """Return the proportions `[B, F]` of windows `[B, T, C]`: dilation by dilation, of the kernels
        that see zeros beyond the ends before those that do not."""
        if torch.onnx.is_in_onnx_export():  # a graph has no loop
            return self._proportions(windows)
        parts = windows.split(max(AT_ONCE // windows.shape[1], 1))
        return torch.cat([self._proportions(part) for part in parts])

    def _proportions(self, windows: torch.Tensor) -> torch.Tensor:
        half = len(TAPS) // 2
        biases = self.bias.split([half * each for _, each in self.dilations for _ in range(2)])
        found = []
        for number, (dilation, each) in enumerate(self.dilations):
            convolved = self.convolved(windows, number)
            beyond = dilation * (KERNEL // 2)
            inside = convolved[:, :, beyond : convolved.shape[2] - beyond]
            for odd, steps in enumerate((convolved, inside)):
                bias = biases[2 * number + odd].view(half, each, 1)
                # Of whole numbers, 1 above the bias and 0 elsewhere, faster than by a comparison.
                above = (steps[:, _parity(number, odd), None] - bias).clamp(0, 1)
                found.append(above.mean(dim=3).flatten(1))
        return torch.cat(found, dim=1)

    def convolved(self, windows: torch.Tensor, number: int) -> torch.Tensor:
        """Return what all kernels `[B, 84, T]` give at one of the dilations, in whole steps."""
        steps = (windows.transpose(1, 2).clamp(-LARGEST, LARGEST) / STEP).round()
        weights, dilation = (
            self.subsets[number, :, :, None] * self.kernels,
            self.dilations[number][0],
        )
        # TensorFloat-32 has too few bits.
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            return functional.conv1d(
                steps, weights, padding=dilation * (KERNEL // 2), dilation=dilation
            )

    @torch.no_grad()
    def draw_biases(self, recordings: Recordings, windows: Windows, seed: int) -> None:
        """Take as biases quantiles of what each kernel gives, at each dilation, for a random window."""
        generator = torch.Generator().manual_seed(seed)
        length = windows.steps(recordings.length)
        first = torch.tensor(starts(recordings.length, windows))
        golden = (math.sqrt(5) + 1) / 2  # its multiples leave no gap
        quantiles = torch.arange(1, len(self.bias) + 1, dtype=torch.float64) * golden % 1
        biases = []
        for number, (_, each) in enumerate(self.dilations):
            drawn = [
                torch.randint(among, (len(TAPS),), generator=generator)
                for among in (len(recordings), len(first))
            ]
            chosen = recordings.batch(drawn[0], first[drawn[1]], length)
            given = self.convolved(chosen, number).diagonal().T.cpu().double().sort(dim=1).values
            sizes = [len(TAPS) * each, len(quantiles) - len(TAPS) * each]
            own, quantiles = quantiles.split(sizes)
            rank = own.view(len(TAPS), each) * (length - 1)
            below = rank.long()
            low, high = given.gather(1, below), given.gather(1, below + 1)
            # Whole steps are above a quantile where they are above its integer part.
            bias = (low + (rank - below) * (high - low)).floor()
            biases += [bias[_parity(number, odd)].flatten() for odd in range(2)]
        self.bias.copy_(torch.cat(biases))


def _parity(number: int, odd: int) -> slice:
    """Return every other kernel: which ones changes from dilation to dilation."""
    return slice((number + odd) % 2, None, 2)


def _dilations(length: int, features: int) -> list[tuple[int, int]]:
    """Return dilations and how many of a kernel's `features` each has: as the authors, exponentially,
    up to a kernel as long as a window of `length` samples."""
    most = min(features, DILATIONS)
    exponents = np.linspace(0, math.log2((length - 1) / (KERNEL - 1)), most)
    # A power that is a whole number may come out below it, on some processors.
    values, counts = np.unique((2**exponents + 1e-9).astype(int), return_counts=True)
    each = counts * features // most
    each[: features - each.sum()] += 1
    return list(zip(values.tolist(), each.tolist(), strict=True))


def _subsets(dilations: int, channels: int) -> torch.Tensor:
    """Draw subsets of channels, `[dilations, 84, C]` of 0 and 1: small ones more often."""
    most = math.log2(min(channels, CHANNELS) + 1)
    sizes = (2 ** (most * torch.rand(dilations, len(TAPS), 1))).int().clamp(max=channels)
    return (torch.rand(dilations, len(TAPS), channels).argsort(dim=2) < sizes).float()


def fit(
    network: Network, task: Task, train: Examples, validation: Examples, parameters: Train
) -> tuple[pd.DataFrame, int]:
    """Fit `network` in place. The history has a row for each strength of the penalty."""
    windows = parameters.windows
    network.to(train.recordings.device)
    network.draw_biases(train.recordings, windows, parameters.seed)
    parts = (train, validation)
    rows, other_rows = (_features(network, part.recordings, windows) for part in parts)
    deviation, mean = torch.std_mean(rows, dim=0, correction=0)
    deviation[deviation == 0] = math.inf  # so that what never varies counts for nothing
    for each in (rows, other_rows):
        each.sub_(mean).div_(deviation)
    # A penalty of squares is the same in the directions of the features' variance, and these are few.
    directions = _directions(rows)
    coordinates = [
        torch.cat([wide.double() @ directions for wide in part.split(CHUNK)]).numpy()
        for part in (rows, other_rows)
    ]
    targets = np.repeat(train.targets, len(rows) // len(train.targets), axis=0)
    problems = _estimators.problems(task, targets)
    solutions, history = [], []
    for number, l2 in enumerate(tqdm(parameters.l2, "penalties", mininterval=10), 1):
        bias = np.zeros(targets.shape[1])
        weight = np.zeros((directions.shape[1], targets.shape[1]))
        for problem in problems:
            bias[list(problem.prior())] = list(problem.prior().values())
            if problem.constant:
                continue
            outputs, head = problem.learned(), _HEADS[parameters.head]
            weight[:, outputs], bias[outputs] = head(coordinates[0], problem, l2)
            if parameters.head == "ridge":
                scores = coordinates[1] @ weight + bias
                seen = [output for output, logit in problem.prior().items() if logit == 0]
                by_window = scores[:, seen].reshape(len(validation.targets), -1, len(seen))
                # As of two normal distributions around -1 and 1 (linear discriminant analysis).
                signs = 2.0 * validation.targets[:, None, seen] - 1
                expected = max(float(np.square(by_window - signs).mean()) / 2, SHARPEST)
                divisor = temperature.likeliest(
                    task,
                    torch.from_numpy(by_window),
                    validation.targets[:, seen],
                    windows,
                    expected=expected,
                    deviation=1.0,
                )
                weight[:, outputs] /= divisor
                bias[outputs] /= divisor
        pairs = [
            (_estimators.predictions(task, rows @ weight + bias, part, windows), part.targets)
            for rows, part in zip(coordinates, parts, strict=True)
        ]
        history.append(_estimators.history_row(task, number, *pairs))
        solutions.append((weight, bias))
    table = pd.DataFrame(history)
    best = int(table["validation_loss"].to_numpy().argmin())
    weight, bias = (torch.from_numpy(values) for values in solutions[best])
    with torch.no_grad():
        network.mean.copy_(mean)
        network.linear.weight.copy_((directions @ weight / deviation[:, None]).T)
        network.linear.bias.copy_(bias)
    return table, best + 1


@torch.no_grad()
def _features(network: Network, recordings: Recordings, windows: Windows) -> torch.Tensor:
    """Return the features `[N, F]` of all windows, 4 bytes each."""
    number = math.ceil(len(recordings) / inference.records_at_once(recordings.length, windows))
    batches = tqdm(inference.batches(recordings, windows), "convolve", number, mininterval=10)
    return torch.cat([network.features(batch).cpu() for batch in batches])


def _directions(rows: torch.Tensor) -> torch.Tensor:
    """Return the orthonormal directions `[F, R]`, float64, in which rows `[N, F]` of mean 0 vary.

    By the eigenvectors of the smaller of their two products, which takes a quarter of the time of a
    singular value decomposition.
    """
    across = len(rows) < rows.shape[1]
    parts = rows.split(CHUNK, dim=1 if across else 0)
    wide = (part.double() for part in parts)
    products = (part @ part.T if across else part.T @ part for part in wide)
    variances, vectors = torch.linalg.eigh(functools.reduce(torch.add, products))
    kept = variances > NEGLIGIBLE * variances[-1]
    if not across:
        return vectors[:, kept]
    scaled = vectors[:, kept] / variances[kept].sqrt()
    return torch.cat([part.double().T @ scaled for part in parts])


def _ridge(rows: np.ndarray, problem: Problem, l2: float) -> tuple[np.ndarray, np.ndarray]:
    """Return coefficients `[R, outputs]` and intercepts of a ridge regression on -1 and 1. The columns
    of `rows` `[N, R]` are orthogonal and have a mean of 0."""
    labels = np.unique(problem.labels)
    signs = np.where(problem.labels[:, None] == labels[len(labels) == 2 :], 1.0, -1.0)
    mean = np.asarray(signs.mean(axis=0))
    return rows.T @ (signs - mean) / ((rows**2).sum(axis=0)[:, None] + l2), mean


def _logistic(rows: np.ndarray, problem: Problem, l2: float) -> tuple[np.ndarray, np.ndarray]:
    """Return coefficients `[R, outputs]` and intercepts of a logistic regression."""
    # Not above: whoever only loads the model needs no scikit-learn, which takes a second to import.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    estimator = LogisticRegression(C=1 / l2, max_iter=ITERATIONS)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        estimator.fit(rows, problem.labels)
    if any(issubclass(warning.category, ConvergenceWarning) for warning in caught):
        warn(f"not converged in {ITERATIONS} iterations with l2 {l2:g}: leave it out of l2")
    return estimator.coef_.T, np.asarray(estimator.intercept_)


_HEADS = {"ridge": _ridge, "logistic": _logistic}
