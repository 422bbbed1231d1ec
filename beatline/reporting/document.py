"""A report as it is written: text, tables, figures in Markdown, and how words and numbers look in it."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from ruamel.yaml import YAML

from beatline.common.markdown import text
from beatline.drawings.figures import COLOURS, png
from beatline.evaluation.curves import KINDS

FIGURES = "figures"  # beside report.md
CARDS = "cards"  # beside report.md
MANY = 16  # names that are listed in full, at most
DASH = "–"  # noqa: RUF001
IDENTITY = "What made these numbers"  # the section that names revisions and machines
METRICS = {  # in the estimates: in the report
    "accuracy": "accuracy",
    "auc": "AUC",
    "pauc": "pAUC",
    "harmonic_mean": "harmonic mean of AUC and pAUC",
    "average_precision": "average precision",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "brier": "Brier score",
    "ece": "expected calibration error",
}


@dataclass
class Document:
    """`markdown`; `figures`: PNG bytes by path relative to report.md; `curves`: tables by kind and
    data set; `cards`: Markdown by path relative to report.md."""

    blocks: list[str] = field(default_factory=list)
    figures: dict[str, bytes] = field(default_factory=dict)
    curves: dict[str, dict[str, pd.DataFrame]] = field(
        default_factory=lambda: {kind: {} for kind in KINDS}
    )
    cards: dict[str, str] = field(default_factory=dict)

    @property
    def markdown(self) -> str:
        return "\n\n".join(self.blocks) + "\n"

    def add(self, *paragraphs: str) -> None:
        self.blocks += paragraphs

    def add_list(self, items: Iterable[str]) -> None:
        """Of sentences; nothing if there are none."""
        if lines := [f"- {item}" for item in items]:
            self.add("\n".join(lines))

    def add_table(
        self, header: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1
    ) -> None:
        """A table whose first columns, as many as `words`, hold words and the others numbers."""
        aligned = ["---"] * words + ["---:"] * (len(header) - words)
        lines = [header, aligned, *rows]
        self.add("\n".join("| " + " | ".join(line) + " |" for line in lines))

    def add_figure(
        self, name: str, figure: Figure, alt: str, sentence: str, colours: int = COLOURS
    ) -> None:
        """`colours`: of the palette of the PNG."""
        path = f"{FIGURES}/{name}.png"
        self.figures[path] = png(figure, colours)
        self.add(f"![{alt}]({path})", sentence)

    def add_yaml(self, content: Any) -> None:
        self.add(f"```yaml\n{_yaml(content)}```")


def _yaml(content: Any) -> str:
    writer: Any = YAML(typ="safe", pure=True)
    writer.default_flow_style = None  # innermost mappings and lists on one line
    writer.sort_base_mapping_type_on_output = False  # keep the order of params.yaml
    writer.width = 100
    target = io.StringIO()
    writer.dump(content, target)
    return target.getvalue()


# ---------------------------------------------------------------- words


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def listed(names: Sequence[str]) -> str:
    """The names; of many only the first and the last."""
    return text(", ".join(names) if len(names) <= MANY else f"{names[0]} … {names[-1]}")


def spoken(names: Sequence[str]) -> str:
    """The names as in a sentence: a, b and c."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


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
    """`0.927 [0.915, 0.938]`, or a dash where there is none."""
    if value is None or value["value"] is None:
        return DASH
    return f"{number(value['value'])} [{number(value['low'])}, {number(value['high'])}]"


def number(value: float | None) -> str:
    """A metric or a probability."""
    return DASH if value is None or not np.isfinite(value) else f"{value:.3f}"


def measured(value: float) -> str:
    """A quantity of any size, to three digits: `0.0123`, `4.50`, `1,230`."""
    if abs(value) >= 999.5:  # three digits of which would be 1.00e+03
        return f"{value:,.0f}"
    return "0" if abs(value) < 5e-7 else f"{value:#.3g}".rstrip(".")
