"""Numbers and lists as sentences have them."""

from __future__ import annotations

from collections.abc import Sequence


def counted(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def spoken(names: Sequence[str]) -> str:
    """The names as in a sentence: a, b and c."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
