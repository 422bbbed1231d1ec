"""The stage train: interrupted and gone on with, and several seeds in one run."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
import yaml

from beatline import bundle
from beatline.bundle import model
from beatline.common import sums
from beatline.common.errors import UserError
from beatline.common.files import read_json, sha256
from beatline.lineage import code
from beatline.preprocessing import arrays
from beatline.training import precision
from beatline.training.checkpoint import State
from stages import aggregate_labels, download, evaluate, normalize, split, train
from tests import parameters
from tests.paths import ROOT
from tests.pipeline.clones import write_heartbeats

CNN: dict[str, Any] = {
    "architecture": parameters.ARCHITECTURES["cnn"],
    **parameters.TRAIN,
    "windows": {"length": 100, "stride": 20},
    "augment": {"noise": 0.1},
    "schedule": {"name": "one_cycle"},
}
TREES: dict[str, Any] = {
    "architecture": parameters.ARCHITECTURES["boosted_trees"],
    "learning_rate": 0.1,
    "leaf_records": 5,
    "l2": 0.0,
    "features": 0.2,
    "monitor": "epoch",
}
ROCKET: dict[str, Any] = {
    "architecture": parameters.ARCHITECTURES["rocket"],
    "windows": {"length": 100, "stride": 20},
}
SLOW = {**parameters.TRAIN["optimizer"], "learning_rate": 0.005}
FILES = (bundle.WEIGHTS, bundle.DESCRIPTION, bundle.HISTORY, bundle.GRAPH, bundle.FAMILIARITY)
FILES += (bundle.REFERENCE,)
OUTPUT, CHECKPOINTS = Path("data/models/ecg5000/cnn"), Path("data/checkpoints")


@pytest.fixture(scope="module")
def normalized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of one small data set, up to the stage before training."""
    folder = tmp_path_factory.mktemp("project")
    content = parameters.content()
    content["datasets"]["ecg5000"]["download"]["source"] = "heartbeats"
    content["train"] = {
        "cnn": {"ecg5000": CNN},
        "boosted_trees": {"ecg5000": TREES},
        "rocket": {"ecg5000": ROCKET},
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(content))
    write_heartbeats(folder / "heartbeats")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for stage in (download, aggregate_labels, split, normalize):
            stage.main("ecg5000")
    return folder


