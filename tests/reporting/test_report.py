"""The report: complete, honest about what is simulated, the same bytes twice, clear in its errors."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from beatline.common import params, sums
from beatline.common.errors import UserError
from beatline.evaluation import curves, reconstructions
from beatline.reporting import croissant, results
from beatline.reporting.document import Document, anchor
from beatline.reporting.page import page
from beatline.reporting.report import compose
from beatline.reporting.settings import Report
from stages import report as stage
from tests.damage import flipped, places
from tests.paths import ROOT
from tests.reporting import project
from tests.reporting.reading import before, section


def test_below_the_title_stands_what_is_simulated_and_what_is_real(document: Document) -> None:
    """A reader of simulated scores must not take them for real ones: not in the figure either."""
    first, _, warning = document.markdown.splitlines()[:3]
    assert len(first.split()) <= 4
    simulated, real = warning.split(" come from a simulator")
    assert "**hearts** and **machines**" in simulated
    assert "**beats**, **digits** and **rows**" in real
    drawn = document.figures["figures/summary.svg"].decode()
    assert set(re.findall(r">(\w+): \w+, simulated<", drawn)) == {"hearts", "machines"}


@pytest.mark.usefixtures("without_pictures")
def test_nothing_is_called_simulated_that_is_real(root: Path) -> None:
    found = compose(project.only("beats", "digits"), Report(mistakes=1), root, project.REPORT)
    assert "**beats** and **digits**" in before(found, "Summary of results")
    assert "simulat" not in found.markdown


def test_the_summary_has_every_model_with_intervals_and_predictions(
    document: Document, root: Path
) -> None:
    """Before anything else: in a figure, and as a row whose link leads to the model's predictions."""
    summary = before(document, "hearts").split("## Summary of results")[1]
    rows = [line for line in summary.splitlines() if line.startswith("| [")]
    trained = {(name, model) for model, names in project.CONTENT["train"].items() for name in names}
    linked = re.findall(r"\[CSV\]\(\.\./(data/predictions/(\w+)/(\w+)/predictions\.csv)\)", summary)
    assert {(name, model) for _, name, model in linked} == trained
    assert len(rows) == len(linked) == len(trained)
    assert all((root / path).is_file() for path, *_ in linked)
    for row in rows:
        assert len(re.findall(r"\d\.\d{3} \[\d\.\d{3}, \d\.\d{3}\]", row)) == 4, row
    drawn = document.figures["figures/summary.svg"].decode()
    for name, model in trained:
        assert re.search(rf">{name}: .*?>{model}<", drawn, flags=re.DOTALL)
    assert "(patient by patient in hearts)" in summary


def test_each_model_tells_how_many_records_are_wrong(document: Document, root: Path) -> None:
    """As many as its table of predictions marks."""
    told = re.findall(r"Wrong on (\d+) of (\d+) test .*?\(\.\./(.+?)\)", document.markdown)
    assert len(told) == sum(map(len, project.CONTENT["train"].values()))
    for wrong, records, path in told:
        table = pd.read_csv(root / path)
        assert (int(wrong), int(records)) == (table["wrong"].sum(), len(table))


def test_contents_list_every_section_once_and_folds_are_closed(document: Document) -> None:
    """On a Git host they are the way through the report; a fold that is not closed hides the rest."""
    start, end = "<summary>Contents</summary>", "</details>"
    contents = document.markdown.split(start)[1].split(end)[0]
    headings = re.findall(r"^###? (.+)$", document.markdown, flags=re.MULTILINE)
    assert re.findall(r"\(#([^)]+)\)", contents) == list(map(anchor, headings))
    assert document.markdown.index("## Summary") < document.markdown.index(start)
    for body in (document.markdown, *document.cards.values()):
        depth = 0
        for tag in re.findall(r"^</?details|^#{1,3} ", body, flags=re.MULTILINE):
            assert depth == 0 or not tag.startswith("#")
            depth += {"<details": 1, "</details": -1}.get(tag, 0)
            assert depth in (0, 1)
        assert depth == 0
    assert len(re.findall(r"\]\(#beatline-report\)", document.markdown)) == len(project.DATASETS)


def test_nothing_undefined_is_written(document: Document) -> None:
    assert "nan" not in document.markdown.lower()
    assert "None" not in document.markdown


def test_the_closing_tells_with_which_parameters(document: Document) -> None:
    """Every parameter: with the identities, enough to make the numbers again."""
    text = section(document, "What made these numbers")
    for parameter in ("confidence: 0.95", "by: patient", "bands: 10", "mistakes: 2"):
        assert parameter in text
    assert "threshold_percentile: 95" in section(document, r"rows: boosted\_trees")


def test_the_same_inputs_give_the_same_bytes(document: Document, root: Path) -> None:
    """Text, figures and page; of one data set, for the sake of time."""
    content = project.only("machines", models=["autoencoder"])
    once, again = (compose(content, Report(mistakes=2), root, project.REPORT) for _ in range(2))
    assert once.markdown == again.markdown
    assert once.figures == again.figures
    assert page(once) == page(again)
    assert once.figures.keys() < document.figures.keys()


@pytest.mark.usefixtures("without_pictures")
def test_nothing_but_durations_differs_between_runs(root: Path, tmp_path: Path) -> None:
    """The report says so itself."""
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    folder = copy / "data/durations/digits/cnn"
    sums.write_sealed_json(folder / "train.json", {"train_seconds": 98.7})
    sums.write_sealed_json(folder / "predict.json", {"predict_milliseconds": 6.54})
    once, other = (
        compose(
            project.only("digits"), Report(mistakes=0), place, project.REPORT
        ).markdown.splitlines()
        for place in (root, copy)
    )
    changed = [b for a, b in zip(once, other, strict=True) if a != b]
    assert changed == [
        "| training time (s) | 98.7 | 12.3 |",
        "| time per prediction (ms) | 6.54 | 0.678 |",
    ]


