"""The page as a person uses it, in headless Chromium: on a phone, in the dark, sorted, printed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright", reason="playwright, which drives the browser, is not installed")

from playwright.sync_api import Browser, Page

from beatline.reporting.document import Document
from beatline.reporting.page import page as report_page
from tests.serving.browser import WIDE, chromium

PHONE = {"width": 390, "height": 844}
Visit = Callable[..., Any]
CUT = """() => [...document.querySelectorAll("body *")].filter((element) => {
  const right = element.getBoundingClientRect().right;
  return right > innerWidth + 1 && !element.closest(".table, pre, dialog");
}).map((element) => element.outerHTML.slice(0, 99))"""
OPEN = "() => document.querySelectorAll('main details').forEach((fold) => { fold.open = true; })"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def visit(
    browser: Browser, document: Document, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Any]:
    """Open the page at a fragment. At the end: its script made no error."""
    file = tmp_path_factory.mktemp("reports") / "report.html"
    file.write_text(report_page(document), encoding="utf-8")

    @contextmanager
    def opened(fragment: str = "", **settings: Any) -> Iterator[Page]:
        context = browser.new_context(**{"viewport": WIDE, "color_scheme": "light", **settings})
        page = context.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{file.as_uri()}{fragment}")
        yield page
        context.close()
        assert not errors

    return opened


@pytest.mark.parametrize("viewport", [PHONE, WIDE], ids=["phone", "wide"])
def test_nothing_is_cut(visit: Visit, viewport: dict[str, int]) -> None:
    """Only tables and code are wider than the screen, and they scroll in boxes of their own."""
    with visit(viewport=viewport) as page:
        page.evaluate(OPEN)
        assert page.evaluate("document.documentElement.scrollWidth") == viewport["width"]
        assert page.evaluate(CUT) == []
        for kind in (".table", "pre"):
            boxes = page.locator(kind).evaluate_all(
                "boxes => boxes.map((box) => [box.scrollWidth > box.clientWidth + 1,"
                " getComputedStyle(box).overflowX])"
            )
            assert boxes
            assert all(overflow == "auto" for wide, overflow in boxes if wide)


def test_contents_stay_in_view_or_fold(visit: Visit) -> None:
    """At the side of a wide screen, behind one line of a narrow one; a section that they lead to is open
    and below them."""
    with visit() as page:
        assert page.locator("nav details[open]").count() == 1
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        assert page.locator("nav").bounding_box()["y"] >= 0
    with visit(viewport=PHONE) as page:
        assert page.locator("nav details[open]").count() == 0
        page.locator("nav summary").click()
        page.locator("nav a", has_text="embedding").click()
        assert page.locator("nav details[open]").count() == 0
        heading = page.locator('[id="machines-embedding"]')
        assert heading.bounding_box()["y"] >= page.locator("nav").bounding_box()["height"]
        assert page.locator('[id="machines-embedding"] ~ details').first.get_attribute("open") == ""


def test_a_link_from_elsewhere_opens_what_it_leads_to(visit: Visit) -> None:
    """Of a model, whose section is folded, and within a card, which is; other sections stay closed."""
    with visit("#digits-cnn") as page:
        folds = page.locator("details.fold")
        assert folds.count() > 10
        assert page.locator("details.fold[open]").count() == 1
        assert page.locator('[id="digits-cnn"] ~ details').first.get_attribute("open") == ""
    with visit("#cards/hearts_models/cnn") as page:
        assert page.locator('[id="cards/hearts_models"][open]').count() == 1


def test_a_table_is_sorted_by_a_click(visit: Visit) -> None:
    """By number, the largest first, dashes last; a second click turns it round; Enter does the same."""
    with visit() as page:
        table = page.locator("main table").first
        cells = table.locator("tbody tr td:nth-child(2)")
        before = [float(text.split()[0]) for text in cells.all_inner_texts()]
        header = table.locator("th").nth(1)
        for press, order in ((header.click, True), (lambda: header.press("Enter"), False)):
            press()
            after = [float(text.split()[0]) for text in cells.all_inner_texts()]
            assert after == sorted(before, reverse=order)
            assert header.get_attribute("aria-sort") == ("descending" if order else "ascending")
        names = table.locator("tbody tr td:first-child")
        table.locator("th").first.click()
        assert names.all_inner_texts() == sorted(names.all_inner_texts())
        compared = page.locator('[id="beats-comparison-of-models"] ~ .table table').first
        compared.locator("th").nth(1).press("Enter")
        assert compared.locator("tbody tr td:nth-child(2)").last.inner_text() == "\N{EN DASH}"


def test_a_figure_is_enlarged_by_a_click(visit: Visit) -> None:
    """Beyond the width of a phone, within a box that scrolls; a click closes it."""
    with visit(viewport=PHONE) as page:
        figure = page.locator("figure img").first
        figure.click()
        large = page.locator("dialog[open] img")
        assert large.bounding_box()["width"] > 2 * figure.bounding_box()["width"]
        large.click(position={"x": 5, "y": 5})
        assert page.locator("dialog[open]").count() == 0


def test_figures_follow_the_dark(visit: Visit) -> None:
    """An SVG turns dark; a PNG stands on a light card."""
    brightness = """async (image) => {
      await image.decode();
      const canvas = document.createElement("canvas").getContext("2d");
      canvas.drawImage(image, 0, 0, 8, 8, 0, 0, 1, 1);
      return canvas.getImageData(0, 0, 1, 1).data[0];
    }"""
    for scheme, dark in (("light", False), ("dark", True)):
        with visit(color_scheme=scheme) as page:
            drawing = page.locator('img[src^="data:image/svg"]').first
            assert (drawing.evaluate(brightness) < 80) == dark
            page.evaluate(OPEN)
            picture = page.locator('img[src^="data:image/png"]').first
            assert picture.evaluate(brightness) > 200
            card = picture.evaluate("image => getComputedStyle(image).backgroundColor")
            assert (card == "rgb(241, 242, 244)") == dark


def test_what_is_folded_is_printed(visit: Visit, tmp_path: Path) -> None:
    """Paper cannot be unfolded; afterwards the page is as it was."""
    with visit() as page:
        page.evaluate(
            "addEventListener('beforeprint', () => { window.printed ="
            " document.querySelectorAll('details.fold:not([open])').length; })"
        )
        page.pdf(path=tmp_path / "report.pdf")
        assert page.evaluate("window.printed") == 0
        assert page.locator("details.fold[open]").count() == 0


def test_it_can_be_read_without_its_script(visit: Visit) -> None:
    """Contents are there, and folds open."""
    with visit(java_script_enabled=False) as page:
        assert page.locator("nav a").first.is_visible()
        page.locator("details.fold summary").first.click()
        assert page.locator("details.fold table").first.is_visible()
