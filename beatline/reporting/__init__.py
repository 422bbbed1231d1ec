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
    METRICS,
    Document,
    as_yaml,
    estimate,
    fill,
    link,
    spoken,
    text,
)
from beatline.reporting.identity import (
    Identity,
    identities,
    made_by,
    own_identity,
    revisions,
    versions,
)
from beatline.reporting.mistakes import add_mistakes, add_reconstructions
from beatline.reporting.model_card import model_card, model_card_path
from beatline.reporting.models import add_comparison, add_model, percent
from beatline.reporting.page import page
from beatline.reporting.results import DatasetResults, heading, read, warn_of_stale
from beatline.reporting.seeds import several

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
    datasets = [read(content, name, root) for name in content["datasets"]]
    colours = figures.colours_of(list(content["train"]))
    document = Document()
    _add_opening(document, datasets, percent(content["evaluate"]))
    for results in datasets:
        document.add(f"## {text(results.name)}")
        _add_links_to_cards(document, results)
        add_data(document, results)
        if results.models:
            _add_models(document, results, colours, content, parameters, root)
        _add_cards(document, results, content, root)
    _add_closing(document, datasets, content, identity)
    return document


def _add_links_to_cards(document: Document, results: DatasetResults) -> None:
    """Add a paragraph of links alone, which the page replaces by the cards themselves."""
    links = [f"[Data card]({data_card_path(results.name)})"]
    if results.models:
        links.append(f"[Model card]({model_card_path(results.name)})")
    document.add(" · ".join(links))


def _add_cards(
    document: Document, results: DatasetResults, content: dict[str, Any], root: Path
) -> None:
    document.cards[data_card_path(results.name)] = data_card(results, content, root) + "\n"
    if results.models:
        calibration = document.curves["calibration"].get(results.name)
        card = model_card(results, content, document.figures, calibration) + "\n"
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
        document.add(as_yaml({"architecture": architecture, **model.description["training"]}))


def _add_opening(document: Document, datasets: Sequence[DatasetResults], percent: str) -> None:
    grouped: dict[str, list[str]] = {}
    for results in datasets:
        if results.groups:
            grouped.setdefault(results.groups, []).append(text(results.name))
    rows = [
        [
            link(text(results.name)),
            link(heading(results, model), model.model),
            *(estimate(model.estimates["overall"].get(metric)) for metric in COMPARED),
            f"{len(model.table):,}",
        ]
        for results in datasets
        for model in results.models
    ]
    models = [model for results in datasets for model in results.models]
    document.add(
        fill(
            "opening",
            datasets=datasets,
            simulated=[
                f"**{text(results.name)}**"
                for results in datasets
                if results.dataset_info["simulated"]
            ],
            percent=percent,
            drawn=[f"{group} by {group} in {spoken(names)}" for group, names in grouped.items()],
            header=["data set", "model", *map(METRICS.get, COMPARED), "test records"],
            rows=rows,
            revisions=revisions(datasets) if models else "",
            one_seed_each=not any(map(several, models)),
        )
    )


def _add_closing(
    document: Document,
    datasets: Sequence[DatasetResults],
    content: Mapping[str, Any],
    identity: Identity,
) -> None:
    document.add(
        fill(
            "closing",
            identities=identities(datasets),
            made_by=made_by(identity),
            code=identity["code"],
            versions=versions(identity),
            content=content,
        )
    )
