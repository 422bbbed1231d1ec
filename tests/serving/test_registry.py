"""Bundles in memory: what changes on disk is taken up when it is whole, and never lost meanwhile."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from beatline.common import sums
from beatline.common.errors import UserError
from beatline.serving import model as models
from beatline.serving import registry
from beatline.serving.problems import Problem
from beatline.serving.registry import Registry
from beatline.serving.telemetry import Telemetry
from tests.damage import flipped, places
from tests.export.test_limits import HOSTILE
from tests.serving import project

KEY = "ptbxl/cnn"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return project.make(tmp_path / "project")


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Another bundle of the same name, to take the place of the first."""
    project.save(tmp_path / "other/ptbxl/cnn", KEY, seed=2)
    return tmp_path / "other/ptbxl/cnn"


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry(project.limits())


@pytest.fixture
def found(folder: Path, telemetry: Telemetry) -> Registry:
    """A registry that has looked once."""
    made = Registry(folder, project.WANTED, 60, telemetry)
    made.look()
    return made


def weights(found: Registry) -> str:
    return found.model("ptbxl", "cnn").identity["weights"]


def sum_of(bundle: Path) -> str:
    return models.load(bundle).identity["weights"]


def test_wanted() -> None:
    """The keys of the blocks in train, by data set, as params.yaml lists them; a model may have none."""
    params = {
        "datasets": {"b": {}, "a": {}, "c": {}},
        "train": {"cnn": {"a": {}, "b": {}}, "mlp": None, "lstm": {"b": {}}},
    }
    assert registry.wanted(params) == ["b/cnn", "b/lstm", "a/cnn"]


def test_what_is_there_is_loaded(found: Registry) -> None:
    """And what is not says why, in the list and when it is asked for."""
    assert found.why_not_ready() is None
    available = {f"{each['dataset']}/{each['name']}": each for each in found.summaries()}
    assert [key for key, each in available.items() if each["available"]] == project.TRAINED
    with pytest.raises(Problem, match=r"ptbxl/lstm cannot answer yet: .*dvc repro") as raised:
        found.model("ptbxl", "lstm")
    assert raised.value.status == 503
    with pytest.raises(Problem, match=r"no model 'ptbxl/../cnn'") as raised:
        found.model("ptbxl", "../cnn")
    assert raised.value.status == 404


