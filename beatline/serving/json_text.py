"""What a text in JSON holds, counted before a parser makes objects of it, which take thirty times the
memory of the text."""

from __future__ import annotations

import re

_TEXT = re.compile(rb'"[^"]*"?')  # without escapes; the last may have no end


def has_more(text: bytes, most: int) -> bool:
    """Return whether a text in JSON has more commas and opening brackets than `most` outside of strings:
    about as many as values, lists and objects."""
    if _separators(text) <= most:
        return False
    # A pattern for strings with escapes would keep a state for each part of them.
    plain = text.replace(rb"\\", b"").replace(rb"\"", b"")
    # Each separator has a value and its key beside it at most, and each of these two quotes.
    return plain.count(b'"') > 4 * (most + 1) or _separators(_TEXT.sub(b"", plain)) > most


def _separators(text: bytes) -> int:
    return text.count(b",") + text.count(b"[") + text.count(b"{")
