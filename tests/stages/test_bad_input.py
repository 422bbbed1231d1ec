"""The stages on a small project: a good run, and bad input, which ends in one sentence that names file
or key, exit status 1, and nothing half-written."""

from __future__ import annotations

import errno
import hashlib
import importlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from beatline import bundle
from beatline.common import files, sums
from beatline.common.errors import reporting_mistakes
from beatline.preprocessing import arrays
from beatline.simulators.ecg import simulator
from beatline.training import loop
from tests import parameters
from tests.damage import places
from tests.paths import ROOT

DATA_STAGES = ("download", "aggregate_labels", "split", "normalize")
TRAINED = [
    ("cnn", "ecg5000"),
    ("autoencoder", "ecg5000"),
    ("autoencoder", "machine_sound"),
    ("embedding", "machine_sound"),
]
FIRST = "records100/00000/00001_lr"
CNN = {
    **parameters.ARCHITECTURES["cnn"],
    "blocks": "plain",
    "stem_kernel": 0,
    "filters": [4],
    "kernels": [3],
    "strides": [1],
    "pool": 2,
}


def run(stage: str, *arguments: str) -> None:
    """A stage, in this process."""
    importlib.import_module(f"stages.{stage}").main(*arguments)


def listing(folder: Path) -> dict[str, str]:
    """Content of every file of a project, but for what a download may keep to go on from."""
    return {
        path.relative_to(folder).as_posix(): files.sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def refused(stage: str, *arguments: str) -> str:
    """The one sentence in which a stage ends that leaves every file as it was."""
    before = listing(Path())
    with pytest.raises(SystemExit) as exit_, reporting_mistakes():
        run(stage, *arguments)
    sentence = str(exit_.value)
    assert sentence.startswith("error: ") and len(sentence.splitlines()) == 1
    assert listing(Path()) == before
    return sentence


def set_parameters(changes: dict[str, Any]) -> None:
    """Change values in the project's params.yaml, by dotted keys."""
    path = Path("params.yaml")
    content = yaml.safe_load(path.read_text())
    for key, value in changes.items():
        *outer, last = key.split(".")
        block = content
        for name in outer:
            block = block[name]
        block[last] = value
    path.write_text(yaml.safe_dump(content))


def write_ucr(folder: Path, rare: int = 0) -> None:
    """120 waves of two classes, and `rare` of a third, as a data set of the archive."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for part in ("TRAIN", "TEST"):
        kinds = np.concatenate([np.arange(60) % 2 + 1, np.full(rare, 3)])
        waves = (
            np.sin(np.outer(kinds, np.arange(24) / 3)) + rng.standard_normal((len(kinds), 24)) / 5
        )
        rows = np.column_stack([kinds, waves])
        np.savetxt(folder / f"ECG5000_{part}.tsv", rows, delimiter="\t", fmt="%.5f")
        rare = 0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of three small data sets and two small models on two of them that ran to the end."""
    folder = tmp_path_factory.mktemp("project")
    before = Path.cwd()
    os.chdir(folder)
    try:
        _make()
    finally:
        os.chdir(before)
        torch.use_deterministic_algorithms(False)
    return folder


def _make() -> None:
    Path("params.yaml").write_text(yaml.safe_dump(parameters.content()))
    simulator.simulate(Path("ecgs"), records=80, seed=1)
    write_ucr(Path("beats"))
    set_parameters(
        {
            "datasets.ptbxl.download.source": "ecgs",
            "datasets.ecg5000.download.source": "beats",
            "train.cnn.ecg5000.architecture": CNN,
            **{f"train.{model}.{name}.epochs": 1 for model, name in TRAINED},
        }
    )
    for name in ("ptbxl", "ecg5000", "machine_sound"):
        make_data(name)
    for model, name in TRAINED:
        run("train", model, name)
        run("evaluate", model, name)


def make_data(name: str) -> None:
    """All stages of a data set before models are trained on it."""
    for stage in DATA_STAGES:
        if stage == "normalize" and name == "machine_sound":
            run("extract_features", name)
        run(stage, name)


@pytest.fixture(autouse=True)
def project(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that project, to be damaged; the current folder."""
    folder = Path(shutil.copytree(made, tmp_path / "project"))
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("name", ["ptbxl", "ecg5000", "machine_sound"])
def test_the_project_is_whole(name: str) -> None:
    """The tests below damage a run that went well, and goes well again with equal bytes."""
    before = listing(Path())
    models = [pair for pair in TRAINED if pair[1] == name]
    make_data(name)
    for model, _ in models:
        run("train", model, name)
        run("evaluate", model, name)
    torch.use_deterministic_algorithms(False)
    after = listing(Path())
    assert before.keys() == after.keys()
    # A stage that is a process of its own has the modules that it loads, and no others.
    of_process = {
        path
        for model, _ in models
        for path in (
            f"data/models/{name}/{model}/model.json",
            f"data/models/{name}/{model}/SHA256SUMS",
            f"data/predictions/{name}/{model}/estimates.json",
            f"data/predictions/{name}/{model}/SHA256SUMS",
        )
    }
    changed = {path for path in before if before[path] != after[path]}
    assert {path for path in changed if not path.startswith("data/durations/")} <= of_process


def test_durations() -> None:
    """How long training and an answer took, where no metric reads it."""
    for model, name in TRAINED:
        folder = Path(f"data/durations/{name}/{model}")
        assert files.read_json(folder / "train.json")["train_seconds"] > 0
        assert files.read_json(folder / "predict.json")["predict_milliseconds"] > 0


@pytest.mark.parametrize("name", ["ptbxl", "ecg5000", "machine_sound"])
def test_normalized_by_train_alone(name: str) -> None:
    """Mean 0 and deviation 1 in train, and nowhere else: the other splits had no say."""
    for part in ("train", "validation", "test"):
        signals = np.load(f"data/normalized/{name}/{part}/signals.npy").astype(np.float64)
        samples = signals.reshape(-1, signals.shape[2])
        exact = np.allclose(samples.mean(axis=0), 0, atol=1e-6)
        exact &= np.allclose(samples.std(axis=0), 1, atol=1e-6)
        assert exact == (part == "train")


def test_threshold_is_that_of_validation_normals() -> None:
    """The autoencoder's threshold: the percentile of what it says to the validation normals."""
    model = bundle.load("data/models/ecg5000/autoencoder")
    validation = arrays.load_split(Path("data/normalized/ecg5000/validation"))
    scores = model.answer(validation.signals).values[validation.anomalies() == 0]
    percentile = model.description["training"]["threshold_percentile"]
    expected = np.percentile(scores.astype(np.float64), percentile)
    assert model.description["thresholds"] == [pytest.approx(expected, rel=1e-6)]
    history = pd.read_csv("data/models/ecg5000/autoencoder/history.csv").drop(columns="precision")
    assert np.isfinite(history.to_numpy()).all()


class _EnoughSeenError(Exception):
    """Training got what the test wants to see."""


def learned(model: str, name: str) -> dict[str, Any]:
    """The arguments that a stage gives to the training loop: network, task, train, validation."""
    seen: dict[str, Any] = {}

    def fit(*arguments: Any) -> None:
        seen.update(zip(("network", "task", "train", "validation"), arguments, strict=False))
        raise _EnoughSeenError

    with pytest.MonkeyPatch.context() as patch, pytest.raises(_EnoughSeenError):
        patch.setattr(loop, "fit", fit)
        run("train", model, name)
    torch.use_deterministic_algorithms(False)
    return seen


def recordings_of(examples: Any) -> np.ndarray:
    return examples.recordings.batch(torch.arange(len(examples.recordings))).numpy()


def split_of(name: str, part: str) -> arrays.SplitArrays:
    return arrays.load_split(Path(f"data/normalized/{name}/{part}"))


def test_a_classifier_learns_labels_from_all() -> None:
    """Every training record with its labels; validated on every validation record."""
    seen = learned("cnn", "ecg5000")
    for part in ("train", "validation"):
        split = split_of("ecg5000", part)
        assert np.array_equal(seen[part].targets, split.targets(["anomaly"]))
        assert np.array_equal(recordings_of(seen[part]), split.signals[:])


@pytest.mark.parametrize("name", ["ecg5000", "machine_sound"])
def test_a_detector_learns_from_normal_records_alone(name: str) -> None:
    """Whatever labels train holds; validated on all of validation, whose anomalies are known."""
    seen = learned("autoencoder", name)
    train, validation = (split_of(name, part) for part in ("train", "validation"))
    normal = train.anomalies()[:, 0] == 0
    assert normal.any() and normal.all() == (name == "machine_sound")
    assert np.array_equal(recordings_of(seen["train"]), train.signals[normal])
    assert not seen["train"].targets.any()
    assert np.array_equal(recordings_of(seen["validation"]), validation.signals[:])
    assert np.array_equal(seen["validation"].targets, validation.anomalies())


def test_sections_are_learned_to_be_told_apart() -> None:
    """Which machine a recording is of, by the names in model.json; an anomaly or not, in validation."""
    seen = learned("embedding", "machine_sound")
    train, validation = (split_of("machine_sound", part) for part in ("train", "validation"))
    sections = bundle.load("data/models/machine_sound/embedding").description["sections"]
    assert sections == sorted(set(train.table["machine_id"])) and len(sections) == 2
    of_record = [sections[number] for number in seen["train"].targets.argmax(axis=1)]
    assert of_record == train.table["machine_id"].to_list()
    assert (seen["train"].targets.sum(axis=1) == 1).all()
    assert np.array_equal(seen["validation"].targets, validation.anomalies())


def test_without_sections_all_are_of_one_kind() -> None:
    """A detector that tells sections apart learns from a data set without them all the same."""
    add_run("embedding", "ecg5000")
    seen = learned("embedding", "ecg5000")
    assert (seen["train"].targets == 1).all() and seen["train"].targets.shape[1] == 1
    assert len(seen["train"].targets) == int((split_of("ecg5000", "train").anomalies() == 0).sum())


def add_run(model: str, name: str) -> None:
    block = {"architecture": parameters.ARCHITECTURES[model], **parameters.TRAIN}
    content = yaml.safe_load(Path("params.yaml").read_text())
    content["train"].setdefault(model, {})[name] = block
    Path("params.yaml").write_text(yaml.safe_dump(content))


def test_machines_are_in_every_split_and_are_measured_apart() -> None:
    """Machine sound, from its files to its metrics: no anomaly to learn from, a score per machine."""
    for part in ("train", "validation", "test"):
        table = split_of("machine_sound", part).table
        assert len(set(table["machine_id"])) == 2
        assert (0 in set(table["normal"])) == (part == "test")
    for model in ("autoencoder", "embedding"):
        content = files.read_json(Path(f"reports/metrics/machine_sound/{model}.json"))
        aucs = [part["auc"] for part in content["parts"]]
        assert len(aucs) == 2 and content["auc"] == pytest.approx(np.mean(aucs), abs=1e-3)
        values = {row["metric"]: row["value"] for row in content["metrics"]}
        assert 0 < values["harmonic_mean"] <= 1
        predictions = files.read_csv(
            Path(f"data/predictions/machine_sound/{model}/predictions.csv")
        )
        machines = split_of("machine_sound", "test").table["machine_id"]
        assert predictions["machine_id"].to_list() == machines.to_list()


@pytest.mark.parametrize("model", ["cnn", "lstm", "cnn_lstm", "mlp", "s4"])
def test_labels_that_nobody_may_learn(model: str) -> None:
    """A classifier on data whose anomalies are for testing alone: the run, why, and the cure."""
    add_run(model, "machine_sound")
    found = refused("train", model, "machine_sound")
    assert f"params.yaml: train.{model}.machine_sound: {model} learns labels, but" in found
    for detector in ("autoencoder", "embedding", "mahalanobis"):
        assert detector in found


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["download", "nowhere"], "error: params.yaml has no datasets.nowhere: add it"),
        (["train", "gru", "ecg5000"], "error: params.yaml has no train.gru: add it"),
        (
            ["split", "ecg5000"],
            "error: data/labels/ecg5000/dataset.json is missing: run `dvc repro`",
        ),
    ],
)
def test_as_a_command(project: Path, arguments: list[str], expected: str) -> None:
    """To the shell: exit status 1, one line on stderr, no traceback, nothing written."""
    shutil.rmtree("data/labels")
    before = listing(project)
    stage, *rest = arguments
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", f"stages.{stage}", *rest]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=project)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [done.stderr.strip()]
    assert done.stderr.startswith(expected)
    assert done.stdout == ""
    assert listing(project) == before


