"""A number's lineage is recorded as it is: no revision that is not its own, no stage that had no part."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from beatline.common import sums
from beatline.common.versions import PACKAGES
from beatline.lineage import code, record
from beatline.lineage.lock import makers, upstream, upstream_of_next_run
from tests.paths import ROOT

NOWHERE = {"revision": None, "clean": False, "changed": []}
DVC_YAML = """
stages:
  download:
    foreach: ${datasets}
    do: {cmd: x, deps: [stages/download.py], outs: ["data/raw/${key}.zip"]}
  normalize:
    foreach: ${datasets}
    do:
      cmd: x
      deps: ["data/raw/${key}.zip"]
      outs: ["data/normalized/${key}/dataset.json", "data/normalized/${key}/train"]
  train_cnn:
    foreach: ${train.cnn}
    do:
      cmd: x
      deps: [stages/train.py, "data/normalized/${key}/train"]
      outs: ["data/models/${key}/cnn"]
"""


def entry(deps: list[str], outs: list[str], **params: Any) -> dict[str, Any]:
    """A stage as dvc.lock has it; a sum is made of the path."""
    told: dict[str, Any] = {"cmd": "x"}
    for kind, paths in (("deps", deps), ("outs", outs)):
        told[kind] = [{"path": path, "hash": "md5", "md5": md5(path), "size": 1} for path in paths]
    return told | ({"params": {"params.yaml": params}} if params else {})


def md5(path: str) -> str:
    return hashlib.md5(path.encode()).hexdigest()


def lock(**changed: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Two data sets, one of them made from the other, and what a removed stage has left."""
    return {
        "train_cnn@a": entry(["an/old/path"], ["data/models/a/cnn"]),
        "normalize@b": entry(["data/raw/b.zip"], ["data/normalized/b/train"], per="channel"),
        "download@b": entry(["stages/download.py", "data/normalized/a"], ["data/raw/b.zip"]),
        "normalize@a": entry(["data/raw/a.zip"], ["data/normalized/a/train"], per="record"),
        "download@a": entry(["stages/download.py"], ["data/raw/a.zip"], **{"datasets.a": {"n": 3}}),
        "fetch@a": entry(["stages/fetch.py"], ["data/raw/a.zip"]),
        **changed,
    }


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of a few files, all of them committed, as the working directory."""
    files = {
        "beatline/x.py": "x = 1\n",
        "stages/train.py": "",
        "params.yaml": "a: 1\n",
        "dvc.yaml": DVC_YAML,
        "requirements.txt": "",
        "README.md": "",
        "reports/m.json": "{}",
        ".gitignore": "/data/\n__pycache__\n",
    }
    for name, content in files.items():
        write(tmp_path / "project" / name, content)
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    monkeypatch.delenv("DVC_STAGE", raising=False)
    git("init", "--quiet")
    commit("Everything")
    return tmp_path / "project"


def write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def git(*arguments: str) -> str:
    who = ["-c", "user.name=Test", "-c", "user.email=test@example.invalid"]
    return subprocess.check_output(["git", *who, *arguments], text=True).strip()


def commit(message: str) -> str:
    git("add", "--all")
    git("commit", "--quiet", "--allow-empty", "--message", message)
    return git("rev-parse", "HEAD")


def write_lock(entries: dict[str, Any]) -> None:
    with Path("dvc.lock").open("w") as file:
        YAML().dump({"schema": "2.0", "stages": entries}, file)


def test_a_clean_tree(project: Path) -> None:
    """The commit in full, and nothing that differs."""
    expected = {"revision": git("rev-parse", "HEAD"), "clean": True, "changed": []}
    assert code.git_identity() == expected


def test_results_change_nothing(project: Path) -> None:
    """Neither new reports, a new lock and data nor their commit: who runs the same code on the same
    inputs again has the same bytes."""
    before = code.git_identity()
    for name in ("reports/m.json", "reports/n.json", "dvc.lock", "data/x", "README.md"):
        write(Path(name), "new")
    write(Path("beatline/__pycache__/x.pyc"), "new")
    assert code.git_identity() == before
    commit("Results")
    assert code.git_identity() == before
    assert before["clean"] and before["revision"] != git("rev-parse", "HEAD")


def test_changed_code_and_parameters(project: Path) -> None:
    """Edited, staged, removed, renamed and new files are named, also those of names in any script."""
    before = code.git_identity()["revision"]
    write(Path("params.yaml"), "a: 2\n")
    write(Path("dvc.yaml"), DVC_YAML + "\n")
    git("add", "dvc.yaml")
    Path("stages/train.py").unlink()
    git("mv", "beatline/x.py", "beatline/y.py")
    write(Path("beatline/new/überall hin.py"), "")
    expected = [
        "beatline/new/überall hin.py",
        "beatline/x.py",
        "beatline/y.py",
        "dvc.yaml",
        "params.yaml",
        "stages/train.py",
    ]
    found = code.git_identity()
    assert found == {"revision": before, "clean": False, "changed": expected}
    after = commit("All that")
    assert code.git_identity() == {"revision": after, "clean": True, "changed": []}


def test_a_project_inside_a_repository(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths are the project's; a repository that holds something else has no revision of it."""
    for folder in ("inside", "data/ignored"):
        for name in ("beatline/x.py", "params.yaml"):
            write(Path(folder, name), "")
    commit("A project inside")
    write(Path("inside/params.yaml"), "a: 3\n")
    monkeypatch.chdir("inside")
    found = code.git_identity()
    assert (found["clean"], found["changed"]) == (False, ["params.yaml"])
    monkeypatch.chdir(project / "data/ignored")
    assert code.git_identity() == NOWHERE


