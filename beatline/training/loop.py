"""One training loop for every network and task.

There is no per-sample loader: recordings lie on the device where they fit, batches are drawn by
index, crops are views. On the CPU, glibc is told to keep freed memory and, where the processor has
fast bfloat16 arithmetic, that is used (`make bench` compares this with the plain loop).
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm  # what all kinds of it are
from torch.optim import lr_scheduler
from tqdm import tqdm

from beatline import metrics, models
from beatline.common.errors import UserError, warn
from beatline.models import Examples, Learning
from beatline.prediction import devices, inference, losses
from beatline.prediction.device_data import Recordings
from beatline.prediction.tasks import Task
from beatline.prediction.windows import Windows
from beatline.training import initial, precision
from beatline.training.batches import Shard, batches
from beatline.training.checkpoint import State
from beatline.training.parameters import Train
from beatline.training.processes import ALONE, Group
from beatline.training.shards import ShardedGradient


def label(parameters: Learning) -> str:
    """Return the beginning of a line of output, where several networks are trained."""
    return f"seed {parameters.seed}  " if parameters.seeds > 1 else ""


def learn(
    kind: ModuleType,
    network: nn.Module,
    task: Task,
    train: Examples,
    validation: Examples,
    parameters: Any,
    state: State | None,
    group: Group = ALONE,
) -> tuple[pd.DataFrame, int]:
    """Train `network` by :func:`fit`, unless its module, `kind`, has a `fit` of its own: that takes
    seconds, and starts over after an interruption."""
    if own := getattr(kind, "fit", None):
        return own(network, task, train, validation, parameters)
    return fit(network, task, train, validation, parameters, state, group)


def fit(
    network: nn.Module,
    task: Task,
    train: Examples,
    validation: Examples,
    parameters: Train,
    state: State | None = None,
    group: Group = ALONE,
) -> tuple[pd.DataFrame, int]:
    """Train `network` in place and leave it at its best epoch.

    `state` is saved after every epoch; if it holds something, training goes on from there, to the same
    bytes. Each process of `group` computes its shards of every batch; the first one has the state.
    Returns the history, a row per epoch (`epoch, train_loss, validation_loss, validation_auc,
    learning_rate, precision`), and the best epoch's number. Raises UserError if the loss stops being a
    number.
    """
    with initial.frozen(network, parameters.freeze) as frozen:
        return _fit(network, task, train, validation, parameters, state, group, frozen)


def _fit(
    network: nn.Module,
    task: Task,
    train: Examples,
    validation: Examples,
    parameters: Train,
    state: State | None,
    group: Group,
    frozen: Sequence[nn.Module],
) -> tuple[pd.DataFrame, int]:
    """As :func:`fit`; `frozen`: modules that learn nothing."""
    device = train.recordings.device
    network.to(device)
    if models.needs_memory_bank(network) and parameters.monitor == "loss":
        warn(
            "distances of different epochs do not compare: monitor should be epoch where they are the "
            "validation loss"
        )
    generator = torch.Generator().manual_seed(parameters.seed)
    weights = _class_weights(task, train, parameters)
    optimizer = _optimizer(network, parameters)
    steps = math.ceil(len(train.recordings) / parameters.batch_size)
    schedule = _Schedule(optimizer, parameters, steps)
    samples = parameters.windows.steps(train.recordings.length)
    size = (parameters.batch_size // parameters.shards, samples, train.recordings.channels)
    choose = partial(precision.chosen, parameters.precision, network, task, size, device)
    computed_in = group.from_first(choose)
    dtype = precision.TYPES[computed_in]
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
    scaler.scale(torch.zeros((), device=device))  # begins now, even if another has the first shard
    sharded = ShardedGradient(network, parameters.shards, group) if parameters.shards > 1 else None

    def backward(shard: Shard) -> torch.Tensor:
        """Add the gradient of a shard to that of the parameters; its loss, by its share of the batch."""
        with devices.autocast(dtype, device), _normalizing(network, len(shard.inputs)):
            outputs = network(shard.inputs)
        loss_of = losses.for_task(task).loss
        loss = loss_of(outputs.float(), shard.inputs, shard.targets, weights) * shard.share
        scaler.scale(loss).backward()
        return loss.detach()

    done = _Done(network, optimizer, schedule, scaler, generator, device)
    if saved := group.from_first(lambda: state.load() if state else None):
        done.restore(saved)
        epochs = f"epoch {done.epochs} of {parameters.epochs}"
        print(f"{label(parameters)}going on after {epochs} (interrupted earlier)", flush=True)
    for epoch in range(done.epochs + 1, parameters.epochs + 1):
        if parameters.early_stopping and done.epochs - done.best_epoch >= parameters.early_stopping:
            print(f"no better epoch since {done.best_epoch}: stopped early", flush=True)
            break
        began = time.perf_counter()
        rate = optimizer.param_groups[-1]["lr"]
        network.train()
        for module in frozen:
            module.eval()
        total = torch.zeros((), device=device)
        epoch_batches = batches(train, task, parameters, generator, epoch, sharded and sharded.own)
        doing = f"{label(parameters)}epoch {epoch}/{parameters.epochs}"
        bar = tqdm(
            epoch_batches,
            doing,
            steps,
            False,
            None,
            mininterval=10,
            delay=10,
            disable=not group.is_first,
        )
        for size, shards in bar:
            optimizer.zero_grad(set_to_none=True)
            loss = sharded.of_batch(shards, backward) if sharded else backward(*shards)
            if parameters.gradient_clip:
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(network.parameters(), parameters.gradient_clip)
            scaler.step(optimizer)
            scaler.update()
            total += loss * size
            schedule.after_step()
        train_loss = float(total) / len(train.recordings)
        group.agree(network, epoch)
        so_far = {"epoch": epoch, "train_loss": train_loss, "learning_rate": rate}
        predictions = _predictions(network, task, train, validation, parameters, group)
        validate = partial(_validated, task, predictions, validation.targets, parameters, so_far)
        row, monitored = group.from_first(validate)
        schedule.after_epoch(monitored)
        done.add({**row, "precision": computed_in}, monitored)
        if state:
            state.save(done.content())
        print(_progress(row, parameters, time.perf_counter() - began), flush=True)
    network.load_state_dict(done.best_state)
    return pd.DataFrame(done.history), done.best_epoch


@contextmanager
def _normalizing(network: nn.Module, records: int) -> Iterator[None]:
    """Have a batch of one record, which may have no deviation and may be an epoch's last, normalized as
    in evaluation."""
    modules = network.modules() if records == 1 else ()
    alone = [each for each in modules if isinstance(each, _BatchNorm) and each.training]
    for layer in alone:
        layer.eval()
    try:
        yield
    finally:
        for layer in alone:
            layer.train()


def _predictions(
    network: nn.Module,
    task: Task,
    train: Examples,
    validation: Examples,
    parameters: Train,
    group: Group,
) -> np.ndarray:
    """Predictions `[N, K]` for the validation recordings, by batches that the processes divide."""
    recordings, windows = validation.recordings, parameters.windows
    if models.needs_memory_bank(network):  # which only process 0 has
        return group.from_first(
            partial(_predictions_by_memory_bank, network, task, train, recordings, windows)
        )
    count, at_once = len(recordings), inference.records_at_once(recordings.length, windows)
    batches_in_all = math.ceil(count / at_once)
    own = group.own(batches_in_all)
    part = range(own.start * at_once, min(own.stop * at_once, count))
    rows = torch.zeros(group.rows(batches_in_all) * at_once, validation.targets.shape[1])
    if part:
        predictions = inference.predict(network, task, recordings.part(part), windows)
        rows[: len(part)] = torch.from_numpy(predictions)
    return group.gathered(rows)[:count].numpy()


def _validated(
    task: Task,
    predictions: np.ndarray,
    targets: np.ndarray,
    parameters: Train,
    so_far: dict[str, float],
) -> tuple[dict[str, float], float]:
    """The epoch's row of the history, `so_far` and what validation adds, and the monitored value."""
    train_loss = so_far["train_loss"]
    if not (math.isfinite(train_loss) and np.isfinite(predictions).all()):
        raise UserError(
            f"training diverged in epoch {so_far['epoch']} (training loss {train_loss:.4g}): lower "
            f"optimizer.learning_rate, set gradient_clip, or set precision to float32"
        )
    row = {
        "epoch": so_far["epoch"],
        "train_loss": train_loss,
        "validation_loss": task.prediction_loss(predictions, targets),
        "validation_auc": _mean_auc(targets, predictions),
        "learning_rate": so_far["learning_rate"],
    }
    return row, _monitored(task, predictions, targets, row, parameters.monitor)


