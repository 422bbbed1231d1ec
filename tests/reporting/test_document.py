"""Words and numbers in the report: names cannot break it, numbers are to three digits."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from beatline.reporting.document import Document, anchor, estimate, link, measured, text


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126)))
def test_a_name_is_shown_as_it_is_within_a_table(name: str) -> None:
    """Whatever it holds: pipes, tags, entities, links, emphasis."""
    document = Document()
    document.add_table(["a", "b"], [["x", text(name)]])
    page = MarkdownIt("commonmark").enable("table").render(document.markdown)
    (_, cell) = re.findall(r"<td[^>]*>(.*?)</td>", page)
    assert html.unescape(cell) == " ".join(name.split())


@given(st.floats(1e-4, 1e9))
def test_a_quantity_is_told_to_three_digits_without_an_exponent(quantity: float) -> None:
    shown = measured(quantity)
    assert "e" not in shown
    assert float(shown.replace(",", "")) == pytest.approx(quantity, rel=5.1e-3)


def test_quantities_of_all_sizes() -> None:
    shown = [measured(value) for value in (0.0123, 4.5, 999.4, 999.7, 1230.4, 0.0)]
    assert shown == ["0.0123", "4.50", "999", "1,000", "1,230", "0"]


def test_an_estimate_without_a_value_is_a_dash() -> None:
    assert estimate({"value": 0.9271, "low": 0.9149, "high": 0.938}) == "0.927 [0.915, 0.938]"
    assert estimate(None) == estimate({"value": None, "low": None, "high": None}) == "–"  # noqa: RUF001


def test_links_lead_where_github_puts_the_heading() -> None:
    assert anchor(r"rows: boosted\_trees") == "rows-boosted_trees"
    assert link("rows: cnn", "a_b") == r"[a\_b](#rows-cnn)"
