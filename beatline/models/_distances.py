"""Anomaly scores by the distance of a window's embedding to those of normal windows.

Distances are those of Mahalanobis, with the covariance of the normal windows, shrunk as Ledoit & Wolf
2004 do: to the nearest of the normal windows, or to their mean.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from beatline.models import WithMemoryBank

TINY = 1e-5  # variance of the normalized signal that counts as none
MOST_VALUES = 1 << 22  # of a memory bank, which has 32 MiB in the float64 of the ONNX graph


class Distances(nn.Module, WithMemoryBank):
    """A network that scores windows by the distance of their `embeddings`, near 1 for a normal window.

    `neighbours`: how many of the nearest normal windows the mean squared distance is taken over; 0 for
    the distance to the mean of all.
    """

    centre: torch.Tensor
    whitening: torch.Tensor
    memory: torch.Tensor

    @abstractmethod
    def embeddings(self, windows: torch.Tensor) -> torch.Tensor:
        """Return the embeddings `[B, D]` of windows `[B, T, C]`."""

    def prepare(self, size: int, neighbours: int) -> None:
        """Make room for embeddings of `size` D. Without a memory bank yet: the distance to the origin."""
        self.neighbours = neighbours
        self.register_buffer("centre", torch.zeros(size))
        self.register_buffer("whitening", torch.eye(size))
        self.register_buffer("memory", torch.zeros(1, size))

    def build_memory_bank(self, windows: Iterable[torch.Tensor]) -> None:
        """Keep the measure of distance that the spread of normal windows, `[B, T, C]` each, makes, and
        their embeddings: of more than MOST_VALUES values a random part, always the same."""
        embeddings = torch.cat([self.embeddings(batch) for batch in windows])
        self.centre.copy_(embeddings.mean(dim=0))
        self.whitening.copy_(_whitening(embeddings - self.centre))
        if not self.neighbours:
            return  # the only place to be near is the origin
        most = max(MOST_VALUES // embeddings.shape[1], 1)
        if len(embeddings) > most:
            order = torch.randperm(len(embeddings), generator=torch.Generator().manual_seed(0))
            embeddings = embeddings[order[:most].sort().values.to(embeddings.device)]
        self.memory = self._whitened(embeddings)

    def distances(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Return the scores `[B, 1]` of embeddings `[B, D]`: mean squared distances per dimension."""
        return self._distance(self._whitened(embeddings))

    def _whitened(self, embeddings: torch.Tensor) -> torch.Tensor:
        return (embeddings - self.centre) @ self.whitening

    def _distance(self, embeddings: torch.Tensor) -> torch.Tensor:
        nearest = min(max(self.neighbours, 1), len(self.memory))
        # In float32 the expanded square would round small distances between far embeddings away.
        queries, bank = embeddings.double(), self.memory.double()
        squares = (
            queries.square().sum(1, keepdim=True) + bank.square().sum(1) - 2 * queries @ bank.T
        )
        closest = squares.clamp_min(0).topk(nearest, largest=False).values
        return (closest.mean(dim=1, keepdim=True) / self.memory.shape[1]).float()

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Load a memory bank of any number of windows, and the rest as every module does."""
        if (memory := state_dict.get(f"{prefix}memory")) is not None and self.needs_memory_bank:
            self.memory = self.memory.new_empty(len(memory), self.memory.shape[1])
        super()._load_from_state_dict(
            state_dict,
            prefix,
            local_metadata,
            strict,
            missing_keys,
            unexpected_keys,
            error_msgs,
        )


def statistics(signals: torch.Tensor) -> torch.Tensor:
    """Return mean and standard deviation `[B, 2, ...]` over the time of `[B, T, ...]`, in float32."""
    variance, mean = torch.var_mean(signals.float(), dim=1, correction=0)
    return torch.stack([mean, (variance + TINY).sqrt()], dim=1)


def _whitening(deviations: torch.Tensor) -> torch.Tensor:
    """`[D, D]` that turns deviations from the mean, `[N, D]`, into ones of covariance 1.

    The covariance is that of Ledoit & Wolf 2004 (J. Multivar. Anal. 88(2):365), of columns scaled to
    equal spread: drawn to a multiple of the identity as far as N is too small for D.
    """
    samples = deviations.cpu().double()
    number, size = samples.shape
    spread = samples.square().mean(dim=0).sqrt()
    spread = torch.where(spread > 0, spread, torch.ones_like(spread))
    samples = samples / spread
    covariance = samples.T @ samples / number
    identity = torch.eye(size, dtype=samples.dtype) * covariance.trace() / size
    uncertainty = (samples.square().T @ samples.square() / number - covariance.square()).sum()
    distance = (covariance - identity).square().sum()
    share = float((uncertainty / number / distance).clamp(0, 1)) if distance > 0 else 1.0
    values, vectors = torch.linalg.eigh(share * identity + (1 - share) * covariance)
    root = vectors / values.clamp_min(TINY).sqrt() @ vectors.T
    return (root / spread[:, None]).to(deviations)
