"""The words of a data set's cards: what its files do not tell.

They stand in ``beatline/datasets/<module>/card.yaml``, a mapping of variants. Each has a condition,
`when`, and the fields of :class:`Words`; where several conditions hold, the later variant overrides the
fields of the earlier ones, and where none holds, nobody has described the data and the cards say so.

Conditions are expressions and texts are templates of Jinja2; both know `name` and `module` of the data
set, its `source` (of dataset.json, so that of the recordings), whether it is `simulated`, the name of
the description in its package by which it was `published` (`physionet`; none for files of one's own),
the blocks `download` and `labels` of params.yaml, the `counts` of dataset.json, and for a table that is
derived from another data set of params.yaml that one's `origin_name` and words, `origin`. Texts are
Markdown, and `text` is the filter for values in it. A list's item that comes out empty is left out, one
of several lines is as many items.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, TemplateError

from beatline.common.errors import UserError
from beatline.common.markdown import text
from beatline.common.params import Parameters, read_yaml, validated
from beatline.datasets import description_of

FOLDER = Path(__file__).parent
UNDESCRIBED = FOLDER / "card.yaml"


class Words(Parameters):
    """`licence`: of the recordings. `collected`: how they came about. `labelled`: who said what they
    show. `use`: what the data and models of them are for; `misuse`: what they must not be used for.
    `factors`: what may change how good a model is, and is not measured. `limits`: what is known to be
    wrong or missing, and true of this data set in particular."""

    licence: str
    collected: str
    labelled: str
    use: str
    misuse: list[str]
    factors: str
    limits: list[str]


def words_of(name: str, datasets: Mapping[str, Any], dataset_info: Mapping[str, Any]) -> Words:
    """Return the words for the data set `name` of the block `datasets` of params.yaml.

    `dataset_info` is the content of its dataset.json. Raises UserError if a card cannot be read.
    """
    block = datasets[name]
    card = FOLDER / block["module"] / "card.yaml"
    facts = {
        "name": name,
        "module": block["module"],
        "has_card": card.exists(),
        "source": dataset_info["source"],
        "simulated": dataset_info["simulated"],
        "published": description_of(dataset_info["source"], block["module"]),
        "counts": dataset_info["counts"],
        "download": block["download"],
        "labels": block.get("aggregate_labels"),
        "origin": None,
    }
    source = Path(block["download"]["source"])
    if source.parts[-3:-1] == ("data", "features") and source.name in datasets:
        origin = words_of(source.name, datasets, dataset_info)
        facts |= {"origin_name": source.name, "origin": origin}
    words = _read(card, facts) if card.exists() else None
    return words or _read(UNDESCRIBED, facts)  # pyright: ignore[reportReturnType] - holds always


def _read(path: Path, facts: Mapping[str, Any]) -> Words | None:
    """The words of the variants that hold, filled in; None if none holds."""
    jinja = Environment(undefined=StrictUndefined)
    jinja.filters["text"] = text
    fields: dict[str, Any] = {}
    last = variant = ""
    try:
        for variant, content in read_yaml(path).items():
            if "when" not in content:
                raise UserError(f"{path}: {variant}.when: missing, add it")
            if jinja.compile_expression(str(content["when"]))(facts):
                fields |= {key: value for key, value in content.items() if key != "when"}
                last = variant
        if not fields:
            return None
        words = validated(fields, last, Words, path)
        return Words(**{key: _filled_in(jinja, value, facts) for key, value in words})
    except TemplateError as error:
        raise UserError(f"{path}: {variant}: {error}: correct the template") from None


def _filled_in(jinja: Environment, template: Any, facts: Mapping[str, Any]) -> Any:
    if isinstance(template, str):
        return jinja.from_string(template).render(facts)
    lines = "\n".join(_filled_in(jinja, item, facts) for item in template).splitlines()
    return [line for line in lines if line.strip()]
