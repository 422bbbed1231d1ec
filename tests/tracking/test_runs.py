"""The mirror of what DVC knows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from beatline.tracking import names, runs
from tests.bundle.bundles import HISTORY
from tests.tracking import project

CNN, AUTOENCODER = "ptbxl/cnn", "ecg5000/autoencoder"


def every_run(client: MlflowClient) -> list[Run]:
    numbers = [each.experiment_id for each in client.search_experiments()]
    return list(client.search_runs(numbers))


def run_of(client: MlflowClient, key: str) -> Run:
    dataset, model = key.split("/")
    [run] = [
        run
        for run in every_run(client)
        if (run.data.tags[names.DATASET], run.data.tags[names.MODEL]) == (dataset, model)
    ]
    return run


def test_everything_that_was_measured_is_there(mlflow: MlflowClient, tmp_path: Path) -> None:
    """Who looks for a run in MLflow finds each metric with its interval, the parameters, the curves, the
    files and what it was made of."""
    revision = project.make(tmp_path / "p", CNN, AUTOENCODER)
    mirrored = runs.mirror(mlflow, [revision])
    assert sorted(mirrored.added) == sorted([CNN, AUTOENCODER]) and not mirrored.left_out
    for key in (CNN, AUTOENCODER):
        run, dataset = run_of(mlflow, key), key.partition("/")[0]
        stored: Any = json.loads((tmp_path / f"p/reports/metrics/{key}.json").read_text())
        for row in stored["metrics"]:
            name = row["metric"]
            values = [run.data.metrics.get(each) for each in (name, f"{name}.low", f"{name}.high")]
            assert values == [row["value"], row["low"], row["high"]]
        assert run.data.params["epochs"] == "2" and run.data.params["training.seed"] == "1"
        assert run.data.metrics["train_seconds"] == 12.5
        losses = mlflow.get_metric_history(run.info.run_id, "train_loss")
        expected = HISTORY.dropna(subset="train_loss")
        assert {each.step: each.value for each in losses} == pytest.approx(
            dict(zip(expected["epoch"], expected["train_loss"], strict=True)), rel=1e-5
        )
        assert run.data.tags[f"{names.PREFIX}md5.data/raw/{dataset}.zip"] == "a" * 32
        assert run.data.tags["mlflow.source.git.commit"] == "5" * 40
        bundle = mlflow.download_artifacts(run.info.run_id, names.BUNDLE)
        original = tmp_path / "p/data/models" / key
        assert {path.name: path.read_bytes() for path in Path(bundle).iterdir()} == {
            path.name: path.read_bytes() for path in original.iterdir()
        }
        figures = mlflow.list_artifacts(run.info.run_id, names.FIGURES)
        assert {f"{key.partition('/')[2]}_curves.svg"} < {Path(each.path).name for each in figures}
    parts = json.loads((tmp_path / f"p/reports/metrics/{CNN}.json").read_text())["parts"]
    metrics = run_of(mlflow, CNN).data.metrics
    assert [metrics[f"{part['class']}/auc.low"] for part in parts] == [
        part["auc_low"] for part in parts
    ]


def test_a_second_call_adds_nothing(mlflow: MlflowClient, tmp_path: Path) -> None:
    """What is there is left as it is, to the last metric; another revision with the same state too."""
    revision = project.make(tmp_path / "p", CNN)
    runs.mirror(mlflow, [revision])
    before = run_of(mlflow, CNN)
    later = project.Stored(tmp_path / "p", "v1")
    mirrored = runs.mirror(mlflow, [revision, later])
    assert (mirrored.added, mirrored.present) == ([], 1)
    assert run_of(mlflow, CNN).to_dictionary() == before.to_dictionary()


def test_another_state_is_another_run(sqlite_mlflow: MlflowClient, tmp_path: Path) -> None:
    revision = project.make(tmp_path / "p", CNN)
    other = project.make(tmp_path / "q", CNN, seed=2)
    assert len(runs.mirror(sqlite_mlflow, [revision, other]).added) == 2
    assert {run.data.params["batch_size"] for run in every_run(sqlite_mlflow)} == {"65", "66"}


@pytest.mark.parametrize("broken", ["log_batch", "log_artifacts", "set_terminated"])
def test_an_interrupted_run_is_completed(
    broken: str, sqlite_mlflow: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a run never counts as done, and the next call leaves one whole run and no double values."""
    revision = project.make(tmp_path / "p", CNN)

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as interrupted:
        interrupted.setattr(MlflowClient, broken, killed)
        with pytest.raises(KeyboardInterrupt):
            runs.mirror(sqlite_mlflow, [revision])
    assert not runs.is_done(run_of_any(sqlite_mlflow))
    assert runs.mirror(sqlite_mlflow, [revision]).added == [CNN]
    run = run_of(sqlite_mlflow, CNN)
    assert runs.is_done(run)
    history = sqlite_mlflow.get_metric_history(run.info.run_id, "train_loss")
    assert len(history) == HISTORY["train_loss"].notna().sum()
    assert sqlite_mlflow.list_artifacts(run.info.run_id, names.BUNDLE)


