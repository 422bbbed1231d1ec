"""The gradient of a batch from those of its shards, to the same bytes whoever computes them.

Each process computes some shards, all processes get the rows of all shards, and add them in the order of
the shards: addition in float32 depends on its order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from beatline.training.batches import Shard
from beatline.training.processes import Group


class ShardedGradient:
    """The gradient, the loss and the running statistics of batch normalization after a batch.

    Each shard is normalized by its own statistics. The running ones after a batch are the mean, weighted
    by the shards' sizes, of what each shard would have made of those before it.
    """

    def __init__(self, network: nn.Module, shards: int, group: Group) -> None:
        self.own = group.own(shards)
        self._shards, self._group = shards, group
        self._parameters = [each for each in network.parameters() if each.requires_grad]
        layers = [
            dict(each.named_buffers())
            for each in network.modules()
            if isinstance(each, _BatchNorm) and each.weight.requires_grad  # what is frozen stays
        ]
        self._statistics = [
            layer[name] for layer in layers for name in ("running_mean", "running_var")
        ]
        self._batches_seen = [layer["num_batches_tracked"] for layer in layers]
        sizes = [each.numel() for each in (*self._parameters, *self._statistics)]
        device = self._parameters[0].device
        # The gradients, the statistics, and last the loss, of each shard.
        self._rows = torch.zeros(group.rows(shards), sum(sizes) + 1, device=device)
        self._total = torch.zeros(sum(sizes) + 1, device=device)

    def of_batch(
        self, shards: Sequence[Shard], backward: Callable[[Shard], torch.Tensor]
    ) -> torch.Tensor:
        """Leave the batch's gradient in the parameters, and return its loss. `shards`: those of this
        process, which `backward` differentiates, to a loss weighted by their share."""
        before = [buffer.clone() for buffer in (*self._statistics, *self._batches_seen)]
        self._rows.zero_()
        for shard in shards:
            row = self._rows[shard.row]
            gradients, statistics = self._views(row)
            _copy(before[: len(statistics)], self._statistics)
            for parameter, gradient in zip(self._parameters, gradients, strict=True):
                parameter.grad = gradient
            torch.manual_seed(shard.seed or 0)
            row[-1] = backward(shard)
            for buffer, view in zip(self._statistics, statistics, strict=True):
                torch.mul(buffer, shard.share, out=view)
        rows = self._group.gathered(self._rows)[: self._shards]
        self._total.copy_(rows[0])
        for row in rows[1:]:
            self._total += row
        gradients, statistics = self._views(self._total)
        _copy(statistics, self._statistics)
        for seen, earlier in zip(self._batches_seen, before[len(statistics) :], strict=True):
            seen.copy_(earlier + 1)
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = gradient
        return self._total[-1].clone()

    def _views(self, row: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Views of a row in the shapes and layouts of the parameters, and of the statistics."""
        views = list(_like((*self._parameters, *self._statistics), row))
        return views[: len(self._parameters)], views[len(self._parameters) :]


def _like(tensors: Sequence[torch.Tensor], row: torch.Tensor) -> Iterator[torch.Tensor]:
    offset = row.storage_offset()
    for tensor in tensors:
        yield row.as_strided(tensor.shape, tensor.stride(), offset)
        offset += tensor.numel()


@torch.no_grad()
def _copy(sources: Sequence[torch.Tensor], targets: Sequence[torch.Tensor]) -> None:
    for source, target in zip(sources, targets, strict=True):
        target.copy_(source)
