"""The client of Feast's server: whatever answers there, or does not, it takes no longer than it may."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from beatline.common.errors import UserError
from beatline.feature_store import client
from beatline.feature_store.client import Client, StoreError
from beatline.feature_store.definitions import Table
from tests.feature_store import tables


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return replace(tables.tables(tables.make(tmp_path))[1], features=["rms_mean"])


@contextmanager
def answering(*answers: bytes | None) -> Iterator[str]:
    """The URL of a server that gives these bytes, each on a connection of its own; None: nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        kept = []

        def serve() -> None:
            for answer in answers:
                connection, _ = listener.accept()
                connection.recv(65536)
                kept.append(connection)
                if answer is not None:
                    connection.sendall(answer)
                    connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def http(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def features(value: str, status: str = "PRESENT", name: str = "rms_mean") -> bytes:
    times = '["2024-01-01T00:00:00Z"]'
    column = f'{{"values": [{value}], "statuses": ["{status}"], "event_timestamps": {times}}}'
    return f'{{"metadata": {{"feature_names": ["{name}"]}}, "results": [{column}]}}'.encode()


def test_a_row(table: Table) -> None:
    """Values come by name with their time; who has none has no row."""
    with answering(http(features("0.5")), http(features("null", "NOT_FOUND"))) as url:
        row = Client(url).newest(table, "x")
        assert (
            row
            and row.features == {"rms_mean": 0.5}
            and row.moment.isoformat() == ("2024-01-01T00:00:00+00:00")
        )
        assert Client(url).newest(table, "x") is None


def test_a_connection_that_was_closed_meanwhile(table: Table) -> None:
    """A server that ends a connection that was kept loses no question."""
    with answering(b"", http(features("0.5"))) as url:
        assert Client(url).newest(table, "x")


@pytest.mark.parametrize(
    "body",
    [
        features("0.5", name="rms_std"),
        features('"much"'),
        features("1e999"),
        b"",
        b"{}",
        b"[]",
        b'{"metadata": {"feature_names": ["rms_mean"]}, "results": []}',
        b"<html>",
    ],
)
def test_an_answer_that_is_none(table: Table, body: bytes) -> None:
    """Features of other names and what are no numbers are never taken for those that were asked for."""
    with (
        answering(http(body)) as url,
        pytest.raises(StoreError, match=r"machine_sound.*make features"),
    ):
        Client(url).newest(table, "x")


def test_an_error_of_the_server(table: Table, caplog: pytest.LogCaptureFixture) -> None:
    """Its words, which may name hosts and users, go to the log in one line, and not to clients."""
    error = http(b'"no password\nfor user me"', "500 Internal Server Error")
    with answering(error) as url, pytest.raises(StoreError, match=r"500.*make features") as raised:
        Client(url).newest(table, "x")
    assert "password" not in str(raised.value)
    assert "no password for user me" in caplog.messages[0]


def test_a_server_that_hangs(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given up after the seconds that it has."""
    monkeypatch.setattr(client, "SECONDS_TO_ANSWER", 0.2)
    began = time.monotonic()
    with answering(None) as url, pytest.raises(StoreError, match="does not answer"):
        Client(url).newest(table, "x")
    assert 0.1 < time.monotonic() - began < 2


def test_a_server_that_is_away(table: Table) -> None:
    """It is told at once how to start it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(StoreError, match="make feature-server"):
        Client(url).newest(table, "x")


@pytest.mark.parametrize(
    "url", ["", "ftp://x", "http://", "http://x:y", "http://x:0", "localhost:6566"]
)
def test_a_url_that_is_none(url: str) -> None:
    """It is refused with the variable that holds it, before anything is asked."""
    with pytest.raises(UserError, match=client.VARIABLE):
        Client(url)
