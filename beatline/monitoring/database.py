"""The tables of the log of answers, in a file of SQLite's or in PostgreSQL, and the way to them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from operator import itemgetter
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy
from sqlalchemy import Column, Connection, ForeignKey, Index, MetaData, Table, column, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.exc import ArgumentError, DataError, SQLAlchemyError
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlalchemy.types import BigInteger, Double, Integer, LargeBinary, String, Text

from beatline.common.errors import UserError
from beatline.monitoring.settings import VARIABLE

CURE = f"correct monitoring.log of params.yaml, or {VARIABLE} of the environment"
SECONDS_TO_CONNECT = 3
DISCREET = {"hide_parameters": True}  # in exceptions, whose tracebacks are logged
# What a driver says, by what is wrong, and the cure; the first that fits is told.
FAULTS = (
    (
        r"no such table|relation \S+ does not exist",
        "holds no answers yet",
        f"serve with it first, or {CURE}",
    ),
    (r"no such column|column \S+ .*does not exist", "was made by another version", "move it away"),
    (r"password|role .* does not exist", "refuses the user or the password", f"correct {VARIABLE}"),
    (
        r"permission denied|readonly|read-only|must be owner",
        "may not be written",
        "correct its permissions",
    ),
    (r"is full|No space left|could not extend", "has a full disk", "free some space there"),
    (r"not a database|malformed", "is no SQLite database, or a damaged one", "move it away"),
    (r"foreign key", "holds an answer no longer that was there before", "ask again"),
    (r"locked|timeout|canceling statement", "is busy", "try again in some seconds"),
    (r"database .* does not exist", "is not there", f"make it by `createdb`, or {CURE}"),
)

_POSTGRESQL_TYPES = {
    BigInteger: "int8",
    Integer: "int4",
    Double: "float8",
    LargeBinary: "bytea",
    String: "text",
    Text: "text",
}

metadata = MetaData()
# Arrays are bytes: float32 in little-endian order, and a byte for each decision.
answers = Table(
    "answers",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("moment", BigInteger, nullable=False),  # microseconds since 1970-01-01 UTC
    Column("dataset", String(64), nullable=False),
    Column("model", String(64), nullable=False),
    Column("weights", String(64), nullable=False),
    Column("version", String(64)),
    Column("role", String(16), nullable=False),
    Column("scores", LargeBinary, nullable=False),
    Column("decisions", LargeBinary, nullable=False),
    Column("thresholds", LargeBinary),
    Column("warnings", Text, nullable=False),  # codes, separated by spaces
    Column("seconds", Double, nullable=False),
    Column("embedding", LargeBinary),
    Column("features", Text),  # JSON
    Column("entity", String(64)),
    Column("beside", String(32)),
    Column("size", Integer, nullable=False),  # about the bytes that the row takes
    Column("measured", BigInteger),  # when a machine was that it is about; null of all else
    Index("answers_of_model", "dataset", "model", "role", "moment"),
    Index(
        "answers_of_machine",
        *("dataset", "model", "role", "entity", "measured", "moment", "id", "decisions"),
        sqlite_where=column("measured").is_not(None),
        postgresql_where=column("measured").is_not(None),
    ),
    Index(
        "answers_of_entity",
        *("entity", "dataset", "model", "role", "moment"),
        sqlite_where=column("entity").is_not(None),
        postgresql_where=column("entity").is_not(None),
    ),
    Index("answers_by_age", "moment", "size"),
)
feedback = Table(
    "feedback",
    metadata,
    Column("answer", String(32), ForeignKey("answers.id", ondelete="CASCADE"), primary_key=True),
    Column("moment", BigInteger, nullable=False, index=True),
    Column("labels", Text, nullable=False),  # JSON: a list of class names
)
recordings = Table(
    "recordings",
    metadata,
    Column("answer", String(32), ForeignKey("answers.id", ondelete="CASCADE"), primary_key=True),
    Column("moment", BigInteger, nullable=False),
    Column("samples", LargeBinary, nullable=False),  # float32 [T, C], deflated
    Column("channels", Text, nullable=False),  # JSON
    Column("sampling_rate", Double),
    Column("unit", String(64)),
    Column("size", Integer, nullable=False),
    Index("recordings_by_age", "moment", "size"),
)


def address(where: str) -> URL:
    """Return the URL of the database that `where` names: the path of a SQLite file, or the URL of a
    PostgreSQL. Raises UserError if it is none of these."""
    if not re.match(r"\w*:", where):
        if Path(where).is_dir():
            raise UserError(f"the log of answers, {where}, is a folder: name a file in it; {CURE}")
        return URL.create("sqlite", database=where)
    scheme = where.partition(":")[0].partition("+")[0]
    try:
        url = make_url(where)
    except (ArgumentError, ValueError):
        raise UserError(
            f"the URL of the log is none: write postgresql://user@host:5432/database; {CURE}"
        ) from None
    if scheme not in ("postgresql", "postgres"):
        raise UserError(
            f"the log of answers cannot be kept in {scheme[:20]!r}: name a file or postgresql://…; {CURE}"
        )
    return url.set(drivername="postgresql+psycopg")


def engine(where: str, seconds: float) -> Engine:
    """Return an engine in which no statement waits or lasts longer than `seconds`. Connects to nothing
    yet. Raises UserError if `where` names no database."""
    url = address(where)
    if url.drivername == "sqlite":
        made = sqlalchemy.create_engine(url, connect_args={"timeout": seconds}, **DISCREET)
        event.listen(made, "connect", _settle_sqlite)
        return made
    milliseconds = int(seconds * 1000)
    times = {
        "connect_timeout": SECONDS_TO_CONNECT,
        "tcp_user_timeout": milliseconds,
        "options": f"-c statement_timeout={milliseconds} -c lock_timeout={milliseconds}",
    }
    arguments = {name: value for name, value in times.items() if name not in url.query}
    return sqlalchemy.create_engine(url, connect_args=arguments, pool_pre_ping=True, **DISCREET)


def make_tables(made: Engine) -> None:
    """Make the tables that are missing, and the columns that an older version's lack. A SQLite file is
    for its owner alone: it is about people."""
    if made.dialect.name == "sqlite" and made.url.database:
        path = Path(made.url.database)
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    with made.begin() as connection:
        if made.dialect.name == "postgresql":
            # Of several processes that begin at once, one makes them: the others find them made.
            connection.execute(sqlalchemy.text("SELECT pg_advisory_xact_lock(5716042)"))
        elif _lacking(connection):
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        for table in metadata.sorted_tables:
            connection.execute(CreateTable(table, if_not_exists=True))
        for column in _lacking(connection):
            kind = column.type.compile(connection.dialect)
            text = f"ALTER TABLE {column.table.name} ADD COLUMN {column.name} {kind}"
            connection.execute(sqlalchemy.text(text))
        for table in metadata.sorted_tables:
            for index in table.indexes:
                connection.execute(CreateIndex(index, if_not_exists=True))


def is_older(made: Engine) -> bool:
    """Whether tables that are there lack columns, since an older version has made them."""
    with made.connect() as connection:
        return bool(_lacking(connection))


def _lacking(connection: Connection) -> list[Column[Any]]:
    """The columns that tables lack which are there."""
    inspector = sqlalchemy.inspect(connection)
    present = {name: inspector.get_columns(name) for name in inspector.get_table_names()}
    names = {name: {column["name"] for column in columns} for name, columns in present.items()}
    return [
        column
        for table in metadata.sorted_tables
        for column in table.columns
        if column.name not in names.get(table.name, {column.name})
    ]


def inode(made: Engine) -> int | None:
    """Return the number of a SQLite file, None if it is not there; 0 for a PostgreSQL."""
    if made.dialect.name != "sqlite":
        return 0
    try:
        return Path(str(made.url.database)).stat().st_ino
    except OSError:
        return None


def insert(made: Engine, table: Table) -> Any:
    """Return an insertion that may say what happens to a row that is there already."""
    dialect: Any = sqlite if made.dialect.name == "sqlite" else postgresql
    return dialect.insert(table)


def append(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows with a value for each column, apart from those that are there already.

    The driver is given them directly: SQLAlchemy looks at each value, which takes longer than the
    database itself. PostgreSQL takes rows as a stream in a third of the time, but none that it has."""
    names = [each.name for each in table.columns]
    tuples = [*map(itemgetter(*names), rows)]
    statement = insert(connection.engine, table).on_conflict_do_nothing()
    if connection.dialect.name == "sqlite":
        text = str(statement.compile(dialect=connection.dialect, column_keys=names))
        connection.exec_driver_sql(text, tuples)
        return
    try:
        with connection.begin_nested():
            _stream(connection, table, tuples)
    except (psycopg.errors.UniqueViolation, psycopg.DataError):  # which quotes what it was given
        connection.execute(statement, rows)


