"""Logistic regression: what torch answers is what scikit-learn answers, and it survives a bundle."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from beatline import models
from beatline.models import Examples, logistic_regression
from beatline.models.logistic_regression import Architecture, Network, Train
from beatline.prediction import inference
from beatline.prediction.device_data import Recordings
from beatline.prediction.tasks import TASKS
from beatline.prediction.windows import Windows

TRAIN = {
    "windows": {},
    "threshold_percentile": 95,
    "seed": 1,
    "l2": 1.0,
    "iterations": 1000,
}


def examples(signals: np.ndarray, targets: np.ndarray) -> Examples:
    recordings = Recordings(
        signals.astype(np.float32), np.arange(len(signals)), torch.device("cpu")
    )
    return Examples(recordings, targets.astype(np.int8))


def made(seed: int, records: int, features: int, task: str, outputs: int) -> Examples:
    """A table of which the labels tell something; each class has examples."""
    draw = np.random.default_rng(seed)
    rows = draw.standard_normal((records, 1, features))
    noisy = rows[:, 0] @ draw.standard_normal((features, outputs)) + draw.standard_normal(
        (records, outputs)
    )
    noisy[np.arange(2 * outputs), np.tile(np.arange(outputs), 2)] = 99 * np.repeat([1, -1], outputs)
    if task == "multiclass":
        return examples(rows, np.eye(outputs)[noisy.argmax(axis=1)])
    return examples(rows, noisy > 0)


def fitted(train: Examples, task: str, **changes: Any) -> tuple[Network, Any]:
    shape = train.recordings.batch(torch.arange(1)).shape[1:]
    parameters = Train.model_validate({**TRAIN, **changes})
    length = parameters.windows.length or shape[0]
    network = models.create(
        models.module("logistic_regression"),
        Architecture(),
        (length, shape[1]),
        train.targets.shape[1],
        "x",
    )
    assert isinstance(network, Network)
    return network, logistic_regression.fit(network, TASKS[task], train, train, parameters)


def answers(network: Network, task: str, of: Examples, **windows: Any) -> np.ndarray:
    cut = Windows.model_validate({**TRAIN["windows"], **windows})
    return inference.predict(network, TASKS[task], of.recordings, cut)


def reference(train: Examples, task: str, **settings_: Any) -> np.ndarray:
    """scikit-learn's probabilities, used as its documentation says."""
    rows = train.recordings.batch(torch.arange(len(train.recordings))).flatten(1).double().numpy()
    estimator = LogisticRegression(max_iter=1000, **settings_)
    if task == "multiclass":
        return estimator.fit(rows, train.targets.argmax(axis=1)).predict_proba(rows)
    columns = [estimator.fit(rows, column).predict_proba(rows)[:, 1] for column in train.targets.T]
    return np.stack(columns, axis=1)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    records=st.integers(12, 80),
    features=st.integers(1, 20),
    kind=st.sampled_from(
        [("binary", 1), ("multilabel", 3), ("multilabel", 1), ("multiclass", 2), ("multiclass", 4)]
    ),
    balanced=st.booleans(),
)
def test_equals_scikit_learn(
    seed: int, records: int, features: int, kind: tuple[str, int], balanced: bool
) -> None:
    """To 1e-6, for every task, weighted or not."""
    task, outputs = kind
    train = made(seed, records, features, task, outputs)
    weights = "balanced" if balanced else "none"
    network, _ = fitted(train, task, l2=0.5, class_weights=weights)
    expected = reference(train, task, C=2.0, class_weight="balanced" if balanced else None)
    np.testing.assert_allclose(answers(network, task, train), expected, rtol=0, atol=1e-6)


def test_history_says_what_the_network_answers() -> None:
    """One row with the losses and the AUC of the fitted network."""
    train = made(3, 60, 4, "multilabel", 2)
    network, (history, best_epoch) = fitted(train, "multilabel")
    found = answers(network, "multilabel", train)
    loss = TASKS["multilabel"].prediction_loss(found, train.targets)
    assert best_epoch == 1 and len(history) == 1
    assert history.loc[0, "train_loss"] == history.loc[0, "validation_loss"] == loss
    assert 0.7 < history["validation_auc"][0] <= 1
    assert np.isnan(history["learning_rate"][0])
    assert models.count_parameters(network) == 2 * (4 + 1)


def test_windows_of_recordings() -> None:
    """Each window is a row with its recording's label; answers are their mean."""
    draw = np.random.default_rng(0)
    targets = draw.integers(0, 2, (40, 1))
    train = examples(draw.standard_normal((40, 10, 2)) + targets[:, None], targets)
    windows = {"length": 4, "stride": 3, "aggregate": "mean"}
    network, _ = fitted(train, "binary", windows=windows)
    signals = train.recordings.batch(torch.arange(40)).numpy()
    rows = np.concatenate([signals[:, first : first + 4].reshape(40, 8) for first in (0, 3, 6)])
    estimator = LogisticRegression(max_iter=1000).fit(rows, np.tile(targets[:, 0], 3))
    expected = estimator.predict_proba(rows)[:, 1].reshape(3, 40).mean(axis=0)
    np.testing.assert_allclose(
        answers(network, "binary", train, **windows)[:, 0], expected, atol=1e-5
    )


def test_a_label_that_all_or_none_have() -> None:
    """Nothing to learn is a probability close to 0 or 1, not a crash; so is a class never seen."""
    train = made(1, 30, 3, "multilabel", 3)
    targets = train.targets.copy()
    targets[:, 0], targets[:, 1] = 0, 1
    network, _ = fitted(Examples(train.recordings, targets), "multilabel")
    found = answers(network, "multilabel", train)
    np.testing.assert_allclose(found[:, 0], 0.5 / 31, atol=1e-6)
    np.testing.assert_allclose(found[:, 1], 30.5 / 31, atol=1e-6)
    unseen = np.eye(3)[train.targets[:, 0] * 2]
    network, _ = fitted(Examples(train.recordings, unseen.astype(np.int8)), "multiclass")
    assert answers(network, "multiclass", train)[:, 1].max() < 0.03


def test_same_bytes_again() -> None:
    """Equal data give equal coefficients."""
    train = made(5, 70, 6, "multiclass", 3)
    first, second = (fitted(train, "multiclass")[0].state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_says_when_it_has_not_converged(capsys: pytest.CaptureFixture[str]) -> None:
    """In the log of the stage, and not as a warning of Python's."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted(made(2, 60, 10, "binary", 1), "binary", iterations=1)
    assert "not converged in 1 iterations" in capsys.readouterr().out
