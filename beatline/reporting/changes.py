"""What has changed since the last commit: the metrics of each model as they are in Git, and now."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from beatline.common.files import read_json
from beatline.common.words import counted, spoken
from beatline.lineage import code
from beatline.reporting.document import METRICS, fill, number, text
from beatline.reporting.results import DatasetResults

FOLDER = "reports/metrics"
SPLIT = "split"  # the name of a file there that is of no model


@dataclass(frozen=True)
class Committed:
    """Metrics in the commit `revision`, by data set and model; None for a file that is not read here,
    such as one of an older form."""

    revision: str
    metrics: Mapping[tuple[str, str], Mapping[str, Any] | None]


def committed() -> Committed | None:
    """Return the metrics in the last commit; None without Git, or in a repository without a commit."""
    revision, paths = code.committed_below(FOLDER)
    if revision is None:
        return None
    metrics = {}
    for path in paths:
        *_, dataset, name = Path(path).parts
        if name.endswith(".json") and (model := name.removesuffix(".json")) != SPLIT:
            metrics[dataset, model] = _read(code.committed(path))
    return Committed(revision, metrics)


def _read(content: str | None) -> Mapping[str, Any] | None:
    try:
        found = json.loads(content or "")
        return found if isinstance(found["metrics"], list) else None
    except (ValueError, KeyError, TypeError):
        return None


def since(before: Committed, datasets: Sequence[DatasetResults], root: Path) -> str:
    """Return a paragraph on what has changed since a commit, as Markdown: the main metric of each model
    whose metrics differ, in the order of `datasets`, those that are new and those that are no more."""
    main = {
        (results.name, model.model): results.main_metric
        for results in datasets
        for model in results.models
    }
    now = {key: read_json(root / FOLDER / f"{'/'.join(key)}.json") for key in main}
    changed = {
        key: ", ".join(_changes(before.metrics[key], now[key], main[key]))
        for key in main
        if key in before.metrics
    }
    same = sum(not change for change in changed.values())
    return fill(
        "since",
        revision=before.revision,
        changed=[f"{_name(key)}: {change}" for key, change in changed.items() if change],
        new=spoken([_name(key) for key in main if key not in before.metrics]),
        gone=spoken([_name(key) for key in before.metrics if key not in main]),
        same=counted(same, "model") if same else "",
    )


def _name(key: tuple[str, str]) -> str:
    return text("/".join(key))


def _changes(before: Mapping[str, Any] | None, now: Mapping[str, Any], main: str) -> Iterator[str]:
    """What differs between two files of metrics, in words."""
    if before is None:
        yield "its metrics were of an older form"
        return
    values = [{row["metric"]: row for row in each["metrics"]} for each in (before, now)]
    if values[0] == values[1]:
        return
    rows = [each.get(main, {}).get("value") for each in values]
    if rows[0] != rows[1]:
        yield f"{METRICS[main]} {number(rows[0])} → {number(rows[1])}"
    else:
        yield f"{METRICS[main]} {number(rows[1])} as before, other metrics not"
    records = [each.get("about", [{}])[0].get("test_records") for each in (before, now)]
    if records[0] != records[1]:
        yield "other test records"
