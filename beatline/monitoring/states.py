"""What the last check for drift and the last retraining of each model have found, where the service finds
it too, which has neither DVC nor Matplotlib."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

FOLDER, STATE = Path("reports/drift"), "drift.json"
RETRAINING = Path("data/monitoring/retraining")  # <data set>/<model>.json
EXIT_TOO_FEW = 2  # status of a retraining that has too little feedback to learn from
GATE = ("passed", "failed", "cannot tell")  # what a retraining may end with


def drift(root: Path) -> list[dict[str, Any]]:
    """Return the :class:`beatline.monitoring.drift.Finding` of each model that was checked in the project
    in `root`, as JSON holds it, in the order of their names; without those that cannot be read."""
    return _read(sorted((root / FOLDER).glob(f"*/*/{STATE}")))


def retrainings(root: Path) -> list[dict[str, Any]]:
    """Return the :class:`beatline.monitoring.retraining.Outcome` of each model, likewise."""
    return _read(sorted((root / RETRAINING).glob("*/*.json")))


def _read(paths: Iterable[Path]) -> list[dict[str, Any]]:
    states = []
    for path in paths:
        try:
            states.append(json.loads(path.read_text()))
        except (OSError, ValueError):  # its time is then missing, which is seen
            continue
    return states
