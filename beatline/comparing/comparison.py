"""Two revisions, model by model: what changed, by how much each metric, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

from tqdm import tqdm

from beatline.comparing import differences
from beatline.comparing.changes import Changes, changes
from beatline.comparing.differences import Compare, Difference, Obstacle
from beatline.comparing.revisions import Revision
from beatline.evaluation.predictions import Predictions

NEW, REMOVED, UNCHANGED = "new", "removed", "unchanged"
COMPARED, NOT_COMPARABLE = "compared", "not comparable"


@dataclass(frozen=True)
class ModelComparison:
    """A model on a data set, before and after.

    `status` is one of the words above; `reason` says why it is not comparable, or not compared record by
    record. `parts`: the differences of each class or section. `predictions`: of both, if they are at hand
    and of the same records.
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

    @property
    def name(self) -> str:
        return f"{self.dataset} {self.model}"


@dataclass(frozen=True)
class Row:
    """A difference of one of the models with its verdict. `adjusted`: the p-value among all of them."""

    model: ModelComparison
    difference: Difference
    adjusted: float
    verdict: str


@dataclass(frozen=True)
class Comparison:
    """`before` and `after`, and every model that one of them has."""

    before: Revision
    after: Revision
    parameters: Compare
    models: list[ModelComparison]

    @cached_property
    def rows(self) -> list[Row]:
        """Every difference with its verdict, all of them taken as one family of comparisons."""
        family = [(model, each) for model in self.models for each in model.differences]
        return judged(family, self.parameters.confidence)

    @cached_property
    def watched(self) -> list[Row]:
        """The metrics that the gate watches, a family of their own."""
        tolerance = self.parameters.tolerance
        watched = [row for row in self.rows if row.difference.metric in tolerance]
        family = [(row.model, row.difference) for row in watched]
        return judged(family, self.parameters.confidence)

    @property
    def failures(self) -> list[Row]:
        """The rows that close the gate: worse by more than the tolerance, and by more than chance."""
        return [
            row
            for row in self.watched
            if row.verdict == differences.WORSE
            and -row.difference.gain > self.parameters.tolerance[row.difference.metric]
        ]

    @property
    def not_judged(self) -> list[str]:
        """Models, and metrics of models, that the gate cannot judge."""
        names = [model.name for model in self.models if model.status in (NOT_COMPARABLE, REMOVED)]
        return names + [
            f"{row.model.name} in {row.difference.metric}"
            for row in self.watched
            if row.verdict == differences.UNDEFINED
        ]


def judged(family: Sequence[tuple[ModelComparison, Difference]], confidence: float) -> list[Row]:
    """Each difference with its verdict, which knows of all comparisons of the family."""
    adjusted = differences.holm([each.p_value for _, each in family])
    return [
        Row(model, each, value, each.verdict(value, confidence))
        for (model, each), value in zip(family, adjusted, strict=True)
    ]


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
    compared_as = partial(
        ModelComparison,
        *pair,
        simulated=any(metrics["simulated"] for metrics in stored),
        changes=changes(old.made(*pair), new.made(*pair)),
    )
    if pair not in old.trained or pair not in new.trained:
        return compared_as(status=NEW if pair in new.trained else REMOVED)
    if len(stored) == 2 and len(_about(stored, "predictions")) == 1:
        return compared_as(status=UNCHANGED)
    before, after = old.predictions(*pair), new.predictions(*pair)
    if before and after and before.table.equals(after.table):
        return compared_as(status=UNCHANGED)
    obstacle = _obstacle(stored, before, after)
    if before and after and not obstacle:
        max_fpr = new.params["evaluate"]["max_fpr"]
        overall, parts = differences.paired(before, after, parameters, max_fpr)
        both = before, after
        return compared_as(status=COMPARED, differences=overall, parts=parts, predictions=both)
    if obstacle and not (obstacle.as_samples and other_records and len(stored) == 2):
        return compared_as(status=NOT_COMPARABLE, reason=obstacle.words)
    without = [each.label for each, predictions in ((old, before), (new, after)) if not predictions]
    absent = f"the predictions of {' and '.join(without)} are not at hand"
    return compared_as(
        status=COMPARED,
        reason=obstacle.words if obstacle else absent,
        differences=differences.independent(stored[0], stored[1], parameters),
    )


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
    same = len(_about(stored, "test_records")) == 1
    return None if same else Obstacle("other test records", True)


def _about(stored: list[dict[str, Any]], key: str) -> list[Any]:
    """Return the values of a key in the section `about` of metrics files, each once."""
    return list(dict.fromkeys(metrics["about"][0][key] for metrics in stored))
