"""MiniRocket: its features are the authors', its classifiers scikit-learn's, and its ONNX graph counts
the same time steps as torch."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from beatline import models
from beatline.common.errors import UserError
from beatline.export import onnx_graph
from beatline.export.session import open_session
from beatline.models import Examples, rocket
from beatline.models.rocket import Architecture, Network, Train
from beatline.prediction import inference
from beatline.prediction.device_data import Recordings
from beatline.prediction.tasks import TASKS
from beatline.prediction.windows import Windows

WHOLE = Windows()
TRAIN = {"threshold_percentile": 95, "seed": 1, "l2": [30.0]}


def recordings(signals: np.ndarray) -> Recordings:
    return Recordings(signals.astype(np.float32), np.arange(len(signals)), torch.device("cpu"))


def examples(signals: np.ndarray, targets: np.ndarray) -> Examples:
    return Examples(recordings(signals), targets.astype(np.int8))


def made(seed: int, task: str, outputs: int, records: int = 40) -> Examples:
    """Recordings whose frequencies tell their labels, of which each has examples."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 2, (records, outputs))
    if task == "multiclass":
        labels = np.eye(outputs, dtype=int)[np.arange(records) % outputs]
    labels[:2, :] = labels[:2, :] if task == "multiclass" else [[0], [1]]
    time = np.arange(30)[None, :, None]
    waves = np.sin(time[..., None] * np.arange(1, outputs + 1) / 2) @ labels[:, None, :, None]
    return examples(waves[..., 0] + draw.standard_normal((records, 30, 2)), labels)


def fitted(train: Examples, task: str, other: Examples | None = None, **changes: Any) -> Any:
    """A network, its history and the number of the penalty that was kept."""
    parameters = Train.model_validate({**TRAIN, **changes})
    signal = train.recordings.batch(torch.arange(1))
    shape = parameters.windows.length or signal.shape[1], signal.shape[2]
    torch.manual_seed(parameters.seed)
    module, outputs = models.module("rocket"), train.targets.shape[1]
    network = models.create(module, Architecture(features=168), shape, outputs, "key")
    assert isinstance(network, Network)
    return network, *rocket.fit(network, TASKS[task], train, other or train, parameters)


def logits(network: Network, of: Examples) -> np.ndarray:
    with torch.no_grad():
        return network(of.recordings.batch(torch.arange(len(of.recordings)))).numpy()


def by_kernel(network: Network, features: np.ndarray) -> np.ndarray:
    """Features `[N, F]` in the authors' order: by dilation, then by kernel."""
    blocks, begin = [], 0
    for number, (_, each) in enumerate(network.dilations):
        block = np.empty((len(features), 84, each))
        for odd in range(2):
            part = features[:, begin : (begin := begin + 42 * each)]
            block[:, (number + odd) % 2 :: 2] = part.reshape(len(features), 42, each)
        blocks.append(block.reshape(len(features), -1))
    return np.concatenate(blocks, axis=1)


def test_features_are_those_of_aeon() -> None:
    """Dilations, biases and counts equal those of the authors' method in aeon 1.6.0, whose counts of
    three windows, by biases of another, are in minirocket.csv."""
    expected = pd.read_csv(Path(__file__).with_name("minirocket.csv"))
    drawn = np.random.default_rng(0).integers(-4096, 4096, (4, 1, 50)) / 1024
    windows = drawn.transpose(0, 2, 1).astype(np.float32)
    network = Network(Architecture(features=840), (50, 1), 1)
    network.draw_biases(recordings(windows[:1]), WHOLE, seed=1)
    numbers = [(dilation, each * 84) for dilation, each in network.dilations]
    assert numbers == list(expected["dilation"].value_counts(sort=False).items())
    order = [dilation for dilation, _ in numbers]
    inside = (expected["dilation"].apply(order.index) + expected["kernel"]) % 2
    seen = 50 - 8 * expected["dilation"].to_numpy() * inside.to_numpy()
    found = by_kernel(network, network.features(torch.from_numpy(windows[1:])).numpy())
    counts = expected[["first", "second", "third"]].to_numpy().T
    np.testing.assert_array_equal(np.rint(found * seen), counts)
    np.testing.assert_allclose(found, counts / seen, rtol=1e-6)


