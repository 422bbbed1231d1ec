"""The training loop: it learns, keeps the best epoch, repeats itself, equals the plain loop, and goes on
after an interruption as if there had been none."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from beatline import models
from beatline.common.errors import UserError
from beatline.models import Examples
from beatline.prediction import device_data, inference, losses
from beatline.prediction.device_data import Recordings
from beatline.prediction.tasks import TASKS, Task
from beatline.training import loop
from beatline.training.batches import batches
from beatline.training.checkpoint import State
from beatline.training.parameters import Train
from beatline.training.processes import ALONE, Group
from tests.parameters import ARCHITECTURES as SMALL
from tests.parameters import TRAIN, TRAINING

CPU = torch.device("cpu")
# Larger than those of the other tests, so that they learn, and without dropout, whose draws differ.
ARCHITECTURES = {
    "cnn": {
        **SMALL["cnn"],
        "filters": [8],
        "strides": [1],
        "dropout": 0.0,
    },
    "lstm": {
        **SMALL["lstm"],
        "hidden": 12,
        "layers": 1,
        "bidirectional": False,
        "dense": 0,
        "dropout": 0.0,
    },
    "cnn_lstm": {
        **SMALL["cnn_lstm"],
        "filters": [8],
        "hidden": 6,
        "dense": 6,
        "dropout": 0.0,
    },
    # All parameters at one rate, as in a plain loop.
    "s4": {**SMALL["s4"], "width": 8, "dropout": 0.0, "state_rate": 1.0},
    "autoencoder": {**SMALL["autoencoder"], "filters": [8, 4]},
}
CLASSIFIERS, EXCLUSIVE_OR_NOT = (
    ("cnn", "lstm", "cnn_lstm", "s4"),
    ("multilabel", "multiclass", "binary"),
)
TASKS_OF_MODELS = [
    *itertools.product(CLASSIFIERS, EXCLUSIVE_OR_NOT),
    ("autoencoder", "reconstruction"),
]


@pytest.fixture(autouse=True)
def deterministic() -> Iterator[None]:
    """Compute as deterministically as in the stage, and undo it for other tests."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


def train_parameters(**changes: Any) -> Train:
    """TRAIN with changes; `optimizer__name` stands for the key `name` in the block `optimizer`."""
    block: dict[str, Any] = copy.deepcopy({**TRAINING, **TRAIN})
    for key, value in changes.items():
        *outer, last = key.split("__")
        target = block.setdefault(outer[0], {}) if outer else block
        target[last] = value
    return Train.model_validate(block)


