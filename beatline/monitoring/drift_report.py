"""The report of a check for drift: Markdown, one HTML file, and what the service shows of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from beatline.common.files import replacing, write_json
from beatline.common.words import counted
from beatline.drawings import figures
from beatline.monitoring.drift import Column, Finding, Share
from beatline.monitoring.states import FOLDER, STATE
from beatline.reporting.document import DASH, METRICS, Document, measured, number, text
from beatline.reporting.page import page

DRAWN = 30  # features, at most
EDGE = 3.0  # deviations
DIFFERS, SAME = figures.PALETTE[1], figures.PALETTE[0]
OF_VALIDATION, OF_WINDOW = "validation", "window"
FAMILIES = {
    "features and scores": "each by itself, by Cramér and von Mises",
    "embeddings": "all features of a recording together, by the maximum mean discrepancy",
    "classes": "shares of what was decided, by χ²",
    "unfamiliar": "the share of recordings that are far from the training",
}
LIMITS = (
    "Drift is a difference between these records and those of validation. It does not say that "
    "predictions are worse: only recordings whose outcome is known do.",
    "None found does not mean that there is none: smaller shifts than the one above can be missed.",
    "Each record counts as drawn by itself. Many of one machine or person are less than they seem, "
    "and differences between persons then look like drift.",
    "PSI and Wasserstein's distance are sizes: in small windows both are large without drift, and "
    "neither decides anything here.",
)


def write(root: Path, finding: Finding) -> Path:
    """Write the report into the project in `root`; return its HTML file."""
    folder, document = root / FOLDER / finding.dataset / finding.model, composed(finding)
    with replacing(folder) as beside:
        beside.mkdir()
        for path, content in document.figures.items():
            (beside / path).parent.mkdir(exist_ok=True)
            (beside / path).write_bytes(content)
        (beside / "index.md").write_text(document.markdown)
        (beside / "index.html").write_text(page(document))
        state: dict[str, Any] = {
            **asdict(finding),
            "culprits": finding.culprits,
            "worse": finding.worse,
        }
        for name in ("checked", "first", "last"):
            state[name] = state[name] and state[name].isoformat()
        write_json(beside / STATE, state)
    return folder / "index.html"


def verdict(finding: Finding) -> str:
    """Say what was found."""
    worse = ", ".join(METRICS[metric] for metric in finding.worse)
    return _of_drift(finding) + (f" Worse than on the test records: {worse}." if worse else "")


def _of_drift(finding: Finding) -> str:
    if finding.verdict == "too few":
        return f"Cannot tell: {finding.notes[0]}."
    if finding.verdict == "none":
        return f"No drift was found (p = {measured(finding.p or 0)}, level {finding.level:g})."
    culprits = finding.culprits
    names = ", ".join(culprits[:3]) + (f" and {len(culprits) - 3} more" if culprits[3:] else "")
    by = f"most surely in {names}" if culprits else "in nothing that stands out by itself"
    return f"Drift (p = {measured(finding.p or 0)}, level {finding.level:g}), {by}."


def composed(finding: Finding) -> Document:
    """Return the report."""
    document = Document()
    document.add(f"# Drift of {text(finding.dataset)}/{text(finding.model)}")
    document.add(f"**{text(verdict(finding))}**", _about(finding))
    document.add(*(f"Note: {text(note)}." for note in finding.notes))
    if finding.verdict != "too few":
        _add_families(document, finding)
        _add_columns(document, finding)
        _add_classes(document, finding)
        _add_warnings(document, finding)
    if finding.outcomes:
        _add_outcomes(document, finding)
    document.add("## What this says, and what not")
    document.add("\n".join(f"- {limit}" for limit in LIMITS))
    return document


def _about(finding: Finding) -> str:
    kind = "Its data set is **simulated**. " if finding.simulated else ""
    period = ""
    if finding.first and finding.last:
        period = f" from {finding.first:%Y-%m-%d %H:%M} to {finding.last:%Y-%m-%d %H:%M} UTC"
    return (
        f"{kind}{counted(finding.records, 'record')}{period} were compared with "
        f"{counted(finding.validation, 'validation record')} of the bundle `{finding.weights[:12]}`, on "
        f"{finding.checked:%Y-%m-%d %H:%M} UTC. The smallest shift of a feature that so many can show "
        f"with a probability of 80 % is {measured(finding.smallest_shift)} deviations."
    )


def _add_families(document: Document, finding: Finding) -> None:
    document.add("## The decision")
    document.add(
        "Each family of tests asks how often records that were dealt anew to window and validation "
        "differ as much; the decision asks the same of the surest of them. Undrifted windows are "
        f"flagged with a probability of {100 * finding.level:g} %."
    )
    rows = [[name, FAMILIES[name], _p(p)] for name, p in finding.families.items()]
    document.add_table(["family", "what is compared", "p"], rows, words=2)


def _add_columns(document: Document, finding: Finding) -> None:
    document.add("## Features and scores")
    by_size = sorted(finding.columns, key=lambda column: -abs(column.shift))[:DRAWN]
    drawn = [column for column in finding.columns if column in by_size]
    groups = {
        heading: [
            (column.name, *np.clip((column.shift, column.low, column.high), -EDGE, EDGE))
            for column in columns
        ]
        for heading, is_score in (("features", False), ("scores", True))
        if (columns := [column for column in drawn if column.is_score == is_score])
    }
    colours = {each.name: DIFFERS if each.p <= finding.level else SAME for each in drawn}
    document.add_drawing(
        "shifts",
        figures.overview(groups, colours),
        "The shift of each feature and score with its interval",
        "The shift of each mean from that of the validation records, in their deviations, with an "
        "interval of 95 %; orange: differs, corrected for the number of tests. Shifts beyond "
        f"{EDGE:g} stand at the edge."
        + (f" The {DRAWN} largest." if len(finding.columns) > DRAWN else ""),
    )
    header = ["feature or score", "p", "shift", "Wasserstein", "PSI"]
    rows = [_column_row(column) for column in sorted(finding.columns, key=lambda one: one.p)]
    document.add_table(header, rows[:DRAWN])
    if rows[DRAWN:]:
        with document.folded("The others"):
            document.add_table(header, rows[DRAWN:])


def _column_row(column: Column) -> list[str]:
    shift = f"{column.shift:+.2f} [{column.low:+.2f}, {column.high:+.2f}]"
    sizes = [f"{size:.2f}" for size in (column.wasserstein, column.psi)]
    return [text(column.name), _p(column.p), shift, *sizes]


def _add_classes(document: Document, finding: Finding) -> None:
    document.add("## Predicted classes")
    rows = []
    for share in finding.classes:
        rows.append((share.name, OF_VALIDATION, share.reference, share.low, share.high))
        rows.append((share.name, OF_WINDOW, share.window, share.window, share.window))
    names = [share.name for share in finding.classes]
    document.add_drawing(
        "classes",
        figures.comparison(
            rows, names, {OF_VALIDATION: SAME, OF_WINDOW: DIFFERS}, "share of records"
        ),
        "The share of each predicted class in validation and window",
        "What share of records was decided to be of each class: of validation with its interval of "
        "95 %, and of the window.",
    )
    _add_shares(document, "class", finding.classes)


def _add_shares(document: Document, kind: str, shares: Sequence[Share]) -> None:
    rows = [
        [
            text(share.name),
            _p(share.p),
            f"{number(share.reference)} [{number(share.low)}, {number(share.high)}]",
            number(share.window),
            f"{100 * share.smallest:.1f} points",
        ]
        for share in shares
    ]
    document.add_table([kind, "p", "validation", "window", "smallest change found"], rows)


def _add_warnings(document: Document, finding: Finding) -> None:
    document.add("## Warnings")
    assert finding.unfamiliar
    _add_shares(document, "recordings", [finding.unfamiliar])
    if finding.warnings:
        document.add(
            "What share of the window's answers had each warning; validation records were not uploaded "
            "and have none."
        )
        rows = [[f"`{code}`", number(share)] for code, share in finding.warnings.items()]
        document.add_table(["warning", "share"], rows)


def _add_outcomes(document: Document, finding: Finding) -> None:
    document.add("## Metrics by what experts have said")
    document.add(
        "Of the answers with feedback, with their intervals, beside those of the test records; p: that "
        "the model is no worse. AUC and F1 are over classes with at least 5 answers with and 5 without; "
        "where fewer than 10 patients stand behind them, there is no p. Experts may have chosen which "
        "answers to speak of. This is a question of its own, beside the decision above."
    )
    rows = [
        [
            METRICS[each.metric],
            _p(each.p),
            f"{number(each.value)} [{number(each.low)}, {number(each.high)}]",
            f"{number(each.test)} [{number(each.test_low)}, {number(each.test_high)}]",
        ]
        for each in finding.outcomes
    ]
    document.add_table(["metric", "p", "window", "test records"], rows)


def _p(value: float) -> str:
    if np.isnan(value):
        return DASH
    return f"{value:.4f}" if value >= 0.0001 else "< 0.0001"