def run_of_any(client: MlflowClient) -> Run:
    [run] = every_run(client)
    return run


def test_simulated_and_real_are_apart(sqlite_mlflow: MlflowClient, tmp_path: Path) -> None:
    """A table of runs never ranks a score on simulated recordings above one on real ones."""
    project.make(tmp_path / "p", CNN)
    project.make(tmp_path / "q", CNN, seed=2)
    metrics, lock = tmp_path / f"q/reports/metrics/{CNN}.json", tmp_path / "q/dvc.lock"
    before = project.md5(metrics)
    metrics.write_text(json.dumps(json.loads(metrics.read_text()) | {"simulated": False}))
    lock.write_text(lock.read_text().replace(before, project.md5(metrics)))
    runs.mirror(sqlite_mlflow, [project.Stored(tmp_path / name) for name in "pq"])
    by_experiment = {run.info.experiment_id: run.data.tags for run in every_run(sqlite_mlflow)}
    assert len(by_experiment) == 2
    for number, tags in by_experiment.items():
        experiment = sqlite_mlflow.get_experiment(number)
        simulated = tags[names.SIMULATED]
        assert ("simulated" in experiment.name) == (simulated == "true")
        assert experiment.tags[names.SIMULATED] == simulated
        assert ("imulated" in experiment.tags["mlflow.note.content"]) == (simulated == "true")


def _changed_metrics(root: Path) -> None:
    path = root / f"reports/metrics/{CNN}.json"
    path.write_text(path.read_text().replace('"value": 0', '"value": 1'))


def _trained_again(root: Path) -> None:
    lock = root / "dvc.lock"
    content = lock.read_text()
    md5 = project.md5(root / "data/models" / CNN / "SHA256SUMS")
    lock.write_text(content.replace(md5, "c" * 32, 1))  # of two: what train made, and evaluate read


def _never_evaluated(root: Path) -> None:
    lock = root / "dvc.lock"
    lock.write_text(lock.read_text().replace("evaluate_cnn@ptbxl", "evaluate_other@ptbxl"))


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (_changed_metrics, "MD5"),
        (_trained_again, "trained after it was evaluated"),
        (_never_evaluated, "evaluate_cnn@ptbxl"),
    ],
)
def test_numbers_of_another_model_are_not_mirrored(
    change: Any, cause: str, sqlite_mlflow: MlflowClient, tmp_path: Path
) -> None:
    """Metrics that evaluate did not write of this very bundle are refused by name, and the others go
    on."""
    project.make(tmp_path / "p", CNN, AUTOENCODER)
    change(tmp_path / "p")
    mirrored = runs.mirror(sqlite_mlflow, [project.Stored(tmp_path / "p")])
    assert mirrored.added == [AUTOENCODER]
    [reason] = mirrored.left_out
    assert CNN in reason and cause in reason and "dvc repro" in reason


