"""Feast, run in its own environment: a process for each thing that it does, within a limit of time."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from beatline.common.errors import UserError
from beatline.common.files import replacing
from beatline.feature_store.definitions import FOLDER, Table, as_json

ENVIRONMENT = Path(".venv-feast/bin")
REPOSITORY = Path(__file__).parent / "repository"
SETTINGS = "feature_store.yaml"  # Feast's, in FOLDER
APPLIED = FOLDER / "applied.json"  # the definitions that the store was filled by
ONLINE_STORE = "FEAST_ONLINE_STORE"  # of the environment
SECONDS = 900  # to fill the store, of 20,000 ECGs a minute; beyond it something hangs
PROJECT = "beatline"
LONGEST = 300  # characters of what Feast says
SHARED = "delete data/feature_store and run `make features`"
# What Feast or a database fails with, by the names of exceptions, and the cure.
CURES = {
    ("DiskFull",): "its disk is full: free some space",
    ("UndefinedColumn", "UndefinedTable", "DatatypeMismatch", "InvalidColumnReference"): (
        f"its tables are those of another version: drop what begins with {PROJECT}_, or name an empty "
        f"database by {ONLINE_STORE}"
    ),
    ("InsufficientPrivilege", "ReadOnlySqlTransaction"): (
        f"it may not be written to: name another user or database by {ONLINE_STORE}"
    ),
    ("QueryCanceled", "LockNotAvailable"): (
        "it does not answer in time: look what keeps it busy, and try again"
    ),
    ("psycopg.OperationalError", "ConnectionTimeout"): (
        f"it cannot be reached: start it, or correct {ONLINE_STORE}"
    ),
    ("sqlite3.OperationalError", "sqlite3.DatabaseError", "DecodeError"): (
        f"a file cannot be used: free some space, or {SHARED}"
    ),
}


def fill(found: list[Table], root: Path) -> None:
    """Apply the definitions of tables, and materialize each into the online store, in a project's root.

    What the service reads of the definitions is there only while they are those of the store. Raises
    UserError if it cannot be done; a call again goes on.
    """
    folder, applied = root / FOLDER, root / APPLIED
    with _alone(folder):
        content = as_json(found)
        for name in ("definitions.py", "online_stores.py", "actions.py"):
            shutil.copyfile(REPOSITORY / name, folder / name)
        settings, definitions = folder / SETTINGS, folder / "definitions.json"
        before = {
            path: path.read_text() for path in (settings, definitions, applied) if path.exists()
        }
        _write(settings, _settings(os.environ))
        _write(definitions, content)
        if not applied.exists() or _sums(applied.read_text()) != _sums(content):
            applied.unlink(missing_ok=True)
        try:
            _run(root, "materialize")
        except UserError:
            if before.get(settings, "") not in ("", settings.read_text()):
                for path, text in before.items():  # another store, which is as it was
                    _write(path, text)
            raise
        _write(applied, content)


def history(table: str, entities: Path, output: Path, root: Path) -> None:
    """Join features of a table to entities and times by Feast, each to the newest known by then.

    `entities`: a Parquet file with the column of the table's entity and `event_timestamp`; `output`: the
    same columns and the features, as Parquet, in Feast's order; without the rows of which nothing was
    known, or nothing young enough.
    """
    _run(root, "history", table, str(entities.resolve()), str(output.resolve()))


def server(root: Path, host: str, port: int) -> tuple[list[str], dict[str, str]]:
    """Return the command of Feast's server and its environment. Raises UserError if there is no store."""
    if not (root / APPLIED).exists():
        raise UserError(f"{APPLIED} is missing: run `make features`, which fills the store")
    if (root / FOLDER / SETTINGS).read_text() != _settings(os.environ):
        filled, named = ("SQLite", "a PostgreSQL") if _url(os.environ) else ("a PostgreSQL", "none")
        raise UserError(
            f"{FOLDER} was filled for {filled}, and {ONLINE_STORE} names {named}: set it as it was then, "
            f"or run `make features`"
        )
    command = [str(_program(root, "feast")), "--chdir", str((root / FOLDER).resolve()), "serve"]
    # Without limits of requests, after which a worker starts anew and all wait for a second.
    options = ["--max-requests", "0", "--registry_ttl_sec", "3600", "--no-access-log"]
    return [*command, "--host", host, "--port", str(port), *options], _environment(root)


