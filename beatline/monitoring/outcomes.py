"""Metrics of answers that experts have said more about, against those of the test records.

A window of few answers has metrics that scatter more than any interval of them says, so it is compared
with windows of the same make-up that are drawn from both together: within the records of the same labels
(and section), who belongs to the window is chance if the model is as good as before (Fisher 1935, "The
Design of Experiments"). That takes each record as drawn by itself; the intervals of both, by patients,
do not, and the larger p-value counts.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from beatline.evaluation import bootstrap, predictions
from beatline.evaluation.estimates import (
    FEWEST,
    FEWEST_GROUPS,
    FEWEST_OF_A_KIND,
    SCALARS,
    Evaluate,
)
from beatline.evaluation.predictions import Predictions
from beatline.metrics import Array
from beatline.monitoring.answers import Answer, Feedback
from beatline.monitoring.rows import ANOMALY
from beatline.monitoring.two_samples import holm, p_values

PERMUTATIONS = 3999  # three metrics at a level of 0.001
MOST = 2000  # answers that are dealt anew: of more, intervals tell as much
DIGITS = 9  # that count: sums in another order differ in the last

Interval = tuple[float, float, float]
"""A value, and the low and high end of its interval."""


@dataclass(frozen=True)
class Outcome:
    """A metric of the window within `low` and `high`, and of the `test` records. `p`: of one that is no
    worse, corrected for the number of metrics (Holm); NaN where there are too few to judge by."""

    metric: str
    value: float
    low: float
    high: float
    test: float
    test_low: float
    test_high: float
    p: float


def compared(
    model_info: Mapping[str, Any],
    said: Sequence[Feedback],
    tested: Predictions,
    parameters: Evaluate,
) -> list[Outcome]:
    """Compare answers, of which experts have `said` more, with what the same bundle has predicted of the
    test records; nothing if there are fewer than FEWEST, or where a metric is not defined.

    AUC and F1 of both are means over the classes (or machines) of which the window has FEWEST_OF_A_KIND
    records, of as many patients, with and without: of fewer, one answer decides.
    """
    if model_info["dataset"].get("sections"):  # no metric pools machines: an entity is one
        said = [each for each in said if each.answer.entity]
    if len(said) < FEWEST:
        return []
    window = _of_feedback(model_info, said)
    counted = _counted(window, tested)
    of_window, of_test = (_intervals(each, counted, parameters) for each in (window, tested))
    pairs = {name: (of_window[name], of_test[name]) for name in of_window}
    pairs = {name: pair for name, pair in pairs.items() if np.isfinite(pair).all()}
    p = _of_no_worse(window, tested, counted, pairs, parameters)
    return [Outcome(name, *pair[0], *pair[1], p=p[name]) for name, pair in pairs.items()]


def _counted(window: Predictions, tested: Predictions) -> dict[str, list[str]]:
    """Return the names of the parts that each metric is the mean of, in window and test records alike."""
    of_window, of_test = ({facet.name: facet for facet in each.facets} for each in (window, tested))
    groups = window.table["group"].to_numpy(str)
    shared = [name for name in of_window if name in of_test]
    both = []
    for name in shared:
        facet = of_window[name]
        kinds = [len(np.unique(groups[facet.inside][facet.targets == target])) for target in (0, 1)]
        if min(kinds) >= FEWEST_OF_A_KIND and len(np.unique(of_test[name].targets)) == 2:
            both.append(name)
    return {"auc": both, "f1": both, "accuracy": shared}


def _values(
    measured: Predictions, weights: np.ndarray, counted: Mapping[str, list[str]], max_fpr: float
) -> dict[str, Array]:
    """Return each metric with each of the `weights` `[R, N]`: `[R]`."""
    every = bootstrap.measure(measured, weights, max_fpr)
    values = {}
    for name in SCALARS:
        names = counted[name]
        if not every.parts or (name == "accuracy" and measured.exclusive):
            values |= {name: every.overall[name]} if names else {}
        elif names:
            values[name] = np.mean([every.parts[part][name] for part in names], axis=0)
    return values


def _intervals(
    measured: Predictions, counted: Mapping[str, list[str]], parameters: Evaluate
) -> dict[str, Interval]:
    groups = measured.table["group"].to_numpy()
    weights = bootstrap.once_and_resampled(groups, parameters.resamples, parameters.seed)
    intervals = {}
    for name, values in _values(measured, weights, counted, parameters.max_fpr).items():
        low, high = bootstrap.percentile_interval(values[1:], parameters.confidence)
        intervals[name] = (float(values[0]), float(low), float(high))
    return intervals


def _of_no_worse(
    window: Predictions,
    tested: Predictions,
    counted: Mapping[str, list[str]],
    pairs: Mapping[str, tuple[Interval, Interval]],
    parameters: Evaluate,
) -> dict[str, float]:
    """Return the p-value of each metric of `pairs`, corrected for their number."""
    if min(len(set(each.table["group"])) for each in (window, tested)) < FEWEST_GROUPS:
        return dict.fromkeys(pairs, np.nan)
    quantile = float(stats.norm.isf((1 - parameters.confidence) / 2))
    p = [_by_intervals(*pair, quantile) for pair in pairs.values()]
    if len(window.table) <= MOST:
        dealt = _dealt_anew(window, tested, counted, parameters)
        p = [max(each, dealt[name]) for each, name in zip(p, pairs, strict=True)]
    return dict(zip(pairs, holm(np.array(p)).tolist(), strict=True))


def _by_intervals(window: Interval, test: Interval, quantile: float) -> float:
    """The difference is as far from 0 as a normal one of both widths together."""
    widths = [high - low for _, low, high in (window, test)]
    error = math.hypot(*widths) / (2 * quantile)
    difference = window[0] - test[0]
    return float(stats.norm.cdf(difference / error)) if error else float(difference >= 0)


def _dealt_anew(
    window: Predictions,
    tested: Predictions,
    counted: Mapping[str, list[str]],
    parameters: Evaluate,
) -> dict[str, float]:
    """Return how often a window of the same labels, dealt from both together, is as bad, by metric."""
    columns = [name for name in tested.table.columns if name in window.table.columns]
    tables = [each.table[columns] for each in (tested, window)]
    pooled = replace(window, table=pd.concat(tables, ignore_index=True))
    kinds = [*window.classes, *([window.section_column] if window.section_column else [])]
    strata = pooled.table.groupby(kinds, sort=False).ngroup().to_numpy()
    observed = np.arange(len(pooled.table)) >= len(tested.table)
    inside = np.repeat(observed[None], 1 + PERMUTATIONS, axis=0)
    rng = np.random.default_rng(parameters.seed)
    for stratum in np.unique(strata):
        columns_of_it = np.flatnonzero(strata == stratum)
        inside[1:, columns_of_it] = rng.permuted(inside[1:, columns_of_it], axis=1)
    values = _values(pooled, inside, counted, parameters.max_fpr)
    return {name: float(p_values(-np.round(value, DIGITS))[0]) for name, value in values.items()}


def predictions_of(
    model_info: Mapping[str, Any], answers: Sequence[Answer], labels: Sequence[Collection[str]]
) -> Predictions:
    """Return answers about recordings as predictions, with the `labels` that experts have given each."""
    records: dict[str, Any] = {
        "record": [answer.beside or answer.id for answer in answers],
        "group": [answer.entity or answer.beside or answer.id for answer in answers],
        "normal": [int(ANOMALY not in names) for names in labels],
    }
    for name in model_info["classes"]:
        records[name] = [int(name in names) for names in labels]
    if sections := model_info["dataset"].get("sections"):
        records["group"] = records["record"]  # as in a data set of machines
        records[sections] = [answer.entity or "unknown" for answer in answers]
    values, decisions = (
        np.stack([getattr(answer, name) for answer in answers]) for name in ("scores", "decisions")
    )
    return predictions.made(model_info, values, decisions.astype(np.int8), pd.DataFrame(records))


def _of_feedback(model_info: Mapping[str, Any], said: Sequence[Feedback]) -> Predictions:
    return predictions_of(
        model_info, [each.answer for each in said], [each.labels for each in said]
    )
