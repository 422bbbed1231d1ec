"""Differences between two models: their intervals, their chance, and what cannot be compared."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
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
    Compare,
    Difference,
    Error,
    error_of_mean,
    independent,
    obstacle,
    paired,
    simultaneous,
    with_seeds,
)
from beatline.evaluation.estimates import Evaluate, about, measured
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
    """A test at 5 % raises its false alarms in 5 % of the cases, at any level: the p-values of 500
    pairs of equally good models are uniform (Kolmogorov-Smirnov)."""
    generator, found = np.random.default_rng(1), []
    for number in range(500):
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
        assert found.standard_error == pytest.approx(error, rel=0.06)
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
        held.append(abs(true - found.difference) <= found.reach(0.05))
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
        assert each.standard_error == pytest.approx(turned.standard_error)


def test_same_answers_are_no_difference() -> None:
    """If nothing differs in any resample, the interval lies around zero and the p-value is one."""
    labels, first, _ = two_models(np.random.default_rng(5), 50)
    family = paired(answered(labels, first), answered(labels, first), parameters(), 0.1)[0]
    for found in simultaneous(family, 0.95, 1):
        assert found.low == -found.high < 0
        assert found.p_value == 1


@pytest.mark.parametrize("records", [30, 3000])
def test_what_never_differs_has_an_interval_of_its_own(records: int) -> None:
    """Two models rank all records right, with other scores: AUC and accuracy are 1 in every resample, and
    that is no proof that they are the same. Of 30 records, a loss of 0.05 was likely not to be seen."""
    labels = np.arange(records)[:, None] % 2 == 0
    scores = np.where(labels, 1.0, -1.0)
    overall, _ = paired(answered(labels, scores), answered(labels, 2 * scores), parameters(), 0.1)
    same = [each for each in overall if each.metric in ("auc", "accuracy")]
    for each, found in zip(same, simultaneous(same, 0.95, 1), strict=True):
        number = records if each.metric == "accuracy" else records // 2
        assert found.high == -found.low == pytest.approx(-math.log(0.05) / number, rel=0.01)
        assert found.p_value == 1


def test_intervals_end_where_differences_do() -> None:
    """Of a handful of records a metric may be anything, and no more than that: from 0 to 1."""
    rows = [
        Difference("f1", 0.2, 0.9, Error(0.13, 30)),
        Difference("auc", 0.5, 0.5, Error(2.0, 4)),
        Difference("accuracy", 0.5, 0.6, Error(1e-4, 1e6)),
    ]
    (f1, auc, accuracy) = simultaneous(rows, 0.95, 1)
    assert (-1 < f1.low < 0 and f1.high == 1) and auc[:2] == (-1, 1)
    assert accuracy.high - 0.1 == pytest.approx(0.1 - accuracy.low)


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
    assert apart.reach(0.05) > 1.2 * together.reach(0.05)
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
        widths.append(found.reach(0.05))
    assert widths[1] > 1.5 * widths[0]


@pytest.mark.parametrize("counted", [True, False])
def test_stored_values_are_judged_by_patients(counted: bool) -> None:
    """Twelve patients of many records each, of whom four have a class, have the degrees of freedom that a
    comparison with predictions has; where a file is from before patients were counted, of its records."""
    labels, first, second = two_models(np.random.default_rng(9), 480, 0.4)
    groups = np.arange(480) % 12
    labels[groups >= 4] = False
    one, other = (answered(labels, scores, groups=groups) for scores in (first, second))
    files = [stored(each) for each in (one, other)]
    if counted:
        how = Evaluate(resamples=100, confidence=0.95, max_fpr=0.1, seed=0)
        for each in files:
            each["about"] = [about(one, how, 1, Path(__file__))]
    (apart,) = independent(files[0], files[1], parameters(metrics=["auc"]))
    together = of(paired(one, other, parameters(), 0.1)[0], "auc")
    assert together.records.degrees == 3
    assert apart.records.degrees == (3 if counted else 479)


def test_means_over_other_classes_are_undefined() -> None:
    """A class that one side has not measured would be the difference."""
    labels, first, _ = two_models(np.random.default_rng(9), 500)
    before = stored(answered(labels, first))
    parts = [{"class": name, "auc": 0.9} for name in ("MI", "CD")]
    after = {**before, "parts": [parts[0], {**parts[1], "auc": None}]}
    for other, defined in ((after, False), ({**before, "parts": parts}, True)):
        (each,) = independent({**before, "parts": parts}, other, parameters(metrics=["auc"]))
        assert math.isnan(each.p_value) != defined


def stored(model: Predictions) -> dict[str, Any]:
    """The AUC's entry in a metrics file."""
    how = Evaluate(resamples=1000, confidence=0.95, max_fpr=0.1, seed=0)
    auc = {"metric": "auc", **measured(model, how)["overall"]["auc"]}
    records = {"confidence": 0.95, "records": len(model.table)}
    return {"metrics": [auc], "parts": [], "about": [records]}