def test_a_run_shows_the_figures_of_its_own_model(tmp_path: Path) -> None:
    """Figures of `cnn_lstm` are not those of `cnn`."""
    revision = project.make(tmp_path, CNN)
    figures = [Path(path).name for path in runs.figures_of(revision, "ptbxl", "cnn")]
    assert figures == ["cnn_curves.svg", "cnn_other_curves.svg"]
    revision.params["train"]["cnn_other"] = {"ptbxl": {}}
    figures = [Path(path).name for path in runs.figures_of(revision, "ptbxl", "cnn")]
    assert figures == ["cnn_curves.svg"]


@given(
    names=st.lists(st.text(min_size=1), min_size=1, max_size=6, unique=True),
    value=st.floats(0, 1),
)
def test_no_class_is_lost_by_its_name(names: list[str], value: float) -> None:
    """Classes are called as their publishers like; MLflow has fewer characters for a metric's name."""
    row = {"auc": value, "auc_low": 0.0, "auc_high": 1.0, "positives": 3}
    about = {
        "metrics": [{"metric": "auc", "value": value, "low": 0.0, "high": 1.0}],
        "parts": [{"class": name, **row} for name in names],
        "about": [{"records": 5}],
    }
    metrics = runs.metrics_of(about)
    assert sum(name.endswith("/auc") for name in metrics) == len(names)
    from mlflow.utils.validation import _validate_metric_name

    for name in metrics:
        _validate_metric_name(name)


def test_networks_behind_a_mean_are_logged_as_theirs() -> None:
    """What the seeds' networks reach is not what their mean does, nor what it would be uncalibrated."""
    about = {
        "metrics": [{"metric": "brier", "value": 0.1, "low": 0.05, "high": 0.2}],
        "seeds": [],
        "members": [{"seed": 5, "brier": 0.3}, {"seed": 6, "brier": 0.4}],
        "uncalibrated": [
            {"metric": "calibration_error", "value": 0.02, "low": 0.0, "high": 0.03},
            {"metric": "brier", "value": 0.15, "low": 0.1, "high": 0.25},
        ],
        "about": [{"records": 5}],
    }
    logged = runs.metrics_of(about)
    assert (logged["brier"], logged["seed 5/brier"], logged["seed 6/brier"]) == (0.1, 0.3, 0.4)
    assert (logged["uncalibrated/brier"], logged["uncalibrated/brier.high"]) == (0.15, 0.25)
    assert logged["uncalibrated/calibration_error"] == 0.02


def test_more_than_a_batch_is_logged_whole(sqlite_mlflow: MlflowClient) -> None:
    """MLflow takes 1,000 metrics and 100 parameters at once; a long training has more."""
    from mlflow.entities import Metric, Param, RunTag

    run = sqlite_mlflow.create_run("0")
    runs.log(
        sqlite_mlflow,
        run.info.run_id,
        metrics=[Metric("loss", step / 7, 1000, step) for step in range(2500)],
        params=[Param(f"p{number}", "x") for number in range(230)],
        tags=[RunTag(f"t{number}", "x") for number in range(130)],
    )
    logged = sqlite_mlflow.get_run(run.info.run_id)
    history = sqlite_mlflow.get_metric_history(run.info.run_id, "loss")
    assert [each.value for each in history] == [step / 7 for step in range(2500)]
    assert len(logged.data.params) == 230
    assert sum(name.startswith("t") for name in logged.data.tags) >= 130


def test_curves_are_the_history(tmp_path: Path) -> None:
    table = pd.DataFrame({"epoch": [1, 2], "train_loss": [0.5, None], "auc": [0.1, 0.2]})
    table.to_csv(tmp_path / "history.csv", index=False)
    curves = list(runs.curves_of((tmp_path / "history.csv").read_bytes()))
    assert curves == [("train_loss", 0.5, 1), ("auc", 0.1, 1), ("auc", 0.2, 2)]