# ------------------------------------------------------------------------------- params.yaml


@pytest.mark.parametrize(
    ("arguments", "key", "value", "expected"),
    [
        (
            "download ptbxl",
            "datasets.ptbxl.download.source",
            3,
            "download.source: should be a valid string, not 3",
        ),
        ("download ptbxl", "datasets.ptbxl.download.source", "", "download.source: "),
        (
            "download ptbxl",
            "datasets.ptbxl.download.sampling_rate",
            250,
            "download.sampling_rate: ",
        ),
        ("download ptbxl", "datasets.ptbxl.download.sha256", "abc", "download.sha256: "),
        (
            "download ptbxl",
            "datasets.ptbxl.module",
            "ptb_xl",
            "there is no module 'ptb_xl' in beatline/datasets (did you mean ptbxl?)",
        ),
        ("download ecg5000", "datasets.ecg5000.download.name", "../x", "download.name: "),
        (
            "aggregate_labels ptbxl",
            "datasets.ptbxl.aggregate_labels.task",
            "rythm",
            "(did you mean rhythm?)",
        ),
        (
            "aggregate_labels ptbxl",
            "datasets.ptbxl.aggregate_labels.classes",
            ["NORMAL"],
            "aggregate_labels.classes: 'NORMAL'",
        ),
        (
            "aggregate_labels ptbxl",
            "datasets.ptbxl.aggregate_labels.min_record",
            1,
            "unknown parameter (did you mean min_records?)",
        ),
        (
            "aggregate_labels ecg5000",
            "datasets.ecg5000.aggregate_labels.normal_class",
            1,
            "normal_class: should be a valid string, not 1",
        ),
        (
            "split ptbxl",
            "datasets.ptbxl.split.train",
            0.9,
            "split: train + validation + test must be 1",
        ),
        (
            "normalize ptbxl",
            "datasets.ptbxl.normalize.per",
            "lead",
            "normalize.per: should be 'channel' or 'all', not 'lead'",
        ),
        (
            "normalize ptbxl",
            "datasets.ptbxl.normalize.invalid",
            "zero",
            "normalize.invalid: should be 'mean' or 'median', not 'zero'",
        ),
        (
            "extract_features machine_sound",
            "extract_features.machine_sound.kind",
            "sounds",
            "extract_features.machine_sound.kind: there is no module 'sounds' in beatline/features",
        ),
        (
            "extract_features machine_sound",
            "extract_features.machine_sound.band",
            3,
            "extract_features.machine_sound.band: unknown parameter (did you mean bands?)",
        ),
        (
            "train cnn ecg5000",
            "train.cnn.ecg5000.epochs",
            "ten",
            "train.cnn.ecg5000.epochs: should be a valid integer, not 'ten'",
        ),
        (
            "train cnn ecg5000",
            "train.cnn.ecg5000.architecture.pool",
            99,
            "train.cnn.ecg5000.architecture does not fit recordings or windows of 24 samples",
        ),
        (
            "train cnn ecg5000",
            "train.cnn.ecg5000.augment",
            {"rotate": 5.0},
            "train.cnn.ecg5000.augment.rotate is for images",
        ),
        (
            "train cnn ecg5000",
            "train.cnn.ecg5000.augment",
            {"shift": 24},
            "train.cnn.ecg5000.augment.shift is 24, which may leave nothing of 24 time steps",
        ),
        (
            "train cnn ecg5000",
            "train.cnn.ecg5000.windows",
            {"length": 10, "stride": 11},
            "train.cnn.ecg5000: windows.stride must be at most windows.length, 10",
        ),
        (
            "train cnn ecg5000",
            "train.cnn.ecg5000.windows",
            {"stride": 10},
            "train.cnn.ecg5000: windows.stride is between windows: windows.length must be given too",
        ),
        (
            "train cnn ecg5000",
            "train.cnnn",
            {},
            "train.cnnn: there is no such model (did you mean cnn?)",
        ),
        ("train cnn ecg5000", "train.cnn.ecg", {}, "train.cnn.ecg: there is no such data set"),
        (
            "evaluate cnn ecg5000",
            "evaluate.confidence",
            95,
            "evaluate.confidence: should be less than 1, not 95",
        ),
    ],
)
def test_parameters(arguments: str, key: str, value: Any, expected: str) -> None:
    """Unknown, mistyped, of a wrong type or impossible: each stage names the key."""
    set_parameters({key: value})
    found = refused(*arguments.split())
    # A value that only the data show to be wrong is told with its key within the data set's block.
    assert found.startswith(("error: params.yaml: ", "error: datasets.ptbxl: "))
    assert expected in found


