"""The cells of text tables: which say that a value is missing, which are numbers, and how decimals are
written. One list and one rule for every format of text, in the pipeline and in the service."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

# What pandas takes for missing by default, and the mark of Weka and of the UCI repository.
MISSING = frozenset(
    ["", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>",
     "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null", "?"]
)  # fmt: skip
_GROUPS = re.compile(r"[-+]?[1-9]\d{0,2}(,\d{3})+")


def number(cell: str, decimal: str = ".") -> float | None:
    """Return a cell's value, NaN if it says that it is missing, None if it is no number.

    Python reads more than tables mean: 1_000, and the digits of other scripts.
    """
    cell = cell.strip()
    if cell in MISSING:
        return math.nan
    if not cell.isascii() or "_" in cell or (decimal == "," and ("." in cell or cell[-1] == ",")):
        return None
    try:
        return float(cell.replace(",", ".") if decimal == "," else cell)
    except ValueError:
        return None


def grouped(cells: Iterable[str]) -> str | None:
    """Return the first cell with a comma if each of them could be thousands as well as decimals.

    1,234 is 1.234 where another cell is 0,5, and where none tells it may be 1234.
    """
    first = None
    for cell in cells:
        if "," in cell:
            if not _GROUPS.fullmatch(cell.strip()):
                return None
            first = first or cell.strip()
    return first
