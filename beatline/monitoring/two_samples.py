"""Whether two samples of records are from one distribution, by permutations of both together.

If they are, who belongs to which sample is chance, and any statistic of the samples as they are is as one
of samples that were drawn anew from the pooled records (Fisher 1935, "The Design of Experiments"). All
statistics are computed for the same permutations, so that the least of several p-values has a p-value of
its own, however they depend on each other (Westfall & Young 1993, "Resampling-Based Multiple Testing").

A *membership* is bool `[R, P]`: which of the P pooled records are in the window, in the first row as it
is, in the others as it might be. A *statistic* `[R]` has a value for each, larger where samples differ.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

AT_A_TIME = 1 << 21  # numbers
GRID = 1e-4  # deviations that do not count: other processors and runtimes round otherwise
POWER = 0.8
EFFICIENCY = 0.9  # of the test of Cramér and von Mises by that of means, of shifted normal columns
BINS = 10  # of PSI
SMALLEST_SHARE = 1e-4  # in a bin of PSI
FARTHEST = 10.0  # deviations: an axis that is far beyond is no farther


def memberships(reference: int, window: int, permutations: int, seed: int = 0) -> np.ndarray:
    """Return the membership `[1 + permutations, reference + window]`: reference records come first."""
    observed = np.arange(reference + window) >= reference
    rng = np.random.default_rng(seed)
    drawn = rng.permuted(np.broadcast_to(observed, (permutations, len(observed))), axis=1)
    return np.concatenate([observed[None], drawn])


def on_grid(columns: np.ndarray, deviations: np.ndarray) -> np.ndarray:
    """Return pooled columns `[P, C]` rounded, so that equal values stay equal however they were computed;
    `deviations` `[C]`: of each column."""
    return np.round(columns / (GRID * deviations))


def cramer_von_mises(columns: np.ndarray, membership: np.ndarray) -> np.ndarray:
    """Return Anderson's statistic of two samples (1962, Ann. Math. Stat. 33) for each of the pooled
    columns `[P, C]`: `[R, C]`. As :func:`scipy.stats.cramervonmises_2samp` has it but for a constant and
    a factor, where no values are equal; equal ones count as one step of the distributions."""
    pooled, size = len(columns), int(membership[0].sum())
    order = np.argsort(columns, axis=0, kind="stable")
    ordered = np.take_along_axis(columns, order, axis=0)
    steps = np.concatenate([ordered[1:] != ordered[:-1], np.ones_like(ordered[:1], bool)])
    expected = np.arange(1, pooled + 1, dtype=np.float32)[:, None] * np.float32(size / pooled)
    weights = _sizes(steps).astype(np.float32)
    at_once = max(AT_A_TIME // columns.size, 1)
    parts = []
    for begin in range(0, len(membership), at_once):
        inside = membership[begin : begin + at_once][:, order]
        excess = inside.cumsum(axis=1, dtype=np.float32) - expected
        parts.append(np.einsum("rpc,rpc,pc->rc", excess, excess, weights))
    return np.concatenate(parts) / (size * (pooled - size))


def _sizes(steps: np.ndarray) -> np.ndarray:
    """Return, where `steps` `[P, C]` is true, how far it is from the one before, in rows; 0 elsewhere."""
    rows = np.arange(1, len(steps) + 1)[:, None]
    ends = np.maximum.accumulate(np.where(steps, rows, 0), axis=0)
    before = np.concatenate([np.zeros_like(ends[:1]), ends[:-1]])
    return np.where(steps, rows - before, 0)


def mean_discrepancy(embeddings: np.ndarray, membership: np.ndarray) -> np.ndarray:
    """Return the maximum mean discrepancy of pooled embeddings `[P, D]` (Gretton et al. 2012, JMLR 13),
    by a Gaussian kernel that is as wide as the median distance; axes are in their deviations."""
    deviation = embeddings.std(axis=0)
    centred = embeddings - np.median(embeddings, axis=0)
    scaled = np.clip(centred / np.where(deviation > 0, deviation, 1), -FARTHEST, FARTHEST)
    squares = np.einsum("pd,pd->p", scaled, scaled, dtype=np.float64)
    distances = (
        scaled.astype(np.float64) @ scaled.T
    )  # squared, in the end; in place, as they are many
    distances *= -2
    distances += squares
    distances += squares[:, None]
    kernel = np.maximum(distances, 0, out=distances).astype(np.float32)
    del distances
    kernel /= -(np.median(kernel) or 1)
    np.exp(kernel, out=kernel)
    size = membership[0].sum()
    weights = np.where(membership, 1 / size, -1 / (membership.shape[1] - size)).astype(np.float32)
    return np.einsum("rp,rp->r", weights @ kernel, weights)


def class_shares(decisions: np.ndarray, membership: np.ndarray, exclusive: bool) -> np.ndarray:
    """Return Pearson's χ² of pooled 0/1 decisions `[P, K]`: over the classes where they are `exclusive`,
    and otherwise the largest of single labels."""
    shares = decisions.mean(axis=0)
    size, pooled = membership[0].sum(), membership.shape[1]
    excess = membership @ decisions.astype(np.float32) - size * shares
    variance = shares * (1 if exclusive else 1 - shares) * size * (1 - size / pooled)
    squares = np.divide(excess**2, variance, out=np.zeros_like(excess), where=variance > 0)
    # Sums of the same counts are the same number, whatever their order.
    return np.round(squares.sum(axis=1) if exclusive else squares.max(axis=1), 6)


def largest(statistics: np.ndarray) -> np.ndarray:
    """Return the largest of several statistics `[R, C]`, each in its deviations over permutations."""
    deviation = statistics.std(axis=0)
    scaled = (statistics - statistics.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    return scaled.max(axis=1)


def p_values(statistic: np.ndarray) -> np.ndarray:
    """Return what share of all has a statistic `[R]` as large: the p-value of each."""
    return stats.rankdata(-statistic, method="max") / len(statistic)


def least(p: np.ndarray) -> float:
    """Return the p-value of the least of several p-values `[F, R]`, as they are in the first column.

    Where the least is the same, their mean tells: permutations are few, and equal ranks are frequent.
    """
    return float(p_values(-(p.min(axis=0) + p.mean(axis=0) / p.size))[0])


def holm(p: np.ndarray) -> np.ndarray:
    """Return p-values `[C]` corrected for their number (Holm 1979, Scand. J. Stat. 6)."""
    order = np.argsort(p)
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(steps, 1)
    return corrected


# ---------------------------------------------------------------- single columns and shares


def column_p_value(before: np.ndarray, after: np.ndarray) -> float:
    """Return the p-value of the test of Cramér and von Mises.

    Equal values stand in an order by chance: with SciPy's mean ranks, columns of few values would be told
    to drift where nothing does.
    """
    pooled = np.concatenate([before, after])
    ranks = np.empty(len(pooled))
    ranks[np.lexsort((np.random.default_rng(0).random(len(pooled)), pooled))] = np.arange(
        len(pooled)
    )
    halves = np.split(ranks, [len(before)])
    return float(stats.cramervonmises_2samp(*halves, method="asymptotic").pvalue)


def share_p_value(counts: tuple[int, int], sizes: tuple[int, int]) -> float:
    """Return the p-value of two shares: χ², or Fisher's where fewer than five are expected in a cell."""
    table = np.array([counts, np.subtract(sizes, counts)])
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    exact = expected.min() < 5
    test: Any = stats.fisher_exact(table) if exact else stats.chi2_contingency(table, False)
    return float(test.pvalue)


