"""What has changed since the last commit, for the report's page.

The page depends on what the stages have made, and on no commit: the same results give the same page. So
what is new in them stands in a script beside it, which the page shows if it tells of the same results.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from beatline.common.files import replacing
from beatline.common.words import spoken
from beatline.comparing import words
from beatline.comparing.comparison import BETTER, SAME, UNCHANGED, WORSE, Comparison
from beatline.comparing.revisions import Revision
from beatline.reporting.page import CHANGES, REPORT_PAGE, RESULTS


def write(reports: Path, before: Revision, comparison: Comparison | None) -> None:
    """Write the script in the folder `reports`, if its page is there. `comparison`: of the workspace with
    the commit `before`; None if no metric is another."""
    if comparison is None:
        _write(reports, before, "Every metric is as it was.", [])
        return
    lines = [words.summary(comparison)[0], *_lines(comparison)]
    _write(reports, before, f"{words.decision(comparison)[0]}.", lines)


def write_reason(reports: Path, before: Revision, reason: str) -> None:
    """Write why nothing can be compared with the commit `before`."""
    _write(reports, before, f"Not compared: {reason}.", [])


def _write(reports: Path, before: Revision, first: str, lines: list[str]) -> None:
    try:
        results = re.search(rf'<meta name="{RESULTS}" content="(\w+)">', _head(reports))
    except OSError:
        return
    content = {
        "results": results[1] if results else "",
        "title": f"Since the last commit, {before.shown_commit[:7]}",
        "first": first,
        "lines": lines,
    }
    with replacing(reports / CHANGES) as beside:
        beside.write_text(f"const changes = {json.dumps(content)};\n", encoding="utf-8")


def _head(reports: Path) -> str:
    with (reports / REPORT_PAGE).open(encoding="utf-8") as file:
        return file.read(1000)


def _lines(comparison: Comparison) -> list[str]:
    """A line for each metric that is better or worse, for each model that was not compared, and one for
    the models of whose metrics nothing can be said."""
    told = [row for row in comparison.rows if row.verdict in (BETTER, WORSE)]
    silent = [
        model.name
        for model in comparison.models
        if model.differences and not any(row.model is model for row in told)
    ]
    return [
        *(
            f"{words.name(row.model)}: {row.difference.metric} {row.verdict}, "
            f"{words.value(row.difference.before)} → {words.value(row.difference.after)} "
            f"({words.interval(row.difference.difference, row.low, row.high)})"
            for row in told
        ),
        *(
            f"{words.name(model)}: {words.standing(model)}"
            for model in comparison.models
            if model.status != UNCHANGED and not model.differences
        ),
        *([f"{SAME.capitalize()}: {spoken(silent)}"] if silent else []),
    ]
