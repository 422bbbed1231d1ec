"""Results of this machine are found again, whatever dvc.lock says of those of another."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml

from tests.pipeline.clones import Clone, make_heartbeats_clone

TARGET = "evaluate_cnn@ecg5000"
METRICS = Path("reports/metrics/ecg5000/cnn.json")
MADE = ("data/models", "data/predictions")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone in which six stages have run, and are committed."""
    made = make_heartbeats_clone(tmp_path_factory.mktemp("clone"))
    made.run("beatline", "repro", TARGET)
    made.commit("Results of this machine")
    return made


def make_other_machine(clone: Clone) -> None:
    """Commit results as another processor would give them: what was trained, and what came of it."""
    lock = clone.root / "dvc.lock"
    content = yaml.safe_load(lock.read_text())
    for entry in content["stages"].values():
        for file in (*entry["deps"], *entry["outs"]):
            if file["path"].startswith((*MADE, str(METRICS))):
                file["md5"] = f"0000{file['md5'][4:]}"
    lock.write_text(yaml.safe_dump(content, sort_keys=False))
    metrics = clone.root / METRICS
    value = re.search(r'"metric": "auc".*?"value": (0\.\d+)', metrics.read_text(), re.S)
    assert value
    metrics.write_text(metrics.read_text().replace(value[1], f"{float(value[1]) - 1e-4:.6f}"))
    clone.commit("Results of another machine")


def ran(printed: str) -> list[str]:
    return re.findall(r"^Running stage '(.+)':", printed, re.M)


def test_without_a_lock_nothing_is_trained(clone: Clone) -> None:
    """The run cache has it all."""
    expected = clone.outputs()
    (clone.root / "dvc.lock").unlink()
    for folder in MADE:
        shutil.rmtree(clone.root / folder)
    assert not ran(clone.run("beatline", "repro", TARGET))
    assert clone.outputs() == expected


def test_with_a_lock_of_another_machine_nothing_is_trained(clone: Clone) -> None:
    """Its results are not at hand: this machine's come back, and the end says that they are others, and
    that they differ by no more than chance."""
    expected = clone.outputs()
    make_other_machine(clone)
    for folder in MADE:
        shutil.rmtree(clone.root / folder)
    printed = clone.run("beatline", "repro", TARGET)
    assert not ran(printed)
    assert clone.outputs() == expected
    assert re.search(r"^1 model of \d came out other .* No difference is beyond", printed, re.M)
    clone.run("git", "checkout", "HEAD", "--", "dvc.lock", "reports")
    assert not ran(clone.run("beatline", "repro", TARGET))


def test_what_a_change_of_code_made_is_no_other_machine(clone: Clone) -> None:
    """Metrics that are measured in another way are not told as those of another processor."""
    code = clone.root / "beatline/evaluation/mistakes.py"
    code.write_text(code.read_text() + "# changed\n")
    printed = clone.run("beatline", "repro", TARGET)
    assert ran(printed) == [TARGET]
    assert "came out other" not in printed
