"""Metrics of answers with feedback are those of `evaluate`, and are worse only beyond chance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from beatline.evaluation.estimates import Evaluate
from beatline.monitoring.answers import Feedback
from beatline.monitoring.outcomes import FEWEST, compared
from tests.monitoring.logs import BEGINNING, answer

INFO: dict[str, Any] = {
    "task": "binary",
    "classes": ["anomaly"],
    "thresholds": [0.5],
    "dataset": {"sections": None},
}
PARAMETERS = Evaluate(resamples=200, confidence=0.95, max_fpr=0.1, seed=1)
TESTED = {
    "auc": {"value": 0.93, "low": 0.91, "high": 0.95},
    "accuracy": {"value": 0.85, "low": 0.82, "high": 0.88},
}


def said(count: int, seed: int, separation: float) -> list[Feedback]:
    """Answers of a model whose scores of ill ones are so many deviations higher."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        ill = bool(rng.random() < 0.5)
        score = 1 / (1 + np.exp(-(rng.standard_normal() + separation * (ill - 0.5))))
        scores = np.array([score], np.float32)
        given = answer(number, scores=scores, decisions=scores > 0.5, thresholds=None)
        rows.append(Feedback(given, BEGINNING, ["anomaly"] if ill else []))
    return rows


def test_metrics_are_those_of_others() -> None:
    rows = said(200, 0, 2)
    labels = [len(each.labels) for each in rows]
    expected = roc_auc_score(labels, [each.answer.scores[0] for each in rows])
    (auc,) = (each for each in compared(INFO, rows, TESTED, PARAMETERS) if each.metric == "auc")
    assert auc.value == pytest.approx(expected) and auc.low < auc.value < auc.high
    assert (auc.test, auc.test_low, auc.test_high) == (0.93, 0.91, 0.95)


def test_a_model_that_is_worse_is_told_and_one_that_is_not_is_not() -> None:
    """Two deviations make an AUC of 0.92 and an accuracy of 0.84; none is guessing."""
    worse = [
        min(each.p for each in compared(INFO, said(150, seed, 0.5), TESTED, PARAMETERS))
        for seed in range(10)
    ]
    usual = [
        min(each.p for each in compared(INFO, said(150, seed, 2), TESTED, PARAMETERS))
        for seed in range(40)
    ]
    assert max(worse) < 0.05
    assert np.mean(np.array(usual) < 0.05) <= 0.15


def test_few_or_one_sided_feedback_tells_nothing() -> None:
    """Fewer than are measured anywhere; an AUC of one class alone is none."""
    assert compared(INFO, said(FEWEST - 1, 0, 2), TESTED, PARAMETERS) == []
    normal = [each for each in said(100, 0, 2) if not each.labels]
    metrics = {each.metric for each in compared(INFO, normal, TESTED, PARAMETERS)}
    assert metrics == {"accuracy"}
