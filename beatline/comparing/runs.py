"""Several runs on each side, of other seeds or other splits: what a recipe is worth, not one model.

One run's interval says how sure its score is on other test records; it knows nothing of the variance
between seeds or splits. Here each run is one observation, and the difference of the two means has its
interval from the spread between runs (Welch, Biometrika 34, 1947). Runs that are all tested on the same
records share what their choice has done for one recipe and against another, which no spread between them
shows: the variance over records is added, as in a comparison of two revisions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from textwrap import fill
from typing import Any

import numpy as np
from dvc.repo import Repo

from beatline.common.errors import UserError
from beatline.common.words import counted, spoken
from beatline.comparing import differences, words
from beatline.comparing.changes import Changes, changes
from beatline.comparing.comparison import COMPARED, ModelComparison, judged
from beatline.comparing.differences import Compare, Difference, error_of_mean
from beatline.comparing.revisions import Revision

METHOD = (
    "Each run is one observation: intervals and p-values are those of Welch's t, and hold for {} "
    "together. Where all runs are tested on the same records, the variance over these is added (a paired "
    "bootstrap). Runs on splits of the same records are not independent of each other, "
    "so that their intervals are somewhat too narrow (Nadeau & Bengio 2003). Metrics that all runs "
    "share, or that one lacks, are left out."
)
FEWEST = 2  # runs of a side, for a spread


def compare_runs(
    repo: Repo, before: Sequence[str], after: Sequence[str], parameters: Compare
) -> str:
    """The table for a terminal: each model that all runs have, and whose metrics differ among them.

    Raises UserError for fewer than two runs on a side, for one that is unknown or stands there twice, or
    if the runs share no model with metrics.
    """
    old, new = (_runs(repo, names) for names in (before, after))
    family, standing = [], {}
    for pair in new[0].trained:
        stored = [[run.metrics(*pair) for run in side] for side in (old, new)]
        sides = [[metrics for metrics in side if metrics] for side in stored]
        if all(len(present) == len(side) for present, side in zip(sides, stored, strict=True)):
            first, *others = {metrics["simulated"] for side in sides for metrics in side}
            if others:
                raise UserError(
                    f"{'/'.join(pair)}: some of these runs are of simulated recordings, others of real "
                    f"ones: compare runs of the same kind"
                )
            model = ModelComparison(*pair, first, COMPARED, Changes({}, [], []))
            of_records, standing[words.name(model)] = _of_records(old, new, pair, parameters)
            found = _differences(sides[0], sides[1], parameters, of_records)
            family += [(model, each) for each in found]
    if not family:
        raise UserError("these runs have no model in common whose metrics differ")
    rows = judged(family, parameters)
    parts = [f"mean of {counted(len(old), 'run')} → mean of {counted(len(new), 'run')}", ""]
    for name in dict.fromkeys(words.name(row.model) for row in rows):
        parts.append(fill(f"{name}: {standing[name]}", words.WIDTH))
        parts += [*words.table([row for row in rows if words.name(row.model) == name]), ""]
    return "\n".join([*parts, fill(METHOD.format(counted(len(rows), "comparison")), words.WIDTH)])


def _runs(repo: Repo, names: Sequence[str]) -> list[Revision]:
    runs = [Revision(repo, name) for name in names]
    if len(runs) < FEWEST:
        raise UserError("give at least two runs on each side, separated by commas")
    if len({run.commit for run in runs}) < len(runs):
        raise UserError(f"a run stands twice among {', '.join(names)}: it is one observation")
    return runs


def _of_records(
    old: Sequence[Revision], new: Sequence[Revision], pair: tuple[str, str], parameters: Compare
) -> tuple[dict[str, Difference], str]:
    """Return the difference of each metric with its variance over records, where all runs have the same
    ones and their predictions are at hand; and in words which records they are tested on."""
    first, *others = runs = [*old, *new]
    tested = {(run.metrics(*pair) or {})["about"][0]["test_records"] for run in runs}
    made = first.made(*pair)
    if len(tested) > 1 or any(changes(made, run.made(*pair)).simulation for run in others):
        return {}, "not all on the same test records, so that their choice is in the spread of runs"
    predictions = [run.predictions(*pair) for run in runs]
    known = [each for each in predictions if each]
    missing = [run.label for run, each in zip(runs, predictions, strict=True) if not each]
    reason = f"the predictions of {spoken(missing)} are not at hand" if missing else ""
    obstacles = [] if missing else [differences.obstacle(known[0], each) for each in known[1:]]
    if obstacle := next(filter(None, obstacles), None):
        reason = obstacle.words
    if reason:
        return {}, (
            f"of these test records only, whose choice is not in the intervals: on others a recipe may "
            f"be better that is worse here ({reason})"
        )
    count, max_fpr = len(old), new[0].params["evaluate"]["max_fpr"]
    found = differences.paired_means(known[:count], known[count:], parameters, max_fpr)
    return {each.metric: each for each in found}, "the same test records, by records and runs"


def _differences(
    old: Sequence[Mapping[str, Any]],
    new: Sequence[Mapping[str, Any]],
    parameters: Compare,
    of_records: Mapping[str, Difference],
) -> list[Difference]:
    """Return the difference of each metric that is not the same in all runs, from their metrics files."""
    before, after = _values(old), _values(new)
    return [
        _difference(name, before[name], after[name], of_records.get(name))
        for name in parameters.metrics
        if name in before and name in after and np.ptp([*before[name], *after[name]]) > 0
    ]


def _values(stored: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """The values of each metric that all runs have."""
    rows = [{row["metric"]: row["value"] for row in metrics["metrics"]} for metrics in stored]
    return {
        name: np.array([row[name] for row in rows], dtype=np.float64)
        for name in rows[0]
        if all(row.get(name) is not None for row in rows)
    }


def _difference(
    name: str, before: np.ndarray, after: np.ndarray, of_records: Difference | None
) -> Difference:
    """The difference of means, which is undefined if there is no spread to judge by."""
    errors = error_of_mean(before), error_of_mean(after)
    means = float(before.mean()), float(after.mean())
    if of_records is None:
        return Difference(name, *means, errors[0], errors[1:])
    return replace(of_records, before=means[0], after=means[1], seeds=errors)
