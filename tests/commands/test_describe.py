"""`beatline describe` tells all that a bundle says of itself, to a reader of any terminal."""

from __future__ import annotations

import contextlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from beatline import bundle, cli
from beatline.common import sums
from beatline.common.files import sha256
from beatline.lineage import record
from tests.bundle.bundles import HISTORY, made
from tests.paths import ROOT

REVISION, CODE, DATA, MD5 = "5" * 40, "c" * 64, "d" * 64, "e" * 32
STAGES: dict[str, Any] = {
    "download@ptbxl": {
        "params": {
            "datasets.ptbxl.download": {
                "source": "beatline/simulators/ecg",
                "simulated": {"records": 20},
            }
        },
        "deps": {"beatline/datasets/ptbxl": f"{MD5}.dir", "a/folder/of/ones/own": None},
        "outs": {"data/raw/a_data_set_of_a_name_that_goes_on_and_on.zip": MD5},
    },
    "normalize@ptbxl": {
        "params": {"datasets.ptbxl.normalize": {"per": "channel"}},
        "deps": {"data/raw/ptbxl.zip": MD5},
        "outs": {"data/normalized/ptbxl/train": MD5},
    },
}
DATASET = {
    "title": "simulated 12-lead ECGs (PTB-XL layout)",
    "source": "beatline/simulators/ecg",
    "unit": "mV",
    "sampling_rate": 100,
    "citation": "Somebody et al. 2020",
    "representation": None,
}


def save(folder: Path, identity: dict[str, Any], **changes: Any) -> Path:
    """A small bundle that has been made in one way or another."""
    network, description = made(identity=identity, **changes)
    description["dataset"] |= DATASET
    bundle.save(folder, network, description, HISTORY)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle as DVC makes it, in a tree that is not clean, with another seed inside."""
    identity = {
        "git": {
            "revision": REVISION,
            "clean": False,
            "changed": ["params.yaml", *(f"beatline/datasets/module_{n}.py" for n in range(9))],
        },
        "data": DATA,
        "code": CODE,
        "environment": record.environment(),
        "pipeline": STAGES,
    }
    save(tmp_path / "model", identity)
    save(tmp_path / "model/seeds/2", identity)
    sums.seal(tmp_path / "model")
    return tmp_path / "model"


def run(*arguments: str | Path) -> str:
    """Return the output of the command."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        cli.main(["describe", *map(str, arguments)])
    return said.getvalue()


def test_everything_is_told(folder: Path) -> None:
    """The model, what it learned from and how, what made it, and every stage before it, as a
    reader sees it who calls the command."""
    command = [sys.executable, "-m", "beatline", "describe", str(folder)]
    said = subprocess.check_output(command, cwd=ROOT, text=True)
    assert said == run(folder)
    words = " ".join(said.split())
    for expected in (
        "SIMULATED recordings",
        "architecture: cnn",
        "task: multilabel",
        "classes: [NORM, MI, CD]",
        "input: '[N, 23, 3]",
        "windows: samples: 10 length: 10 stride: 5 aggregate: mean",
        "channels: [I, II, V1]",
        "unit: mV",
        "sampling_rate: 100",
        "NORM: 0.3333",
        "other_seeds: ['2']",
        "source: beatline/simulators/ecg",
        "citation: Somebody et al. 2020",
        "filters: [4, 5]",
        f"revision: '{REVISION}'",
        "clean: false",
        "beatline/datasets/module_8.py",
        f"code_sha256: {CODE}",
        f"data_sha256: {DATA}",
        f"torch: {record.environment()['torch']}",
        record.environment()["machine"]["processor"],
        f"weights.safetensors: {sha256(folder / bundle.WEIGHTS)}",
        f"model.json: {sha256(folder / bundle.DESCRIPTION)}",
        "download@ptbxl:",
        "datasets.ptbxl.download:",
        "records: 20",
        f"beatline/datasets/ptbxl: {MD5}.dir",
        "a/folder/of/ones/own: not recorded",
        f"data/raw/a_data_set_of_a_name_that_goes_on_and_on.zip: {MD5}",
        "normalize@ptbxl:",
    ):
        assert expected in words, expected


