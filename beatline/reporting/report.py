"""The report: what the data are, how good each model is, where it errs, and what made it.

:func:`compose` collects text, figures, curve tables and a data card, its metadata and a model card for
each data set; the same Markdown is `report.md`, whose figures and cards are files beside it, and one HTML
file that needs nothing else to be read (:mod:`beatline.reporting.page`).
But for how long training and predictions took, nothing in it depends on when or where it was written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from beatline.common.words import spoken
from beatline.drawings import figures
from beatline.evaluation import curves, predictions
from beatline.evaluation.results import Evaluated
from beatline.reporting.croissant import croissant_metadata, croissant_path
from beatline.reporting.data import add_data
from beatline.reporting.data_card import data_card, data_card_path, quality_path, quality_table
from beatline.reporting.document import (
    METRICS,
    Document,
    anchor,
    as_yaml,
    estimate,
    fill,
    link,
    text,
)
from beatline.reporting.identity import (
    Identity,
    identities,
    made_by,
    revisions,
    versions,
)
from beatline.reporting.mistakes import add_mistakes, add_reconstructions
from beatline.reporting.model_card import model_card, model_card_path
from beatline.reporting.models import add_comparison, add_model, percent, summary
from beatline.reporting.results import DatasetResults, heading, read, results_sum, warn_of_stale
from beatline.reporting.seeds import several
from beatline.reporting.settings import Report

TITLE = "Beatline report"
BACK = f"[Back to the top](#{anchor(TITLE)})"
COMPARED = ("auc", "average_precision", "f1", "accuracy")


def compose(
    content: dict[str, Any], parameters: Report, root: Path, identity: Identity
) -> Document:
    """The report of all that `content` (params.yaml) lists, from the stages' outputs under `root`.

    `identity`: of what writes the report (:func:`beatline.reporting.identity.own_identity`). Models that
    lie there without being listed are named in a warning and left out. Raises UserError if an output is
    missing.
    """
    warn_of_stale(content, root)
    datasets = [read(content, name, root) for name in content["datasets"]]
    colours = figures.colours_of(list(content["train"]))
    document = Document(results=results_sum(datasets))
    _add_opening(document, datasets)
    _add_summary(document, datasets, colours, percent(content["evaluate"]))
    document.add_contents()
    for results in tqdm(datasets, "report", unit=" data sets", mininterval=5):
        document.add(f"## {text(results.name)}")
        _add_links_to_cards(document, results)
        add_data(document, results)
        if results.models:
            _add_models(document, results, colours, content, parameters, root)
        _add_cards(document, results, content, root)
        document.add(BACK)
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
    document.metadata[croissant_path(results.name)] = croissant_metadata(results, content, root)
    if (table := quality_table(results)) is not None:
        text_of_table = table.to_csv(index=False, lineterminator="\n")
        document.cards[quality_path(results.name)] = text_of_table
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
        document.add(f"### {heading(results, model)}", summary(model))
        document.add(fill("predictions", model=model, path=_predictions(results, model)))
        with document.folded("Figures, metrics and parameters"):
            add_model(document, results, model, tables, colour, percent(content["evaluate"]))
            add_reconstructions(document, results, model, colour, root)
            if parameters.mistakes:
                add_mistakes(document, results, model, colour, parameters.mistakes, root)
            document.add(f"Parameters, from `train.{model.model}.{results.name}` and `training`:")
            document.add(as_yaml(_parameters(model.description)))


def _parameters(description: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a model was trained by, and the precision that `auto` stood for."""
    training = dict(description["training"])
    if training.get("precision") == "auto" and "precision" in description:
        training["precision"] = f"auto ({description['precision']})"
    return {"architecture": description["architecture"]["parameters"], **training}


def _predictions(results: DatasetResults, model: Evaluated) -> str:
    """The path of a model's predictions, relative to report.md."""
    return f"../data/predictions/{results.name}/{model.model}/{predictions.FILE}"


def _add_opening(document: Document, datasets: Sequence[DatasetResults]) -> None:
    """Say first which recordings are made up."""
    names: dict[str, list[str]] = {"simulated": [], "real": []}
    for results in datasets:
        names[results.reality].append(f"**{text(results.name)}**")
    document.add(fill("opening", title=TITLE, **names))


def _add_summary(
    document: Document,
    datasets: Sequence[DatasetResults],
    colours: Mapping[str, str],
    percent: str,
) -> None:
    """Every model at a glance: a figure of its main metric, and a row of a table."""
    document.add("## Summary of results")
    if groups := {_group(results): rows for results in datasets if (rows := _overview(results))}:
        document.add_drawing(
            "summary",
            figures.overview(groups, colours),
            "The main metric of every model with its interval, by data set",
            f"The main metric of every model on the test records of its data set, with its {percent} "
            f"interval.",
        )
    grouped: dict[str, list[str]] = {}
    for results in datasets:
        if results.groups:
            grouped.setdefault(results.groups, []).append(text(results.name))
    rows = [
        [
            link(heading(results, model)),
            *(estimate(model.estimates["overall"].get(metric)) for metric in COMPARED),
            f"{len(model.table):,}",
            f"[CSV]({_predictions(results, model)})",
        ]
        for results in datasets
        for model in results.models
    ]
    models = [model for results in datasets for model in results.models]
    document.add(
        fill(
            "summary_of_results",
            percent=percent,
            drawn=[f"{group} by {group} in {spoken(names)}" for group, names in grouped.items()],
            header=[
                "model",
                *map(METRICS.get, COMPARED),
                "records",
                "predictions",
            ],
            rows=rows,
            revisions=revisions(datasets) if models else "",
            one_seed_each=not any(map(several, models)),
        )
    )


def _group(results: DatasetResults) -> str:
    simulated = ", simulated" if results.reality == "simulated" else ""
    return f"{results.name}: {METRICS[results.main_metric]}{simulated}"


def _overview(results: DatasetResults) -> list[tuple[str, float, float, float]]:
    """Name, main metric and interval of each model that has one."""
    estimates = {
        model.model: model.estimates["overall"][results.main_metric] for model in results.models
    }
    return [
        (name, value["value"], value["low"], value["high"])
        for name, value in estimates.items()
        if value["value"] is not None
    ]


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
