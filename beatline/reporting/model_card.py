"""The model card of a data set: a section for each model that was trained on it.

After Mitchell et al. 2019, Model Cards for Model Reporting, FAT*: details, intended use, factors,
metrics, data, analyses by class and by group, limits; and what made it all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from beatline.datasets.cards import words_of
from beatline.reporting.data_card import limits_of_counts
from beatline.reporting.document import CARDS, fill, link, noun, text
from beatline.reporting.identity import identities, made_from, revisions
from beatline.reporting.models import metric_rows, parts, percent, summary
from beatline.reporting.results import SPLITS, DatasetResults
from beatline.reporting.seeds import picture_of_seeds, several, spreads
from beatline.reporting.subgroups import ALL, any_subgroups, subgroups

REPORT = "../report.md"


def model_card(
    results: DatasetResults,
    content: Mapping[str, Any],
    figures: Mapping[str, bytes],
    calibration: pd.DataFrame | None,
) -> str:
    """Markdown, to be read in the folder :data:`CARDS` beside the report.

    `figures`: those of the report, by path, which the card shows again. `calibration`: the table of
    these curves, if there are any.
    """
    models, confidence = results.models, percent(content["evaluate"])
    tables = [results.splits[split].table for split in SPLITS]
    links = {model.model: link(text(model.model)) for model in models}
    drawn = set() if calibration is None else set(calibration["model"])
    return fill(
        "model_card",
        results=results,
        words=words_of(results.name, content["datasets"], results.dataset_info),
        apart=_told_apart(results),
        groups=any_subgroups(models),
        percent=confidence,
        resamples=content["evaluate"]["resamples"],
        tables=tables,
        normal=np.count_nonzero(tables[0]["normal"]),
        detectors=[model.model for model in models if model.task.learns_normal_only],
        links=list(links.values()),
        metric_rows=metric_rows(results),
        revisions=revisions([results], REPORT),
        sections={
            model.model: "\n\n".join(
                [summary(model), parts(results, model, confidence), made_from(model, REPORT)]
            )
            for model in models
        },
        subgroups={model.model: subgroups(model, ALL) for model in models},
        calibrated=[
            name for name in drawn if f"figures/{results.name}/{name}_curves.png" in figures
        ],
        spreads=spreads(results),
        picture_of_seeds=picture_of_seeds(results, figures),
        single=[model.model for model in models if not several(model)],
        limits=limits_of_counts(results),
        identities=identities(
            [results], {(results.name, name): label for name, label in links.items()}
        ),
        pipeline=_pipeline(results),
    )


def model_card_path(name: str) -> str:
    """Return the path of the card of the models on the data set `name`, relative to report.md."""
    return f"{CARDS}/{name}_models.md"


def _told_apart(results: DatasetResults) -> list[str]:
    """List what the models' metrics are split by: class or section, and subgroups."""
    apart = ["class"] if len(results.classes) > 1 else []
    if results.section_column:
        apart = [noun(results.section_column)]
    groups = {by for model in results.models for by in model.estimates.get("subgroups", {})}
    return apart + sorted(groups, reverse=True)


def _pipeline(results: DatasetResults) -> dict[str, Any]:
    """The stages that made the data, with the MD5 sums by which DVC knows their outputs."""
    stages: dict[str, Any] = {}
    for model in results.models:
        stages |= model.description["identity"].get("pipeline") or {}
    return {name: stage for name, stage in stages.items() if stage["outs"]}
