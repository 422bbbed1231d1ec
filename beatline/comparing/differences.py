"""Differences of metrics between two models, and simultaneous intervals of a family of them.

Both models have answered the same test records, so each resample of the records is measured with both
and the difference taken: what makes a record easy or hard cancels out. The spread of that difference
over resamples is its standard error (Davison & Hinkley, "Bootstrap Methods and their Application", 1997,
sections 4.4 and 5.2). Where a model was trained with several seeds, the difference is that of the means
over seeds, and the variance between seeds adds to that between records.

A standard error is itself uncertain where few patients have a class, so it is judged by Student's t with
as many degrees of freedom, less one, as there are patients with the rarest class (or without the
commonest); metrics to which all records add alike are judged by the number of all patients. Several
sources of variance are put together as Welch and Satterthwaite do (Biometrics Bulletin 2, 1946).

Several differences are a family. The p-value of one is adjusted to the chance that the smallest p-value
of all is as small where nothing differs, given how the differences are correlated over resamples
(Hothorn, Bretz & Westfall, Biometrical Journal 50, 2008, single-step). The intervals come from the same
distribution: one leaves out zero just when its adjusted p-value is below 1 - confidence.

Where only values and their intervals are at hand, the two are taken as independent. Models that were
measured on the same records agree more than that, so the interval is then too wide, never too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import NormalDist
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from pydantic import Field
from scipy.special import ndtr, stdtr, stdtrit

from beatline.common.errors import names_there_are
from beatline.common.params import Parameters
from beatline.evaluation import bootstrap
from beatline.evaluation.bootstrap import Resampled
from beatline.evaluation.estimates import FEWEST_GROUPS, groups_of_a_kind
from beatline.evaluation.measures import MEASURES
from beatline.evaluation.predictions import Predictions
from beatline.metrics import Array

DRAWS = 2**15  # of a family's smallest p-value


class Compare(Parameters):
    """The block `compare`.

    `metrics` are compared, those that a model has. `tolerance`: of the metrics that the gate watches, how
    much worse a change may make them. Intervals hold all differences of a family with `confidence`.
    `cannot_tell`: whether the gate passes where the test records cannot show a loss beyond the tolerance.
    """

    resamples: int = Field(ge=100)
    confidence: float = Field(gt=0, lt=1)
    seed: int = Field(ge=0)
    metrics: list[str] = Field(min_length=1)
    tolerance: dict[str, float]
    cannot_tell: Literal["pass", "fail"] = "pass"

    def model_post_init(self, _: Any) -> None:
        for name in (*self.metrics, *self.tolerance):
            if name not in MEASURES:
                raise ValueError(f"there is no metric {name!r}{names_there_are(name, MEASURES)}")
        if unwatched := [name for name in self.tolerance if name not in self.metrics]:
            raise ValueError(f"tolerance names {unwatched[0]}, which is not among the metrics")
        if wrong := [name for name, value in self.tolerance.items() if value < 0]:
            raise ValueError(f"the tolerance of {wrong[0]} must not be negative")


class Error(NamedTuple):
    """A source of variance of a difference, and the degrees of freedom that it is known with."""

    variance: float
    degrees: float


@dataclass(frozen=True)
class Difference:
    """One metric's difference `after - before`, and where its variance comes from.

    `records`: the choice of test records, NaN if the difference is undefined. `seeds`: none if both
    models have one. `deviations` [R]: of the difference in each resample from their mean; None if the two
    were taken as independent.
    """

    metric: str
    before: float
    after: float
    records: Error
    seeds: tuple[Error, ...] = ()
    deviations: Array | None = field(default=None, repr=False, compare=False)

    @property
    def difference(self) -> float:
        return self.after - self.before

    @property
    def gain(self) -> float:
        """The improvement from `before` to `after`; negative if `after` is worse."""
        return -self.difference if MEASURES[self.metric].lower_is_better else self.difference

    @property
    def standard_error(self) -> float:
        return math.sqrt(sum(error.variance for error in (self.records, *self.seeds)))

    @property
    def degrees(self) -> float:
        """Degrees of freedom of the standard error, which is above 0."""
        errors = (self.records, *self.seeds)
        return self.standard_error**4 / sum(error.variance**2 / error.degrees for error in errors)

    @property
    def p_value(self) -> float:
        """The two-sided p-value of this difference alone; NaN if undefined."""
        if self.standard_error == 0:
            return 1.0 if self.difference == 0 else math.nan
        return 2 * float(stdtr(self.degrees, -abs(self.difference) / self.standard_error))

    def reach(self, level: float) -> float:
        """Half the width of the interval that leaves out zero just when the p-value is below `level`.

        Of a metric that is the same in every resample, the rule of three (Hanley & Lippman-Hand, JAMA
        249, 1983): what has not been seen on n of them is at most -log(level) / n frequent.
        """
        if self.standard_error == 0:
            unseen = -math.log(level) / (self.records.degrees + 1) if level > 0 else math.inf
            return unseen if self.difference == 0 else math.nan
        return -float(stdtrit(self.degrees, level / 2)) * self.standard_error


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
    few = too_few_groups(min(len(set(each.table["group"])) for each in (before, after)))
    words = _other_records(before, after)
    return Obstacle(words, few is None) if words else few


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
    return ""


def too_few_groups(groups: int) -> Obstacle | None:
    """Return the obstacle that test records are of so few groups (patients); None of enough."""
    if groups >= FEWEST_GROUPS:
        return None
    return Obstacle(f"{groups} groups of test records are too few to judge chance by", False)


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
    before, after = _in_order(before), _in_order(after)
    groups = before.table["group"].to_numpy(str)
    weights = bootstrap.once_and_resampled(groups, parameters.resamples, parameters.seed)
    old, new = (bootstrap.measure(each, weights, max_fpr) for each in (before, after))
    sizes = (len(np.unique(groups)), groups_of_a_kind(before))
    parts = {
        name: _differences(values, new.parts[name], parameters, sizes)
        for name, values in old.parts.items()
    }
    before_and_after = _of_the_same_parts(old, new)
    overall = _differences(*before_and_after, parameters, sizes)
    return overall, parts if len(parts) > 1 else {}


def _in_order(predictions: Predictions) -> Predictions:
    return predictions.rows(np.argsort(predictions.table["record"].to_numpy(str)))


def paired_means(
    before: Sequence[Predictions], after: Sequence[Predictions], parameters: Compare, max_fpr: float
) -> list[Difference]:
    """The overall differences of the means over several models on each side, all on the same records,
    with the variance between records alone. Call it only where :func:`obstacle` sees none."""
    first = _in_order(before[0])
    groups = first.table["group"].to_numpy(str)
    weights = bootstrap.once_and_resampled(groups, parameters.resamples, parameters.seed)
    means = []
    for side in (before, after):
        every = [bootstrap.measure(_in_order(each), weights, max_fpr).overall for each in side]
        means.append({name: np.mean([one[name] for one in every], axis=0) for name in every[0]})
    sizes = (len(np.unique(groups)), groups_of_a_kind(first))
    return _differences(means[0], means[1], parameters, sizes)


def _of_the_same_parts(old: Resampled, new: Resampled) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return the overall metrics, but of precision, which a class that one model never decides lacks, the
    mean over the classes (or sections) that both have decided."""
    both = [
        name
        for name, part in old.parts.items()
        if np.isfinite([part["precision"][0], new.parts[name]["precision"][0]]).all()
    ]
    if not both:
        return old.overall, new.overall
    means = (
        bootstrap.macro_mean(np.stack([each.parts[name]["precision"] for name in both], axis=1))
        for each in (old, new)
    )
    before, after = (
        {**each.overall, "precision": mean} for each, mean in zip((old, new), means, strict=True)
    )
    return before, after


