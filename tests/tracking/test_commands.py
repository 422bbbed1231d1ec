"""`beatline track`, `register` and `promote`, as they are typed: on the committed state of this project,
and against a MLflow server."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from dvc.repo import Repo

from beatline import cli
from beatline.comparing.revisions import Revision
from beatline.tracking import client, names, promotion, registered, runs
from tests.paths import ROOT
from tests.tracking import project

KEY = "ptbxl/cnn"
MLFLOW = ROOT / ".venv-mlflow/bin/mlflow"


def test_the_committed_state_is_mirrored_whole(sqlite_mlflow: client.MlflowClient) -> None:
    """Every model that params.yaml lists, every metric that was measured, from Git alone if need be; and
    a second call adds nothing."""
    with Repo(str(ROOT)) as repo:
        revision = Revision(repo, "HEAD")
        mirrored = runs.mirror(sqlite_mlflow, [revision])
        assert mirrored.left_out == [] and sorted(mirrored.added) == sorted(
            f"{dataset}/{model}" for dataset, model in revision.trained
        )
        again = runs.mirror(sqlite_mlflow, [revision])
        assert (again.added, again.present) == ([], len(mirrored.added))
        for dataset, model in revision.trained:
            stored = json.loads((ROOT / f"reports/metrics/{dataset}/{model}.json").read_text())
            home = runs.experiment(sqlite_mlflow, dataset, stored["simulated"])
            wanted = f"tags.`{names.MODEL}` = '{model}'"
            [run] = sqlite_mlflow.search_runs([home.experiment_id], wanted)
            values = {row["metric"]: row["value"] for row in stored["metrics"]}
            expected = {name: value for name, value in values.items() if value is not None}
            assert expected.items() <= run.data.metrics.items()
            assert len(run.data.params) > 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, sqlite_tables: Path) -> Iterator[str]:
    """The address of a real MLflow server that keeps artifacts itself."""
    if not MLFLOW.exists():
        pytest.skip("no .venv-mlflow: `make test` makes it")
    folder = tmp_path_factory.mktemp("server")
    shutil.copyfile(sqlite_tables, folder / "mlflow.db")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [str(MLFLOW), "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    environment = {name: value for name, value in environment.items() if name != "PYTHONPATH"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for(url, process)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 90
    while True:
        assert time.monotonic() < end and process.poll() is None
        try:
            httpx.get(f"{url}/health", timeout=5).raise_for_status()
            return
        except httpx.HTTPError:
            time.sleep(0.2)


def test_a_server_holds_runs_and_versions_too(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where artifacts go through the server, which keeps them; nothing is written here."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(client.URI, server)
    connected = client.connect()
    revision = project.make(tmp_path / "p", KEY)
    assert runs.mirror(connected, [revision]).added == [KEY]
    assert runs.mirror(connected, [revision]).present == 1
    state = runs.state_of(revision, *KEY.split("/"))
    version, is_new, _ = promotion.register(connected, state, project.COMPARE)
    assert is_new and version.aliases == (names.CHALLENGER,)
    promotion.promote(connected, KEY, names.CHALLENGER, project.COMPARE)
    champion = registered.resolve(connected, KEY)
    held = registered.download(connected, champion, tmp_path / "held")
    original = tmp_path / "p/data/models" / KEY
    assert {path.name: path.read_bytes() for path in held.iterdir()} == {
        path.name: path.read_bytes() for path in original.iterdir()
    }
    worse = project.make(tmp_path / "q", KEY, seed=2, skill=0.2)
    promotion.register(connected, runs.state_of(worse, *KEY.split("/")), project.COMPARE)
    _, judgement = promotion.promote(connected, KEY, names.CHALLENGER, project.COMPARE)
    assert not judgement.may_move and registered.resolve(connected, KEY).number == 1
    assert not (tmp_path / client.FOLDER).exists()


def test_the_exit_status_says_what_became_of_it(
    sqlite_mlflow: client.MlflowClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """So that a script promotes, and stops where the gate does not hold."""
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    for seed, skill in ((1, 1.0), (2, 0.2)):
        revision = project.make(tmp_path / str(seed), KEY, seed=seed, skill=skill)
        state = runs.state_of(revision, *KEY.split("/"))
        promotion.register(sqlite_mlflow, state, project.COMPARE)
    assert cli.main(["promote", KEY, "--version", "1"]) == 0
    assert cli.main(["promote", KEY]) == 1
    assert "not promoted" in capsys.readouterr().err
    assert registered.resolve(sqlite_mlflow, KEY).number == 1
    for arguments in ([KEY, "--rollback"], ["ptbxl/cn"], [KEY, "--version", "9"], ["cnn"]):
        with pytest.raises(SystemExit) as caught:
            cli.main(["promote", *arguments])
        assert str(caught.value.code).startswith("error: ")
