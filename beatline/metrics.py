"""How good predictions are: metrics, decision thresholds, and the points of curves.

Shapes, everywhere: N records, K classes, R weightings of the records.

- `labels` [N, K], 0 or 1 (bool, integer or float);
- `scores` [N, K], larger meaning "more likely positive"; `probabilities` are scores in [0, 1];
- `decisions` [N, K], 0 or 1: positive where the score is **at or above** the threshold;
- `weights` [R, N], how often each record counts. A metric without weights counts every record once
  and gives [K]; with weights it gives [R, K], one row per weighting. A bootstrap resample is such a
  weighting (see :mod:`beatline.evaluation.bootstrap`), so point values and intervals come from the
  same code.

Records with equal scores are never ordered among each other: every curve takes them in one step.
All functions raise ValueError for shapes that do not match, labels other than 0 and 1, scores that
are not finite, and no records at all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]


def _checked(labels: ArrayLike, scores: ArrayLike) -> tuple[Flags, Array]:
    labels, scores = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    if labels.ndim != 2 or labels.shape != scores.shape:
        raise ValueError(f"labels {labels.shape} and scores {scores.shape} must both be [N, K]")
    if len(labels) == 0:
        raise ValueError("there are no records")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("labels must be 0 or 1")
    if not np.isfinite(scores).all():
        raise ValueError("scores must be finite, but hold NaN or infinity")
    return labels.astype(bool), scores


def _checked_probabilities(labels: ArrayLike, probabilities: ArrayLike) -> tuple[Flags, Array]:
    flags, values = _checked(labels, probabilities)
    # A softmax in float32 may end a rounding error above 1.
    if values.min() < -1e-6 or values.max() > 1 + 1e-6:
        raise ValueError("probabilities must be between 0 and 1")
    return flags, values


def _checked_decisions(labels: ArrayLike, decisions: ArrayLike) -> tuple[Flags, Flags]:
    flags, decided = _checked(labels, decisions)
    if not np.isin(decided, (0, 1)).all():
        raise ValueError("decisions must be 0 or 1")
    return flags, decided.astype(bool)


def _checked_weights(weights: ArrayLike | None, records: int) -> NDArray[Any]:
    if weights is None:
        return np.ones((1, records))
    weights = np.asarray(weights)
    if weights.ndim != 2 or weights.shape[1] != records:
        raise ValueError(f"weights {weights.shape} must be [R, {records}]")
    return weights


# ---------------------------------------------------------------- metrics of a ranking


def roc_auc(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> Array:
    """Area under the ROC curve, by the trapezoidal rule, so that a tie counts one half.

    Equal to `sklearn.metrics.roc_auc_score`. [K], or [R, K] with weights; NaN for a class that has
    only positives or only negatives.
    """
    return _of_ranking(_area_under_roc, labels, scores, weights)


def partial_auc(
    labels: ArrayLike, scores: ArrayLike, max_fpr: float = 0.1, weights: ArrayLike | None = None
) -> Array:
    """Area under the ROC curve up to the false positive rate `max_fpr`, standardised.

    The standardisation of McClish (Medical Decision Making 9, 1989) maps chance to 0.5 and a
    perfect ranking to 1; equal to `sklearn.metrics.roc_auc_score(max_fpr=...)`. [K], or [R, K] with
    weights; NaN for a class that has only positives or only negatives. Raises ValueError if
    `max_fpr` is not in (0, 1].
    """
    if not 0 < max_fpr <= 1:
        raise ValueError(f"max_fpr must be above 0 and at most 1, not {max_fpr}")
    return _of_ranking(lambda tp, fp: _partial_area(tp, fp, max_fpr), labels, scores, weights)


def average_precision(
    labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None
) -> Array:
    """Sum over thresholds of precision times the step in recall, without interpolation.

    Equal to `sklearn.metrics.average_precision_score`. [K], or [R, K] with weights; NaN for a class
    that has only positives or only negatives (scikit-learn: 1 and 0), which nothing can rank.
    """
    return _of_ranking(_average_precision, labels, scores, weights)


def _of_ranking(
    metric: Callable[[Array, Array], Array],
    labels: ArrayLike,
    scores: ArrayLike,
    weights: ArrayLike | None,
) -> Array:
    """`metric` of the cumulative counts of each class; NaN where a class has one value only."""
    flags, ranked_by = _checked(labels, scores)
    counts = _checked_weights(weights, len(flags))
    values = np.empty((len(counts), flags.shape[1]))
    for k in range(flags.shape[1]):
        tp, fp = _cumulative_counts(flags[:, k], ranked_by[:, k], counts)
        with np.errstate(invalid="ignore", divide="ignore"):
            value = metric(tp, fp)
        values[:, k] = np.where((tp[:, -1] > 0) & (fp[:, -1] > 0), value, np.nan)
    return values[0] if weights is None else values


def _cumulative_counts(
    positive: Flags, scores: Array, weights: NDArray[Any]
) -> tuple[Array, Array]:
    """True and false positives [R, D] when cutting at each of the D distinct scores, high first."""
    order = np.argsort(-scores, kind="stable")
    descending = scores[order]
    last_of_tie = np.flatnonzero(np.append(descending[1:] != descending[:-1], True))
    ordered, is_positive = np.take(weights, order, axis=1), positive[order]
    tp = np.cumsum(ordered * is_positive, axis=1, dtype=np.float64)
    fp = np.cumsum(ordered * ~is_positive, axis=1, dtype=np.float64)
    if len(last_of_tie) == len(order):
        return tp, fp
    return tp[:, last_of_tie], fp[:, last_of_tie]


def _steps(cumulative: Array) -> Array:
    steps = cumulative.copy()
    steps[:, 1:] -= cumulative[:, :-1]
    return steps


def _area_under_roc(tp: Array, fp: Array) -> Array:
    # Two cumulative counts bound each trapezoid: tp and tp minus its own step.
    twice_area = np.einsum("rd,rd->r", _steps(fp), 2 * tp - _steps(tp))
    return twice_area / (2 * tp[:, -1] * fp[:, -1])


def _partial_area(tp: Array, fp: Array, max_fpr: float) -> Array:
    x, y = fp / fp[:, -1:], tp / tp[:, -1:]
    width, rise = _steps(x), _steps(y)
    # The part of each step that lies left of max_fpr; the step that crosses it is cut.
    inside = np.clip(max_fpr - (x - width), 0, width)
    share = np.divide(inside, width, out=np.zeros_like(width), where=width > 0)
    area = np.sum(inside * (y - rise + rise * share / 2), axis=1)
    by_chance = max_fpr**2 / 2
    return (1 + (area - by_chance) / (max_fpr - by_chance)) / 2


def _average_precision(tp: Array, fp: Array) -> Array:
    precision = _ratio(tp, tp + fp)
    return np.sum(_steps(tp) * precision, axis=1) / tp[:, -1]


# ---------------------------------------------------------------- metrics of probabilities


def brier(labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None) -> Array:
    """Mean squared error of the probability of each class (Brier 1950, one class against the rest).

    Equal to `sklearn.metrics.brier_score_loss` of each column. [K], or [R, K] with weights. Raises
    ValueError for probabilities outside [0, 1].
    """
    flags, p = _checked_probabilities(labels, probabilities)
    return _weighted_mean((p - flags) ** 2, weights)


def calibration_bins(probabilities: Array, bins: int = 15) -> NDArray[np.intp]:
    """The bin of each probability, from 0: `bins` equally wide ones, (m / bins, (m + 1) / bins], and 0 in
    the first (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017)."""
    inner_edges = np.linspace(0, 1, bins + 1)[1:-1]
    return np.searchsorted(inner_edges, probabilities, side="left")


def _weighted_mean(values: Array, weights: ArrayLike | None) -> Array:
    """Mean over records of `values` [N, K]: [K], or [R, K] with weights."""
    if weights is None:
        return values.mean(axis=0)
    counts = _checked_weights(weights, len(values)).astype(np.float64)
    return counts @ values / counts.sum(axis=1, keepdims=True)


# ---------------------------------------------------------------- metrics of decisions


class Confusion(NamedTuple):
    """Counts of each class against the rest, each [K], or [R, K] with weights."""

    tp: Array
    fp: Array
    fn: Array
    tn: Array


def confusion(
    labels: ArrayLike, decisions: ArrayLike, weights: ArrayLike | None = None
) -> Confusion:
    """True and false positives and negatives of each class, as (weighted) counts of records."""
    flags, decided = _checked_decisions(labels, decisions)
    counts = _checked_weights(weights, len(flags)).astype(np.float64)
    tp = counts @ (flags & decided)
    fp = counts @ decided - tp
    fn = counts @ flags - tp
    table = Confusion(tp, fp, fn, counts.sum(axis=1, keepdims=True) - tp - fp - fn)
    return Confusion(*(count[0] for count in table)) if weights is None else table


def precision(table: Confusion) -> Array:
    """tp / (tp + fp), NaN where nothing was decided positive: 0 of 0 (scikit-learn's
    `zero_division=nan`). Shaped like the counts."""
    decided = table.tp + table.fp
    return np.where(decided > 0, _ratio(table.tp, decided), np.nan)


def recall(table: Confusion) -> Array:
    """tp / (tp + fn), 0 where nothing is positive. Shaped like the counts."""
    return _ratio(table.tp, table.tp + table.fn)


def f1(table: Confusion) -> Array:
    """2 tp / (2 tp + fp + fn), the harmonic mean of precision and recall, 0 where undefined."""
    return _ratio(2 * table.tp, 2 * table.tp + table.fp + table.fn)


def accuracy(table: Confusion) -> Array:
    """(tp + tn) / all: of each class against the rest. Shaped like the counts."""
    return _ratio(table.tp + table.tn, table.tp + table.fp + table.fn + table.tn)


def multiclass_accuracy(
    labels: ArrayLike, decisions: ArrayLike, weights: ArrayLike | None = None
) -> Array:
    """Fraction of records whose one decided class is right: a scalar array, or [R] with weights.

    `labels` and `decisions` [N, K] hold exactly one 1 per record (ValueError otherwise).
    """
    flags, decided = _checked_decisions(labels, decisions)
    if not ((flags.sum(axis=1) == 1).all() and (decided.sum(axis=1) == 1).all()):
        raise ValueError("exclusive classes need exactly one label and one decision per record")
    right = np.asarray((flags & decided).any(axis=1), dtype=np.float64)
    return _weighted_mean(right[:, None], weights)[..., 0]


def _ratio(numerator: Array, denominator: Array) -> Array:
    out = np.zeros(np.shape(denominator))
    return np.divide(numerator, denominator, out=out, where=denominator != 0)


# ---------------------------------------------------------------- thresholds


def choose_thresholds(labels: ArrayLike, probabilities: ArrayLike) -> Array:
    """The threshold of each class [K] with the largest F1; meant for validation records.

    F1 is constant between two neighbouring scores, so the threshold is put midway between them,
    where new records and rounding disturb it least. Of several gaps with the same F1 the widest
    wins, and of equally wide ones the highest. A class with only positives or only negatives tells
    nothing about its threshold: 0.5.
    """
    flags, p = _checked_probabilities(labels, probabilities)
    chosen = [_best_threshold(flags[:, k], p[:, k]) for k in range(p.shape[1])]
    # Below the lowest probability there may be no room for a positive threshold.
    return np.maximum(chosen, 0.0)


def _best_threshold(positive: Flags, scores: Array) -> float:
    if positive.all() or not positive.any():
        return 0.5
    tp, fp, _ = _curve(positive, scores)
    values = f1(Confusion(tp, fp, tp[-1] - tp, fp[-1] - fp))
    upper, lower = _gaps(scores)
    best = np.flatnonzero(values == values.max())
    gap = best[np.argmax((upper - lower)[best])]
    middle = (upper[gap] + lower[gap]) / 2
    # Between two neighbouring floating-point numbers there is no middle.
    return float(middle if middle > lower[gap] else upper[gap])


def _gaps(scores: Array) -> tuple[Array, Array]:
    """Upper and lower ends of the gaps between distinct scores, high first.

    Beyond the outermost scores lies one more gap each, as wide as its neighbour (1 if it has none).
    """
    distinct = np.unique(scores)[::-1]
    widths = distinct[:-1] - distinct[1:] if len(distinct) > 1 else np.ones(1)
    ends = np.concatenate([[distinct[0] + widths[0]], distinct, [distinct[-1] - widths[-1]]])
    return ends[:-1], ends[1:]


def percentile_threshold(scores_of_normals: ArrayLike, percentile: float = 95) -> float:
    """The anomaly score that `percentile` per cent of the normal records [N] do not exceed.

    About (100 - percentile) per cent of new normal records will be false alarms. Interpolates
    linearly between scores. Raises ValueError for no records or a percentile outside [0, 100].
    """
    scores = np.asarray(scores_of_normals, dtype=np.float64)
    if scores.size == 0 or not np.isfinite(scores).all():
        raise ValueError("a percentile threshold needs finite scores of at least one record")
    return float(np.percentile(scores, percentile))


# ---------------------------------------------------------------- points of curves, for plots


class RocPoints(NamedTuple):
    """Points of a ROC curve from (0, 0) to (1, 1); `threshold` is +infinity at the first."""

    fpr: Array
    tpr: Array
    threshold: Array


class PrecisionRecallPoints(NamedTuple):
    """Points by rising recall, from (0, 1), which has threshold +infinity, to (1, prevalence)."""

    recall: Array
    precision: Array
    threshold: Array


class CalibrationPoints(NamedTuple):
    """One point per bin that holds records."""

    mean_probability: Array
    frequency: Array
    records: NDArray[np.intp]


def roc_curve_points(labels: ArrayLike, scores: ArrayLike, max_points: int = 200) -> RocPoints:
    """At most `max_points` points [P] of the ROC curve of one class, labels [N] and scores [N].

    Points on a straight line between others are dropped first, which changes nothing; then points
    are kept at even distances along the curve. Both ends stay. Empty for a class that has only
    positives or only negatives.
    """
    tp, fp, threshold = _curve(labels, scores)
    if tp[-1] == 0 or fp[-1] == 0:
        return RocPoints(np.empty(0), np.empty(0), np.empty(0))
    # Counts are whole numbers, so "on a straight line" is exact.
    turns = np.diff(tp)[1:] * np.diff(fp)[:-1] != np.diff(tp)[:-1] * np.diff(fp)[1:]
    kept = np.flatnonzero(np.concatenate([[True], turns, [True]]))
    fpr, tpr = fp[kept] / fp[-1], tp[kept] / tp[-1]
    some = _evenly_along(fpr, tpr, max_points)
    return RocPoints(fpr[some], tpr[some], threshold[kept][some])


def precision_recall_points(
    labels: ArrayLike, scores: ArrayLike, max_points: int = 200
) -> PrecisionRecallPoints:
    """At most `max_points` points [P] of the precision-recall curve of one class.

    `labels` [N], `scores` [N]. Inner points of vertical lines are dropped first, then points are
    kept at even distances along the curve. Both ends stay. Empty for a class that has only
    positives or only negatives.
    """
    tp, fp, threshold = _curve(labels, scores)
    if tp[-1] == 0 or fp[-1] == 0:
        return PrecisionRecallPoints(np.empty(0), np.empty(0), np.empty(0))
    rises = np.diff(tp) > 0
    kept = np.flatnonzero(np.concatenate([[True], rises[:-1] | rises[1:], [True]]))
    # Where nothing is decided positive yet, precision is 1 by convention (as in scikit-learn).
    exact = np.append(1.0, tp[1:] / (tp + fp)[1:])[kept]
    recall = tp[kept] / tp[-1]
    some = _evenly_along(recall, exact, max_points)
    return PrecisionRecallPoints(recall[some], exact[some], threshold[kept][some])


def calibration_points(
    labels: ArrayLike, probabilities: ArrayLike, bins: int = 15
) -> CalibrationPoints:
    """Stated probability against observed frequency of one class, labels [N], probabilities [N].

    The bins are those of :func:`calibration_bins`; empty ones are left out.
    """
    flags, p = _checked_probabilities(_column(labels), _column(probabilities))
    in_bin = calibration_bins(p[:, 0], bins)
    records = np.bincount(in_bin, minlength=bins)
    used = np.flatnonzero(records)
    stated = np.bincount(in_bin, weights=p[:, 0], minlength=bins)[used]
    observed = np.bincount(in_bin, weights=flags[:, 0], minlength=bins)[used]
    return CalibrationPoints(stated / records[used], observed / records[used], records[used])


def _column(values: ArrayLike) -> NDArray[Any]:
    return np.asarray(values)[:, None]


def _curve(labels: ArrayLike, scores: ArrayLike) -> tuple[Array, Array, Array]:
    """True positives, false positives and thresholds, from "none is positive" to "all are"."""
    flags, ranked_by = _checked(_column(labels), _column(scores))
    tp, fp = _cumulative_counts(flags[:, 0], ranked_by[:, 0], np.ones((1, len(flags))))
    thresholds = np.unique(ranked_by)[::-1]
    return np.append(0, tp[0]), np.append(0, fp[0]), np.append(np.inf, thresholds)


def _evenly_along(x: Array, y: Array, max_points: int) -> NDArray[np.intp]:
    """Indices of at most `max_points` points, the first and the last among them."""
    if max_points < 2:
        raise ValueError(f"a curve needs at least two points, not {max_points}")
    if len(x) <= max_points:
        return np.arange(len(x))
    travelled = np.append(0, np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y))))
    return np.unique(np.searchsorted(travelled, np.linspace(0, travelled[-1], max_points)))