def test_no_parameters() -> None:
    """Without params.yaml every stage says where it wants to be run."""
    Path("params.yaml").unlink()
    for stage in DATA_STAGES:
        assert "params.yaml is missing: run the command in the project's root" in refused(
            stage, "x"
        )
    for stage in ("train", "evaluate"):
        assert "params.yaml is missing" in refused(stage, "cnn", "x")


# ------------------------------------------------------------------------------------ sources


def test_missing_source() -> None:
    """A folder or archive that is not there."""
    set_parameters({"datasets.ptbxl.download.source": "nowhere"})
    assert "nowhere is missing: correct `source:` in params.yaml" in refused("download", "ptbxl")


def test_archive_with_a_wrong_checksum() -> None:
    """An archive that is not the one that was asked for; a folder that cannot be."""
    with zipfile.ZipFile("own.zip", "w") as archive:
        archive.write("beats/ECG5000_TRAIN.tsv")
        archive.write("beats/ECG5000_TEST.tsv")
    right = hashlib.sha256(Path("own.zip").read_bytes()).hexdigest()
    source, digest = "datasets.ecg5000.download.source", "datasets.ecg5000.download.sha256"
    set_parameters({source: "own.zip", digest: "0" * 64})
    assert f"own.zip has the SHA-256 {right} instead of 000" in refused("download", "ecg5000")
    set_parameters({source: "beats"})
    assert "beats is a folder, which has no SHA-256" in refused("download", "ecg5000")
    set_parameters({source: "own.zip", digest: right})
    run("download", "ecg5000")