def toy(task: str, records: int = 64, seed: int = 0) -> Examples:
    """Waves whose frequency and sign tell the classes apart; anomalies are noise."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 3, records)
    time = np.arange(20)
    waves = np.sin(2 * np.pi * np.array([0.05, 0.15, 0.3])[kind][:, None] * time)
    if task == "reconstruction":
        waves = np.where(kind[:, None] == 2, rng.standard_normal((records, 20)), waves)
    signals = np.stack([waves, rng.standard_normal((records, 20)) * 0.1], axis=2)
    several = np.stack([kind == 0, kind != 2, kind != 1], axis=1)
    targets = {
        "multilabel": several,
        "multiclass": np.eye(3)[kind],
        "binary": (kind == 1)[:, None],
        "reconstruction": (kind == 2)[:, None],
    }[task].astype(np.int8)
    return Examples(Recordings(signals.astype(np.float32), np.arange(records), CPU), targets)


def normals_of(examples: Examples) -> Examples:
    rows = torch.from_numpy(np.flatnonzero(examples.targets[:, 0] == 0))
    signals = examples.recordings.batch(rows).numpy()
    normals = Recordings(signals, np.arange(len(signals)), CPU)
    return Examples(normals, examples.targets[rows.numpy()])


def network_of(model: str, outputs: int, seed: int = 1) -> nn.Module:
    torch.manual_seed(seed)
    architecture = models.module(model).Architecture.model_validate(ARCHITECTURES[model])
    return models.create(models.module(model), architecture, (20, 2), outputs, "key")


def fitted(
    model: str = "cnn", task: str = "multiclass", **changes: Any
) -> tuple[nn.Module, pd.DataFrame, int]:
    train, validation = toy(task), toy(task, seed=1)
    network = network_of(model, train.targets.shape[1])
    train = normals_of(train) if TASKS[task].learns_normal_only else train
    history, best = loop.fit(network, TASKS[task], train, validation, train_parameters(**changes))
    return network, history, best


def equal(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(("model", "task"), TASKS_OF_MODELS)
def test_every_model_learns_every_task(model: str, task: str) -> None:
    """The loss falls on a problem that can be learned, and validation follows."""
    epochs = 20 if model != "cnn" else 8
    _, history, _ = fitted(model, task, epochs=epochs)
    assert list(history.columns) == [
        "epoch",
        "train_loss",
        "validation_loss",
        "validation_auc",
        "learning_rate",
        "precision",
    ]
    assert history["epoch"].to_list() == list(range(1, epochs + 1))
    losses = history["train_loss"].to_list()
    assert losses[-1] < 0.6 * losses[0]
    validation_losses = history["validation_loss"].to_list()
    assert min(validation_losses) < 0.7 * validation_losses[0]
    assert max(history["validation_auc"].to_list()) > 0.95


@pytest.mark.parametrize("monitor", ["loss", "auc", "accuracy"])
def test_the_best_epoch_is_kept(monitor: str) -> None:
    """The weights are those of the best epoch by the monitored value, not of the last: training to
    that epoch alone gives the same weights."""
    changes = {"monitor": monitor, "optimizer__learning_rate": 0.3, "epochs": 6}
    network, history, best = fitted(**changes)
    by = {
        "loss": -history["validation_loss"],
        "auc": history["validation_auc"],
    }.get(monitor)
    if by is not None:
        assert best == int(np.argmax(by.to_numpy())) + 1
    shorter, _, same = fitted(**{**changes, "epochs": best})
    assert same == best
    assert equal(network, shorter)


def test_the_history_belongs_to_the_weights() -> None:
    """The validation loss of the best epoch is that of the network that is given back."""
    validation = toy("multiclass", seed=1)
    network, history, best = fitted(optimizer__learning_rate=0.3)
    found = inference.predict(
        network, TASKS["multiclass"], validation.recordings, train_parameters().windows
    )
    loss = TASKS["multiclass"].prediction_loss(found, validation.targets)
    assert loss == pytest.approx(history["validation_loss"].iloc[best - 1], abs=1e-12)


def test_two_runs_are_equal_bit_for_bit() -> None:
    """Same seed, same bytes, with everything random in use; another seed, other weights."""
    changes: dict[str, Any] = {
        "windows__length": 15,
        "augment__noise": 0.1,
        "augment__scale": 0.1,
        "augment__shift": 2,
        "precision": "auto",
        "schedule__name": "one_cycle",
    }
    first, history, _ = fitted("cnn_lstm", **changes)
    second, again, _ = fitted("cnn_lstm", **changes)
    other, _, _ = fitted("cnn_lstm", **changes, seed=2)
    assert equal(first, second)
    pd.testing.assert_frame_equal(history, again, check_exact=True)
    assert not equal(first, other)


def test_streamed_training_is_resident_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recordings that do not fit the device train the same network, bit for bit."""
    resident, _, _ = fitted(windows__length=15)
    monkeypatch.setattr(device_data, "_fits", lambda *_: False)
    streamed, _, _ = fitted(windows__length=15)
    assert equal(resident, streamed)


def test_an_example_left_for_the_last_batch() -> None:
    """One value of a channel has no deviation: it is normalized as in evaluation, and leaves no trace in
    what is known of others."""
    rows = Recordings(np.random.default_rng(1).standard_normal((5, 1, 4)), np.arange(5), CPU)
    examples = Examples(rows, np.array([[0], [1], [0], [1], [1]], dtype=np.int8))
    normalization = nn.BatchNorm1d(8)
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 8), normalization, nn.Linear(8, 1))
    parameters = train_parameters(batch_size=4, epochs=2)
    history, _ = loop.fit(network, TASKS["binary"], examples, examples, parameters)
    assert np.isfinite(history["train_loss"]).all()
    assert normalization.num_batches_tracked == 2


