"""Checkpoints of trainings: they come back whole or not at all, and only to the same training."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from beatline.common.errors import UserError
from beatline.training import checkpoint
from beatline.training.checkpoint import State

KEYS = ["a" * 64, "b" * 64]


def state_of(epochs: int) -> dict[str, Any]:
    return {
        "weights": {"layer": torch.arange(epochs * 3).reshape(epochs, 3).float()},
        "history": [{"epoch": epoch, "auc": math.nan} for epoch in range(epochs)],
        "best": -math.inf,
    }


def test_what_was_saved_last_comes_back(tmp_path: Path) -> None:
    """Tensors, numbers that are none, and texts, of the last save."""
    State(tmp_path / "a.state").save(state_of(1))
    State(tmp_path / "a.state").save(state_of(2))
    loaded = State(tmp_path / "a.state").load()
    assert loaded is not None
    assert torch.equal(loaded["weights"]["layer"], state_of(2)["weights"]["layer"])
    assert [row["epoch"] for row in loaded["history"]] == [0, 1] and loaded["best"] == -math.inf
    assert math.isnan(loaded["history"][0]["auc"])
    assert State(tmp_path / "b.state").load() is None


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "other"])
def test_a_damaged_checkpoint_is_not_used(
    damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One bit is enough, in one sentence that names the file; the next save mends it."""
    path = tmp_path / "a.state"
    State(path).save(state_of(2))
    content = path.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    path.write_bytes(
        {"cut": content[:-1], "flipped": flipped, "empty": b"", "other": b"text\n"}[damage]
    )
    state = State(path)
    assert state.load() is None and state.earlier == 0
    printed = capsys.readouterr().out
    assert printed == f"warning: {path} is damaged, so that this training starts over\n"
    state.save(state_of(1))
    assert State(path).load() is not None


def test_no_code_is_run_from_a_checkpoint(tmp_path: Path) -> None:
    """A checkpoint is data: an object that would run something when it is read is refused."""

    class Runs:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "ran",)

    State(tmp_path / "a.state").save({"it": Runs()})
    with pytest.raises(Exception, match="Weights only load failed"):
        State(tmp_path / "a.state").load()
    assert not (tmp_path / "ran").exists()


def test_time_of_interrupted_runs_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to the last save of each: 5 seconds, then 2, of runs that went on for longer."""
    now = 100.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    first = State(tmp_path / "a.state")
    now += 5
    first.save(state_of(1))
    now += 1000
    second = State(tmp_path / "a.state")
    second.load()
    assert second.earlier == 5
    now += 2
    second.save(state_of(2))
    third = State(tmp_path / "a.state")
    third.load()
    assert third.earlier == 7


def test_a_key_is_of_everything_that_went_in() -> None:
    """Another value anywhere, another key; the order of keys in a dictionary does not matter."""
    inside = {"rate": 0.1, "filters": [1, 2]}
    keys = {
        checkpoint.key(inside, "code"),
        checkpoint.key({**inside, "rate": 0.1 + 1e-16}, "code"),
        checkpoint.key({**inside, "filters": [2, 1]}, "code"),
        checkpoint.key(inside, "other"),
        checkpoint.key(inside),
    }
    assert len(keys) == 5 and all(len(key) == 64 for key in keys)
    assert checkpoint.key(dict(reversed(inside.items())), "code") in keys


def test_checkpoints_are_kept_until_all_is_done(tmp_path: Path) -> None:
    """After an interruption those of the same keys are there, and no others, not even a half-written
    one; at the end nothing is left, and no empty folder."""
    folder = tmp_path / "checkpoints/beats/cnn"
    with pytest.raises(KeyboardInterrupt), checkpoint.kept(folder, KEYS) as paths:
        for path in paths:
            State(path).save(state_of(1))
        (folder / f".{paths[0].name}.partial").write_text("killed while it wrote")
        (folder / ".ipynb_checkpoints").mkdir()
        raise KeyboardInterrupt
    other = "c" * 64
    with checkpoint.kept(folder, [KEYS[1], other]) as paths:
        assert list(folder.iterdir()) == [folder / f"{KEYS[1]}.state"]
        assert [State(path).load() is None for path in paths] == [False, True]
    assert list(tmp_path.iterdir()) == []


def test_other_models_checkpoints_stay(tmp_path: Path) -> None:
    """A model removes only its own checkpoints."""
    other = tmp_path / "checkpoints/beats/lstm/a.state"
    State(other).save(state_of(1))
    with checkpoint.kept(tmp_path / "checkpoints/beats/cnn", KEYS):
        pass
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [other]


def test_a_mistake_leaves_nothing(tmp_path: Path) -> None:
    """A training that diverged would diverge again."""
    with (
        pytest.raises(UserError, match="diverged"),
        checkpoint.kept(tmp_path / "checkpoints/beats/cnn", KEYS) as paths,
    ):
        State(paths[0]).save(state_of(1))
        raise UserError("diverged")
    assert list(tmp_path.iterdir()) == []


def test_two_processes_do_not_train_the_same(tmp_path: Path) -> None:
    """A stage outlives a `dvc repro` that is killed: the next one says so, and harms nothing. Once the
    other is killed too, its checkpoints are there."""
    folder = tmp_path / "checkpoints/beats/cnn"
    program = (
        "import sys, time, pathlib\n"
        "from beatline.training import checkpoint\n"
        "with checkpoint.kept(pathlib.Path(sys.argv[1]), sys.argv[2:]) as paths:\n"
        "    checkpoint.State(paths[0]).save({'epochs': 3})\n"
        "    print('saved', flush=True)\n"
        "    time.sleep(60)\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", program, str(folder), *KEYS], stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout is not None and other.stdout.readline() == "saved\n"
        with (
            pytest.raises(UserError, match=f"{folder} is in use by another process"),
            checkpoint.kept(folder, ["c" * 64]),
        ):
            pass
    finally:
        other.kill()
        other.communicate()
    with checkpoint.kept(folder, KEYS) as paths:
        assert State(paths[0]).load() == {"epochs": 3}
