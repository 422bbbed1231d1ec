"""The report's pictures of what a model gets wrong, and of what an autoencoder makes of recordings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from beatline import bundle, drawings
from beatline.drawings import Shown
from beatline.evaluation.curves import Evaluated
from beatline.prediction.windows import averaged, starts
from beatline.reporting.document import Document, counted, short, text
from beatline.reporting.models import score
from beatline.reporting.results import DatasetResults, noun


@dataclass(frozen=True)
class Wrong:
    """A test record (a row of the predictions) that was decided wrongly. `confidence`: how far beyond
    the threshold, as a share of the way to certainty. `sentence`: what was decided, and why."""

    row: int
    confidence: float
    sentence: str


def most_confident_mistakes(model: Evaluated, most: int) -> list[Wrong]:
    """The worst of a model's mistakes, at most `most`, one per record, the most confident first.

    Confidence is how far a probability lies beyond the threshold, as a share of the way to 0 or 1;
    for exclusive classes how much more probable than the right class the decided one was; for anomaly
    scores the logarithm of score over threshold, without its sign.
    """
    how = _exclusive_mistakes if model.exclusive else _threshold_mistakes
    worst: dict[int, Wrong] = {}
    for wrong in how(model):
        if wrong.row not in worst or wrong.confidence > worst[wrong.row].confidence:
            worst[wrong.row] = wrong
    return sorted(worst.values(), key=lambda wrong: (-wrong.confidence, wrong.row))[:most]


def _exclusive_mistakes(model: Evaluated) -> Iterable[Wrong]:
    actual, decided = model.targets.argmax(axis=1), model.decisions.argmax(axis=1)
    scores = model.scores
    for row in np.flatnonzero(actual != decided):
        right, wrong = actual[row], decided[row]
        yield Wrong(
            int(row),
            float(scores[row, wrong] - scores[row, right]),
            f"{model.classes[wrong]} ({scores[row, wrong]:.2f}) instead of {model.classes[right]}",
        )


def _threshold_mistakes(model: Evaluated) -> Iterable[Wrong]:
    scores, targets, decisions = model.scores, model.targets, model.decisions
    for row, k in np.argwhere(targets != decisions):
        value, threshold = float(scores[row, k]), model.thresholds[k]
        if model.task.learns_normal_only:
            confidence = abs(np.log(max(value, 1e-12) / max(threshold, 1e-12)))
        else:
            room = 1 - threshold if decisions[row, k] else threshold
            confidence = abs(value - threshold) / max(room, 1e-12)
        what = "false alarm" if decisions[row, k] else "missed"
        if len(model.classes) > 1:
            what = f"{what}: {model.classes[k]}"
        yield Wrong(
            int(row),
            float(confidence),
            f"{what}, score {score(model, value)}, threshold {score(model, threshold)}",
        )


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
    worst = most_confident_mistakes(model, most * drawing.across[_reconstructs(model)] // 2)
    if not worst:
        document.add("There are no mistakes on the test records.")
        return
    rows = _rows_of_test(results, model, [wrong.row for wrong in worst])
    titles = [
        "\n".join([wrong.sentence, *_who(results, model, row)])
        for row, wrong in zip(rows, worst, strict=True)
    ]
    document.add_figure(
        f"{results.name}/{model.model}_mistakes",
        drawings.strips(_shown(results, model, rows, titles, root), results.description, colour),
        f"{text(results.name)}, {text(model.model)}: the most confident mistakes",
        f"The {counted(len(worst), 'most confident mistake')} of {text(model.model)} on the test "
        f"records, the worst first: each is decided wrongly by the widest margin. A second look at "
        f"them shows whether the model or the label errs."
        + (_how_errors_are_drawn(results, model) if _reconstructs(model) else ""),
        drawing.colours,
    )


def _how_errors_are_drawn(results: DatasetResults, model: Evaluated) -> str:
    if results.drawing.error_map:
        return (
            f" Beside each stands the squared error of its reconstruction (normalized; darker is "
            f"larger), {_score_of_errors(model)}."
        )
    if results.description["length"] == 1:
        return " A dot is the reconstruction."
    return (
        f" The coloured line is the reconstruction; below it stands the squared error (mean over "
        f"channels, normalized), {_score_of_errors(model)}."
    )


def _score_of_errors(model: Evaluated) -> str:
    if model.description["windows"]["aggregate"] == "max":
        return "whose largest mean over a window is the score"
    return "whose mean over time and windows is the score"


def _reconstructs(model: Evaluated) -> bool:
    return model.task.name == "reconstruction"


def _rows_of_test(results: DatasetResults, model: Evaluated, rows: Sequence[int]) -> list[int]:
    """The rows in the test split of rows of the predictions."""
    names = results.splits["test"].table["record"].astype(str)
    row_of = {name: row for row, name in enumerate(names)}
    return [row_of[str(model.predictions["record"].iloc[row])] for row in rows]


def _who(results: DatasetResults, model: Evaluated, row: int) -> list[str]:
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
    facet = model.facets[0]
    inside = np.arange(len(model.predictions))
    if model.section_column:
        of_record = model.predictions[model.section_column].astype(str)
        inside = np.flatnonzero(of_record == facet.name)
    chosen = [
        inside[_middle(facet.scores, facet.targets == target)]
        for target in (0, 1)
        if (facet.targets == target).any()
    ]
    rows = _rows_of_test(results, model, chosen)
    titles = [
        f"{', '.join(_who(results, model, row))}: score {score(model, model.scores[of_model, 0])}"
        for row, of_model in zip(rows, chosen, strict=True)
    ]
    document.add_figure(
        f"{results.name}/{model.model}_reconstructions",
        drawing.reconstructions(
            _shown(results, model, rows, titles, root), results.description, colour
        ),
        f"{text(results.name)}, {text(model.model)}: a normal recording and an anomaly, their "
        f"reconstructions and errors",
        f"A normal recording and an anomaly of the test records"
        f"{f' of {text(facet.name)}' if model.section_column else ''}, each that with the middle score "
        f"of its kind; what {text(model.model)} makes of them; and the squared error (normalized; "
        f"darker is larger), {_score_of_errors(model)}. {drawing.how_to_read}",
        drawing.colours,
    )


def _middle(scores: np.ndarray, among: np.ndarray) -> int:
    """Where the median of the scores `among` is, the lower one of two."""
    rows = np.flatnonzero(among)
    order = np.argsort(scores[rows], kind="stable")
    return int(rows[order[(len(rows) - 1) // 2]])


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
    trained = bundle.load(root / f"data/models/{results.name}/{model.model}")
    signals = np.ascontiguousarray(results.splits["test"].signals[list(rows)])
    copies, errors = reconstruction(trained, signals)
    in_unit = trained.normalization.undo(copies)
    return [Shown(*parts) for parts in zip(titles, recordings, in_unit, errors, strict=True)]


@torch.inference_mode()
def reconstruction(trained: bundle.Bundle, signals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What an autoencoder makes of normalized recordings `[N, T, C]`, and its squared error: the same
    shape.

    Window by window, as it is scored; where windows overlap, their mean; NaN between windows that
    leave gaps, where nothing was reconstructed.
    """
    windows = trained.windows
    length = min(windows.length or signals.shape[1], signals.shape[1])
    first = starts(signals.shape[1], windows)
    parts = [signals[:, start : start + length] for start in first]
    copies = [trained.network(torch.from_numpy(part)).numpy() for part in parts]
    errors = [(copy - part) ** 2 for copy, part in zip(copies, parts, strict=True)]
    return averaged(copies, first, signals.shape[1]), averaged(errors, first, signals.shape[1])