@pytest.mark.parametrize("name", ["../ECG5000_TRAIN.tsv", "/tmp/ECG5000_TRAIN.tsv"])
def test_path_that_leaves_the_archive(name: str) -> None:
    """An archive that would write elsewhere is refused as a whole."""
    with zipfile.ZipFile("own.zip", "w") as archive:
        archive.writestr(name, "1\t2\n")
    set_parameters({"datasets.ecg5000.download.source": "own.zip"})
    assert "whose name leads out of the archive" in refused("download", "ecg5000")


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 cut short", b"text"])
def test_damaged_archive(damage: bytes) -> None:
    """An archive that is none, or half of one."""
    Path("own.zip").write_bytes(damage)
    set_parameters({"datasets.ptbxl.download.source": "own.zip"})
    assert "own.zip is no folder, ZIP or tar archive" in refused("download", "ptbxl")


@pytest.mark.parametrize(
    ("path", "content", "expected"),
    [
        (
            "ecgs/ptbxl_database.csv",
            "ecg_id,patient_id\n1,2\n",
            "ptbxl_database.csv has no column age",
        ),
        ("ecgs/ptbxl_database.csv", "", "ptbxl_database.csv is not a CSV table"),
        ("ecgs/scp_statements.csv", None, "holds no scp_statements.csv"),
    ],
)
def test_damaged_tables_of_ptbxl(path: str, content: str | None, expected: str) -> None:
    """A table that is missing, empty, or lacks a column."""
    if content is None:
        Path(path).unlink()
    else:
        Path(path).write_text(content)
    assert expected in refused("download", "ptbxl")


