"""The model card of a data set: a section for each model that was trained on it.

After Mitchell et al. 2019, Model Cards for Model Reporting, FAT*: details, intended use, factors,
metrics, data, analyses by class and by group, limits; and what made it all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from beatline.datasets.cards import Words, words_of
from beatline.evaluation.results import Evaluated
from beatline.reporting.data import TASKS
from beatline.reporting.data_card import (
    REPORT,
    UNKNOWN,
    add_uses,
    data_card_path,
    limits_of_counts,
    opening,
    title,
)
from beatline.reporting.document import CARDS, Document, anchor, counted, link, spoken, text
from beatline.reporting.identity import add_identities, add_line, add_revisions, short_hash
from beatline.reporting.models import MEANS, add_parts, metric_rows, percent, summary
from beatline.reporting.results import SPLITS, DatasetResults, heading, noun
from beatline.reporting.seeds import add_spreads, several, show_seeds
from beatline.reporting.subgroups import ALL, HOW_TO_READ, add_subgroups, any_subgroups


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
    words = words_of(results.name, content["datasets"], results.description)
    of_calibration = set() if calibration is None else set(calibration["model"])
    card = Document()
    card.add(title("Model", results), opening(results))
    _add_details(card, results)
    add_uses(card, words)
    _add_factors(card, results, words)
    _add_metrics(card, results, content["evaluate"])
    _add_data(card, results)
    _add_overall(card, results)
    for model in results.models:
        card.add(f"## {text(model.model)}", summary(model))
        add_parts(card, model, percent(content["evaluate"]))
        add_line(card, model, REPORT)
        _add_groups(card, model)
        _add_calibration(card, results, model, figures, of_calibration)
        card.add(
            f"Curves, score histograms and mistakes stand in the "
            f"[report]({REPORT}#{anchor(heading(results, model))})."
        )
    card.add("## Seeds")
    add_spreads(card, results)
    show_seeds(card, results, figures)
    card.add("## Limits and caveats")
    card.add_list([*_limits(results), *words.limits, *limits_of_counts(results)])
    _add_lineage(card, results)
    return card.markdown


def model_card_path(name: str) -> str:
    """Of the card of the models on the data set `name`, relative to report.md."""
    return f"{CARDS}/{name}_models.md"


def _add_details(card: Document, results: DatasetResults) -> None:
    card.add("## Details")
    rows = [
        [
            _link(model),
            TASKS[model.description["task"]],
            f"{model.description['parameters']:,}",
            str(max(1, len(model.estimates.get("seeds", [])))),
        ]
        for model in results.models
    ]
    card.add_table(["model", "what it decides", "parameters", "seeds"], rows, words=2)
    card.add(
        f"Each is a folder, `data/models/{results.name}/<model>`, that holds the weights and everything "
        f"that leads from a raw recording to an answer; `beatline.bundle.load` loads it. What is told "
        f"below is of the first seed, but for the section on seeds."
    )


def _add_factors(card: Document, results: DatasetResults, words: Words) -> None:
    apart = ["class"] if len(results.classes) > 1 else []
    if results.section_column:
        apart = [noun(results.section_column)]
    groups = {by for model in results.models for by in model.estimates.get("subgroups", {})}
    apart += sorted(groups, reverse=True)
    told = [f"Metrics are told apart by {spoken(apart)}."] if apart else []
    unknown = [] if groups or results.section_column else [UNKNOWN]
    card.add("## Factors", " ".join([*told, *unknown, words.factors]))
    if any_subgroups(results.models):
        card.add(HOW_TO_READ)


def _add_metrics(card: Document, results: DatasetResults, evaluate: Mapping[str, Any]) -> None:
    drawn = f"{results.groups} by {results.groups}" if results.groups else "record by record"
    card.add(
        "## Metrics",
        f"Brackets hold {percent(evaluate)} bootstrap intervals: percentiles over "
        f"{evaluate['resamples']:,} resamples of the test records, drawn {drawn}. How a score becomes a "
        f"decision stands in each model's section; thresholds come from validation records.",
        MEANS,
    )


def _add_data(card: Document, results: DatasetResults) -> None:
    train, validation, test = (results.splits[split].table for split in SPLITS)
    normal = (
        f" (those that detect anomalies from the {np.count_nonzero(train['normal']):,} normal ones)"
        if any(model.task.learns_normal_only for model in results.models)
        else ""
    )
    name = data_card_path(results.name).rsplit("/", 1)[-1]
    card.add(
        "## Evaluation and training data",
        f"Models learn from {len(train):,} records{normal}; what is chosen, an epoch or a threshold, is "
        f"chosen on {len(validation):,} validation records; all numbers below are measured on "
        f"{len(test):,} test records. The [data card]({name}) tells what they are.",
    )


def _add_overall(card: Document, results: DatasetResults) -> None:
    card.add("## Results")
    card.add_table(["", *map(_link, results.models)], metric_rows(results))
    add_revisions(card, [results], REPORT)


def _add_groups(card: Document, model: Evaluated) -> None:
    if model.estimates.get("subgroups"):
        card.add(f"### {text(model.model)}: by sex and age")
        add_subgroups(card, model, ALL)


def _add_calibration(
    card: Document,
    results: DatasetResults,
    model: Evaluated,
    figures: Mapping[str, bytes],
    of_calibration: set[str],
) -> None:
    """The report's figure that holds the curves, or why there are none."""
    card.add(f"### {text(model.model)}: calibration")
    path = f"figures/{results.name}/{model.model}_curves.png"
    if model.task.learns_normal_only:
        card.add(
            "Its scores are distances or errors and not probabilities, so that there is nothing to "
            "calibrate."
        )
    elif model.model in of_calibration and path in figures:
        card.add(
            f"![{text(results.name)}, {text(model.model)}: calibration curves](../{path})",
            "Under calibration: the observed frequency of a class among test records with about the same "
            "predicted probability. On the dotted diagonal a probability can be taken at its word; below "
            "it the model is too sure of the class.",
        )
    else:
        card.add("There are too few test records to draw it.")


