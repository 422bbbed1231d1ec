"""What the last check of each model has found, where the service finds it too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER, STATE = Path("reports/drift"), "drift.json"


def read(root: Path) -> list[dict[str, Any]]:
    """Return the :class:`beatline.monitoring.drift.Finding` of each model that was checked in the project
    in `root`, as JSON holds it, in the order of their names; without those that cannot be read."""
    states = []
    for path in sorted((root / FOLDER).glob(f"*/*/{STATE}")):
        try:
            states.append(json.loads(path.read_text()))
        except (OSError, ValueError):  # whose time of the last check is then missing, which is seen
            continue
    return states
