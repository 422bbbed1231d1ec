"""Metrics of a model on parts of the test records, split by who was recorded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from beatline.common.words import spoken
from beatline.evaluation.estimates import FEWEST_GROUPS, FEWEST_OF_A_KIND
from beatline.evaluation.results import Evaluated
from beatline.reporting.document import DASH, METRICS, estimate, number, table, text

COMPACT = ("auc", "average_precision", "f1", "accuracy")
ALL = ("auc", "average_precision", "recall", "precision", "f1", "accuracy")
WIDE = 0.2  # an interval as wide holds good models and poor ones


def any_subgroups(models: Iterable[Evaluated]) -> bool:
    return any(model.estimates.get("subgroups") for model in models)


def subgroups(model: Evaluated, metrics: Sequence[str] = COMPACT) -> str:
    """Records and metrics by sex and age group, and what can and cannot be said of them; empty where
    the test records have neither."""
    groups = list(groups_of(model))
    if not groups:
        return ""
    overall = model.estimates["overall"]
    main = main_metric(model)
    shown = [main, *(metric for metric in metrics if metric in overall and metric != main)]
    rows = [
        [
            by,
            text(name),
            f"{group['records']:,}",
            *(estimate(group.get(metric)) for metric in shown),
        ]
        for by, name, group in groups
    ]
    everyone = [f"{len(model.table):,}", *(estimate(overall[metric]) for metric in shown)]
    rows.append(["all", DASH, *everyone])
    header = ["by", "group", "records", *(METRICS[metric] for metric in shown)]
    return "\n\n".join([table(header, rows, words=2), " ".join(remarks(model))]).strip()


def main_metric(model: Evaluated) -> str:
    return "accuracy" if model.exclusive else "auc"


def groups_of(model: Evaluated) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Each subgroup of the estimates: by what, its name, and its metrics."""
    for by, groups in model.estimates.get("subgroups", {}).items():
        for name, group in groups.items():
            yield by, name, group


def remarks(model: Evaluated) -> list[str]:
    """Sentences on the groups that are unmeasured, measured on fewer classes, too roughly or without an
    interval, or apart from all records: their interval of the main metric does not overlap with the
    overall one."""
    metric = main_metric(model)
    overall = model.estimates["overall"].get(metric)
    unmeasured, fewer, unsure, wide, below, above = [], [], [], [], [], []
    for by, name, group in groups_of(model):
        called = f"{by} {text(name)}"
        values = group.get(metric)
        if values is None or values["value"] is None:
            unmeasured.append(called)
            continue
        if values["low"] is None:
            unsure.append(called)
        elif values["high"] - values["low"] >= WIDE:
            wide.append(f"{called} ({number(values['low'])} to {number(values['high'])})")
        if group.get("classes", len(model.classes)) < len(model.classes):
            fewer.append(f"{called} ({group['classes']} of {len(model.classes)})")
        elif overall and None not in (overall["low"], values["low"]):
            below += [called] if values["high"] < overall["low"] else []
            above += [called] if values["low"] > overall["high"] else []
    name = METRICS[metric]
    sentences = {
        "Too few records or patients, or labels of one kind only, to measure: {}.": unmeasured,
        f"Fewer than {FEWEST_GROUPS} patients, or a class that is in no resample, so that there is no "
        f"interval and nothing can be said of the {name}: {{}}.": unsure,
        f"Some classes have fewer than {FEWEST_OF_A_KIND} patients with or without them and are left "
        "out; a mean over the others does not compare with that of all: {}.": fewer,
        f"The interval of the {name} is too wide to say anything: {{}}.": wide,
        f"The {name} lies **below** that of all records, and the intervals do not overlap: {{}}.": below,
        f"The {name} lies **above** that of all records, and the intervals do not overlap: {{}}.": above,
    }
    return [sentence.format(spoken(names)) for sentence, names in sentences.items() if names]
