"""A stranger's way: a folder of ECGs and a table, one command that looks at it, the pipeline, a report
and a served model. Nobody writes a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pytest

from beatline.serving import registry
from beatline.serving.app import create_app
from beatline.serving.settings import Serve
from tests.own_recordings import real_ecgs, write_thirds
from tests.pipeline.clones import Clone, keep_only, make_clone, make_small
from tests.serving import project

pytestmark = real_ecgs
RECORDS = 150


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A project in which `beatline new dataset` and `beatline repro` have run, and nothing else was
    done; two of the ECGs have faults, and one file is damaged."""
    folder = tmp_path_factory.mktemp("own")
    source = folder / "my ecgs"
    write_thirds(source, RECORDS)
    names = [str(name) for name in pd.read_csv(source / "my_ecgs.csv")["recording"]]
    ecg = pd.read_csv(source / names[1])
    ecg.assign(V3=0.25).to_csv(source / names[1], index=False)
    twin = source / names[4]
    twin.write_bytes((source / names[7]).read_bytes())
    (source / names[2]).write_bytes(b"damaged")
    made = make_clone(folder / "clone")
    make_small(made)
    keep_only(made, "ecg5000")
    content = made.params()
    content["train"] |= {model: {} for model in content["train"] if model != "cnn"}
    made.set_params(content)
    made.commit("A small project")
    made.run("beatline", "new", "dataset", str(source), "--name", "mine")
    made.run("beatline", "repro")
    return made


def test_the_pipeline_runs_without_a_change(clone: Clone) -> None:
    """All ECGs but the damaged one reach a model, which is better than chance on what it has not seen."""
    dataset = json.loads((clone.root / "data/normalized/mine/dataset.json").read_text())
    assert dataset["counts"]["files_skipped"] == 1
    assert dataset["counts"]["records"] == RECORDS - 1
    assert dataset["simulated"] is False
    assert dataset["drawing"] == "twelve_leads"
    metrics = json.loads((clone.root / "reports/metrics/mine/cnn.json").read_text())
    assert metrics["auc"] > 0.6
    assert json.loads((clone.root / "reports/metrics/mine/split.json").read_text())["leak"] == 0
    assert clone.repro() == set()


def test_the_report_shows_what_was_found(clone: Clone) -> None:
    """The data card counts what was done and lists the flags; the table names the two records."""
    card = (clone.root / "reports/cards/mine_data.md").read_text()
    for heading in (
        "## Quality of recordings",
        "files skipped",
        "quality flat",
        "quality duplicate",
    ):
        assert heading in card
    quality = pd.read_csv(clone.root / "reports/cards/mine_quality.csv", keep_default_na=False)
    assert len(quality) == RECORDS - 1
    flags = dict(zip(quality["record"], quality["quality"], strict=True))
    assert flags["traces/00002"] == "flat"
    assert flags["traces/00008"].split(";")[-1] == "duplicate"
    assert "mine_quality.csv" in card
    page = (clone.root / "reports/report.html").read_text()
    assert 'href="cards/mine_quality.csv"' in page
    assert not (clone.root / "reports/cards/ecg5000_quality.csv").exists()


def test_one_data_set_runs_alone(clone: Clone) -> None:
    """`make repro ONLY=mine` runs the stages of that data set and no report."""
    listed = clone.run("dvc", "repro", "--glob", "*@mine", "--dry", "--force")
    assert (
        "train_cnn@mine" in listed and "evaluate_cnn@mine" in listed and "examples@mine" in listed
    )
    assert "ecg5000" not in listed
    assert "stages.report" not in listed


@pytest.fixture
def client(clone: Clone) -> Iterator[httpx.Client]:
    content = clone.params()
    limits = Serve.model_validate(content["serve"])
    application = create_app(limits, clone.root, registry.wanted(content))
    with project.serving(application) as url, httpx.Client(base_url=url, timeout=30) as client:
        project.wait_until(lambda: client.get("/health").status_code == 200)
        yield client


def test_the_model_is_served(clone: Clone, client: httpx.Client) -> None:
    """It answers the files that somebody has as `evaluate` did, in each of three formats."""
    predictions = pd.read_csv(clone.root / "data/predictions/mine/cnn/predictions.csv")
    source = Path(clone.params()["datasets"]["mine"]["download"]["source"])
    asked: set[str] = set()
    for row in predictions.to_dict("records"):
        names = sorted(source.glob(f"{row['record']}[._]*"))
        files = [("file", (path.name, path.read_bytes())) for path in names]
        answer = client.post(
            "/models/mine/cnn/predict", files=files, headers={"X-Sampling-Rate": "100"}
        )
        assert answer.status_code == 200, answer.text
        (found,) = answer.json()["probabilities"].values()
        (expected,) = (row[name] for name in row if str(name).endswith(" predicted"))
        np.testing.assert_allclose(found, expected, atol=1e-4)
        asked |= {path.suffix for path in names}
    assert asked == {".hea", ".dat", ".csv", ".edf"}
