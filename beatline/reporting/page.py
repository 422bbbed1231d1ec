"""The report as one HTML file that needs nothing else to be read."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

from beatline.reporting.document import Document, anchor

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
@media print { :root { --text: #000; --back: #fff; --line: #bbb; --soft: #f6f6f6; --quiet: #333;
  --link: #000; } body { font-size: 10pt; max-width: none; padding: 0; }
  figure, tr { break-inside: avoid; } h2, h3 { break-after: avoid; }
  .table { overflow: visible; } table { font-size: 7.5pt; } th, td { white-space: normal; } }
"""


def page(document: Document) -> str:
    """The report as one HTML file: style and figures are inside, no script, nothing is fetched."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    rules: dict[str, Callable[..., str]] = {
        "image": lambda *parts: _inlined(document.figures, *parts),
        "table_open": lambda *_: '<div class="table" tabindex="0">\n<table>\n',
        "table_close": lambda *_: "</table>\n</div>\n",
        "heading_open": _with_anchor,
    }
    for name, rule in rules.items():
        markdown.add_render_rule(name, lambda _, *parts, rule=rule: rule(*parts))
    body = re.sub(r"<p>(<figure>.*?</figure>)</p>", r"\1", markdown.render(document.markdown))
    title = html.escape(document.blocks[0].lstrip("# ").replace("\\", ""))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )


def _inlined(
    pictures: Mapping[str, bytes],
    tokens: Sequence[Token],
    number: int,
    options: OptionsDict,
    env: EnvType,
) -> str:
    token = tokens[number]
    content = pictures[str(token.attrs["src"])]
    alt = RendererHTML().renderInlineAsText(token.children, options, env)
    data = base64.b64encode(content).decode()
    return f'<figure><img alt="{html.escape(alt)}" src="data:image/png;base64,{data}"></figure>'


def _with_anchor(tokens: Sequence[Token], number: int, *_: Any) -> str:
    return f'<{tokens[number].tag} id="{anchor(tokens[number + 1].content)}">'
