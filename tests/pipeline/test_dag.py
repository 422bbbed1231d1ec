"""The whole pipeline, run as a user runs it, in a temporary clone with a small configuration."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from ruamel.yaml import YAML

from beatline import bundle, datasets
from beatline.features import sound
from beatline.serving import registry
from beatline.serving.app import create_app
from beatline.serving.settings import Serve
from beatline.sources.pack import Pack
from tests.pipeline.clones import ROOT, Clone, make_clone, make_small, trained_on
from tests.serving import project

PARAMS = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
TRAIN = trained_on(PARAMS["train"])
TRAINED = [(model, dataset) for model, names in TRAIN.items() for dataset in names]
SIMULATED = {"ptbxl", "ecg_features", "machine_sound", "machine_features"}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone in which the pipeline has run once and been committed."""
    made = make_clone(tmp_path_factory.mktemp("clone"))
    make_small(made)
    made.commit("A small configuration")  # whose revision the bundles name
    made.repro()
    made.commit("A small run")
    return made


def test_every_stage_runs_and_leaves_what_it_promises(clone: Clone) -> None:
    """From nothing to bundles, metrics and a report in one command."""
    for model, dataset in TRAINED:
        metrics = json.loads((clone.root / f"reports/metrics/{dataset}/{model}.json").read_text())
        auc = metrics["metrics"][0]
        assert auc["low"] <= metrics["auc"] <= auc["high"]
        assert metrics["simulated"] == (dataset in SIMULATED)
    opening = (clone.root / "reports/report.md").read_text().split("\n## ")[0]
    assert "come from a simulator" in opening
    assert (clone.root / "reports/report.html").stat().st_size > 10_000


def test_no_patient_is_in_two_splits(clone: Clone) -> None:
    """The scores are of patients whom the model has never met."""
    split = json.loads((clone.root / "reports/metrics/ptbxl/split.json").read_text())
    assert split["leak"] == 0


def test_nothing_runs_when_nothing_changed(clone: Clone) -> None:
    """A team trusts that only what changed runs again."""
    assert clone.repro() == set()
    assert "up to date" in clone.run("dvc", "status")


def test_two_forced_runs_give_the_same_bytes(clone: Clone) -> None:
    """Every output of every stage is reproducible on one machine."""
    before = clone.outputs()
    ran = clone.repro("--force")
    data_stages = 5 * len(PARAMS["datasets"]) + len(PARAMS["extract_features"])
    assert len(ran) == data_stages + 2 * len(TRAINED) + 1
    after = clone.outputs()
    assert {path for path in before if before[path] != after.get(path)} == set()
    assert before.keys() == after.keys()


def test_one_hyperparameter_retrains_one_model(clone: Clone) -> None:
    """Only its train, its evaluate and the report run."""
    content = clone.params()
    content["train"]["lstm"]["ecg5000"]["optimizer"]["learning_rate"] = 0.002
    clone.set_params(content)
    assert clone.repro() == {"train_lstm@ecg5000", "evaluate_lstm@ecg5000", "report"}
    difference = clone.run("dvc", "params", "diff")
    assert "train.lstm.ecg5000.optimizer.learning_rate" in difference
    assert "reports/metrics/ecg5000/lstm.json" in clone.run("dvc", "metrics", "diff", "--all")
    _back_to_commit(clone)


def test_one_module_retrains_its_models(clone: Clone) -> None:
    """A change to beatline/models/lstm.py concerns the LSTMs alone."""
    module = clone.root / "beatline/models/lstm.py"
    module.write_text(module.read_text() + "\n# another remark\n")
    models = {f"{kind}_lstm@{name}" for kind in ("train", "evaluate") for name in TRAIN["lstm"]}
    assert clone.would_run() == models  # and then the report, which reads what they write
    _back_to_commit(clone)


