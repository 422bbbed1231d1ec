"""The distance of a recording from those that a model has learned from.

A recording becomes a few dozen features of its normalized samples, whatever the model makes of them:

- of a signal over time the log power of each channel in bands of frequency, and how the channels are
  correlated;
- of an image the log power in bands of frequency and direction, and its mean;
- of a spectrogram the mean of each of its bands;
- of a row of a table its values.

The distance is that of Mahalanobis to the training recordings' features, as Lee et al. 2018 ("A simple
unified framework for detecting out-of-distribution samples and adversarial attacks", NeurIPS) take it in
features of a network. :mod:`beatline.training.familiarity` fits it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import numpy as safetensors

from beatline.prediction import tensor_files

SHARE = 0.995  # of validation recordings, whose distance is below the threshold
BANDS, LOWEST, HIGHEST = (
    8,
    0.01,
    0.5,
)  # of frequency, in cycles per sample; the first is below LOWEST
RINGS, DIRECTIONS = 6, 12  # of an image's frequencies
GROUPS = 8  # of a spectrogram's bands, for people
MOST_FEATURES = 2048  # whose covariance takes 16 MiB
LARGEST = 4 * MOST_FEATURES * (MOST_FEATURES + 2)  # bytes of a file, with its header
# Power that counts as none, of recordings whose power is 1 in the mean; of images it spreads over cells.
FLOOR, IMAGE_FLOOR = 1e-3, 1e-4


@dataclass(frozen=True)
class Familiarity:
    """`mean` `[D]` and `whitening` `[D, D]` of the training recordings' features, float32; `threshold`:
    the distance beyond which a recording is far, infinite if too few were there to tell."""

    mean: np.ndarray
    whitening: np.ndarray
    threshold: float

    def distance(self, signal: np.ndarray, dataset: Mapping[str, Any]) -> float:
        """Return the distance of a normalized recording `[T, C]`, in deviations of training recordings;
        `dataset`: the entry of that name in model.json."""
        return float(self.distances(features(signal, dataset)))

    def distances(self, embeddings: np.ndarray) -> np.ndarray:
        """Return the distances of recordings whose features are `[D]`, or `[N, D]`."""
        return np.linalg.norm((embeddings - self.mean) @ self.whitening, axis=-1)

    def to_bytes(self) -> bytes:
        threshold = np.array([self.threshold], np.float32)
        tensors = {"mean": self.mean, "whitening": self.whitening, "threshold": threshold}
        return safetensors.save(tensors)


def load(path: Path, sha256: str, dataset: Mapping[str, Any]) -> Familiarity:
    """Return what :meth:`Familiarity.to_bytes` wrote for a data set. Raises UserError if the file is
    missing, has another `sha256` than its bundle's model.json says, or does not fit the data set."""
    return tensor_files.load(path, sha256, LARGEST, partial(_of_tensors, dataset))


def _of_tensors(dataset: Mapping[str, Any], tensors: dict[str, np.ndarray]) -> Familiarity:
    """Raise ValueError unless the tensors are those of the data set's features."""
    channels = len(dataset["channels"])
    if channels > MOST_FEATURES:
        raise ValueError("channels")
    size = len(features(np.zeros((dataset["length"], channels), np.float32), dataset))
    shapes = {"mean": (size,), "whitening": (size, size), "threshold": (1,)}
    tensor_files.check(tensors, {name: (np.float32, shape) for name, shape in shapes.items()})
    mean, whitening, threshold = (tensors[name] for name in shapes)
    if not (np.isfinite(mean).all() and np.isfinite(whitening).all() and threshold[0] >= 0):
        raise ValueError("values")
    return Familiarity(mean, whitening, float(threshold[0]))


def features(signal: np.ndarray, dataset: Mapping[str, Any]) -> np.ndarray:
    """Return features `[D]` of a normalized recording `[T, C]`, float64. D does not depend on T."""
    if dataset["drawing"] == "spectrogram" or dataset["length"] == 1:
        return signal.mean(axis=0, dtype=np.float64)
    if dataset["drawing"] == "image":
        return _of_image(signal.astype(np.float64))
    return _of_series(signal, dataset["length"])