def test_labels_outside_the_table() -> None:
    """A statement that scp_statements.csv does not know: the record and the statement."""
    path = Path("ecgs/ptbxl_database.csv")
    table = pd.read_csv(path)
    table.loc[4, "scp_codes"] = "{'NORM': 100.0, 'XYZ': 0.0}"
    table.to_csv(path, index=False)
    run("download", "ptbxl")
    found = refused("aggregate_labels", "ptbxl")
    assert "ecg_id 5 has the statement 'XYZ', which is not in scp_statements.csv" in found


def test_labels_that_are_no_numbers() -> None:
    """A UCR file with a broken line: file and line."""
    path = Path("beats/ECG5000_TEST.tsv")
    lines = path.read_text().splitlines()
    lines[2] = lines[2].replace("\t", "\tx", 1)
    path.write_text("\n".join(lines))
    assert "ECG5000_TEST.tsv, line 3 holds a sample that is no number" in refused(
        "download", "ecg5000"
    )


# ------------------------------------------------------------------------------------ records


def rewrite(name: str, change: Callable[[np.ndarray], None]) -> None:
    """Change the samples `[1000, 12]` of a record, checksums included."""
    samples = np.fromfile(f"ecgs/{name}.dat", "<i2").reshape(-1, 12)
    change(samples)
    samples.tofile(f"ecgs/{name}.dat")
    header = Path(f"ecgs/{name}.hea")
    first, *leads = header.read_text().splitlines()
    for number, line in enumerate(leads):
        fields = line.split(" ")
        fields[6] = str(int(samples[:, number].sum(dtype=np.int64)) % 65536)
        leads[number] = " ".join(fields)
    header.write_text("\n".join([first, *leads]) + "\n")