@settings(max_examples=15)
@given(
    seed=st.integers(0, 1000),
    length=st.integers(9, 60),
    channels=st.integers(1, 12),
    size=st.sampled_from([0.01, 1.0, 100.0]),
)
def test_features_are_those_of_the_formula(
    seed: int, length: int, channels: int, size: float
) -> None:
    """Sums of subsets of channels, convolved tap by tap in whole numbers of 64 bits, count as torch's
    float32 does, to the last time step, for windows far beyond the range too."""
    torch.manual_seed(seed)
    network = Network(Architecture(features=168), (length, channels), 1)
    draw = np.random.default_rng(seed)
    windows = (size * draw.standard_normal((3, length, channels))).astype(np.float32)
    network.draw_biases(recordings(windows), WHOLE, seed)
    subsets = network.subsets.numpy().astype(int)
    assert (subsets.sum(axis=2) >= 1).all() and (subsets.sum(axis=2) <= min(channels, 9)).all()
    steps = np.rint(np.clip(windows, -32, 32) * 4096.0).astype(np.int64)
    bias, expected, begin = network.bias.numpy(), [], 0
    for number, (dilation, each) in enumerate(network.dilations):
        margin = 4 * dilation
        padded = np.pad(steps, ((0, 0), (margin, margin), (0, 0)))
        taps = [padded[:, t * dilation : t * dilation + length] for t in range(9)]
        for odd in range(2):
            for kernel in range((number + odd) % 2, 84, 2):
                own = np.stack([tap @ subsets[number, kernel] for tap in taps])
                sums = 3 * own[list(rocket.TAPS[kernel])].sum(axis=0) - own.sum(axis=0)
                sums = sums[:, margin : length - margin] if odd else sums
                above = sums[:, :, None] > bias[begin : begin + each]
                expected.append(above.sum(axis=1) / above.shape[1])
                begin += each
    found = network.features(torch.from_numpy(windows)).numpy()
    np.testing.assert_allclose(found, np.concatenate(expected, axis=1), rtol=1e-6)


KINDS = [("binary", 1), ("multilabel", 3), ("multiclass", 2), ("multiclass", 4)]


@pytest.mark.parametrize(("task", "outputs"), KINDS)
def test_classifiers_are_those_of_scikit_learn(task: str, outputs: int) -> None:
    """A logistic head gives the logits of LogisticRegression, and a ridge those of Ridge but for one
    positive factor, both of standardized features."""
    train = made(1, task, outputs)
    for head in ("logistic", "ridge"):
        network, *_ = fitted(train, task, head=head)
        batch = train.recordings.batch(torch.arange(len(train.recordings)))
        rows = StandardScaler().fit_transform(network.features(batch).double().numpy())
        found = logits(network, train)
        labels = [train.targets.argmax(axis=1)] if task == "multiclass" else train.targets.T
        for number, column in enumerate(labels):
            exclusive = task == "multiclass" and outputs > 2
            if head == "logistic":
                estimator = LogisticRegression(C=1 / 30, max_iter=1000, tol=1e-6)
                expected = estimator.fit(rows, column).decision_function(rows)
            else:
                signs = 2 * (np.eye(outputs)[column] if exclusive else column) - 1
                expected = Ridge(alpha=30).fit(rows, signs).predict(rows)
            own = found if exclusive else found[:, -1 if task == "multiclass" else number]
            factor = (own * expected).sum() / (expected**2).sum()
            assert factor == pytest.approx(1, abs=1e-3) if head == "logistic" else factor > 0
            np.testing.assert_allclose(own, factor * expected, atol=5e-3 * np.abs(own).max())


@pytest.mark.parametrize(("task", "outputs"), KINDS)
def test_a_temperature_is_as_sure_as_validation_records_allow(task: str, outputs: int) -> None:
    """Validation labels of which half are wrong make every answer less sure; the same scores decide. All
    of them right leave it finite."""
    train, other = made(1, task, outputs), made(2, task, outputs, records=60)
    mixed = other.targets.copy()
    mixed[::2] = np.roll(mixed, 1, axis=1)[::2] if task == "multiclass" else 1 - mixed[::2]
    sure, unsure = (
        logits(fitted(train, task, Examples(other.recordings, targets))[0], train)
        for targets in (other.targets, mixed)
    )
    assert np.abs(unsure).max() < 0.5 * np.abs(sure).max() < 0.5 * 200
    assert np.array_equal(np.sign(sure), np.sign(unsure))


@pytest.mark.parametrize("head", ["ridge", "logistic"])
def test_keeps_the_penalty_of_least_validation_loss(head: str) -> None:
    """As if it had been the only one; the history has a row for each, with what the network answers."""
    train, other = made(3, "multilabel", 2), made(4, "multilabel", 2)
    strengths = [1e6, 1e3, 10.0, 1e-3]
    network, history, best = fitted(train, "multilabel", other, head=head, l2=strengths)
    assert len(history) == 4 and best == history["validation_loss"].argmin() + 1 != 1
    alone, *_ = fitted(train, "multilabel", other, head=head, l2=[strengths[best - 1]])
    assert torch.equal(network.linear.weight, alone.linear.weight)
    answers = inference.predict(network, TASKS["multilabel"], other.recordings, WHOLE)
    loss = TASKS["multilabel"].prediction_loss(answers, other.targets)
    assert history["validation_loss"][best - 1] == pytest.approx(loss, rel=1e-4)


