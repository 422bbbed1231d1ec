"""Metrics of answers that experts have said more about, against those of the test records."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from beatline.evaluation import estimates, predictions
from beatline.evaluation.estimates import SCALARS, Evaluate
from beatline.evaluation.predictions import Predictions
from beatline.monitoring.answers import Answer, Feedback
from beatline.monitoring.rows import ANOMALY
from beatline.monitoring.two_samples import holm

FEWEST = estimates.FEWEST  # answers with feedback


@dataclass(frozen=True)
class Outcome:
    """A metric of the window within `low` and `high`, and of the `test` records. `p`: of one that is no
    worse, corrected for the number of metrics (Holm)."""

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
    tested: Mapping[str, Mapping[str, float | None]],
    parameters: Evaluate,
) -> list[Outcome]:
    """Compare answers, of which experts have `said` more, with the `tested` metrics of the same bundle;
    nothing if there are fewer than FEWEST, or where a metric is not defined.

    Both intervals count: the difference is as far from 0 as a normal one of their widths together.
    """
    if model_info["dataset"].get("sections"):  # no metric pools machines: an entity is one
        said = [each for each in said if each.answer.entity]
    if len(said) < FEWEST:
        return []
    measured = estimates.measured(_of_feedback(model_info, said), parameters)["overall"]
    pairs = {
        name: {**measured[name], **{f"test_{key}": tested[name][key] for key in tested[name]}}
        for name in SCALARS
        if name in measured and name in tested
    }
    known = {name: pair for name, pair in pairs.items() if _are_known([*pair.values()])}
    quantile = float(stats.norm.isf((1 - parameters.confidence) / 2))
    p = [_of_no_worse(pair, quantile) for pair in known.values()]
    return [
        Outcome(
            metric=name,
            value=float(pair["value"]),
            low=float(pair["low"]),
            high=float(pair["high"]),
            test=float(pair["test_value"]),
            test_low=float(pair["test_low"]),
            test_high=float(pair["test_high"]),
            p=float(corrected),
        )
        for (name, pair), corrected in zip(known.items(), holm(np.array(p)), strict=True)
    ]


def _are_known(values: list[Any]) -> bool:
    return all(value is not None and np.isfinite(value) for value in values)


def _of_no_worse(pair: Mapping[str, Any], quantile: float) -> float:
    widths = [pair[f"{of}high"] - pair[f"{of}low"] for of in ("", "test_")]
    error = float(np.hypot(*widths)) / (2 * quantile)
    difference = pair["value"] - pair["test_value"]
    return float(stats.norm.cdf(difference / error)) if error else float(difference >= 0)


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