def no_number(folder: Path) -> None:
    path = folder / f"{FIRST}.hea"
    path.write_text(path.read_text().replace(" 100 ", " often ", 1))


def one_lead_less(folder: Path) -> None:
    path = folder / f"{FIRST}.hea"
    path.write_text(path.read_text().replace(" 12 ", " 11 ", 1).rsplit("\n", 2)[0] + "\n")


def other_rate(folder: Path) -> None:
    path = folder / f"{FIRST}.hea"
    path.write_text(path.read_text().replace(" 100 ", " 257 ", 1))


def cut_short(folder: Path) -> None:
    path = folder / f"{FIRST}.dat"
    path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize("damage", [no_number, one_lead_less, other_rate, cut_short])
def test_bad_records(damage: Callable[[Path], None], capsys: pytest.CaptureFixture[str]) -> None:
    """One is skipped, counted and named; more than `max_bad_records` stop the stage."""
    damage(Path("ecgs"))
    run("download", "ptbxl")
    key = "datasets.ptbxl.aggregate_labels.max_bad_records"
    set_parameters({key: 0})
    assert re.search(
        rf"datasets.ptbxl: 1 records cannot be read \({FIRST}\).*aggregate_labels.max_bad_records = 0",
        refused("aggregate_labels", "ptbxl"),
    )
    set_parameters({key: 1})
    capsys.readouterr()
    run("aggregate_labels", "ptbxl")
    assert capsys.readouterr().out.startswith(f"warning: skipped: data/raw/ptbxl.zip: {FIRST}.hea ")
    assert files.read_json(Path("data/labels/ptbxl/dataset.json"))["counts"]["bad_records"] == 1
    run("split", "ptbxl")
    run("normalize", "ptbxl")


def test_missing_samples_are_counted() -> None:
    """NaN samples are no error: they become the mean and are counted."""

    def change(samples: np.ndarray) -> None:
        samples[:7, 3] = -32768

    table = pd.read_csv("data/labels/ptbxl/labels.csv")
    rewrite(f"records100/{table['record'].iloc[0]}_lr", change)
    for stage in DATA_STAGES:
        run(stage, "ptbxl")
    counts = files.read_json(Path("data/normalized/ptbxl/dataset.json"))["counts"]
    assert (counts["invalid_samples"], counts["bad_records"]) == (7, 0)


