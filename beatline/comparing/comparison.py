"""Two revisions, model by model: what changed, by how much each metric, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from dvc.repo import Repo
from tqdm import tqdm

from beatline.comparing import differences
from beatline.comparing.changes import Changes, changes
from beatline.comparing.differences import Compare, Difference, Predictions
from beatline.comparing.revisions import Revision

NEW, REMOVED, UNCHANGED = "new", "removed", "unchanged"
COMPARED, NOT_COMPARABLE = "compared", "not comparable"


@dataclass(frozen=True)
class ModelComparison:
    """A model on a data set, before and after.

    `status` is one of the words above; `why` says why it is not comparable, or not compared record by
    record. `parts`: the differences of each class or section. `answers`: of both, if
    they are at hand and of the same records.
    """

    dataset: str
    model: str
    simulated: bool
    status: str
    changes: Changes
    why: str = ""
    differences: list[Difference] = field(default_factory=list)
    parts: dict[str, list[Difference]] = field(default_factory=dict)
    answers: tuple[Predictions, Predictions] | None = None

    @property
    def name(self) -> str:
        return f"{self.dataset} {self.model}"


@dataclass(frozen=True)
class Row:
    """A difference of one of the models with its verdict. `adjusted`: the p-value among all of them."""

    of: ModelComparison
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

    @property
    def rows(self) -> list[Row]:
        """Every difference with its verdict, all of them taken as one family of comparisons."""
        return self._judged([(one, each) for one in self.models for each in one.differences])

    @property
    def watched(self) -> list[Row]:
        """The metrics that the gate watches, a family of their own."""
        return self._judged(
            [
                (one, each)
                for one in self.models
                for each in one.differences
                if each.metric in self.parameters.tolerance
            ]
        )

    @property
    def failures(self) -> list[Row]:
        """What closes the gate: worse by more than its tolerance, and by more than chance."""
        return [
            row
            for row in self.watched
            if row.verdict == differences.WORSE
            and -row.difference.gain > self.parameters.tolerance[row.difference.metric]
        ]

    def _judged(self, family: list[tuple[ModelComparison, Difference]]) -> list[Row]:
        return judged(family, self.parameters.confidence)


def judged(family: Sequence[tuple[ModelComparison, Difference]], confidence: float) -> list[Row]:
    """Each difference with its verdict, which knows of all comparisons of the family."""
    adjusted = differences.holm([each.p_value for _, each in family])
    return [
        Row(one, each, value, each.verdict(value, confidence))
        for (one, each), value in zip(family, adjusted, strict=True)
    ]


def compare(
    repo: Repo, before: str, after: str, parameters: Compare, *, other_records: bool = False
) -> Comparison:
    """Compare the revisions `before` and `after`, which Git or DVC know by name, or the workspace.

    `other_records`: take models that were tested on other records as independent samples, instead of
    calling them not comparable. Nothing is trained. Raises UserError for a revision that is unknown or
    is no state of this project.
    """
    old, new = Revision(repo, before), Revision(repo, after)
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
    of_model = partial(
        ModelComparison,
        *pair,
        simulated=any(metrics["simulated"] for metrics in stored),
        changes=changes(old.made(*pair), new.made(*pair)),
    )
    if pair not in old.trained or pair not in new.trained:
        return of_model(status=NEW if pair in new.trained else REMOVED)
    before, after = old.predictions(*pair), new.predictions(*pair)
    if len(stored) == 2 and len(_told(stored, "predictions")) == 1:
        return of_model(status=UNCHANGED)
    if before and after:
        if before.table.equals(after.table):
            return of_model(status=UNCHANGED)
        why = differences.obstacle(before, after)
        if not why:
            max_fpr = new.params["evaluate"]["max_fpr"]
            overall, parts = differences.paired(before, after, parameters, max_fpr)
            return of_model(
                status=COMPARED, differences=overall, parts=parts, answers=(before, after)
            )
    else:
        why = _obstacle_of_stored(stored)
    if len(stored) < 2 or (why and not other_records):
        return of_model(status=NOT_COMPARABLE, why=why)
    without = [each.label for each, found in ((old, before), (new, after)) if not found]
    return of_model(
        status=COMPARED,
        why=why or f"the predictions of {' and '.join(without)} are not at hand",
        differences=_of_stored(stored, parameters),
    )


def _told(stored: list[dict[str, Any]], key: str) -> list[str]:
    """What metrics files say about themselves, each thing once."""
    return list(dict.fromkeys(metrics["about"][0][key] for metrics in stored))


def _obstacle_of_stored(stored: list[dict[str, Any]]) -> str:
    """Why what metrics files hold cannot be compared; empty if it can."""
    if len(stored) < 2:
        return "neither predictions nor metrics with intervals are at hand on both sides"
    for key in ("task", "classes"):
        if len(told := _told(stored, key)) > 1:
            return f"other {key} ({told[0]} before, {told[1]} after)"
    return "other test records" if len(_told(stored, "test_records")) > 1 else ""


def _of_stored(stored: list[dict[str, Any]], parameters: Compare) -> list[Difference]:
    confidences = [metrics["about"][0]["confidence"] for metrics in stored]
    before, after = (metrics["metrics"] for metrics in stored)
    return differences.independent(before, after, (confidences[0], confidences[1]), parameters)
