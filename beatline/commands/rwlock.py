"""DVC's list of who reads and writes what, `rwlock`, beside its locks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def listed_processes(path: Path) -> list[dict[str, Any]]:
    """Return the readers and writers in a list (`pid` and `cmd` of each), none if there is no such file.

    Raises ValueError or AttributeError if an interruption has left it unreadable.
    """
    try:
        listed = json.loads(path.read_text())
    except FileNotFoundError:
        return []
    readers = (process for several in listed.get("read", {}).values() for process in several)
    return [*readers, *listed.get("write", {}).values()]