def _stream(connection: Connection, table: Table, tuples: Sequence[tuple[Any, ...]]) -> None:
    names = ", ".join(each.name for each in table.columns)
    driver: Any = connection.connection.driver_connection
    copy = f"COPY {table.name} ({names}) FROM STDIN (FORMAT BINARY)"
    with driver.cursor() as cursor, cursor.copy(copy) as stream:
        stream.set_types([_POSTGRESQL_TYPES[type(each.type)] for each in table.columns])
        for row in tuples:
            stream.write_row(row)


@contextmanager
def reporting_faults(made: Engine) -> Iterator[None]:
    """Turn what goes wrong between here and the database into a UserError of one sentence. Values that it
    cannot hold are no fault of the database's: DataError."""
    try:
        yield
    except DataError:
        raise
    except OSError as error:
        place = f"the log of answers ({error.filename})"
        raise UserError(f"{place} cannot be written ({error.strerror}): {CURE}") from None
    except (SQLAlchemyError, psycopg.Error) as error:
        said = " ".join(str(getattr(error, "orig", None) or error).split())
        name = f"the log of answers ({shown(made.url)})"
        for pattern, what, cure in FAULTS:
            if re.search(pattern, said, re.IGNORECASE):
                raise UserError(f"{name} {what}: {cure}") from None
        raise UserError(f"{name} cannot be reached ({said[:200]}): start it, or {CURE}") from None


def shown(url: URL) -> str:
    """Return a database as it may be printed, without password and settings."""
    if url.drivername == "sqlite":
        return str(url.database)
    return url.set(password=None, query={}).render_as_string()


def _settle_sqlite(connection: Any, _: Any) -> None:
    """WAL: readers and the writer do not wait for each other. NORMAL: what is committed outlives the end
    of any process, and a power cut may cost what came since the last checkpoint, and no more. What is
    deleted is overwritten."""
    with suppress(Exception):  # a file that may only be read stays in the mode that it has
        connection.execute("PRAGMA journal_mode=WAL")
    for setting in ("synchronous=NORMAL", "foreign_keys=ON", "secure_delete=ON"):
        connection.execute(f"PRAGMA {setting}")