def family(generator: np.random.Generator, size: int) -> list[Difference]:
    """Differences that are correlated, some with few degrees of freedom, some with a variance between
    seeds, some taken as independent."""
    common = generator.normal(size=(400, 1))
    rows = []
    for k, noise in enumerate(generator.normal(size=(size, 400))):
        resampled = 0.01 * (common[:, 0] * generator.random() + noise)
        records = Error(float(resampled.var(ddof=1)), int(generator.integers(3, 300)))
        seeds = (Error(1e-4 * generator.random(), 2),) if k % 3 == 1 else ()
        deviations = None if k % 4 == 3 else resampled - resampled.mean()
        rows.append(
            Difference("auc", 0.9, 0.9 + 0.04 * generator.normal(), records, seeds, deviations)
        )
    return rows


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    size=st.integers(1, 12),
    confidence=st.sampled_from([0.5, 0.9, 0.95, 0.99]),
)
def test_an_interval_leaves_out_zero_just_when_its_p_value_is_small(
    seed: int, size: int, confidence: float
) -> None:
    """Interval and adjusted p-value are two views of one distribution, so that words and numbers cannot
    contradict each other; and an adjustment never makes evidence stronger."""
    differences = family(np.random.default_rng(seed), size)
    for each, result in zip(differences, simultaneous(differences, confidence, 1), strict=True):
        leaves_out_zero = result.low > 0 or result.high < 0
        assert leaves_out_zero == (result.p_value < 1 - confidence)
        assert (result.low + result.high) / 2 == pytest.approx(each.difference)
        assert each.p_value - 0.005 <= result.p_value
        assert result.p_value <= 1 - (1 - each.p_value) ** size + 0.005


def test_what_says_the_same_is_counted_once() -> None:
    """Two metrics that move together need no more evidence than one, two that are independent do, and
    what is undefined or never differs does not count."""
    generator = np.random.default_rng(3)
    first, second = (values - values.mean() for values in generator.normal(size=(2, 400)))

    def adjusted(*deviations: np.ndarray) -> float:
        rows = [Difference("auc", 0, 2.2, Error(1, 1e6), (), each) for each in deviations]
        nothing = (
            Difference("auc", 0.9, 0.9, Error(0, 9)),
            Difference("f1", 0, 1, Error(math.nan, 9)),
        )
        results = simultaneous([*rows, *nothing], 0.95, 1)
        assert results[-2].p_value == 1
        assert all(map(math.isnan, results[-1]))
        return results[0].p_value

    alone = 2 * float(stats.norm.sf(2.2))
    assert adjusted(first) == pytest.approx(alone, abs=0.001)
    assert adjusted(first, first) == pytest.approx(alone, abs=0.001)
    assert adjusted(first, second) == pytest.approx(1 - (1 - alone) ** 2, abs=0.002)


