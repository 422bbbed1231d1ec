"""Results that are other than the committed ones, though they were made of the same inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from beatline.common.words import counted, spoken
from beatline.comparing import words
from beatline.comparing.comparison import BETTER, WORSE, Comparison
from beatline.comparing.revisions import Revision


def other_results(comparison: Comparison) -> list[str]:
    """Sentences on models whose metrics are other than before, while code, data and parameters of their
    training are the same; none if there is no such model."""
    before, after = comparison.before, comparison.after
    both = [pair for pair in after.trained if pair in before.trained]
    other = [pair for pair in both if _is_other(before, after, *pair)]
    if not other:
        return []
    beyond = [
        f"{words.name(row.model)} is {row.verdict} in {row.difference.metric}"
        for row in comparison.rows
        if row.verdict in (BETTER, WORSE) and (row.model.dataset, row.model.model) in other
    ]
    return [
        f"{counted(len(other), 'model')} of {len(both)} came out other than in the commit, from the same "
        "data, code and parameters: another processor, or another build of a library, gives other last "
        f"digits. {f'Beyond chance: {spoken(beyond)}' if beyond else 'No difference is beyond chance'}; "
        "`make compare BASE=HEAD` shows each.",
        "To keep yours, commit dvc.lock and reports/; to go back to those of the commit, `git checkout "
        "HEAD -- dvc.lock reports`. Nothing is trained again either way.",
    ]


def _is_other(before: Revision, after: Revision, dataset: str, model: str) -> bool:
    path = f"reports/metrics/{dataset}/{model}.json"
    if before.content(path) == after.content(path):
        return False
    return all(
        _given(before.stages.get(stage)) == _given(after.stages.get(stage))
        for stage in (f"train_{model}@{dataset}", f"evaluate_{model}@{dataset}")
    )


def _given(entry: Mapping[str, Any] | None) -> Any:
    """Command, parameters, and code and data, of what a stage has read; not what other stages trained."""
    if entry is None:
        return None
    deps = [dep for dep in entry["deps"] if not dep["path"].startswith("data/models")]
    return entry["cmd"], entry.get("params"), deps
