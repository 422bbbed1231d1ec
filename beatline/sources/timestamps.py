"""When a file of a folder or an archive was last changed: the nearest thing to when it was recorded."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path


def iso(time: datetime) -> str:
    """ISO 8601 in UTC, to the second."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def timestamps(path: Path) -> Callable[[str], str]:
    """A function from the name of a file in the folder or archive `path` to its :func:`iso` time.

    A ZIP archive holds local times without a zone, which are taken for UTC.
    """
    if path.is_dir():
        return lambda name: iso(datetime.fromtimestamp((path / name).stat().st_mtime, UTC))
    times: dict[str, datetime] = {}
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                times[_plain(member.orig_filename)] = _zip_time(member)
    else:
        with tarfile.open(path) as archive:
            for member in archive.getmembers():
                times[_plain(member.name)] = datetime.fromtimestamp(member.mtime, UTC)
    return lambda name: iso(times[name])


def _zip_time(member: zipfile.ZipInfo) -> datetime:
    try:
        return datetime(*member.date_time, tzinfo=UTC)
    except ValueError:  # month 0, or a 31st of June: written by a tool that keeps no time
        return datetime(1980, 1, 1, tzinfo=UTC)


def _plain(name: str) -> str:
    """The name as :mod:`beatline.sources.archives` gives it."""
    return "/".join(part for part in name.split("/") if part not in ("", "."))
