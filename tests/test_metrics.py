"""Metrics and their bootstrap against scikit-learn, and against resamples that are written out."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import metrics as sk

from beatline import bootstrap, metrics

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
@settings(max_examples=150, deadline=None)
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
@settings(max_examples=80, deadline=None)
def test_decision_metrics_equal_scikit_learn(
    data: tuple[np.ndarray, np.ndarray], threshold: float
) -> None:
    """Counts, precision, recall, F1 and accuracy, with 0 where one divides by zero."""
    labels, scores = data
    y, decisions = labels[:, 0], (scores >= threshold).astype(int)
    table = metrics.confusion(labels, decisions)
    counts = sk.confusion_matrix(y, decisions[:, 0], labels=[0, 1]).ravel()
    assert_array_equal([table.tn, table.fp, table.fn, table.tp], counts[:, None])
    precision, recall, f1, _ = sk.precision_recall_fscore_support(
        y, decisions[:, 0], **ZERO_DIVISION
    )
    assert_allclose(metrics.precision(table), precision, **EXACT)
    assert_allclose(metrics.recall(table), recall, **EXACT)
    assert_allclose(metrics.f1(table), f1, **EXACT)
    assert_allclose(metrics.accuracy(table), sk.accuracy_score(y, decisions[:, 0]), **EXACT)


@given(_predictions())
@settings(max_examples=50, deadline=None)
def test_brier_equals_scikit_learn(data: tuple[np.ndarray, np.ndarray]) -> None:
    """The squared error is of the probability of the class, not of the decision."""
    labels, p = data
    expected = sk.brier_score_loss(labels[:, 0], p[:, 0], pos_label=1)
    assert_allclose(metrics.brier(labels, p), expected, **EXACT)


@given(_predictions(), st.integers(1, 20))
@settings(max_examples=50, deadline=None)
def test_calibration_error_follows_its_definition(
    data: tuple[np.ndarray, np.ndarray], bins: int
) -> None:
    """ECE bin by bin as Guo et al. write it, a probability on an edge in the lower bin."""
    labels, p = data
    edges = np.linspace(0, 1, bins + 1)
    expected = 0.0
    for m in range(bins):
        members = (p > edges[m]) & (p <= edges[m + 1]) | ((m == 0) & (p == 0))
        if members.any():
            gap = abs(labels[members].mean() - p[members].mean())
            expected += members.sum() / len(p) * gap
    assert_allclose(metrics.expected_calibration_error(labels, p, bins), expected, **EXACT)


def test_calibration_error_of_known_cases() -> None:
    """0 for perfectly calibrated probabilities, 1 for certainty that is always wrong."""
    calibrated = metrics.expected_calibration_error([[1], [0], [0], [0]], [[0.25]] * 4)
    assert_allclose(calibrated, 0, **EXACT)
    assert_allclose(metrics.expected_calibration_error([[0], [0]], [[1.0], [1.0]]), 1, **EXACT)
    on_edge = metrics.expected_calibration_error([[1], [0]], [[0.5], [0.4]], bins=2)
    assert_allclose(on_edge, 0.05, **EXACT)


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
@settings(max_examples=30, deadline=None)
def test_order_of_records_does_not_matter(data: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    """Ties must not be broken by the position of a record, and classes must not be mixed."""
    labels, p = data
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    for metric in (
        metrics.roc_auc,
        metrics.partial_auc,
        metrics.average_precision,
        metrics.brier,
        metrics.expected_calibration_error,
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
@settings(max_examples=100, deadline=None)
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
@settings(max_examples=60, deadline=None)
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


def test_calibration_points_add_up_to_the_error() -> None:
    """The plot shows the bins that the ECE is made of."""
    labels, p = _simulated(500, 1, seed=3)
    stated, observed, records = metrics.calibration_points(labels[:, 0], p[:, 0])
    assert records.sum() == 500
    error = np.sum(records * np.abs(stated - observed)) / 500
    assert_allclose(error, metrics.expected_calibration_error(labels, p)[0], **EXACT)


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
    auc = bootstrap.bootstrap_auc(labels, p, weights)
    pauc = bootstrap.bootstrap_partial_auc(labels, p, weights, max_fpr=0.15)
    ap = bootstrap.bootstrap_average_precision(labels, p, weights)
    brier = bootstrap.bootstrap_brier(labels, p, weights)
    assert auc.shape == (60, 3)
    for r, w in enumerate(weights):
        for k in range(3):
            y, s = labels[:, k], p[:, k]
            assert_allclose(auc[r, k], sk.roc_auc_score(y, s, sample_weight=w), **EXACT)
            expected = sk.roc_auc_score(y, s, sample_weight=w, max_fpr=0.15)
            assert_allclose(pauc[r, k], expected, **EXACT)
            assert_allclose(ap[r, k], sk.average_precision_score(y, s, sample_weight=w), **EXACT)
            assert_allclose(brier[r, k], sk.brier_score_loss(y, s, sample_weight=w), **EXACT)


def test_every_resample_equals_the_records_written_out() -> None:
    """A weighting is the same as repeating the records, for every metric there is."""
    labels, p = _simulated(80, 2, seed=1, distinct=20)
    one_hot = np.eye(2, dtype=int)[labels[:, 0].astype(int)]
    argmax = np.eye(2, dtype=int)[p.argmax(axis=1)]
    weights = bootstrap.group_weights(np.arange(80) // 2, 25, seed=2)
    table = bootstrap.bootstrap_confusion(labels, p >= 0.4, weights)
    weighted = [
        (bootstrap.bootstrap_auc(labels, p, weights), metrics.roc_auc, p),
        (bootstrap.bootstrap_partial_auc(labels, p, weights), metrics.partial_auc, p),
        (bootstrap.bootstrap_average_precision(labels, p, weights), metrics.average_precision, p),
        (bootstrap.bootstrap_brier(labels, p, weights), metrics.brier, p),
        (
            bootstrap.bootstrap_calibration_error(labels, p, weights),
            metrics.expected_calibration_error,
            p,
        ),
    ]
    for r, w in enumerate(weights):
        rows = np.repeat(np.arange(80), w)
        for values, metric, scores in weighted:
            assert_allclose(values[r], metric(labels[rows], scores[rows]), **EXACT)
        for count, expected in zip(
            table, metrics.confusion(labels[rows], p[rows] >= 0.4), strict=True
        ):
            assert_array_equal(count[r], expected)
    right = bootstrap.bootstrap_multiclass_accuracy(one_hot, argmax, weights)
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
        auc = bootstrap.bootstrap_auc(labels[:, None], scores[:, None], weights)
        low, high = bootstrap.percentile_interval(auc[:, 0])
        covered.append(low <= true_auc <= high)
    assert 0.90 <= np.mean(covered) <= 0.99


def test_copies_of_a_record_add_no_certainty() -> None:
    """Ten copies per patient drawn by patient: the interval of one each, not a third of it."""
    labels, scores = _simulated(100, 1, seed=4)
    ten_labels, ten_scores = np.repeat(labels, 10, axis=0), np.repeat(scores, 10, axis=0)

    def width(labels: np.ndarray, scores: np.ndarray, groups: np.ndarray) -> float:
        auc = bootstrap.bootstrap_auc(labels, scores, bootstrap.group_weights(groups, 400, 5))
        low, high = bootstrap.percentile_interval(auc[:, 0])
        return float(high - low)

    by_patient = width(ten_labels, ten_scores, np.repeat(np.arange(100), 10))
    assert by_patient == pytest.approx(width(labels, scores, np.arange(100)))
    assert by_patient > 2 * width(ten_labels, ten_scores, np.arange(1000))


def test_same_weights_pair_two_models() -> None:
    """Paired differences of equal models are 0 in every resample, not merely around 0."""
    labels, scores = _simulated(200, 2, seed=6)
    weights = bootstrap.group_weights(np.arange(200), 100, seed=0)
    difference = bootstrap.bootstrap_auc(labels, scores, weights)
    difference -= bootstrap.bootstrap_auc(labels, scores**3, weights)
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


def test_multilabel_evaluation_agrees_with_scikit_learn() -> None:
    """Values are the plain metrics, macro their mean over classes, and intervals hold them."""
    labels, p = _simulated(300, 3, seed=8)
    decisions = p >= [0.3, 0.4, 0.5]
    result = bootstrap.evaluate_classification(
        "multilabel", ["a", "b", "c"], labels, p, decisions, np.arange(300), resamples=200
    )
    macro = {name: estimate["value"] for name, estimate in result["macro"].items()}
    expected = {
        "auc": sk.roc_auc_score(labels, p),
        "average_precision": sk.average_precision_score(labels, p),
        "f1": sk.f1_score(labels, decisions, average="macro"),
        "recall": sk.recall_score(labels, decisions, average="macro"),
        "precision": sk.precision_score(labels, decisions, average="macro"),
        "accuracy": np.mean(labels == decisions),
        "brier": np.mean((labels - p) ** 2),
        "ece": metrics.expected_calibration_error(labels, p).mean(),
    }
    assert macro == pytest.approx(expected, abs=1e-12)
    assert list(result["classes"]) == ["a", "b", "c"]
    assert result["classes"]["b"]["positives"] == labels[:, 1].sum()
    assert result["classes"]["b"]["f1"]["value"] == pytest.approx(
        sk.f1_score(labels[:, 1], decisions[:, 1])
    )
    for estimate in result["macro"].values():
        assert estimate["low"] < estimate["high"]
    weights = bootstrap.group_weights(np.arange(300), 200, seed=0)
    auc = bootstrap.bootstrap_auc(labels, p, weights)
    for estimate, values in (
        (result["classes"]["b"]["auc"], auc[:, 1]),
        (result["macro"]["auc"], auc.mean(axis=1)),
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
    result = bootstrap.evaluate_classification(
        "multiclass", list("abcd"), labels, p, decisions, groups, **few
    )
    accuracy = result["macro"]["accuracy"]
    assert accuracy["value"] == sk.accuracy_score(truth, p.argmax(axis=1))
    assert accuracy["low"] < accuracy["value"] < accuracy["high"]

    one, column = labels[:, :1], p[:, :1]
    binary = bootstrap.evaluate_classification(
        "binary", ["a"], one, column, column >= 0.5, groups, **few
    )
    assert binary["classes"]["a"] == binary["macro"] | {"positives": int(one.sum())}


def test_a_class_that_is_absent_is_undefined_and_left_out_of_macro() -> None:
    """A class without test records has no recall (not 0), and no warning comes of it."""
    labels, p = _simulated(100, 2, seed=10)
    labels[:, 1] = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = bootstrap.evaluate_classification(
            "multilabel", ["a", "b"], labels, p, p >= 0.5, np.arange(100), resamples=50
        )
    for name in ("auc", "average_precision", "f1", "recall", "precision"):
        assert np.isnan(list(result["classes"]["b"][name].values())).all()
        assert result["macro"][name] == result["classes"]["a"][name]
    assert result["classes"]["b"]["brier"]["value"] > 0


def test_evaluation_refuses_what_does_not_fit() -> None:
    """A task it does not know, and names that do not match the columns."""
    labels, p = _simulated(20, 2, seed=0)
    groups = np.arange(20)
    with pytest.raises(ValueError, match="task"):
        bootstrap.evaluate_classification("anomaly", ["a", "b"], labels, p, labels, groups)
    with pytest.raises(ValueError, match="class names"):
        bootstrap.evaluate_classification("multilabel", ["a"], labels, p, labels, groups)
    with pytest.raises(ValueError, match="weights"):
        bootstrap.evaluate_classification("multilabel", ["a", "b"], labels, p, labels, groups[1:])


def test_anomaly_evaluation_agrees_with_scikit_learn() -> None:
    """Unbounded scores, a threshold that counts as anomalous, and whole-number counts."""
    labels, p = _simulated(300, 1, seed=12)
    anomalous, scores = labels[:, 0], 100 * p[:, 0] - 20
    threshold = float(np.sort(scores)[200])
    result = bootstrap.evaluate_anomaly(
        anomalous, scores, threshold, np.arange(300) // 2, max_fpr=0.2, resamples=100
    )
    decisions = scores >= threshold
    tn, fp, fn, tp = sk.confusion_matrix(anomalous, decisions).ravel()
    assert [result[name] for name in ("tp", "fp", "fn", "tn")] == [tp, fp, fn, tn]
    expected = {
        "auc": sk.roc_auc_score(anomalous, scores),
        "pauc": sk.roc_auc_score(anomalous, scores, max_fpr=0.2),
        "average_precision": sk.average_precision_score(anomalous, scores),
        "f1": sk.f1_score(anomalous, decisions),
        "recall": sk.recall_score(anomalous, decisions),
        "precision": sk.precision_score(anomalous, decisions),
        "accuracy": sk.accuracy_score(anomalous, decisions),
    }
    for name, value in expected.items():
        assert result[name]["value"] == pytest.approx(value, abs=1e-12)
        assert result[name]["low"] < value < result[name]["high"]