def test_results_come_back_from_the_run_cache(clone: Clone) -> None:
    """What was trained once is never trained again, even if everything but the cache is lost."""
    before = clone.outputs()
    shutil.rmtree(clone.root / "data")
    shutil.rmtree(clone.root / "reports")
    (clone.root / "dvc.lock").unlink()
    assert clone.repro() == set()
    assert clone.outputs() == before
    _back_to_commit(clone)


@pytest.mark.parametrize(("model", "dataset"), TRAINED)
def test_a_bundle_answers_from_raw_recordings(clone: Clone, model: str, dataset: str) -> None:
    """One call leads from the raw file to the probabilities that evaluate found."""
    trained = bundle.load(clone.root / f"data/models/{dataset}/{model}")
    folder = clone.root / f"data/predictions/{dataset}/{model}"
    table = pd.read_csv(folder / "predictions.csv", dtype={"record": str})
    module = datasets.module(clone.params()["datasets"][dataset]["module"])
    with Pack(clone.root / f"data/raw/{dataset}.zip") as pack:
        recordings = np.concatenate(list(_as_learned(module, pack, table, trained)))
    answers = trained.predict(recordings)
    predicted = table[[f"{name} predicted" for name in trained.classes]].to_numpy()
    np.testing.assert_allclose(answers.values, predicted, rtol=1e-5, atol=1e-5)


def _as_learned(
    module: ModuleType, pack: Pack, table: pd.DataFrame, trained: bundle.Bundle
) -> Iterator[np.ndarray]:
    """Raw recordings, or what the bundle says that its model takes instead of them."""
    names, representation = list(table["record"]), trained.description["dataset"]["representation"]
    if representation is None:
        yield from module.read_recordings(pack, names)
        return
    kind = representation.pop("kind")
    assert kind == "sound"
    rate = representation["sampling_rate"]
    waveforms = module.read_waveforms(pack, names, rate, representation["channel"])
    for extracted in sound.extract(waveforms, rate, sound.ExtractFeatures(**representation)):
        yield np.stack(extracted.spectrograms)


@pytest.fixture(scope="module")
def served(clone: Clone) -> Iterator[httpx.Client]:
    """A client of the API with the models of the clone."""
    limits = Serve.model_validate(clone.params()["serve"])
    application = create_app(limits, clone.root, registry.wanted(clone.params()))
    with project.serving(application) as url, httpx.Client(base_url=url, timeout=30) as client:
        project.wait_until(lambda: client.get("/health").status_code == 200)
        assert client.get("/health").json() == {"status": "healthy"}
        yield client


@pytest.mark.parametrize(("model", "dataset"), TRAINED)
def test_the_api_answers_raw_files_as_evaluate_did(
    clone: Clone, served: httpx.Client, model: str, dataset: str
) -> None:
    """Every test recording, sent as the file that people have, gets the probabilities that evaluate
    found, and the decisions: what leads from a file to a network is the pipeline's own code."""
    folder = clone.root / f"data/predictions/{dataset}/{model}"
    table = pd.read_csv(folder / "predictions.csv", dtype={"record": str})
    classes = [name.removesuffix(" decided") for name in table if name.endswith(" decided")]
    module = datasets.module(clone.params()["datasets"][dataset]["module"])
    with Pack(clone.root / f"data/raw/{dataset}.zip") as pack:
        rows = table.to_dict("records")
        requests = _as_files(dataset, module, pack, list(table["record"]))
        for row, request in zip(rows, requests, strict=True):
            answer = served.post(f"/models/{dataset}/{model}/predict", **request).json()
            if "score" in answer:
                found, decided = [answer["score"]], [answer["anomaly"]]
            else:
                found = [answer["probabilities"][name] for name in classes]
                exclusive = {name: name == answer.get("class") for name in classes}
                decided = [answer.get("decisions", exclusive)[name] for name in classes]
            expected = [row[f"{name} predicted"] for name in classes]
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
            assert decided == [bool(row[f"{name} decided"]) for name in classes]


