"""Answers are written behind those who give them: none is lost without being counted, and none waits."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from sqlalchemy import event

from beatline.common.errors import UserError
from beatline.monitoring import writer as writers
from beatline.monitoring.answers import AnswerLog, KeptRecording
from beatline.monitoring.settings import Monitoring
from beatline.monitoring.writer import Writer
from tests.monitoring.logs import answer, several

SETTINGS = Monitoring(log=None, keep_days=1e6, max_megabytes=1000)


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not so after {seconds} seconds"
        time.sleep(0.01)


@contextmanager
def writing(
    where: str,
    settings: Monitoring = SETTINGS,
    prepare: Callable[[Writer], object] = lambda writer: None,
) -> Iterator[tuple[Writer, Counter[str]]]:
    """A writer, and what came of its rows. `prepare` is called before it starts."""
    outcomes: Counter[str] = Counter()
    writer = Writer(where, settings, lambda outcome, rows: outcomes.update({outcome: rows}))
    prepare(writer)
    writer.start()
    try:
        yield writer, outcomes
    finally:
        writer.stop()


@contextmanager
def locked(where: str) -> Iterator[None]:
    """Keep others from writing to a SQLite file."""
    with closing(sqlite3.connect(where, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield


def ids(where: str) -> list[str]:
    with AnswerLog(where) as log:
        return log.window("ptbxl", "cnn").ids


def test_all_is_written_in_the_end(where: str) -> None:
    """More than one batch, given in no time."""
    rows = several(2 * writers.BATCH + 10)
    with writing(where) as (writer, outcomes):
        for row in rows:
            assert writer.add(row) is None
    assert ids(where) == [row.id for row in rows] and outcomes == {"written": len(rows)}


def test_whatever_goes_wrong_first_ends_no_writer(tmp_path: Path) -> None:
    """A writer that was stopped by an error that nobody has foreseen would hold answers for ever."""

    errors = [RuntimeError("unforeseen")]

    def fail_once(connection: Any, _: Any) -> None:
        if errors:
            raise errors.pop()

    def prepare(writer: Writer) -> None:
        event.listen(writer.log.engine, "connect", fail_once)

    where = str(tmp_path / "answers.db")
    with writing(where, prepare=prepare) as (writer, outcomes):
        written = writer.add(answer(), wait=True)
        assert written and written.result(10) and outcomes["written"] == 1 and not errors


def test_who_waits_is_told_when_it_is_there(where: str) -> None:
    """What is told to be logged is read by others at once."""
    with writing(where) as (writer, _):
        rows = several(20)
        for row in rows:
            written = writer.add(row, wait=True)
            assert written and written.result(10)
            assert row.id in ids(where)


def test_a_database_that_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for it; as much as there is room for is written when it is free again, and the rest
    was counted."""
    monkeypatch.setattr(writers, "MOST_WAITING", 20)
    monkeypatch.setattr(writers, "SECONDS", 0.1)
    monkeypatch.setattr(writers, "BETWEEN", 0.1)
    where = str(tmp_path / "answers.db")
    with AnswerLog(where) as log:
        log.write([])
    rows = several(50)
    with writing(where) as (writer, outcomes):
        with locked(where):
            began = time.perf_counter()
            for row in rows[:40]:
                writer.add(row)
            assert time.perf_counter() - began < 0.1
            waiting = writer.add(rows[40], wait=True)
            assert waiting and waiting.result(0) is False
            assert outcomes["dropped"] == 21
        until(lambda: outcomes["written"] == 20)
        writer.add(rows[49])
    assert ids(where) == [*(row.id for row in rows[:20]), rows[49].id]


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits is told that it is not logged; it is as soon as there is room."""
    monkeypatch.setattr(writers, "BETWEEN", 0.1)
    where, pages = str(tmp_path / "answers.db"), 40

    def limit(connection: sqlite3.Connection, _: Any) -> None:
        connection.execute(f"PRAGMA max_page_count={pages}")

    def prepare(writer: Writer) -> None:
        event.listen(writer.log.engine, "connect", limit)

    with writing(where, prepare=prepare) as (writer, outcomes):
        rows = several(1000)
        for row in rows:
            writer.add(row)
        last = answer(2000)
        written = writer.add(last, wait=True)
        assert written and written.result(10) is False and outcomes["written"] < 1000
        pages = 10_000
        writer.log.engine.dispose()
        until(lambda: outcomes["written"] == 1001)
    assert len(ids(where)) == 1001


def test_connections_that_break(database: str) -> None:
    """As when PostgreSQL is started anew: nothing is lost."""
    rows = several(30)
    with writing(database) as (writer, outcomes):
        for number, row in enumerate(rows):
            writer.add(row, wait=True)
            if number % 10 == 5:
                with psycopg.connect(database, autocommit=True) as connection:
                    connection.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                    )
        until(lambda: outcomes["written"] == 30)
    assert ids(database) == [row.id for row in rows]


def test_a_row_that_no_database_takes(database: str) -> None:
    """It is counted as failed, and what comes with it and after it is written."""
    good, with_it = answer(2), [answer(), answer(1)]
    with writing(database) as (writer, outcomes):
        for row in (with_it[0], answer(entity="\0"), with_it[1]):
            writer.add(row)
        until(lambda: outcomes["failed"] == 1 and outcomes["written"] == 2)
        writer.add(good)
    assert sorted(ids(database)) == sorted(row.id for row in [*with_it, good])


def test_recordings_that_wait(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are held in so much memory and no more; their answers are logged all the same."""
    samples = np.zeros((100, 2), np.float32)
    monkeypatch.setattr(writers, "MOST_HELD", 3 * samples.nbytes)
    rows = several(6)
    with writing(where) as (writer, outcomes):
        for row in rows[:5]:
            writer.add(row, KeptRecording(row.id, samples, ["a", "b"], None, None))
        until(lambda: outcomes["written"] == 8)
        assert outcomes["dropped"] == 2
        writer.add(rows[5], KeptRecording(rows[5].id, samples, ["a", "b"], None, None))
        until(lambda: outcomes["written"] == 10)
        assert len(writer.log.recordings([row.id for row in rows])) == 4


