"""Copies of registered models on this machine's disk, which the service answers with. No MLflow is needed
to read them.

``data/registry/<alias>/<data set>/<model>`` holds the bundle of the version that the alias names, what
`evaluate` has measured of it, in `predictions/`, and which version it is, in VERSION. The folder is
sealed with these (:mod:`beatline.common.sums`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from beatline.tracking.names import CHAMPION

FOLDER = Path("data/registry")
VERSION = "version.json"
STATE = "state.json"  # in FOLDER: when the registry was last asked, and what it said


def place_of(key: str, alias: str = CHAMPION) -> Path:
    """Return the folder, in a project, for the copy of a model `<data set>/<model>`."""
    return FOLDER / alias / key


def read_version(bundle: Path) -> dict[str, str] | None:
    """Return `version` and `alias` of a copy; None of any other bundle."""
    content = _read(bundle / VERSION)
    return content and {name: content[name] for name in ("version", "alias")}


def seal_of(bundle: Path) -> str | None:
    """Return the SHA-256 of the SHA256SUMS of the version that was copied: numbers of versions are those
    of a registry, and of another registry others."""
    return (_read(bundle / VERSION) or {}).get("seal")


def read_state(root: Path) -> dict[str, Any] | None:
    """Return `asked`, the time of the last answer of the registry in seconds since 1970 (None: never),
    and `reason`, why it has not answered since (None: it has); None if nobody asks."""
    return _read(root / FOLDER / STATE)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None