def _as_files(
    dataset: str, module: ModuleType, pack: Pack, records: list[str]
) -> Iterator[dict[str, Any]]:
    """Requests with a recording each: both files of a WFDB record, a WAV file, an image, a CSV file."""
    if dataset == "ptbxl":
        for record in records:
            names = [name for name in pack.names() if record[-5:] in name.rpartition("/")[2]]
            yield {"files": [("file", (name, bytes(pack.read(name)))) for name in names]}
    elif dataset == "machine_sound":
        for record in records:
            yield {"content": bytes(pack.read(record)), "headers": {"Content-Type": "audio/wav"}}
    else:
        for batch in module.read_recordings(pack, records):
            yield from map(_as_an_image if dataset == "mnist" else _as_csv, batch)


def _as_an_image(recording: np.ndarray) -> dict[str, Any]:
    file = io.BytesIO()
    Image.fromarray(np.round(recording * 255).astype(np.uint8)).save(file, "PNG")
    return {"content": file.getvalue(), "headers": {"Content-Type": "image/png"}}


def _as_csv(recording: np.ndarray) -> dict[str, Any]:
    text = pd.DataFrame(recording).to_csv(index=False, header=False, float_format="%.9g")
    return {"content": text.encode(), "headers": {"Content-Type": "text/csv"}}


def test_a_row_of_features_is_answered_as_evaluate_did(clone: Clone, served: httpx.Client) -> None:
    """``POST /predict`` with the features of every test record, by name, in one request."""
    table = pd.read_csv(clone.root / "data/predictions/ecg_features/mlp/predictions.csv")
    module = datasets.module(clone.params()["datasets"]["ecg_features"]["module"])
    bundled = json.loads((clone.root / "data/models/ecg_features/mlp/model.json").read_text())
    names, classes = bundled["dataset"]["channels"], bundled["classes"]
    with Pack(clone.root / "data/raw/ecg_features.zip") as pack:
        rows = np.concatenate(list(module.read_recordings(pack, list(table["record"]))))[:, 0]
    asked = [
        {
            name: None if np.isnan(value) else float(value)
            for name, value in zip(names, row, strict=True)
        }
        for row in rows
    ]
    answers = served.post("/predict", json=asked).json()
    predicted = table[[f"{name} predicted" for name in classes]].to_numpy()
    assert [answer["predicted_class"] for answer in answers] == predicted.argmax(axis=1).tolist()
    found = [answer["probability"] for answer in answers]
    np.testing.assert_allclose(found, predicted.max(axis=1), rtol=1e-5, atol=1e-5)


def test_examples_are_test_recordings_and_fit_their_models(
    clone: Clone, served: httpx.Client
) -> None:
    """What the page offers to try was never trained on, is of every class, and gets the answer that
    evaluate found."""
    for model, dataset in TRAINED:
        folder = clone.root / f"data/predictions/{dataset}/{model}"
        table = pd.read_csv(folder / "predictions.csv", dtype={"record": str}).set_index("record")
        address = f"/models/{dataset}/{model}"
        examples = served.get(f"{address}/examples").json()["examples"]
        assert len({tuple(example["labels"]) for example in examples}) == len(examples) > 1
        for example in examples:
            content = served.get(f"{address}/examples/{example['name']}").content
            headers = {"Content-Type": "application/x-npy"}
            if example["sampling_rate"]:
                headers["X-Sampling-Rate"] = str(example["sampling_rate"])
            answer = served.post(f"{address}/predict", content=content, headers=headers).json()
            name = example["labels"][0]
            of_class = "anomaly" if "score" in answer else name
            if of_class in answer.get("probabilities", {"anomaly": 0}):
                found = answer["score"] if "score" in answer else answer["probabilities"][name]
                expected = table.loc[example["record"], f"{of_class} predicted"]
                assert found == pytest.approx(expected, rel=1e-5, abs=1e-5)


def _back_to_commit(clone: Clone) -> None:
    clone.run("git", "checkout", "--quiet", "--force", "HEAD")
    clone.run("git", "clean", "--quiet", "--force", "-d", "reports")  # pictures of other mistakes
    clone.run("dvc", "checkout", "--force")