def _predictions_by_memory_bank(
    network: nn.Module, task: Task, train: Examples, validation: Recordings, windows: Windows
) -> np.ndarray:
    """Predictions of a network that is first shown the training windows, for its memory bank."""
    assert isinstance(network, models.WithMemoryBank)
    network.eval()
    with torch.no_grad():  # not inference_mode: what it keeps must be like any other tensor
        network.build_memory_bank(inference.batches(train.recordings, windows))
    return inference.predict(network, task, validation, windows)


def _class_weights(task: Task, train: Examples, parameters: Train) -> torch.Tensor | None:
    if parameters.class_weights == "none":
        return None
    weights = task.class_weights(train.targets).astype(np.float32)
    return torch.from_numpy(weights).to(train.recordings.device)


def _optimizer(network: nn.Module, parameters: Train) -> torch.optim.Optimizer:
    name, rate, decay = parameters.optimizer.model_dump().values()
    groups = initial.groups(network, rate, parameters.initial_rate)
    if name == "sgd":
        return torch.optim.SGD(groups, lr=rate, weight_decay=decay, momentum=0.9, nesterov=True)
    kind = torch.optim.AdamW if name == "adamw" else torch.optim.Adam
    return kind(groups, lr=rate, weight_decay=decay, fused=True)


class _Schedule:
    """The learning rate's course: told after each step, and the monitored value after each epoch."""

    def __init__(self, optimizer: torch.optim.Optimizer, parameters: Train, steps: int) -> None:
        rates, name = [group["lr"] for group in optimizer.param_groups], parameters.schedule.name
        self.one_cycle, self.plateau = None, None
        if name == "one_cycle":
            total = steps * parameters.epochs
            self.one_cycle = lr_scheduler.OneCycleLR(optimizer, rates, total_steps=total)
        if name == "reduce_on_plateau":
            self.plateau = lr_scheduler.ReduceLROnPlateau(
                optimizer,
                mode="max",
                factor=0.1,
                patience=parameters.schedule.patience,
                threshold=0,
                threshold_mode="abs",  # a relative one takes every equal negative value for better
            )

    def after_step(self) -> None:
        if self.one_cycle:
            self.one_cycle.step()

    def after_epoch(self, monitored: float) -> None:
        if self.plateau:
            self.plateau.step(monitored)

    def state_dict(self) -> list[dict[str, Any]]:
        return [course.state_dict() for course in (self.one_cycle, self.plateau) if course]

    def load_state_dict(self, state: list[dict[str, Any]]) -> None:
        courses = [course for course in (self.one_cycle, self.plateau) if course]
        for course, saved in zip(courses, state, strict=True):
            course.load_state_dict(saved)