def test_early_stopping() -> None:
    """Training ends when so many epochs in a row were not better."""
    changes = {"optimizer__learning_rate": 1e-12, "monitor": "auc", "epochs": 30}
    _, history, best = fitted("lstm", **changes, early_stopping=3)
    assert (len(history), best) == (4, 1)
    _, history, _ = fitted("lstm", **{**changes, "epochs": 6})
    assert len(history) == 6


@pytest.mark.parametrize(
    ("model", "task"), [("cnn", "multilabel"), ("autoencoder", "reconstruction")]
)
@pytest.mark.parametrize("batch_size", [16, 64])
def test_divergence_is_an_error(model: str, task: str, batch_size: int) -> None:
    """A loss that is no number, also one that only validation sees, ends in one sentence."""
    changes = {"optimizer__name": "sgd", "optimizer__learning_rate": 1e30}
    with pytest.raises(UserError, match=r"diverged in epoch \d+ .*learning_rate") as error:
        fitted(model, task, batch_size=batch_size, **changes)
    assert "\n" not in str(error.value)


def plain_loop(
    network: nn.Module, task: Task, examples: Examples, parameters: Train, weights: Any = None
) -> float:
    """One epoch as in any PyTorch tutorial, on the same batches; the mean training loss."""
    draw = torch.Generator().manual_seed(parameters.seed)
    rate = parameters.optimizer.learning_rate
    optimizer = {
        "adamw": torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.0),
        "sgd": torch.optim.SGD(network.parameters(), lr=rate, momentum=0.9, nesterov=True),
    }[parameters.optimizer.name]
    signals = examples.recordings.batch(torch.arange(len(examples.targets)))
    targets = torch.from_numpy(examples.targets).float()
    network.train()
    total = 0.0
    for rows in torch.randperm(len(targets), generator=draw).split(parameters.batch_size):
        optimizer.zero_grad()
        loss = losses.for_task(task).loss(
            network(signals[rows]), signals[rows], targets[rows], weights
        )
        loss.backward()
        if parameters.gradient_clip:
            nn.utils.clip_grad_norm_(network.parameters(), parameters.gradient_clip)
        optimizer.step()
        total += loss.item() * len(rows)
    return total / len(targets)


@pytest.mark.parametrize("clip", [0.0, 0.01])
@pytest.mark.parametrize(
    ("model", "task", "optimizer"),
    [
        ("cnn", "multilabel", "adamw"),
        ("lstm", "multiclass", "adamw"),
        ("cnn_lstm", "binary", "adamw"),
        ("s4", "multilabel", "sgd"),
        # Biases before batch norm have no gradient but rounding errors, which Adam would enlarge.
        ("autoencoder", "reconstruction", "sgd"),
    ],
)
def test_the_loop_is_the_plain_loop(model: str, task: str, optimizer: str, clip: float) -> None:
    """One epoch gives the loss and the weights of a plain PyTorch loop on the same batches."""
    parameters = train_parameters(
        epochs=1, gradient_clip=clip, batch_size=24, optimizer__name=optimizer
    )
    train, validation = toy(task), toy(task, seed=1)
    ours, plain = (network_of(model, train.targets.shape[1]) for _ in range(2))
    history, _ = loop.fit(ours, TASKS[task], train, validation, parameters)
    loss = plain_loop(plain, TASKS[task], train, parameters)
    assert history["train_loss"].iloc[0] == pytest.approx(loss, rel=1e-5)
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], tensor, rtol=1e-4, atol=1e-5)


