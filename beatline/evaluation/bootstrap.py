"""How sure the metrics are: cluster bootstrap over patients or machines, with percentile intervals.

Records of one patient are alike, so not records but groups are drawn, with replacement, and all
records of a group come along (Davison & Hinkley, "Bootstrap Methods and their Application", 1997,
section 3.8). A resample is a vector of weights: how often each record counts. Metrics of all
resamples then come from one sort of the scores and cumulative sums of the weights, exactly as if
each resample had been written out and measured.

The functions take the weights as an argument. Two models are compared in pairs by giving both the
same weights and subtracting what comes back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from beatline import metrics
from beatline.evaluation.predictions import Facet, Predictions
from beatline.metrics import Array, Confusion

# Weights worked on at a time. Some ten arrays of 8 bytes per weight are needed, so below 100 MB.
# Scores are sorted once per block: smaller blocks would sort large test sets too often.
BLOCK = 2**20
BINS = 15  # of probabilities, equally wide
# Of decisions on a class, where there are records of it.
RATES = {
    "f1": metrics.f1,
    "recall": metrics.recall,
    "precision": metrics.precision,
}


def group_weights(
    groups: ArrayLike, resamples: int = 1000, seed: int = 0
) -> NDArray[np.unsignedinteger]:
    """How often each record counts in each resample: [resamples, N], unsigned integers.

    `groups` [N] names the patient or machine of each record. As many groups as there are get drawn
    with replacement, so the number of records varies between resamples where groups differ in size.
    The same groups, number and seed give the same weights, in whatever order the records come.
    Raises ValueError for no records or less than one resample.
    """
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, not {resamples}")
    names, group_of_record = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) == 0:
        raise ValueError("there are no records")
    # No group can be drawn more often than there are draws.
    smallest = np.uint16 if len(names) <= np.iinfo(np.uint16).max else np.uint32
    weights = np.empty((resamples, len(group_of_record)), dtype=smallest)
    rng = np.random.default_rng(seed)
    for row in weights:
        drawn = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))
        row[:] = drawn[group_of_record]
    return weights


def once_and_resampled(groups: ArrayLike, resamples: int, seed: int) -> NDArray[Any]:
    """Weights [1 + resamples, N]: every record once, for the value itself, then the resamples."""
    weights = group_weights(groups, resamples, seed)
    return np.concatenate([np.ones_like(weights[:1]), weights])


def percentile_interval(values: ArrayLike, confidence: float = 0.95) -> tuple[Array, Array]:
    """Lower and upper end of the percentile interval over resamples.

    `values` [R, ...] gives two arrays [...]: the (1 - confidence) / 2 quantile and its opposite
    (Efron & Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13). NaN, a resample in
    which the metric is undefined, is left out; NaN where nothing is left. Raises ValueError if
    `confidence` is not in (0, 1).
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be above 0 and below 1, not {confidence}")
    values = np.asarray(values, dtype=np.float64)
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    undefined = np.isnan(values).all(axis=0)
    low, high = np.nanquantile(np.where(undefined, 0.0, values), tails, axis=0)
    return np.where(undefined, np.nan, low), np.where(undefined, np.nan, high)