@pytest.fixture(autouse=True)
def project(normalized: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of that project; the current folder."""
    folder = Path(shutil.copytree(normalized, tmp_path / "project"))
    monkeypatch.chdir(folder)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield folder
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


def change(model: str = "cnn", **values: Any) -> None:
    """Change a model's parameters in the project's params.yaml."""
    content = yaml.safe_load(Path("params.yaml").read_text())
    content["train"][model]["ecg5000"] |= values
    Path("params.yaml").write_text(yaml.safe_dump(content))


def written(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): sha256(path) for path in files}


def started(folder: Path, model: str = "cnn", **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "stages.train", model, "ecg5000"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def printed_until(line: str, process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    printed = ""
    while line not in printed:
        more = process.stdout.readline()
        assert more, printed
        printed += more
    return printed


def killed_at(line: str, folder: Path) -> str:
    """Return what the stage printed until it was killed, once it had printed `line`."""
    process = started(folder)
    printed = printed_until(line, process)
    process.kill()
    printed += process.communicate()[0]
    assert process.returncode == -signal.SIGKILL
    return printed


def test_killed_and_gone_on_with(project: Path, tmp_path: Path) -> None:
    """SIGKILL in the middle of the second of two seeds: the stage trains the first no more, goes on with
    the second after the epochs that are done, and leaves the bytes of a run that nobody interrupted."""
    change(epochs=20, seeds=2)
    whole_folder = Path(shutil.copytree(project, tmp_path / "whole"))
    whole = started(whole_folder)
    killed_at("seed 2  epoch   3/20", project)
    assert not OUTPUT.exists()
    last = started(project)
    printed = last.communicate()[0]
    assert last.returncode == 0 and "seed 1  epoch" not in printed
    (found,) = re.findall(r"seed 2  going on after epoch (\d+) of 20 \(interrupted", printed)
    assert 3 <= int(found) < 20
    begun = re.findall(r"seed 2  epoch +(\d+)/20", printed)
    assert list(map(int, begun)) == list(range(int(found) + 1, 21))
    printed = whole.communicate()[0]
    assert whole.returncode == 0 and "going on" not in printed
    assert written(OUTPUT) == written(whole_folder / OUTPUT)
    assert not CHECKPOINTS.exists()


def test_a_process_is_killed_and_others_go_on(project: Path, tmp_path: Path) -> None:
    """One of two, in the second of two seeds: the stage ends in a sentence, writes nothing and keeps its
    checkpoints. One process, with other threads, goes on to the bundles that two give."""
    change(epochs=12, seeds=2, shards=2)
    whole_folder = Path(shutil.copytree(project, tmp_path / "whole"))
    process = started(project, BEATLINE_PROCESSES="2")
    printed_until("seed 2  epoch   3/12", process)
    (child,) = psutil.Process(process.pid).children()
    child.kill()
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1 and errors.startswith("error: process 1 of 2 ")
    assert errors.count("\n") == 1 and "SIGKILL" in errors
    assert not OUTPUT.exists() and len(list(CHECKPOINTS.rglob("*.state"))) == 2
    pair = (
        started(project, BEATLINE_PROCESSES="1", OMP_NUM_THREADS="2"),
        started(whole_folder, BEATLINE_PROCESSES="2"),
    )
    printed, whole = (each.communicate()[0] for each in pair)
    assert [each.returncode for each in pair] == [0, 0]
    assert "seed 2  going on after epoch" in printed and "seed 1  epoch" not in printed
    assert ", 2 processes" in whole and "going on" not in whole
    assert written(OUTPUT) == written(whole_folder / OUTPUT)
    assert not CHECKPOINTS.exists()


PLACE = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29573"}


def test_what_is_not_trained_by_gradient_descent_is_fitted_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By process 0, which waits for no other."""
    for name, value in PLACE.items():
        monkeypatch.setenv(name, value)
    train.main("boosted_trees", "ecg5000")
    assert not Path("data/models").exists()
    monkeypatch.setenv("RANK", "0")
    train.main("boosted_trees", "ecg5000")
    assert Path("data/models/ecg5000/boosted_trees").exists()


def test_processes_without_shards_do_not_train_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes and one shard: both would write the same files."""
    for name, value in PLACE.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=r"2 processes.*training\.shards is 1"):
        train.main("cnn", "ecg5000")


class _KilledError(Exception):
    """Nothing more happens in this process."""


def interrupt(monkeypatch: pytest.MonkeyPatch, epochs: int = 2) -> None:
    """Begin training, until so many epochs are done."""

    def save(self: State, state: dict[str, Any]) -> None:
        real(self, state)
        if len(state["history"]) == epochs:
            raise _KilledError

    real = State.save
    with monkeypatch.context() as patch, pytest.raises(_KilledError):
        patch.setattr(State, "save", save)
        train.main("cnn", "ecg5000")


@pytest.mark.parametrize(
    "changed", ["nothing", "seeds", "rate", "seed", "signals", "labels", "code", "threads"]
)
def test_only_the_same_training_goes_on(
    changed: str,
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A parameter, a sample, a label, a module or the number of threads: what was begun with another is
    not used, and what comes out is what a run from the beginning gives."""
    interrupt(monkeypatch)
    files = Path("data/normalized/ecg5000/train")
    if changed == "seeds":
        change(seeds=2)
    if changed == "rate":
        change(optimizer={**CNN["optimizer"], "learning_rate": 0.01})
    if changed == "seed":
        change(seed=2)
    if changed == "signals":
        signals = np.load(files / arrays.SIGNALS)
        signals[0, 0, 0] += 1
        np.save(files / arrays.SIGNALS, signals)
    if changed == "labels":
        table = (files / arrays.RECORDS).read_text()
        (files / arrays.RECORDS).write_text(re.sub(r",1\n", ",0\n", table, count=1))
    sums.seal(files)
    if changed == "code":
        monkeypatch.setattr(code, "code_identity", lambda: "another")
    if changed == "threads":
        torch.set_num_threads(2)
    beginning = Path(shutil.copytree(project, tmp_path / "beginning"))
    shutil.rmtree(beginning / CHECKPOINTS)
    capsys.readouterr()
    train.main("cnn", "ecg5000")
    goes_on = "going on after epoch 2 of 4 (interrupted earlier)" in capsys.readouterr().out
    assert goes_on == (changed in ("nothing", "seeds"))
    found = written(OUTPUT)
    monkeypatch.chdir(beginning)
    train.main("cnn", "ecg5000")
    assert written(OUTPUT) == found


def test_it_starts_from_another_model(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the stage, interrupted and gone on with to the same bytes; the bundle says from which, and other
    weights of that name are refused before anything is written."""
    train.main("cnn", "ecg5000")
    parent = Path("data/models/parent/cnn")
    parent.parent.mkdir()
    weights = bundle.load(OUTPUT.rename(parent)).description[bundle.WEIGHTS_SHA256]
    start = f"parent/cnn@{weights[:10]}"
    change(initial=start, initial_rate=0.1, freeze=["features.0"], optimizer=SLOW)
    whole = Path(shutil.copytree(project, tmp_path / "whole"))
    interrupt(monkeypatch)
    train.main("cnn", "ecg5000")
    found, first = written(OUTPUT), bundle.load(OUTPUT)
    assert first.description["initial"][bundle.WEIGHTS_SHA256] == weights
    learned = bundle.load(parent).network.state_dict()
    kept = {name for name, each in first.network.state_dict().items() if each.equal(learned[name])}
    assert kept == {name for name in learned if name.startswith("features.0.")}
    monkeypatch.chdir(whole)
    train.main("cnn", "ecg5000")
    assert written(OUTPUT) == found
    change(initial="parent/cnn@00000000")
    with pytest.raises(UserError, match=r"train\.cnn\.ecg5000\.initial: .*" + weights[:8]):
        train.main("cnn", "ecg5000")
    assert written(OUTPUT) == found


def test_a_damaged_state_costs_time_alone(
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The stage says so, and starts over."""
    whole = Path(shutil.copytree(project, tmp_path / "whole"))
    interrupt(monkeypatch)
    (state,) = CHECKPOINTS.rglob("*.state")
    state.write_bytes(state.read_bytes()[:-100])
    capsys.readouterr()
    train.main("cnn", "ecg5000")
    printed = capsys.readouterr().out
    assert "warning: data/checkpoints/ecg5000/cnn/" in printed and "epoch   1/4" in printed
    found = written(OUTPUT)
    monkeypatch.chdir(whole)
    train.main("cnn", "ecg5000")
    assert written(OUTPUT) == found


def test_the_duration_is_that_of_all_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted training took its time too: here on a clock that runs a million times as fast."""
    clock = time.perf_counter
    with monkeypatch.context() as patch:
        patch.setattr(time, "perf_counter", lambda: 1e6 * clock())
        interrupt(monkeypatch)
    train.main("cnn", "ecg5000")
    assert read_json(Path("data/durations/ecg5000/cnn/train.json"))["train_seconds"] > 1000


@pytest.mark.parametrize("model", ["cnn", "boosted_trees", "rocket"])
def test_every_seed_is_a_run_of_its_own(model: str) -> None:
    """The first is the bundle, the others are bundles in its folder `seeds`: the bytes of weights, the
    history, the thresholds and the best epoch of a run with that seed alone."""
    output = Path(f"data/models/ecg5000/{model}")
    change(model, seed=5, seeds=3)
    train.main(model, "ecg5000")
    several = Path(shutil.copytree(output, "several"))
    assert sorted(path.name for path in (several / "seeds").iterdir()) == ["6", "7"]
    weights = set()
    for seed, folder in ((5, several), (6, several / "seeds/6"), (7, several / "seeds/7")):
        change(model, seed=seed, seeds=1)
        train.main(model, "ecg5000")
        assert not (output / "seeds").exists()
        for name in (bundle.WEIGHTS, bundle.HISTORY, bundle.FAMILIARITY, bundle.REFERENCE):
            assert (output / name).read_bytes() == (folder / name).read_bytes()
        alone, among = (read_json(place / bundle.DESCRIPTION) for place in (output, folder))
        assert among["training"].pop("seeds") == 3 and alone["training"].pop("seeds") == 1
        assert alone == among and alone["training"]["seed"] == seed
        assert bundle.load(folder).classes == ["anomaly"]
        weights.add(sha256(folder / bundle.WEIGHTS))
    assert len(weights) == 3


@pytest.mark.parametrize("model", ["cnn", "boosted_trees"])
def test_the_precision_of_a_network_is_told(model: str) -> None:
    """Beside what was asked for: `auto` is another one on another machine. Trees have none."""
    if model == "cnn":
        change(model, precision="auto")
    train.main(model, "ecg5000")
    folder = Path(f"data/models/ecg5000/{model}")
    told = read_json(folder / bundle.DESCRIPTION)
    history = pd.read_csv(folder / bundle.HISTORY)
    if model == "cnn":
        assert told["training"]["precision"] == "auto"
        assert {told["precision"]} == set(history["precision"]) < set(precision.TYPES)
    else:
        assert "precision" not in told and "precision" not in history
    assert bundle.load(folder).classes == ["anomaly"]


def test_all_models_of_a_data_set_have_one_distance_to_its_training_recordings() -> None:
    """A detector's too, which learns from normal ones alone: known anomalies are no foreign recordings.
    The data set has both."""
    content = yaml.safe_load(Path("params.yaml").read_text())
    content["train"]["autoencoder"] = {
        "ecg5000": {**CNN, "architecture": parameters.ARCHITECTURES["autoencoder"], "augment": {}}
    }
    Path("params.yaml").write_text(yaml.safe_dump(content))
    assert len(np.unique(arrays.load_split(Path("data/normalized/ecg5000/train")).anomalies())) == 2
    for model_name in ("cnn", "autoencoder"):
        train.main(model_name, "ecg5000")
    files = [
        Path(f"data/models/ecg5000/{name}") / bundle.FAMILIARITY for name in ("cnn", "autoencoder")
    ]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_all_seeds_are_written_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full at the last bundle leaves the old ones as they were, and the trained networks
    where the next run finds them."""
    train.main("cnn", "ecg5000")
    before = written(OUTPUT)
    change(seeds=2)
    real = bundle.save

    def full(folder: Path, *arguments: Any) -> None:
        if folder.name == "2":
            raise OSError
        real(folder, *arguments)

    with monkeypatch.context() as patch, pytest.raises(OSError):
        patch.setattr(model, "save", full)
        train.main("cnn", "ecg5000")
    assert written(OUTPUT) == before
    assert len(list(CHECKPOINTS.rglob("*.state"))) == 2
    train.main("cnn", "ecg5000")
    assert written(OUTPUT).keys() == {
        f"{place}{name}" for place in ("", "seeds/2/") for name in (*FILES, sums.SUMS)
    }


@pytest.mark.parametrize("model", ["cnn", "boosted_trees"])
def test_a_mean_of_seeds(model: str) -> None:
    """The bundle answers with the mean of its members' probabilities, is calibrated as they are, and has
    thresholds of its own; the members are the bundles of runs with their seeds."""
    output = Path(f"data/models/ecg5000/{model}")
    change(model, seed=5, seeds=3)
    train.main(model, "ecg5000")
    alone = [bundle.load(output), *(bundle.load(path) for path in bundle.other_seeds(output))]
    change(model, predict_with="mean", calibrate="temperature")
    train.main(model, "ecg5000")
    mean = bundle.load(output)
    members = [bundle.load(path) for path in bundle.other_seeds(output)]
    assert [path.name for path in bundle.other_seeds(output)] == ["5", "6", "7"]
    signals = arrays.load_split(Path("data/normalized/ecg5000/test"), mean.classes).signals
    single = [each.answer(signals).values for each in alone]
    uncalibrated = [each.uncalibrated() for each in (mean, *members)]
    assert None not in uncalibrated
    values = [each.answer(signals).values for each in uncalibrated if each]
    assert values[0] == pytest.approx(np.mean(single, axis=0), abs=1e-6)
    for own, expected in zip(values[1:], single, strict=True):
        assert own == pytest.approx(expected, abs=1e-6)
    listed = mean.description["members"]
    assert [each["seed"] for each in listed] == [5, 6, 7]
    for each, member in zip(listed, members, strict=True):
        assert each["weights_sha256"] == member.description[bundle.WEIGHTS_SHA256]
        assert member.description["training"]["seed"] == each["seed"]
        assert "predict_with" not in member.description["training"]
    parameters_of_one = members[0].description["parameters"]
    assert mean.description["parameters"] == 3 * parameters_of_one
    assert mean.description["training"]["predict_with"] == "mean"
    evaluate.main(model, "ecg5000")
    metrics = read_json(Path(f"reports/metrics/ecg5000/{model}.json"))
    own = {row["metric"]: row["value"] for row in metrics["metrics"]}
    test = arrays.load_split(Path("data/normalized/ecg5000/test"), mean.classes)
    targets = test.targets(mean.classes)
    assert metrics["seeds"] == []  # it is of none
    assert own["brier"] == pytest.approx(
        ((mean.answer(signals).values - targets) ** 2).mean(), abs=1e-4
    )
    of_members = [row["brier"] for row in metrics["members"]]
    expected = [((each.answer(signals).values - targets) ** 2).mean() for each in members]
    assert of_members == pytest.approx(expected, abs=1e-4)
    (brier,) = (row for row in metrics["uncalibrated"] if row["metric"] == "brier")
    assert brier["value"] == pytest.approx(((values[0] - targets) ** 2).mean(), abs=1e-4)
    assert brier["low"] <= brier["value"] <= brier["high"]


def test_one_seed_has_no_mean(capsys: pytest.CaptureFixture[str]) -> None:
    change(predict_with="mean")
    with pytest.raises(UserError, match=r"train\.cnn\.ecg5000.*seeds"):
        train.main("cnn", "ecg5000")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("calibrate", "temperature"),
        ("class_weights", "balanced"),
        ("label_smoothing", 0.1),
        ("monitor", "accuracy"),
    ],
)
def test_what_is_for_labels_is_not_for_scores(name: str, value: object) -> None:
    content = yaml.safe_load(Path("params.yaml").read_text())
    block = {**CNN, "architecture": parameters.ARCHITECTURES["autoencoder"], "augment": {}}
    content["train"]["autoencoder"] = {"ecg5000": {**block, name: value}}
    Path("params.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match=rf"train\.autoencoder\.ecg5000\.{name}"):
        train.main("autoencoder", "ecg5000")


def test_calibrating_trains_nothing_again(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither mean nor temperature is an ingredient of a network: interrupted training goes on."""
    change(seeds=2)
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch)
    change(calibrate="temperature", predict_with="mean")
    capsys.readouterr()
    train.main("cnn", "ecg5000")
    assert "going on after" in capsys.readouterr().out