def test_class_weights_are_used() -> None:
    """`class_weights: balanced` is the weighted loss of the plain loop."""
    parameters = train_parameters(epochs=1, class_weights="balanced")
    train = toy("multilabel")
    ours, plain = network_of("cnn", 3), network_of("cnn", 3)
    history, _ = loop.fit(ours, TASKS["multilabel"], train, train, parameters)
    positives = train.targets.sum(axis=0)
    weights = torch.tensor((len(train.targets) - positives) / positives, dtype=torch.float32)
    loss = plain_loop(plain, TASKS["multilabel"], train, parameters, weights)
    assert history["train_loss"].iloc[0] == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize(
    ("task", "expected"),
    [("multilabel", {0.1, 0.9}), ("binary", {0.1, 0.9}), ("multiclass", {0.2 / 3, 0.8 + 0.2 / 3})],
)
def test_label_smoothing(task: str, expected: set[float]) -> None:
    """Yes/no labels move towards one half, exclusive ones towards one K-th (torch's definition)."""
    draw = torch.Generator().manual_seed(0)
    parameters = train_parameters(label_smoothing=0.2)
    epoch = batches(toy(task), TASKS[task], parameters, draw)
    values = torch.cat([shard.targets for _, (shard,) in epoch]).unique()
    assert sorted(values.tolist()) == pytest.approx(sorted(expected))


def test_bfloat16_is_close_to_float32() -> None:
    """16-bit arithmetic changes losses by little: it is a matter of speed."""
    _, exact, _ = fitted("cnn_lstm", precision="float32", epochs=6)
    _, fast, _ = fitted("cnn_lstm", precision="bfloat16", epochs=6)
    for column in ("train_loss", "validation_loss"):
        np.testing.assert_allclose(fast[column], exact[column], rtol=0.1, atol=0.02)
    assert not exact["train_loss"].equals(fast["train_loss"])


def test_one_cycle() -> None:
    """The rate rises to its peak in 30 % of the steps and ends far below its start."""
    _, history, _ = fitted(schedule__name="one_cycle", epochs=10)
    rates = history["learning_rate"].to_numpy()
    assert rates[0] == pytest.approx(0.02 / 25)
    assert int(np.argmax(rates)) == 3
    assert rates.max() == pytest.approx(0.02, rel=0.05)
    assert rates[-1] < rates[0]


def test_one_step_is_enough_for_one_cycle() -> None:
    """The shortest training there is does not trip the schedule."""
    _, history, _ = fitted(schedule__name="one_cycle", epochs=1, batch_size=1000)
    assert len(history) == 1


@pytest.mark.parametrize("monitor", ["auc", "loss"])
def test_reduce_on_plateau(monitor: str) -> None:
    """After `patience` epochs without a better value the rate is a tenth, whatever is monitored."""
    changes = {"gradient_clip": 1e-12, "optimizer__name": "sgd"}  # nothing gets better
    schedule = {"schedule__name": "reduce_on_plateau", "schedule__patience": 2}
    _, history, _ = fitted("lstm", monitor=monitor, epochs=6, **changes, **schedule)
    assert len(set(history["validation_loss"])) == 1
    np.testing.assert_allclose(history["learning_rate"] / 0.02, [1, 1, 1, 1, 0.1, 0.1])


