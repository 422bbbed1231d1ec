"""The leaderboard as one HTML file: a table to sort, with the Pareto front marked, nothing fetched."""

from __future__ import annotations

import re

from jinja2 import Environment, PackageLoader, StrictUndefined

from beatline.comparing.leaderboard import Entry, Leaderboard
from beatline.evaluation.measures import MEASURES
from beatline.reporting.page import STYLE

METRICS = ("auc", "pauc", "average_precision", "f1", "accuracy", "brier")
COSTS = {
    "parameters": "parameters",
    "train_seconds": "training (s)",
    "predict_milliseconds": "prediction (ms)",
}
DASH = "–"  # noqa: RUF001


def page(board: Leaderboard) -> str:
    """Return the HTML file."""
    environment = Environment(
        loader=PackageLoader("beatline.comparing"), autoescape=True, undefined=StrictUndefined
    )
    environment.filters |= {"digits": _digits, "made": _made, "everything": _everything}
    names = dict.fromkeys(entry.dataset for entry in board.entries)
    return environment.get_template("leaderboard.html.j2").render(
        style=STYLE,
        entries=board.entries,
        metrics={
            key: MEASURES[key].words
            for key in METRICS
            if any(key in entry.metrics for entry in board.entries)
        },
        costs=COSTS,
        sets={"": "all", **{name: name for name in names}},
        simulated=sorted({entry.dataset for entry in board.entries if entry.simulated}),
        nothing=[short(name) for name in board.nothing],
    )


def short(revision: str) -> str:
    """Return a commit's first digits; any other name as it is."""
    return revision[:7] if re.fullmatch("[0-9a-f]{40}", revision) else revision


def _digits(value: float | None) -> str:
    return DASH if value is None else f"{value:.3f}"


def _made(entry: Entry) -> list[str]:
    """List the parameters that differ from the workspace's, and say whether code or data do."""
    own = f"train.{entry.model}.{entry.dataset}."
    parameters = entry.differing.parameters.items()
    return [
        *(f"{key.removeprefix(own)} {after}" for key, (_, after) in parameters),
        *(f"other {kind}" for kind in ("code", "data") if getattr(entry.differing, kind)),
    ]


def _everything(entry: Entry) -> list[str]:
    """All differences in sentences, and all parameters."""
    parameters = [f"{key}: {value}" for key, value in entry.parameters.items()]
    return [*entry.differing.sentences, *parameters]
