# pyright: reportMissingImports=false
"""Feast's online stores in SQLite and PostgreSQL, in which a row never gives way to an older one.

Feast itself keeps what is written last: a table that is materialized again would replace what a machine
has sent since. Its PostgreSQL has one connection for all threads, in which a reading thread fails while
another writes, and which is not opened again when the server was away.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from select import select
from typing import Any, Literal

from feast.infra.online_stores.postgres_online_store.postgres import (
    PostgreSQLOnlineStore,
    PostgreSQLOnlineStoreConfig,
)
from feast.infra.online_stores.sqlite import SqliteOnlineStore, SqliteOnlineStoreConfig
from psycopg import Connection

URL = "FEAST_ONLINE_STORE"  # of the environment: the password stands in no file
SECONDS_TO_CONNECT = 3
OPTIONS = "-c statement_timeout=10000 -c lock_timeout=5000 -c search_path=public"  # milliseconds


class _NewerRowsStay:
    """Before a write, leaves out the rows that are older than those that are there. Threads take turns;
    another process may write between the look and the write."""

    _writing = threading.Lock()

    def online_write_batch(self, config: Any, table: Any, data: Any, progress: Any) -> None:
        names = [table.features[0].name]
        with self._writing:
            there = self.online_read(config, table, [key for key, *_ in data], names)  # type: ignore[attr-defined]
            newer = [
                row
                for row, (moment, _) in zip(data, there, strict=True)
                if moment is None or _utc(row[2]) >= _utc(moment)
            ]
            if newer:
                super().online_write_batch(config, table, newer, progress)  # type: ignore[misc]


class NewestSqliteOnlineStoreConfig(SqliteOnlineStoreConfig):
    type: Literal["online_stores.NewestSqliteOnlineStore"]  # type: ignore[assignment]


class NewestSqliteOnlineStore(_NewerRowsStay, SqliteOnlineStore):
    """A file."""


class NewestPostgreSQLOnlineStoreConfig(PostgreSQLOnlineStoreConfig):
    """The settings that Feast asks for have no meaning: the URL says all of them."""

    type: Literal["online_stores.NewestPostgreSQLOnlineStore"]  # type: ignore[assignment]
    host: str = ""
    database: str = ""
    user: str = ""
    password: str = ""


class NewestPostgreSQLOnlineStore(_NewerRowsStay, PostgreSQLOnlineStore):
    """A database, by a connection for each thread that asks at once. They are kept, and looked at before
    they are used: psycopg's own pool takes seconds to replace those that broke."""

    def __init__(self) -> None:
        super().__init__()
        self._idle: deque[Connection] = deque()

    @contextmanager
    def _get_conn(self, config: Any, autocommit: bool = False) -> Iterator[Connection]:
        connection = self._usable()
        try:
            connection.autocommit = autocommit
            yield connection
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)

    def _usable(self) -> Connection:
        """Return a connection that works. Raises psycopg.OperationalError if none can be opened."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                break
            # Nothing is asked for: what is there to read is the end, or the reason of one.
            if not connection.closed and not select([connection.fileno()], [], [], 0)[0]:
                return connection
            connection.close()
        return Connection.connect(
            os.environ[URL], connect_timeout=SECONDS_TO_CONNECT, options=OPTIONS
        )


def _utc(moment: datetime) -> datetime:
    """Return a moment without a zone, in UTC, as the stores keep it."""
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
