"""Text as Markdown that shows just its characters."""

from __future__ import annotations

import re


def text(value: str) -> str:
    """Return `value` as Markdown that shows just these characters, also within a table."""
    return re.sub(r"([\\`*_\[\]<>|#~&])", r"\\\1", " ".join(value.split()))