def _differences(
    before: Mapping[str, Array],
    after: Mapping[str, Array],
    parameters: Compare,
    groups: tuple[int, int],
) -> list[Difference]:
    """Return the differences of metrics, from values [1 + R] each: the records' own, then R resamples.
    `groups`: how many there are, and how many of the rarest kind."""
    return [
        _paired_difference(name, before[name], after[name], groups)
        for name in parameters.metrics
        if name in before and name in after
    ]


def _paired_difference(
    name: str, before: Array, after: Array, groups: tuple[int, int]
) -> Difference:
    resampled = after[1:] - before[1:]
    defined = np.isfinite(resampled)
    undefined = Error(math.nan, _degrees(name, groups))
    each = Difference(name, float(before[0]), float(after[0]), undefined)
    if defined.sum() <= len(resampled) / 2:
        return each
    variance = float(resampled[defined].var(ddof=1))
    if variance == 0 and each.difference:  # there is nothing to judge by
        return each
    deviations = np.where(defined, resampled - resampled[defined].mean(), 0.0)
    return replace(each, records=undefined._replace(variance=variance), deviations=deviations)


def _degrees(name: str, groups: tuple[int, int]) -> int:
    """Degrees of freedom: a metric to which all records add alike is judged by all groups."""
    return max(1, groups[0 if MEASURES[name].share_of == "groups" else 1] - 1)


def independent(
    before: Mapping[str, Any], after: Mapping[str, Any], parameters: Compare
) -> list[Difference]:
    """The differences of stored values, as of independent samples, from the contents of two metrics
    files. Means over other classes are not compared: that difference is undefined. Call it only where
    :func:`too_few_groups` sees no obstacle; files from before groups were counted have records alone."""
    old, new = (
        {
            row["metric"]: _with_error(row, metrics["about"][0]["confidence"])
            for row in metrics["metrics"]
        }
        for metrics in (before, after)
    )
    sizes = [_sizes(metrics) for metrics in (before, after)]
    fewest = min(each[0] for each in sizes), min(each[1] for each in sizes)
    return [
        Difference(
            name,
            old[name][0],
            new[name][0],
            Error(
                old[name][1] ** 2 + new[name][1] ** 2
                if _parts_with(before, name) == _parts_with(after, name)
                else math.nan,
                _degrees(name, fewest),
            ),
        )
        for name in parameters.metrics
        if name in old and name in new
    ]