def test_lines_fit_a_terminal(folder: Path) -> None:
    """80 columns, where no word of a line is longer."""
    lines = run(folder).splitlines()
    own = [line.replace(str(folder), "") for line in lines]  # the test's folder has a long name
    assert max(len(line) for line in own if not re.search(r"\S{30}", line)) <= 80


def test_json(folder: Path) -> None:
    """model.json as it stands, and the sums of all files, for programs."""
    content = json.loads(run(folder, "--json"))
    assert content["model.json"] == json.loads((folder / "model.json").read_text())
    files = {"history.csv", "model.json", "model.onnx", "weights.safetensors"}
    assert content["sha256"] == {
        name: sha256(folder / name)
        for name in files | {f"seeds/2/{name}" for name in (*files, sums.SUMS)}
    }


def test_bundles_of_before(tmp_path: Path) -> None:
    """One that knows neither revision nor stages, as all were until they were kept, says so."""
    environment = {"python": "3", "torch": "2", "numpy": "2", "device": "cpu (x86_64)"}
    identity = {"data": DATA, "code": CODE, "environment": environment}
    folder = save(tmp_path / "old", identity)
    description = json.loads((folder / bundle.DESCRIPTION).read_text())
    del description["dataset"]["citation"]
    (folder / bundle.DESCRIPTION).write_text(json.dumps(description))
    sums.seal(folder)
    words = " ".join(run(folder).split())
    for expected in (
        "revision: not recorded",
        "python: '3'",
        "citation: not recorded",
        "other_seeds: []",
        "stages_before: not recorded",
    ):
        assert expected in words, expected


def test_a_model_of_nobodys_revision(tmp_path: Path) -> None:
    """Trained by hand outside of Git: why there is neither a revision nor stages."""
    git = {"revision": None, "clean": False, "changed": []}
    identity = {"git": git, "data": DATA, "code": CODE, "environment": {}, "pipeline": None}
    words = " ".join(run(save(tmp_path / "model", identity)).split())
    assert "revision: 'not recorded: there was no Git repository" in words
    assert "stages_before: 'not recorded: DVC did not run the training" in words


def test_exclusive_classes_have_no_thresholds(tmp_path: Path) -> None:
    """And a detector that tells machines apart names them."""
    identity = {"data": DATA, "code": CODE, "environment": {}}
    folder = save(tmp_path / "digits", identity, model="mlp", task="multiclass")
    assert "thresholds: 'none: the most probable class" in run(folder)
    folder = save(tmp_path / "sound", identity, model="embedding", task="neighbours")
    assert "sections: [a, b]" in run(folder)


def test_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model in data/models is called as everywhere else; a wrong name is told with the nearest and with
    those that there are."""
    identity = {"data": DATA, "code": CODE, "environment": {}}
    for name in ("ptbxl/cnn", "mnist/lstm"):
        save(tmp_path / "data/models" / name, identity)
    monkeypatch.chdir(tmp_path)
    assert run("ptbxl/cnn") == run("data/models/ptbxl/cnn")
    with pytest.raises(SystemExit, match=r"did you mean ptbxl/cnn\?.*mnist/lstm"):
        run("ptbxxl/cnn")


def test_wrong_folders(folder: Path, tmp_path: Path) -> None:
    """None, one of something else, a file, and a damaged bundle: one sentence, no traceback."""
    (tmp_path / "empty").mkdir()
    for wrong in (tmp_path / "nowhere", tmp_path / "empty", folder / bundle.WEIGHTS):
        with pytest.raises(SystemExit, match=rf"^error: .*no trained model {wrong}\b.*$"):
            run(wrong)
    weights = folder / bundle.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-2] + b"xx")
    with pytest.raises(
        SystemExit, match=r"^error: .*weights\.safetensors is damaged .*beatline repair"
    ):
        run(folder)
    command = [sys.executable, "-m", "beatline", "describe", str(tmp_path / "empty")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
