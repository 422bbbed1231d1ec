"""Models of the registry, from their copies on disk: answers, lists and metrics name their version."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from beatline.common import sums
from beatline.serving import registry
from beatline.tracking import copies, names
from tests.serving import project
from tests.serving.test_telemetry import samples, value

KEY = "ptbxl/cnn"
CNN = f"/models/{KEY}/predict"
ECG = project.raw_recordings("ptbxl")[0].tolist()


def put(folder: Path, version: str, seed: int | None = None) -> None:
    """A version as it is copied: the project's own bundle, or another."""
    new, place = folder / "new", folder / copies.place_of(KEY)
    if seed is None:
        shutil.copytree(folder / registry.FOLDER / KEY, new)
    else:
        project.save(new, KEY, seed)
    shutil.copytree((folder / registry.PREDICTIONS / KEY), new / names.PREDICTIONS)
    (new / copies.VERSION).write_text(json.dumps({"version": version, "alias": "champion"}))
    sums.seal(new)
    if place.exists():
        place.rename(folder / "old")
        shutil.rmtree(folder / "old")
    place.parent.mkdir(parents=True, exist_ok=True)
    new.rename(place)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = project.make(tmp_path / "project")
    put(made, "3")
    return made


@pytest.fixture
def client(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    monkeypatch.setenv(registry.MODELS, registry.FROM_REGISTRY)
    with project.client(folder) as found:
        yield found


def test_answers_and_lists_name_the_version(client: httpx.Client) -> None:
    """So does what stands beside them: measured values are those of the version."""
    version = {"version": "3", "alias": "champion"}
    assert client.post(CNN, json=ECG).json()["model"]["registered"] == version
    listed = {
        f"{each['dataset']}/{each['name']}": each for each in client.get("/models").json()["models"]
    }
    assert listed[KEY]["registered"] == version
    assert listed[KEY]["metrics"]["auc"]["value"] == 0.75
    assert value(client, "model_info", dataset="ptbxl", model="cnn", version="3") == 1


def test_the_projects_own_bundles_are_not_served(client: httpx.Client) -> None:
    """One without a champion says how it gets one, though data/models has it."""
    answer = client.post("/models/ecg5000/autoencoder/predict", json=[0.0] * 40)
    assert answer.status_code == 503
    assert "champion" in answer.json()["detail"] and "beatline promote" in answer.json()["detail"]


@pytest.mark.parametrize("seed", [None, 2])
def test_a_version_takes_the_place_of_another(
    client: httpx.Client, folder: Path, seed: int | None
) -> None:
    """With other weights, or with the same: then too, answers name the new version."""
    put(folder, "4", seed)
    names = {"dataset": "ptbxl", "model": "cnn"}
    project.wait_until(lambda: value(client, "model_info", **names, version="4") == 1)
    assert client.post(CNN, json=ECG).json()["model"]["registered"]["version"] == "4"
    assert value(client, "model_info", **names, version="3") == 0


def test_whether_the_registry_answers(client: httpx.Client, folder: Path) -> None:
    """A registry that is away is seen on /metrics, while models answer as before."""
    assert not samples(client, "registry_away")
    path = folder / copies.FOLDER / copies.STATE
    path.write_text(json.dumps({"asked": 1000.5, "reason": None}))
    assert value(client, "registry_away") == 0
    path.write_text(json.dumps({"asked": 1000.5, "reason": "it cannot be reached"}))
    assert value(client, "registry_away") == 1
    assert value(client, "registry_answered_timestamp_seconds") == 1000.5
    assert client.post(CNN, json=ECG).status_code == 200
