"""Metrics and their bootstrap against scikit-learn, and against resamples that are written out."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import hmean
from sklearn import metrics as sk

from beatline import metrics
from beatline.evaluation import bootstrap
from beatline.evaluation.bootstrap import resampled
from beatline.evaluation.estimates import Evaluate, measured
from beatline.evaluation.predictions import Predictions
from beatline.prediction import tasks

EXACT: dict[str, Any] = {"rtol": 0, "atol": 1e-12, "equal_nan": True}
ZERO_DIVISION: dict[str, Any] = {"average": "binary", "zero_division": 0}


@st.composite
def _predictions(draw: st.DrawFn, classes: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities [N, classes]; few distinct probabilities mean many ties."""
    records = draw(st.integers(2, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = rng.random((records, classes)) < draw(st.sampled_from([0.05, 0.3, 0.5, 0.95]))
    scores = rng.random((records, classes)) + labels * draw(st.sampled_from([0.0, 0.5]))
    steps = draw(st.sampled_from([1, 3, 10, 10**6]))
    return labels.astype(np.int8), np.round(scores / 1.5 * steps) / steps


def _has_both(labels: np.ndarray) -> bool:
    return 0 < labels.sum() < len(labels)


def _simulated(
    records: int, classes: int, seed: int, distinct: int = 50
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.random((records, classes)) < 0.3
    logits = rng.normal(size=labels.shape) + 1.2 * labels - 0.8
    return labels, np.round(distinct / (1 + np.exp(-logits))) / distinct


# ---------------------------------------------------------------- point metrics


@given(_predictions())
@settings(max_examples=150)
def test_ranking_metrics_equal_scikit_learn(data: tuple[np.ndarray, np.ndarray]) -> None:
    """AUC, partial AUC and average precision, with ties; NaN where a class has one value only."""
    labels, scores = data
    auc, ap = metrics.roc_auc(labels, scores), metrics.average_precision(labels, scores)
    if not _has_both(labels):
        assert np.isnan([*auc, *ap, *metrics.partial_auc(labels, scores)]).all()
        return
    assert_allclose(auc, sk.roc_auc_score(labels, scores), **EXACT)
    assert_allclose(ap, sk.average_precision_score(labels[:, 0], scores[:, 0]), **EXACT)
    for max_fpr in (0.01, 0.1, 0.5, 1.0):
        expected = sk.roc_auc_score(labels[:, 0], scores[:, 0], max_fpr=max_fpr)
        assert_allclose(metrics.partial_auc(labels, scores, max_fpr), expected, **EXACT)


@given(_predictions(), st.floats(0, 1))
@settings(max_examples=80)
def test_decision_metrics_equal_scikit_learn(
    data: tuple[np.ndarray, np.ndarray], threshold: float
) -> None:
    """Counts, precision, recall, F1 and accuracy; a recall of nothing is 0, a precision of no decision is
    none."""
    labels, scores = data
    y, decisions = labels[:, 0], (scores >= threshold).astype(int)
    table = metrics.confusion(labels, decisions)
    counts = sk.confusion_matrix(y, decisions[:, 0], labels=[0, 1]).ravel()
    assert_array_equal([table.tn, table.fp, table.fn, table.tp], counts[:, None])
    _, recall, f1, _ = sk.precision_recall_fscore_support(y, decisions[:, 0], **ZERO_DIVISION)
    precision = sk.precision_score(y, decisions[:, 0], zero_division=cast(Any, np.nan))
    assert_allclose(metrics.precision(table), precision, **EXACT)
    assert_allclose(metrics.recall(table), recall, **EXACT)
    assert_allclose(metrics.f1(table), f1, **EXACT)
    assert_allclose(metrics.accuracy(table), sk.accuracy_score(y, decisions[:, 0]), **EXACT)


@given(_predictions())
@settings(max_examples=50)
def test_brier_equals_scikit_learn(data: tuple[np.ndarray, np.ndarray]) -> None:
    """The squared error is of the probability of the class, not of the decision."""
    labels, p = data
    expected = sk.brier_score_loss(labels[:, 0], p[:, 0], pos_label=1)
    assert_allclose(metrics.brier(labels, p), expected, **EXACT)


@given(_predictions(), st.integers(1, 20))
@settings(max_examples=50)
def test_calibration_points_follow_their_definition(
    data: tuple[np.ndarray, np.ndarray], bins: int
) -> None:
    """Bin by bin as Guo et al. write it, a probability on an edge in the lower bin."""
    labels, p = data
    edges = np.linspace(0, 1, bins + 1)
    expected = []
    for m in range(bins):
        members = (p > edges[m]) & (p <= edges[m + 1]) | ((m == 0) & (p == 0))
        if members.any():
            expected.append((p[members].mean(), labels[members].mean(), members.sum()))
    found = metrics.calibration_points(labels[:, 0], p[:, 0], bins)
    assert_allclose(np.transpose(found), expected, **EXACT)


def test_multiclass_accuracy_is_the_fraction_that_is_right() -> None:
    """Exclusive classes: not the (higher) mean accuracy of one class against the rest."""
    rng = np.random.default_rng(0)
    truth, decided = rng.integers(4, size=(2, 100))
    one_hot = np.eye(4, dtype=int)
    value = metrics.multiclass_accuracy(one_hot[truth], one_hot[decided])
    assert_allclose(value, sk.accuracy_score(truth, decided), **EXACT)
    with pytest.raises(ValueError, match="exactly one"):
        metrics.multiclass_accuracy([[1, 1], [0, 1]], [[1, 0], [0, 1]])


@given(_predictions(classes=3), st.integers(0, 1000))
@settings(max_examples=30)
def test_order_of_records_does_not_matter(data: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    """Ties must not be broken by the position of a record, and classes must not be mixed."""
    labels, p = data
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    for metric in (
        metrics.roc_auc,
        metrics.partial_auc,
        metrics.average_precision,
        metrics.brier,
        metrics.choose_thresholds,
    ):
        assert_allclose(metric(labels[shuffled], p[shuffled]), metric(labels, p), **EXACT)


def test_bad_input_is_refused() -> None:
    """A diverged model (NaN), a wrong shape or class numbers as labels give no quiet number."""
    with pytest.raises(ValueError, match="finite"):
        metrics.roc_auc([[0], [1]], [[0.1], [np.nan]])
    with pytest.raises(ValueError, match=r"\[N, K\]"):
        metrics.roc_auc([0, 1], [0.1, 0.2])
    with pytest.raises(ValueError, match="0 or 1"):
        metrics.roc_auc([[0], [2]], [[0.1], [0.2]])
    with pytest.raises(ValueError, match="no records"):
        metrics.roc_auc(np.empty((0, 1)), np.empty((0, 1)))
    with pytest.raises(ValueError, match="between 0 and 1"):
        metrics.brier([[0], [1]], [[0.1], [1.2]])
    with pytest.raises(ValueError, match="decisions must be"):
        metrics.confusion([[0], [1]], [[0.1], [0.9]])
    with pytest.raises(ValueError, match="weights"):
        metrics.roc_auc([[0], [1]], [[0.1], [0.2]], weights=np.ones((4, 3)))
    with pytest.raises(ValueError, match="max_fpr"):
        metrics.partial_auc([[0], [1]], [[0.1], [0.2]], max_fpr=0)


# ---------------------------------------------------------------- thresholds


@given(_predictions())
@settings(max_examples=100)
def test_thresholds_reach_the_best_f1_there_is(data: tuple[np.ndarray, np.ndarray]) -> None:
    """No threshold of scikit-learn's precision-recall curve has a larger F1."""
    labels, p = data
    threshold = metrics.choose_thresholds(labels, p)
    if not _has_both(labels):
        assert_array_equal(threshold, [0.5])
        return
    precision, recall, _ = sk.precision_recall_curve(labels[:, 0], p[:, 0])
    best = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-300))
    assert_allclose(metrics.f1(metrics.confusion(labels, p >= threshold)), best, **EXACT)
    assert 0 <= threshold[0] <= 1


def test_thresholds_lie_midway_in_the_widest_gap() -> None:
    """Validation scores leave a range of equally good thresholds: take its safest point."""
    p = np.array([[0.1], [0.2], [0.6], [0.9]])
    assert_allclose(metrics.choose_thresholds([[0], [0], [1], [1]], p), [0.4], **EXACT)
    # F1 = 2/3 for calling 0.9 alone positive, and for calling all four, but in a narrower gap.
    assert_allclose(metrics.choose_thresholds([[1], [0], [0], [1]], p), [0.75], **EXACT)
    p = np.array([[0.3], [0.5], [0.8], [0.9]])
    assert_allclose(metrics.choose_thresholds([[1], [0], [0], [1]], p), [0.2], **EXACT)
    beside = np.array([[0.5], [np.nextafter(0.5, 1)]])
    assert metrics.choose_thresholds([[0], [1]], beside)[0] == beside[1, 0]


def test_percentile_threshold_lets_few_normals_pass() -> None:
    """5 per cent false alarms among the normal records it was taken from."""
    scores = np.random.default_rng(0).normal(size=1000)
    assert np.mean(scores >= metrics.percentile_threshold(scores)) == pytest.approx(0.05)
    with pytest.raises(ValueError, match="at least one"):
        metrics.percentile_threshold([])


# ---------------------------------------------------------------- points of curves


@given(_predictions())
@settings(max_examples=60)
def test_short_curves_are_the_whole_curve(data: tuple[np.ndarray, np.ndarray]) -> None:
    """Dropping points on straight lines keeps the area, the ends, and true thresholds."""
    labels, scores = data[0][:, 0], data[1][:, 0]
    roc = metrics.roc_curve_points(labels, scores)
    found = metrics.precision_recall_points(labels, scores)
    if not _has_both(labels):
        assert len(roc.fpr) == len(found.recall) == 0
        return
    assert_allclose(np.trapezoid(roc.tpr, roc.fpr), sk.roc_auc_score(labels, scores), **EXACT)
    assert (roc.fpr[0], roc.tpr[0], roc.fpr[-1], roc.tpr[-1]) == (0, 0, 1, 1)
    for fpr, tpr, threshold in zip(*roc, strict=True):
        assert fpr == np.mean(scores[labels == 0] >= threshold)
        assert tpr == np.mean(scores[labels == 1] >= threshold)
    precision, recall, _ = sk.precision_recall_curve(labels, scores)
    expected = sk.auc(recall, precision)
    assert_allclose(np.trapezoid(found.precision, found.recall), expected, **EXACT)
    assert (found.recall[0], found.precision[0]) == (0, 1)
    assert_allclose((found.recall[-1], found.precision[-1]), (1, labels.mean()), **EXACT)


@pytest.mark.parametrize("seed", range(5))
def test_long_curves_are_thinned_without_a_visible_change(seed: int) -> None:
    """200 points of thousands: the area within 1e-3 and both ends kept."""
    labels, scores = _simulated(6000, 1, seed, distinct=10**9)
    roc = metrics.roc_curve_points(labels[:, 0], scores[:, 0])
    assert 150 < len(roc.fpr) <= 200
    area = np.trapezoid(roc.tpr, roc.fpr)
    assert area == pytest.approx(sk.roc_auc_score(labels, scores), abs=1e-3)
    assert (roc.fpr[0], roc.tpr[0], roc.fpr[-1], roc.tpr[-1]) == (0, 0, 1, 1)
    found = metrics.precision_recall_points(labels[:, 0], scores[:, 0])
    assert 100 < len(found.recall) <= 200
    precision, recall, _ = sk.precision_recall_curve(labels[:, 0], scores[:, 0])
    area = np.trapezoid(found.precision, found.recall)
    assert area == pytest.approx(sk.auc(recall, precision), abs=5e-3)
    assert (found.recall[0], found.precision[0], found.recall[-1]) == (0, 1, 1)
    with pytest.raises(ValueError, match="two points"):
        metrics.roc_curve_points(labels[:, 0], scores[:, 0], max_points=1)


# ---------------------------------------------------------------- bootstrap


def test_group_weights_draw_whole_groups() -> None:
    """All records of a patient come along equally often, and as many patients as there are."""
    groups = np.array(["b", "a", "b", "c", "c", "c"])
    weights = bootstrap.group_weights(groups, resamples=500, seed=1)
    assert weights.shape == (500, 6)
    assert_array_equal(weights[:, 0], weights[:, 2])
    assert_array_equal(weights[:, 3], weights[:, 5])
    assert_array_equal(weights[:, [0, 1, 3]].sum(axis=1), np.full(500, 3))
    assert weights.mean(axis=0) == pytest.approx(1, abs=0.15)


def test_group_weights_depend_on_seed_and_groups_only() -> None:
    """Equal seeds give equal bytes; the order of the records changes nothing."""
    groups = np.random.default_rng(0).integers(30, size=100)
    weights = bootstrap.group_weights(groups, 50, seed=7)
    assert_array_equal(weights, bootstrap.group_weights(groups, 50, seed=7))
    assert (weights != bootstrap.group_weights(groups, 50, seed=8)).any()
    assert_array_equal(weights[:, ::-1], bootstrap.group_weights(groups[::-1], 50, seed=7))
    with pytest.raises(ValueError, match="resamples"):
        bootstrap.group_weights(groups, 0)
    with pytest.raises(ValueError, match="no records"):
        bootstrap.group_weights([])


def test_every_resample_equals_scikit_learn_with_sample_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Weights are exact with ties, for each resample and class, across blocks of resamples."""
    monkeypatch.setattr(bootstrap, "BLOCK", 7 * 120)
    labels, p = _simulated(120, 3, seed=0, distinct=12)
    weights = bootstrap.group_weights(np.arange(120) // 3, 60, seed=0)
    auc = resampled(metrics.roc_auc, labels, p, weights=weights)
    pauc = resampled(metrics.partial_auc, labels, p, 0.15, weights=weights)
    ap = resampled(metrics.average_precision, labels, p, weights=weights)
    brier = resampled(metrics.brier, labels, p, weights=weights)
    predictions = _predicted("multilabel", list("abc"), labels, p, p >= 0.4, range(120))
    parts = bootstrap.measure(predictions, weights, 0.1).parts
    assert auc.shape == (60, 3)
    for r, w in enumerate(weights):
        for k in range(3):
            y, s = labels[:, k], p[:, k]
            assert_allclose(auc[r, k], sk.roc_auc_score(y, s, sample_weight=w), **EXACT)
            expected = sk.roc_auc_score(y, s, sample_weight=w, max_fpr=0.15)
            assert_allclose(pauc[r, k], expected, **EXACT)
            assert_allclose(ap[r, k], sk.average_precision_score(y, s, sample_weight=w), **EXACT)
            assert_allclose(brier[r, k], sk.brier_score_loss(y, s, sample_weight=w), **EXACT)
            f1 = sk.f1_score(y, s >= 0.4, sample_weight=w)
            assert_allclose(parts["abc"[k]]["f1"][r], f1, **EXACT)


def test_every_resample_equals_the_records_written_out() -> None:
    """A weighting is the same as repeating the records, for every metric there is."""
    labels, p = _simulated(80, 2, seed=1, distinct=20)
    one_hot = np.eye(2, dtype=int)[labels[:, 0].astype(int)]
    argmax = np.eye(2, dtype=int)[p.argmax(axis=1)]
    weights = bootstrap.group_weights(np.arange(80) // 2, 25, seed=2)
    table = metrics.confusion(labels, p >= 0.4, weights)
    weighted = [
        (resampled(metrics.roc_auc, labels, p, weights=weights), metrics.roc_auc, p),
        (resampled(metrics.partial_auc, labels, p, weights=weights), metrics.partial_auc, p),
        (
            resampled(metrics.average_precision, labels, p, weights=weights),
            metrics.average_precision,
            p,
        ),
        (resampled(metrics.brier, labels, p, weights=weights), metrics.brier, p),
    ]
    for r, w in enumerate(weights):
        rows = np.repeat(np.arange(80), w)
        for values, metric, scores in weighted:
            assert_allclose(values[r], metric(labels[rows], scores[rows]), **EXACT)
        for count, expected in zip(
            table, metrics.confusion(labels[rows], p[rows] >= 0.4), strict=True
        ):
            assert_array_equal(count[r], expected)
    right = resampled(metrics.multiclass_accuracy, one_hot, argmax, weights=weights)
    rows = np.repeat(np.arange(80), weights[3])
    assert_allclose(right[3], metrics.multiclass_accuracy(one_hot[rows], argmax[rows]), **EXACT)


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    """95 % intervals hold the true AUC, known for binormal scores, in about 95 % of studies."""
    true_auc = 0.8556  # two normals of variance 1, 1.5 apart: Phi(1.5 / sqrt(2))
    rng = np.random.default_rng(11)
    covered = []
    for study in range(200):
        labels = np.arange(150) % 3 == 0
        scores = rng.normal(size=150) + 1.5 * labels
        weights = bootstrap.group_weights(np.arange(150), 400, seed=study)
        auc = resampled(metrics.roc_auc, labels[:, None], scores[:, None], weights=weights)
        low, high = bootstrap.percentile_interval(auc[:, 0])
        covered.append(low <= true_auc <= high)
    assert 0.90 <= np.mean(covered) <= 0.99


def test_copies_of_a_record_add_no_certainty() -> None:
    """Ten copies per patient drawn by patient: the interval of one each, not a third of it."""
    labels, scores = _simulated(100, 1, seed=4)
    ten_labels, ten_scores = np.repeat(labels, 10, axis=0), np.repeat(scores, 10, axis=0)

    def width(labels: np.ndarray, scores: np.ndarray, groups: np.ndarray) -> float:
        weights = bootstrap.group_weights(groups, 400, 5)
        auc = resampled(metrics.roc_auc, labels, scores, weights=weights)
        low, high = bootstrap.percentile_interval(auc[:, 0])
        return float(high - low)

    by_patient = width(ten_labels, ten_scores, np.repeat(np.arange(100), 10))
    assert by_patient == pytest.approx(width(labels, scores, np.arange(100)))
    assert by_patient > 2 * width(ten_labels, ten_scores, np.arange(1000))


def test_same_weights_pair_two_models() -> None:
    """Paired differences of equal models are 0 in every resample, not merely around 0."""
    labels, scores = _simulated(200, 2, seed=6)
    weights = bootstrap.group_weights(np.arange(200), 100, seed=0)
    difference = resampled(metrics.roc_auc, labels, scores, weights=weights)
    difference -= resampled(metrics.roc_auc, labels, scores**3, weights=weights)
    assert_array_equal(difference, np.zeros((100, 2)))


def test_percentile_interval_leaves_out_undefined_resamples() -> None:
    """NaN resamples are not counted, and a metric never defined has no interval, silently."""
    values = np.column_stack([np.append(np.arange(101.0), np.nan), np.full(102, np.nan)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        low, high = bootstrap.percentile_interval(values, 0.9)
    assert_allclose([low, high], [[5, np.nan], [95, np.nan]], rtol=1e-12)
    with pytest.raises(ValueError, match="confidence"):
        bootstrap.percentile_interval(values, 95)


# ---------------------------------------------------------------- whole evaluations


def _predicted(
    task: str,
    classes: list[str],
    labels: np.ndarray,
    scores: np.ndarray,
    decisions: np.ndarray,
    groups: Any,
    section_column: str | None = None,
    **columns: np.ndarray,
) -> Predictions:
    """Predictions on records that are called after their number."""
    table = pd.DataFrame({"record": range(len(labels)), "group": groups, **columns})
    for k, name in enumerate(classes):
        table[name], table[f"{name} predicted"] = labels[:, k].astype(int), scores[:, k]
        table[f"{name} decided"] = decisions[:, k].astype(int)
    return Predictions(tasks.TASKS[task], classes, [], section_column, table)


def _evaluate(resamples: int = 1000, seed: int = 0, max_fpr: float = 0.1) -> Evaluate:
    """The block `evaluate`, with fewer resamples than it takes from a user."""
    return Evaluate.model_construct(
        resamples=resamples, seed=seed, max_fpr=max_fpr, confidence=0.95
    )


def _measured(task: str, classes: list[str], *of: Any, **how: Any) -> dict[str, Any]:
    """The estimates of a classifier; `of` and `how` as the two functions above take them."""
    return measured(_predicted(task, classes, *of), _evaluate(**how))


def _detected(
    anomalous: np.ndarray,
    scores: np.ndarray,
    threshold: float,
    groups: Any,
    sections: np.ndarray | None = None,
    **how: Any,
) -> dict[str, Any]:
    """The estimates of an anomaly detector."""
    labels, values, decided = anomalous[:, None], scores[:, None], (scores >= threshold)[:, None]
    of_machines = {} if sections is None else {"section_column": "machine", "machine": sections}
    predictions = _predicted(
        "reconstruction", ["anomaly"], labels, values, decided, groups, **of_machines
    )
    return measured(predictions, _evaluate(**how))


def test_multilabel_evaluation_agrees_with_scikit_learn() -> None:
    """Values are the plain metrics, macro their mean over classes, and intervals hold them."""
    labels, p = _simulated(300, 3, seed=8)
    decisions = p >= [0.3, 0.4, 0.5]
    result = _measured(
        "multilabel", ["a", "b", "c"], labels, p, decisions, np.arange(300), resamples=200
    )
    macro = {name: estimate["value"] for name, estimate in result["overall"].items()}
    expected = {
        "auc": sk.roc_auc_score(labels, p),
        "average_precision": sk.average_precision_score(labels, p),
        "f1": sk.f1_score(labels, decisions, average="macro"),
        "recall": sk.recall_score(labels, decisions, average="macro"),
        "precision": sk.precision_score(labels, decisions, average="macro"),
        "accuracy": np.mean(labels == decisions),
        "brier": np.mean((labels - p) ** 2),
        "calibration_error": _rms_of_pairs(labels, p),
    }
    assert macro == pytest.approx(expected, abs=1e-12)
    assert list(result["parts"]) == ["a", "b", "c"]
    assert result["parts"]["b"]["positives"] == labels[:, 1].sum()
    assert result["parts"]["b"]["f1"]["value"] == pytest.approx(
        sk.f1_score(labels[:, 1], decisions[:, 1])
    )
    for estimate in result["overall"].values():
        assert estimate["low"] < estimate["high"]
    weights = bootstrap.group_weights(np.arange(300), 200, seed=0)
    auc = resampled(metrics.roc_auc, labels, p, weights=weights)
    for estimate, values in (
        (result["parts"]["b"]["auc"], auc[:, 1]),
        (result["overall"]["auc"], auc.mean(axis=1)),
    ):
        low, high = bootstrap.percentile_interval(values)
        assert_allclose([estimate["low"], estimate["high"]], [low, high], **EXACT)
        assert low < estimate["value"] < high


def test_exclusive_and_binary_evaluation() -> None:
    """Exclusive classes: accuracy is the fraction right. Binary: macro is the one class."""
    rng = np.random.default_rng(9)
    truth, p = rng.integers(4, size=200), rng.dirichlet(np.ones(4), size=200)
    labels, decisions = np.eye(4)[truth], np.eye(4)[p.argmax(axis=1)]
    groups, few = np.arange(200) // 2, {"resamples": 50, "seed": 3}
    result = _measured("multiclass", list("abcd"), labels, p, decisions, groups, **few)
    accuracy = result["overall"]["accuracy"]
    assert accuracy["value"] == sk.accuracy_score(truth, p.argmax(axis=1))
    assert accuracy["low"] < accuracy["value"] < accuracy["high"]

    one, column = labels[:, :1], p[:, :1]
    binary = _measured("binary", ["a"], one, column, column >= 0.5, groups, **few)
    assert binary["parts"] == {}
    assert binary["overall"]["auc"]["value"] == pytest.approx(sk.roc_auc_score(one, column))


def test_a_class_that_is_absent_is_undefined_and_left_out_of_macro() -> None:
    """A class without test records has no recall (not 0), and no warning comes of it."""
    labels, p = _simulated(100, 2, seed=10)
    labels[:, 1] = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = _measured(
            "multilabel", ["a", "b"], labels, p, p >= 0.5, np.arange(100), resamples=50
        )
    for name in ("auc", "average_precision", "f1", "recall", "precision"):
        assert np.isnan(list(result["parts"]["b"][name].values())).all()
        assert result["overall"][name] == result["parts"]["a"][name]
    assert result["parts"]["b"]["brier"]["value"] > 0


def test_anomaly_evaluation_agrees_with_scikit_learn() -> None:
    """Unbounded scores, a threshold that counts as anomalous, and whole-number counts."""
    labels, p = _simulated(300, 1, seed=12)
    anomalous, scores = labels[:, 0], 100 * p[:, 0] - 20
    threshold = float(np.sort(scores)[200])
    result = _detected(
        anomalous, scores, threshold, np.arange(300) // 2, max_fpr=0.2, resamples=100
    )
    decisions = scores >= threshold
    tn, fp, fn, tp = sk.confusion_matrix(anomalous, decisions).ravel()
    assert result["counts"] == {"tp": tp, "fp": fp, "fn": fn, "tn": tn}
    assert result["parts"] == {}
    expected = {
        "auc": sk.roc_auc_score(anomalous, scores),
        "pauc": sk.roc_auc_score(anomalous, scores, max_fpr=0.2),
        "average_precision": sk.average_precision_score(anomalous, scores),
        "f1": sk.f1_score(anomalous, decisions),
        "recall": sk.recall_score(anomalous, decisions),
        "precision": sk.precision_score(anomalous, decisions),
        "accuracy": sk.accuracy_score(anomalous, decisions),
    }
    assert result["overall"].keys() == expected.keys()
    for name, value in expected.items():
        found = result["overall"][name]
        assert found["value"] == pytest.approx(value, abs=1e-12)
        assert found["low"] < value < found["high"]


def _machines(seed: int, sizes: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, scores and machines [N] of recordings in random order; each machine has both labels and
    scores of a scale of its own."""
    rng = np.random.default_rng(seed)
    names = np.repeat([f"id_{number:02d}" for number in range(len(sizes))], sizes)
    labels = (rng.random(len(names)) < 0.4).astype(np.int8)
    ends = np.cumsum(sizes)
    labels[ends - 1], labels[ends - 2] = 1, 0
    scale = np.repeat(10.0 ** rng.uniform(-1, 1, len(sizes)), sizes)
    scores = np.round(scale * (labels + rng.normal(size=len(names))), 1)  # with ties
    order = rng.permutation(len(names))
    return labels[order], scores[order], names[order]


of_machines = st.builds(
    _machines,
    seed=st.integers(0, 10**6),
    sizes=st.lists(st.integers(2, 30), min_size=1, max_size=5),
)


@given(of_machines)
@settings(max_examples=25)
def test_each_machine_is_measured_alone(data: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """Each section's metrics are scikit-learn's on its records alone, overall is their plain mean, and
    the harmonic mean is scipy's over all AUCs and pAUCs."""
    labels, scores, names = data
    threshold = float(np.median(scores))
    result = _detected(
        labels, scores, threshold, np.arange(len(labels)), sections=names, resamples=3
    )
    assert list(result["parts"]) == sorted(set(names.tolist()))
    values: dict[str, list[float]] = {}
    for name, found in result["parts"].items():
        y, s = labels[names == name], scores[names == name]
        d = (s >= threshold).astype(int)
        expected = {
            "auc": sk.roc_auc_score(y, s),
            "pauc": sk.roc_auc_score(y, s, max_fpr=0.1),
            "average_precision": sk.average_precision_score(y, s),
            "f1": sk.f1_score(y, d, **ZERO_DIVISION),
            "recall": sk.recall_score(y, d),
            "precision": sk.precision_score(y, d, zero_division=cast(Any, np.nan)),
            "accuracy": sk.accuracy_score(y, d),
        }
        for metric, value in expected.items():
            assert found[metric]["value"] == pytest.approx(value, abs=1e-12, nan_ok=True)
            values.setdefault(metric, []).append(value)
        tn, fp, fn, tp = sk.confusion_matrix(y, d, labels=[0, 1]).ravel()
        assert [found[key] for key in ("tp", "fp", "fn", "tn")] == [tp, fp, fn, tn]
        assert found["positives"] == y.sum()
    harmonic = hmean([*values["auc"], *values["pauc"]])
    assert result["overall"]["harmonic_mean"]["value"] == pytest.approx(harmonic, abs=1e-12)
    for metric, of_sections in values.items():
        mean = np.nanmean(of_sections) if np.isfinite(of_sections).any() else np.nan
        expected = pytest.approx(mean, abs=1e-12, nan_ok=True)
        assert result["overall"][metric]["value"] == expected
    for key, total in result["counts"].items():
        assert total == sum(found[key] for found in result["parts"].values())


def test_machines_are_never_pooled() -> None:
    """A machine whose scores all lie higher changes no ranking metric, its own or the mean's; pooled,
    it would."""
    labels, scores, names = _machines(1, [40, 40, 40])
    moved = np.where(names == "id_01", scores + 1000, scores)
    found, other = (
        _detected(labels, values, 0.5, np.arange(120) // 2, sections=names, resamples=50)
        for values in (scores, moved)
    )
    for metric in ("auc", "pauc", "average_precision", "harmonic_mean"):
        assert found["overall"][metric] == other["overall"][metric]
    for name, of_section in found["parts"].items():
        for metric in ("auc", "pauc", "average_precision"):
            assert of_section[metric] == other["parts"][name][metric]
    assert abs(sk.roc_auc_score(labels, scores) - sk.roc_auc_score(labels, moved)) > 0.05


@pytest.mark.parametrize("per_group", [1, 3])
def test_intervals_of_machines_contain_their_values(per_group: int) -> None:
    """Each machine's interval and the means' surround what was measured, and the mean of several
    machines is surer than one of them."""
    labels, scores, names = _machines(2, [60, 45, 30])
    groups = np.char.add(names, (np.arange(len(names)) // per_group).astype(str))
    result = _detected(labels, scores, 0.0, groups, sections=names, resamples=300, seed=4)
    for found in (result["overall"], *result["parts"].values()):
        for estimate in (value for value in found.values() if isinstance(value, dict)):
            assert estimate["low"] <= estimate["value"] <= estimate["high"]
            assert estimate["low"] < estimate["high"]
    widths = [found["auc"]["high"] - found["auc"]["low"] for found in result["parts"].values()]
    overall = result["overall"]["auc"]
    assert overall["high"] - overall["low"] < min(widths)


def test_every_resample_of_machines_is_written_out() -> None:
    """The mean's interval is that of resampled recordings measured machine by machine."""
    labels, scores, names = _machines(3, [50, 40])
    groups = np.arange(90) // 2
    result = _detected(labels, scores, 0.5, groups, sections=names, resamples=60, seed=5)
    aucs, harmonics = [], []
    for row in bootstrap.group_weights(groups, 60, seed=5):
        drawn = np.repeat(np.arange(90), row)
        y, s, machine = labels[drawn], scores[drawn], names[drawn]
        parts = [(y[machine == name], s[machine == name]) for name in ("id_00", "id_01")]
        ranked = [[sk.roc_auc_score(*part), sk.roc_auc_score(*part, max_fpr=0.1)] for part in parts]
        aucs.append(np.mean(ranked, axis=0)[0])
        harmonics.append(hmean(np.ravel(ranked)))
    for name, values in (("auc", aucs), ("harmonic_mean", harmonics)):
        low, high = bootstrap.percentile_interval(values)
        found = result["overall"][name]
        assert [found["low"], found["high"]] == pytest.approx([float(low), float(high)], abs=1e-12)


def test_machine_without_anomalies_has_no_ranking_and_is_left_out_of_the_means() -> None:
    """Its AUC is undefined, its accuracy is not; the means are those of the others, without warnings."""
    labels, scores, names = _machines(6, [30, 30, 30])
    labels[names == "id_02"] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = _detected(labels, scores, 0.5, np.arange(90), sections=names, resamples=20)
    found = result["parts"]
    for metric in ("auc", "pauc", "average_precision", "f1", "recall", "precision"):
        assert np.isnan(found["id_02"][metric]["value"])
        others = [found[name][metric]["value"] for name in ("id_00", "id_01")]
        assert result["overall"][metric]["value"] == pytest.approx(np.nanmean(others))
    assert found["id_02"]["accuracy"]["value"] == np.mean(scores[names == "id_02"] < 0.5)
    ranking = [found[name][m]["value"] for name in ("id_00", "id_01") for m in ("auc", "pauc")]
    assert result["overall"]["harmonic_mean"]["value"] == pytest.approx(hmean(ranking))


def test_machine_that_is_worse_than_none_makes_the_harmonic_mean_zero() -> None:
    """An AUC of 0 is not hidden by the others, and divides nothing by zero."""
    labels, scores = np.tile([0, 1], 20), np.tile([0.0, 1.0], 20)
    names = np.repeat(["a", "b"], 20)
    scores[names == "b"] *= -1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = _detected(labels, scores, 0.5, np.arange(40), sections=names, resamples=20)
    assert result["overall"]["auc"]["value"] == 0.5
    assert result["overall"]["harmonic_mean"]["value"] == 0
    assert hmean([1.0, 1.0, 0.0, 9 / 19]) == 0


def test_machine_that_a_resample_does_not_draw_has_no_accuracy_there() -> None:
    """A resample may lack a machine that is one group: it is left out, not measured as 0."""
    labels, scores, names = _machines(7, [20, 20, 20])
    predictions = _predicted(
        "reconstruction",
        ["anomaly"],
        labels[:, None],
        scores[:, None],
        scores[:, None] > 0.5,
        names,
    )
    table = predictions.table.assign(machine_id=names)
    predictions = replace(predictions, section_column="machine_id", table=table)
    weights = bootstrap.once_and_resampled(names, 100, 0)
    for found in bootstrap.measure(predictions, weights, 0.1).parts.values():
        for metric in ("auc", "pauc", "average_precision", "f1", "recall", "precision", "accuracy"):
            assert np.isnan(found[metric]).any()
            assert_allclose(found[metric][~np.isnan(found[metric])], found[metric][0], **EXACT)


def test_resamples_without_a_class_have_no_mean() -> None:
    """A mean over the classes that a resample happens to hold is one of other classes, which may be
    easier: with a rare class that is hard, the interval would reach where no mean over all classes is."""
    rng = np.random.default_rng(11)
    labels = np.zeros((40, 2), dtype=int)
    labels[:20, 0], labels[:2, 1] = 1, 1
    scores = np.column_stack([labels[:, 0] + 0.1 * rng.random(40), rng.random(40)])
    decisions = scores > 0.5
    weights = bootstrap.once_and_resampled(np.arange(40), 200, 1)
    predictions = _predicted(
        "multilabel", ["easy", "rare"], labels, scores / 2, decisions, range(40)
    )
    overall = bootstrap.measure(predictions, weights, 0.1).overall["auc"]
    for row, value in zip(weights, overall, strict=True):
        if not (row * labels[:, 1]).sum():
            assert np.isnan(value)
            continue
        parts = [sk.roc_auc_score(labels[:, k], scores[:, k], sample_weight=row) for k in (0, 1)]
        assert value == pytest.approx(np.mean(parts))
    assert np.isnan(overall).any()


# ---------------------------------------------------------------- calibration, without what chance adds


def _rms_of_pairs(labels: np.ndarray, p: np.ndarray) -> float:
    """The definition, pair by pair: products of the errors of two records in one bin."""
    squares = []
    for errors, stated in zip((labels - p).T, p.T, strict=True):
        place = np.clip(np.ceil(15 * stated - 1e-9), 1, 15)
        total, telling = 0.0, 0
        for number in range(1, 16):
            inside = errors[place == number]
            products = np.outer(inside, inside)
            pairs = len(inside) * (len(inside) - 1)
            if pairs:
                total += len(inside) * (products.sum() - np.trace(products)) / pairs
                telling += len(inside)
        squares.append(total / telling if telling else np.nan)
    defined = [square for square in squares if np.isfinite(square)]
    return max(float(np.mean(defined)), 0.0) ** 0.5 if defined else np.nan


def _calibrated(
    groups: int, of_a_group: int, distance: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, probabilities that are `distance` too high, groups; all records of a group have the same
    label and probability, as one patient's may."""
    truth = rng.uniform(0.2, 0.8, groups)
    labels = rng.random(groups) < truth
    repeated = np.arange(groups).repeat(of_a_group)
    stated = (truth + distance)[repeated][:, None]
    return labels[repeated][:, None].astype(float), stated, repeated


@pytest.mark.parametrize("of_a_group", [1, 3])
@pytest.mark.parametrize("distance", [0.0, 0.1])
def test_the_squared_calibration_error_is_right_on_average(
    of_a_group: int, distance: float
) -> None:
    """About 0 of perfect probabilities, however few records there are; and the true one otherwise. The
    plain error is neither."""
    rng = np.random.default_rng(5)
    values, plain = [], []
    for _ in range(400):
        labels, p, groups = _calibrated(60, of_a_group, distance, rng)
        once = np.ones((1, len(p)), dtype=np.uint16)
        values.append(bootstrap.squared_calibration_error(labels, p, groups, once)[0, 0])
        stated, observed, records = metrics.calibration_points(labels[:, 0], p[:, 0])
        plain.append(np.sum(records * np.abs(stated - observed)) / len(p))
    spread = np.std(values, ddof=1) / len(values) ** 0.5
    assert np.mean(values) == pytest.approx(distance**2, abs=3 * spread)
    assert spread < 2e-3
    assert np.mean(plain) > distance + 0.05


@pytest.mark.parametrize("of_a_group", [1, 3])
@pytest.mark.parametrize("distance", [0.0, 0.2])
def test_intervals_of_the_calibration_error_hold_value_and_truth(
    of_a_group: int, distance: float
) -> None:
    """Of every simulated test set the value lies within its own interval, and about as often as the
    interval promises, the truth does."""
    rng = np.random.default_rng(6)
    held = []
    for _ in range(80):
        labels, p, groups = _calibrated(150, of_a_group, distance, rng)
        weights = bootstrap.once_and_resampled(groups, 200, 0)
        values = bootstrap.squared_calibration_error(labels, p, groups, weights)[:, 0]
        low, high = bootstrap.percentile_interval(values[1:])
        assert low < values[0] < high
        held.append(low <= distance**2 <= high)
    assert np.mean(held) >= 0.88


def test_a_bin_of_one_group_tells_nothing_of_calibration() -> None:
    """One record far from its label might be chance alone: it does not count, and where every bin is of
    one patient, no error is known, be the records many. It is not 0."""
    weights = bootstrap.once_and_resampled(["a", "b"], 20, 0)
    labels, p = np.array([[1.0], [0.0]]), np.array([[0.1], [0.9]])
    alone = bootstrap.squared_calibration_error(labels, p, ["a", "b"], weights)
    assert np.isnan(alone).all()
    rng = np.random.default_rng(0)
    p, groups = np.tile([0.1, 0.3, 0.32, 0.9], 10)[:, None], np.tile(list("abca"), 10)
    labels = (rng.random(p.shape) < 0.5).astype(float)
    weights = bootstrap.once_and_resampled(groups, 20, 0)
    found = bootstrap.squared_calibration_error(labels, p, groups, weights)
    middle = (p[:, 0] > 0.2) & (p[:, 0] < 0.5)
    alone = bootstrap.squared_calibration_error(
        labels[middle], p[middle], groups[middle], weights[:, middle]
    )
    assert_allclose(found, alone, **EXACT)
    one = bootstrap.once_and_resampled(["a"] * 40, 20, 0)
    assert np.isnan(bootstrap.squared_calibration_error(labels, p, ["a"] * 40, one)).all()