def test_unchanged_bundles_are_not_loaded_again(
    found: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round costs some looks at files."""
    monkeypatch.setattr(models, "load", None)
    monkeypatch.setattr(models, "summary", None)
    before = found.summaries()
    found.look()
    assert found.summaries() == before


def test_replaced_by_a_rename(found: Registry, folder: Path, other: Path) -> None:
    """Replace a bundle as beatline.bundle.save does: gone for a moment, then another."""
    held, place, expected = (
        found.model("ptbxl", "cnn"),
        folder / registry.FOLDER / KEY,
        sum_of(other),
    )
    shutil.rmtree(place)
    found.look()
    assert found.model("ptbxl", "cnn") is held
    assert "gone" in found._entries[KEY].reason
    other.rename(place)
    found.look()
    assert weights(found) == expected != held.identity["weights"]
    assert found._entries[KEY].reason == ""


def test_replaced_file_by_file(found: Registry, folder: Path, other: Path) -> None:
    """Files change as in DVC's checkout: each for itself, in any order, and each half for a while. The
    old model answers until the new one is whole."""
    old, expected = weights(found), sum_of(other)
    place = folder / registry.FOLDER / KEY
    names = sorted(path.name for path in other.iterdir())
    for number, name in enumerate(reversed(names), 1):
        content = (other / name).read_bytes()
        for part in (content[: len(content) // 2], content):
            (place / name).write_bytes(part)
            found.look()
            whole = number == len(names) and part is content
            assert weights(found) == (expected if whole else old)
    assert weights(found) == expected


def test_finished_while_it_is_loaded(
    found: Registry,
    folder: Path,
    other: Path,
    telemetry: Telemetry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last file is written between the look at a bundle and its loading: whole, it is loaded, and
    the next look, which sees another stamp, does not count it again."""
    place, load = folder / registry.FOLDER / KEY, models.load
    for path in other.iterdir():
        (place / path.name).write_bytes(path.read_bytes()[:-1])

    def finish_and_load(bundle: Path) -> models.Model:
        for path in other.iterdir():
            (place / path.name).write_bytes(path.read_bytes())
        return load(bundle)

    monkeypatch.setattr(models, "load", finish_and_load)
    found.look()
    monkeypatch.setattr(models, "load", load)
    found.look()
    assert weights(found) == sum_of(other)
    assert b'beatline_model_loads_total{dataset="ptbxl",model="cnn"} 2.0' in telemetry.exposition()
    monkeypatch.setattr(models, "load", None)
    found.look()


def test_damaged_and_mended(found: Registry, folder: Path, telemetry: Telemetry) -> None:
    """A damaged file is logged once, not at every look, and listed until its cure is noticed."""

    def outdated() -> Any:
        (listed,) = (each for each in found.summaries() if f"ptbxl/{each['name']}" == KEY)
        return listed["outdated"]

    graph = folder / registry.FOLDER / KEY / "model.onnx"
    old, content = weights(found), graph.read_bytes()
    graph.write_bytes(content[:-1] + b"x")
    for _ in range(3):
        found.look()
    assert weights(found) == old
    assert "SHA-256" in outdated()
    failures = b'beatline_model_load_failures_total{dataset="ptbxl",model="cnn"} 1.0'
    assert failures in telemetry.exposition()
    graph.write_bytes(content)
    found.look()
    assert weights(found) == old
    assert outdated() is None


@pytest.mark.parametrize("hostile", ["loop", "constant of shape", "integers"])
def test_hostile_bundles_leave_the_others_alone(
    found: Registry, folder: Path, hostile: str
) -> None:
    """A graph whose sum is right in model.json cannot be loaded; the model that was there, and all
    others, answer on."""
    bundle, old = folder / registry.FOLDER / KEY, weights(found)
    content = HOSTILE[hostile]().SerializeToString()
    (bundle / "model.onnx").write_bytes(content)
    description = json.loads((bundle / "model.json").read_text())
    description["graph_sha256"] = hashlib.sha256(content).hexdigest()
    (bundle / "model.json").write_text(json.dumps(description))
    sums.seal(bundle)
    found.look()
    assert weights(found) == old
    (reason,) = [entry.get("outdated") for entry in found.summaries() if entry["name"] == "cnn"]
    assert "model.onnx cannot be loaded" in str(reason)
    assert found.why_not_ready() is None


def test_one_that_appears_later(folder: Path, tmp_path: Path) -> None:
    """A model of a running `dvc repro` is served when it is there; before, why nothing is healthy."""
    (folder / registry.FOLDER).rename(tmp_path / "away")
    found = Registry(folder, project.WANTED, 60, Telemetry(project.limits()))
    assert found.why_not_ready() == "loading: 0 of 4 models"
    found.look()
    assert found.why_not_ready() == registry.NONE_YET
    (tmp_path / "away").rename(folder / registry.FOLDER)
    found.look()
    assert found.why_not_ready() is None
    assert len(weights(found)) == 64


@pytest.mark.parametrize("name", ["model.json", "model.onnx", "SHA256SUMS"])
def test_a_flipped_byte_is_not_served(found: Registry, folder: Path, name: str) -> None:
    """At the same size and time: the old model answers, and the list says why it is not the file's."""
    path, held = folder / registry.FOLDER / KEY / name, found.model("ptbxl", "cnn")
    for place in places(path, 24):
        with flipped(path, place):
            found.look()
            (listed,) = [each for each in found.summaries() if f"ptbxl/{each['name']}" == KEY]
            assert name in listed["outdated"] and "beatline repair" in listed["outdated"]
            assert found.model("ptbxl", "cnn") is held
            with pytest.raises(UserError, match=name):
                models.load(path.parent)
    os.utime(path)  # clocks of file systems tick every few milliseconds
    found.look()
    assert [each["outdated"] for each in found.summaries() if each["name"] == "cnn"] == [None]


@pytest.mark.parametrize(
    "damage",
    [
        lambda bundle: (bundle / "model.onnx").unlink(),
        lambda bundle: (bundle / "model.onnx").write_bytes(b""),
        lambda bundle: (bundle / "model.json").write_text("{}"),
        lambda bundle: (bundle / "SHA256SUMS").unlink(),
    ],
)
def test_clients_are_not_told_where_the_project_is(
    found: Registry, folder: Path, damage: Callable[[Path], None]
) -> None:
    """Paths are those within the project, where the cure is typed."""
    damage(folder / registry.FOLDER / KEY)
    found.look()
    (reason,) = [each["outdated"] for each in found.summaries() if each["name"] == "cnn"]
    assert f"{registry.FOLDER / KEY}" in reason
    assert str(folder.parent) not in json.dumps(found.summaries())


def test_only_damaged_bundles(folder: Path) -> None:
    """The server is not healthy, and says what is wrong with them rather than that there are none."""
    for key in project.TRAINED:
        (folder / registry.FOLDER / key / "model.onnx").unlink()
    found = Registry(folder, project.WANTED, 60, Telemetry(project.limits()))
    found.look()
    assert "model.onnx is missing" in str(found.why_not_ready())


def test_errors_of_ours_are_tried_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Memory may have run out: others are loaded, and this one at the next look."""
    load = models.load

    def short_of_memory(bundle: Path) -> models.Model:
        if bundle.name == "cnn":
            raise MemoryError
        return load(bundle)

    monkeypatch.setattr(models, "load", short_of_memory)
    found = Registry(folder, project.WANTED, 60, Telemetry(project.limits()))
    found.look()
    assert "MemoryError" in caplog.text
    with pytest.raises(Problem, match="an error of ours"):
        found.model("ptbxl", "cnn")
    assert found.model("ecg_features", "mlp")
    monkeypatch.setattr(models, "load", load)
    found.look()
    assert weights(found)


def test_new_metrics_are_told(found: Registry, folder: Path) -> None:
    """`evaluate` runs after `train`: its results are taken up without the model changing."""
    held = found.model("ptbxl", "cnn")
    project.evaluate(folder, KEY, auc=0.8125)
    found.look()
    (summary,) = [each for each in found.summaries() if each["name"] == "cnn"]
    assert summary["metrics"]["auc"]["value"] == 0.8125
    assert found.model("ptbxl", "cnn") is held


def test_stamps_tell_files_apart(tmp_path: Path) -> None:
    """Another content of the same size and time is another file, unless it is the same file again."""
    first, second = tmp_path / "a", tmp_path / "b"
    for path in (first, second):
        path.write_text("x")
        os.utime(path, ns=(1, 1))
    assert registry.stamp(first) == registry.stamp(first) != registry.stamp(second)
    assert registry.stamp(tmp_path / "none") == (None,)
    before = registry.stamp(first)
    first.write_text("y")
    assert registry.stamp(first) != before


def test_the_thread_keeps_up(folder: Path, other: Path) -> None:
    """Started, it loads and looks on its own; stopped, it ends."""
    found = Registry(folder, project.WANTED, 0.01, Telemetry(project.limits()))
    found.start()
    assert found.first_round.wait(20)
    place, expected = folder / registry.FOLDER / KEY, sum_of(other)
    shutil.rmtree(place)
    other.rename(place)
    project.wait_until(lambda: weights(found) == expected)
    found.stop()


def test_what_is_loaded_is_not_searched_for_garbage(
    folder: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full search would keep requests waiting; what was replaced is let go all the same."""
    load = models.load

    def load_in_a_cycle(place: Path) -> models.Model:
        model = load(place)
        vars(model)["itself"] = model  # so that only a search finds it
        return model

    monkeypatch.setattr(models, "load", load_in_a_cycle)
    found = Registry(folder, project.WANTED, 0.01, Telemetry(project.limits()))
    found.start()
    try:
        assert found.first_round.wait(20)
        assert gc.get_freeze_count() > 0
        replaced = weakref.ref(found.model("ptbxl", "cnn"))
        place = folder / registry.FOLDER / KEY
        shutil.rmtree(place)
        other.rename(place)
        project.wait_until(lambda: replaced() is None)
    finally:
        found.stop()
        gc.unfreeze()


@pytest.mark.parametrize(
    ("features", "wanted", "hint"),
    [
        ("ecg_features/mpl", project.WANTED, "did you mean ecg_features/mlp?"),
        ("x/y", ["a/b"], "known: a/b"),
        ("x/y", [], "known: none"),
    ],
)
@pytest.mark.parametrize("key", ["features", "machines"])
def test_models_that_are_not_trained(key: str, features: str, wanted: list[Any], hint: str) -> None:
    """A wrong name in params.yaml is told with its key and the right one."""
    none = {"features": None, "machines": None}
    with pytest.raises(UserError) as raised:
        registry.check_behind(project.limits(**{**none, key: features}), wanted)
    assert hint in str(raised.value) and f"serve.{key}" in str(raised.value)
    registry.check_behind(project.limits(**none), wanted)
