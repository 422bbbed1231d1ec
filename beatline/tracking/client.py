"""The connection to MLflow: where it is, within what time it has to answer, and its faults in sentences.

The environment variable MLFLOW_TRACKING_URI names a server (`http://…`) or a database (`postgresql://…`,
`sqlite:///…`). Without it, everything is in one SQLite file below data/mlflow. Passwords are never
printed. Nothing is reported to MLflow's makers, and nothing is fetched from the internet.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from beatline.common.errors import UserError
from beatline.common.files import replacing

URI = "MLFLOW_TRACKING_URI"  # of the environment; MLflow's own name
FOLDER = Path("data/mlflow")
SECONDS_TO_CONNECT, SECONDS_TO_ANSWER = 5, 30
# MLflow reads these when it is imported, or at each call.
for _name, _value in {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "_MLFLOW_TELEMETRY_PRE_WARM_DATABRICKS_SDK": "false",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": str(SECONDS_TO_ANSWER),
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_CONFIGURE_LOGGING": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}.items():
    os.environ.setdefault(_name, _value)

try:
    import requests
    import sqlalchemy
    from mlflow.exceptions import MlflowException
    from mlflow.store.db.utils import _initialize_tables
    from mlflow.tracking import MlflowClient
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError, SQLAlchemyError
except ModuleNotFoundError as error:
    raise UserError(
        f"{error.name} is not installed, which tracking needs: run `make track` once, or `pip install "
        f"--require-hashes -r requirements-tracking.txt`"
    ) from None

__all__ = ["FOLDER", "URI", "MlflowClient", "connect", "masked", "reporting_faults", "uri"]

# What the message of a fault holds; what is wrong, and the cure. The first that fits is told.
FAULTS = (
    (
        r"out-of-date database schema|Can't locate revision",
        "its database has the schema of another version of MLflow",
        "back it up and run `mlflow db upgrade` with the version in requirements-mlflow.txt, or name an "
        "empty database",
    ),
    (
        r"(table|relation) \S+ already exists",
        "its tables were made in part, by a first call that was interrupted",
        "drop this database and create it anew, or name an empty one",
    ),
    (
        r"password authentication failed|no password supplied|role .* does not exist|\b401\b",
        "it refuses the user or the password",
        f"correct them in {URI}",
    ),
    (
        r"permission denied|\b403\b",
        "it does not allow this",
        "ask its owner for the right, or, of a server, to list the address by `--allowed-hosts`",
    ),
    (
        r"database .* does not exist",
        "there is no such database",
        "create it by `createdb`, or correct its name",
    ),
    (
        r"disk is full|No space left|could not extend file|disk quota",
        "its disk is full",
        "free some space there",
    ),
    (r"readonly database|read-only", "it may not be written", "make it writable, or name another"),
    (r"not a database|malformed", "this file is no SQLite database", "move it away"),
    (r"database is locked", "another process is writing to it", "run the command again"),
    (
        r"statement timeout|lock timeout|Read timed out|ReadTimeout",
        f"it did not answer within {SECONDS_TO_ANSWER} s",
        "look at its load, or for a lock that is held",
    ),
    (
        r"refused|timeout expired|timed out|could not translate|resolve|No such file|unable to open"
        r"|closed the connection|Connection aborted|max retries|connection.* failed|server closed"
        r"|connection broken|reset by peer|prematurely",
        "it cannot be reached",
        f"start it, or correct {URI}",
    ),
)


def uri() -> str:
    """Return the address that MLflow is given. That of a PostgreSQL names the driver and has time-outs.

    Raises UserError if it is none that MLflow could use.
    """
    given = os.environ.get(URI) or f"sqlite:///{(FOLDER / 'mlflow.db').absolute()}"
    scheme = given.partition(":")[0].partition("+")[0]
    if scheme in ("http", "https"):
        return given
    if scheme not in ("postgresql", "postgres", "sqlite"):
        raise UserError(
            f"{URI} is of the kind {scheme[:20]!r}: give http://…, https://…, postgresql://… or sqlite:///…"
        )
    try:
        url = make_url(given)
    except (ArgumentError, ValueError):
        raise UserError(
            f"{URI} is no URL: write it as postgresql://user:password@host:5432/database"
        ) from None
    if scheme == "sqlite":
        return given
    milliseconds = SECONDS_TO_ANSWER * 1000
    times = {
        "connect_timeout": str(SECONDS_TO_CONNECT),
        "tcp_user_timeout": str(milliseconds),
        "options": f"-c statement_timeout={milliseconds} -c lock_timeout={milliseconds}",
    }
    url = url.set(drivername="postgresql+psycopg").update_query_dict(times | dict(url.query))
    return url.render_as_string(hide_password=False)


def masked(address: str) -> str:
    """An address as it may be printed: without password and settings."""
    parts = urlsplit(address)
    if not parts.netloc:
        return address
    host = parts.netloc.rpartition("@")[2]
    user = (parts.username or "") + "@" if "@" in parts.netloc else ""
    return urlunsplit(parts._replace(netloc=f"{user}{host}", query="", fragment=""))


@contextmanager
def reporting_faults() -> Iterator[None]:
    """Turn what goes wrong between here and MLflow into a UserError of one sentence."""
    try:
        yield
    except (MlflowException, SQLAlchemyError, requests.RequestException, OSError) as error:
        text = " ".join(str(error).split())
        for pattern, what, cure in FAULTS:
            if re.search(pattern, text, re.IGNORECASE):
                raise UserError(f"MLflow at {masked(uri())}: {what}: {cure}") from None
        if isinstance(error, OSError) and not isinstance(error, requests.RequestException):
            raise
        kind = type(error).__name__
        text = re.sub(r"://[^@\s/]*@", "://", text)[:300]
        raise UserError(f"MLflow at {masked(uri())} fails ({kind}: {text}): see its log") from None


def connect() -> MlflowClient:
    """Return a client of a MLflow that answers. The first connection to an empty database takes some
    seconds, in which its tables are made.

    Raises UserError in one sentence if it cannot be reached, refuses or is of another version.
    """
    address = uri()
    with reporting_faults():
        _probe(address)
        client = MlflowClient(address)
        client.search_experiments(max_results=1)  # which makes the tables
    return client


def _make_tables(path: Path) -> None:
    """Make a SQLite file with MLflow's tables, whole or not at all: with half of them it is of no use."""
    with replacing(path) as beside:
        engine = sqlalchemy.create_engine(f"sqlite:///{beside}")
        _initialize_tables(engine)
        engine.dispose()


def _probe(address: str) -> None:
    """Ask for a sign of life. MLflow itself would try ten times, for minutes."""
    if address.startswith("http"):
        requests.get(f"{address.rstrip('/')}/health", timeout=SECONDS_TO_CONNECT).raise_for_status()
        return
    url = make_url(address)
    if url.drivername == "sqlite" and url.database and not Path(url.database).exists():
        _make_tables(Path(url.database))
    engine = sqlalchemy.create_engine(url)
    try:
        with engine.connect() as connection:
            table = "sqlite_master" if url.drivername == "sqlite" else "pg_class"
            connection.execute(sqlalchemy.text(f"SELECT 1 FROM {table} LIMIT 1"))
    finally:
        engine.dispose()