def crops_of(**changes: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """One epoch's inputs, in the order of the recordings, and the recordings themselves."""
    examples = toy("binary", records=40)
    numbered = Examples(examples.recordings, np.arange(40)[:, None].astype(np.int8))
    draw = torch.Generator().manual_seed(0)
    parameters = train_parameters(**changes)
    shards = [shard for _, (shard,) in batches(numbered, TASKS["binary"], parameters, draw)]
    order = torch.cat([shard.targets for shard in shards])[:, 0].argsort()
    return torch.cat([shard.inputs for shard in shards])[order], examples.recordings.batch(
        torch.arange(40)
    )


def test_an_epoch_sees_every_recording_once() -> None:
    """Batches are a permutation of the recordings, each with its own target."""
    inputs, wholes = crops_of()
    assert torch.equal(inputs, wholes)


def test_crops() -> None:
    """Each crop is a piece of its own recording, from anywhere, the last start included."""
    inputs, wholes = crops_of(windows__length=15)
    found = set()
    for crop, whole in zip(inputs, wholes, strict=True):
        found |= {start for start in range(6) if torch.equal(whole[start : start + 15], crop)}
    assert inputs.shape == (40, 15, 2)
    assert found == set(range(6))


def test_windows_longer_than_the_recordings_are_the_recordings() -> None:
    """A window of 1,000 samples over recordings of 20 takes the 20."""
    inputs, wholes = crops_of(windows__length=1000)
    assert torch.equal(inputs, wholes)


def test_shift() -> None:
    """Each recording is moved by at most `shift` samples, either way, and filled with zeros."""
    inputs, wholes = crops_of(augment__shift=3)
    padded = nn.functional.pad(wholes, (0, 0, 3, 3))
    found = set()
    for moved, whole in zip(inputs, padded, strict=True):
        found |= {first for first in range(7) if torch.equal(whole[first : first + 20], moved)}
    assert found == set(range(7))


def test_scale_and_noise() -> None:
    """One gain per recording; white noise of the given deviation on every sample."""
    inputs, wholes = crops_of(augment__scale=0.2)
    gains = inputs / wholes.where(wholes != 0, torch.nan)
    spread = gains.flatten(1).nan_to_num(1).std(dim=1)
    assert spread.median() < 0.3 and gains.nanmean(dim=(1, 2)).std() == pytest.approx(0.2, rel=0.4)
    inputs, wholes = crops_of(augment__noise=0.2)
    assert (inputs - wholes).std() == pytest.approx(0.2, rel=0.1)


def test_history_of_a_validation_without_anomalies() -> None:
    """Without anomalies in validation there is no AUC: the loss decides, and nothing breaks."""
    train = normals_of(toy("reconstruction"))
    network = network_of("autoencoder", 1)
    parameters = train_parameters(monitor="auc", epochs=3)
    history, best = loop.fit(network, TASKS["reconstruction"], train, train, parameters)
    assert np.isnan(history["validation_auc"].to_numpy()).all()
    assert best == int(np.argmin(history["validation_loss"].to_numpy())) + 1


class MeanBank(nn.Module, models.WithMemoryBank):
    """Scores a window by its distance to the mean of its memory bank; learns sections as if
    each window had two transforms."""

    def __init__(self, _: object, shape: models.Shape, outputs: int) -> None:
        super().__init__()
        self.outputs = outputs
        self.linear = nn.Linear(shape[0] * shape[1], 2 * 2 * outputs)
        self.mean: torch.Tensor
        self.register_buffer("mean", torch.zeros(shape))
        self.calls: list[tuple[bool, list[torch.Tensor]]] = []
        self.answered = 0

    def build_memory_bank(self, windows: Iterable[torch.Tensor]) -> None:
        seen = list(windows)
        self.calls.append((self.training, seen))
        self.answered = 0
        # A new tensor, not the old one's content: what most would write.
        self.mean = torch.cat(seen).mean(dim=0) * self.linear.weight.sum()

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        if self.training:
            return self.linear(windows.flatten(1)).unflatten(1, (2, 2 * self.outputs))
        assert self.calls, "asked before it has seen a training window"
        self.answered += len(windows)
        return (windows - self.mean).square().mean(dim=(1, 2)).unsqueeze(1)


def with_memory_bank(**changes: Any) -> tuple[MeanBank, pd.DataFrame, int]:
    """A network that learned two sections, and its history."""
    torch.manual_seed(1)
    train, validation = toy("binary"), toy("binary", seed=1)
    train = Examples(train.recordings, np.eye(2, dtype=np.int8)[train.targets[:, 0]])
    length = changes.get("windows__length") or 20
    network = MeanBank(None, (length, 2), 2)
    history, best = loop.fit(
        network, TASKS["neighbours"], train, validation, train_parameters(**changes)
    )
    return network, history, best


@pytest.mark.parametrize("length", [0, 7])
def test_a_network_remembers_before_it_is_validated(length: int) -> None:
    """After each epoch it is shown every training window once, in order and unchanged, in evaluation
    mode, and asked about the validation recordings only then."""
    stride = 5 if length else None
    changes = {"windows__length": length, "windows__stride": stride, "augment__noise": 1.0}
    network, history, _ = with_memory_bank(**changes, epochs=3)
    parameters = train_parameters(**changes)
    expected = torch.cat(list(inference.batches(toy("binary").recordings, parameters.windows)))
    assert len(network.calls) == len(history) == 3
    for in_training, seen in network.calls:
        assert not in_training
        assert torch.equal(torch.cat(seen), expected)
    each = len(inference.starts(20, parameters.windows))
    assert network.answered == 64 * each
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0]