def test_every_window_is_an_example() -> None:
    """More windows than features, with their recording's label; losses are of recordings."""
    train = made(5, "binary", 1, records=60)
    cut = {"length": 12, "stride": 3, "aggregate": "mean"}
    network, history, _ = fitted(train, "binary", windows=cut)
    batches = list(inference.batches(train.recordings, Windows.model_validate(cut)))
    assert sum(map(len, batches)) == 60 * 7 > 168
    rows = np.concatenate([network.features(batch).double().numpy() for batch in batches])
    signs = 2 * np.repeat(train.targets[:, 0], 7) - 1
    scaled = StandardScaler().fit_transform(rows)
    expected = Ridge(alpha=30).fit(scaled, signs).predict(scaled)
    with torch.no_grad():
        found = torch.cat([network(batch) for batch in batches]).numpy()[:, 0]
    assert np.corrcoef(found, expected)[0, 1] > 1 - 1e-6
    answers = inference.predict(
        network, TASKS["binary"], train.recordings, Windows.model_validate(cut)
    )
    loss = TASKS["binary"].prediction_loss(answers, train.targets)
    assert history["train_loss"][0] == pytest.approx(loss, rel=1e-4)


@pytest.mark.parametrize("head", ["ridge", "logistic"])
def test_a_label_that_all_or_none_have(head: str) -> None:
    """Nothing to learn is a probability close to 0 or 1, not a crash; so is a class never seen."""
    train = made(6, "multilabel", 3)
    targets = train.targets.copy()
    targets[:, 0], targets[:, 1] = 0, 1
    network, *_ = fitted(Examples(train.recordings, targets), "multilabel", head=head)
    found = inference.predict(network, TASKS["multilabel"], train.recordings, WHOLE)
    np.testing.assert_allclose(found[:, 0], 0.5 / 41, atol=1e-6)
    np.testing.assert_allclose(found[:, 1], 40.5 / 41, atol=1e-6)
    unseen = Examples(train.recordings, np.eye(3, dtype=np.int8)[train.targets[:, 2] * 2])
    network, *_ = fitted(unseen, "multiclass", head=head)
    found = inference.predict(network, TASKS["multiclass"], train.recordings, WHOLE)
    assert found[:, 1].max() < 0.03
    assert (found.argmax(axis=1) == unseen.targets.argmax(axis=1)).all()


def test_the_graph_counts_the_same_time_steps() -> None:
    """Flat lines, steps and values that lie on a bias are what rounding would decide: ONNX Runtime's
    answers are torch's, and every one of them alone is what it is among others."""
    train = made(7, "multiclass", 3)
    signals = np.round(train.recordings.batch(torch.arange(40)).numpy() * 4) / 40  # many ties
    signals[:4] = [[[0.0]], [[1 / 3]], [[40.0]], [[-1e30]]]
    train = examples(signals, train.targets)
    network, *_ = fitted(train, "multiclass")
    graph = open_session(onnx_graph.export(network, TASKS["multiclass"], (30, 2)))
    expected = inference.predict(network, TASKS["multiclass"], train.recordings, WHOLE)
    windows = signals.astype(np.float32)
    found = np.asarray(graph.run(None, {"windows": windows})[0])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    for window, answer in zip(windows, expected, strict=True):
        alone = np.asarray(graph.run(None, {"windows": window[None]})[0])
        np.testing.assert_allclose(alone[0], answer, rtol=0, atol=1e-6)


def test_the_seed_decides_all() -> None:
    """Equal seeds give equal bytes, another one other subsets, biases and weights."""
    train = made(8, "multilabel", 2)
    first, second, other = (
        fitted(train, "multilabel", seed=seed)[0].state_dict() for seed in (1, 1, 2)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)


def test_windows_shorter_than_a_kernel() -> None:
    """Refused, with the key and a cure: rows of a table are no signals."""
    with pytest.raises(UserError, match=r"^key does not fit .* 8 samples of 3 .* longer windows"):
        models.create(models.module("rocket"), Architecture(), (8, 3), 2, "key")


def test_says_when_it_has_not_converged(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the log of the stage, with the penalty, and not as a warning of Python's."""
    monkeypatch.setattr(rocket, "ITERATIONS", 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted(made(9, "binary", 1), "binary", head="logistic", l2=[0.125])
    assert "l2 0.125" in capsys.readouterr().out
