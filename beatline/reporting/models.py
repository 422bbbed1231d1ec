"""The report's sections on models: how those of a data set compare, and each of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from beatline.drawings import figures
from beatline.evaluation.estimates import FEWEST_GROUPS, FEWEST_OF_A_KIND, cases_of
from beatline.evaluation.results import Evaluated
from beatline.prediction.tasks import measures
from beatline.reporting.document import (
    DASH,
    METRICS,
    Document,
    estimate,
    fill,
    link,
    measured,
    noun,
    number,
    short_hash,
    text,
)
from beatline.reporting.identity import UNCOMMITTED, Identity, made_from, revision, state
from beatline.reporting.results import DatasetResults, heading
from beatline.reporting.seeds import add_seeds
from beatline.reporting.subgroups import any_subgroups, subgroups

OF_PARTS = (
    "precision",
    "recall",
    "f1",
    "accuracy",
    "auc",
    "pauc",
    "average_precision",
    "brier",
    "calibration_error",
)
COUNTS = {
    "tp": "true positives",
    "fp": "false positives",
    "fn": "false negatives",
    "tn": "true negatives",
}
COMPARED_CURVES = ("roc", "precision_recall")  # of all models in one figure

Row = tuple[str, str, float, float, float]
"""A row of a comparison figure: group, model, value, low, high."""


def add_comparison(
    document: Document,
    results: DatasetResults,
    tables: Mapping[str, pd.DataFrame],
    colours: Mapping[str, str],
    evaluate: Mapping[str, Any],
) -> None:
    """`tables` of :mod:`beatline.evaluation.curves`; `colours` by model; `evaluate`: the block of
    params.yaml."""
    models = {model.model: colours[model.model] for model in results.models}
    part = next((noun(m.section_column) for m in results.models if m.section_column), None)
    document.add(
        fill(
            "comparison",
            results=results,
            links=[link(heading(results, model), model.model) for model in results.models],
            rows=[*metric_rows(results), *_facts(results.models)],
            part=part,
            metrics=set().union(*(model.estimates["overall"] for model in results.models)),
            max_fpr=evaluate["max_fpr"],
            highest_normals=_highest_normals(results.models, evaluate["max_fpr"]),
            groups=any_subgroups(results.models),
        )
    )
    rows, measure = _rows_of_comparison(results)
    if rows:  # none where the test records are all alike
        document.add_drawing(
            f"{results.name}/comparison",
            figures.comparison(
                rows,
                list(dict.fromkeys(row[0] for row in rows)),
                models,
                f"{measure} on test records",
            ),
            f"{text(results.name)}: {measure} of each model with intervals",
            f"{measure} of each model on the test records, over all and for each {part or 'class'}: the "
            f"dot is the value, the line its {percent(evaluate)} interval. All models are measured on "
            f"the same records, so intervals that overlap do not show that two models are equally "
            f"good.",
        )
    if any(kind in tables for kind in COMPARED_CURVES):
        document.add_figure(
            f"{results.name}/curves",
            figures.panels(COMPARED_CURVES, tables, models),
            f"{text(results.name)}: ROC and precision-recall curves of all models",
            "ROC curves (a better model comes closer to the upper left corner; the dotted diagonal is "
            "chance) and precision-recall curves (closer to the upper right corner; the dotted line is "
            "the precision of guessing) of all models on the test records.",
        )
    add_seeds(document, results, models)


def _highest_normals(models: Sequence[Evaluated], max_fpr: float) -> float:
    """How many normal records, of the machine with the fewest, have a false positive rate up to `max_fpr`
    at their scores; infinity without a detector."""
    facets = [facet for model in models if model.task.learns_normal_only for facet in model.facets]
    numbers = [int(np.count_nonzero(facet.targets == 0)) for facet in facets if facet.targets.any()]
    return max_fpr * min((number for number in numbers if number), default=np.inf)


def percent(evaluate: Mapping[str, Any]) -> str:
    """The confidence of the intervals."""
    return f"{100 * evaluate['confidence']:g} %"


def metric_rows(results: DatasetResults) -> list[list[str]]:
    """Return a row for each metric that one of the models has; the accuracy comes first for exclusive
    classes, last otherwise."""
    overall = [model.estimates["overall"] for model in results.models]
    last = [] if results.exclusive else ["accuracy"]
    order = [*(metric for metric in METRICS if metric not in last), *last]
    return [
        [METRICS[metric], *(estimate(metrics.get(metric)) for metrics in overall)]
        for metric in order
        if any(metric in metrics for metrics in overall)
    ]


def _facts(models: Sequence[Evaluated]) -> list[list[str]]:
    """Return rows on each model: its task and size, its costs, and its revision and data. Costs differ
    from run to run and so have lines of their own; the closing section has the rest of its identity."""
    facts: dict[str, Callable[[Evaluated], str]] = {
        "task": lambda model: model.description["task"],
        "best epoch, iteration or penalty": lambda model: _best_step(model) or DASH,
        "parameters": lambda model: f"{model.description['parameters']:,}",
        "training time (s)": lambda model: measured(model.durations["train_seconds"]),
        "time per prediction (ms)": lambda model: measured(model.durations["predict_milliseconds"]),
        "trained by revision": lambda model: _revision(model.description["identity"]),
        "learned from data": lambda model: short_hash(model.description["identity"]["data"]),
    }
    return [[name, *map(fact, models)] for name, fact in facts.items()]


def _revision(identity: Identity) -> str:
    """Return the revision, kept short since there is a column per model."""
    return revision(identity) + (" + changes" if state(identity) == UNCOMMITTED else "")


def _best_step(model: Evaluated) -> str:
    """Name the epoch, iteration or penalty that was kept; empty for a model fitted in one step."""
    steps = len(model.history)
    return f"{model.description['best_epoch']} of {steps}" if steps > 1 else ""


def _rows_of_comparison(results: DatasetResults) -> tuple[list[Row], str]:
    """AUC over all and of each part, after the accuracy if classes are exclusive; and what that is."""
    rows: list[Row] = []
    prefix = "AUC: " if results.exclusive else ""
    for model in results.models:
        overall, parts = model.estimates["overall"], model.estimates["parts"]
        if results.exclusive:
            rows += _row("accuracy", model, overall, "accuracy")
        mean = "mean" if model.section_column else "macro average"
        rows += _row(prefix + (mean if parts else ", ".join(model.classes)), model, overall, "auc")
        for name, part in parts.items():
            rows += _row(prefix + name, model, part, "auc")
    first = [row for row in rows if row[0] == "accuracy"]
    rows = [*first, *(row for row in rows if row[0] != "accuracy")]
    return rows, "accuracy and AUC" if results.exclusive else "AUC"


def _row(group: str, model: Evaluated, estimates: Mapping[str, Any], metric: str) -> list[Row]:
    """The one row, or none where the metric is not defined."""
    entry = estimates.get(metric)
    if entry is None or entry["value"] is None:
        return []
    return [(group, model.model, entry["value"], entry["low"], entry["high"])]


# ---------------------------------------------------------------- one model


def add_model(
    document: Document,
    results: DatasetResults,
    model: Evaluated,
    tables: Mapping[str, pd.DataFrame],
    colour: str,
    percent: str,
) -> None:
    name = model.model
    stem, alt = f"{results.name}/{name}", f"{text(results.name)}, {text(name)}"
    if len(model.history) > 1:
        _add_history(document, stem, alt, model, tables, colour)
    kinds = [kind for kind in _CURVES if name in set(tables.get(kind, _NONE)["model"])]
    if len(results.models) > 1 and len(model.facets) > figures.COLUMNS:
        # They would fill a page again.
        kinds = [kind for kind in kinds if kind not in COMPARED_CURVES]
    if kinds:
        document.add_figure(
            f"{stem}_curves",
            figures.panels(kinds, tables, {name: colour}),
            f"{alt}: {', '.join(kinds).replace('_', '-')} curves",
            "On the test records: " + "; ".join(_CURVES[kind] for kind in kinds) + ".",
        )
    _add_decisions(document, stem, alt, model, tables, colour)
    document.add(parts(results, model, percent), made_from(model), subgroups(model))


def summary(model: Evaluated) -> str:
    """Summarize in a sentence how good a model is, how large, and what was kept of its training."""
    has_auc = bool(model.history["validation_auc"].notna().any())
    return fill("summary", model=model, step=_step(model), best=_best_step(model), has_auc=has_auc)


def _step(model: Evaluated) -> str:
    """Name what a row of the history stands for."""
    training = model.description["training"]
    if "epochs" in training:
        return "epoch"
    return "penalty" if isinstance(training.get("l2"), list) else "iteration"


def _add_history(
    document: Document,
    stem: str,
    alt: str,
    model: Evaluated,
    tables: Mapping[str, pd.DataFrame],
    colour: str,
) -> None:
    step = _step(model)
    document.add_drawing(
        f"{stem}_history",
        figures.history(tables, model.model, model.description["best_epoch"], colour, step),
        f"{alt}: training, {step} by {step}",
        f"Training, {step} by {step}: loss of train (dashed) and validation records (solid), and as "
        f"far as they are defined AUC of validation records and learning rate. The dotted line marks "
        f"the {step} that was kept. {_of_losses(model)}",
    )


def _of_losses(model: Evaluated) -> str:
    if measures(model.description) == "distance":
        learned = (
            "the error of the reconstruction"
            if model.task.name == "reconstruction"
            else "that of telling apart where recordings come from"
        )
        return (
            f"The train loss is {learned}, the validation loss the mean distance, so that the two do not "
            f"compare, nor do distances of different epochs."
        )
    return "A validation loss that rises while the train loss falls means overfitting."


def _add_decisions(
    document: Document,
    stem: str,
    alt: str,
    model: Evaluated,
    tables: Mapping[str, pd.DataFrame],
    colour: str,
) -> None:
    """Confusion matrices and score histograms: one figure, or two if the classes are exclusive."""
    kinds, sentence = ("confusion", "scores"), f"{_CONFUSION}; {_SCORES}"
    if model.exclusive:
        table = tables["confusion"]
        document.add_drawing(
            f"{stem}_confusion",
            figures.confusion_matrix(table.loc[table["model"] == model.model, :]),
            f"{alt}: confusion matrix",
            f"On the test records: {_CONFUSION}.",
        )
        kinds, sentence = ("scores",), _SCORES
    document.add_drawing(
        f"{stem}_decisions",
        figures.panels(kinds, tables, {model.model: colour}),
        f"{alt}: {' matrices and '.join(kinds).replace('scores', 'score histograms')}",
        f"On the test records: {sentence}. The less the two overlap, the better."
        + (_THRESHOLD if model.thresholds else "")
        + (_TAIL if model.task.learns_normal_only else ""),
    )


_CONFUSION = (
    "confusion matrices (rows are the labels, columns what was decided, shades the share of a row; "
    "a perfect model has counts on the falling diagonal only)"
)
_SCORES = (
    "scores of records with the class (filled) and without it (outlined), each as a share of its "
    "records"
)
_NONE = pd.DataFrame({"model": []})
_CURVES = {
    "roc": "ROC curves (dotted: chance)",
    "precision_recall": "precision-recall curves (dotted: guessing)",
    "calibration": "calibration, the observed frequency of the class among records with about the "
    "same predicted probability (larger dots stand for more records; dotted: perfect; below it the "
    "model is too sure of the class)",
}
_THRESHOLD = " The dotted line is the threshold; what lies to its right is decided positive."
_TAIL = " The last bar also holds all scores beyond it."


# ---------------------------------------------------------------- classes, machines


def parts(results: DatasetResults, model: Evaluated, percent: str) -> str:
    """A classification report: a row per class or machine, and their mean if there are several."""
    overall, by_part = model.estimates["overall"], model.estimates["parts"]
    rows = by_part or {model.classes[0]: {**overall, "positives": int(model.targets.sum())}}
    shown = [metric for metric in OF_PARTS if any(metric in row for row in rows.values())]
    if model.exclusive:  # of one class against the rest it would flatter
        shown.remove("accuracy")
    column = model.section_column
    limits = {} if column else dict(zip(model.classes, model.thresholds, strict=False))
    counts = [name for name in COUNTS if by_part and all(name in row for row in rows.values())]

    def line(name: str, row: Mapping[str, Any], threshold: str) -> list[str]:
        numbers = [f"{row[count]:,}" for count in ("positives", *counts)]
        numbers[1:1] = [threshold] if limits else []
        return [name, *numbers, *(estimate(row.get(metric)) for metric in shown)]

    table = [
        line(text(name), row, score(model, limits[name]) if limits else "")
        for name, row in rows.items()
    ]
    if len(rows) > 1:
        totals = {name: sum(row[name] for row in rows.values()) for name in ("positives", *counts)}
        table.append(line("all (mean)", {**overall, **totals}, DASH))
    labels = results.splits["validation"].table
    return fill(
        "parts",
        model=model,
        **_exceptions(model),
        by=results.groups or "record",
        of_kind="an anomaly" if model.task.learns_normal_only else "the class",
        unchosen=[text(name) for name in limits if name in labels and 1 not in set(labels[name])],
        percent=percent,
        threshold="" if model.exclusive else score(model, model.thresholds[0]),
        header=[
            *([noun(column), "anomalies"] if column else ["class", "positives"]),
            *(["threshold"] if limits else []),
            *(COUNTS[name] for name in counts),
            *(METRICS[metric] for metric in shown),
        ],
        rows=table,
        counts=[
            f"{label} {model.estimates['counts'][name]:,}"
            for name, label in COUNTS.items()
            if model.estimates["counts"] and not counts
        ],
    )


def _exceptions(model: Evaluated) -> dict[str, Any]:
    """The number of patients if they are too few for intervals; the classes (or machines) that were never
    decided, those with few or no test records, and the means that have a value and no interval."""
    overall = model.estimates["overall"]
    cases = {text(name): each for name, each in cases_of(model).items()}
    undecided = [name for name, each in cases.items() if each["positives"] and not each["decided"]]
    few = [name for name, each in cases.items() if 0 < each["rarer"] < FEWEST_OF_A_KIND]
    absent = [name for name, each in cases.items() if not each["positives"]]
    number_of_groups = len(set(model.table["group"]))
    unsure = [
        METRICS[metric]
        for metric, value in overall.items()
        if value["value"] is not None and value["low"] is None
    ]
    too_few = number_of_groups < FEWEST_GROUPS
    return {
        "patients": number_of_groups if too_few else 0,
        "undecided": undecided,
        "few": [] if too_few else few,
        "absent": absent,
        "without_interval": [] if too_few else unsure,
    }


def score(model: Evaluated, value: float) -> str:
    """A probability, or an anomaly score, which may be of any size."""
    if not np.isfinite(value):
        return DASH
    return measured(value) if model.task.learns_normal_only else number(value)