def _settings(environment: Mapping[str, str]) -> str:
    """Return Feast's feature_store.yaml. The URL of a database, with its password, stands in no file."""
    kind, *path = ("NewestSqlite", "path: online_store.db")
    if _url(environment):
        kind, path = "NewestPostgreSQL", []
    store = [f"type: online_stores.{kind}OnlineStore", *path]
    lines = [
        f"project: {PROJECT}",
        "provider: local",
        "registry: registry.db",
        "online_store:",
        *(f"  {line}" for line in store),
        "offline_store:",
        "  type: file",
        "entity_key_serialization_version: 3",
    ]
    return "\n".join(lines) + "\n"


def _url(environment: Mapping[str, str]) -> str:
    """Return the URL of the PostgreSQL in which the online store is, "" for SQLite."""
    given = environment.get(ONLINE_STORE, "")
    if given in ("", "sqlite"):
        return ""
    scheme, separator, rest = given.partition("://")
    if scheme not in ("postgresql", "postgres", "postgresql+psycopg") or not separator:
        raise UserError(
            f"{ONLINE_STORE} must be sqlite or the URL of a database, such as "
            f"postgresql://user:password@localhost/features, not one of {scheme[:30]!r}"
        )
    return f"postgresql://{rest}"


def _environment(root: Path) -> dict[str, str]:
    online = {ONLINE_STORE: url} if (url := _url(os.environ)) else {}
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {**kept, **online, "PYTHONPATH": str((root / FOLDER).resolve()), "FEAST_USAGE": "False"}


def _program(root: Path, name: str) -> Path:
    program = root / ENVIRONMENT / name
    if not program.exists():
        raise UserError(
            f"{ENVIRONMENT / name} is missing: run `make features`, which installs Feast there"
        )
    return program.absolute()


def _run(root: Path, *action: str) -> None:
    """Have Feast do something in the repository's folder; what it prints is printed."""
    command = [str(_program(root, "python")), "-W", "ignore", "actions.py", *action]
    try:
        done = subprocess.run(
            command,
            cwd=root / FOLDER,
            env=_environment(root),
            stderr=subprocess.PIPE,
            text=True,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise UserError(
            f"{FOLDER}: Feast was not done after {SECONDS} s: look what keeps "
            f"{_where()} busy, and run the command again"
        ) from None
    if done.returncode:
        raise UserError(_sentence(done.stderr))


def _sentence(stderr: str) -> str:
    """Return what went wrong, from the last line that actions.py wrote."""
    last = (stderr.strip().splitlines() or [""])[-1]
    kinds, _, words = last.partition(" | ")
    for names, cure in CURES.items():
        if any(kind.endswith(name) for kind in kinds.split() for name in names):
            return f"the online store in {_where()}: {cure} ({words[:LONGEST]})"
    return f"{FOLDER}: Feast failed ({last[:LONGEST]}): {SHARED}"


def _where() -> str:
    """Return the online store as a sentence names it: never with the password."""
    if not (url := _url(os.environ)):
        return str(FOLDER / "online_store.db")
    parts = urlsplit(url)
    host = (parts.netloc.rpartition("@")[2] or "this machine") + parts.path
    return f"PostgreSQL at {host}"


def _sums(content: str) -> dict[str, str]:
    try:
        return {each["name"]: each["definition"] for each in json.loads(content)["tables"]}
    except (ValueError, TypeError, KeyError):
        return {}


def _write(path: Path, text: str) -> None:
    with replacing(path) as beside:
        beside.write_text(text)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep others from filling the store meanwhile. Raises UserError if somebody does."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{folder} is being filled by another `beatline features`: wait for its end"
            ) from None
        yield
