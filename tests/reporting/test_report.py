"""The report: complete, honest about what is simulated, the same bytes twice, clear in its errors."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from beatline import reporting
from beatline.common import params, sums
from beatline.common.errors import UserError
from beatline.evaluation import curves, reconstructions
from beatline.reporting import Document, Report, results
from stages import report as stage
from tests.damage import flipped, places
from tests.paths import ROOT
from tests.reporting import project
from tests.reporting.reading import section


def test_the_first_line_says_what_is_simulated_and_what_is_real(document: Document) -> None:
    """A reader of simulated scores must not take them for real ones."""
    first, _, warning = document.markdown.splitlines()[:3]
    assert first == (
        "# Report: hearts (simulated data), beats (real data), digits (real data), "
        "rows (real data), machines (simulated data)"
    )
    assert warning.startswith("The recordings of **hearts** and **machines** come from a simulator")


@pytest.mark.usefixtures("without_pictures")
def test_nothing_is_called_simulated_that_is_real(root: Path) -> None:
    found = reporting.compose(
        project.only("beats", "digits"), Report(mistakes=1), root, project.REPORT
    )
    assert found.markdown.splitlines()[0] == "# Report: beats (real data), digits (real data)"
    assert "simulat" not in found.markdown


def test_the_opening_lists_every_model_with_intervals(document: Document) -> None:
    opening = document.markdown.split("\n## ")[0]
    rows = [line for line in opening.splitlines() if line.startswith("| [")]
    assert len(rows) == sum(map(len, project.CONTENT["train"].values()))
    for row in rows:
        assert len(re.findall(r"\d\.\d{3} \[\d\.\d{3}, \d\.\d{3}\]", row)) == 4, row
    assert "(patient by patient in hearts)" in opening
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
    once, again = (
        reporting.compose(content, Report(mistakes=2), root, project.REPORT) for _ in range(2)
    )
    assert once.markdown == again.markdown
    assert once.figures == again.figures
    assert reporting.page(once) == reporting.page(again)
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
        reporting.compose(
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
    assert cards == {f"{name}_{kind}.md" for name in ("beats", "digits") for kind in _KINDS}
    text = (copy / "reports/report.md").read_text()
    for path in re.findall(r"\]\(([^#)]+)\)", text):
        assert (copy / "reports" / path).is_file()
    assert "<details id=" in (copy / "reports/report.html").read_text()


_KINDS = ("data", "models")


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
    found = reporting.compose(content, Report(mistakes=0), root, project.REPORT).markdown
    warning = "data/models/beats/autoencoder is not listed in params.yaml"
    assert capsys.readouterr().out.count(warning) == 1
    assert "autoencoder" not in found
    assert "mistake" not in found.replace("mistakes: 2", "")


@pytest.mark.usefixtures("without_pictures")
def test_a_data_set_without_models_is_described(root: Path) -> None:
    content = project.only("beats", "digits", models=["lstm"])
    found = reporting.compose(content, Report(mistakes=0), root, project.REPORT)
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
        reporting.compose(
            project.only("beats", models=["cnn"]), Report(mistakes=1), copy, project.REPORT
        )


NETWORKS = ("model.onnx", "weights.safetensors")  # which the report does not read


def test_any_flipped_byte_of_an_output_is_named(root: Path, tmp_path: Path) -> None:
    """In whatever file of a stage the report reads, wherever it is: the file, and no report of it."""
    copy = shutil.copytree(root, tmp_path / "copy")
    content = project.only("machines", models=["autoencoder"])
    files = [path for path in (copy / "data").glob("*/machines/**/*") if path.is_file()]
    files = [path for path in files if path.name not in NETWORKS and "embedding" not in path.parts]
    assert {path.parts[len(copy.parts) + 1] for path in files} == {
        *("normalized", "models", "predictions", "durations")
    }
    for path in files:
        for place in places(path, 3):
            with flipped(path, place), pytest.raises(UserError, match=rf"{path.name} is damaged"):
                results.read(content, "machines", copy)
                reconstructions.read(copy / "data/predictions/machines/autoencoder", [])
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
