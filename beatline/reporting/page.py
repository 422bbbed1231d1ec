"""The report as one HTML file that needs nothing else to be read, its cards folded in."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import urldefrag

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

from beatline.reporting.document import CARDS, JINJA, TEMPLATES, Document, anchor

REPORT = "report.md"

STYLE = (TEMPLATES / "style.css").read_text()


def page(document: Document) -> str:
    """The report as one HTML file: style, figures and cards are inside, no script, nothing is fetched."""
    title = document.markdown.partition("\n")[0].lstrip("# ").replace("\\", "")
    body = _rendered(document, document.markdown, "")
    return JINJA.get_template("page.html.j2").render(title=title, style=STYLE, body=body)


def _rendered(document: Document, markdown: str, card: str) -> str:
    """The HTML of the report's Markdown, or that of the `card` with this path."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    rules: dict[str, Callable[..., str]] = {
        "image": partial(_inlined, document.figures),
        "table_open": lambda *_: '<div class="table" tabindex="0">\n<table>\n',
        "table_close": lambda *_: "</table>\n</div>\n",
        "heading_open": partial(_with_anchor, card),
        "heading_close": lambda tokens, number, *_: f"</{_lowered(tokens[number].tag, card)}>\n",
        "link_open": partial(_within_page, card),
    }
    for name, rule in rules.items():
        # Markdown's renderer hands itself to its rules, none of which needs it.
        parser.add_render_rule(name, lambda _, *parts, rule=rule: rule(*parts))
    body = re.sub(r"<p>(<figure>.*?</figure>)</p>", r"\1", parser.render(markdown))
    if card:
        return body
    return _CARDS_PARAGRAPH.sub(lambda match: _folded(document, match[0]), body)


# ---------------------------------------------------------------- cards

_CARDS_PARAGRAPH = re.compile(
    rf'<p><a href="#{CARDS}/[^"]+">[^<]*</a>(?: · <a href="#{CARDS}/[^"]+">[^<]*</a>)*</p>'
)


def _folded(document: Document, paragraph: str) -> str:
    """The cards that a paragraph of links names, each to be unfolded where it stands."""
    places = re.findall(r'href="#([^"]+)"', paragraph)
    cards = {_place(path): path for path in document.cards}
    return "\n".join(_card(document, cards[place]) for place in places)


def _card(document: Document, path: str) -> str:
    heading, _, rest = document.cards[path].partition("\n")
    title = html.escape(re.sub(r"\\(.)", r"\1", heading.lstrip("# ")))
    body = _rendered(document, rest, path)
    return f'<details id="{_place(path)}">\n<summary>{title}</summary>\n<div>\n{body}</div>\n</details>'


def _place(path: str) -> str:
    """Return the anchor of a card's file within the page; no heading's anchor has a slash."""
    return path.removesuffix(".md")


def _lowered(tag: str, card: str) -> str:
    """Headings of a card stand one level below their level in its own file."""
    return f"h{int(tag[1]) + 1}" if card else tag


def _within_page(card: str, tokens: Sequence[Token], number: int, *_: Any) -> str:
    """A link to the report's file or to a card's goes to where they are in the page."""
    path, fragment = urldefrag(str(tokens[number].attrs["href"]))
    name = path.rsplit("/", 1)[-1]
    if name == REPORT or not (path or card):
        target = fragment
    else:
        place = _place(f"{CARDS}/{name}" if name else card)
        target = f"{place}/{fragment}" if fragment else place
    return f'<a href="#{html.escape(target)}">'


# ---------------------------------------------------------------- figures, headings


def _inlined(
    pictures: Mapping[str, bytes],
    tokens: Sequence[Token],
    number: int,
    options: OptionsDict,
    env: EnvType,
) -> str:
    token = tokens[number]
    content = pictures[str(token.attrs["src"]).removeprefix("../")]
    alt = RendererHTML().renderInlineAsText(token.children, options, env)
    data = base64.b64encode(content).decode()
    return f'<figure><img alt="{html.escape(alt)}" src="data:image/png;base64,{data}"></figure>'


def _with_anchor(card: str, tokens: Sequence[Token], number: int, *_: Any) -> str:
    name = anchor(tokens[number + 1].content)
    place = f"{_place(card)}/{name}" if card else name
    return f'<{_lowered(tokens[number].tag, card)} id="{place}">'