def test_lead_without_samples() -> None:
    """A lead that no training record has is named."""

    def change(samples: np.ndarray) -> None:
        samples[:, 6] = -32768

    for header in sorted(Path("ecgs/records100").rglob("*.hea")):
        rewrite(header.relative_to("ecgs").with_suffix("").as_posix(), change)
    for stage in DATA_STAGES[:-1]:
        run(stage, "ptbxl")
    assert "channel V1 has no valid sample" in refused("normalize", "ptbxl")


# ------------------------------------------------------------------------------------- splits


def test_class_with_one_record() -> None:
    """It cannot be in three splits: the class and the cure."""
    shutil.rmtree("beats")
    write_ucr(Path("beats"), rare=1)
    prefix = "datasets.ecg5000.aggregate_labels"
    set_parameters({f"{prefix}.target": "classes", f"{prefix}.min_records": 1})
    run("download", "ecg5000")
    run("aggregate_labels", "ecg5000")
    assert "class 3 has 1 record, too few" in refused("split", "ecg5000")


def test_no_class_is_left() -> None:
    """Every class too small: the key to lower."""
    set_parameters({"datasets.ptbxl.aggregate_labels.min_records": 1000})
    found = refused("aggregate_labels", "ptbxl")
    assert (
        found.startswith("error: datasets.ptbxl: no class")
        and "aggregate_labels.min_records" in found
    )


def test_empty_split() -> None:
    """Official folds without a test fold."""
    path = Path("data/labels/ptbxl/labels.csv")
    table = pd.read_csv(path)
    table["fold"] = table["fold"].replace("test", "train")
    table.to_csv(path, index=False)
    sums.seal(path.parent)
    set_parameters({"datasets.ptbxl.split.method": "official"})
    assert "the test split is empty" in refused("split", "ptbxl")


def without_normals(part: str) -> None:
    path = Path(f"data/normalized/ecg5000/{part}/records.csv")
    pd.read_csv(path).assign(normal=0, anomaly=1).to_csv(path, index=False)
    sums.seal(path.parent)


@pytest.mark.parametrize("part", ["train", "validation"])
def test_no_normals(part: str) -> None:
    """A detector of anomalies needs normal records to learn from, and others to set its threshold."""
    without_normals(part)
    found = refused("train", "autoencoder", "ecg5000")
    assert f"data/normalized/ecg5000/{part} holds no normal record" in found
    torch.use_deterministic_algorithms(False)


# ----------------------------------------------------------------------- between the stages


