"""The report: complete, self-contained, honest about what is simulated, the same bytes twice."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from beatline import bundle, curves, figures, models, params, reporting
from beatline.arrays import write_split
from beatline.curves import Evaluated
from beatline.errors import UserError
from beatline.files import write_csv, write_json
from beatline.models import autoencoder
from beatline.reporting import Document, Report

SIZES = {"train": 12, "validation": 6, "test": 10}
CONTENT: dict[str, Any] = {
    "datasets": {"hearts": {"module": "ptbxl"}, "beats": {"module": "ucr"}},
    "train": {
        "cnn": {"hearts": {"epochs": 2}, "beats": {"epochs": 2}},
        "lstm": {"hearts": {"epochs": 2}},
        "autoencoder": {"beats": {"epochs": 2}},
    },
    "evaluate": {"resamples": 100, "confidence": 0.95, "max_fpr": 0.1, "seed": 1},
    "report": {"mistakes": 2},
}
HEARTS = {
    "title": "Hearts <made|up>",
    "source": "simulated",
    "simulated": True,
    "channels": list(figures.LEADS),
    "sampling_rate": 100,
    "unit": "mV",
    "drawing": "twelve_leads",
    "citation": "Nobody 2020",
    "classes": ["NORM", "M|I_x"],
    "task": "multilabel",
    "length": 200,
}
BEATS = {
    **HEARTS,
    "title": "Beats",
    "source": "package",
    "simulated": False,
    "channels": ["channel 1"],
    "sampling_rate": None,
    "drawing": "trace",
    "classes": ["anomaly"],
    "task": "binary",
    "length": 48,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the stages before the report leave behind, small and made up."""
    root = tmp_path_factory.mktemp("project")
    for name, about in (("hearts", HEARTS), ("beats", BEATS)):
        _dataset(root, name, about)
        _trained(root, name, about, "cnn", about["task"], about["classes"], 0.5)
    _trained(root, "hearts", HEARTS, "lstm", "multiclass", HEARTS["classes"], 0.5)
    _trained(root, "beats", BEATS, "autoencoder", "anomaly", ["anomaly"], 1.5)
    return root


@pytest.fixture(scope="module")
def document(root: Path) -> Document:
    return reporting.compose(CONTENT, Report(mistakes=2), root)


def _dataset(root: Path, name: str, about: dict[str, Any]) -> None:
    channels = len(about["channels"])
    normalization = {
        "mean": [0.1] * channels,
        "standard_deviation": [0.5] * channels,
        "constant_channels": [0] if channels > 1 else [],
    }
    counts = {"records": sum(SIZES.values()), "files_without_rows": 3, "invalid_samples": 7}
    description = {**about, "counts": counts, "normalization": normalization}
    write_json(root / f"data/normalized/{name}/dataset.json", description)
    write_json(root / f"reports/metrics/{name}/split.json", {"shared_patients": 2})
    for seed, (split, size) in enumerate(SIZES.items()):
        signals = np.random.default_rng(seed).normal(size=(size, about["length"], channels))
        table = _table(split, size, about["classes"])
        write_split(root / f"data/normalized/{name}/{split}", [signals.astype(np.float32)], table)


