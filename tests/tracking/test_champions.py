"""Copies of registered versions: whole, of the version that the alias names, and there when the registry
is not."""

from __future__ import annotations

import filecmp
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from beatline.bundle.model_info import read_model_info
from beatline.common.errors import UserError
from beatline.serving import model as models
from beatline.serving import predictor
from beatline.tracking import champions, copies, registered, runs
from beatline.tracking.client import URI, MlflowClient, connect
from beatline.tracking.names import CHAMPION, DATASET, MODEL, PREDICTIONS
from beatline.tracking.registered import Version
from tests.damage import flip
from tests.serving.project import raw_recordings
from tests.tracking import project

KEY, OTHER = "ptbxl/cnn", "ecg_features/mlp"
AWAY = "http://127.0.0.1:9"  # a port that nobody listens on


def version_of(client: MlflowClient, root: Path, seed: int, key: str = KEY) -> Version:
    """A registered version, of the weights that a seed gives."""
    state = runs.state_of(project.make(root / f"{seed}", key, seed=seed), *key.split("/"))
    run = runs.ensure(client, state)
    return registered.register(client, run.info.run_id, {}, "")[0]


def crown(client: MlflowClient, version: Version) -> None:
    registered.move_champion(client, version, "promotion", "the first")


def followed(root: Path) -> champions.Champions:
    return champions.Champions(root, [KEY, OTHER], seconds=60)


def number_of(root: Path) -> str | None:
    version = copies.read_version(root / copies.place_of(KEY))
    return version["version"] if version else None


def test_a_copy_is_the_bundle_and_follows_the_alias(mlflow: MlflowClient, tmp_path: Path) -> None:
    """All files of the bundle and its metrics are there, the service loads it, and when the alias moves
    another takes its place, whole."""
    first, second = (version_of(mlflow, tmp_path, seed) for seed in (1, 2))
    crown(mlflow, first)
    kept = followed(tmp_path)
    assert kept.look() is None
    place = tmp_path / copies.place_of(KEY)
    original = tmp_path / f"1/data/models/{KEY}"
    names = [path.name for path in original.iterdir() if path.name != "SHA256SUMS"]
    assert filecmp.cmpfiles(original, place, names, shallow=False)[0] == names
    assert list((place / PREDICTIONS).iterdir())
    assert models.load(place).registered == {"version": "1", "alias": "champion"}
    before = place.stat().st_ino
    kept.look()
    assert place.stat().st_ino == before, "the same version is not copied again"
    crown(mlflow, second)
    kept.look()
    assert models.load(place).registered == {"version": "2", "alias": "champion"}
    assert not [path for path in (tmp_path / copies.FOLDER).iterdir() if path.name.startswith(".")]


