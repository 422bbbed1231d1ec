"""Two revisions, model by model: what changed, by how much each metric, the verdicts and the outcome.

Metrics that have a tolerance decide the outcome, and are a family of comparisons of their own. All others
are a second family, so that however many there are, they hide nothing in the first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, NamedTuple

from scipy.special import stdtrit
from tqdm import tqdm

from beatline.comparing import differences
from beatline.comparing.changes import Changes, changes
from beatline.comparing.differences import Compare, Difference, Obstacle
from beatline.comparing.revisions import Revision
from beatline.evaluation.measures import MEASURES
from beatline.evaluation.predictions import Predictions

NEW, REMOVED, UNCHANGED = "new", "removed", "unchanged"
COMPARED, NOT_COMPARABLE = "compared", "not comparable"
BETTER, WORSE, SAME = "better", "worse", "no evidence of a difference"
UNDEFINED = "undefined"
PASSED, FAILED, CANNOT_TELL = "passed", "failed", "cannot tell"
POWER = 0.8  # with which a loss is shown that "could be shown"


@dataclass(frozen=True)
class ModelComparison:
    """A model on a data set, before and after.

    `status` is one of the words above; `reason` says why it is not comparable, or not compared record by
    record. `parts`: the differences of each class or section. `predictions`: of both, if they are at hand
    and of the same records; `same_records`: whether they are. `seeds`: how many networks stand behind the
    numbers before and after.
    """

    dataset: str
    model: str
    simulated: bool
    status: str
    changes: Changes
    reason: str = ""
    differences: list[Difference] = field(default_factory=list)
    parts: dict[str, list[Difference]] = field(default_factory=dict)
    predictions: tuple[Predictions, Predictions] | None = None
    same_records: bool = True
    seeds: tuple[int, int] = (1, 1)

    @property
    def name(self) -> str:
        return f"{self.dataset} {self.model}"


@dataclass(frozen=True)
class Row:
    """A difference of one of the models and what is said of it: the interval `low` to `high` and the
    p-value `adjusted`, both of its family; a verdict. `tolerance`: None if the gate does not watch it."""

    model: ModelComparison
    difference: Difference
    low: float
    high: float
    adjusted: float
    verdict: str
    tolerance: float | None

    @property
    def margin(self) -> float:
        """How far the worst that the interval holds is from what is tolerated; negative if beyond."""
        worst = -self.high if MEASURES[self.difference.metric].lower_is_better else self.low
        return worst + (self.tolerance or 0.0)

    @property
    def outcome(self) -> str:
        """Passed if the interval lies within the tolerance; failed if this is worse by more than the
        tolerance, and the interval leaves out zero."""
        if self.margin >= 0:
            return PASSED
        beyond = -self.difference.gain > (self.tolerance or 0.0)
        return FAILED if self.verdict == WORSE and beyond else CANNOT_TELL

    @property
    def distance(self) -> float:
        """The value's distance to the loss that is tolerated, in standard errors: the row with the lowest
        is the one that decides."""
        error = self.difference.standard_error
        return (self.difference.gain + (self.tolerance or 0.0)) / error if error > 0 else math.inf

    @property
    def could_show(self) -> float:
        """The smallest true loss with which four of five such comparisons would fail; of a metric that is
        the same in every resample, the largest that its records leave open. NaN if undefined."""
        each = self.difference
        reach = max(self.high - each.difference, each.difference - self.low)
        error = each.standard_error
        beyond = float(stdtrit(each.degrees, POWER)) * error if error > 0 else error
        return max(reach, self.tolerance or 0.0) + beyond

    @property
    def could_show_none(self) -> bool:
        """Whether that loss is more than all that the base has, so that no loss could be shown."""
        higher = not MEASURES[self.difference.metric].lower_is_better
        return higher and self.could_show > self.difference.before


@dataclass(frozen=True)
class Comparison:
    """`before` and `after`, and every model that one of them has."""

    before: Revision
    after: Revision
    parameters: Compare
    models: list[ModelComparison]

    @cached_property
    def rows(self) -> list[Row]:
        """Every difference with what is said of it."""
        family = [(model, each) for model in self.models for each in model.differences]
        return judged(family, self.parameters)

    @property
    def watched(self) -> list[Row]:
        """The rows that decide, the one nearest to failing first."""
        rows = [row for row in self.rows if row.tolerance is not None]
        order = {FAILED: 0, CANNOT_TELL: 1, PASSED: 2}
        return sorted(rows, key=lambda row: (order[row.outcome], row.distance))

    @property
    def not_judged(self) -> list[ModelComparison]:
        """The models that were there before, and of which nothing can be said."""
        return [model for model in self.models if model.status in (NOT_COMPARABLE, REMOVED)]

    @property
    def outcome(self) -> str:
        """Failed if one row has; otherwise it cannot be told if that is so of a row or a model."""
        outcomes = {row.outcome for row in self.watched}
        if FAILED in outcomes:
            return FAILED
        return CANNOT_TELL if CANNOT_TELL in outcomes or self.not_judged else PASSED


def judged(
    differences_of: Sequence[tuple[ModelComparison, Difference]], parameters: Compare
) -> list[Row]:
    """A row for each difference, in their order. Those with a tolerance are one family, and those without
    another."""
    rows: dict[int, Row] = {}
    for watched in (True, False):
        family = [
            (number, *pair)
            for number, pair in enumerate(differences_of)
            if (pair[1].metric in parameters.tolerance) == watched
        ]
        results = differences.simultaneous(
            [each for *_, each in family], parameters.confidence, parameters.seed
        )
        for (number, model, each), result in zip(family, results, strict=True):
            verdict = _verdict(each, result.p_value, 1 - parameters.confidence)
            rows[number] = Row(model, each, *result, verdict, parameters.tolerance.get(each.metric))
    return [rows[number] for number in range(len(differences_of))]


def _verdict(each: Difference, adjusted: float, level: float) -> str:
    if math.isnan(adjusted):
        return UNDEFINED
    if adjusted >= level:
        return SAME
    return BETTER if each.gain > 0 else WORSE


def compare(
    old: Revision, new: Revision, parameters: Compare, *, other_records: bool = False
) -> Comparison:
    """Compare two revisions. Nothing is trained.

    `other_records`: take models that were tested on other records as independent samples, instead of
    calling them not comparable. Raises UserError if a revision is no state of this project.
    """
    pairs = list(dict.fromkeys([*new.trained, *old.trained]))
    shown = tqdm(pairs, desc="compare", unit=" models", mininterval=10, delay=10)
    models = [_compared(old, new, pair, parameters, other_records) for pair in shown]
    return Comparison(old, new, parameters, models)


def _compared(
    old: Revision,
    new: Revision,
    pair: tuple[str, str],
    parameters: Compare,
    other_records: bool,
) -> ModelComparison:
    stored = [metrics for revision in (old, new) if (metrics := revision.metrics(*pair))]
    made = changes(old.made(*pair), new.made(*pair))
    compared_as = partial(
        ModelComparison,
        *pair,
        simulated=bool(stored) and all(metrics["simulated"] for metrics in stored),
        changes=made,
    )
    if pair not in old.trained or pair not in new.trained:
        return compared_as(status=NEW if pair in new.trained else REMOVED)
    if len(stored) == 2 and len(_about(stored, "predictions")) == 1:
        return compared_as(status=UNCHANGED)
    before, after = old.predictions(*pair), new.predictions(*pair)
    if before and after and before.table.equals(after.table):
        return compared_as(status=UNCHANGED)
    obstacle = _other_source(stored) or _obstacle(stored, before, after)
    if not obstacle and all(metrics["simulated"] for metrics in stored) and made.simulation:
        obstacle = Obstacle(f"other test records, simulated anew: {made.simulation}", True)
    seeds = [_seeds(metrics) for metrics in stored] if len(stored) == 2 else [_Seeds([])] * 2
    compared_as = partial(compared_as, seeds=tuple(max(1, len(each.rows)) for each in seeds))
    if before and after and not obstacle:
        max_fpr = new.params["evaluate"]["max_fpr"]
        overall, parts = differences.paired(before, after, parameters, max_fpr)
        return compared_as(
            status=COMPARED,
            differences=[_with_seeds(each, seeds) for each in overall],
            parts=parts,
            predictions=(before, after),
        )
    if obstacle and not (obstacle.as_samples and other_records and len(stored) == 2):
        return compared_as(status=NOT_COMPARABLE, reason=obstacle.words)
    without = [each.label for each, predictions in ((old, before), (new, after)) if not predictions]
    absent = f"the predictions of {' and '.join(without)} are not at hand"
    apart = differences.independent(stored[0], stored[1], parameters)
    return compared_as(
        status=COMPARED,
        reason=obstacle.words if obstacle else absent,
        same_records=not obstacle,
        differences=[_with_seeds(each, seeds) for each in apart],
    )


class _Seeds(NamedTuple):
    """The metrics of each seed. `is_mean`: of networks whose mean the model is."""

    rows: list[dict[str, Any]]
    is_mean: bool = False


def _seeds(metrics: Mapping[str, Any]) -> _Seeds:
    """Return the seeds that a metrics file lists."""
    if members := metrics.get("members"):
        return _Seeds(members, is_mean=True)
    return _Seeds(metrics.get("seeds", []))


def _with_seeds(each: Difference, seeds: Sequence[_Seeds]) -> Difference:
    """The difference with the seeds of both sides."""
    before, after = (
        [row[each.metric] for row in side.rows if row.get(each.metric) is not None]
        for side in seeds
    )
    old, new = seeds
    return differences.with_seeds(each, before, after, (old.is_mean, new.is_mean))


def _other_source(stored: list[dict[str, Any]]) -> Obstacle | None:
    """Return the obstacle that only one side's recordings are simulated."""
    if len(stored) < 2 or stored[0]["simulated"] == stored[1]["simulated"]:
        return None
    before, after = ("simulated" if metrics["simulated"] else "real" for metrics in stored)
    return Obstacle(f"{before} → {after}: not the same records", False)


def _obstacle(
    stored: list[dict[str, Any]], before: Predictions | None, after: Predictions | None
) -> Obstacle | None:
    """Return the obstacle to a comparison, by the predictions or, without them, by the metrics files."""
    if before and after:
        return differences.obstacle(before, after)
    if len(stored) < 2:
        words = "neither predictions nor metrics with intervals are at hand on both sides"
        return Obstacle(words, False)
    for key in ("task", "classes"):
        if len(values := _about(stored, key)) > 1:
            return Obstacle(f"other {key} ({values[0]} before, {values[1]} after)", False)
    counted = [about["groups"] for each in stored if "groups" in (about := each["about"][0])]
    if counted and (few := differences.too_few_groups(min(counted))):
        return few
    same = len(_about(stored, "test_records")) == 1
    return None if same else Obstacle("other test records", True)


def _about(stored: list[dict[str, Any]], key: str) -> list[Any]:
    """Return the values of a key in the section `about` of metrics files, each once."""
    return list(dict.fromkeys(metrics["about"][0][key] for metrics in stored))
