"""MLflow on SQLite and on a real PostgreSQL. The tables, which take seconds to make, are made once for
each and copied."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from beatline.tracking import client
from tests import postgresql
from tests.paths import ROOT

CONNECT = "from beatline.tracking import client; client.connect()"


@pytest.fixture(scope="session")
def sqlite_tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with MLflow's tables."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    _make_tables(f"sqlite:///{path}", path.parent)
    return path


@pytest.fixture(scope="session")
def postgresql_tables(
    postgresql_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The URL of a database of PostgreSQL with MLflow's tables."""
    with postgresql.database(postgresql_server) as url:
        _make_tables(url, tmp_path_factory.mktemp("mlflow"))
        yield url


def _make_tables(url: str, folder: Path) -> None:
    """In a process of its own, whose connections end with it: a template must have none."""
    environment = {**os.environ, client.URI: url, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", CONNECT], cwd=folder, env=environment, check=True)


@pytest.fixture
def sqlite_mlflow(
    sqlite_tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> client.MlflowClient:
    """A client of a MLflow without runs, as it is without any setting; the current folder is empty."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(client.URI, raising=False)
    client.FOLDER.mkdir(parents=True)
    shutil.copyfile(sqlite_tables, client.FOLDER / "mlflow.db")
    return client.connect()


@pytest.fixture(params=["sqlite", "postgresql"])
def mlflow(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[client.MlflowClient]:
    """The same on each kind of database."""
    if request.param == "sqlite":
        yield request.getfixturevalue("sqlite_mlflow")
        return
    tables = request.getfixturevalue("postgresql_tables")
    monkeypatch.chdir(tmp_path)
    with postgresql.database(request.getfixturevalue("postgresql_server"), tables) as url:
        monkeypatch.setenv(client.URI, url)
        yield client.connect()
