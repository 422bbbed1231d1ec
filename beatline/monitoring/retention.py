"""Forget what is in the log of answers: what is too old or too much, and what is about one entity."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy
from sqlalchemy import Column, ColumnElement, Table, delete, func, select
from sqlalchemy.engine import Engine

from beatline.common.errors import UserError
from beatline.monitoring import database
from beatline.monitoring.answers import AnswerLog
from beatline.monitoring.database import answers, feedback, recordings
from beatline.monitoring.rows import microseconds, moment
from beatline.monitoring.settings import Monitoring

AT_ONCE = 2000  # rows in a transaction, so that those who write need not wait
DAY = timedelta(days=1) // timedelta(microseconds=1)
LEFT = 0.9  # of what is too much, so that it is not so again at once


@dataclass(frozen=True)
class State:
    """What is in a log: rows, `first` and `last` moment, and about how many bytes of content."""

    answers: int
    first: datetime | None
    last: datetime | None
    entities: int
    feedback: int
    recordings: int
    answers_bytes: int
    recordings_bytes: int


def state(log: AnswerLog) -> State:
    """Return what is in a log. Raises UserError if there is none."""

    def numbers(*columns: Any) -> Any:
        return connection.execute(select(*columns)).one()

    with log.reading() as connection:
        age = answers.c.moment
        count, first, last, size, entities = numbers(
            func.count(),
            func.min(age),
            func.max(age),
            func.sum(answers.c.size),
            func.count(answers.c.entity.distinct()),
        )
        kept, kept_size = numbers(func.count(), func.sum(recordings.c.size))
        said = numbers(func.count(feedback.c.answer))[0]
    return State(
        count,
        None if first is None else moment(first),
        None if last is None else moment(last),
        entities,
        said,
        kept,
        int(size or 0),
        int(kept_size or 0),
    )


def forget(log: AnswerLog, settings: Monitoring, now: datetime | None = None) -> int:
    """Delete what is older than the settings say, and then the oldest of what is more; return how many
    rows. With an answer goes what is kept or said of it."""
    limits: list[tuple[Table, Column[Any], float, float]] = [
        (answers, answers.c.id, settings.keep_days, settings.max_megabytes)
    ]
    if keep := settings.keep_recordings:
        limits.append((recordings, recordings.c.answer, keep.days, keep.max_megabytes))
    now = now or datetime.now(UTC)
    deleted = 0
    with database.reporting_faults(log.engine):
        for table, key, days, megabytes in limits:
            oldest = int(max(microseconds(now) - days * DAY, 0))  # many days end before all dates
            deleted += _delete(log.engine, key, table.c.moment < oldest)
            if (excess := _last_in_excess(log.engine, key, megabytes * 1e6)) is not None:
                deleted += _delete(log.engine, key, table.c.moment <= excess)
    return deleted


def erase(log: AnswerLog, entity: str) -> int:
    """Delete all that is about an entity, and have the database forget it; return how many answers.

    Raises UserError if what is deleted may still be on the disk, since others read it.
    """
    with log.reading(), database.reporting_faults(log.engine):
        erased = _delete(log.engine, answers.c.id, answers.c.entity == entity)
        with log.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            # Of SQLite, deleted rows are overwritten (secure_delete), and the write-ahead log is emptied;
            # a PostgreSQL keeps them until they are vacuumed.
            vacuum = "VACUUM answers, feedback, recordings"
            if log.engine.dialect.name == "postgresql":
                connection.execute(sqlalchemy.text(vacuum))
            elif connection.execute(sqlalchemy.text("PRAGMA wal_checkpoint(TRUNCATE)")).scalar():
                raise UserError(
                    f"{erased} answers about {entity} are erased, but may be on the disk until others "
                    f"have read the log: end what reads it, and run this again"
                )
    return erased


def _last_in_excess(engine: Engine, key: Column[Any], most: float) -> int | None:
    """Return the moment up to which rows are to be deleted so that the others take less than `most`
    bytes; None if all do."""
    table = key.table
    with engine.connect() as connection:
        total = connection.execute(select(func.sum(table.c.size))).scalar() or 0
        if total <= most:
            return None
        newest_first = (table.c.moment.desc(), key.desc())
        sums = func.sum(table.c.size).over(order_by=newest_first).label("total")
        summed = select(table.c.moment, sums).subquery()
        last = select(func.max(summed.c.moment)).where(summed.c.total > LEFT * most)
        return connection.execute(last).scalar()


def _delete(engine: Engine, key: Column[Any], condition: ColumnElement[bool]) -> int:
    deleted = 0
    while True:
        some = select(key).where(condition).limit(AT_ONCE)
        with engine.begin() as connection:
            count = connection.execute(delete(key.table).where(key.in_(some))).rowcount
        deleted += count
        if count < AT_ONCE:
            return deleted
