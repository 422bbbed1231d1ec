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

from beatline.reporting.document import CARDS, Document, anchor

REPORT = "report.md"

STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --back: #ffffff; --line: #d5d9de;
  --soft: #f4f5f7; --link: #0b5fa5; --quiet: #57606a; }
@media (prefers-color-scheme: dark) { :root { --text: #dfe3e8; --back: #14171a; --line: #383e45;
  --soft: #1e2226; --link: #7db8ee; --quiet: #a0a8b1; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 70rem; padding: 1.5rem 1.25rem 4rem; color: var(--text);
  background: var(--back); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
  overflow-wrap: break-word; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 1rem; }
h2 { font-size: 1.4rem; margin: 3rem 0 1rem; padding-top: .6rem; border-top: 2px solid var(--line); }
h3 { font-size: 1.12rem; margin: 2.4rem 0 .6rem; }
p { margin: .7rem 0; max-width: 48rem; }
li { max-width: 46rem; }
a { color: var(--link); }
.table { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th { text-align: left; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); white-space: nowrap;
  vertical-align: top; }
thead th { border-bottom: 2px solid var(--line); font-weight: 600; }
th:first-child, td:first-child { padding-left: 0; }
figure { margin: 1.6rem 0 .4rem; }
img { display: block; max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
figure + p { color: var(--quiet); font-size: .9rem; margin-top: .2rem; }
pre { overflow-x: auto; padding: .8rem 1rem; background: var(--soft); border-radius: 4px;
  font-size: .8rem; line-height: 1.45; }
code { font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
details { margin: .8rem 0; border: 1px solid var(--line); border-radius: 4px; }
summary { padding: .5rem .9rem; cursor: pointer; font-weight: 600; background: var(--soft);
  border-radius: 4px; }
details > div { padding: .2rem .9rem 1rem; }
details h3, details h4 { margin-top: 1.6rem; }
h4 { font-size: 1rem; margin: 1.6rem 0 .5rem; }
@media print { :root { --text: #000; --back: #fff; --line: #bbb; --soft: #f6f6f6; --quiet: #333;
  --link: #000; } body { font-size: 10pt; max-width: none; padding: 0; }
  figure, tr { break-inside: avoid; } h2, h3 { break-after: avoid; }
  .table { overflow: visible; } table { font-size: 7.5pt; } th, td { white-space: normal; } }
"""


def page(document: Document) -> str:
    """The report as one HTML file: style, figures and cards are inside, no script, nothing is fetched."""
    body = _rendered(document, document.markdown, "")
    title = html.escape(document.blocks[0].lstrip("# ").replace("\\", ""))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )


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
    return _CARDS_PARAGRAPH.sub(lambda found: _folded(document, found[0]), body)


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
    """What a card's file is called within the page; no heading's anchor has a slash."""
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
