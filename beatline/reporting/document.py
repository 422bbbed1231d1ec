"""A report as it is written: text, tables, figures in Markdown, and how words and numbers look in it.

What is mostly text stands in `templates/*.md.j2` (:func:`fill`); Python computes what it is filled with.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from matplotlib.figure import Figure
from ruamel.yaml import YAML

from beatline.common.markdown import text
from beatline.common.words import counted, spoken
from beatline.drawings.figures import COLOURS, png, svg
from beatline.evaluation.curves import KINDS
from beatline.evaluation.measures import MEASURES

TEMPLATES = Path(__file__).parent / "templates"
FIGURES = "figures"  # beside report.md
CARDS = "cards"  # beside report.md
MANY = 16  # names that are listed in full, at most
DASH = "–"  # noqa: RUF001
DIGITS = 12  # of a SHA-256: enough to distinguish two
NOT_RECORDED = "not recorded"
IDENTITY = "What made these numbers"  # the section that names revisions and machines
METRICS = {name: measure.words for name, measure in MEASURES.items()}
TASKS = {  # of data sets and models: in words
    "multilabel": "several classes may hold at once",
    "multiclass": "exactly one class holds",
    "binary": "one class, yes or no",
    "anomaly": "normal records alone are learned, and anomalies are to be told from them",
    "reconstruction": "learns normal records only; the score is the reconstruction error",
    "neighbours": "learns normal records only; the score is how far from them a record is",
}

_BY_DISTANCE = (
    "learns normal records only, by reconstructing them; the score is the distance of its bottleneck and "
    "the channels' statistics to"
)
SCORES = {  # of an autoencoder, but for the reconstruction error
    "mahalanobis": f"{_BY_DISTANCE} their mean",
    "nearest": f"{_BY_DISTANCE} the nearest of them",
}


@dataclass
class Document:
    """`markdown`; `figures`: PNG or SVG bytes by path relative to report.md; `curves`: tables by kind and
    data set; `cards` and `metadata`: Markdown and JSON by path relative to report.md; `results`: a sum of
    what a report shows, or nothing."""

    blocks: list[str] = field(default_factory=list)
    contents_at: int | None = None  # the block before which the Markdown has its contents
    figures: dict[str, bytes] = field(default_factory=dict)
    curves: dict[str, dict[str, pd.DataFrame]] = field(
        default_factory=lambda: {kind: {} for kind in KINDS}
    )
    cards: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    results: str = ""

    @property
    def markdown(self) -> str:
        blocks = list(self.blocks)
        if self.contents_at is not None:
            blocks.insert(self.contents_at, _contents(self.headings))
        return "\n\n".join(blocks) + "\n"

    @property
    def body(self) -> str:
        """The Markdown without contents."""
        return "\n\n".join(self.blocks) + "\n"

    @property
    def headings(self) -> list[Heading]:
        """Those of sections, each with those of its parts."""
        tokens = MarkdownIt("commonmark").enable("table").parse(self.body)
        found: list[Heading] = []
        for opening, content in pairwise(tokens):
            if opening.type != "heading_open":
                continue
            if opening.tag == "h2":
                found.append(Heading(content.content, []))
            elif opening.tag == "h3" and found:
                found[-1].parts.append(content.content)
        return found

    def add(self, *paragraphs: str) -> None:
        """Append what is not empty."""
        self.blocks += filter(None, paragraphs)

    def add_contents(self) -> None:
        """Let the Markdown list its sections here; the page has them at its side."""
        self.contents_at = len(self.blocks)

    @contextmanager
    def folded(self, label: str) -> Iterator[None]:
        """What is added within is folded away under the `label`, of plain words."""
        self.add(f"<details>\n<summary>{label}</summary>")
        yield
        self.add("</details>")

    def add_table(
        self, header: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1
    ) -> None:
        """See :func:`table`."""
        self.add(table(header, rows, words))

    def add_figure(
        self, name: str, figure: Figure, alt: str, sentence: str, colours: int = COLOURS
    ) -> None:
        """Add a PNG; `colours`: of its palette."""
        self._add_picture(f"{FIGURES}/{name}.png", png(figure, colours), alt, sentence)

    def add_drawing(self, name: str, figure: Figure, alt: str, sentence: str) -> None:
        """Add an SVG: of a figure with few marks, of which it is small, and follows dark mode."""
        self._add_picture(f"{FIGURES}/{name}.svg", svg(figure), alt, sentence)

    def _add_picture(self, path: str, content: bytes, alt: str, sentence: str) -> None:
        self.figures[path] = content
        self.add(f"![{alt}]({path})", sentence)


@dataclass(frozen=True)
class Heading:
    """The title of a section and those of its `parts`, as Markdown."""

    title: str
    parts: list[str]

    def label(self, part: str) -> str:
        """The title of a part, without that of its section before it."""
        return part.removeprefix(f"{self.title}: ")


def _contents(headings: Iterable[Heading]) -> str:
    lines = [
        f"- {link(heading.title)}"
        + (": " if heading.parts else "")
        + " · ".join(f"[{heading.label(part)}](#{anchor(part)})" for part in heading.parts)
        for heading in headings
    ]
    return "\n".join(
        ["<details open>", "<summary>Contents</summary>", "", *lines, "", "</details>"]
    )


def fill(template: str, **values: Any) -> str:
    """The Markdown of `templates/<template>.md.j2`, filled in.

    There a sentence may be broken over lines, which are joined here, and blank lines may be doubled.
    """
    markdown = JINJA.get_template(f"{template}.md.j2").render(values)
    blocks = re.split(r"\n\s*\n", markdown.strip())
    return "\n\n".join(
        block if block.startswith(("|", "```")) else re.sub(r"\n(?!- ) *", " ", block)
        for block in blocks
    )


def table(header: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1) -> str:
    """A table whose first columns, as many as `words`, hold words and the others numbers."""
    aligned = ["---"] * words + ["---:"] * (len(header) - words)
    return "\n".join("| " + " | ".join(line) + " |" for line in [header, aligned, *rows])


def as_yaml(content: Any) -> str:
    """A block of code that looks as params.yaml does."""
    writer: Any = YAML(typ="safe", pure=True)
    writer.default_flow_style = None  # innermost mappings and lists on one line
    writer.sort_base_mapping_type_on_output = False  # keep the order of params.yaml
    writer.width = 100
    target = io.StringIO()
    writer.dump(content, target)
    return f"```yaml\n{target.getvalue()}```"


# ---------------------------------------------------------------- words


def listed(names: Sequence[str]) -> str:
    """The names; of many only the first and the last."""
    return text(", ".join(names) if len(names) <= MANY else f"{names[0]} … {names[-1]}")


def noun(column: str) -> str:
    """Return a column's name as a noun for people: machine for `machine_id`."""
    return column.removesuffix("_id").replace("_", " ")


