"""One epoch's batches, in random order, each divided into the shards that are computed one by one.

What an epoch asks for is decided before its first step, so that recordings can be read ahead. A shard's
content and its random numbers depend on the seed, the epoch, the step and the shard's number, and not on
the process that computes it. Augmentation is drawn where it is computed: nothing waits for a copy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from beatline.models import Examples
from beatline.prediction.tasks import Task
from beatline.training.augmentation import augmented
from beatline.training.parameters import Train


@dataclass(frozen=True)
class Shard:
    """Inputs `[B, T, C]`, targets `[B, K]` and the `share` of the batch that they are. `row`: the place
    among the shards of this process. `seed`: of dropout; None if the batch is one shard, which goes on
    with torch's generator."""

    row: int
    inputs: torch.Tensor
    targets: torch.Tensor
    share: float
    seed: int | None


@dataclass(frozen=True)
class _Request:
    """What a shard shows: recordings by position, and where their crops begin; None for whole ones."""

    number: int
    positions: torch.Tensor
    offsets: torch.Tensor | None
    share: float


def batches(
    train: Examples,
    task: Task,
    parameters: Train,
    generator: torch.Generator,
    epoch: int = 1,
    own: range | None = None,
) -> Iterator[tuple[int, list[Shard]]]:
    """Yield the size of each batch of an epoch, and of its shards those numbered `own`, or all.

    Crops have `windows.length` samples where that is shorter than a recording.
    """
    recordings, device = train.recordings, train.recordings.device
    targets = torch.from_numpy(train.targets.astype(np.float32))
    if smoothing := parameters.label_smoothing:
        targets = targets * (1 - smoothing) + smoothing * task.uninformed(targets.shape[1])
    own = range(parameters.shards) if own is None else own
    length = parameters.windows.steps(recordings.length)
    room = recordings.length - length + 1 if length < recordings.length else 0
    order = torch.randperm(len(recordings), generator=generator).split(parameters.batch_size)
    steps = [list(_requests(positions, room, parameters.shards, generator)) for positions in order]
    stream = recordings.stream(
        (
            (request.positions, request.offsets)
            for step in steps
            for request in step
            if request.number in own
        ),
        length,
    )
    for step, (positions, requests) in enumerate(zip(order, steps, strict=True)):
        shards = []
        for request in requests:
            if request.number not in own:
                continue
            draws, seed = generator, None
            if parameters.shards > 1 or device.type != generator.device.type:
                numbers = (parameters.seed, epoch, step, request.number)
                draws, seed = _seeded(device, *numbers)
            inputs = augmented(next(stream), parameters.augment, draws)
            shard_targets = targets[request.positions].to(device)
            row = request.number - own.start
            dropout = seed if parameters.shards > 1 else None
            shards.append(Shard(row, inputs, shard_targets, request.share, dropout))
        yield len(positions), shards


def _requests(
    positions: torch.Tensor, room: int, shards: int, generator: torch.Generator
) -> Iterator[_Request]:
    """Yield the shards of a batch, of two examples or more each, since one has no deviation."""
    parts = max(1, min(shards, len(positions) // 2))
    offsets = torch.randint(room, (len(positions),), generator=generator) if room else None
    of_parts = offsets.tensor_split(parts) if offsets is not None else [None] * parts
    for number, part in enumerate(positions.tensor_split(parts)):
        yield _Request(number, part, of_parts[number], len(part) / len(positions))


def _seeded(device: torch.device, *numbers: int) -> tuple[torch.Generator, int]:
    """Return a generator of augmentation, on the device, and a seed of dropout that depend on `numbers`
    alone."""
    augmentation, dropout = np.random.SeedSequence(numbers).generate_state(2)
    return torch.Generator(device).manual_seed(int(augmentation)), int(dropout)