def _table(split: str, size: int, classes: list[str]) -> pd.DataFrame:
    number = np.arange(size)
    labels = {name: (number % (k + 2) == 0).astype(int) for k, name in enumerate(classes)}
    first = {"record": [f"files/{split}_{n}" for n in number], "group": number // 2}
    normal = labels["NORM"] if "NORM" in classes else 1 - labels["anomaly"]
    return pd.DataFrame({**first, "normal": normal, "fold": split, **labels})


def _trained(
    root: Path,
    name: str,
    about: dict[str, Any],
    model: str,
    task: str,
    classes: list[str],
    threshold: float,
) -> None:
    torch.manual_seed(0)
    architecture = autoencoder.Architecture(filters=[3, 2], kernel=5)
    channels = len(about["channels"])
    network = models.create("autoencoder", architecture, channels, 1)
    window = {"length": about["length"] // 2, "stride": about["length"] // 3, "aggregate": "mean"}
    description = {
        "architecture": {"name": "autoencoder", "parameters": architecture.model_dump()},
        "parameters": 1234,
        "task": task,
        "classes": classes,
        "thresholds": [] if task == "multiclass" else [threshold] * len(classes),
        "windows": window,
        "normalization": {
            "mean": [0.1] * channels,
            "standard_deviation": [0.5] * channels,
            "constant_channels": [],
        },
        "dataset": about,
        "training": {"monitor": "auc", "threshold_percentile": 95},
        "best_epoch": 2,
        "identity": {
            "data": "d" * 64,
            "code": "c" * 64,
            "environment": {"python": "3", "torch": "2", "device": "cpu (x86)"},
        },
    }
    columns = ("train_loss", "validation_loss", "validation_auc", "learning_rate")
    history = pd.DataFrame({"epoch": [1, 2], **{column: [0.5, 0.4] for column in columns}})
    bundle.save(root / f"data/models/{name}/{model}", network, description, history)
    table = _table("test", SIZES["test"], classes)
    predictions = table.loc[:, ["record", "group", "normal"]].copy()
    rng = np.random.default_rng(9)
    for label in classes:
        scores = 2 * threshold * rng.random(len(table))
        predictions[label] = table[label]
        predictions[f"{label} predicted"] = scores
        predictions[f"{label} decided"] = (scores >= threshold).astype(int)
    folder = root / f"data/predictions/{name}/{model}"
    write_csv(folder / "predictions.csv", predictions, digits=9)
    of_class = {
        "auc": {"value": 0.927, "low": 0.9149, "high": 0.938},
        "f1": {"value": 0.5, "low": None, "high": None},
    }
    several = dict.fromkeys(classes, of_class) if len(classes) > 1 else {}
    counts = {"tp": 1, "fp": 2, "tn": 3, "fn": 4} if task == "anomaly" else {}
    write_json(
        folder / "estimates.json", {"overall": of_class, "classes": several, "counts": counts}
    )


def test_the_first_line_says_what_is_simulated_and_what_is_real(document: Document) -> None:
    """A reader of simulated scores must not take them for real ones."""
    first = document.markdown.splitlines()[0]
    assert first == "# Report: hearts (simulated data), beats (real data)"


def test_nothing_is_called_simulated_that_is_real(root: Path) -> None:
    content = {
        **CONTENT,
        "datasets": {"beats": CONTENT["datasets"]["beats"]},
        "train": {"cnn": {"beats": {"epochs": 2}}, "autoencoder": {"beats": {"epochs": 2}}},
    }
    text = reporting.compose(content, Report(mistakes=1), root).markdown
    assert text.splitlines()[0] == "# Report: beats (real data)"
    assert "simulat" not in text


def test_numbers_come_with_their_interval(document: Document) -> None:
    assert "0.927 [0.915, 0.938]" in document.markdown
    assert "nan" not in document.markdown.lower()
    assert "None" not in document.markdown


def test_the_report_tells_what_was_found_skipped_and_shared(document: Document) -> None:
    for expected in (
        "| files without rows | 3 |",
        "more than one split: **2**",
        "Constant channels: I.",
        "Invalid samples, set to the mean: 7.",
        "| records | 12 | 6 | 10 |",
        "`dddddddddddd` | `cccccccccccc` | python 3, torch 2 | cpu (x86)",
        "confidence: 0.95",
    ):
        assert expected in document.markdown, expected


def test_every_linked_figure_is_there_and_in_the_page(document: Document) -> None:
    """Linked from the Markdown, embedded in the page, with a text for those who cannot see it."""
    links = re.findall(r"!\[(.+?)\]\((.+?)\)\n\n(.+)", document.markdown)
    assert [path for _, path, _ in links] == list(document.figures)
    assert len(links) > 15
    assert all(len(alt) > 10 and len(sentence) > 40 for alt, _, sentence in links)
    page = _Page(reporting.page(document))
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == len(links)
    assert all(image["alt"] for image in images)


def test_the_page_needs_nothing_else(document: Document) -> None:
    """It opens offline, without scripts, and every link within it has a place to go to."""
    text = reporting.page(document)
    page = _Page(text)
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "iframe", "object"}
    for tag, attributes in page.tags:
        source = attributes.get("src") or attributes.get("srcset") or ""
        assert source.startswith("data:image/png;base64,") or not source, tag
    places = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    targets = {attributes["href"] for tag, attributes in page.tags if tag == "a"}
    assert targets
    assert {target.removeprefix("#") for target in targets} <= places
    assert "url(" not in text
    assert "@import" not in text


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))


def test_names_from_the_data_cannot_break_tables_or_markup(document: Document) -> None:
    text = html.unescape(re.sub(r"<[^>]*>", " ", reporting.page(document)))
    assert "Hearts <made|up>" in text
    assert "M|I_x" in text
    assert r"M\|I\_x" in document.markdown


def test_the_same_inputs_give_the_same_bytes(document: Document, root: Path) -> None:
    again = reporting.compose(CONTENT, Report(mistakes=2), root)
    assert again.markdown == document.markdown
    assert again.figures == document.figures
    assert reporting.page(again) == reporting.page(document)


def test_curves_have_a_table_per_kind_and_data_set(document: Document) -> None:
    assert set(document.curves) == set(curves.KINDS)
    assert set(document.curves["roc"]) == {"hearts", "beats"}
    assert list(dict.fromkeys(document.curves["roc"]["beats"]["model"])) == ["cnn", "autoencoder"]