# What of _Done has a state, and what is one.
_WITH_STATE = ("network", "optimizer", "schedule", "scaler")
_VALUES = ("history", "best", "best_epoch", "best_state")


@dataclass
class _Done:
    """The progress so far: all that the epochs to come depend on, beside the data and the parameters."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: _Schedule
    scaler: torch.amp.GradScaler
    generator: torch.Generator  # of what the loop draws; dropout draws from torch's own generators
    device: torch.device
    history: list[dict[str, Any]] = field(default_factory=list)
    best: float = -math.inf
    best_epoch: int = 0
    best_state: dict[str, torch.Tensor] = field(default_factory=dict)

    @property
    def epochs(self) -> int:
        return len(self.history)

    def add(self, row: dict[str, Any], monitored: float) -> None:
        """One more epoch; the best one's network is kept."""
        self.history.append(row)
        if monitored > self.best:
            self.best, self.best_epoch = monitored, self.epochs
            self.best_state = copy.deepcopy(self.network.state_dict())

    def content(self) -> dict[str, Any]:
        """All of it, for :meth:`restore` in another process."""
        random = {"loop": self.generator.get_state(), "cpu": torch.get_rng_state()}
        if self.device.type != "cpu":
            random["device"] = torch.get_device_module(self.device).get_rng_state()
        content = {
            **{name: getattr(self, name).state_dict() for name in _WITH_STATE},
            **{name: getattr(self, name) for name in _VALUES},
            "random": random,
        }
        if self.best_epoch == self.epochs:  # torch.save writes once what is there twice
            content["best_state"] = content["network"]
        return content

    def restore(self, content: dict[str, Any]) -> None:
        for name in _WITH_STATE:
            getattr(self, name).load_state_dict(content[name])
        for name in _VALUES:
            setattr(self, name, content[name])
        self.generator.set_state(content["random"]["loop"])
        torch.set_rng_state(content["random"]["cpu"])
        if self.device.type != "cpu":
            torch.get_device_module(self.device).set_rng_state(content["random"]["device"])


def _mean_auc(targets: np.ndarray, predictions: np.ndarray) -> float:
    """Over the classes where it is defined; NaN if it is nowhere."""
    values = metrics.roc_auc(targets, predictions)
    defined = values[np.isfinite(values)]
    return float(defined.mean()) if len(defined) else math.nan


def _monitored(
    task: Task, predictions: np.ndarray, targets: np.ndarray, row: dict[str, float], monitor: str
) -> float:
    """The value whose largest is the best epoch's; the loss stands in where AUC is undefined."""
    if monitor == "epoch":
        return row["epoch"]
    if monitor == "accuracy":
        thresholds = [0.5] * targets.shape[1]
        right = task.decide(predictions, thresholds) == targets
        # Equal accuracies are told apart by the loss, which is far below one record's share.
        return float(right.all(axis=1).mean()) - 1e-6 * row["validation_loss"]
    if monitor == "auc" and math.isfinite(row["validation_auc"]):
        return row["validation_auc"]
    return -row["validation_loss"]


def _progress(row: dict[str, float], parameters: Train, seconds: float) -> str:
    left = seconds * (parameters.epochs - row["epoch"])
    return (
        f"{label(parameters)}epoch {row['epoch']:3d}/{parameters.epochs}  "
        f"train loss {row['train_loss']:.4f}  "
        f"validation loss {row['validation_loss']:.4f}  AUC {row['validation_auc']:.4f}  "
        f"learning rate {row['learning_rate']:.2e}  {seconds:.1f} s"
        f"{f', {tqdm.format_interval(left)} left' if left >= 1 else ''}"
    )
