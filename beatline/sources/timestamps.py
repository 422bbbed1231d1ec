"""Times as tables hold them."""

from __future__ import annotations

from datetime import UTC, datetime


def iso(time: datetime) -> str:
    """ISO 8601 in UTC, to the second."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
