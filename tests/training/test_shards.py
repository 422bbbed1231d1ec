"""A batch divided into shards: it stays the same batch, and its gradient is that of the whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from beatline.common.errors import UserError
from beatline.models import Examples
from beatline.prediction.tasks import TASKS
from beatline.training import loop
from beatline.training.batches import Shard, batches
from beatline.training.parameters import parameters_of
from beatline.training.processes import ALONE
from beatline.training.shards import ShardedGradient
from tests import parameters
from tests.training.test_loop import fitted, network_of, toy, train_parameters


def epoch_of(
    epoch: int = 1, own: range | None = None, records: int = 45, **changes: Any
) -> list[tuple[int, list[Shard]]]:
    """Batches whose targets are the recordings' numbers."""
    examples = toy("binary", records)
    numbered = Examples(examples.recordings, np.arange(records)[:, None].astype(np.int8))
    generator = torch.Generator().manual_seed(1)
    parameters = train_parameters(**changes)
    return list(batches(numbered, TASKS["binary"], parameters, generator, epoch, own))


@pytest.mark.parametrize("records", [45, 33, 34, 35])
def test_shards_are_the_parts_of_a_batch(records: int) -> None:
    """In order and of about the same size, each of two examples or more; one left alone is one shard."""
    whole = epoch_of(records=records)
    divided = epoch_of(records=records, shards=4)
    assert [size for size, _ in whole] == [size for size, _ in divided]
    for (size, (batch,)), (_, shards) in zip(whole, divided, strict=True):
        assert torch.equal(torch.cat([shard.targets for shard in shards]), batch.targets)
        assert torch.equal(torch.cat([shard.inputs for shard in shards]), batch.inputs)
        assert sum(shard.share for shard in shards) == pytest.approx(1)
        sizes = [len(shard.inputs) for shard in shards]
        assert max(sizes) - min(sizes) <= 1 and min(sizes) >= min(2, size)
        assert [shard.share for shard in shards] == [each / size for each in sizes]


RANDOM: dict[str, Any] = {"windows__length": 15, "augment__noise": 0.1, "augment__shift": 2}


def test_a_shard_does_not_depend_on_who_computes_it() -> None:
    """Crops, augmentation and the seed of dropout are those of the seed, the epoch, the step and the
    shard, whichever shards a process has; and no two shards have the same."""
    everything = epoch_of(shards=4, **RANDOM)
    for own in (range(1), range(1, 3), range(3, 4), range(4, 4)):
        for (_, all_shards), (_, shards) in zip(
            everything, epoch_of(own=own, shards=4, **RANDOM), strict=True
        ):
            expected = all_shards[own.start : own.stop]
            assert [shard.row for shard in shards] == list(range(len(expected)))
            for shard, other in zip(shards, expected, strict=True):
                assert torch.equal(shard.inputs, other.inputs) and shard.seed == other.seed
    seeds = [
        shard.seed
        for epoch in (1, 2)
        for seed in (1, 2)
        for _, shards in epoch_of(epoch, shards=4, seed=seed)
        for shard in shards
    ]
    assert None not in seeds and len(set(seeds)) == len(seeds)


@pytest.mark.parametrize("shards", [2, 3, 8])
@pytest.mark.parametrize("weights", ["none", "balanced"])
@pytest.mark.parametrize("task", ["multilabel", "multiclass", "reconstruction"])
def test_the_sum_of_the_shards_is_the_batch(task: str, weights: str, shards: int) -> None:
    """Without batch normalization and dropout, shards change nothing but the order of addition: losses,
    class weights, clipping and a last batch of another size included."""
    model = "autoencoder" if task == "reconstruction" else "lstm"
    changes: dict[str, Any] = {"epochs": 2, "batch_size": 24, "gradient_clip": 0.05}
    changes |= {"class_weights": weights, "optimizer__name": "sgd"}
    if task == "reconstruction":
        changes["optimizer__learning_rate"] = 1e-4
        network = _without_normalization()
        other = _without_normalization()
        train = toy(task)
        for each, number in ((network, 1), (other, shards)):
            loop.fit(each, TASKS[task], train, train, train_parameters(**changes, shards=number))
    else:
        network, other = (
            fitted(model, task, **changes, shards=number)[0] for number in (1, shards)
        )
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], tensor, rtol=1e-4, atol=1e-6)


def _without_normalization() -> nn.Module:
    network = network_of("autoencoder", 1)
    for sequence in (each for each in network.modules() if isinstance(each, nn.Sequential)):
        for number, layer in enumerate(sequence):
            if isinstance(layer, nn.BatchNorm1d):
                sequence[number] = nn.Identity()
    return network


def test_batch_normalization_keeps_the_mean_of_the_shards() -> None:
    """Each shard is normalized by itself; what is kept is the mean, by their sizes, of what each makes of
    the statistics before. The shards' gradients are added."""
    torch.manual_seed(3)
    normalization, linear = nn.BatchNorm1d(3), nn.Linear(3, 1)
    network = nn.Sequential(normalization, linear)
    inputs = torch.randn(6, 3)
    parts = [(inputs[:2], 2 / 6), (inputs[2:], 4 / 6)]
    mean, variance = torch.zeros(3), torch.zeros(3)
    for part, share in parts:
        mean += share * 0.1 * part.mean(dim=0)
        variance += share * (0.9 + 0.1 * part.var(dim=0))

    def backward(shard: Shard) -> torch.Tensor:
        loss = network(shard.inputs).square().mean() * shard.share
        loss.backward()
        return loss.detach()

    gradient = ShardedGradient(network, 3, ALONE)  # of which the third has nothing to do
    shards = [
        Shard(row, part, torch.empty(0), share, row) for row, (part, share) in enumerate(parts)
    ]
    loss = gradient.of_batch(shards, backward)
    state = normalization.state_dict()
    torch.testing.assert_close(state["running_mean"], mean)
    torch.testing.assert_close(state["running_var"], variance)
    assert state["num_batches_tracked"] == 1
    losses = [network(part).square().mean() * share for part, share in parts]
    expected = torch.stack(losses).sum()
    (by_hand,) = torch.autograd.grad(expected, [linear.weight])
    torch.testing.assert_close(linear.weight.grad, by_hand)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_more_shards_than_a_batch_can_have_are_refused() -> None:
    """By the name of the key, before anything is trained."""
    content = parameters.content()
    content["training"]["shards"] = 9
    with pytest.raises(UserError, match=r"shards .*half of batch_size, 16"):
        parameters_of(content, "cnn", "ecg5000")
    content["training"]["shards"] = 8
    assert parameters_of(content, "cnn", "ecg5000")[1].model_dump()["shards"] == 8
