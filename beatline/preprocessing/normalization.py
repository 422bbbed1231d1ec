"""Mean and standard deviation of the training recordings, and what is done with them.

Computed in one pass over batches (Chan, Golub & LeVeque 1979: counts, means and sums of squares of
batches combined), so memory does not grow with the number of records.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from beatline.common.errors import UserError
from beatline.common.params import Parameters
from beatline.preprocessing.arrays import Signals, Store

TYPICAL = (0.1, 99.9)  # percentiles: the rest may be artefacts
# A channel counts as constant if its values differ by no more than rounding, this share of the largest.
ROUNDING = 16 * np.finfo(np.float64).eps
NOTICEABLE = 1e-6  # of a deviation, by which a mean may be off
MOST_SAMPLES = 2**24  # that are kept in memory for medians, 128 MiB
_SIGN = np.uint64(1 << 63)  # of a float64
_DIGIT = 11  # bits of a sample that are found at a time


class Normalize(Parameters):
    """`datasets.<data set>.normalize`.

    `recordings`: what is normalized, the raw pack (`data/raw/<data set>.zip`) or what
    extract_features made of it (`data/features/<data set>`). `per`: one mean and deviation per channel
    (lead), or one for all. `invalid`: what stands in for invalid samples and missing values, the
    channel's mean or median over the training recordings. `store`: the type of what is written; 16 bits
    take half the space, float16 with 11 significant bits, int16 in steps per channel.
    """

    recordings: str
    per: Literal["channel", "all"]
    invalid: Literal["mean", "median"]
    store: Store = "float32"


@dataclass(frozen=True)
class Normalization:
    """``(sample - mean) / standard_deviation`` per channel; invalid samples are `fill` before that.

    `mean`, `standard_deviation`, `fill`: one number per channel, in the recordings' unit. A channel
    that is constant in train has deviation 1, so that it becomes 0 everywhere in train. `largest`: the
    largest absolute normalized samples of train, which only :func:`fit` knows.
    """

    mean: list[float]
    standard_deviation: list[float]
    fill: list[float]
    constant_channels: list[int]
    largest: list[float] = field(default_factory=list, compare=False)

    def apply(self, recordings: np.ndarray) -> np.ndarray:
        """Normalized float32 copies of recordings `[..., T, C]`.

        Computed in float64: in float32 a large offset would leave few digits of the difference.
        """
        valid = np.where(np.isfinite(recordings), recordings, np.asarray(self.fill))
        normalized = (valid - np.asarray(self.mean)) / np.asarray(self.standard_deviation)
        return normalized.astype(np.float32)

    def undo(self, signals: np.ndarray) -> np.ndarray:
        """Recordings in their own unit from normalized signals `[..., T, C]`."""
        return signals * np.asarray(self.standard_deviation) + np.asarray(self.mean)

    def as_dict(self) -> dict[str, Any]:
        """All but `largest`."""
        content = asdict(self)
        del content["largest"]
        return content


def fit(
    batches: Iterable[np.ndarray], parameters: Normalize, channels: Sequence[str] = ()
) -> Normalization:
    """The normalization of recordings that come as batches `[B, T, C]`; NaN and inf are left out.

    Means are computed batch by batch. Medians need all samples: beyond MOST_SAMPLES the batches are
    iterated over again, which must give the same ones. `channels`: their names, for the UserError that
    there is if one of them has no valid sample, or values whose squares float64 cannot hold.
    """
    count, mean, squares = np.zeros(1), np.zeros(1), np.zeros(1)  # squares: of deviations
    low, high = np.full(1, np.inf), np.full(1, -np.inf)
    kept, seen = [], 0
    for batch in batches:
        samples = batch.reshape(-1, batch.shape[-1]).astype(np.float64)
        valid = np.isfinite(samples)
        if parameters.invalid == "median":
            kept.append(np.where(valid, samples, np.nan))
            seen += samples.size
            if seen > MOST_SAMPLES:
                kept.clear()
        # Exact, as a deviation is not: that of a constant channel may be the rounding of its mean.
        low = np.minimum(low, samples.min(axis=0, initial=np.inf, where=valid))
        high = np.maximum(high, samples.max(axis=0, initial=-np.inf, where=valid))
        samples = np.where(valid, samples, 0.0)
        batch_count = valid.sum(axis=0)
        batch_mean = samples.sum(axis=0) / np.maximum(batch_count, 1)
        deviations = np.where(valid, samples - batch_mean, 0.0)
        batch_squares = (deviations**2).sum(axis=0)
        rounding = deviations.sum(axis=0) / np.maximum(batch_count, 1)
        # The mean of a channel that hardly changes may be off by a deviation or more.
        off = rounding**2 * batch_count > NOTICEABLE**2 * batch_squares
        batch_mean = np.where(off, batch_mean + rounding, batch_mean)
        batch_squares = np.where(off, batch_squares - rounding**2 * batch_count, batch_squares)
        count, mean, squares = _combined(
            (count, mean, squares), (batch_count, batch_mean, batch_squares)
        )
    if parameters.per == "all":
        count, mean, squares = _over_channels(count, mean, squares)
        low, high = np.full_like(low, low.min()), np.full_like(high, high.max())
    if not (count > 0).all():
        raise UserError(
            f"channel {_first(count == 0, channels)} has no valid sample in the training recordings: "
            f"repair the source, leave the channel out, or set normalize.per to all"
        )
    mean = np.where(low == high, low, mean)  # which is exact
    variance = np.maximum(squares, 0) / count
    constant = high - low <= ROUNDING * np.maximum(np.abs(low), np.abs(high))
    beyond = ~constant & ~((variance >= np.finfo(np.float64).tiny) & np.isfinite(variance))
    if beyond.any():
        raise UserError(
            f"channel {_first(beyond, channels)} has values of the order of "
            f"{np.maximum(np.abs(low), np.abs(high))[beyond][0]:.0e}, too far from 1 to compute their "
            f"deviation: give it in another unit in the source"
        )
    fill = mean
    if parameters.invalid == "median":
        many = seen > MOST_SAMPLES
        fill = _of_many(batches, count, parameters.per) if many else _medians(kept, parameters.per)
    deviation = np.where(constant, 1.0, np.sqrt(variance))
    return Normalization(
        mean=mean.tolist(),
        standard_deviation=deviation.tolist(),
        fill=fill.tolist(),
        constant_channels=np.flatnonzero(constant).tolist(),
        largest=(np.maximum(high - mean, mean - low) / deviation).tolist(),
    )


def _first(wrong: np.ndarray, channels: Sequence[str]) -> str:
    """Return the name of the first of the channels that are `wrong` `[C]`."""
    number = int(np.flatnonzero(wrong)[0])
    return channels[number] if channels else f"number {number + 1}"


def _medians(samples: list[np.ndarray], per: Literal["channel", "all"]) -> np.ndarray:
    """Return the medians of samples `[S, C]` per channel, or the same one for all channels."""
    whole = np.concatenate(samples)
    if per == "all":
        return np.full(whole.shape[1], np.nanmedian(whole))
    return np.nanmedian(whole, axis=0)


def _of_many(
    batches: Iterable[np.ndarray], count: np.ndarray, per: Literal["channel", "all"]
) -> np.ndarray:
    """Return what :func:`_medians` does, of `count` `[C]` valid samples, by a radix selection: each time
    that the batches are read, some more bits of the lower and the upper median are found by counting."""
    ranks = np.stack([(count - 1) // 2, count // 2]).astype(np.int64)
    if per == "all":
        ranks = ranks[:, :1].copy()
    found = np.zeros(ranks.shape, np.uint64)
    for shift in range(64 - 64 % _DIGIT, -1, -_DIGIT):
        counts = np.zeros((*ranks.shape, 2**_DIGIT), np.int64)
        for batch in batches:
            columns = _ordered_as_floats(batch.reshape(-1, ranks.shape[1]))
            for middle, channel in np.ndindex(ranks.shape):
                above, digits = columns[channel] >> (shift + _DIGIT), columns[channel] >> shift
                digits = digits[above == found[middle, channel]] & (2**_DIGIT - 1)
                counts[middle, channel] += np.bincount(digits.astype(int), minlength=2**_DIGIT)
        up_to = counts.cumsum(axis=-1)
        if (up_to[..., -1] <= ranks).any():
            raise ValueError(
                "batches cannot be iterated over again, as medians of many samples need"
            )
        digit = (up_to <= ranks[..., None]).sum(axis=-1, keepdims=True)
        ranks -= np.take_along_axis(up_to - counts, digit, axis=-1)[..., 0]
        found = (found << _DIGIT) | digit[..., 0].astype(np.uint64)
    return np.broadcast_to(_floats(found).mean(axis=0), count.shape)


def _ordered_as_floats(samples: np.ndarray) -> list[np.ndarray]:
    """Return whole numbers that are in the order of the valid samples `[S, C]`, of each channel."""
    columns = [column[np.isfinite(column)].astype(np.float64) + 0.0 for column in samples.T]
    bits = [column.view(np.uint64) for column in columns]  # with -0.0 as 0.0
    return [np.where(each & _SIGN, ~each, each | _SIGN) for each in bits]


def _floats(ordered: np.ndarray) -> np.ndarray:
    """Return the samples to which :func:`_ordered_as_floats` gave those numbers."""
    return np.where(ordered & _SIGN, ordered ^ _SIGN, ~ordered).view(np.float64)


def typical(signals: Signals) -> dict[str, list[float]]:
    """Within what bounds normalized training recordings `[N, T, C]` lie, so that one that is far from
    them can be told: `rms`, of a recording, from the 0.1st to the 99.9th percentile."""
    rms = [float(np.sqrt(np.mean(np.square(signal, dtype=np.float64)))) for signal in signals]
    return {"rms": np.percentile(rms, TYPICAL).tolist()}


Moments = tuple[np.ndarray, np.ndarray, np.ndarray]


def _combined(a: Moments, b: Moments) -> Moments:
    """Count, mean and sum of squared deviations of two samples taken together."""
    count = a[0] + b[0]
    safe = np.maximum(count, 1)
    delta = b[1] - a[1]
    mean = a[1] + delta * b[0] / safe
    return count, mean, a[2] + b[2] + delta**2 * a[0] * b[0] / safe


def _over_channels(count: np.ndarray, mean: np.ndarray, squares: np.ndarray) -> Moments:
    total = max(count.sum(), 1)
    grand = float((count * mean).sum() / total)
    spread = float(squares.sum() + (count * (mean - grand) ** 2).sum())
    full = np.ones_like(mean)
    return full * count.sum(), full * grand, full * spread