def test_what_is_remembered_belongs_to_the_best_epoch() -> None:
    """The network is left with the memory of its best epoch, as with its weights: its answers are those
    of the history."""
    network, history, best = with_memory_bank(optimizer__learning_rate=0.3, epochs=6)
    assert 1 <= best < 6
    validation = toy("binary", seed=1)
    found = inference.predict(
        network, TASKS["neighbours"], validation.recordings, train_parameters().windows
    )
    loss = TASKS["neighbours"].prediction_loss(found, validation.targets)
    assert loss == pytest.approx(history["validation_loss"].iloc[best - 1], abs=1e-12)


def test_a_network_that_remembered_can_be_trained_on() -> None:
    """The memory bank is a tensor like any other: weights can be learned, loaded, and the bank built
    again from them."""
    network, _, _ = with_memory_bank(epochs=1)
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.load_state_dict(state)
    train, validation = toy("binary"), toy("binary", seed=1)
    train = Examples(train.recordings, np.eye(2, dtype=np.int8)[train.targets[:, 0]])
    history, _ = loop.fit(
        network, TASKS["neighbours"], train, validation, train_parameters(epochs=2)
    )
    assert np.isfinite(history["validation_loss"].to_numpy()).all()


def test_others_do_not_remember() -> None:
    """Only a network that says so is shown the training windows again."""
    assert not any(models.needs_memory_bank(network_of(name, 1)) for name in ARCHITECTURES)


def test_the_last_epoch_may_be_kept() -> None:
    """`monitor: epoch` keeps the last one, whatever validation says of it."""
    _, history, best = fitted(monitor="epoch", optimizer__learning_rate=0.3, epochs=5)
    assert best == len(history) == 5


