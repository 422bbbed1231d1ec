"""The report as one HTML file that needs nothing else to be read, its cards folded in.

Contents stand beside it. A script of its own opens sections that a link leads to, sorts tables and
enlarges figures; without it, all can be read.
"""

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

REPORT, REPORT_PAGE = "report.md", "report.html"
CHANGES = "changes.js"  # beside the page, see beatline.comparing.since_commit
RESULTS = "beatline-results"  # names what the report shows

STYLE = (TEMPLATES / "style.css").read_text()
SCRIPT = "\n".join((TEMPLATES / name).read_text() for name in ("page.js", "contents.js"))
KINDS = {"png": "image/png", "svg": "image/svg+xml"}  # of figures
# What Document.folded writes, and the only HTML that the Markdown may hold.
_FOLD = re.compile(r"<details>\s<summary>[^<>&]*</summary>\s*|</details>\s*")


def page(document: Document) -> str:
    """The report as one HTML file: style, script, figures and cards are inside, nothing is fetched."""
    return JINJA.get_template("page.html.j2").render(
        results=document.results,
        results_name=RESULTS,
        changes=CHANGES,
        title=_plain(document.body.partition("\n")[0].lstrip("# ")),
        contents=[
            (
                (_plain(heading.title), anchor(heading.title)),
                [(_plain(heading.label(part)), anchor(part)) for part in heading.parts],
            )
            for heading in document.headings
        ],
        style=STYLE,
        script=SCRIPT,
        body=_rendered(document, document.body, ""),
    )


def _plain(markdown: str) -> str:
    """The characters that Markdown of one line shows, where only backslashes mark anything up."""
    return re.sub(r"\\(.)", r"\1", markdown)


def _rendered(document: Document, markdown: str, card: str) -> str:
    """The HTML of the report's Markdown, or that of the `card` with this path."""
    parser = MarkdownIt("commonmark", {"html": True}).enable("table")
    rules: dict[str, Callable[..., str]] = {
        "image": partial(_inlined, document.figures),
        "table_open": lambda *_: '<div class="table" tabindex="0">\n<table>\n',
        "table_close": lambda *_: "</table>\n</div>\n",
        "heading_open": partial(_with_anchor, card),
        "heading_close": lambda tokens, number, *_: f"</{_lowered(tokens[number].tag, card)}>\n",
        "link_open": partial(_within_page, document, card),
        "html_block": _only_folds,
        "html_inline": lambda tokens, number, *_: html.escape(tokens[number].content),
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
    title = html.escape(_plain(heading.lstrip("# ")))
    body = _rendered(document, rest, path)
    return f'<details id="{_place(path)}">\n<summary>{title}</summary>\n<div>\n{body}</div>\n</details>'


def _place(path: str) -> str:
    """Return the anchor of a card's file within the page; no heading's anchor has a slash."""
    return path.removesuffix(".md")


def _lowered(tag: str, card: str) -> str:
    """Headings of a card stand one level below their level in its own file."""
    return f"h{int(tag[1]) + 1}" if card else tag


def _within_page(
    document: Document, card: str, tokens: Sequence[Token], number: int, *_: Any
) -> str:
    """A link to the report's file or to a card's goes to where they are in the page; another stays."""
    href = str(tokens[number].attrs["href"])
    path, fragment = urldefrag(href)
    name = path.rsplit("/", 1)[-1]
    linked = f"{CARDS}/{name}" if name else card
    if name == REPORT or not (path or card):
        href = f"#{fragment}"
    elif linked in document.cards and not linked.endswith(".md"):
        href = linked
    elif linked in document.cards:
        href = f"#{_place(linked)}" + (f"/{fragment}" if fragment else "")
    return f'<a href="{html.escape(href)}">'


def _only_folds(tokens: Sequence[Token], number: int, *_: Any) -> str:
    """HTML that folds a part of the report away; any other is shown as text."""
    content = tokens[number].content
    if not _FOLD.fullmatch(content):
        return f"<p>{html.escape(content)}</p>\n"
    if content.startswith("</"):
        return "</div>\n</details>\n"
    return f"{content.strip().replace('<details>', FOLDED)}\n<div>\n"


FOLDED = '<details class="fold">'


# ---------------------------------------------------------------- figures, headings


def _inlined(
    pictures: Mapping[str, bytes],
    tokens: Sequence[Token],
    number: int,
    options: OptionsDict,
    env: EnvType,
) -> str:
    token = tokens[number]
    path = str(token.attrs["src"]).removeprefix("../")
    alt = RendererHTML().renderInlineAsText(token.children, options, env)
    kind = KINDS[path.rpartition(".")[2]]
    data = base64.b64encode(pictures[path]).decode()
    return f'<figure><img alt="{html.escape(alt)}" src="data:{kind};base64,{data}"></figure>'


def _with_anchor(card: str, tokens: Sequence[Token], number: int, *_: Any) -> str:
    name = anchor(tokens[number + 1].content)
    place = f"{_place(card)}/{name}" if card else name
    return f'<{_lowered(tokens[number].tag, card)} id="{place}">'