def resampled(metric: Callable[..., Array], *arrays: Any, weights: NDArray[Any]) -> Array:
    """`metric(*of, weights=...)` in every resample, such as :func:`metrics.roc_auc` of labels and
    scores: [R, ...]. Resamples are worked off in blocks, so that memory stays bounded."""
    step = max(1, BLOCK // weights.shape[1])
    blocks = (weights[first : first + step] for first in range(0, len(weights), step))
    return np.concatenate([metric(*arrays, weights=block) for block in blocks])


def macro_mean(values: Array) -> Array:
    """Mean over classes of `values` [R, K]: [R]. The first row is that of the records themselves, and
    tells over which classes the mean is: those where it is not NaN.

    A resample in which one of them is NaN, for want of positives, has no mean: a mean over the others
    would be one of other classes, which may all be easier.
    """
    defined = ~np.isnan(values[0])
    if not defined.any():
        return np.full(len(values), np.nan)
    return values[:, defined].mean(axis=1)


# ---------------------------------------------------------------- calibration


def squared_calibration_error(
    labels: Array, probabilities: Array, groups: ArrayLike, weights: NDArray[Any]
) -> Array:
    """Squared distance of stated probabilities from observed frequencies, without what chance adds.

    The distance is that of the means over bins of probabilities, averaged over records. Even of perfect
    probabilities it is above 0, since a bin's frequency is one of few records; and drawing records again
    adds as much once more, so that a plain bootstrap interval lies above the value. Both are taken off:
    a bin's squared distance is estimated by the products of pairs of its records (the debiased
    estimator of Kumar, Liang & Ma, "Verified Uncertainty Calibration", NeurIPS 2019, section 4), pairs
    of different `groups` [N], for records of one patient share their errors; and from resamples the
    variance of the bins' means over groups. Perfect probabilities have 0 on average, and so values below
    0 too. A bin of one group tells nothing, and is left out.

    [R, K], where the first of the `weights` [R, N] counts every record once; NaN where no bin tells.
    """
    places = metrics.calibration_bins(probabilities, BINS)  # [N, K]
    group_of_record = np.unique(np.asarray(groups), return_inverse=True)[1]
    columns = []
    for k, gaps in enumerate((labels - probabilities).T):
        in_bin = places[:, k, None] == np.arange(BINS)
        tells = [len(np.unique(group_of_record[inside])) > 1 for inside in in_bin.T]
        if not any(tells):
            columns.append(np.full(len(weights), np.nan))
            continue
        in_bin = in_bin[:, tells].astype(np.float64)
        plain = resampled(_squared_gaps, in_bin, gaps, weights=weights)
        columns.append(plain - _added_by_chance(in_bin, gaps, group_of_record, len(weights)))
    return np.stack(columns, axis=-1)


def _squared_gaps(in_bin: Array, gaps: Array, weights: NDArray[Any]) -> Array:
    """The squared mean of the `gaps` [N] in each bin of `in_bin` [N, B], averaged over the bins' records:
    [R]; NaN without any."""
    counts = weights.astype(np.float64)
    records = counts @ in_bin
    squares = (counts @ (in_bin * gaps[:, None])) ** 2
    means = np.divide(squares, records, out=np.zeros_like(records), where=records > 0)
    every = records.sum(axis=1)
    return np.divide(means.sum(axis=1), every, out=np.full(len(every), np.nan), where=every > 0)


def _added_by_chance(in_bin: Array, gaps: Array, groups: NDArray[np.intp], rows: int) -> Array:
    """What chance adds to :func:`_squared_gaps`: [R], of the records themselves and of resamples."""
    shape = groups.max() + 1, in_bin.shape[1]
    records, sums = np.zeros(shape), np.zeros(shape)  # of each group in each bin
    np.add.at(records, groups, in_bin)
    np.add.at(sums, groups, in_bin * gaps[:, None])
    n, total = records.sum(axis=0), sums.sum(axis=0)
    mean = total / n
    pairs, products = n**2 - (records**2).sum(axis=0), total**2 - (sums**2).sum(axis=0)
    unbiased = products / pairs
    once = n @ (mean**2 - unbiased) / n.sum()
    variance = ((sums - mean * records) ** 2).sum(axis=0) / n**2
    again = n @ variance / n.sum()
    return once + again * (np.arange(rows) > 0)


# ---------------------------------------------------------------- all metrics of a model


@dataclass(frozen=True)
class Resampled:
    """Every metric in every resample: `overall` `{metric: [R]}`, and of each class or section `parts`
    `{name: {metric: [R]}}`; none where there is one class."""

    overall: dict[str, Array]
    parts: dict[str, dict[str, Array]]


def measure(predictions: Predictions, weights: NDArray[Any], max_fpr: float) -> Resampled:
    """Every metric of a model with each of the `weights` [R, N].

    Of classes: auc, average_precision, f1, recall, precision, accuracy, brier and calibration_error, the
    root of :func:`squared_calibration_error` (0 where that is below 0). Overall is the
    mean over the classes where the metric is defined (macro average), except that the accuracy of
    exclusive classes is the fraction of records that are right. A class without positives has no
    precision, recall or F1 (NaN, not 0: an interval would otherwise measure how often a rare class is
    drawn), nor has such a resample; nor one that was never decided a precision.

    Of anomaly detection: auc, pauc (standardised, up to the false positive rate `max_fpr`),
    average_precision, f1, recall, precision and accuracy. NaN stands for what is undefined: everything
    but accuracy if there are no anomalies, auc, pauc and average_precision if there is nothing else. No
    metric pools the records of several sections: overall holds the means of theirs, and as
    harmonic_mean that of the AUC and pAUC of all sections, the score of DCASE Task 2 since 2022 (Dohi
    et al. 2022).
    """
    if predictions.task.learns_normal_only:
        return _detection(predictions, weights, max_fpr)
    return _classification(predictions, weights)


def _classification(predictions: Predictions, weights: NDArray[Any]) -> Resampled:
    labels, scores, decisions = predictions.targets, predictions.scores, predictions.decisions
    values = {
        **_ranking_metrics(labels, scores, weights),
        **_decision_metrics(labels, decisions, weights),
        "brier": resampled(metrics.brier, labels, scores, weights=weights),
    }
    groups = predictions.table["group"].to_numpy()
    squared = squared_calibration_error(labels, scores, groups, weights)
    values["calibration_error"] = _root(squared)
    overall = {name: macro_mean(value) for name, value in values.items()}
    # Before the root: what is below 0 in one class makes up for what is above it by chance in another.
    overall["calibration_error"] = _root(macro_mean(squared))
    if predictions.exclusive:
        accuracy = resampled(metrics.multiclass_accuracy, labels, decisions, weights=weights)
        overall["accuracy"] = accuracy
    if len(predictions.classes) == 1:
        return Resampled(overall, {})
    parts = {
        name: {metric: value[:, k] for metric, value in values.items()}
        for k, name in enumerate(predictions.classes)
    }
    return Resampled(overall, parts)


def _root(squared: Array) -> Array:
    return np.sqrt(np.maximum(squared, 0))


def _detection(predictions: Predictions, weights: NDArray[Any], max_fpr: float) -> Resampled:
    parts = {
        facet.name: _detection_metrics(facet, weights[:, facet.inside], max_fpr)
        for facet in predictions.facets
    }
    overall = {
        metric: macro_mean(np.stack([part[metric] for part in parts.values()], axis=1))
        for metric in next(iter(parts.values()))
    }
    if not predictions.section_column:
        return Resampled(overall, {})
    ranking = [part[name] for part in parts.values() for name in ("auc", "pauc")]
    overall["harmonic_mean"] = _harmonic_mean(np.stack(ranking, axis=1))
    return Resampled(overall, parts)


def _detection_metrics(facet: Facet, weights: NDArray[Any], max_fpr: float) -> dict[str, Array]:
    """Each metric of one section in every resample, [R]."""
    labels, scores = facet.targets[:, None], facet.scores[:, None]
    values = _ranking_metrics(labels, scores, weights)
    values["pauc"] = resampled(metrics.partial_auc, labels, scores, max_fpr, weights=weights)
    values |= _decision_metrics(labels, facet.decisions[:, None], weights)
    return {metric: value[:, 0] for metric, value in values.items()}


def _harmonic_mean(values: Array) -> Array:
    """Over the columns of `values` [R, S] that are defined: [R]. 0 if one of them is 0."""
    with np.errstate(divide="ignore"):
        inverse = macro_mean(1 / values)
    return 1 / inverse


def _ranking_metrics(labels: Array, scores: Array, weights: NDArray[Any]) -> dict[str, Array]:
    return {
        "auc": resampled(metrics.roc_auc, labels, scores, weights=weights),
        "average_precision": resampled(metrics.average_precision, labels, scores, weights=weights),
    }


def _decision_metrics(labels: Array, decisions: Array, weights: NDArray[Any]) -> dict[str, Array]:
    def confusion(labels: Array, decisions: Array, weights: NDArray[Any]) -> Array:
        return np.stack(metrics.confusion(labels, decisions, weights), axis=-1)  # [R, K, 4]

    counts = resampled(confusion, labels, decisions, weights=weights)
    table = Confusion(*np.moveaxis(counts, -1, 0))
    no_positives = table.tp + table.fn == 0
    values = {name: np.where(no_positives, np.nan, metric(table)) for name, metric in RATES.items()}
    no_records = table.tp + table.fp + table.tn + table.fn == 0
    return values | {"accuracy": np.where(no_records, np.nan, metrics.accuracy(table))}
