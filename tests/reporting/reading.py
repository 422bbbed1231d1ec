"""Reading a report as a person does: the section below a heading, the table with a header."""

from __future__ import annotations

import re

from beatline.reporting.document import Document

Table = dict[str, dict[str, str]]
"""Cells by row, as its first column calls it, and by column."""


def section(document: Document | str, heading: str) -> str:
    """The text below a heading, of the report or of a card, up to the next."""
    markdown = document if isinstance(document, str) else document.markdown
    parts = re.split(r"^#+ (.+)$", markdown, flags=re.MULTILINE)
    found = dict(zip(parts[1::2], parts[2::2], strict=True))
    return found[heading]


def before(document: Document, heading: str) -> str:
    """The text above a section of the report."""
    return document.markdown.split(f"\n## {heading}\n")[0]


def table(text: str, header: str) -> Table:
    """The table in `text` whose header begins with `header` (empty: the first); links are labels."""
    return {next(iter(row.values())): row for row in rows(text, header)}


def rows(text: str, header: str) -> list[dict[str, str]]:
    """The rows of that table, also where several begin with the same word."""
    lines = re.sub(r"\[([^\]]+)\]\(#[^)]+\)", r"\1", text).splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith(f"| {header}"))
    names, _, *cells = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in _until_blank(lines[first:])
    ]
    return [dict(zip(names, row, strict=True)) for row in cells]


def _until_blank(lines: list[str]) -> list[str]:
    return lines[: lines.index("")] if "" in lines else lines


def value(cell: str) -> float:
    """The number in `0.927 [0.915, 0.938]`."""
    return float(cell.split(" ")[0].replace(",", ""))