@pytest.mark.usefixtures("without_pictures")
def test_the_stage_writes_cards_and_figures_and_leaves_no_old_ones(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything that report.md links to lies beside it; a card of a data set that is gone does not."""
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    content = project.only("beats", "digits", models=["cnn"])
    (copy / "reports/cards").mkdir()
    (copy / "reports/cards/gone_data.md").write_text("")
    monkeypatch.setattr("stages.report.params.load", lambda: content)
    monkeypatch.chdir(copy)
    stage.main()
    cards = {path.name for path in (copy / "reports/cards").iterdir()}
    assert cards == {f"{name}{kind}" for name in ("beats", "digits") for kind in _KINDS}
    text = (copy / "reports/report.md").read_text()
    paths = re.findall(r"\]\(([^#)]+)(?:#[^)]+)?\)", text)
    for path in paths:
        # The documentation is the project's own, and not of this copy.
        assert (copy / "reports" / path).is_file() or (ROOT / "reports" / path).is_file(), path
    assert sum(path.startswith("../data/predictions/") for path in paths) == 4
    assert "<details id=" in (copy / "reports/report.html").read_text()


_KINDS = ("_data.md", "_models.md", ".jsonld")


def test_curves_have_a_table_per_kind_and_data_set(document: Document) -> None:
    """The tables for `dvc plots`."""
    assert set(document.curves) == set(curves.KINDS)
    assert set(document.curves["roc"]) == set(project.DATASETS)
    assert list(dict.fromkeys(document.curves["roc"]["beats"]["model"])) == ["cnn", "autoencoder"]


@pytest.mark.usefixtures("without_pictures")
def test_a_model_that_params_does_not_list_is_named_and_left_out(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A removed model leaves files behind; they must not come back in the report."""
    content = project.only("beats", models=["cnn"])
    found = compose(content, Report(mistakes=0), root, project.REPORT).markdown
    warning = "data/models/beats/autoencoder is not listed in params.yaml"
    assert capsys.readouterr().out.count(warning) == 1
    assert "autoencoder" not in found
    assert "mistake" not in found.replace("mistakes: 2", "")


@pytest.mark.usefixtures("without_pictures")
def test_a_data_set_without_models_is_described(root: Path) -> None:
    content = project.only("beats", "digits", models=["lstm"])
    found = compose(content, Report(mistakes=0), root, project.REPORT)
    assert "### beats: data" in found.markdown
    assert "### beats: comparison" not in found.markdown
    assert set(found.curves["roc"]) == {"digits"}


@pytest.mark.parametrize(
    "path",
    [
        "data/normalized/beats/dataset.json",
        "data/normalized/beats/test/signals.npy",
        "data/normalized/beats/train/records.csv",
        "reports/metrics/beats/split.json",
        "data/models/beats/cnn/model.json",
        "data/models/beats/cnn/history.csv",
        "data/predictions/beats/cnn/predictions.csv",
        "data/predictions/beats/cnn/estimates.json",
        "data/durations/beats/cnn/train.json",
        "data/durations/beats/cnn/predict.json",
    ],
)
def test_a_missing_output_is_named(root: Path, tmp_path: Path, path: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    (copy / path).unlink()
    with pytest.raises(UserError, match=rf"{re.escape(path)} is missing: run `(dvc|beatline) rep"):
        compose(project.only("beats", models=["cnn"]), Report(mistakes=1), copy, project.REPORT)


NETWORKS = ("model.onnx", "weights.safetensors")  # which the report does not read


def test_any_flipped_byte_of_an_output_is_named(root: Path, tmp_path: Path) -> None:
    """In whatever file of a stage the report reads, wherever it is: the file, and no report of it."""
    copy = shutil.copytree(root, tmp_path / "copy")
    content = project.only("machines", models=["autoencoder"])
    files = [path for path in (copy / "data").glob("*/machines/**/*") if path.is_file()]
    files = [path for path in files if path.name not in NETWORKS and "embedding" not in path.parts]
    files.append(copy / "data/splits/machines.csv")
    assert {path.parts[len(copy.parts) + 1] for path in files} == {
        *("labels", "splits", "normalized", "models", "predictions", "durations")
    }
    machines = results.read(content, "machines", copy)
    for path in files:
        for place in places(path, 3):
            with flipped(path, place), pytest.raises(UserError, match=rf"{path.name} is damaged"):
                results.read(content, "machines", copy)
                reconstructions.read(copy / "data/predictions/machines/autoencoder", [])
                croissant.croissant_metadata(machines, content, copy)
    results.read(content, "machines", copy)


def test_an_unknown_or_wrong_parameter_is_refused() -> None:
    with pytest.raises(UserError, match=r"report\.mistake: unknown parameter \(did you mean"):
        params.block({"report": {"mistakes": 1, "mistake": 1}}, "report", Report)
    with pytest.raises(UserError, match=r"report\.mistakes"):
        params.block({"report": {"mistakes": -1}}, "report", Report)


def test_the_report_needs_no_torch() -> None:
    """evaluate wrote all that is drawn: no network is loaded, and the page is there in seconds."""
    program = (
        "import stages.report, sys; assert not {'torch', 'beatline.bundle'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)
