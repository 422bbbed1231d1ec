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

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from beatline import metrics
from beatline.metrics import Array, Confusion

# Weights worked on at a time. Some ten arrays of 8 bytes per weight are needed, so below 100 MB.
# Scores are sorted once per block: smaller blocks would sort large test sets too often.
BLOCK = 2**20

CLASSIFICATION = ("multilabel", "multiclass", "binary")

Estimate = dict[str, float]


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


# ---------------------------------------------------------------- metrics of every resample
# Each is the metric of the same name in beatline.metrics with `weights` [R, N], worked off in
# blocks of resamples so that memory stays bounded.


def bootstrap_auc(labels: ArrayLike, scores: ArrayLike, weights: NDArray[Any]) -> Array:
    """Area under the ROC curve [R, K] in every resample; see :func:`metrics.roc_auc`."""
    return _in_blocks(lambda block: metrics.roc_auc(labels, scores, block), weights)


def bootstrap_partial_auc(
    labels: ArrayLike, scores: ArrayLike, weights: NDArray[Any], max_fpr: float = 0.1
) -> Array:
    """Standardised partial AUC [R, K] in every resample; see :func:`metrics.partial_auc`."""
    return _in_blocks(lambda block: metrics.partial_auc(labels, scores, max_fpr, block), weights)


def bootstrap_average_precision(
    labels: ArrayLike, scores: ArrayLike, weights: NDArray[Any]
) -> Array:
    """Average precision [R, K] in every resample; see :func:`metrics.average_precision`."""
    return _in_blocks(lambda block: metrics.average_precision(labels, scores, block), weights)


def bootstrap_brier(labels: ArrayLike, probabilities: ArrayLike, weights: NDArray[Any]) -> Array:
    """Brier score [R, K] in every resample; see :func:`metrics.brier`."""
    return _in_blocks(lambda block: metrics.brier(labels, probabilities, block), weights)


def bootstrap_calibration_error(
    labels: ArrayLike, probabilities: ArrayLike, weights: NDArray[Any], bins: int = 15
) -> Array:
    """Expected calibration error [R, K]; see :func:`metrics.expected_calibration_error`."""
    return _in_blocks(
        lambda block: metrics.expected_calibration_error(labels, probabilities, bins, block),
        weights,
    )


def bootstrap_confusion(
    labels: ArrayLike, decisions: ArrayLike, weights: NDArray[Any]
) -> Confusion:
    """Confusion counts, each [R, K], in every resample; for `metrics.f1` and its like."""
    counts = _in_blocks(
        lambda block: np.stack(metrics.confusion(labels, decisions, block), axis=-1), weights
    )
    return Confusion(*np.moveaxis(counts, -1, 0))


def bootstrap_multiclass_accuracy(
    labels: ArrayLike, decisions: ArrayLike, weights: NDArray[Any]
) -> Array:
    """Fraction of records decided right [R]; see :func:`metrics.multiclass_accuracy`."""
    return _in_blocks(lambda block: metrics.multiclass_accuracy(labels, decisions, block), weights)


