"""A small run changes what its file says, in a copy, and nothing in the checkout."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from beatline.commands import small_run, validate
from beatline.common.errors import UserError
from tests.paths import ROOT

SMALL = ROOT / "small.yaml"


@pytest.fixture
def content() -> dict[str, Any]:
    return YAML(typ="safe").load((ROOT / "params.yaml").read_text())


def test_small_yaml_fits_params_yaml(content: dict[str, Any]) -> None:
    """Every key is there, what comes out is valid, and every data set and model is in it."""
    before = {model for model, names in content["train"].items() if names}
    small_run.apply(small_run.read(SMALL), content, SMALL)
    validate.validate(content)
    assert {model for model, names in content["train"].items() if names} == before
    assert {name for names in content["train"].values() for name in names} == set(
        content["datasets"]
    )
    blocks = [block for names in content["train"].values() for block in names.values()]
    assert {block.get("epochs", 1) for block in blocks} == {1}


def test_nothing_small_comes_from_elsewhere(content: dict[str, Any]) -> None:
    """CI reaches the package index only, whatever source params.yaml names."""
    for block in content["datasets"].values():
        block["download"]["source"] = "elsewhere"
    small_run.apply(small_run.read(SMALL), content, SMALL)
    sources = {block["download"]["source"] for block in content["datasets"].values()}
    assert sources == {
        "beatline/datasets/mnist/package.yaml",
        "beatline/datasets/ucr/package.yaml",
        "beatline/simulators/ecg",
        "beatline/simulators/machines",
        "data/features/machine_sound",
        "data/features/ptbxl",
    }


@pytest.mark.parametrize("part", ["set", "leave_out"])
def test_a_key_that_is_not_there_is_named(content: dict[str, Any], part: str) -> None:
    """params.yaml was changed and small.yaml was not."""
    keys: dict[str, Any] = {"set": {"train.*.nowhere.epochs": 1}, "leave_out": []}
    if part == "leave_out":
        keys = {"set": {}, "leave_out": ["train.*.nowhere.epochs"]}
    with pytest.raises(UserError, match=r"small\.yaml.* has no train\.\*\.nowhere\.epochs"):
        small_run.apply(small_run.SmallRun(**keys), content, SMALL)


def test_the_copy_is_the_checkout_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Uncommitted files are in it, removed ones and results are not, and it shares the cache."""
    checkout, copy = tmp_path / "checkout", tmp_path / "copy"
    for name in ("a.py", "b.py", "reports/report.md", "dvc.lock"):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text("committed")
    commit = ["-c", "user.name=T", "-c", "user.email=t@example.invalid", "commit", "-qm", "x"]
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"], ["git", "add", "."]):
        subprocess.run(command, cwd=checkout, check=True)
    subprocess.run(["git", *commit], cwd=checkout, check=True)
    (checkout / "a.py").write_text("changed")
    (checkout / "b.py").unlink()
    (checkout / "new.py").write_text("added")
    monkeypatch.chdir(checkout)
    small_run.copy_project(copy)
    found = {path.name: path.read_text() for path in copy.glob("*.*") if path.is_file()}
    assert found.items() >= {"a.py": "changed", "new.py": "added"}.items()
    assert not found.keys() & {"b.py", "dvc.lock"}
    assert not (copy / "reports").exists()
    command = ["dvc", "cache", "dir"]
    cache = subprocess.run(command, cwd=copy, check=True, capture_output=True, text=True).stdout
    assert Path(cache.strip()) == checkout / ".dvc/cache"