def columns(embeddings: np.ndarray, dataset: Mapping[str, Any]) -> tuple[list[str], np.ndarray]:
    """Return names and values `[N, C]` of what people read of :func:`features` `[N, D]`.

    Of a row of a table its features, of a spectrogram groups of neighbouring bands, of an image the power
    in rings of frequency, of a signal the power of each channel, and in each band the mean over channels.
    """
    names = dataset["channels"]
    if dataset["length"] == 1:
        return list(names), embeddings
    if dataset["drawing"] == "spectrogram":
        groups = np.array_split(np.arange(len(names)), min(GROUPS, len(names)))
        labels = [" to ".join(dict.fromkeys((names[each[0]], names[each[-1]]))) for each in groups]
        return labels, np.stack([embeddings[:, each].mean(axis=1) for each in groups], axis=1)
    if dataset["drawing"] == "image":
        rings = embeddings[:, :-1].reshape(-1, RINGS, DIRECTIONS).mean(axis=2)
        labels = [f"ring {number} of frequencies" for number in range(1, RINGS + 1)]
        return [*labels, "mean"], np.column_stack([rings, embeddings[:, -1]])
    return _columns_of_series(embeddings, dataset)


def _columns_of_series(
    embeddings: np.ndarray, dataset: Mapping[str, Any]
) -> tuple[list[str], np.ndarray]:
    names, rate = dataset["channels"], dataset["sampling_rate"] or 1
    powers = embeddings[:, : (BANDS + 1) * len(names)].reshape(-1, BANDS + 1, len(names))
    edges = [0, *np.geomspace(LOWEST, HIGHEST, BANDS) * rate]
    unit = " Hz" if dataset["sampling_rate"] else " cycles per sample"
    labels = [f"{low:.3g} to {high:.3g}{unit}" for low, high in pairwise(edges)]
    values = [powers[:, -1], powers[:, :-1].mean(axis=2)]
    if len(names) > 1:
        pairs = embeddings[:, (BANDS + 1) * len(names) :]
        labels, values = [*labels, "correlation of channels"], [*values, pairs.mean(axis=1)]
    return [*(f"power of {name}" for name in names), *labels], np.column_stack(values)


def _of_series(signal: np.ndarray, length: int) -> np.ndarray:
    """The log power of each channel in bands and over all, and the correlations of channels.

    In blocks of the training recordings' `length`, whose powers are averaged (Bartlett 1948, Nature
    161): longer recordings have the same features. Shorter ones are padded.
    """
    size = min(len(signal), length)
    edges = np.geomspace(LOWEST, HIGHEST, BANDS)[:-1]
    band = np.searchsorted(edges, np.fft.rfftfreq(length), side="right")
    in_band = (band == np.arange(BANDS)[:, None]).astype(np.float64)
    power, covariance, blocks = np.zeros((BANDS, signal.shape[1])), 0.0, len(signal) // size
    for number in range(blocks):
        block = signal[number * size : (number + 1) * size].astype(np.float64)
        mean = block.mean(axis=0)
        block = block - mean
        spectrum = np.abs(np.fft.rfft(block, length, axis=0)) ** 2
        power += in_band @ spectrum * (2 / (length * size * blocks))
        power[0] += mean**2 / blocks
        covariance = covariance + block.T @ block / (size * blocks)
    deviation = np.sqrt(np.diag(covariance))
    correlation = covariance / (np.outer(deviation, deviation) + 10 * FLOOR)
    pairs = np.triu_indices(len(deviation), 1)
    powers = np.log(np.vstack([power, power.sum(axis=0)]) + FLOOR)
    return np.concatenate([powers.ravel(), correlation[pairs]])


def _of_image(image: np.ndarray) -> np.ndarray:
    """The log power in rings of frequency by direction, and the mean."""
    rows, columns = np.meshgrid(*map(np.fft.fftfreq, image.shape), indexing="ij")
    edges = np.geomspace(0.9 / max(image.shape), HIGHEST, RINGS + 1)[:-1]
    ring = np.searchsorted(edges, np.hypot(rows, columns), side="right") - 1  # -1: the mean alone
    turn = np.arctan2(rows, columns) / np.pi % 1
    cell = ring * DIRECTIONS + np.round(turn * DIRECTIONS).astype(int) % DIRECTIONS
    power = np.abs(np.fft.fft2(image)) ** 2 / image.size**2
    inside = ring >= 0
    powers = np.bincount(cell[inside], power[inside], RINGS * DIRECTIONS)
    return np.append(np.log(powers + IMAGE_FLOOR), image.mean())