def _limits(results: DatasetResults) -> list[str]:
    """What is true of these models, whatever they were trained on."""
    limits = []
    if detectors := [m.model for m in results.models if m.task.learns_normal_only]:
        limits.append(
            f"{text(spoken(detectors))} learned normal records alone: what is unusual is scored as "
            f"abnormal, harmless or not."
        )
    if single := [model.model for model in results.models if not several(model)]:
        limits.append(f"One seed only: {text(spoken(single))}.")
    limits.append(
        "An answer is given for every recording, also for one that is nothing like what was learned."
    )
    return limits


# ---------------------------------------------------------------- lineage


def _add_lineage(card: Document, results: DatasetResults) -> None:
    """What made each model and its numbers, and once what made the data."""
    card.add("## Lineage")
    names = {(results.name, model.model): _link(model) for model in results.models}
    add_identities(card, [results], names)
    rows = [
        [
            _link(model),
            *(
                short_hash((model.estimates.get("identity") or {}).get(part))
                for part in ("data", "model", "code")
            ),
        ]
        for model in results.models
    ]
    card.add("What each was evaluated on and with:")
    card.add_table(["model", "test data", "weights", "code of the evaluation"], rows, words=4)
    _add_pipeline(card, results)


def _link(model: Evaluated) -> str:
    """To the model's section of its card."""
    return link(text(model.model))


def _add_pipeline(card: Document, results: DatasetResults) -> None:
    """The stages that made the data, with the MD5 sums by which DVC knows their outputs."""
    stages: dict[str, dict[str, Any]] = {}
    for model in results.models:
        stages |= model.description["identity"].get("pipeline") or {}
    rows = [
        [f"`{stage}`", f"`{path}`", f"`{md5}`" if md5 else "not recorded"]
        for stage, told in stages.items()
        for path, md5 in told["outs"].items()
    ]
    if rows:
        card.add(f"{counted(len(stages), 'stage')} made the data, as DVC recorded them:")
        card.add_table(["stage", "output", "MD5"], rows, words=3)