def test_what_finds_no_room_is_counted_with_its_recording(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As what is written is: an answer and its recording are two rows."""
    monkeypatch.setattr(writers, "MOST_WAITING", 1)
    outcomes: Counter[str] = Counter()
    writer = Writer(where, SETTINGS, lambda outcome, rows: outcomes.update({outcome: rows}))
    for row in several(2):  # before it is started, nothing is taken away
        writer.add(
            row, KeptRecording(row.id, np.zeros((100, 2), np.float32), ["a", "b"], None, None)
        )
    assert outcomes == {"dropped": 2}
    writer.start()
    writer.stop()
    assert outcomes == {"dropped": 2, "written": 2}


def test_the_end_does_not_wait_for_a_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server ends in time, and says what is not in the log."""
    monkeypatch.setattr(writers, "SECONDS_TO_END", 0.3)
    where = str(tmp_path / "answers.db")
    with AnswerLog(where) as log:
        log.write([])
    with locked(where):
        with writing(where) as (writer, outcomes):
            rows = several(5)
            for row in rows[:3]:
                writer.add(row)
            for row in rows[3:]:
                samples = np.zeros((100, 2), np.float32)
                writer.add(row, KeptRecording(row.id, samples, ["a", "b"], None, None))
            time.sleep(2 * writers.BETWEEN)
            began = time.monotonic()
        assert time.monotonic() - began < 2
        assert outcomes == {"dropped": 5 + 2}


def test_what_is_too_old_goes(where: str) -> None:
    """The writer keeps the log within its limits without being asked."""
    settings = Monitoring(log=None, keep_days=30, max_megabytes=1000)
    with AnswerLog(where) as log:
        log.write(several(3))  # of long ago
    with writing(where, settings):
        until(lambda: not ids(where))


def test_no_place() -> None:
    """A place that is none is told before anything is served."""
    with pytest.raises(UserError, match=r"monitoring\.log"):
        Writer("mysql://x/y", SETTINGS, lambda *_: None)