def _parts_with(metrics: Mapping[str, Any], name: str) -> list[Any]:
    """Return the classes (or sections) that have a metric."""
    return [next(iter(part.values())) for part in metrics["parts"] if part.get(name) is not None]


def _sizes(metrics: Mapping[str, Any]) -> tuple[int, int]:
    """Return how many groups (or records) a metrics file is of, and how many have the rarest class."""
    about = metrics["about"][0]
    if "groups" in about:
        return about["groups"], about["groups_of_a_kind"]
    records = about["records"]
    rarest = [
        min(part["positives"], records - part["positives"])
        for part in metrics["parts"]
        if 0 < part.get("positives", 0) < records
    ]
    return records, min(rarest, default=records)


def _with_error(row: Mapping[str, Any], confidence: float) -> tuple[float, float]:
    """A stored value and its standard error, by its interval; NaN if undefined."""
    value, low, high = (
        math.nan if row[key] is None else row[key] for key in ("value", "low", "high")
    )
    return value, (high - low) / (2 * NormalDist().inv_cdf((1 + confidence) / 2))


def with_seeds(
    each: Difference,
    before: ArrayLike,
    after: ArrayLike,
    are_means: tuple[bool, bool] = (False, False),
) -> Difference:
    """The difference of the means over seeds, with the variance between seeds as a further source.

    `before`, `after`: the metric of each seed. A model with one seed is taken to vary with it as the
    other does; where both have one, the difference is returned as it is. `are_means`: which of the two
    predicts with the mean of its seeds' networks, and so has a metric of its own; it is taken to vary as
    the mean of theirs does.
    """
    sides = [np.array(values, dtype=np.float64, ndmin=1) for values in (before, after)]
    several = [values for values in sides if len(values) > 1]
    if not several:
        return each
    old, new = (
        float(values.mean()) if len(values) > 1 and not is_mean else value
        for values, value, is_mean in zip(sides, (each.before, each.after), are_means, strict=True)
    )
    if len(several) == 2:
        seeds = tuple(error_of_mean(values) for values in several)
    else:
        (values,) = several
        seeds = (Error(float(values.var(ddof=1)) * (1 + 1 / len(values)), len(values) - 1),)
    return replace(each, before=old, after=new, seeds=seeds)


def error_of_mean(values: Array) -> Error:
    """The variance of the mean of at least two values."""
    return Error(float(values.var(ddof=1)) / len(values), len(values) - 1)


class Simultaneous(NamedTuple):
    """A difference's interval, which holds together with all of its family, and its adjusted p-value.
    The interval ends where differences do: every metric lies between 0 and 1."""

    low: float
    high: float
    p_value: float


def simultaneous(family: Sequence[Difference], confidence: float, seed: int) -> list[Simultaneous]:
    """The intervals and p-values of a family of differences. What is undefined stays NaN and does not
    count."""
    tested = [each for each in family if each.standard_error > 0]
    smallest = _smallest_p_values(tested, seed) if tested else np.linspace(0, 1, DRAWS)
    # The p-value from which on an adjusted one is no longer below 1 - confidence.
    place = math.ceil((1 - confidence) * (DRAWS + 1)) - 1
    level = float(smallest[place - 1]) if place > 0 else 0.0
    rows = []
    for each in family:
        p_value, reach = each.p_value, each.reach(level)
        rank = 1 + int(np.searchsorted(smallest, p_value, side="right"))
        adjusted = math.nan if math.isnan(p_value) else rank / (DRAWS + 1)
        low, high = np.clip([each.difference - reach, each.difference + reach], -1, 1).tolist()
        rows.append(Simultaneous(low, high, adjusted))
    return rows


def _smallest_p_values(tested: Sequence[Difference], seed: int) -> Array:
    """The smallest p-value of a family in which nothing differs, drawn DRAWS times, and sorted."""
    from scipy.stats.qmc import MultivariateNormalQMC  # here: it takes as long as all other imports

    resamples = max(
        (len(each.deviations) for each in tested if each.deviations is not None), default=1
    )
    columns = np.zeros((resamples, len(tested)))
    for k, each in enumerate(tested):
        if each.deviations is not None and each.records.variance > 0:
            # The rows are the same resamples wherever the test records are the same; elsewhere rows have
            # nothing to do with each other. What seeds add is taken to be uncorrelated, which costs a
            # little power and no error.
            columns[:, k] = each.deviations / np.linalg.norm(each.deviations)
            columns[:, k] *= math.sqrt(each.records.variance) / each.standard_error
    correlation = columns.T @ columns
    np.fill_diagonal(correlation, 1.0)
    draws = MultivariateNormalQMC(np.zeros(len(tested)), correlation, rng=seed).random(DRAWS)
    return np.sort(2 * ndtr(-np.abs(draws).max(axis=1)))
