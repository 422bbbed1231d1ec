"""A mistake is told with the name that the user's params.yaml gives to the data set."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from beatline.common.errors import reporting_mistakes
from tests import parameters
from tests.paths import ROOT

MODULES = ("ptbxl", "ucr", "mnist", "table", "sound")
COLUMNS = {
    "label": "label",
    "features": [],
    "ignore": [],
    "record": None,
    "group": None,
    "fold": None,
}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _set_up(module: str, download: dict[str, Any], labels: dict[str, Any] | None = None) -> None:
    """params.yaml with the data set `mine`, and what is measured of it."""
    content = parameters.content()
    blocks = {block["module"]: block for block in content["datasets"].values()}
    mine = blocks.get(module) or {
        **blocks["ucr"],
        "module": module,
        "download": {"sha256": None, **(COLUMNS if module == "table" else {})},
    }
    mine["download"] |= download
    mine["aggregate_labels"] = labels or mine["aggregate_labels"]
    mine["normalize"]["recordings"] = "data/raw/mine.zip"
    content["datasets"]["mine"] = mine
    content["extract_features"] = {"mine": {**parameters.SOUND, "module": module, "channel": 7}}
    Path("params.yaml").write_text(yaml.safe_dump(content))


def _run(stage: str) -> None:
    importlib.import_module(f"stages.{stage}").main("mine")


def _refused(stage: str) -> str:
    with pytest.raises(SystemExit) as exit_, reporting_mistakes():
        _run(stage)
    return str(exit_.value)


@pytest.mark.parametrize("module", MODULES)
def test_a_source_that_is_not_there(module: str) -> None:
    """The same words for all, and whose source it is."""
    _set_up(module, {"source": "nowhere"})
    assert _refused("download").startswith("error: datasets.mine: nowhere is missing: ")


TABLE = {"values": [], "normal": None, "duplicates": "error", "min_records": 1}
ROWS = [f"{number},,{'ab'[number % 2]}" for number in range(30)]


@pytest.mark.parametrize(
    ("rows", "labels", "stage", "cure"),
    [
        (ROWS, {"min_records": 99}, "aggregate_labels", "lower aggregate_labels.min_records"),
        (ROWS, {"values": ["c"]}, "aggregate_labels", "aggregate_labels.values: 'c'"),
        (["1,,a", "2,,a"], {}, "aggregate_labels", "name another download.label"),
        (["1,x,a"], {}, "download", "add empty to `ignore`"),
        (ROWS[:4], {}, "split", "use more records"),
        (ROWS, {}, "normalize", "set normalize.per to all"),
    ],
)
def test_what_a_stage_refuses(
    rows: list[str], labels: dict[str, Any], stage: str, cure: str
) -> None:
    """The data set, and the key to change in its block."""
    Path("rows.csv").write_text("\n".join(["number,empty,label", *rows]) + "\n")
    _set_up("table", {"source": "rows.csv"}, {**TABLE, **labels})
    for before in ("download", "aggregate_labels", "split"):
        if before == stage:
            break
        _run(before)
    sentence = _refused(stage)
    assert sentence.startswith("error: datasets.mine: ")
    assert cure in sentence


def test_what_cannot_be_measured() -> None:
    """The block that says what is measured is another one."""
    _set_up("sound", {})
    _run("download")
    _run("aggregate_labels")
    sentence = _refused("extract_features")
    assert sentence.startswith("error: extract_features.mine: ")
    assert "set `channel`" in sentence


@pytest.mark.parametrize("given", [[], ["cnn"], ["cnn", "ptbxl", "more"]], ids=len)
def test_a_stage_says_what_it_takes(given: list[str]) -> None:
    """Whoever calls one by hand learns what it wants, not that a position is missing."""
    command = [sys.executable, "-m", "stages.train", *given]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 1
    assert re.fullmatch(r"error: .*stages\.train.* takes <model> <name>.*\n", ended.stderr)
