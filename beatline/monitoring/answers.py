"""The log of answers: what a model has said, what it has seen, and what experts say of it later::

    with AnswerLog("data/monitoring/answers.db") as log:
        window = log.window("ptbxl", "cnn", last=1000)

No recording is in it unless ``monitoring.keep_recordings`` says so, and no name of a person: an entity
is a machine, or a pseudonym that the sender has chosen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import (
    LABEL_STYLE_TABLENAME_PLUS_COL,
    Column,
    ColumnElement,
    Connection,
    Row,
    Select,
    select,
    tuple_,
)

from beatline.common.errors import UserError
from beatline.monitoring import database, rows
from beatline.monitoring.database import answers, feedback, recordings
from beatline.monitoring.rows import (
    Answer,
    Feedback,
    KeptRecording,
    Pair,
    Role,
    microseconds,
    moment,
)
from beatline.monitoring.window import Window, collected

__all__ = ["Answer", "AnswerLog", "Feedback", "KeptRecording", "Pair", "Role", "Window"]

SECONDS = 30.0  # that a statement may take
AT_ONCE = 1000  # rows that a statement reads
MOST_PAIRS = 20_000


class AnswerLog:
    """The log at `where`, the path of a SQLite file or the URL of a PostgreSQL; threads may share it. It
    is made when something is first written. No statement lasts longer than `seconds`.

    Raises UserError if `where` is neither; all methods do if the database cannot be used.
    """

    def __init__(self, where: str, seconds: float = SECONDS) -> None:
        self.engine = database.engine(where, seconds)
        self._made: int | None = None  # which file has the tables
        self._read: int | None = None  # and which has all their columns

    def __enter__(self) -> AnswerLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.engine.dispose()

    def write(self, given: Sequence[Answer], kept: Sequence[KeptRecording] = ()) -> int:
        """Append answers, and recordings of some of them, all or none; return about how many bytes they
        take. What is there already stays as it is, so that rows may be written again."""
        moments = {row.id: row.moment for row in given}
        content = {
            answers: [rows.values(row) for row in given],
            recordings: [rows.recording_values(each, moments[each.answer]) for each in kept],
        }
        with database.reporting_faults(self.engine):
            self._make()
            with self.engine.begin() as connection:
                for table, values in content.items():
                    if values:
                        database.append(connection, table, values)
        return sum(row["size"] for values in content.values() for row in values)

    def window(
        self,
        dataset: str,
        model: str,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        last: int | None = None,
        role: Role = "champion",
        weights: str | None = None,
        entity: str | None = None,
    ) -> Window:
        """Return the answers of a model: from `since` on, before `until`, the `last` ones of these, of
        the bundle with these `weights` alone, and about one `entity`. Of several about what was measured
        once of a machine, the last alone is there.

        Raises UserError if they are of bundles whose outputs differ in number: `weights` must name one.
        """
        columns = answers.c
        query = select(answers).where(
            columns.dataset == dataset, columns.model == model, columns.role == role
        )
        if since is not None:
            query = query.where(columns.moment >= microseconds(since))
        if until is not None:
            query = query.where(columns.moment < microseconds(until))
        if weights is not None:
            query = query.where(columns.weights == weights)
        if entity is not None:
            query = query.where(columns.entity == entity)
        query = query.where(is_last(until, of_bundle=weights is not None))
        if last is not None:
            query = query.limit(last)
        newest_first = query.order_by(columns.moment.desc(), columns.id.desc())
        with self.reading() as connection:
            return collected(dataset, model, _rows(connection, newest_first))

    def feedback(self, dataset: str | None = None, since: datetime | None = None) -> list[Feedback]:
        """Return what experts have said, of one data set and from `since` on, in the order in which they
        said it."""
        query = select(answers, feedback.c.moment.label("said"), feedback.c.labels)
        query = query.join(feedback, feedback.c.answer == answers.c.id)
        if dataset is not None:
            query = query.where(answers.c.dataset == dataset)
        if since is not None:
            query = query.where(feedback.c.moment >= microseconds(since))
        with self.reading() as connection:
            return [
                Feedback(rows.answer(row), moment(row.said), orjson.loads(row.labels))
                for row in _rows(connection, query.order_by(feedback.c.moment, answers.c.id))
            ]

    def pairs(self, dataset: str, model: str, last: int = MOST_PAIRS) -> list[Pair]:
        """Return what a model's champion and its challenger have said of the same recordings, the `last`
        ones, of the two bundles that have answered last. What was measured once is there once, with what
        experts have said of it."""
        given, heard = answers.alias("given"), feedback.c
        query = select(answers, given, heard.labels.label("labels"))
        query = query.join(given, given.c.id == answers.c.beside)
        query = query.outerjoin(feedback, heard.answer == given.c.id)
        query = query.where(
            answers.c.dataset == dataset, answers.c.model == model, answers.c.role == "shadow"
        )
        query = query.order_by(answers.c.moment.desc(), answers.c.id.desc()).limit(last)
        query = query.set_label_style(LABEL_STYLE_TABLENAME_PLUS_COL)
        found: dict[object, Pair] = {}
        newest: tuple[str, str] | None = None
        with self.reading() as connection:
            for row in _rows(connection, query):
                labels = orjson.loads(row.labels) if row.labels is not None else None
                given_row, shadow_row = (_Named(row, name) for name in ("given", "answers"))
                pair = Pair(rows.answer(given_row), rows.answer(shadow_row), labels)
                newest = newest or pair.weights
                if pair.weights != newest:
                    break
                before = found.setdefault(pair.champion.subject, pair)
                if before.labels is None:
                    found[pair.champion.subject] = pair
        return [*found.values()][::-1]

    def answers(self, ids: Iterable[str]) -> dict[str, Answer]:
        """Return the answers with these ids by id, without those that are not there."""
        return {
            row.id: rows.answer(row) for row in self._by_id(select(answers), answers.c.id, [*ids])
        }

    def recordings(self, ids: Iterable[str]) -> dict[str, KeptRecording]:
        """Return the recordings that are kept of these answers, by their ids."""
        query = select(recordings)
        kept = self._by_id(query, recordings.c.answer, [*ids])
        return {row.answer: rows.recording(row) for row in kept}

    def say(self, labels: dict[str, list[str]], moment: datetime) -> None:
        """Write what experts say about answers, by id, in place of what they said before."""
        values = [
            {
                "answer": answer,
                "moment": microseconds(moment),
                "labels": orjson.dumps(labels[answer]).decode(),
            }
            for answer in sorted(labels)  # in one order: two who speak at once do not block
        ]
        insert = database.insert(self.engine, feedback)
        new = {name: insert.excluded[name] for name in ("moment", "labels")}
        upsert = insert.on_conflict_do_update(index_elements=["answer"], set_=new)
        with database.reporting_faults(self.engine):
            self._make()
            with self.engine.begin() as connection:
                if values:
                    connection.execute(upsert, values)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a connection. Raises UserError if there is no log."""
        if (inode := database.inode(self.engine)) is None:
            raise UserError(
                f"there is no log of answers at {self.engine.url.database}: serve first, or "
                f"{database.CURE}"
            )
        with database.reporting_faults(self.engine):
            if self._read != inode:
                if database.is_older(self.engine):
                    self._make()
                self._read = inode
            with self.engine.connect() as connection:
                yield connection

    def _make(self) -> None:
        """Make the tables, anew if the file is another than before: whoever had it open would go on
        writing to one that is gone."""
        if self._made is None or self._made != database.inode(self.engine):
            self.engine.dispose()
            database.make_tables(self.engine)
            self._made = database.inode(self.engine)

    def _by_id(self, query: Select[Any], column: Column[Any], ids: list[str]) -> Iterator[Row[Any]]:
        with self.reading() as connection:
            for begin in range(0, len(ids), AT_ONCE):
                yield from _rows(connection, query.where(column.in_(ids[begin : begin + AT_ONCE])))


def is_last(until: datetime | None = None, *, of_bundle: bool = False) -> ColumnElement[bool]:
    """Return what is true of an answer that is the last, before `until` and by any bundle or by its own
    (`of_bundle`), about what was measured of a machine. Of others it is always."""
    mine, later = answers.c, answers.alias("later")
    same = ["dataset", "model", "role", "entity", "measured", *(["weights"] if of_bundle else [])]
    repeated = select(later.c.id).where(
        *(later.c[name] == mine[name] for name in same),
        tuple_(later.c.moment, later.c.id) > tuple_(mine.moment, mine.id),
    )
    if until is not None:
        repeated = repeated.where(later.c.moment < microseconds(until))
    return mine.measured.is_(None) | ~repeated.correlate(answers).exists()


class _Named:
    """The columns of one table in a row of several."""

    def __init__(self, row: Row[Any], table: str) -> None:
        self._row, self._table = row._mapping, table

    def __getattr__(self, name: str) -> Any:
        return self._row[f"{self._table}_{name}"]


def _rows(connection: Connection, query: Select[Any]) -> Iterator[Row[Any]]:
    """Yield the rows of a query, of which few are in memory at once."""
    yield from connection.execution_options(yield_per=AT_ONCE).execute(query)