def test_a_copy_is_of_one_registry(
    sqlite_mlflow: MlflowClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Version 1 of another registry is another model, whose copy takes the place; of what that one has
    no champion, the log says that the copy goes on."""
    second = "ptbxl/autoencoder"
    for seed, key in ((1, KEY), (2, second)):
        crown(sqlite_mlflow, version_of(sqlite_mlflow, tmp_path, seed, key))
    champions.Champions(tmp_path, [KEY, second], seconds=60).look()
    before = read_model_info(tmp_path / copies.place_of(KEY))
    monkeypatch.setenv(URI, f"sqlite:///{tmp_path}/other.db")
    other = connect()
    crown(other, version_of(other, tmp_path, 3))
    kept = champions.Champions(tmp_path, [KEY, second], seconds=60)
    kept.look()
    after = read_model_info(tmp_path / copies.place_of(KEY))
    assert before["weights_sha256"] != after["weights_sha256"] and number_of(tmp_path) == "1"
    kept.look()
    assert (tmp_path / copies.place_of(second)).exists()
    assert len(caplog.records) == 1 and second in caplog.text


def test_a_champion_made_by_hand_stops_no_other(
    sqlite_mlflow: MlflowClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither that of a model that nobody serves here, nor that of one that is, whose copy goes on; the
    log says once which it is."""

    def by_hand(key: str) -> None:
        name = registered.registered_name(key)
        number = sqlite_mlflow.create_model_version(name, str(tmp_path), await_creation_for=0)
        sqlite_mlflow.set_registered_model_alias(name, CHAMPION, number.version)

    other = "ptbxl/autoencoder"
    kept = champions.Champions(tmp_path, [other, KEY], seconds=60)
    crown(sqlite_mlflow, version_of(sqlite_mlflow, tmp_path, 1, other))
    kept.look()
    sqlite_mlflow.create_registered_model("mnist.cnn", {DATASET: "mnist", MODEL: "cnn"})
    by_hand("mnist/cnn")
    crown(sqlite_mlflow, version_of(sqlite_mlflow, tmp_path, 3))
    assert kept.look() is None and number_of(tmp_path) == "1" and not caplog.records
    by_hand(other)
    crown(sqlite_mlflow, version_of(sqlite_mlflow, tmp_path, 4))
    assert kept.look() is None and number_of(tmp_path) == "2"
    assert (tmp_path / copies.place_of(other)).exists()
    kept.look()
    assert len(caplog.records) == 1 and "ptbxl.autoencoder" in caplog.text


def test_a_damaged_version_takes_no_place(
    sqlite_mlflow: MlflowClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One flipped byte in the store: the copy that is there goes on, and the log says what is damaged."""
    first, second = (version_of(sqlite_mlflow, tmp_path, seed) for seed in (1, 2))
    crown(sqlite_mlflow, first)
    kept = followed(tmp_path)
    kept.look()
    crown(sqlite_mlflow, second)
    stored = Path("data/mlflow/artifacts") / second.run_id
    for path in stored.rglob("model.onnx"):
        flip(path, 100)
    kept.look()
    assert number_of(tmp_path) == "1"
    assert f"{KEY} version 2" in caplog.text and "damaged" in caplog.text


@pytest.mark.parametrize("path", ["model.onnx", "predictions/predictions.csv", copies.VERSION])
@pytest.mark.parametrize("damage", [partial(flip, place=100), Path.unlink])
def test_a_damaged_copy_is_made_anew(
    path: str, damage: Callable[[Path], object], sqlite_mlflow: MlflowClient, tmp_path: Path
) -> None:
    """By the service that starts on it, and by whoever else asks for the version."""
    version = version_of(sqlite_mlflow, tmp_path, 1)
    crown(sqlite_mlflow, version)
    followed(tmp_path).look()
    place = tmp_path / copies.place_of(KEY)
    whole = (place / path).read_bytes()
    for mend in (
        lambda: followed(tmp_path).look(),
        lambda: champions.copy(sqlite_mlflow, tmp_path, version, CHAMPION),
    ):
        damage(place / path)
        mend()
        assert (place / path).read_bytes() == whole and number_of(tmp_path) == "1"


def test_without_the_registry_copies_go_on(
    sqlite_mlflow: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service can start on copies alone; /metrics and the log tell that the registry is away. Without a
    copy it says so and ends."""
    crown(sqlite_mlflow, version_of(sqlite_mlflow, tmp_path, 1))
    followed(tmp_path).look()
    state = copies.read_state(tmp_path)
    assert state and state["reason"] is None and state["asked"] > 0
    monkeypatch.setenv(URI, AWAY)
    kept = followed(tmp_path)
    kept.start()
    kept.stop()
    assert number_of(tmp_path) == "1"
    state = copies.read_state(tmp_path)
    assert state and "cannot be reached" in state["reason"]
    with pytest.raises(UserError, match=f"{AWAY}.*cannot be reached"):
        followed(tmp_path / "elsewhere").start()


def test_no_champion_is_said(sqlite_mlflow: MlflowClient, tmp_path: Path) -> None:
    """A registry that answers and has nothing to serve."""
    version_of(sqlite_mlflow, tmp_path, 1)
    with pytest.raises(UserError, match=r"champion.*beatline promote"):
        followed(tmp_path).start()


def test_predictions_by_a_registered_name(
    sqlite_mlflow: MlflowClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`registry:ptbxl/cnn@challenger` is the version of that alias; while the registry is away its last
    copy answers, and that is said."""
    version_of(sqlite_mlflow, tmp_path, 1)
    name, ecg = f"registry:{KEY}@challenger", raw_recordings("ptbxl")[0]
    table = predictor.load(name).predict(ecg)
    own = predictor.load(tmp_path / f"1/data/models/{KEY}").predict(ecg)
    assert table.equals(own)
    with pytest.raises(UserError, match="champion"):
        predictor.load(f"registry:{KEY}")
    monkeypatch.setenv(URI, AWAY)
    assert predictor.load(name).predict(ecg).equals(own)
    assert "version 1" in capsys.readouterr().out
    with pytest.raises(UserError, match="cannot be reached"):
        predictor.load(f"registry:{OTHER}@challenger")


def test_a_state_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    """Workers read files that another process writes."""
    path = tmp_path / copies.FOLDER / copies.STATE
    assert copies.read_state(tmp_path) is None
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"asked": None, "reason": "x"})[:-3])
    assert copies.read_state(tmp_path) is None
