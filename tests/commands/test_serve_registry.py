"""`beatline serve --models registry`, a real process beside a real MLflow server: the alias moves while
clients ask, the registry is killed, and no request fails."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from beatline.tracking import client as mlflow_client
from beatline.tracking import copies, registered, runs
from beatline.tracking.client import URI
from beatline.tracking.registered import Version
from tests.commands.test_serve import ECG, RAW, Load, Process, metric
from tests.paths import ROOT
from tests.serving import project as served
from tests.tracking import project

KEY = "ptbxl/cnn"
PYTHON = ROOT / ".venv-mlflow/bin/python"
CLIENTS = 8


@contextmanager
def mlflow_server(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """MLflow's server on a SQLite file below `folder`, answering."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [PYTHON, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    with subprocess.Popen(
        [*command, "--artifacts-destination", str(folder / "artifacts")],
        cwd=folder,
        env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            served.wait_until(lambda: _answers(port), seconds=120)
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200
    except httpx.HTTPError:
        return False


def version_of(client: mlflow_client.MlflowClient, root: Path, seed: int) -> Version:
    state = runs.state_of(project.make(root, KEY, seed=seed), *KEY.split("/"))
    run = runs.ensure(client, state)
    return registered.register(client, run.info.run_id, {}, "")[0]


def wait_for(server: Process, load: Load, number: str, version: Version) -> None:
    """Return when both workers answer all clients with a version."""
    last = [version.weights] * 100
    served.wait_until(
        lambda: (
            metric(server.url, "model_info", version=number) == 1 and load.weights[-100:] == last
        ),
        seconds=60,
    )


@pytest.mark.skipif(not PYTHON.exists(), reason="no .venv-mlflow: `make test` makes it")
def test_the_champion_moves_and_the_registry_dies_without_a_failed_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight clients get nothing but answers, each of a version that was the champion, in that order;
    when the registry is killed, the last one goes on, and /metrics says so."""
    folder = served.make(tmp_path / "project")
    shutil.rmtree(folder / "data/models")  # nothing but the registry's
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv(URI, f"http://127.0.0.1:{port}")
    with mlflow_server(tmp_path / "mlflow", port) as mlflow:
        client = mlflow_client.connect()
        first, second = (version_of(client, tmp_path / f"state{seed}", seed) for seed in (1, 2))
        registered.move_champion(client, first, "promotion", "")
        server = Process(folder, "--port", "0", "--workers", "2", "--models", "registry")
        try:
            with Load(server.address, CLIENTS) as load:
                weights = []
                for number, version in (("1", first), ("2", second), ("1", first)):
                    registered.move_champion(client, version, "promotion", "")
                    weights.append(version.weights)
                    wait_for(server, load, number, version)
                    assert load.wrong == []
                assert list(dict.fromkeys(load.weights)) == weights[:2]
                assert set(load.weights[-100:]) == {first.weights}
                os.killpg(mlflow.pid, signal.SIGKILL)
                served.wait_until(lambda: metric(server.url, "registry_away") == 1, seconds=60)
                load.more(200)
                assert load.wrong == []
            answer = httpx.post(
                f"{server.url}/models/{KEY}/predict", content=ECG, headers=RAW
            ).json()
            assert answer["model"]["registered"] == {"version": "1", "alias": "champion"}
            said = server.end()
        finally:
            server.kill()
    assert "Traceback" not in said and "cannot be reached" in said
    assert (folder / copies.place_of(KEY)).exists()
