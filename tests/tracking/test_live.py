"""Epochs in MLflow while a training runs, from the checkpoints that the real loop writes."""

from __future__ import annotations

import json
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from beatline.tracking import client, live, names, runs
from beatline.tracking.live import Follower
from beatline.training.checkpoint import State
from tests.tracking import project

KEY = "ptbxl/cnn"


def checkpoint(root: Path, epochs: int, key: str = "a" * 64) -> Path:
    """The checkpoint of a training after so many epochs, as the loop saves it."""
    normalized = root / "data/normalized/ptbxl"
    normalized.mkdir(parents=True, exist_ok=True)
    (normalized / "dataset.json").write_text(json.dumps({"simulated": True}))
    path = root / f"data/checkpoints/{KEY}/{key}.state"
    path.parent.mkdir(parents=True, exist_ok=True)
    history = [
        {"epoch": epoch, "train_loss": 1 / epoch, "validation_auc": float("nan")}
        for epoch in range(1, epochs + 1)
    ]
    State(path).save({"history": history})
    return path


def losses(server: client.MlflowClient) -> dict[int, float]:
    """The losses by epoch of the one live run, each once."""
    [run] = live_runs(server)
    logged = server.get_metric_history(run.info.run_id, "train_loss")
    values = {each.step: each.value for each in logged}
    assert len(values) == len(logged)
    return values


def live_runs(server: client.MlflowClient) -> list[Any]:
    home = runs.experiment(server, "ptbxl", True)
    return list(server.search_runs([home.experiment_id], f"tags.`{names.LIVE}` = '{KEY}'"))


@pytest.mark.parametrize("place", [".", ".dvc/tmp/exps/tmp123"])
def test_epochs_are_there_while_the_training_runs(
    place: str, sqlite_mlflow: client.MlflowClient, tmp_path: Path
) -> None:
    """Of the project's own training, and of a queued experiment's."""
    follower = Follower(sqlite_mlflow, tmp_path)
    path = checkpoint(tmp_path / place, 1)
    follower.look()
    assert losses(sqlite_mlflow) == {1: 1.0}
    checkpoint(tmp_path / place, 3)
    follower.look()
    follower.look()
    assert losses(sqlite_mlflow) == {1: 1.0, 2: 0.5, 3: 1 / 3}
    assert live_runs(sqlite_mlflow)[0].info.status == "RUNNING"
    shutil.rmtree(path.parent)
    follower.look()
    assert live_runs(sqlite_mlflow)[0].info.status == "FINISHED"


def test_a_training_that_goes_on_does_so_in_its_run(
    sqlite_mlflow: client.MlflowClient, tmp_path: Path
) -> None:
    first = Follower(sqlite_mlflow, tmp_path)
    checkpoint(tmp_path, 2)
    first.end()
    assert live_runs(sqlite_mlflow)[0].info.status == "KILLED"
    checkpoint(tmp_path, 3)
    Follower(sqlite_mlflow, tmp_path).look()
    assert losses(sqlite_mlflow) == {1: 1.0, 2: 0.5, 3: 1 / 3}
    assert live_runs(sqlite_mlflow)[0].info.status == "RUNNING"


def test_what_came_of_it_takes_its_place(
    sqlite_mlflow: client.MlflowClient, tmp_path: Path
) -> None:
    """`make track` leaves no second row for one training, and none that runs is removed."""
    for number, epochs in enumerate((1, 2)):
        path = checkpoint(tmp_path, epochs, str(number) * 64)
        follower = Follower(sqlite_mlflow, tmp_path)
        follower.look()
        if number == 0:
            shutil.rmtree(path.parent)
            follower.look()
    assert len(live_runs(sqlite_mlflow)) == 2
    runs.mirror(sqlite_mlflow, [project.make(tmp_path / "p", KEY)])
    [left] = live_runs(sqlite_mlflow)
    assert left.info.status == "RUNNING"


def wait_until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_it_follows_beside_the_work(
    sqlite_mlflow: client.MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(client.URI, sqlite_mlflow.tracking_uri)
    monkeypatch.setattr(live, "POLL", 0.05)
    with live.followed():
        checkpoint(tmp_path, 2)
        wait_until(lambda: live_runs(sqlite_mlflow) and losses(sqlite_mlflow))
    wait_until(lambda: live_runs(sqlite_mlflow)[0].info.status == "KILLED")


def test_off_it_does_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(client.URI, raising=False)
    with live.followed():
        checkpoint(tmp_path, 1)
    assert not (tmp_path / client.FOLDER).exists()


@pytest.mark.parametrize("answers", [False, True])
@pytest.mark.parametrize("scheme", ["http", "postgresql"])
def test_a_server_that_is_away_costs_a_warning_and_no_second(
    scheme: str,
    answers: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Refused at once, or accepted and never answered: the work goes on, and its own errors come
    through."""
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        if not answers:
            listener.close()
        monkeypatch.setenv(client.URI, f"{scheme}://me:s3cret@127.0.0.1:{port}/x")
        began = time.monotonic()
        with pytest.raises(ZeroDivisionError), live.followed():
            if not answers:
                time.sleep(0.5)
            raise ZeroDivisionError
        assert time.monotonic() - began - (0 if answers else 0.5) < 1
    out = capfd.readouterr().out
    # A server that accepts may be given up on before the end, on a busy machine.
    assert out.count("warning") in ((0, 1) if answers else (1,)) and "s3cret" not in out