def smallest_shift(reference: int, window: int, level: float) -> float:
    """Return the shift of a normal column, in its deviations, that the test of Cramér and von Mises finds
    at this `level` with a probability of 80 %."""
    quantiles = stats.norm.isf(level / 2) + stats.norm.ppf(POWER)
    return float(quantiles * np.sqrt((1 / reference + 1 / max(window, 1)) / EFFICIENCY))


def smallest_change(share: float, reference: int, window: int, level: float) -> float:
    """Return by how much a share must change, towards one half, to be found at this `level` with a
    probability of 80 % (Cohen 1988, "Statistical Power Analysis", chapter 6)."""
    quantiles = stats.norm.isf(level / 2) + stats.norm.ppf(POWER)
    effect = quantiles * np.sqrt(1 / reference + 1 / max(window, 1))
    angle = np.arcsin(np.sqrt(min(share, 1 - share))) + effect / 2
    return float(np.sin(min(angle, np.pi / 2)) ** 2 - min(share, 1 - share))


def population_stability(before: np.ndarray, after: np.ndarray) -> float:
    """Return the population stability index, by tenths of `before`."""
    inner = np.unique(np.quantile(before, np.linspace(0, 1, BINS + 1)[1:-1]))
    edges = [-np.inf, *inner, np.inf]
    first, second = (
        np.maximum(np.histogram(part, edges)[0] / len(part), SMALLEST_SHARE)
        for part in (before, after)
    )
    return float(np.sum((second - first) * np.log(second / first)))
