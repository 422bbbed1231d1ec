"""Is a metric after a change another than before, and is that more than chance?

Both models have answered the same test records, so each resample of the records is measured with both
and the difference taken: what makes a record easy or hard cancels out. The spread of that difference
over resamples is its standard error, from which come the interval and the two-sided p-value (Davison &
Hinkley, "Bootstrap Methods and their Application", 1997, sections 4.4 and 5.2). So an interval leaves out
zero just when the p-value is below 1 - confidence, and p-values are as small as the evidence is strong,
which a share of resamples could not be: several comparisons at once need small ones.

The standard error is itself uncertain where few patients have a class, so it is judged by Student's t
with as many degrees of freedom, less one, as there are patients with the rarest class (or without the
commonest); metrics to which all records add alike are judged by the number of all patients.

Where only values and their intervals are at hand, the two are taken as independent. Models that were
measured on the same records agree more than that, so the interval is then too wide, never too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pydantic import Field
from scipy.special import stdtr, stdtrit

from beatline.common.params import Parameters
from beatline.evaluation import bootstrap
from beatline.evaluation.predictions import Predictions
from beatline.metrics import Array

METRICS = ("auc", "pauc", "harmonic_mean", "average_precision")
METRICS += ("f1", "recall", "precision", "accuracy", "brier", "calibration_error")
LOWER_IS_BETTER = ("brier", "calibration_error")
# Metrics to which every record adds alike.
OF_ALL_RECORDS = ("accuracy", "brier", "calibration_error")
BETTER, WORSE, SAME = "better", "worse", "no evidence of a difference"
UNDEFINED = "undefined"
FEWEST_GROUPS = 10  # from which a spread can be judged


class Compare(Parameters):
    """The block `compare`.

    `metrics` are compared, those that a model has. `tolerance`: of the metrics that the gate watches,
    how much worse a change may make them before the gate closes, if it is more than chance, which is
    `1 - confidence`.
    """

    resamples: int = Field(ge=100)
    confidence: float = Field(gt=0, lt=1)
    seed: int = Field(ge=0)
    metrics: list[str] = Field(min_length=1)
    tolerance: dict[str, float]

    def model_post_init(self, _: Any) -> None:
        for name in (*self.metrics, *self.tolerance):
            if name not in METRICS:
                raise ValueError(f"there is no metric {name!r} (known: {', '.join(METRICS)})")
        if unwatched := [name for name in self.tolerance if name not in self.metrics]:
            raise ValueError(f"tolerance names {unwatched[0]}, which is not among the metrics")
        if wrong := [name for name, value in self.tolerance.items() if value < 0]:
            raise ValueError(f"the tolerance of {wrong[0]} must not be negative")


@dataclass(frozen=True)
class Difference:
    """One metric's difference `after - before`, its interval and two-sided p-value; NaN if undefined."""

    metric: str
    before: float
    after: float
    low: float
    high: float
    p_value: float

    @property
    def difference(self) -> float:
        return self.after - self.before

    @property
    def gain(self) -> float:
        """The improvement from `before` to `after`; negative if `after` is worse."""
        return -self.difference if self.metric in LOWER_IS_BETTER else self.difference

    def verdict(self, p_value: float, confidence: float) -> str:
        """Return the verdict, at a `p_value` adjusted for the comparisons made beside this one."""
        if math.isnan(p_value):
            return UNDEFINED
        if p_value >= 1 - confidence:
            return SAME
        return BETTER if self.gain > 0 else WORSE


class Obstacle(NamedTuple):
    """A reason why two models cannot be compared record by record. `as_samples`: they have the same task
    and classes, and could be compared as independent samples."""

    words: str
    as_samples: bool


def obstacle(before: Predictions, after: Predictions) -> Obstacle | None:
    """Return the obstacle to a comparison record by record; None if there is none."""
    if before.task != after.task:
        old, new = before.task.name, after.task.name
        return Obstacle(f"another task ({old} before, {new} after)", False)
    if before.classes != after.classes:
        old, new = (", ".join(each.classes) for each in (before, after))
        return Obstacle(f"other classes ({old} before, {new} after)", False)
    words = _other_records(before, after)
    return Obstacle(words, True) if words else None


def _other_records(before: Predictions, after: Predictions) -> str:
    """Return in words how the test records of the two differ; empty if they are the same."""
    old, new = _labels(before), _labels(after)
    if not old.index.equals(new.index):
        lost, gained = len(old.index.difference(new.index)), len(new.index.difference(old.index))
        return (
            f"other test records (of {len(old):,} before and {len(new):,} after, {lost:,} are only "
            f"before and {gained:,} only after)"
        )
    if not old.columns.equals(new.columns):
        return "the records are told apart by other sections"
    if changed := int(np.count_nonzero((old != new).to_numpy().any(axis=1))):
        return f"{changed:,} of the {len(old):,} test records have other labels or patients"
    if (groups := len(set(new["group"]))) < FEWEST_GROUPS:
        return f"{groups} groups of test records are too few to judge chance by"
    return ""