def short(record: str) -> str:
    """A record's name without its folders."""
    return record.rsplit("/", 1)[-1]


def slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def link(heading: str, label: str | None = None) -> str:
    return f"[{text(label) if label is not None else heading}](#{anchor(heading)})"


def anchor(heading: str) -> str:
    """The fragment that GitHub gives to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower().replace("\\", "")).replace(" ", "-")


# ---------------------------------------------------------------- numbers


def estimate(value: Mapping[str, float | None] | None) -> str:
    """`0.927 [0.915, 0.938]`, the value alone where it has no interval, or a dash where there is none."""
    if value is None or value["value"] is None:
        return DASH
    if value["low"] is None:
        return number(value["value"])
    return f"{number(value['value'])} [{number(value['low'])}, {number(value['high'])}]"


def number(value: float | None) -> str:
    """A metric or a probability."""
    return DASH if value is None or not np.isfinite(value) else f"{value:.3f}"


def measured(value: float) -> str:
    """A quantity of any size, to three digits: `0.0123`, `4.50`, `1,230`."""
    if abs(value) >= 999.5:  # three digits of which would be 1.00e+03
        return f"{value:,.0f}"
    return "0" if abs(value) < 5e-7 else f"{value:#.3g}".rstrip(".")


def short_hash(value: str | None) -> str:
    return f"`{value[:DIGITS]}`" if value else NOT_RECORDED


def decided(model_info: Mapping[str, Any]) -> str:
    """Return in words what a model decides; of an autoencoder also by which score."""
    score = model_info["architecture"]["parameters"].get("score")
    return SCORES.get(score, TASKS[model_info["task"]])


JINJA = Environment(
    loader=FileSystemLoader(TEMPLATES),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
JINJA.globals |= {"DASH": DASH, "IDENTITY": IDENTITY, "METRICS": METRICS, "TASKS": TASKS}
JINJA.globals |= {"table": table, "decided": decided}
JINJA.filters |= {
    function.__name__: function
    for function in (
        *(text, counted, listed, spoken, noun, link, anchor, as_yaml),
        *(estimate, number, measured, short_hash),
    )
}
JINJA.filters["thousands"] = "{:,}".format