@pytest.mark.parametrize("own", [True, False])
def test_a_model_may_learn_in_its_own_way(own: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the `fit` of its module, if that has one, and otherwise by this loop, which goes on where it
    was interrupted."""
    kind = models.module("logistic_regression" if own else "cnn")
    monkeypatch.setattr(kind if own else loop, "fit", lambda *arguments: arguments)
    given: Any = ("network", "task", "train", "validation", "parameters", "state")
    assert loop.learn(kind, *given) == (given[:-1] if own else (*given, ALONE))


# ------------------------------------------------------------------------------- interrupted training


RANDOM: dict[str, Any] = {
    "windows__length": 15,
    "augment__noise": 0.1,
    "augment__scale": 0.1,
    "augment__shift": 2,
}
# So slow that no processor's rounding makes an epoch better than the one before.
STANDING = {"optimizer__learning_rate": 1e-6, "monitor": "auc"}
INTERRUPTED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "cnn": ("cnn", "multilabel", {"precision": "bfloat16", "monitor": "auc"}),
    "lstm": ("lstm", "multiclass", {"optimizer__name": "adam", "gradient_clip": 0.1}),
    "cnn_lstm": ("cnn_lstm", "binary", {"optimizer__name": "sgd", "class_weights": "balanced"}),
    # So fast that gradients overflow, and the scale of the losses falls.
    "mlp": ("mlp", "multiclass", {"precision": "float16", "optimizer__learning_rate": 3.0}),
    "autoencoder": ("autoencoder", "reconstruction", {}),
    "s4": ("s4", "multilabel", {"precision": "bfloat16", "schedule__name": "one_cycle"}),
    "image": ("image", "reconstruction", {"monitor": "epoch"}),
    "scored": ("scored", "reconstruction", {"windows__stride": 5}),
    "embedding": ("embedding", "neighbours", {"windows__stride": 5}),
    "one_cycle": ("cnn", "binary", {"schedule__name": "one_cycle", "monitor": "accuracy"}),
    "plateau": (
        "lstm",
        "multiclass",
        {"schedule__name": "reduce_on_plateau", **STANDING},
    ),
    "early_stopping": ("cnn", "multiclass", {"early_stopping": 1, **STANDING}),
}


AUTOENCODERS = {"image": {"dimensions": 2}, "scored": {"score": "nearest", "neighbours": 2}}


class _KilledError(Exception):
    """Nothing more happens in this process."""


class KilledAfter(State):
    """A state whose process is killed once it has saved so many epochs."""

    def __init__(self, path: Path, epochs: int) -> None:
        super().__init__(path)
        self.epochs = epochs

    def save(self, state: dict[str, Any]) -> None:
        super().save(state)
        if len(state["history"]) == self.epochs:
            raise _KilledError


def run_of(
    name: str, state: State | None, seed: int = 1, group: Group = ALONE, **more: Any
) -> tuple[nn.Module, pd.DataFrame, int]:
    """A run of INTERRUPTED on a new network, with dropout, from torch's random numbers of `seed`."""
    model, task, changes = INTERRUPTED[name]
    parameters = train_parameters(**{"epochs": 6, **RANDOM, **changes, **more})
    labels = "binary" if task == "neighbours" else task
    train, validation = toy(labels), toy(labels, seed=1)
    if task == "reconstruction":
        train = normals_of(train)
    if task == "neighbours":
        train = Examples(train.recordings, np.eye(2, dtype=np.int8)[train.targets[:, 0]])
    block = SMALL[model] if model in SMALL else {**SMALL["autoencoder"], **AUTOENCODERS[model]}
    model = model if model in SMALL else "autoencoder"
    torch.manual_seed(seed)
    architecture = models.module(model).Architecture.model_validate(block)
    shape = parameters.windows.length or 20, 2
    network = models.create(
        models.module(model), architecture, shape, train.targets.shape[1], "key"
    )
    history, best = loop.fit(network, TASKS[task], train, validation, parameters, state, group)
    return network, history, best


@pytest.mark.parametrize("name", INTERRUPTED)
def test_an_interrupted_training_goes_on_to_the_same_bytes(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever is random, adapted or in the memory bank: interrupted after every epoch, by runs
    that know nothing but the saved state."""
    whole, history, best = run_of(name, None)
    assert whole.training is False
    path = tmp_path / "state"
    for epochs in range(1, len(history) + 1):
        with pytest.raises(_KilledError):
            run_of(name, KilledAfter(path, epochs), seed=epochs)
    capsys.readouterr()
    resumed, again, best_again = run_of(name, State(path), seed=9)
    printed = capsys.readouterr().out.splitlines()
    lines = [line for line in printed if not line.startswith("warning: ")]
    assert lines[0] == f"going on after epoch {len(history)} of 6 (interrupted earlier)"
    assert not any(line.startswith("epoch") for line in lines)
    assert equal(whole, resumed)
    assert best_again == best
    pd.testing.assert_frame_equal(history, again, check_exact=True)
    if name == "plateau":
        assert len(set(history["learning_rate"])) > 1
    if name == "early_stopping":
        assert len(history) < 6
        assert lines[1:] == [f"no better epoch since {best}: stopped early"]


def test_an_uninterrupted_training_is_not_changed_by_its_state(tmp_path: Path) -> None:
    """Saving draws no random number and moves no weight."""
    plain, history, _ = run_of("cnn", None)
    saved, again, _ = run_of("cnn", State(tmp_path / "state"))
    assert equal(plain, saved)
    pd.testing.assert_frame_equal(history, again, check_exact=True)


def test_an_epoch_that_is_told_of_is_saved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An interruption loses only what no line of output has promised."""

    class Told(State):
        def save(self, state: dict[str, Any]) -> None:
            nonlocal told
            told += capsys.readouterr().out.count("epoch ")
            assert told == len(state["history"]) - 1
            super().save(state)

    told = 0
    run_of("lstm", Told(tmp_path / "state"))
    assert told == 5


def test_lines_say_of_which_seed_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """Lines name the seed where several networks are trained; a single one's lines stay short."""
    fitted(epochs=2, seed=7, seeds=3)
    assert all(line.startswith("seed 7  epoch ") for line in capsys.readouterr().out.splitlines())
    fitted(epochs=2, seed=7)
    assert all(line.startswith("epoch ") for line in capsys.readouterr().out.splitlines())