def test_no_git(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No commit, no repository, and no program called git: no revision, and no failure."""
    git("checkout", "--quiet", "--orphan", "new")
    assert code.git_identity() == NOWHERE
    (project / ".git").rename(project / "not-git")
    assert code.git_identity() == NOWHERE
    (project / "not-git").rename(project / ".git")
    monkeypatch.setenv("PATH", str(project))
    assert code.git_identity() == NOWHERE


def test_a_shallow_clone(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where its history ends before the last change, the revision is not known, and the warning names
    what mends it; one that is deep enough, or has been completed, knows it."""
    changed = git("rev-parse", "HEAD")
    for name in ("reports/m.json", "README.md"):
        write(Path(name), "new")
        commit("Results")
    for depth, folder in ((1, "one"), (2, "two"), (3, "three")):
        git("clone", "--quiet", "--depth", str(depth), f"file://{project}", str(project / folder))
        monkeypatch.chdir(project / folder)
        assert code.git_identity() == NOWHERE, depth
        said = capsys.readouterr().out
        assert said.startswith("warning: ") and "`git fetch --unshallow`" in said
        monkeypatch.chdir(project)
    monkeypatch.chdir(project / "one")
    git("fetch", "--quiet", "--unshallow")
    assert code.git_identity() == {"revision": changed, "clean": True, "changed": []}
    write(Path("params.yaml"), "a: 2\n")
    later = commit("A change")
    git("clone", "--quiet", "--depth", "2", f"file://{project / 'one'}", "../deep")
    monkeypatch.chdir(project / "deep")
    assert code.git_identity() == {"revision": later, "clean": True, "changed": []}
    assert capsys.readouterr().out == ""


def test_stages_before(project: Path) -> None:
    """The stages that made what the stage reads, each after those that it reads from itself, with their
    parameters and sums; no other data set's, none that dvc.yaml no longer has."""
    write_lock(lock())
    found = upstream_of_next_run("train_cnn@a")
    assert found is not None and list(found) == ["download@a", "normalize@a"]
    assert found["download@a"] == {
        "params": {"datasets.a": {"n": 3}},
        "deps": {"stages/download.py": md5("stages/download.py")},
        "outs": {"data/raw/a.zip": md5("data/raw/a.zip")},
    }
    assert found["normalize@a"]["params"] == {"per": "record"}


def test_stages_before_of_a_derived_data_set(project: Path) -> None:
    """The way back does not end at the raw data: another data set's stages made it. The stage may be
    new to dvc.lock."""
    write_lock(lock())
    found = upstream_of_next_run("train_cnn@b")
    assert found is not None
    assert list(found) == ["download@a", "normalize@a", "download@b", "normalize@b"]


def test_the_order_of_the_lock_does_not_matter(project: Path) -> None:
    """dvc.lock is in the order of first runs; the answer is not."""
    write_lock(lock())
    expected = json.dumps(upstream_of_next_run("train_cnn@b"))
    write_lock(dict(reversed(lock().items())))
    assert json.dumps(upstream_of_next_run("train_cnn@b")) == expected


def test_own_entry_does_not_matter(project: Path) -> None:
    """The entry of the stage's last run is replaced by this one: a second run tells the same."""
    write_lock(lock())
    expected = upstream_of_next_run("train_cnn@a")
    write_lock(lock(**{"train_cnn@a": entry(["data/raw/b.zip"], ["data/models/a/cnn"])}))
    assert upstream_of_next_run("train_cnn@a") == expected


def test_durations_are_left_out(project: Path) -> None:
    """Durations differ from run to run; what was made must not differ by that."""
    outs = ["data/normalized/a/train", "data/durations/a/normalize.json"]
    write_lock(lock(**{"normalize@a": entry(["data/raw/a.zip"], outs)}))
    found = upstream_of_next_run("train_cnn@a")
    assert found is not None and list(found["normalize@a"]["outs"]) == outs[:1]


def test_no_lock(project: Path) -> None:
    """Nobody has run anything: nothing to tell."""
    assert upstream_of_next_run("train_cnn@a") is None


def test_only_dvc_vouches_for_the_lock(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script that is started by hand may read other data than dvc.lock tells of."""
    write_lock(lock())
    write(Path("data/x/1"), "1")
    sums.seal(Path("data/x"))
    for stage, told in {"train_cnn@a": True, "sub/dvc.yaml:train_cnn@a": True, "x": False}.items():
        monkeypatch.setenv("DVC_STAGE", stage)
        found = record.identity([Path("data/x")], "train_cnn@a")
        assert (found["pipeline"] is not None) == told
        assert list(found) == ["git", "data", "code", "environment", "pipeline"]
    monkeypatch.delenv("DVC_STAGE")
    assert record.identity([Path("data/x")], "train_cnn@a")["pipeline"] is None


def test_data(project: Path) -> None:
    """The sum of the files' sums, which a person can make with coreutils, in a fixed order."""
    for name in ("b/1", "a/2", "a/1"):
        write(Path("data", name), name)
    for folder in (Path("data/a"), Path("data/b")):
        sums.seal(folder)
    found = record.identity([Path("data/a"), Path("data/b")], "x")["data"]
    command = "(cd a && sha256sum 1 2; cd ../b && sha256sum 1) | sha256sum"
    assert subprocess.check_output(command, shell=True, text=True, cwd="data").split()[0] == found


def test_code_is_of_loaded_modules() -> None:
    """The sum is of the project's loaded modules: one more changes it, a library does not."""
    program = (
        "from beatline.lineage.code import code_identity as now; print(now()); "
        "import fractions; print(now()); import beatline.models.mlp; print(now())"
    )
    told = subprocess.check_output([sys.executable, "-c", program], text=True, cwd=ROOT)
    before, with_library, with_module = told.split()
    assert before == with_library != with_module
    assert re.fullmatch("[0-9a-f]{64}", before)


def test_environment() -> None:
    """The versions that are running, and a machine; no name, place or user of it."""
    found = record.environment()
    assert found["numpy"] == np.__version__
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert {"torch", "pandas", "scipy", "scikit-learn", "dvc", "device"} <= found.keys()
    machine = found["machine"]
    assert machine.keys() == {"system", "processor", "cores", "threads"}
    assert machine["processor"] and machine["cores"] == os.cpu_count()
    words = set(re.split(r"[^\w.-]+", json.dumps(found)))
    assert not words & {socket.gethostname(), os.environ.get("USER", "/"), str(Path.home())}
    assert found == record.environment()


def test_every_package_is_pinned() -> None:
    """A version is told of what the project installs; a name that no file pins would never be."""
    pinned = (ROOT / "requirements.txt").read_text().replace("_", "-") + "torch=="
    assert [name for name in PACKAGES if f"{name}==" not in pinned] == []


def test_a_model_of_the_pipeline_has_its_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    """The committed dvc.yaml and dvc.lock lead from a model on each of its data sets back to where the
    recordings come from."""
    monkeypatch.chdir(ROOT)
    train = YAML(typ="safe").load(Path("params.yaml"))["train"]
    model, datasets = next(iter(train.items()))
    for name in datasets:
        found = upstream_of_next_run(f"evaluate_{model}@{name}")
        assert found is not None and next(iter(found)).startswith("download@")
        assert {f"normalize@{name}", f"train_{model}@{name}"} <= found.keys()


def test_way_back_of_an_entry(project: Path) -> None:
    """The entry itself, then what it builds on, nearest first; also where it reads a folder in which a
    stage wrote a file. A stage that never ran has none."""
    stages = lock()
    stages["train_cnn@b"] = entry(["stages/train.py", "data/normalized/b"], ["data/models/b/cnn"])
    found = upstream(stages, "train_cnn@b")
    assert [*found][:3] == ["train_cnn@b", "normalize@b", "download@b"]
    assert "normalize@a" in found and found["download@b"] == stages["download@b"]
    assert upstream(stages, "train_lstm@b") == {}
    assert makers(stages, ["stages/train.py"]) == []
