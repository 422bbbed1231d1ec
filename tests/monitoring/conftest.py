"""A place for a log, in SQLite and in PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place where there is no log yet."""
    if request.param == "sqlite":
        return str(tmp_path / "deeper" / "answers.db")
    return request.getfixturevalue("database")