def _labels(predictions: Predictions) -> pd.DataFrame:
    """Return the test records by name: group, section and true classes, without the predictions."""
    sections = [predictions.section_column] if predictions.section_column else []
    names = ["group", *sections, *predictions.classes]
    return predictions.table.set_index("record").loc[:, names].astype(str).sort_index()


def paired(
    before: Predictions, after: Predictions, parameters: Compare, max_fpr: float
) -> tuple[list[Difference], dict[str, list[Difference]]]:
    """The differences overall, and of each class or section, of two models on the same records.

    Groups (patients) are drawn again, the same ones for both. Call it only where :func:`obstacle` sees
    none.
    """
    before, after = (
        each.rows(np.argsort(each.table["record"].to_numpy(str))) for each in (before, after)
    )
    groups = before.table["group"].to_numpy(str)
    weights = bootstrap.once_and_resampled(groups, parameters.resamples, parameters.seed)
    old, new = (bootstrap.measure(each, weights, max_fpr) for each in (before, after))
    sizes = (len(np.unique(groups)), _fewest_groups(before))
    parts = {
        name: _differences(values, new.parts[name], parameters, sizes)
        for name, values in old.parts.items()
    }
    overall = _differences(old.overall, new.overall, parameters, sizes)
    return overall, parts if len(parts) > 1 else {}


def _fewest_groups(predictions: Predictions) -> int:
    """Return how many groups have the rarest class, or lack the commonest, in the smallest section."""
    groups = predictions.table["group"].to_numpy(str)
    numbers = [
        len(np.unique(groups[facet.inside][facet.targets == label]))
        for facet in predictions.facets
        for label in (0, 1)
    ]
    return min((number for number in numbers if number), default=0)


def _differences(
    before: Mapping[str, Array],
    after: Mapping[str, Array],
    parameters: Compare,
    groups: tuple[int, int],
) -> list[Difference]:
    """Return the differences of metrics, from values [1 + R] each: the records' own, then R resamples.
    `groups`: how many there are, and how many of the rarest kind."""
    return [
        _difference(
            name,
            float(before[name][0]),
            float(after[name][0]),
            _standard_error(after[name][1:] - before[name][1:]),
            groups,
            parameters.confidence,
        )
        for name in parameters.metrics
        if name in before and name in after
    ]


def _standard_error(resampled: Array) -> float:
    """Over the resamples in which the difference is defined; NaN if it is in less than half of them."""
    defined = resampled[np.isfinite(resampled)]
    return float(defined.std(ddof=1)) if len(defined) > len(resampled) / 2 else math.nan


def _difference(
    name: str,
    before: float,
    after: float,
    standard_error: float,
    groups: tuple[int, int],
    confidence: float,
) -> Difference:
    # A metric to which all records add alike is judged by all groups.
    degrees = max(1, groups[0 if name in OF_ALL_RECORDS else 1] - 1)
    difference = after - before
    reach = float(stdtrit(degrees, (1 + confidence) / 2)) * standard_error
    if standard_error == 0:  # as good in every resample, or there is nothing to judge by
        p_value = 1.0 if difference == 0 else math.nan
    else:
        p_value = 2 * float(stdtr(degrees, -abs(difference) / standard_error))
    return Difference(name, before, after, difference - reach, difference + reach, p_value)


def independent(
    before: Mapping[str, Any], after: Mapping[str, Any], parameters: Compare
) -> list[Difference]:
    """The differences of stored values, as of independent samples, from the contents of two metrics
    files. Where a class is rarer than records are few, chance is judged by its records."""
    old, new = (
        {
            row["metric"]: _with_error(row, metrics["about"][0]["confidence"])
            for row in metrics["metrics"]
        }
        for metrics in (before, after)
    )
    records = min(metrics["about"][0]["records"] for metrics in (before, after))
    rarest = [
        min(part["positives"], records - part["positives"])
        for metrics in (before, after)
        for part in metrics["parts"]
        if 0 < part.get("positives", 0) < records
    ]
    sizes = (records, min(rarest, default=records))
    return [
        _difference(
            name,
            old[name][0],
            new[name][0],
            math.hypot(old[name][1], new[name][1]),
            sizes,
            parameters.confidence,
        )
        for name in parameters.metrics
        if name in old and name in new
    ]


def _with_error(row: Mapping[str, Any], confidence: float) -> tuple[float, float]:
    """A stored value and its standard error, by its interval; NaN if undefined."""
    value, low, high = (
        math.nan if row[key] is None else row[key] for key in ("value", "low", "high")
    )
    return value, (high - low) / (2 * NormalDist().inv_cdf((1 + confidence) / 2))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values, each raised so that the chance of one false alarm among all of them stays what a
    single one would be (Holm, Scandinavian Journal of Statistics 6, 1979). NaN stays NaN and does not
    count."""
    values = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(len(values), np.nan)
    tested = np.flatnonzero(np.isfinite(values))
    order = tested[np.argsort(values[tested], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(values[order] * factors))
    return adjusted.tolist()