def _in_blocks(metric: Callable[[NDArray[Any]], Array], weights: NDArray[Any]) -> Array:
    step = max(1, BLOCK // weights.shape[1])
    return np.concatenate(
        [metric(weights[first : first + step]) for first in range(0, len(weights), step)]
    )


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


# ---------------------------------------------------------------- whole evaluations


@dataclass(frozen=True)
class Resampled:
    """Every metric in every resample: `overall` `{metric: [R]}`, and of each class or section `parts`
    `{name: {metric: [R]}}`."""

    overall: dict[str, Array]
    parts: dict[str, dict[str, Array]]


def classification(
    task: str,
    classes: Sequence[str],
    labels: ArrayLike,
    probabilities: ArrayLike,
    decisions: ArrayLike,
    weights: NDArray[Any],
) -> Resampled:
    """The metrics auc, average_precision, f1, recall, precision, accuracy, brier and ece.

    `task` is multilabel, multiclass or binary; `labels`, `probabilities` and `decisions` are
    [N, K], `weights` [R, N]. Exclusive classes need exactly one decision per record, the most
    probable. Overall is the mean over the classes where the metric is defined (macro average), except
    that the accuracy of exclusive classes is the fraction of records that are right. A class without
    positives has no precision, recall or F1 (NaN, not 0: an interval would otherwise measure how
    often a rare class is drawn), nor has such a resample. Raises ValueError for another task, or
    shapes that do not match.
    """
    if task not in CLASSIFICATION:
        raise ValueError(f"task must be one of {', '.join(CLASSIFICATION)}, not {task!r}")
    values = _ranking_metrics(labels, probabilities, weights)
    values |= _decision_metrics(labels, decisions, weights)
    values["brier"] = bootstrap_brier(labels, probabilities, weights)
    values["ece"] = bootstrap_calibration_error(labels, probabilities, weights)
    overall = {name: macro_mean(value) for name, value in values.items()}
    if task == "multiclass":
        overall["accuracy"] = bootstrap_multiclass_accuracy(labels, decisions, weights)
    parts = {
        name: {metric: value[:, k] for metric, value in values.items()}
        for k, name in _numbered(classes, values["auc"].shape[1])
    }
    return Resampled(overall, parts)


def detection(
    is_anomaly: ArrayLike,
    scores: ArrayLike,
    decisions: ArrayLike,
    weights: NDArray[Any],
    *,
    sections: ArrayLike | None = None,
    max_fpr: float = 0.1,
) -> Resampled:
    """The metrics of anomaly detection: auc, pauc (standardised, up to the false positive rate
    `max_fpr`), average_precision, f1, recall, precision and accuracy.

    `is_anomaly`, unbounded `scores` and 0/1 `decisions` are [N], `weights` [R, N]. NaN stands for what
    is undefined: everything but accuracy if there are no anomalies, auc, pauc and average_precision if
    there is nothing else. `sections` [N] names machines, whose records no metric pools: they are the
    parts, overall holds their means, and as harmonic_mean that of the AUC and pAUC of all sections, the
    score of DCASE Task 2 since 2022 (Dohi et al. 2022). Raises ValueError for shapes that do not match.
    """
    labels = np.asarray(is_anomaly)[:, None]
    ranked_by = np.asarray(scores, dtype=np.float64)[:, None]
    decided = np.asarray(decisions)[:, None]
    lengths = {len(labels), len(ranked_by), len(decided), weights.shape[1]}
    if len(lengths | ({len(np.asarray(sections))} if sections is not None else set())) > 1:
        raise ValueError("is_anomaly, scores, groups and sections must be of the same records")
    names = np.zeros(len(labels), dtype=int) if sections is None else np.asarray(sections)
    parts = {
        str(name): _detection_metrics(
            labels[inside], ranked_by[inside], decided[inside], weights[:, inside], max_fpr
        )
        for name, inside in ((name, names == name) for name in np.unique(names))
    }
    overall = {
        metric: macro_mean(np.stack([of_section[metric] for of_section in parts.values()], axis=1))
        for metric in next(iter(parts.values()))
    }
    if sections is None:
        return Resampled(overall, {})
    ranking = [of_section[name] for of_section in parts.values() for name in ("auc", "pauc")]
    overall["harmonic_mean"] = _harmonic_mean(np.stack(ranking, axis=1))
    return Resampled(overall, parts)


def evaluate_classification(
    task: str,
    classes: Sequence[str],
    labels: ArrayLike,
    probabilities: ArrayLike,
    decisions: ArrayLike,
    groups: ArrayLike,
    *,
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[str, Any]:
    """The metrics of :func:`classification` with intervals, overall and of every class.

    `groups` is [N]. Gives `{"macro": {metric: estimate}, "classes": {class: {metric: estimate,
    "positives": n}}}` with `estimate = {"value", "low", "high"}`.
    """
    weights = once_and_resampled(groups, resamples, seed)
    found = classification(task, classes, labels, probabilities, decisions, weights)
    positives = np.asarray(labels).astype(bool).sum(axis=0)
    by_class = {
        name: {**_estimates(found.parts[name], confidence), "positives": int(positives[k])}
        for k, name in enumerate(classes)
    }
    return {"macro": _estimates(found.overall, confidence), "classes": by_class}


def evaluate_anomaly(
    is_anomaly: ArrayLike,
    scores: ArrayLike,
    threshold: float,
    groups: ArrayLike,
    *,
    sections: ArrayLike | None = None,
    max_fpr: float = 0.1,
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[str, Any]:
    """The metrics of :func:`detection` with intervals, overall and of every section.

    A record is called anomalous at or above `threshold`. Gives, as "overall", each metric as `{"value",
    "low", "high"}`, as "counts" tp, fp, tn and fn, and as "sections" the same of each of them, with its
    positives and counts ({} without `sections`).
    """
    labels, decided = np.asarray(is_anomaly), np.asarray(scores) >= threshold
    weights = once_and_resampled(groups, resamples, seed)
    found = detection(labels, scores, decided, weights, sections=sections, max_fpr=max_fpr)
    of_sections = {}
    for name, values in found.parts.items():
        inside = np.asarray(sections).astype(str) == name
        of_sections[name] = {
            **_estimates(values, confidence),
            "positives": int(np.count_nonzero(labels[inside])),
            **_counts(labels[inside], decided[inside]),
        }
    return {
        "overall": _estimates(found.overall, confidence),
        "sections": of_sections,
        "counts": _counts(labels, decided),
    }


def _detection_metrics(
    labels: Array, scores: Array, decisions: Array, weights: NDArray[Any], max_fpr: float
) -> dict[str, Array]:
    """Each metric of one section in every resample, [R]."""
    values = _ranking_metrics(labels, scores, weights)
    values["pauc"] = bootstrap_partial_auc(labels, scores, weights, max_fpr)
    values |= _decision_metrics(labels, decisions, weights)
    return {metric: value[:, 0] for metric, value in values.items()}


def _counts(labels: NDArray[Any], decisions: NDArray[Any]) -> dict[str, int]:
    table = metrics.confusion(labels[:, None], decisions[:, None])
    return {name: int(count[0]) for name, count in table._asdict().items()}


def _harmonic_mean(values: Array) -> Array:
    """Over the columns of `values` [R, S] that are defined: [R]. 0 if one of them is 0."""
    with np.errstate(divide="ignore"):
        inverse = macro_mean(1 / values)
    return 1 / inverse


def _ranking_metrics(
    labels: ArrayLike, scores: ArrayLike, weights: NDArray[Any]
) -> dict[str, Array]:
    return {
        "auc": bootstrap_auc(labels, scores, weights),
        "average_precision": bootstrap_average_precision(labels, scores, weights),
    }


def _decision_metrics(
    labels: ArrayLike, decisions: ArrayLike, weights: NDArray[Any]
) -> dict[str, Array]:
    table = bootstrap_confusion(labels, decisions, weights)
    no_positives = table.tp + table.fn == 0
    of_positives = {"f1": metrics.f1, "recall": metrics.recall, "precision": metrics.precision}
    values = {
        name: np.where(no_positives, np.nan, metric(table)) for name, metric in of_positives.items()
    }
    no_records = table.tp + table.fp + table.tn + table.fn == 0
    return values | {"accuracy": np.where(no_records, np.nan, metrics.accuracy(table))}


def _estimates(values: Mapping[str, Array], confidence: float) -> dict[str, Any]:
    """Value, low and high of each metric; the first of its values is of the records themselves."""
    estimates: dict[str, Estimate] = {}
    for name, value in values.items():
        low, high = percentile_interval(value[1:], confidence)
        estimates[name] = {"value": float(value[0]), "low": float(low), "high": float(high)}
    return estimates


def _numbered(classes: Sequence[str], expected: int) -> list[tuple[int, str]]:
    if len(classes) != expected:
        raise ValueError(f"{len(classes)} class names for {expected} columns of labels")
    return list(enumerate(classes))
