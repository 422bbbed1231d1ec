"""Answers for tests of what the log of them holds."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from beatline.monitoring.answers import Answer

BEGINNING = datetime(2026, 3, 1, tzinfo=UTC)


def answer(number: int = 0, **changes: Any) -> Answer:
    """An answer of ptbxl/cnn, a second after the one before it."""
    generator = np.random.default_rng(number)
    scores = generator.random(5, np.float32)
    content: dict[str, Any] = {
        "id": uuid.uuid4().hex,
        "moment": BEGINNING + timedelta(seconds=number),
        "dataset": "ptbxl",
        "model": "cnn",
        "weights": "a" * 64,
        "version": None,
        "role": "champion",
        "scores": scores,
        "decisions": scores > 0.5,
        "warnings": ["far", "clipped"] if number % 3 == 0 else [],
        "seconds": 0.002,
        "embedding": generator.standard_normal(174, np.float32),
        "thresholds": np.full(5, 0.5, np.float32),
    }
    return Answer(**content | changes)


def several(count: int, **changes: Any) -> list[Answer]:
    return [answer(number, **changes) for number in range(count)]