@pytest.mark.parametrize(
    ("path", "arguments"),
    [
        ("data/raw/ptbxl.zip", "aggregate_labels ptbxl"),
        ("data/raw/ptbxl.zip", "normalize ptbxl"),
        ("data/labels/ptbxl/labels.csv", "split ptbxl"),
        ("data/labels/ptbxl/SHA256SUMS", "split ptbxl"),
        ("data/labels/ptbxl/labels.csv", "examples ptbxl"),
        ("data/labels/ptbxl/dataset.json", "examples ptbxl"),
        ("data/splits/ptbxl.csv", "examples ptbxl"),
        ("data/splits/ptbxl.csv.sha256", "examples ptbxl"),
        ("data/labels/ptbxl/dataset.json", "normalize ptbxl"),
        ("data/labels/ptbxl/dataset.json", "split ptbxl"),
        ("data/labels/ptbxl/labels.csv", "normalize ptbxl"),
        ("data/splits/ptbxl.csv", "normalize ptbxl"),
        ("data/labels/machine_sound/labels.csv", "extract_features machine_sound"),
        ("data/labels/machine_sound/dataset.json", "extract_features machine_sound"),
        ("data/raw/machine_sound.zip", "extract_features machine_sound"),
        ("data/features/machine_sound/dataset.json", "normalize machine_sound"),
        ("data/features/machine_sound/recordings/signals.npy", "normalize machine_sound"),
        ("data/features/machine_sound/recordings/records.csv", "normalize machine_sound"),
        ("data/normalized/ecg5000/dataset.json", "train cnn ecg5000"),
        ("data/normalized/ecg5000/train/signals.npy", "train cnn ecg5000"),
        ("data/normalized/ecg5000/validation/records.csv", "train cnn ecg5000"),
        ("data/normalized/ecg5000/test/signals.npy", "evaluate cnn ecg5000"),
        ("data/models/ecg5000/cnn/model.json", "evaluate cnn ecg5000"),
        ("data/models/ecg5000/cnn/weights.safetensors", "evaluate cnn ecg5000"),
    ],
)
def test_missing_and_damaged_files(path: str, arguments: str) -> None:
    """A file of an earlier stage that is missing, empty, cut short or of another byte is named."""
    whole = Path(path).read_bytes()
    # Of a pack, what is read is compared: see tests/sources/test_pack.py.
    changed = [bytearray(whole) for _ in range(0 if path.endswith(".zip") else 6)]
    for content, place in zip(changed, places(Path(path), 6), strict=False):
        content[place] ^= 1
    for content in (None, b"", whole[: len(whole) // 2], *changed):
        Path(path).unlink() if content is None else Path(path).write_bytes(content)
        assert Path(path).parent.as_posix() in refused(*arguments.split())
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize(
    ("path", "column", "arguments"),
    [
        ("data/labels/ptbxl/labels.csv", "MI", "split ptbxl"),
        ("data/labels/ptbxl/labels.csv", "record", "normalize ptbxl"),
        ("data/splits/ptbxl.csv", "split", "normalize ptbxl"),
        ("data/normalized/ecg5000/train/records.csv", "normal", "train cnn ecg5000"),
        ("data/normalized/ecg5000/train/records.csv", "anomaly", "train cnn ecg5000"),
        ("data/normalized/ecg5000/test/records.csv", "anomaly", "evaluate cnn ecg5000"),
        ("data/labels/machine_sound/labels.csv", "machine_id", "split machine_sound"),
        (
            "data/normalized/machine_sound/train/records.csv",
            "machine_id",
            "train embedding machine_sound",
        ),
        (
            "data/normalized/machine_sound/test/records.csv",
            "machine_id",
            "evaluate autoencoder machine_sound",
        ),
    ],
)
def test_missing_columns(path: str, column: str, arguments: str) -> None:
    """A table without a column that the stage needs: file and column."""
    table = pd.read_csv(path)
    table.drop(columns=column).to_csv(path, index=False)
    sums.seal(Path(path) if path.startswith("data/splits") else Path(path).parent)
    found = refused(*arguments.split())
    assert path in found and f"has no column {column}" in found
    torch.use_deterministic_algorithms(False)


def test_features_that_were_not_extracted() -> None:
    """Without the features' folder there is nothing to normalize, which is not taken for a pack."""
    shutil.rmtree("data/features/machine_sound")
    found = refused("normalize", "machine_sound")
    assert "data/features/machine_sound is missing: run `dvc repro`" in found


def test_features_of_other_records() -> None:
    """Recordings that were extracted before labels changed are not mixed up with them."""
    path = Path("data/features/machine_sound/recordings/records.csv")
    table = files.read_csv(path)
    table.loc[table.index[-1], "record"] = "another"
    files.write_csv(path, table)
    sums.seal(path.parent)
    found = refused("normalize", "machine_sound")
    assert "data/features/machine_sound/recordings has no recording" in found


def test_split_of_other_records() -> None:
    """Labels that changed under a split are not mixed up with it."""
    path = Path("data/splits/ptbxl.csv")
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    sums.seal(path)
    assert "data/splits/ptbxl.csv is of other records" in refused("normalize", "ptbxl")


@pytest.mark.parametrize(
    "arguments",
    [
        "download ptbxl",
        "aggregate_labels ptbxl",
        "split ptbxl",
        "extract_features machine_sound",
        "normalize ptbxl",
        "normalize machine_sound",
        "train cnn ecg5000",
        "evaluate cnn ecg5000",
    ],
)
def test_full_disk(arguments: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full when the first output is written: one sentence, and the old outputs stay."""

    def full(self: Path, *_: object, **__: object) -> Path:
        if self.suffix == ".partial":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(self, *_, **__)  # pyright: ignore[reportArgumentType]

    real = Path.replace
    monkeypatch.setattr(Path, "replace", full)
    assert "the disk is full while writing " in refused(*arguments.split())
    torch.use_deterministic_algorithms(False)
