"""The leaderboard as one HTML file: a table to sort, with the Pareto front marked, nothing fetched."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from beatline.comparing.leaderboard import COSTS, Entry, Leaderboard
from beatline.reporting.document import DASH
from beatline.reporting.page import STYLE

METRICS = {
    "auc": "AUC",
    "pauc": "pAUC",
    "average_precision": "average precision",
    "f1": "F1",
    "accuracy": "accuracy",
    "brier": "Brier score",
}
COST_NAMES = dict(zip(COSTS, ("parameters", "training (s)", "prediction (ms)"), strict=True))


def page(board: Leaderboard) -> str:
    """The HTML file."""
    measured = {metric for entry in board.entries for metric in entry.metrics}
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
    )
    for function in (short, interval, difference, everything):
        templates.filters[function.__name__] = function
    return templates.get_template("leaderboard.html.j2").render(
        board=board,
        metrics={metric: name for metric, name in METRICS.items() if metric in measured},
        costs=COST_NAMES,
        sets={"": "all", **{entry.dataset: entry.dataset for entry in board.entries}},
        simulated=sorted({entry.dataset for entry in board.entries if entry.simulated}),
        style=STYLE,
        DASH=DASH,
    )


def interval(row: Mapping[str, float | None]) -> str:
    """`[0.915, 0.938]`; nothing of a metric that is not defined."""
    if row["value"] is None:
        return ""
    low, high = (DASH if row[end] is None else f"{row[end]:.3f}" for end in ("low", "high"))
    return f"[{low}, {high}]"


def difference(entry: Entry) -> str:
    """In which of its parameters, and in what else, it differs from the workspace."""
    own = f"train.{entry.model}.{entry.dataset}."
    parameters = entry.differing.parameters.items()
    facts = [f"{key.removeprefix(own)} {after}" for key, (_, after) in parameters]
    facts += [f"other {kind}" for kind in ("code", "data") if getattr(entry.differing, kind)]
    return ", ".join(facts) or "as the workspace"


def everything(entry: Entry) -> str:
    """All differences and parameters, a line each."""
    own = f"train.{entry.model}.{entry.dataset}."
    parameters = [f"{own}{key}: {value}" for key, value in entry.parameters.items()]
    return "\n".join([*entry.differing.sentences, *parameters])


def short(revision: str) -> str:
    """A commit's first digits; any other name as it is."""
    return revision[:7] if re.fullmatch("[0-9a-f]{40}", revision) else revision