def test_a_model_that_params_does_not_list_is_named_and_left_out(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A removed model leaves files behind; they must not come back in the report."""
    content = {**CONTENT, "train": {"cnn": CONTENT["train"]["cnn"]}}
    text = reporting.compose(content, Report(mistakes=0), root).markdown
    warning = "data/models/beats/autoencoder is not listed in params.yaml"
    assert capsys.readouterr().out.count(warning) == 1
    assert "autoencoder" not in text
    assert "mistake" not in text.replace("mistakes: 2", "")


def test_a_data_set_without_models_is_described(root: Path) -> None:
    content = {**CONTENT, "train": {"cnn": {"hearts": {"epochs": 2}}}}
    found = reporting.compose(content, Report(mistakes=0), root)
    assert "### beats: data" in found.markdown
    assert "### beats: comparison" not in found.markdown
    assert set(found.curves["roc"]) == {"hearts"}


def test_examples_come_from_train_and_have_their_class_alone(document: Document) -> None:
    """NORM is every second record, the other class every third: the first alone are 2 and 3."""
    for record, label in (("files/train\\_2", "NORM"), ("files/train\\_3", r"M\|I\_x")):
        assert f"labelled {label} ({record})" in document.markdown
    assert "real recording labelled normal (files/train\\_1)" in document.markdown


@pytest.mark.parametrize(
    ("task", "thresholds", "values", "decisions", "expected"),
    [
        ("binary", [0.4], [0.3, 0.9, 0.5, 0.1], [0, 1, 1, 0], [1, 3]),
        ("anomaly", [2.0], [1.0, 9.0, 2.5, 0.1], [0, 1, 1, 0], [3, 1]),
    ],
)
def test_the_most_confident_mistakes_come_first(
    task: str,
    thresholds: list[float],
    values: list[float],
    decisions: list[int],
    expected: list[int],
) -> None:
    """Of labels 1 0 0 1 all four are wrong; how far beyond the threshold decides on the order."""
    table = pd.DataFrame(
        {"record": list("abcd"), "A": [1, 0, 0, 1], "A predicted": values, "A decided": decisions}
    )
    description = {"classes": ["A"], "thresholds": thresholds, "task": task}
    model = Evaluated("m", description, pd.DataFrame(), table, {})
    found = reporting.most_confident_mistakes(model, 2)
    assert [wrong.row for wrong in found] == expected
    assert len(reporting.most_confident_mistakes(model, 9)) == 4


def test_mistakes_between_exclusive_classes_name_both() -> None:
    table = pd.DataFrame(
        {"A": [1, 1], "B": [0, 0], "A predicted": [0.1, 0.7], "B predicted": [0.9, 0.3]}
    )
    table["A decided"], table["B decided"] = [0, 1], [1, 0]
    description = {"classes": ["A", "B"], "thresholds": [], "task": "multiclass"}
    (wrong,) = reporting.most_confident_mistakes(
        Evaluated("m", description, pd.DataFrame(), table, {}), 5
    )
    assert wrong.row == 0
    assert wrong.confidence == pytest.approx(0.8)
    assert wrong.sentence == "B (0.900) instead of A (0.100)"


def test_a_reconstruction_is_made_of_the_windows_that_are_scored(root: Path) -> None:
    """Where windows overlap, their mean; where there is one, what the network gives for it."""
    trained = bundle.load(root / "data/models/beats/autoencoder")
    signals = np.random.default_rng(0).normal(size=(2, 48, 1)).astype(np.float32)
    found = reporting.reconstruction(trained, signals)
    with torch.inference_mode():
        first, second = (
            trained.network(torch.from_numpy(signals[:, start : start + 24])).numpy()
            for start in (0, 16)
        )
    np.testing.assert_allclose(found[:, :16], first[:, :16], atol=1e-6)
    np.testing.assert_allclose(found[:, 16:24], (first[:, 16:] + second[:, :8]) / 2, atol=1e-6)


def test_an_unknown_or_wrong_parameter_is_refused() -> None:
    with pytest.raises(UserError, match=r"report\.mistake: unknown parameter \(did you mean"):
        params.block({"report": {"mistakes": 1, "mistake": 1}}, "report", Report)
    with pytest.raises(UserError, match=r"report\.mistakes"):
        params.block({"report": {"mistakes": -1}}, "report", Report)


def test_a_missing_output_is_named(root: Path) -> None:
    content = {**CONTENT, "train": {"lstm": {"beats": {}}}}
    with pytest.raises(UserError, match=r"data/models/beats/lstm/model\.json is missing"):
        reporting.compose(content, Report(mistakes=1), root)
