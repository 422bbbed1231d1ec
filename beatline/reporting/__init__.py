"""The report: what the data are, how good each model is, where it errs, and what made it.

:func:`compose` collects text, figures, curve tables and a data card and a model card for each data set;
the same Markdown is `report.md`, whose figures and cards are files beside it, and :func:`page`, one HTML
file that needs nothing else to be read.
But for how long training and predictions took, nothing in it depends on when or where it was written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from beatline.common.params import Parameters
from beatline.drawings import figures
from beatline.evaluation import curves
from beatline.reporting.data import add_data
from beatline.reporting.data_card import data_card, data_card_path
from beatline.reporting.document import (
    CARDS,
    FIGURES,
    IDENTITY,
    METRICS,
    Document,
    estimate,
    link,
    spoken,
    text,
)
from beatline.reporting.identity import (
    Identity,
    add_identities,
    add_own,
    add_revisions,
    own_identity,
)
from beatline.reporting.mistakes import add_mistakes, add_reconstructions
from beatline.reporting.model_card import model_card, model_card_path
from beatline.reporting.models import MEANS, add_comparison, add_model, percent
from beatline.reporting.page import page
from beatline.reporting.results import DatasetResults, heading, read, warn_of_stale
from beatline.reporting.seeds import add_anecdote, several

__all__ = ["CARDS", "FIGURES", "Document", "Report", "compose", "own_identity", "page"]

COMPARED = ("auc", "average_precision", "f1", "accuracy")


class Report(Parameters):
    """The block `report`. `mistakes`: so many of each model's most confident mistakes are drawn, two
    beside each other; of recordings that are drawn smaller, as many as fill the same rows."""

    mistakes: int = Field(ge=0, le=20)


def compose(
    content: dict[str, Any], parameters: Report, root: Path, identity: Identity
) -> Document:
    """The report of all that `content` (params.yaml) lists, from the stages' outputs under `root`.

    `identity`: of what writes the report, see :func:`own_identity`. Models that lie there without being
    listed are named in a warning and left out. Raises UserError if an output is missing.
    """
    warn_of_stale(content, root)
    found = [read(content, name, root) for name in content["datasets"]]
    colours = figures.colours_of(list(content["train"]))
    document = Document()
    _add_opening(document, found, percent(content["evaluate"]))
    for results in found:
        document.add(f"## {text(results.name)}")
        _add_links_to_cards(document, results)
        add_data(document, results)
        if results.models:
            _add_models(document, results, colours, content, parameters, root)
        _add_cards(document, results, content, root)
    _add_closing(document, found, content, identity)
    return document


def _add_links_to_cards(document: Document, results: DatasetResults) -> None:
    """A paragraph of nothing else, in whose place the page shows the cards themselves."""
    links = [f"[Data card]({data_card_path(results.name)})"]
    if results.models:
        links.append(f"[Model card]({model_card_path(results.name)})")
    document.add(" · ".join(links))


def _add_cards(
    document: Document, results: DatasetResults, content: dict[str, Any], root: Path
) -> None:
    document.cards[data_card_path(results.name)] = data_card(results, content, root)
    if results.models:
        calibration = document.curves["calibration"].get(results.name)
        card = model_card(results, content, document.figures, calibration)
        document.cards[model_card_path(results.name)] = card


def _add_models(
    document: Document,
    results: DatasetResults,
    colours: dict[str, str],
    content: dict[str, Any],
    parameters: Report,
    root: Path,
) -> None:
    tables = curves.tables(
        {model.model: model.history for model in results.models},
        {model.model: model for model in results.models},
    )
    for kind, table in tables.items():
        document.curves[kind][results.name] = table
    add_comparison(document, results, tables, colours, content["evaluate"])
    for model in results.models:
        colour = colours[model.model]
        add_model(document, results, model, tables, colour, percent(content["evaluate"]))
        add_reconstructions(document, results, model, colour, root)
        if parameters.mistakes:
            add_mistakes(document, results, model, colour, parameters.mistakes, root)
        document.add(f"Parameters, from `train.{model.model}.{results.name}` and `training`:")
        architecture = model.description["architecture"]["parameters"]
        document.add_yaml({"architecture": architecture, **model.description["training"]})


def _add_opening(document: Document, found: Sequence[DatasetResults], percent: str) -> None:
    kinds = [f"{text(results.name)} ({results.reality} data)" for results in found]
    document.add(f"# Report: {', '.join(kinds)}")
    if simulated := [results for results in found if results.description["simulated"]]:
        names = spoken([f"**{text(results.name)}**" for results in simulated])
        document.add(
            f"The recordings of {names} come from a simulator. Scores on them show that the "
            f"pipeline works and how models compare there; they say nothing about real patients or "
            f"machines."
        )
    grouped: dict[str, list[str]] = {}
    for results in found:
        if results.groups:
            grouped.setdefault(results.groups, []).append(text(results.name))
    by = [f"{group} by {group} in {spoken(names)}" for group, names in grouped.items()]
    drawn = f" ({', '.join(by)})" if by else ""
    document.add(
        f"Every number below is measured on test records that neither training nor the choice of a "
        f"threshold has seen. Brackets hold {percent} bootstrap intervals, for which records are drawn "
        f"again{drawn}."
    )
    rows = [
        [
            link(text(results.name)),
            link(heading(results, model), model.model),
            *(estimate(model.estimates["overall"].get(metric)) for metric in COMPARED),
            f"{len(model.table):,}",
        ]
        for results in found
        for model in results.models
    ]
    if rows:
        names = [METRICS[metric] for metric in COMPARED]
        document.add_table(["data set", "model", *names, "test records"], rows, words=2)
        add_revisions(document, found)
        document.add(MEANS)
        if not any(several(model) for results in found for model in results.models):
            add_anecdote(document, "every model")


def _add_closing(
    document: Document,
    found: Sequence[DatasetResults],
    content: Mapping[str, Any],
    identity: Identity,
) -> None:
    document.add(f"## {IDENTITY}")
    add_identities(document, found)
    add_own(document, identity)
    document.add("Parameters of the data sets:")
    document.add_yaml({"datasets": content["datasets"]})
    if content["extract_features"]:
        document.add("Parameters of what is measured of recordings:")
        document.add_yaml({"extract_features": content["extract_features"]})
    document.add("Parameters of evaluation and report:")
    document.add_yaml({name: content[name] for name in ("evaluate", "report")})
