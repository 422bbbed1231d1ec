"""The access log, and the id of a request: in the answer, in the log, in the log of errors."""

from __future__ import annotations

import json
import logging
import socket
import string
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beatline.serving import access_log, examples
from tests.serving import project

ALPHABET = (string.ascii_letters + string.digits + "._:+/=@-").encode()
CNN = "/models/ptbxl/cnn/predict"
RAW = {"Content-Type": "application/octet-stream", "X-Shape": "120,3"}


class Log:
    """The lines in a file, of a logger that is as the server's, and a client whose requests they are."""

    def __init__(self, path: Path, client: httpx.Client) -> None:
        self.path, self.client = path, client

    def lines(self, count: int) -> list[dict[str, Any]]:
        project.wait_until(lambda: len(self.path.read_text().splitlines()) >= count)
        lines = [json.loads(line) for line in self.path.read_text().splitlines()]
        assert len(lines) == count
        return lines


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    path = tmp_path / "access.jsonl"
    path.touch()
    logger, handler = logging.getLogger(access_log.NAME), access_log.Lines(str(path))
    logger.addHandler(handler)
    logger.setLevel("INFO")
    try:
        with project.client(project.make(tmp_path / "project")) as client:
            yield Log(path, client)
    finally:
        logger.removeHandler(handler)
        logger.setLevel("CRITICAL")


def test_a_line_per_request(log: Log) -> None:
    """It says who asked for what and when, what came of it, how long it took and how large it was."""
    before = datetime.now(UTC)
    answer = log.client.post(CNN, content=project.raw_recordings("ptbxl")[0].tobytes(), headers=RAW)
    (line,) = log.lines(1)
    assert before.timestamp() - 1 < datetime.fromisoformat(line["time"]).timestamp()
    assert 0 < line["duration_ms"] <= answer.elapsed.total_seconds() * 1e3 + 1
    assert {key: line[key] for key in line if key not in ("time", "duration_ms")} == {
        "method": "POST",
        "path": CNN,
        "status": 200,
        "bytes": len(answer.content),
        "client": "127.0.0.1",
        "request_id": answer.headers["X-Request-ID"],
    }


def test_what_is_asked_for_every_few_seconds_is_left_out(log: Log) -> None:
    """Health and metrics; not a file of the page, a HEAD, which has no body, or a refusal."""
    for path in ("/health", "/metrics", "/health"):
        log.client.get(path)
    log.client.get("/page/style.css")
    log.client.head("/models")
    log.client.get("/nothing")
    log.client.get("/health", headers={"Host": "elsewhere.example"})
    # A line is written when its answer is on its way: the next may overtake it.
    assert {(line["path"], line["status"], line["bytes"] > 0) for line in log.lines(4)} == {
        ("/page/style.css", 200, True),
        ("/models", 200, False),
        ("/nothing", 404, True),
        ("/health", 421, True),
    }


def test_the_client_behind_a_proxy(log: Log) -> None:
    """A proxy on this machine says whose requests it passes on."""
    log.client.get("/models", headers={"X-Forwarded-For": "203.0.113.7"})
    assert log.lines(1)[0]["client"] == "203.0.113.7"


@pytest.mark.parametrize(
    "sent", [b"", b"GET /health HTTP/1.1\r\nX-Request-ID: abc\r\nA: b\r\n\0: 1\r\n"]
)
def test_what_is_no_request(log: Log, sent: bytes) -> None:
    """What is refused before it has arrived has an id and a line too."""
    url = log.client.base_url
    with socket.create_connection((url.host, url.port)) as connection:
        connection.sendall(sent or b"nonsense\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b"")).decode()
    (line,) = log.lines(1)
    assert (line["method"], line["path"], line["status"]) == (None, None, 400)
    assert f"\r\nX-Request-ID: {line['request_id']}\r\n" in answer
    assert line["request_id"] == "abc" if sent else line["request_id"]


def test_errors_of_ours_have_the_id(
    log: Log, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Who reports a failed request by its id is shown its traceback."""
    monkeypatch.setattr(examples, "listed", lambda *_: 1 / 0)
    answer = log.client.get("/models/ptbxl/cnn/examples", headers={"X-Request-ID": "from-afar"})
    assert (answer.status_code, answer.headers["X-Request-ID"]) == (500, "from-afar")
    assert log.lines(1)[0]["request_id"] == "from-afar"
    (record,) = [record for record in caplog.records if record.exc_info]
    assert "from-afar" in record.getMessage()


@given(st.one_of(st.binary(max_size=200), st.text(ALPHABET.decode(), max_size=200).map(str.encode)))
def test_ids_that_are_taken(sent: bytes) -> None:
    """A sane id is taken as it is, and any other replaced: it stands in headers and logs."""
    made = access_log.request_id([(b"x-request-id", sent)])
    sane = 1 <= len(sent) <= 128 and set(sent) <= set(ALPHABET)
    assert (made.encode() == sent) == sane
    assert set(made.encode()) <= set(ALPHABET) and 1 <= len(made) <= 128


def test_ids_that_contradict_each_other() -> None:
    """Of two ids neither is taken, and without one each request has its own."""
    headers = [(b"x-request-id", b"a"), (b"x-request-id", b"b")]
    made = {access_log.request_id(headers), *(access_log.request_id([]) for _ in range(100))}
    assert len(made) == 101 and not made & {"a", "b"}


@given(
    path=st.text(st.characters(max_codepoint=255)),
    client=st.text(st.characters(exclude_categories=["Cs"])),
)
def test_a_line_is_a_line(path: str, client: str) -> None:
    """Whatever a client puts into it, it is one line, of no more than a pipe takes as a whole."""
    written: list[logging.LogRecord] = []
    logger, handler = logging.getLogger(access_log.NAME), logging.Handler()
    handler.emit = written.append  # type: ignore[method-assign]
    logger.addHandler(handler)
    logger.setLevel("INFO")
    try:
        access_log.write("id", (30 * client, 1), "GET", 30 * path, 200)
    finally:
        logger.removeHandler(handler)
        logger.setLevel("CRITICAL")
    line = written[0].getMessage()
    assert "\n" not in line and len(line.encode()) < 4096
    assert json.loads(line)["path"] == (30 * path)[: access_log.LONGEST]


def test_a_log_that_fails_costs_no_answer(log: Log, caplog: pytest.LogCaptureFixture) -> None:
    """A file that cannot be opened is said once, and the next lines are written when it can."""

    def written() -> list[logging.LogRecord]:
        return [record for record in caplog.records if record.name == access_log.NAME]

    log.path.unlink()
    log.path.mkdir()
    assert [log.client.get("/models").status_code for _ in range(3)] == [200] * 3
    project.wait_until(lambda: len(written()) == 3)
    access_log.finish()
    assert len([record for record in caplog.records if "access log" in record.getMessage()]) == 1
    log.path.rmdir()
    log.client.get("/models")
    project.wait_until(lambda: len(written()) == 4)
    access_log.finish()
    log.lines(1)
