"""The report's pictures of what a model gets wrong, and of what an autoencoder makes of recordings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from beatline import drawings
from beatline.common.words import counted
from beatline.drawings import Shown
from beatline.evaluation import reconstructions
from beatline.evaluation.mistakes import Mistake, most_confident
from beatline.evaluation.reconstructions import in_the_middle
from beatline.evaluation.results import Evaluated
from beatline.prediction.tasks import measures
from beatline.preprocessing.normalization import Normalization
from beatline.reporting.document import Document, noun, short, text
from beatline.reporting.models import score
from beatline.reporting.results import DatasetResults


def add_mistakes(
    document: Document,
    results: DatasetResults,
    model: Evaluated,
    colour: str,
    most: int,
    root: Path,
) -> None:
    """`most`: in two columns; of recordings that are drawn smaller as many as fill the same rows."""
    drawing = results.drawing
    worst = most_confident(model, most * drawing.across[_reconstructs(model)] // 2)
    if not worst:
        document.add("There are no mistakes on the test records.")
        return
    rows = _rows_of_test(results, model, [mistake.row for mistake in worst])
    titles = [
        "\n".join([sentence(model, mistake), *_record_lines(results, model, row)])
        for row, mistake in zip(rows, worst, strict=True)
    ]
    document.add_figure(
        f"{results.name}/{model.model}_mistakes",
        drawings.strips(_shown(results, model, rows, titles, root), results.dataset_info, colour),
        f"{text(results.name)}, {text(model.model)}: the most confident mistakes",
        f"The {counted(len(worst), 'most confident mistake')} of {text(model.model)} on the test "
        f"records, the worst first: each is decided wrongly by the widest margin. A second look at "
        f"them shows whether the model or the label errs."
        + (_how_errors_are_drawn(results, model) if _reconstructs(model) else ""),
        drawing.colours,
    )


def sentence(model: Evaluated, mistake: Mistake) -> str:
    """Say what was decided, and why."""
    row, k, name = mistake.row, mistake.k, model.classes[mistake.k]
    value = float(model.scores[row, k])
    if model.exclusive:
        return f"{name} ({value:.2f}) instead of {model.classes[model.targets[row].argmax()]}"
    decision = "false alarm" if model.decisions[row, k] else "missed"
    if len(model.classes) > 1:
        decision = f"{decision}: {name}"
    return f"{decision}, score {score(model, value)}, threshold {score(model, model.thresholds[k])}"


def _how_errors_are_drawn(results: DatasetResults, model: Evaluated) -> str:
    if results.drawing.error_map:
        return (
            f" Beside each stands the squared error of its reconstruction (normalized; darker is "
            f"larger), {_score_of_errors(model)}."
        )
    if results.dataset_info["length"] == 1:
        return " A dot is the reconstruction."
    return (
        f" The coloured line is the reconstruction; below it stands the squared error (mean over "
        f"channels, normalized), {_score_of_errors(model)}."
    )


def _score_of_errors(model: Evaluated) -> str:
    """Say what the error drawn has to do with the score."""
    if measures(model.description) == "distance":
        return "which is not what it is scored by: that is a distance"
    if model.description["windows"]["aggregate"] == "max":
        return "whose largest mean over a window is the score"
    return "whose mean over time and windows is the score"


def _reconstructs(model: Evaluated) -> bool:
    return model.task.name == "reconstruction"


def _rows_of_test(results: DatasetResults, model: Evaluated, rows: Sequence[int]) -> list[int]:
    """The rows in the test split of rows of the predictions."""
    names = results.splits["test"].table["record"].astype(str)
    row_of = {name: row for row, name in enumerate(names)}
    return [row_of[str(model.table["record"].iloc[row])] for row in rows]


def _record_lines(results: DatasetResults, model: Evaluated, row: int) -> list[str]:
    """Lines that say which test record this is; an exclusive label stands in what was decided."""
    record = short(results.record("test", row))
    label = results.label("test", row)
    if section := results.section("test", row):
        column = noun(str(results.section_column))
        name = section if section.startswith(column) else f"{column} {section}"
        return [f"{name}, {label}", record]
    return [record] if model.exclusive else [f"{record}, labelled {label}"]


# ---------------------------------------------------------------- reconstructions


def add_reconstructions(
    document: Document, results: DatasetResults, model: Evaluated, colour: str, root: Path
) -> None:
    """A normal recording and an anomaly as an autoencoder gives them back, if its data set's drawing
    has a figure of that: those of the first section whose scores are in the middle."""
    drawing = results.drawing
    if not _reconstructs(model) or not drawing.reconstructions:
        return
    chosen = in_the_middle(model)
    rows = _rows_of_test(results, model, chosen)
    section = f" of {text(model.facets[0].name)}" if model.section_column else ""
    titles = [
        f"{', '.join(_record_lines(results, model, row))}: score {score(model, model.scores[scored, 0])}"
        for row, scored in zip(rows, chosen, strict=True)
    ]
    document.add_figure(
        f"{results.name}/{model.model}_reconstructions",
        drawing.reconstructions(
            _shown(results, model, rows, titles, root), results.dataset_info, colour
        ),
        f"{text(results.name)}, {text(model.model)}: a normal recording and an anomaly, their "
        f"reconstructions and errors",
        f"A normal recording and an anomaly of the test records{section}, each that with the middle "
        f"score of its kind; what {text(model.model)} makes of them; and the squared error (normalized; "
        f"darker is larger), {_score_of_errors(model)}. {drawing.how_to_read}",
        drawing.colours,
    )


def _shown(
    results: DatasetResults,
    model: Evaluated,
    rows: Sequence[int],
    titles: Sequence[str],
    root: Path,
) -> list[Shown]:
    """Test recordings, with what an autoencoder makes of them."""
    recordings = results.recordings("test", rows)
    if not _reconstructs(model):
        return [Shown(*parts) for parts in zip(titles, recordings, strict=True)]
    predicted = root / f"data/predictions/{results.name}/{model.model}"
    names = [results.record("test", row) for row in rows]
    copies, errors = reconstructions.read(predicted, names)
    in_unit = Normalization(**model.description["normalization"]).undo(copies)
    return [Shown(*parts) for parts in zip(titles, recordings, in_unit, errors, strict=True)]
