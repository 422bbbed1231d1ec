"""The page: one file that needs nothing else, with every figure in it."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser

import pytest

from beatline.reporting.document import Document
from beatline.reporting.page import CHANGES
from beatline.reporting.page import page as report_page


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))


def test_every_linked_figure_is_there_and_in_the_page(document: Document) -> None:
    """Linked from the Markdown, embedded in the page, with a text for those who cannot see it."""
    links = re.findall(r"!\[(.+?)\]\((.+?)\)\n\n(.+)", document.markdown)
    assert [path for _, path, _ in links] == list(document.figures)
    assert len(links) > 50
    assert all(len(alt) > 10 and len(sentence) > 40 for alt, _, sentence in links)
    page = _Page(report_page(document))
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    in_cards = [link for card in document.cards.values() for link in re.findall(r"!\[", card)]
    assert in_cards
    assert len(images) == len(links) + len(in_cards)
    assert all(image["alt"] for image in images)


def test_the_page_needs_nothing_else(document: Document) -> None:
    """It opens offline, and every link within it has a place to go to. Its script is its own, but for the
    one beside it, which it can do without."""
    text = report_page(document)
    page = _Page(text)
    names = {tag for tag, _ in page.tags}
    assert not names & {"link", "iframe", "object"}
    for tag, attributes in page.tags:
        source = attributes.get("src") or attributes.get("srcset") or ""
        if (tag, source) == ("script", CHANGES):
            continue
        assert re.match(r"data:image/(png|svg\+xml);base64,", source) or not source, tag
        assert not [name for name in attributes if name.startswith("on")]
    named = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    places = set(named)
    assert len(named) == len(places)
    targets = {attributes["href"] for tag, attributes in page.tags if tag == "a"}
    beside = {target for target in targets if not target.startswith("#")}
    assert all(target.startswith(("../data/predictions/", "../docs/")) for target in beside)
    assert {target.removeprefix("#") for target in targets - beside} <= places
    contents = re.search(r"<nav.*?</nav>", text, flags=re.DOTALL)
    assert contents
    listed = re.findall(r'href="#(.+?)"', contents[0])
    assert listed == re.findall(r'<h[23] id="([^"/]+)"', text)
    assert "url(" not in text
    assert "@import" not in text


def test_names_from_the_data_cannot_break_tables_or_markup(document: Document) -> None:
    text = html.unescape(re.sub(r"<[^>]*>", " ", report_page(document)))
    assert "Hearts <made|up> & more" in text
    assert "M|I_x" in text
    assert r"M\|I\_x" in document.markdown


def test_cards_are_folded_in_where_the_markdown_links_to_them(document: Document) -> None:
    """Each below its data set's heading, called real or simulated before it is unfolded."""
    text = report_page(document)
    for name in ("hearts", "digits"):
        after_heading = text.split(f'<h2 id="{name}">')[1]
        for kind, word in (("data", "Data"), ("models", "Model")):
            place = f'<details id="cards/{name}_{kind}">\n<summary>{word} card: {name} ('
            assert text.count(place) == 1
            assert after_heading.index(place) < after_heading.index("<h2")
    assert text.count('<details id="cards/') == len(document.cards) == 10
    assert 'href="#cards/hearts_models/cnn"' in text
    assert 'href="cards' not in text


@pytest.mark.parametrize(
    "markdown",
    [
        "<details>\n<summary>a <img src=x></summary>",
        "<details open>\n<summary>a</summary>",
        "<script>alert(1)</script>",
        "a <b>word</b>",
        "</details><p>",
    ],
)
def test_no_html_of_the_markdown_is_the_pages_but_what_folds(markdown: str) -> None:
    """Names of classes and files come from strangers; one that is not escaped stays text."""
    once, twice = Document(), Document()
    once.add("# A")
    twice.add("# A", markdown)
    tags = [_Page(report_page(document)).tags for document in (once, twice)]
    before, after = ({tag for tag, _ in each} - {"p"} for each in tags)
    assert before == after
    assert len([tag for tag, _ in tags[1] if tag == "details"]) == 0
