"""Reading a report as a person does: the section below a heading, the table with a header."""

from __future__ import annotations

import re

from beatline.reporting import Document

Table = dict[str, dict[str, str]]
"""Cells by row, as its first column calls it, and by column."""


def section(document: Document, heading: str) -> str:
    """The text below a heading, up to the next."""
    parts = re.split(r"^#+ (.+)$", document.markdown, flags=re.MULTILINE)
    found = dict(zip(parts[1::2], parts[2::2], strict=True))
    return found[heading]


def table(text: str, header: str) -> Table:
    """The table in `text` whose header begins with `header` (empty: the first); links are labels."""
    lines = re.sub(r"\[([^\]]+)\]\(#[^)]+\)", r"\1", text).splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith(f"| {header}"))
    names, _, *rows = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in _until_blank(lines[first:])
    ]
    return {row[0]: dict(zip(names, row, strict=True)) for row in rows}


def _until_blank(lines: list[str]) -> list[str]:
    return lines[: lines.index("")] if "" in lines else lines


def value(cell: str) -> float:
    """The number in `0.927 [0.915, 0.938]`."""
    return float(cell.split(" ")[0].replace(",", ""))
