"""Differences between two models: their intervals, their chance, and what cannot be compared."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from beatline.common.errors import UserError
from beatline.common.params import validated
from beatline.comparing.differences import (
    BETTER,
    SAME,
    UNDEFINED,
    WORSE,
    Compare,
    Difference,
    holm,
    independent,
    obstacle,
    paired,
)
from beatline.evaluation.estimates import Evaluate, measured
from beatline.evaluation.predictions import Predictions
from beatline.prediction import tasks

METRICS = ["auc", "pauc", "average_precision", "f1", "accuracy", "brier", "calibration_error"]


def parameters(**changed: Any) -> Compare:
    block = {
        "resamples": 400,
        "confidence": 0.95,
        "seed": 1,
        "metrics": METRICS,
        "tolerance": {"auc": 0.01},
    }
    return Compare.model_validate(block | changed)


def answered(
    labels: np.ndarray, scores: np.ndarray, task: str = "binary", groups: np.ndarray | None = None
) -> Predictions:
    """Predictions with `scores` [N, K] as logits, decided at one half."""
    classes = [f"class {k}" for k in range(labels.shape[1])]
    names = [f"record {row:05d}" for row in range(len(labels))]
    table = pd.DataFrame(
        {"record": names, "group": names if groups is None else groups.astype(str)}
    )
    table["normal"] = (labels.sum(axis=1) == 0).astype(int)
    for k, name in enumerate(classes):
        table[name] = labels[:, k].astype(int)
        table[f"{name} predicted"] = 1 / (1 + np.exp(-scores[:, k]))
        table[f"{name} decided"] = (scores[:, k] > 0).astype(int)
    return Predictions(tasks.TASKS[task], classes, [], None, table)


def two_models(
    generator: np.random.Generator, records: int, gain: float = 0.0, strength: float = 1.5
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels [N, 1] and the scores of two models that agree in part; the second is better by `gain`."""
    labels = generator.random((records, 1)) < 0.3
    common = generator.normal(size=labels.shape)
    noises = [0.8 * common + 0.6 * generator.normal(size=labels.shape) for _ in range(2)]
    return labels, noises[0] + strength * labels - 1, noises[1] + (strength + gain) * labels - 1


