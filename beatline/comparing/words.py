"""A comparison in words and numbers, as a terminal shows it; its page says the same in Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from textwrap import fill, indent

from beatline.comparing.comparison import (
    COMPARED,
    NEW,
    NOT_COMPARABLE,
    REMOVED,
    UNCHANGED,
    Comparison,
    ModelComparison,
    Row,
)
from beatline.comparing.differences import BETTER, SAME, UNDEFINED, WORSE
from beatline.reporting.document import DASH, counted, spoken

COLUMNS = ("metric", "before", "after", "difference", "p", "adjusted p", "verdict")
WIDTH = 100  # of a terminal, where the p-value before adjustment has no place
WIDTHS = (17, 6, 6, 26, 0, 10, 0)


def text(comparison: Comparison) -> str:
    """All of a comparison for a terminal of 100 columns."""
    parts = [heading(comparison), "", *(fill(line, WIDTH) for line in summary(comparison)), ""]
    rows = comparison.rows
    for model in comparison.models:
        if model.status == UNCHANGED:
            continue
        parts.append(fill(f"{name(model)}: {standing(model)}", WIDTH))
        parts += _indented(model.changes.sentences)
        if lines := [row for row in rows if row.model is model]:
            parts += table(lines)
        parts.append("")
    for names, sentences in same_predictions(comparison):
        parts += [
            fill(f"{names}: the same predictions on the test records", WIDTH),
            *_indented(sentences),
        ]
        parts.append("")
    return "\n".join([*parts, *(fill(sentence, WIDTH) for sentence in method(comparison)), ""])


def _indented(sentences: Iterable[str]) -> list[str]:
    return [indent(fill(sentence, WIDTH - 2), "  ") for sentence in sentences]


def same_predictions(comparison: Comparison) -> list[tuple[str, list[str]]]:
    """Models that predict as before although something changed: their names, and what that was."""
    names_by_change: dict[tuple[str, ...], list[str]] = {}
    for model in comparison.models:
        if model.status == UNCHANGED and model.changes:
            names_by_change.setdefault(tuple(model.changes.sentences), []).append(model.name)
    return [(spoken(names), list(sentences)) for sentences, names in names_by_change.items()]


def heading(comparison: Comparison) -> str:
    return f"{comparison.before.label} → {comparison.after.label}"


def name(model: ModelComparison) -> str:
    return f"{model.dataset} {model.model}{' (simulated data)' if model.simulated else ''}"


def standing(model: ModelComparison) -> str:
    """Say how a model was compared, and why if not record by record."""
    if model.status == COMPARED and model.reason:
        return f"compared as independent samples ({model.reason})"
    if model.status == COMPARED:
        return "compared record by record"
    return f"{model.status}{f': {model.reason}' if model.reason else ''}"


def summary(comparison: Comparison) -> list[str]:
    """Say how many models were compared, with a sentence on each that differs."""
    by_status = {
        status: [model for model in comparison.models if model.status == status]
        for status in (COMPARED, UNCHANGED, NOT_COMPARABLE, NEW, REMOVED)
    }
    counts = [
        f"{len(models):,} {status}"
        for status, models in by_status.items()
        if models or status in (COMPARED, UNCHANGED)
    ]
    lines = [f"{counted(len(comparison.models), 'model')}: {', '.join(counts)}."]
    rows = comparison.rows
    for model in by_status[COMPARED]:
        metrics_by_verdict = {
            verdict: [
                row.difference.metric
                for row in rows
                if row.model is model and row.verdict == verdict
            ]
            for verdict in (WORSE, BETTER, UNDEFINED)
        }
        verdicts = [
            f"{verdict} in {spoken(metrics)}"
            for verdict, metrics in metrics_by_verdict.items()
            if metrics
        ]
        lines.append(f"{name(model)}: {'; '.join(verdicts) if verdicts else SAME}.")
    return lines


def method(comparison: Comparison) -> list[str]:
    """Say how the numbers were computed."""
    parameters, tests = comparison.parameters, len(comparison.rows)
    if not tests:
        return []
    compared = [model for model in comparison.models if model.status == COMPARED]
    sentences = []
    if not all(model.reason for model in compared):
        sentences.append(
            f"Compared record by record means a paired bootstrap: {parameters.resamples:,} times the "
            f"test records are drawn again, patient by patient where patients are known, and the same "
            f"ones for both models."
        )
    if any(model.reason for model in compared):
        sentences.append(
            "Compared as independent samples means by stored values and their intervals alone: where "
            "both models were tested on the same records, that finds less than there is."
        )
    sentences.append(
        f"Intervals are of {parameters.confidence * 100:g} %. A verdict needs an adjusted p-value below "
        f"{1 - parameters.confidence:.2g}; p-values are adjusted for {counted(tests, 'comparison')} "
        f"(Holm 1979). They speak of these models as they were trained, not of other seeds."
    )
    return [" ".join(sentences)]


def table(rows: Sequence[Row]) -> list[str]:
    """The lines of a table for a terminal."""
    return [f"  {_line(cell)}" for cell in (COLUMNS, *map(cells, rows))]


def cells(row: Row) -> list[str]:
    """Return the cells of a row, one for each of COLUMNS."""
    each = row.difference
    return [
        each.metric,
        value(each.before),
        value(each.after),
        f"{signed(each.difference)} [{signed(each.low)}, {signed(each.high)}]",
        chance(each.p_value),
        chance(row.adjusted),
        row.verdict,
    ]


def value(number: float) -> str:
    return DASH if math.isnan(number) else f"{number:.4f}"


def signed(number: float) -> str:
    return DASH if math.isnan(number) else f"{number:+.4f}"


def chance(p_value: float) -> str:
    if math.isnan(p_value):
        return DASH
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def gate(comparison: Comparison) -> str:
    """The watched metrics as a table in Markdown, and whether the gate is open."""
    failures = {(row.model.name, row.difference.metric) for row in comparison.failures}
    header = ["data set", "model", *COLUMNS[:4], "adjusted p", "tolerance", "gate"]
    lines = [
        [
            row.model.dataset + (" (simulated)" if row.model.simulated else ""),
            row.model.model,
            *cells(row)[:4],
            chance(row.adjusted),
            f"{comparison.parameters.tolerance[row.difference.metric]:g}",
            "**closed**" if (row.model.name, row.difference.metric) in failures else "open",
        ]
        for row in comparison.watched
    ]
    parts = [markdown_table(header, lines)] if lines else []
    aside = [
        f"- {name(model)}: {standing(model)}"
        for model in comparison.models
        if model.status in (NOT_COMPARABLE, NEW, REMOVED) or model.reason
    ]
    parts += ["", *aside] if aside else []
    return "\n".join([*parts, "", _decision(comparison)])


def _decision(comparison: Comparison) -> str:
    if failures := comparison.failures:
        worse = [f"{name(row.model)} in {row.difference.metric}" for row in failures]
        return (
            f"The gate is **closed**: worse than {comparison.before.label} by more than the tolerance, "
            f"and by more than chance: {spoken(worse)}."
        )
    unjudged = comparison.not_judged
    but = f" **Not judged:** {spoken(unjudged)}." if unjudged else ""
    return (
        f"The gate is **open**: nothing is worse than {comparison.before.label} by more than its "
        f"tolerance and by more than chance, of {counted(len(comparison.watched), 'difference')}.{but}"
    )


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _line(values: Sequence[str]) -> str:
    shown = list(zip(values, WIDTHS, strict=True))
    del shown[COLUMNS.index("p")]
    return " ".join(f"{value:<{width}}" for value, width in shown)
