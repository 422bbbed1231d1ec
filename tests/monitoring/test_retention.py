"""What is too old, too much or to be forgotten is gone from the log, and nothing else is."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from beatline.common.errors import UserError
from beatline.monitoring import retention
from beatline.monitoring.answers import Answer, AnswerLog, KeptRecording
from beatline.monitoring.settings import KeepRecordings, Monitoring
from tests.monitoring.logs import BEGINNING, answer, several

NOW = BEGINNING + timedelta(days=100)


def days(rows: list[Answer], log: AnswerLog) -> list[int]:
    """Which of the rows are left."""
    left = log.window("ptbxl", "cnn").ids
    return [number for number, row in enumerate(rows) if row.id in left]


def daily(count: int, entity: str | None = None) -> list[Answer]:
    return [
        answer(day, moment=BEGINNING + timedelta(days=day), entity=entity) for day in range(count)
    ]


def kept(row: Answer, length: int = 250) -> KeptRecording:
    """A recording of noise, of about `length` times 4 bytes."""
    samples = np.random.default_rng(int(row.id[:8], 16)).standard_normal((length, 1))
    return KeptRecording(row.id, samples.astype(np.float32), ["a"], 100.0, "mV")


def test_what_is_too_old(where: str) -> None:
    """It goes with what was kept and said of it; recordings have an age of their own."""
    rows = daily(100)
    settings = Monitoring(
        log=None,
        keep_days=40,
        max_megabytes=100,
        keep_recordings=KeepRecordings(days=10, max_megabytes=100),
    )
    with AnswerLog(where) as log:
        log.write(rows, [kept(row) for row in rows])
        log.say({row.id: ["MI"] for row in rows}, NOW)
        assert retention.forget(log, settings, NOW) == 60 + 30
        assert days(rows, log) == list(range(60, 100))
        assert len(log.feedback()) == 40
        assert set(log.recordings([row.id for row in rows])) == {row.id for row in rows[90:]}
        assert retention.forget(log, settings, NOW) == 0


def test_days_without_end(where: str) -> None:
    """What is kept for longer than there are dates is not too old, but may be too much."""
    rows = daily(10)
    settings = Monitoring(log=None, keep_days=1e300, max_megabytes=0.005)
    with AnswerLog(where) as log:
        log.write(rows)
        deleted = retention.forget(log, settings, NOW)
        assert 0 < deleted < 10
        assert days(rows, log) == list(range(deleted, 10))


def test_what_is_too_much(where: str) -> None:
    """The oldest go until the rest takes less, and no further."""
    rows = daily(100)
    settings = Monitoring(
        log=None,
        keep_days=1000,
        max_megabytes=0.06,
        keep_recordings=KeepRecordings(days=1000, max_megabytes=0.02),
    )
    with AnswerLog(where) as log:
        log.write(rows, [kept(row) for row in rows])
        retention.forget(log, settings, NOW)
        state = retention.state(log)
        assert 0.05e6 < state.answers_bytes <= 0.06e6
        assert 0.015e6 < state.recordings_bytes <= 0.02e6
        assert days(rows, log) == list(range(100 - state.answers, 100))
        assert set(log.recordings([row.id for row in rows])) == {
            row.id for row in rows[-state.recordings :]
        }


def test_the_size_is_that_of_the_file(tmp_path: Path) -> None:
    """`max_megabytes` means megabytes of disk, give or take a quarter."""
    path = tmp_path / "answers.db"
    with AnswerLog(str(path)) as log:
        log.write(several(5000, features={f"feature {n}": n / 7 for n in range(13)}))
        size = retention.state(log).answers_bytes
    assert size == pytest.approx(path.stat().st_size, rel=0.25)


def test_an_entity_is_forgotten(where: str) -> None:
    """All about it goes, whatever its age, and nothing about others."""
    rows, others = daily(5000, "patient-1"), daily(5, "patient-10") + daily(5)
    with AnswerLog(where) as log:
        log.write([*rows, *others], [kept(rows[0]), kept(others[0])])
        log.say({rows[0].id: ["MI"], others[0].id: ["CD"]}, NOW)
        assert retention.erase(log, "patient-1") == 5000
        assert set(log.window("ptbxl", "cnn").ids) == {row.id for row in others}
        assert [said.labels for said in log.feedback()] == [["CD"]]
        assert len(log.recordings([rows[0].id, others[0].id])) == 1
        assert retention.erase(log, "patient-1") == 0


def test_nothing_of_it_is_left_on_disk(tmp_path: Path) -> None:
    """Neither in the file nor beside it, for whoever looks at the bytes."""
    path = tmp_path / "answers.db"
    rows = daily(300, "patient-to-forget")
    with AnswerLog(str(path)) as log:
        log.write(rows)
        embedding = rows[7].embedding
        assert embedding is not None

        def on_disk(content: bytes) -> bool:
            return any(content in file.read_bytes() for file in tmp_path.iterdir())

        assert on_disk(b"patient-to-forget") and on_disk(embedding.tobytes())
        retention.erase(log, "patient-to-forget")
        assert not on_disk(b"patient-to-forget") and not on_disk(embedding.tobytes())


def test_somebody_who_reads_meanwhile(tmp_path: Path) -> None:
    """It is told that the bytes may be there still, and erasing again overwrites them."""
    path = tmp_path / "answers.db"
    with AnswerLog(str(path), seconds=0.2) as log:
        log.write(daily(300, "patient-to-forget"))
        with closing(sqlite3.connect(path)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM answers").fetchone()
            with pytest.raises(UserError, match=r"patient-to-forget.*again"):
                retention.erase(log, "patient-to-forget")
        retention.erase(log, "patient-to-forget")
        assert not any(b"patient-to-forget" in file.read_bytes() for file in tmp_path.iterdir())


def test_state(where: str) -> None:
    """What is in a log is told; one that is not there is an error."""
    rows = [*daily(3, "a"), *daily(2, "b"), answer(0)]
    with AnswerLog(where) as log:
        with pytest.raises(UserError, match=r"monitoring\.log"):
            retention.state(log)
        log.write(rows, [kept(rows[0])])
        log.say({rows[0].id: ["MI"]}, datetime.now(UTC))
        state = retention.state(log)
    assert (state.answers, state.entities, state.feedback, state.recordings) == (6, 2, 1, 1)
    assert (state.first, state.last) == (BEGINNING, BEGINNING + timedelta(days=2))
    assert state.recordings_bytes > 700
