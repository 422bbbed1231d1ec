"""Training that is killed in the middle of `dvc repro` goes on with the next one, to the same bytes."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import psutil

from tests.pipeline.clones import Clone, keep_only, make_clone, make_small

EPOCHS = 60
REPRO = ("dvc", "repro", "train_cnn@ecg5000")
# With these two clones have the same revision, which their bundles name.
DATES = {f"GIT_{who}_DATE": "2000-01-01T00:00:00+0000" for who in ("AUTHOR", "COMMITTER")}


def make(root: Path) -> Clone:
    """A clone that is ready to train one network."""
    clone = make_clone(root)
    clone.variables |= DATES
    make_small(clone)
    keep_only(clone, "ecg5000")
    content = clone.params()
    content["train"]["cnn"]["ecg5000"]["epochs"] = EPOCHS
    clone.set_params(content)
    clone.commit("A small project")
    clone.repro("normalize@ecg5000")
    return clone


def read_until(line: str, process: subprocess.Popen[str]) -> str:
    """What a process prints, up to a line that holds `line`."""
    assert process.stdout is not None
    printed = ""
    while line not in printed:
        more = process.stdout.readline()
        assert more, f"{line!r} is not in:\n{printed}"
        printed += more
    return printed


def gone_on_after(printed: str) -> int:
    (epoch,) = re.findall(rf"^going on after epoch (\d+) of {EPOCHS} \(interrupted", printed, re.M)
    return int(epoch)


def test_a_killed_training_goes_on(tmp_path: Path) -> None:
    """SIGKILL for the stage, which is what a full memory brings; then for the stage and DVC, as when the
    machine fails. What is finished at last is what a run gives that nobody interrupted."""
    clone = make(tmp_path / "killed")
    whole = Clone(Path(shutil.copytree(clone.root, tmp_path / "whole")), DATES)
    uninterrupted = whole.start(*REPRO)

    first = clone.start(*REPRO)
    read_until(f"epoch   3/{EPOCHS}", first)
    (stage,) = (
        child
        for child in psutil.Process(first.pid).children(recursive=True)
        if "stages.train" in child.cmdline() and "python" in child.name()
    )
    stage.kill()
    assert "failed to reproduce 'train_cnn@ecg5000'" in first.communicate()[0]
    assert first.returncode not in (0, -signal.SIGKILL)

    second = clone.start(*REPRO)
    after_first = gone_on_after(read_until("going on", second))
    assert after_first >= 3
    read_until(f"epoch {after_first + 3:3d}/{EPOCHS}", second)
    os.killpg(second.pid, signal.SIGKILL)
    second.communicate()
    assert not (clone.root / "data/models/ecg5000/cnn").exists()

    assert gone_on_after(clone.run(*REPRO)) >= after_first + 3
    printed, _ = uninterrupted.communicate()
    assert uninterrupted.returncode == 0 and "going on" not in printed, printed
    assert clone.outputs() == whole.outputs()
    assert not (clone.root / "data/checkpoints").exists()
    assert clone.repro("train_cnn@ecg5000") == set()
