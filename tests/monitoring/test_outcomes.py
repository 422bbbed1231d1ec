"""Metrics of answers with feedback are those of `evaluate`, and are worse only beyond chance."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from beatline.evaluation.estimates import FEWEST, Evaluate, measured
from beatline.evaluation.predictions import Predictions
from beatline.monitoring.answers import Feedback
from beatline.monitoring.outcomes import compared, predictions_of
from tests.monitoring.logs import BEGINNING, answer

INFO: dict[str, Any] = {
    "task": "binary",
    "classes": ["anomaly"],
    "thresholds": [0.5],
    "dataset": {"sections": None},
}
PARAMETERS = Evaluate(resamples=200, confidence=0.95, max_fpr=0.1, seed=1)


def said(count: int, seed: int, separation: float, threshold: float = 0.5) -> list[Feedback]:
    """Answers of a model whose scores of ill ones are so many deviations higher."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        ill = bool(rng.random() < 0.5)
        score = 1 / (1 + np.exp(-(rng.standard_normal() + separation * (ill - 0.5))))
        scores = np.array([score], np.float32)
        given = answer(number, scores=scores, decisions=scores > threshold, thresholds=None)
        rows.append(Feedback(given, BEGINNING, ["anomaly"] if ill else []))
    return rows


def of_tests(count: int, seed: int, separation: float = 2, threshold: float = 0.5) -> Predictions:
    """What the model has predicted of as many test records."""
    rows = said(count, seed, separation, threshold)
    return predictions_of(INFO, [each.answer for each in rows], [each.labels for each in rows])


TESTED = of_tests(400, 1000)


def lowest(rows: list[Feedback], tests: Predictions) -> float:
    return min(each.p for each in compared(INFO, rows, tests, PARAMETERS))


def test_metrics_are_those_of_others() -> None:
    rows = said(200, 0, 2)
    labels = [len(each.labels) for each in rows]
    expected = roc_auc_score(labels, [each.answer.scores[0] for each in rows])
    (auc,) = (each for each in compared(INFO, rows, TESTED, PARAMETERS) if each.metric == "auc")
    assert auc.value == pytest.approx(expected) and auc.low < auc.value < auc.high
    of_test = measured(TESTED, PARAMETERS)["overall"]["auc"]
    assert (auc.test, auc.test_low, auc.test_high) == pytest.approx(tuple(of_test.values()))


def test_a_model_that_is_worse_is_told_and_one_that_is_not_is_not() -> None:
    """Two deviations make an AUC of 0.92 and an accuracy of 0.84; none is guessing."""
    assert max(lowest(said(150, seed, 0.5), TESTED) for seed in range(10)) < 0.05
    usual = [lowest(said(150, seed, 2), of_tests(400, 2000 + seed)) for seed in range(40)]
    assert np.mean(np.array(usual) < 0.05) <= 0.15


def test_few_answers_raise_no_more_alarms_than_many() -> None:
    """Of 100 windows of 20 answers, drawn as the test records are, by a model that decides for few, about
    5 % are told to be worse: by intervals alone it is many times that, for they have no width where none
    of the answers is right."""
    alarms = [
        lowest(said(20, seed, 1, 0.8), of_tests(150, 5000 + seed, 1, 0.8)) < 0.05
        for seed in range(100)
    ]
    assert np.mean(alarms) <= 0.1


def test_classes_of_few_answers_are_not_judged() -> None:
    """AUC and F1 of window and test records are of the same classes, those with five answers of either
    kind; without a class there is neither, and the accuracy is of all."""
    info = {**INFO, "task": "multilabel", "classes": ["MI", "CD"], "thresholds": [0.5, 0.5]}
    rng = np.random.default_rng(0)
    scores = rng.random((100, 2), np.float32)
    labels = [[*(["MI"] if one < 0.5 else [])] for one in scores[:, 1]]
    for given in labels[:4]:
        given.append("CD")
    answers = [answer(k, scores=row, decisions=row > 0.5) for k, row in enumerate(scores)]
    rows = [Feedback(*pair) for pair in zip(answers, [BEGINNING] * 100, labels, strict=True)]
    tests = predictions_of(info, answers, [["MI", "CD"][: k % 3] for k in range(100)])
    found = {each.metric: each for each in compared(info, rows, tests, PARAMETERS)}
    positive = ["MI" in given for given in labels]
    assert found["auc"].value == pytest.approx(roc_auc_score(positive, scores[:, 0]))
    assert found["f1"].test == pytest.approx(
        f1_score([k % 3 > 0 for k in range(100)], scores[:, 0] > 0.5)
    )
    assert found["accuracy"].test == pytest.approx((tests.targets == tests.decisions).mean())


def test_few_patients_are_no_verdict() -> None:
    """Nine patients with many recordings each tell metrics, and not whether these are chance."""
    rows = [
        replace(each, answer=replace(each.answer, entity=str(number % 9)))
        for number, each in enumerate(said(150, 0, 0))
    ]
    found = compared(INFO, rows, TESTED, PARAMETERS)
    assert {each.metric for each in found} == {"auc", "f1", "accuracy"}
    assert all(np.isnan(each.p) for each in found)


def test_few_or_one_sided_feedback_tells_nothing() -> None:
    """Fewer than are measured anywhere; an AUC of one class alone is none."""
    assert compared(INFO, said(FEWEST - 1, 0, 2), TESTED, PARAMETERS) == []
    normal = [each for each in said(100, 0, 2) if not each.labels]
    metrics = {each.metric for each in compared(INFO, normal, TESTED, PARAMETERS)}
    assert metrics == {"accuracy"}