def test_families_raise_a_false_alarm_as_rarely_as_one_comparison() -> None:
    """Of 2,000 families of six differences, of which none is real, one interval or more leaves out zero
    in 5 %."""
    generator = np.random.default_rng(4)
    mixed = 0.05 * generator.normal(size=(400, 6)) @ (np.eye(6) + 0.5)
    mixed -= mixed.mean(axis=0)
    covariance = np.cov(mixed, rowvar=False)
    rows = [
        Difference("auc", 0, 0, Error(covariance[k, k], 1e6), (), mixed[:, k]) for k in range(6)
    ]
    reach = np.array([result.high for result in simultaneous(rows, 0.95, 1)])
    estimates = generator.multivariate_normal(np.zeros(6), covariance, size=2000)
    assert 0.04 < np.mean((np.abs(estimates) > reach).any(axis=1)) < 0.06


def test_seeds_are_means_with_their_variance() -> None:
    """With several seeds the means are compared; as often as promised, 95 % of 1,000 intervals hold the
    true difference although seeds vary more than records do. Whoever has one seed varies as the other."""
    generator, held = np.random.default_rng(5), []
    for before_seeds, after_seeds in [(3, 3), (5, 2), (1, 4)] * 333:
        before, after = (
            generator.normal(0.9, 0.02, size=number) for number in (before_seeds, after_seeds)
        )
        error = 0.01 * generator.normal()
        one = Difference("auc", before[0], after[0] + error, Error(1e-4, 200))
        found = with_seeds(one, before.tolist(), (after + error).tolist())
        held.append(abs(found.difference) <= found.reach(0.05))
    assert 0.93 < np.mean(held) < 0.985
    alone = Difference("auc", 0.9, 0.8, Error(1e-4, 200))
    assert with_seeds(alone, [0.9], [0.8]) is alone


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"metrics": ["auk"]}, "'auk'.*did you mean auc.*brier"),
        ({"tolerance": {"recall": 0.1}}, "tolerance names recall, which is not among the metrics"),
        ({"tolerance": {"auc": -0.1}}, "tolerance of auc must not be negative"),
        ({"resamples": 10}, "compare.resamples"),
        ({"cannot_tell": "maybe"}, "compare.cannot_tell"),
    ],
)
def test_wrong_parameters_are_named(changed: dict[str, Any], words: str) -> None:
    """A metric that nobody measures would never close the gate."""
    block = parameters().model_dump() | changed
    with pytest.raises(UserError, match=words):
        validated(block, "compare", Compare)


def test_a_mean_of_networks_has_a_metric_of_its_own() -> None:
    """And varies less than one of them: as the mean of their metrics does."""
    each = Difference("auc", 0.90, 0.93, Error(1e-4, 99))
    single, members = [0.90, 0.88, 0.92], [0.89, 0.90, 0.94]
    found = with_seeds(each, single, members, (False, True))
    assert (found.before, found.after) == (pytest.approx(0.90), 0.93)
    assert found.seeds == (error_of_mean(np.array(single)), error_of_mean(np.array(members)))
    plain = with_seeds(each, single, members)
    assert plain.after == pytest.approx(np.mean(members)) and plain.seeds == found.seeds


def test_precision_is_compared_over_what_both_decide() -> None:
    """A class that one model never decides has no precision; the means are over the other classes, so
    that nothing is gained or lost by leaving it out."""
    generator = np.random.default_rng(6)
    labels = generator.random((200, 3)) < 0.3
    scores = labels * 1.5 + generator.normal(size=labels.shape)
    never = scores - [0, 0, 99]
    one, other = (answered(labels, each, "multilabel") for each in (scores, never))
    for pair in ((one, other), (other, one)):
        overall, parts = paired(*pair, parameters(metrics=["auc", "precision", "recall"]), 0.1)
        assert of(overall, "precision").difference == 0
        assert math.isnan(of(parts["class 2"], "precision").difference)
        assert of(overall, "recall").difference != 0
