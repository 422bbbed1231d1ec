"""A comparison as a page for a browser, and as Markdown for a comment on a pull request."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from beatline.common.files import replacing
from beatline.comparing import words
from beatline.comparing.comparison import (
    BETTER,
    COMPARED,
    UNCHANGED,
    WORSE,
    Comparison,
    ModelComparison,
    Row,
)
from beatline.comparing.differences import Compare, simultaneous
from beatline.drawings import figures
from beatline.evaluation import curves
from beatline.evaluation.measures import LOWER_IS_BETTER
from beatline.evaluation.predictions import Predictions
from beatline.reporting.document import Document, text
from beatline.reporting.page import page

HTML, MARKDOWN = "comparison.html", "comparison.md"
COLOURS = {BETTER: "#0f7b6c", WORSE: "#b3261e"}
NEUTRAL = "#6b7280"
COLOURS_OF = {"before": "#6b7280", "after": "#0b62a4"}  # of the models in a picture of both
KINDS = ("roc", "precision_recall")
MAIN = "auc"  # the metric that is shown of each class or section


def write(comparison: Comparison, folder: Path, pictures: str | None) -> None:
    """`comparison.html`, which embeds its pictures, and `comparison.md`, which shows what `reports/`
    holds at the URL `pictures`, where `{commit}` stands for the commit, or no pictures without it."""
    with replacing(folder / HTML) as beside:
        beside.write_text(page(compose(comparison)), encoding="utf-8")
    with replacing(folder / MARKDOWN) as beside:
        beside.write_text(compose(comparison, pictures or "").markdown, encoding="utf-8")


def compose(comparison: Comparison, pictures: str | None = None) -> Document:
    """The document. Its figures are drawn and embedded if `pictures` is None; otherwise it links to those
    that Git holds at this URL, or has none if it is empty."""
    document = Document()
    first, *rest = map(text, words.decision(comparison))
    document.add(f"# {first}")
    if watched := comparison.watched:
        cells = [[text(cell) for cell in words.outcome_cells(row)] for row in watched]
        document.add_table(words.OUTCOMES, cells, words=4)
    document.add(*rest, f"Compared: {text(words.heading(comparison))}.")
    lines = [text(line) for line in words.summary(comparison)]
    document.add(lines[0], *(["\n".join(f"- {line}" for line in lines[1:])] if lines[1:] else []))
    rows = comparison.rows
    if rows and pictures is None:
        document.add_figure(
            "differences",
            _figure(rows),
            "Differences of each metric with their intervals",
            "After less before, with intervals; to the right is better, lower is better of "
            f"{' and '.join(LOWER_IS_BETTER)} and counted so. Filled dots: a verdict; hollow: no "
            "evidence of a difference.",
        )
    for model in comparison.models:
        if model.status != UNCHANGED:
            _add_model(document, comparison, model, rows, pictures)
    for names, sentences in words.same_predictions(comparison):
        document.add(
            f"{text(names)}: the same predictions on the test records, although this changed:"
        )
        document.add("\n".join(f"- {text(sentence)}" for sentence in sentences))
    document.add(*(text(sentence) for sentence in words.method(comparison)))
    return document


def _add_model(
    document: Document,
    comparison: Comparison,
    model: ModelComparison,
    rows: list[Row],
    pictures: str | None,
) -> None:
    document.add(f"## {text(words.name(model))}", f"{_sentence(words.standing(model))}.")
    if sentences := model.changes.sentences:
        document.add("\n".join(f"- {text(sentence)}" for sentence in sentences))
    if own := [row for row in rows if row.model is model]:
        cells = [[text(cell) for cell in words.cells(row)] for row in own]
        document.add_table(words.COLUMNS, cells, words=2)
    if model.parts:
        _add_parts(document, model, comparison.parameters)
    if pictures is None and model.predictions:
        _add_curves(document, model, model.predictions)
    elif pictures and model.status == COMPARED:
        _add_links(document, comparison, model, pictures)


def _add_curves(
    document: Document, model: ModelComparison, predictions: tuple[Predictions, Predictions]
) -> None:
    """Draw both models in each panel, from their predictions on the test records."""
    tables = curves.tables({}, dict(zip(COLOURS_OF, predictions, strict=True)))
    document.add_figure(
        f"{model.dataset}_{model.model}",
        figures.panels(KINDS, tables, COLOURS_OF),
        f"{text(model.name)}: curves before and after",
        "ROC and precision-recall curves on the test records, before and after.",
    )


def _add_links(
    document: Document, comparison: Comparison, model: ModelComparison, url: str
) -> None:
    """The curves that reports/ hold at both commits."""
    path = f"reports/figures/{model.dataset}/{model.model}_curves.png"
    for word, revision in (("before", comparison.before), ("after", comparison.after)):
        if revision.content(path) is not None:
            place = f"{url.replace('{commit}', revision.shown_commit)}/{path}"
            label = f"{text(model.name)}: curves {word}, {text(revision.label)}"
            document.add(f"![{label}]({place})", label)


def _sentence(phrase: str) -> str:
    """Return words as a sentence in Markdown: with a capital letter, and names as they are."""
    return text(phrase[:1].upper() + phrase[1:])


def _add_parts(document: Document, model: ModelComparison, parameters: Compare) -> None:
    main_differences = {
        part: each
        for part, differences in model.parts.items()
        for each in differences
        if each.metric == MAIN
    }
    if not main_differences:
        return
    differences = list(main_differences.values())
    family = simultaneous(differences, parameters.confidence, parameters.seed)
    rows = [
        [
            text(part),
            words.value(each.before),
            words.value(each.after),
            words.interval(each.difference, result.low, result.high),
        ]
        for part, each, result in zip(main_differences, differences, family, strict=True)
    ]
    seed = (
        " (of the first seed, or of the mean of all, where that answers)"
        if model.seeds != (1, 1)
        else ""
    )
    document.add(f"{MAIN} of each part{seed}, to see where it comes from (no verdicts):")
    document.add_table(["", "before", "after", "difference"], rows)


def _figure(rows: list[Row]) -> Figure:
    """A dot and its interval for each row, to the right if better."""
    height = 0.19 * len(rows) + 0.1
    figure = Figure(figsize=(figures.WIDTH, height + 0.6), dpi=figures.DPI)
    names = [f"{row.model.name}: {row.difference.metric}" for row in rows]
    left = 0.2 + 0.066 * max(map(len, names))
    axes = figures.panel(figure, left, 0.45, figures.WIDTH - left - 0.2, height)
    axes.axvline(0, color=figures.RULE, linewidth=1)
    for y, row in enumerate(rows):
        each = row.difference
        sign = -1 if each.metric in LOWER_IS_BETTER else 1
        colour = COLOURS.get(row.verdict, NEUTRAL)
        axes.plot([sign * row.low, sign * row.high], [y, y], color=colour, linewidth=1.5)
        filled = colour if row.verdict in COLOURS else "white"
        axes.plot(each.gain, y, "o", markersize=4, color=colour, markerfacecolor=filled)
    axes.set_yticks(range(len(rows)), names, size=7.5)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=figures.RULE, linewidth=0.5)
    axes.set_xlabel("worse  ←  difference  →  better", size=8)
    return figure
