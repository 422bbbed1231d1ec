"""Several runs on each side, of other seeds or other splits: what a recipe is worth, not one model.

One run's interval says how sure its score is on other test records; it knows nothing of the luck of its
seed or its split. Here each run is one observation, and the difference of the two means has its interval
from the spread between runs (Welch, Biometrika 34, 1947).
"""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import Any

import numpy as np
from dvc.repo import Repo
from scipy import stats

from beatline.comparing import words
from beatline.comparing.changes import Changes
from beatline.comparing.comparison import COMPARED, ModelComparison, judged
from beatline.comparing.differences import Compare, Difference
from beatline.comparing.revisions import Revision
from beatline.errors import UserError
from beatline.reporting.document import counted

METHOD = (
    "Each run is one observation: intervals and p-values are those of Welch's t, and p-values are "
    "adjusted for {} (Holm 1979). Metrics that all runs share are left out."
)
FEWEST = 2  # runs of a side, for a spread


def compare_runs(
    repo: Repo, before: Sequence[str], after: Sequence[str], parameters: Compare
) -> str:
    """The table for a terminal: each model that all runs have, and whose metrics differ among them.

    Raises UserError for fewer than two runs on a side, for a run that is unknown, or if the runs share
    no model with metrics.
    """
    if min(len(before), len(after)) < FEWEST:
        raise UserError("give at least two runs on each side, separated by commas")
    old, new = ([Revision(repo, name) for name in names] for names in (before, after))
    shared = [pair for pair in new[0].trained if all(each.metrics(*pair) for each in (*old, *new))]
    if not shared:
        raise UserError("no model has metrics with intervals in all of these runs")
    found = [
        (_of(pair, new[0]), each)
        for pair in shared
        for each in _differences(old, new, pair, parameters)
    ]
    rows = judged(found, parameters.confidence)
    parts = [f"mean of {counted(len(old), 'run')} → mean of {counted(len(new), 'run')}", ""]
    for name in dict.fromkeys(words.name(row.of) for row in rows):
        parts += [name, *words.table([row for row in rows if words.name(row.of) == name]), ""]
    return "\n".join([*parts, fill(METHOD.format(counted(len(rows), "comparison")), words.WIDTH)])


def _of(pair: tuple[str, str], run: Revision) -> ModelComparison:
    simulated = (run.metrics(*pair) or {})["simulated"]
    return ModelComparison(*pair, simulated, COMPARED, Changes({}, [], []))


def _differences(
    old: Sequence[Revision], new: Sequence[Revision], pair: tuple[str, str], parameters: Compare
) -> list[Difference]:
    """Of each metric that is not the same in all runs."""
    before, after = _values(old, pair), _values(new, pair)
    return [
        _difference(name, before[name], after[name], parameters.confidence)
        for name in parameters.metrics
        if name in before and name in after and np.ptp([*before[name], *after[name]]) > 0
    ]


def _values(revisions: Sequence[Revision], pair: tuple[str, str]) -> dict[str, np.ndarray]:
    """The values of each metric in all runs; NaN where it is undefined."""
    rows = [
        {row["metric"]: row["value"] for row in (revision.metrics(*pair) or {})["metrics"]}
        for revision in revisions
    ]
    return {
        name: np.array([row.get(name) for row in rows], dtype=np.float64)
        for name in rows[0]
        if all(name in row for row in rows)
    }


def _difference(name: str, before: np.ndarray, after: np.ndarray, confidence: float) -> Difference:
    if np.ptp(before) == np.ptp(after) == 0:  # no spread to judge by
        return Difference(name, before.mean(), after.mean(), np.nan, np.nan, np.nan)
    found: Any = stats.ttest_ind(after, before, equal_var=False)
    interval = found.confidence_interval(confidence)
    return Difference(
        name,
        float(before.mean()),
        float(after.mean()),
        float(interval.low),
        float(interval.high),
        float(found.pvalue),
    )
