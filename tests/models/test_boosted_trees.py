"""Boosted trees: what torch answers is what scikit-learn answers, and a bundle carries the trees."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingClassifier

from beatline import models
from beatline.models import Examples, boosted_trees
from beatline.models.boosted_trees import Architecture, Network, Train
from beatline.prediction import inference
from beatline.prediction.device_data import Recordings
from beatline.prediction.tasks import TASKS
from beatline.prediction.windows import Windows

TRAIN = {
    "windows": {},
    "threshold_percentile": 95,
    "seed": 1,
    "learning_rate": 0.1,
    "leaf_records": 3,
    "l2": 0.1,
    "features": 1.0,
    "monitor": "epoch",
}


def examples(signals: np.ndarray, targets: np.ndarray) -> Examples:
    recordings = Recordings(
        signals.astype(np.float32), np.arange(len(signals)), torch.device("cpu")
    )
    return Examples(recordings, targets.astype(np.int8))


def made(
    seed: int, records: int, features: int, task: str, outputs: int, digits: int = 8
) -> Examples:
    """A table of which the labels tell something; few `digits` make equal values."""
    draw = np.random.default_rng(seed)
    rows = draw.standard_normal((records, 1, features)).round(digits)
    noise = draw.standard_normal((records, outputs))
    noisy = rows[:, 0] @ draw.standard_normal((features, outputs)) + noise
    noisy[np.arange(2 * outputs), np.tile(np.arange(outputs), 2)] = 99 * np.repeat([1, -1], outputs)
    if task == "multiclass":
        return examples(rows, np.eye(outputs)[noisy.argmax(axis=1)])
    return examples(rows, noisy > 0)


def untrained(train: Examples, architecture: Architecture, length: int = 0) -> Network:
    shape = train.recordings.batch(torch.arange(1)).shape[1:]
    network = models.create(
        models.module("boosted_trees"),
        architecture,
        (length or shape[0], shape[1]),
        train.targets.shape[1],
        "x",
    )
    assert isinstance(network, Network)
    return network


def fitted(
    train: Examples,
    task: str,
    validation: Examples | None = None,
    iterations: int = 20,
    leaves: int = 8,
    **changes: Any,
) -> tuple[Network, Any]:
    parameters = Train.model_validate({**TRAIN, **changes})
    architecture = Architecture(iterations=iterations, leaves=leaves)
    network = untrained(train, architecture, parameters.windows.length)
    found = boosted_trees.fit(network, TASKS[task], train, validation or train, parameters)
    return network, found


def answers(network: Network, task: str, of: Examples, **windows: Any) -> np.ndarray:
    cut = Windows.model_validate({**TRAIN["windows"], **windows})
    return inference.predict(network, TASKS[task], of.recordings, cut)


def rows_of(of: Examples) -> np.ndarray:
    return of.recordings.batch(torch.arange(len(of.recordings))).flatten(1).double().numpy()


def reference(train: Examples, task: str, asked: np.ndarray, **changes: Any) -> np.ndarray:
    """scikit-learn's probabilities for rows `asked`, used as its documentation says."""
    wanted: dict[str, Any] = {
        "max_iter": 20,
        "max_leaf_nodes": 8,
        "min_samples_leaf": 3,
        "l2_regularization": 0.1,
        "early_stopping": False,
        "random_state": 1,
        **changes,
    }
    estimator = HistGradientBoostingClassifier(**wanted)
    if task == "multiclass":
        return estimator.fit(rows_of(train), train.targets.argmax(axis=1)).predict_proba(asked)
    columns = [
        estimator.fit(rows_of(train), column).predict_proba(asked)[:, 1]
        for column in train.targets.T
    ]
    return np.stack(columns, axis=1)


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10_000),
    records=st.integers(12, 300),
    features=st.integers(1, 12),
    digits=st.sampled_from([0, 1, 8]),
    kind=st.sampled_from(
        [("binary", 1), ("multilabel", 3), ("multilabel", 1), ("multiclass", 2), ("multiclass", 4)]
    ),
    balanced=st.booleans(),
)
def test_equals_scikit_learn(
    seed: int, records: int, features: int, digits: int, kind: tuple[str, int], balanced: bool
) -> None:
    """To 1e-6 on rows that were seen and others, for every task, weighted or not."""
    task, outputs = kind
    train = made(seed, records, features, task, outputs, digits)
    other = made(seed + 1, 200, features, task, outputs, digits)
    weights = "balanced" if balanced else "none"
    network, _ = fitted(train, task, class_weights=weights)
    for asked in (train, other):
        expected = reference(
            train, task, rows_of(asked), class_weight="balanced" if balanced else None
        )
        np.testing.assert_allclose(answers(network, task, asked), expected, rtol=0, atol=1e-6)


def test_a_row_on_either_side_of_a_threshold() -> None:
    """Neighbouring float32 values are told apart where the threshold between them is no float32."""
    low = np.float32(1) + np.arange(0, 40, 2, dtype=np.float32) * np.finfo(np.float32).eps
    high = np.nextafter(low, np.float32(2))
    rows = np.stack([low, high], axis=1).reshape(-1, 1, 1)
    train = examples(np.repeat(rows, 5, axis=0), np.repeat([[0], [1]] * 20, 5, axis=0))
    network, _ = fitted(train, "binary", leaves=64, leaf_records=1, iterations=30)
    expected = reference(
        train, "binary", rows_of(train), max_leaf_nodes=64, min_samples_leaf=1, max_iter=30
    )
    found = answers(network, "binary", train)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert (found[train.targets == 1] > 0.9).all() and (found[train.targets == 0] < 0.1).all()


