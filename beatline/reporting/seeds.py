"""Seed variance: how far a model's test metrics move when it is trained from several seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from beatline.drawings import figures
from beatline.evaluation.results import Evaluated
from beatline.reporting.document import METRICS, Document, estimate, fill, measured, number, text
from beatline.reporting.results import DatasetResults

MAIN = ("accuracy", "auc", "pauc", "harmonic_mean", "average_precision", "f1")


@dataclass(frozen=True)
class Spread:
    """The spread of a metric over `seeds` trainings. `deviation`: the sample's standard deviation, with
    n - 1; NaN for a single seed."""

    seeds: int
    mean: float
    deviation: float
    minimum: float
    maximum: float


def spread(model: Evaluated, metric: str) -> Spread | None:
    """Over the seeds with which the metric is defined; None if there are none."""
    values = values_of(model, metric)
    if not values:
        return None
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
    return Spread(len(values), float(np.mean(values)), deviation, min(values), max(values))


def values_of(model: Evaluated, metric: str) -> list[float]:
    """Return the metric for each seed: of the networks whose mean the model is, or of those of which the
    first is the model."""
    values = [row.get(metric) for row in _rows(model)]
    return [value for value in values if value is not None]


def several(model: Evaluated) -> bool:
    """Whether the model was trained from more than one seed."""
    return len(_rows(model)) > 1


def _rows(model: Evaluated) -> list[dict[str, Any]]:
    return model.estimates.get("members") or model.estimates.get("seeds", [])


def add_seeds(document: Document, results: DatasetResults, colours: Mapping[str, str]) -> None:
    """The report's section on a data set, with a figure, if any of its models has several seeds."""
    if not any(map(several, results.models)):
        return
    document.add(f"### {text(results.name)}: seeds", spreads(results))
    metric = results.main_metric
    rows = [
        (model.model, first["value"], first["low"], first["high"], values_of(model, metric))
        for model in results.models
        if several(model) and (first := model.estimates["overall"][metric])["value"] is not None
    ]
    if rows:
        measure = METRICS[metric]
        document.add_drawing(
            f"{results.name}/seeds",
            figures.seeds(rows, colours, f"{measure} on test records"),
            f"{text(results.name)}: {measure} of each model with each seed, beside the interval of the "
            f"model",
            _how_to_read(measure),
        )


def picture_of_seeds(results: DatasetResults, pictures: Mapping[str, bytes]) -> str:
    """The report's figure of seeds, for a card; empty if there is none."""
    path = f"figures/{results.name}/seeds.svg"
    if path not in pictures:
        return ""
    measure = METRICS[results.main_metric]
    return (
        f"![{text(results.name)}: {measure} with each seed](../{path})\n\n{_how_to_read(measure)}"
    )


def _how_to_read(measure: str) -> str:
    return (
        f"{measure} on the test records: a ring for each seed; above them the model's value with "
        f"its interval."
    )


def spreads(results: DatasetResults) -> str:
    """Mean and spread over seeds of the main metrics of models that have several, beside the interval;
    what each of the two spreads is; and which models have one seed."""
    rows = [
        [
            text(model.model),
            METRICS[metric],
            str(over_seeds.seeds),
            number(over_seeds.mean),
            measured(over_seeds.deviation),
            number(over_seeds.minimum),
            number(over_seeds.maximum),
            estimate(model.estimates["overall"].get(metric)),
        ]
        for model in results.models
        for metric in MAIN
        if (over_seeds := spread(model, metric)) and over_seeds.seeds > 1
    ]
    single = [model.model for model in results.models if not several(model)]
    return fill("spreads", rows=rows, single=single)
