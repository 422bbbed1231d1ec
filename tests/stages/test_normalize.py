"""The stage normalize: arrays in half the space, and trainings that do not need them in memory."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from beatline import bundle
from beatline.common.errors import UserError
from beatline.common.files import read_json, sha256
from beatline.prediction.device_data import RESIDENT_MB
from beatline.preprocessing import arrays
from stages import aggregate_labels, download, evaluate, normalize, split, train
from tests import parameters
from tests.pipeline.clones import write_heartbeats

DATASET = "ecg5000"
CNN: dict[str, Any] = {
    "architecture": parameters.ARCHITECTURES["cnn"],
    **parameters.TRAIN,
    "windows": {"length": 100, "stride": 20},
    "augment": {"noise": 0.1},
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of one small data set, up to the stage before normalize."""
    folder = tmp_path_factory.mktemp("project")
    content = parameters.content()
    content["datasets"][DATASET]["download"]["source"] = "heartbeats"
    content["train"] = {"cnn": {DATASET: CNN}}
    (folder / "params.yaml").write_text(yaml.safe_dump(content))
    write_heartbeats(folder / "heartbeats")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for stage in (download, aggregate_labels, split):
            stage.main(DATASET)
    return folder


@pytest.fixture(autouse=True)
def project(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A copy of that project is the current folder."""
    monkeypatch.chdir(shutil.copytree(prepared, tmp_path / "project"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


def normalized(store: str) -> arrays.SplitArrays:
    """Run the stage; return the test split."""
    path = Path("params.yaml")
    content = yaml.safe_load(path.read_text())
    content["datasets"][DATASET]["normalize"]["store"] = store
    path.write_text(yaml.safe_dump(content))
    normalize.main(DATASET)
    return arrays.load_split(Path(f"data/normalized/{DATASET}/test"))


def counts() -> dict[str, int]:
    return read_json(Path(f"data/normalized/{DATASET}/dataset.json"))["counts"]


@pytest.mark.parametrize("store", ["float16", "int16"])
def test_half_the_space(store: str) -> None:
    """The same recordings, a thousandth of a deviation apart at most, and a count of what did not fit.
    float32 says nothing of such a count: its files are those of versions that knew nothing else."""
    exact = normalized("float32").signals
    assert "clipped_samples" not in counts()
    halved = normalized(store).signals
    assert halved.stored.nbytes * 2 == exact.stored.nbytes
    np.testing.assert_allclose(halved[:], exact[:], rtol=2**-11, atol=1e-3)
    assert counts()["clipped_samples"] == 0


def test_what_does_not_fit_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """A test recording far beyond those of training is clipped, counted, and there is a warning."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "HEADROOM", 1 / 4)  # as if training had a quarter of its range
        normalized("int16")
    clipped = counts()["clipped_samples"]
    assert clipped > 0
    assert f"datasets.{DATASET}.normalize.store: {clipped:,}" in capsys.readouterr().out


def test_other_types_are_refused() -> None:
    """A type that nothing can read is named with its key."""
    with pytest.raises(UserError, match=rf"datasets\.{DATASET}\.normalize\.store.*float16"):
        normalized("float64")


@pytest.mark.parametrize("store", ["float32", "int16"])
def test_streamed_or_resident_to_the_same_bytes(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Model and predictions do not tell whether recordings fitted into memory."""
    normalized(store)
    written = []
    for megabytes in ("1000", "0"):
        monkeypatch.setenv(RESIDENT_MB, megabytes)
        train.main("cnn", DATASET)
        evaluate.main("cnn", DATASET)
        model = Path(f"data/models/{DATASET}/cnn")
        files = [model / name for name in (bundle.WEIGHTS, bundle.HISTORY, bundle.REFERENCE)]
        files.append(Path(f"data/predictions/{DATASET}/cnn/predictions.csv"))
        written.append([sha256(path) for path in files])
    assert written[0] == written[1]