def delong(labels: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Standard error of the difference of two AUCs, and its two-sided p-value, by the midranks of Sun &
    Xu (IEEE Signal Processing Letters 21, 2014) after DeLong et al. (Biometrics 44, 1988)."""
    positive = labels.astype(bool)
    aucs, of_positives, of_negatives = [], [], []
    for scores in (first, second):
        x, y = scores[positive], scores[~positive]
        ranks = stats.rankdata(np.concatenate([x, y]))
        among = (ranks[: len(x)] - stats.rankdata(x)) / len(y)
        aucs.append(among.mean())
        of_positives.append(among)
        of_negatives.append(1 - (ranks[len(x) :] - stats.rankdata(y)) / len(x))
    covariance = np.cov(of_positives) / positive.sum() + np.cov(of_negatives) / (~positive).sum()
    error = math.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    return error, 2 * float(stats.norm.sf(abs(aucs[1] - aucs[0]) / error))


def of(found: list[Difference], metric: str) -> Difference:
    return next(each for each in found if each.metric == metric)


def test_p_values_are_uniform_where_there_is_no_difference() -> None:
    """A test at 5 % raises its false alarms in 5 % of the cases, at any level: the p-values of 1,000
    pairs of equally good models are uniform (Kolmogorov-Smirnov)."""
    generator, found = np.random.default_rng(1), []
    for number in range(1000):
        labels, first, second = two_models(generator, 300)
        pair = answered(labels, first), answered(labels, second)
        one = parameters(metrics=["auc"], resamples=300, seed=number)
        found.append(paired(*pair, one, 0.1)[0][0].p_value)
    assert stats.kstest(found, "uniform").pvalue > 0.01
    assert 0.03 < np.mean(np.array(found) < 0.05) < 0.07


@pytest.mark.parametrize("gain", [0.0, 0.2, 0.5])
def test_agrees_with_delong_on_single_aucs(gain: float) -> None:
    """An independent method without resampling gives the same standard error and p-value."""
    generator = np.random.default_rng(2)
    for _ in range(5):
        labels, first, second = two_models(generator, 800, gain)
        pair = answered(labels, first), answered(labels, second)
        found = of(paired(*pair, parameters(resamples=4000), 0.1)[0], "auc")
        error, p_value = delong(labels[:, 0], first[:, 0], second[:, 0])
        assert (found.high - found.low) / (2 * 1.959964) == pytest.approx(error, rel=0.06)
        assert found.p_value == pytest.approx(p_value, abs=0.03)


def test_few_positives_are_no_certainty() -> None:
    """If four records decide, chance alone must not look like evidence: a test at 0.5 % raises hardly
    any false alarms."""
    generator, found = np.random.default_rng(12), []
    for number in range(300):
        labels, first, second = two_models(generator, 150)
        labels[:] = False
        labels[:4] = True
        pair = answered(labels, first), answered(labels, second)
        one = parameters(metrics=["auc"], resamples=200, seed=number)
        found.append(paired(*pair, one, 0.1)[0][0].p_value)
    assert np.mean(np.array(found) < 0.005) < 0.02


def test_interval_holds_the_true_difference_as_often_as_it_says() -> None:
    """95 % of 400 intervals of 95 % hold the true difference of two unequal models; groups of two
    records that are alike count as one generator."""
    generator, held = np.random.default_rng(3), []
    true = float(stats.norm.cdf(1.8 / 2**0.5) - stats.norm.cdf(1.5 / 2**0.5))  # of binormal scores
    for number in range(400):
        labels, first, second = (
            np.repeat(values, 2, axis=0) for values in two_models(generator, 200, 0.3)
        )
        groups = np.arange(400) // 2
        pair = answered(labels, first, groups=groups), answered(labels, second, groups=groups)
        found = paired(*pair, parameters(metrics=["auc"], resamples=300, seed=number), 0.1)[0][0]
        held.append(found.low <= true <= found.high)
    assert 0.92 < np.mean(held) < 0.98


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_order_does_not_matter_and_swapping_turns_the_sign(seed: int) -> None:
    """The same records in another order give the same differences; after against before is minus before
    against after, with the same p-value."""
    generator = np.random.default_rng(seed)
    labels, first, second = two_models(generator, 60)
    one, other = answered(labels, first), answered(labels, second)
    shuffled = replace(other, table=other.table.sample(frac=1, random_state=seed))
    there, _ = paired(one, other, parameters(), 0.1)
    again, _ = paired(one, shuffled, parameters(), 0.1)
    back, _ = paired(other, one, parameters(), 0.1)
    assert there == again
    for each, turned in zip(there, back, strict=True):
        assert each.difference == pytest.approx(-turned.difference)
        assert each.p_value == pytest.approx(turned.p_value)
        assert each.low == pytest.approx(-turned.high)


def test_same_answers_are_no_difference() -> None:
    """If nothing differs in any resample, the interval is zero and the p-value one."""
    labels, first, _ = two_models(np.random.default_rng(5), 50)
    for each in paired(answered(labels, first), answered(labels, first), parameters(), 0.1)[0]:
        assert (each.difference, each.low, each.high, each.p_value) == (0, 0, 0, 1)


def test_parts_are_the_classes() -> None:
    """Each of several classes has its differences, whose mean is the overall one."""
    generator = np.random.default_rng(6)
    labels = generator.random((200, 3)) < 0.3
    first, second = (labels * 1.5 + generator.normal(size=labels.shape) for _ in range(2))
    one, other = (answered(labels, scores, "multilabel") for scores in (first, second))
    overall, parts = paired(one, other, parameters(), 0.1)
    assert list(parts) == ["class 0", "class 1", "class 2"]
    mean = np.mean([of(each, "auc").difference for each in parts.values()])
    assert of(overall, "auc").difference == pytest.approx(mean)


def test_detectors_are_compared_on_each_machine() -> None:
    """Sections are not pooled: the difference is the mean of those of each machine."""
    generator = np.random.default_rng(7)
    labels, first, second = two_models(generator, 120, 0.8)
    machines = np.where(np.arange(120) < 60, "id_00", "id_02")
    first, second = (scores + 9 * (machines == "id_02")[:, None] for scores in (first, second))
    pair = []
    for scores in (first, second):
        one = answered(labels, scores, "reconstruction")
        table = one.table.assign(machine_id=machines)
        pair.append(replace(one, section_column="machine_id", table=table))
    overall, parts = paired(pair[0], pair[1], parameters(), 0.1)
    assert list(parts) == ["id_00", "id_02"]
    assert of(overall, "auc").difference == pytest.approx(
        np.mean([of(each, "auc").difference for each in parts.values()])
    )
    assert {"auc", "pauc", "f1"} <= {each.metric for each in overall}
    assert "brier" not in {each.metric for each in overall}


def test_brier_is_better_when_lower() -> None:
    """A verdict knows in which direction a metric is good."""
    lower = Difference("brier", 0.2, 0.1, -0.12, -0.08, 0.001)
    assert lower.verdict(lower.p_value, 0.95) == BETTER
    assert lower.verdict(0.06, 0.95) == SAME
    assert Difference("auc", 0.9, 0.8, -0.12, -0.08, 0.001).verdict(0.001, 0.95) == WORSE
    undefined = Difference("auc", math.nan, 0.8, math.nan, math.nan, math.nan)
    assert undefined.verdict(math.nan, 0.95) == UNDEFINED


def test_obstacles_are_named() -> None:
    """Other records, labels, patients, classes or tasks are not compared, and it is said why."""
    labels, first, second = two_models(np.random.default_rng(8), 40)
    one, other = answered(labels, first), answered(labels, second)

    def changed(**columns: Any) -> Predictions:
        return replace(other, table=other.table.assign(**columns))

    assert obstacle(one, other) is None
    fewer = other.rows(np.arange(3, 40))
    assert "3 are only before and 0 only after" in why(one, fewer)
    flipped = other.table["class 0"].where(other.table.index > 1, 1 - other.table["class 0"])
    assert "2 of the 40 test records have other labels" in why(one, changed(**{"class 0": flipped}))
    assert "40 of the 40" in why(one, changed(group="one patient"))
    alone = replace(one, table=one.table.assign(group="one patient"))
    assert "1 groups of test records are too few" in why(alone, changed(group="one patient"))
    assert "another task" in why(one, answered(labels, second, "multilabel"))
    two = answered(np.hstack([labels, labels]), np.hstack([second, second]))
    assert "other classes (class 0 before, class 0, class 1 after)" in why(one, two)


def why(before: Predictions, after: Predictions) -> str:
    found = obstacle(before, after)
    assert found is not None
    return found.words


def test_stored_values_are_taken_as_independent() -> None:
    """Without predictions the errors of both sides add up, so that the interval is never too narrow."""
    labels, first, second = two_models(np.random.default_rng(9), 500, 0.4)
    one, other = answered(labels, first), answered(labels, second)
    together = of(paired(one, other, parameters(), 0.1)[0], "auc")
    before, after = stored(one), stored(other)
    apart = independent(before, after, parameters())[0]
    assert apart.difference == pytest.approx(together.difference)
    assert apart.high - apart.low > 1.2 * (together.high - together.low)
    undefined = {**before, "metrics": [dict.fromkeys(("value", "low", "high")) | {"metric": "auc"}]}
    assert math.isnan(independent(undefined, after, parameters())[0].p_value)


def test_a_rare_class_widens_what_is_stored() -> None:
    """Few positives are no certainty, in stored values either."""
    labels, first, second = two_models(np.random.default_rng(9), 500, 0.4)
    before, after = stored(answered(labels, first)), stored(answered(labels, second))
    widths = []
    for positives in (100, 3):
        rare = {**after, "parts": [{"positives": 0}, {"positives": positives}]}
        found = independent(before, rare, parameters())[0]
        widths.append(found.high - found.low)
    assert widths[1] > 1.5 * widths[0]


def stored(model: Predictions) -> dict[str, Any]:
    """The AUC's entry in a metrics file."""
    how = Evaluate(resamples=1000, confidence=0.95, max_fpr=0.1, seed=0)
    auc = {"metric": "auc", **measured(model, how)["overall"]["auc"]}
    about = {"confidence": 0.95, "records": len(model.table)}
    return {"metrics": [auc], "parts": [], "about": [about]}


@given(st.lists(st.one_of(st.floats(0, 1), st.just(math.nan)), max_size=12))
def test_holm_rejects_what_its_definition_rejects(values: list[float]) -> None:
    """At every level, the step-down procedure as Holm wrote it: the smallest of m against level / m, and
    so on until one is not rejected."""
    adjusted = holm(values)
    tested = sorted((value, place) for place, value in enumerate(values) if not math.isnan(value))
    for level in (0.01, 0.05, 0.3):
        rejected = set()
        for rank, (value, place) in enumerate(tested):
            if value * (len(tested) - rank) >= level:
                break
            rejected.add(place)
        assert {place for place, value in enumerate(adjusted) if value < level} == rejected
    assert [math.isnan(value) for value in adjusted] == [math.isnan(value) for value in values]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"metrics": ["auk"]}, "there is no metric 'auk'"),
        ({"tolerance": {"recall": 0.1}}, "tolerance names recall, which is not among the metrics"),
        ({"tolerance": {"auc": -0.1}}, "tolerance of auc must not be negative"),
        ({"resamples": 10}, "compare.resamples"),
    ],
)
def test_wrong_parameters_are_named(changed: dict[str, Any], words: str) -> None:
    """A metric that nobody measures would never close the gate."""
    block = parameters().model_dump() | changed
    with pytest.raises(UserError, match=words.replace("(", r"\(")):
        validated(block, "compare", Compare)
