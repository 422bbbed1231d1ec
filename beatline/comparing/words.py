"""A comparison in words and numbers, as a terminal shows it; its page says the same in Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from textwrap import fill, indent

from beatline.common.words import counted, spoken
from beatline.comparing.comparison import (
    BETTER,
    CANNOT_TELL,
    COMPARED,
    NEW,
    NOT_COMPARABLE,
    REMOVED,
    SAME,
    UNCHANGED,
    UNDEFINED,
    WORSE,
    Comparison,
    ModelComparison,
    Row,
)
from beatline.reporting.document import DASH

# What decides stands first: a telephone shows a table's first columns.
COLUMNS = ("verdict", "metric", "before", "after", "difference", "adjusted p")
OUTCOMES = (
    "outcome",
    "data set",
    "model",
    "metric",
    "difference",
    "tolerance",
    "could show",
    "before",
    "after",
)
WIDTH = 100  # of a terminal
WIDTHS = (27, 17, 6, 6, 26, 10)


def text(comparison: Comparison) -> str:
    """All of a comparison for a terminal of 100 columns."""
    lines = [*decision(comparison), heading(comparison), *summary(comparison)]
    parts = [*(fill(line, WIDTH) for line in lines), ""]
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
    if model.status == COMPARED:
        how = f"as independent samples ({model.reason})" if model.reason else "record by record"
        return f"compared {how}, {_seeds(model)}"
    return f"{model.status}{f': {model.reason}' if model.reason else ''}"


def _seeds(model: ModelComparison) -> str:
    before, after = model.seeds
    if before == after == 1:
        return "one seed"
    return (
        f"means of {before} seeds" if before == after else f"{before} → {after} seeds, their means"
    )


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
    if any(model.seeds != (1, 1) for model in compared):
        sentences.append(
            "Of a model with several seeds the means are compared (or what it answers with, if that is "
            "their mean), and the variance between seeds is in the interval."
        )
    if any(model.seeds == (1, 1) for model in compared):
        sentences.append(
            "What is said of one seed is of the model as it was trained, not of other seeds."
        )
    watched = len(comparison.watched)
    families = [
        f"{counted(number, 'difference')} {which} a tolerance"
        for number, which in ((watched, "with"), (tests - watched, "without"))
        if number
    ]
    sentences.append(
        f"Intervals hold together, with {parameters.confidence * 100:g} %, for {spoken(families)}; an "
        f"interval leaves out zero just when its adjusted p-value is below "
        f"{1 - parameters.confidence:.2g}, and without that there is no verdict."
    )
    return [" ".join(sentences)]


def table(rows: Sequence[Row]) -> list[str]:
    """The lines of a table for a terminal."""
    return [f"  {_line(cell)}" for cell in (COLUMNS, *map(cells, rows))]


def cells(row: Row) -> list[str]:
    """Return the cells of a row, one for each of COLUMNS."""
    each = row.difference
    return [
        row.verdict,
        each.metric,
        value(each.before),
        value(each.after),
        interval(each.difference, row.low, row.high),
        chance(row.adjusted),
    ]


def interval(difference: float, low: float, high: float) -> str:
    return f"{signed(difference)} [{signed(low)}, {signed(high)}]"


def value(number: float) -> str:
    return DASH if math.isnan(number) else f"{number:.4f}"


def signed(number: float) -> str:
    return DASH if math.isnan(number) else f"{number:+.4f}"


def chance(p_value: float) -> str:
    if math.isnan(p_value):
        return DASH
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def gate(comparison: Comparison) -> str:
    """The outcome, and the watched metrics as a table in Markdown."""
    first, *rest = decision(comparison)
    parts = [f"**{first}**", *rest, f"Compared: {heading(comparison)}."]
    if rows := comparison.watched:
        parts.append(markdown_table(OUTCOMES, map(outcome_cells, rows)))
    aside = [
        f"- {name(model)}: {standing(model)}"
        for model in comparison.models
        if model.status != UNCHANGED
    ]
    parts += ["\n".join(aside)] if aside else []
    return "\n\n".join([*parts, *method(comparison)])


def outcome_cells(row: Row) -> list[str]:
    """Return the cells of a row, one for each of OUTCOMES."""
    each = row.difference
    return [
        row.outcome,
        row.model.dataset + (" (simulated)" if row.model.simulated else ""),
        row.model.model,
        each.metric,
        interval(each.difference, row.low, row.high),
        f"{row.tolerance:g}",
        "none" if row.could_show_none else value(row.could_show),
        value(each.before),
        value(each.after),
    ]


def decision(comparison: Comparison) -> list[str]:
    """Say the outcome with the one number that decided it, and then what would help to tell."""
    rows = comparison.watched
    outcome = comparison.outcome.capitalize()
    if rows and rows[0].outcome == comparison.outcome:
        row, each = rows[0], rows[0].difference
        number = interval(each.difference, row.low, row.high)
        first = f"{outcome}: {name(row.model)}, {each.metric} {number}, tolerance {row.tolerance:g}"
    elif comparison.not_judged:
        model = comparison.not_judged[0]
        first = f"{outcome}: {name(model)} is {standing(model)}"
    else:
        first = f"{outcome}: every model of the base that is left predicts as before"
    return [first, *_untold(comparison)]


def _untold(comparison: Comparison) -> list[str]:
    """Say of each row and model of which nothing can be told why, and what would help."""
    lines = []
    for model in comparison.models:
        rows = [
            row for row in comparison.watched if row.model is model and row.outcome == CANNOT_TELL
        ]
        if rows:
            reasons = [f"{row.difference.metric} ({_reason(row)})" for row in rows]
            lines.append(
                f"Cannot tell of {name(model)} in {spoken(reasons)}. {_cure(rows[0])} would help."
            )
    if comparison.not_judged:
        lines.append(f"Not judged: {spoken([name(model) for model in comparison.not_judged])}.")
    return lines


def _reason(row: Row) -> str:
    if row.verdict == UNDEFINED:
        return "undefined on these test records"
    if row.verdict == WORSE:
        return "worse, but maybe within the tolerance"
    if row.could_show_none:
        return "these test records could show no loss"
    return f"these test records could show a loss of {value(row.could_show)} or more"


def _cure(row: Row) -> str:
    """Name what makes the largest part of the interval."""
    if not row.model.same_records:
        return "The same test records on both sides"
    if row.model.reason and row.model.predictions is None:
        return "The predictions of both revisions in DVC's cache or remote"
    between_seeds = sum(error.variance for error in row.difference.seeds)
    if between_seeds > row.difference.records.variance:
        return f"More seeds (train.{row.model.model}.{row.model.dataset}.seeds)"
    return "More test records"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _line(values: Sequence[str]) -> str:
    pairs = zip(values, WIDTHS, strict=True)
    return " ".join(f"{value:<{width}}" for value, width in pairs).rstrip()
