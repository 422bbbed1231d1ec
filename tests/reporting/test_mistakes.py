"""The pictures of mistakes and reconstructions: the right recordings, the right errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from beatline import drawings
from beatline.common.files import read_csv
from beatline.drawings import Shown
from beatline.evaluation.mistakes import most_confident
from beatline.evaluation.results import Evaluated
from beatline.prediction import tasks
from beatline.preprocessing.arrays import load_split
from beatline.reporting import mistakes, results
from beatline.reporting.document import Document
from beatline.reporting.report import compose
from beatline.reporting.settings import Report
from tests.reporting import project
from tests.reporting.reading import section


def predicted(task: str, thresholds: list[float], **columns: list[float]) -> Evaluated:
    """A model with predictions and nothing else; a column's name begins with its class."""
    classes = [name for name in columns if " " not in name]
    facts = (tasks.TASKS[task], classes, thresholds, None, pd.DataFrame(columns))
    return Evaluated(*facts, "m", {}, pd.DataFrame(), {}, {})


@pytest.mark.parametrize(
    ("task", "threshold", "values", "expected"),
    [
        ("binary", 0.4, [0.3, 0.9, 0.5, 0.1], [1, 3]),
        ("reconstruction", 2.0, [1.0, 9.0, 2.5, 0.1], [3, 1]),
    ],
)
def test_the_most_confident_mistakes_come_first(
    task: str, threshold: float, values: list[float], expected: list[int]
) -> None:
    """All decisions on labels 1 0 0 1 are wrong; how far beyond the threshold decides on the order."""
    decided = [int(value >= threshold) for value in values]
    columns = {"A": [1, 0, 0, 1], "A predicted": values, "A decided": decided}
    model = predicted(task, [threshold], **columns)
    found = most_confident(model, 2)
    assert [mistake.row for mistake in found] == expected
    assert len(most_confident(model, 9)) == 4
    words = {mistakes.sentence(model, mistake).split(",")[0] for mistake in found}
    assert words == {"missed", "false alarm"}


def test_mistakes_between_exclusive_classes_name_both() -> None:
    columns = {"A": [1, 1], "B": [0, 0], "A predicted": [0.1, 0.7], "B predicted": [0.9, 0.3]}
    columns |= {"A decided": [0, 1], "B decided": [1, 0]}
    model = predicted("multiclass", [], **columns)
    (mistake,) = most_confident(model, 5)
    assert mistake.row == 0
    assert mistake.confidence == pytest.approx(0.8)
    assert mistakes.sentence(model, mistake) == "B (0.90) instead of A"


# ---------------------------------------------------------------- pictures

Drawn = list[list[Shown]]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch, without_pictures: None) -> Drawn:
    """Collect the recordings of the strips, figure by figure."""
    del without_pictures
    found: Drawn = []
    real = drawings.strips

    def strips(items: Sequence[Shown], dataset: Any, colour: str) -> Figure:
        found.append([*items])
        return real(items, dataset, colour)

    monkeypatch.setattr(drawings, "strips", strips)
    return found


def test_the_digits_most_confidently_wrong_are_shown(drawn: Drawn, root: Path) -> None:
    """Six in a row where two recordings would stand; each is the test record its title names."""
    compose(project.only("digits", models=["cnn"]), Report(mistakes=2), root, project.REPORT)
    (items,) = drawn
    assert len(items) == 6
    test = load_split(root / "data/normalized/digits/test")
    rows = read_csv(root / "data/predictions/digits/cnn/predictions.csv").set_index("record")
    margins = []
    for item in items:
        sentence, record = item.title.splitlines()
        answer = rows.loc[f"files/{record}"]
        wrong, right = sentence.split(" (")[0], sentence.rsplit(" ", 1)[1]
        assert answer[right] == 1
        assert answer[f"{wrong} decided"] == 1
        margins.append(answer[f"{wrong} predicted"] - answer[f"{right} predicted"])
        pixels = test.signals[list(test.table["record"]).index(f"files/{record}")] * 0.5 + 0.1
        np.testing.assert_allclose(item.recording, pixels, rtol=1e-6)
    assert margins == sorted(margins, reverse=True)


def test_the_recordings_behind_a_detectors_worst_mistakes_are_named(
    drawn: Drawn, root: Path
) -> None:
    """A title holds what was decided and why, machine, label and recording; beside it the error."""
    content = project.only("machines", models=["autoencoder"])
    document = compose(content, Report(mistakes=2), root, project.REPORT)
    assert len(drawn[0]) == 2
    table = load_split(root / "data/normalized/machines/test").table.set_index("record")
    for item in drawn[0]:
        decided, whose, record = item.title.splitlines()
        row = table.loc[f"files/{record}"]
        assert decided.startswith("false alarm, score ")
        assert ", threshold " in decided
        assert whose == f"machine {row['machine_id']}, normal"
        assert item.error is not None
    assert "squared error of its reconstruction" in section(document, "machines: autoencoder")


def test_a_normal_and_an_anomalous_spectrogram_with_reconstruction_and_error(
    root: Path, monkeypatch: pytest.MonkeyPatch, drawn: Drawn
) -> None:
    """Both are of one machine, with the middle score of a kind; an error's mean is about the score."""
    shown: Drawn = []
    drawing = drawings.DRAWINGS["spectrogram"]
    real: Callable[..., Figure] | None = drawing.reconstructions
    assert real

    def reconstructions(rows: Sequence[Shown], dataset: Any, colour: str) -> Figure:
        shown.append([*rows])
        return real(rows, dataset, colour)

    spied = replace(drawing, reconstructions=reconstructions)
    monkeypatch.setitem(drawings.DRAWINGS, "spectrogram", spied)
    content = project.only("machines")
    document = compose(content, Report(mistakes=0), root, project.REPORT)
    assert not drawn  # no mistakes are asked for
    ((normal, anomaly),) = shown  # of the autoencoder alone
    assert normal.title.startswith("machine 00, normal, test_")
    assert anomaly.title.startswith("machine 00, anomaly (")
    predictions = read_csv(root / "data/predictions/machines/autoencoder/predictions.csv")
    inside = predictions[predictions["machine_id"] == "00"]
    for label, item in enumerate((normal, anomaly)):
        scores = inside.loc[inside["anomaly"] == label, "anomaly predicted"]
        score = float(item.title.rsplit(" ", 1)[1])
        assert score == pytest.approx(np.quantile(scores, 0.5, method="lower"), rel=6e-3)
        assert item.error is not None and item.reconstruction is not None
        error = ((item.recording - item.reconstruction) / 0.5) ** 2
        assert item.error.mean() == pytest.approx(score, rel=0.1)
        # Beyond the windows' overlap the error is that of the reconstruction that is shown.
        np.testing.assert_allclose(item.error[:13], error[:13], rtol=1e-4, atol=1e-5)
    assert "figures/machines/autoencoder_reconstructions.png" in document.figures
    assert "figures/machines/embedding_reconstructions.png" not in document.figures


def test_a_model_without_mistakes_is_told_so(root: Path) -> None:
    """Decisions that are the labels."""
    read = results.read(project.only("beats", models=["cnn"]), "beats", root)
    (model,) = read.models
    right = model.table.assign(**{"anomaly decided": model.table["anomaly"]})
    document = Document()
    perfect = replace(model, table=right)
    mistakes.add_mistakes(document, read, perfect, "#0072B2", 2, root)
    assert document.markdown == "There are no mistakes on the test records.\n"