@pytest.mark.parametrize(("task", "outputs"), [("binary", 1), ("multilabel", 3), ("multiclass", 4)])
def test_history_and_the_best_iteration(task: str, outputs: int) -> None:
    """A row per iteration with the losses of scikit-learn's staged probabilities; `monitor: loss` keeps
    the trees up to the least validation loss, and the network answers as it did then."""
    train = made(1, 60, 5, task, outputs)
    validation = made(2, 80, 5, task, outputs)
    network, (history, best) = fitted(
        train, task, validation, iterations=40, learning_rate=0.5, monitor="loss"
    )
    assert list(history["epoch"]) == list(range(1, 41))
    assert 1 <= best < 40 and best == history["validation_loss"].argmin() + 1
    expected = reference(train, task, rows_of(validation), max_iter=best, learning_rate=0.5)
    found = answers(network, task, validation)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    for part, column in ((train, "train_loss"), (validation, "validation_loss")):
        loss = TASKS[task].prediction_loss(answers(network, task, part), part.targets)
        assert history[column][best - 1] == pytest.approx(loss, abs=1e-6)
    everything, (_, last) = fitted(train, task, validation, iterations=40, learning_rate=0.5)
    assert last == 40
    assert models.count_parameters(everything) > models.count_parameters(network)


def test_parameters_are_thresholds_and_leaves() -> None:
    """The count compared between models: a number per node, and the starting point of each output."""
    network, _ = fitted(made(1, 300, 5, "binary", 1), "binary", iterations=10, leaves=4)
    one_leaf_for_outputs_without_trees = 1
    assert models.count_parameters(network) == 10 * (3 + 4) + one_leaf_for_outputs_without_trees + 1


def test_state_of_another_size_is_loaded() -> None:
    """A new network takes over trees of any number, as a bundle's does, and answers the same."""
    train = made(4, 90, 6, "multiclass", 3)
    network, _ = fitted(train, "multiclass")
    other = untrained(train, network.architecture)
    assert np.allclose(answers(other, "multiclass", train), 1 / 3)
    other.load_state_dict(copy.deepcopy(network.state_dict()))
    found = answers(network, "multiclass", train)
    np.testing.assert_array_equal(answers(other, "multiclass", train), found)


@pytest.mark.parametrize(
    ("name", "value"), [("below", 10_000), ("below", 0), ("roots", -1), ("feature", 6)]
)
def test_damaged_trees_are_refused(name: str, value: int) -> None:
    """Nodes that lead nowhere, or in a circle, are noticed when they are loaded."""
    train = made(4, 90, 6, "binary", 1)
    network, _ = fitted(train, "binary")
    state = copy.deepcopy(network.state_dict())
    state[name].flatten()[2 if name != "roots" else 0] = value
    with pytest.raises(ValueError, match="no trees"):
        untrained(train, network.architecture).load_state_dict(state)


def test_windows_of_recordings() -> None:
    """Each window is a row with its recording's label; answers, also in the history, are their mean."""
    draw = np.random.default_rng(0)
    targets = draw.integers(0, 2, (60, 1))
    train = examples(draw.standard_normal((60, 10, 2)) + targets[:, None], targets)
    windows = {"length": 4, "stride": 3, "aggregate": "mean"}
    network, (history, _) = fitted(train, "binary", windows=windows)
    signals = train.recordings.batch(torch.arange(60)).numpy()
    rows = np.concatenate([signals[:, first : first + 4].reshape(60, 1, 8) for first in (0, 3, 6)])
    of_windows = examples(rows, np.tile(targets, (3, 1)))
    expected = reference(of_windows, "binary", rows_of(of_windows)).reshape(3, 60).mean(axis=0)
    found = answers(network, "binary", train, **windows)
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-5)
    loss = TASKS["binary"].prediction_loss(found, targets)
    assert history["train_loss"].iloc[-1] == pytest.approx(loss, abs=1e-6)


def test_a_label_that_all_or_none_have() -> None:
    """Nothing to learn is a probability close to 0 or 1, not a crash; so is a class never seen."""
    train = made(1, 30, 3, "multilabel", 3)
    targets = train.targets.copy()
    targets[:, 0], targets[:, 1] = 0, 1
    network, _ = fitted(Examples(train.recordings, targets), "multilabel")
    found = answers(network, "multilabel", train)
    np.testing.assert_allclose(found[:, 0], 0.5 / 31, atol=1e-6)
    np.testing.assert_allclose(found[:, 1], 30.5 / 31, atol=1e-6)
    assert found[:, 2].std() > 0.1
    unseen = np.eye(3)[train.targets[:, 0] * 2]
    network, _ = fitted(Examples(train.recordings, unseen.astype(np.int8)), "multiclass")
    assert answers(network, "multiclass", train)[:, 1].max() < 0.03


def test_same_seed_same_bytes() -> None:
    """Also where features are drawn; another seed draws others."""
    train = made(5, 200, 6, "multilabel", 2)
    first, second, third = (
        fitted(train, "multilabel", features=0.5, seed=seed)[0].state_dict() for seed in (1, 1, 2)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["feature"], third["feature"])
