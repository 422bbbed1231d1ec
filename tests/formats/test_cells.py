"""The cells of text tables: the marks of missing values are those of pandas."""

from __future__ import annotations

import math

import pytest
from pandas._libs.parsers import STR_NA_VALUES  # pyright: ignore

from beatline.formats.cells import MISSING, grouped, number


def test_missing_values_are_those_of_pandas() -> None:
    """Whoever looks at a table with pandas sees the same cells missing; a ? is Weka's and UCI's."""
    assert STR_NA_VALUES | {"?"} == MISSING
    assert all(math.isnan(number(f" {cell} ") or 0) for cell in MISSING)


@pytest.mark.parametrize(
    "cell", ["1_000", "0x1F", "1,5", "1d5", "\u0663", "none", "1 000", "1.2.3"]
)
def test_what_is_no_number(cell: str) -> None:
    """What Python or another language reads and no table means is refused by who asks."""
    assert number(cell) is None


def test_decimal_commas() -> None:
    """A comma between groups of three digits may be either, unless another cell tells."""
    assert number("-1,25e2", ",") == -125 and number("1.5", ",") is None
    assert grouped(["2", " 1,234 ", "-12,345,678"]) == "1,234"
    assert grouped(["1,234", "0,345"]) is None and grouped(["1,23"]) is None
