"""Where MLflow is, and what is said when it is not."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psycopg
import pytest

from beatline.common.errors import UserError
from beatline.tracking import client
from tests import postgresql

SECRET = "s3cret"


@pytest.fixture(autouse=True)
def _somewhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(client.URI, raising=False)


def told(monkeypatch: pytest.MonkeyPatch, uri: str) -> str:
    """The sentence with which a connection to `uri` fails."""
    monkeypatch.setenv(client.URI, uri)
    with pytest.raises(UserError) as caught:
        client.connect()
    assert SECRET not in str(caught.value)
    return str(caught.value)


@contextmanager
def silent() -> Iterator[int]:
    """The port of a server that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.mark.parametrize("scheme", ["http", "postgresql"])
def test_a_server_that_is_away_is_told_at_once(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = time.monotonic()
    message = told(monkeypatch, f"{scheme}://user:{SECRET}@127.0.0.1:{unused_port()}/x")
    assert time.monotonic() - began < client.SECONDS_TO_CONNECT
    assert "127.0.0.1" in message and "start it" in message and client.URI in message


@pytest.mark.parametrize("scheme", ["http", "postgresql"])
def test_a_server_that_never_answers_is_not_waited_for(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "SECONDS_TO_CONNECT", 2)  # the least that PostgreSQL's driver takes
    with silent() as port:
        began = time.monotonic()
        told(monkeypatch, f"{scheme}://user:{SECRET}@127.0.0.1:{port}/x")
        assert time.monotonic() - began < 8


HEADERS = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
BROKEN_OFF = {
    "before a byte": b"",
    "in its first line": b"HTTP/1.",
    "in the body": HEADERS + b"Content-Length: 2493\r\n\r\n",
    "in a chunk": HEADERS + b"Transfer-Encoding: chunked\r\n\r\n9bd\r\n{",
}


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("place", BROKEN_OFF)
def test_a_server_that_dies_while_it_answers_is_away(
    place: str, reset: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that is killed in the middle of an answer is no server with a fault of its own, in whose
    log one could look: what holds is that it is away."""

    def answer(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:  # the test is over
                return
            with connection:
                connection.recv(65536)
                connection.sendall(BROKEN_OFF[place])
                if reset:
                    linger = struct.pack("ii", 1, 0)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=answer, args=[listener], daemon=True).start()
        port = listener.getsockname()[1]
        message = told(monkeypatch, f"http://user:{SECRET}@127.0.0.1:{port}/x")
        listener.shutdown(socket.SHUT_RDWR)
    assert "start it" in message and client.URI in message


def test_a_web_server_that_is_something_else_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, format: str, *args: object) -> None:
            del format, args

    with HTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        message = told(monkeypatch, f"http://user:{SECRET}@127.0.0.1:{server.server_port}/x")
        server.shutdown()
    assert "404" in message


def test_a_database_of_another_version_is_told(
    database: str, monkeypatch: pytest.MonkeyPatch, postgresql_server: str, postgresql_tables: str
) -> None:
    """No table is touched: the cure is to upgrade, after a backup."""
    del database
    with postgresql.database(postgresql_server, postgresql_tables) as url:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("UPDATE alembic_version SET version_num = 'of_the_future'")
        message = told(monkeypatch, url)
    assert "another version" in message and "mlflow db upgrade" in message


def test_a_sqlite_file_of_another_version_is_told(
    sqlite_tables: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copyfile(sqlite_tables, "mlflow.db")
    with sqlite3.connect("mlflow.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'of_the_past'")
    message = told(monkeypatch, f"sqlite:///{Path('mlflow.db').absolute()}")
    assert "another version" in message and "mlflow db upgrade" in message


def test_an_interrupted_first_call_leaves_no_half_of_the_tables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whenever it was killed, the next one begins anew."""

    def killed(engine: object) -> None:
        del engine
        raise KeyboardInterrupt

    with monkeypatch.context() as interrupted:
        interrupted.setattr(client, "_initialize_tables", killed)
        with pytest.raises(KeyboardInterrupt):
            client.connect()
    assert not list(client.FOLDER.iterdir())


def test_half_of_the_tables_are_told(
    postgresql_server: str, postgresql_tables: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a first call leaves them in PostgreSQL that was killed: an empty database is the cure."""
    with postgresql.database(postgresql_server, postgresql_tables) as url:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("DROP TABLE logged_model_tags")
            connection.execute("DELETE FROM alembic_version")
        message = told(monkeypatch, url)
    assert "in part" in message and "empty" in message


def test_a_file_that_is_no_database_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("mlflow.db").write_text("something else, and longer than the header of a database" * 9)
    assert "no SQLite database" in told(monkeypatch, f"sqlite:///{Path('mlflow.db').absolute()}")


def test_a_database_that_is_not_there_is_told(
    postgresql_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = postgresql_server.replace("/postgres?", "/missing?")
    assert "no such database" in told(monkeypatch, missing)


@pytest.mark.parametrize(
    "uri", ["ftp://server/x", "nonsense", "postgresql://a:b:c:d/x", "file:///x"]
)
def test_an_address_that_is_none_is_told(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    message = told(monkeypatch, uri)
    assert client.URI in message and "postgresql://" in message


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("database or disk is full", "full"),
        ('could not extend file "base/1": No space left on device', "full"),
        ("attempt to write a readonly database", "written"),
        ("database is locked", "another process"),
        ("canceling statement due to statement timeout", "did not answer"),
        ('password authentication failed for user "x"', "password"),
        ("something that nobody knows", "nobody knows"),
    ],
)
def test_a_fault_on_the_way_is_one_sentence(text: str, word: str) -> None:
    from sqlalchemy.exc import OperationalError

    with pytest.raises(UserError) as caught, client.reporting_faults():
        raise OperationalError("SELECT 1", {}, Exception(text))
    assert word in str(caught.value) and "\n" not in str(caught.value)


def test_own_settings_of_the_address_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """`postgresql://` means the driver that is installed; a user's time-outs are the user's."""
    monkeypatch.setenv(
        client.URI, f"postgres://me:{SECRET}@host/x?connect_timeout=77&sslmode=disable"
    )
    uri = client.uri()
    assert uri.startswith(f"postgresql+psycopg://me:{SECRET}@host/x?")
    assert "connect_timeout=77" in uri and "sslmode=disable" in uri and "statement_timeout" in uri
    assert client.masked(uri) == "postgresql+psycopg://me@host/x"


def test_nothing_is_reported_to_its_makers() -> None:
    from mlflow.telemetry.utils import is_telemetry_disabled

    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true" and is_telemetry_disabled()


def test_nothing_is_written_beside_its_folder(sqlite_tables: Path) -> None:
    """MLflow by itself makes `mlruns` and `mlflow.db` in the current folder."""
    client.FOLDER.mkdir(parents=True)
    shutil.copyfile(sqlite_tables, client.FOLDER / "mlflow.db")
    client.connect()
    assert [path.name for path in Path.cwd().iterdir()] == ["data"]
