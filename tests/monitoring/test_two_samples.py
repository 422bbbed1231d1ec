"""The statistics are those of the literature, and p-values hold what they promise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from beatline.monitoring import two_samples

RNG = np.random.default_rng(0)


def test_cramer_von_mises_is_that_of_scipy() -> None:
    """For every column and every membership."""
    columns = RNG.standard_normal((50, 3))
    membership = two_samples.memberships(20, 30, 8)
    found = two_samples.cramer_von_mises(columns, membership)
    for row, inside in zip(found, membership, strict=True):
        for column in range(3):
            values = columns[:, column]
            expected = stats.cramervonmises_2samp(values[inside], values[~inside]).statistic
            assert row[column] == pytest.approx(expected, rel=1e-4)


def test_equal_values_count_once() -> None:
    """However they are ordered: permuting records with their membership changes nothing, and a constant
    has no difference."""
    columns = RNG.integers(0, 3, (60, 2)).astype(float)
    membership = two_samples.memberships(40, 20, 5)
    order = RNG.permutation(60)
    found = two_samples.cramer_von_mises(columns, membership)
    shuffled = two_samples.cramer_von_mises(columns[order], membership[:, order])
    np.testing.assert_allclose(shuffled, found, rtol=1e-4)
    assert not two_samples.cramer_von_mises(np.ones((60, 1)), membership).any()


def test_rounding_of_other_processors_does_not_count() -> None:
    """Numbers that differ in their last digits alone are equal."""
    values = RNG.standard_normal((300, 2))
    other = values * (1 + 1e-7)
    scale = values.std(axis=0)
    same = two_samples.on_grid(values, scale) == two_samples.on_grid(other, scale)
    assert same.mean() > 0.99


def test_mean_discrepancy_is_that_of_the_kernel() -> None:
    """The mean of the kernel within the samples, less that between them, by the definition."""
    embeddings = RNG.standard_normal((30, 4))
    scaled = (embeddings - np.median(embeddings, axis=0)) / embeddings.std(axis=0)
    squares = np.square(scaled[:, None] - scaled).sum(axis=2)
    kernel = np.exp(-squares / np.median(squares))
    membership = two_samples.memberships(18, 12, 4)
    found = two_samples.mean_discrepancy(embeddings, membership)
    for value, inside in zip(found, membership, strict=True):
        within = kernel[inside][:, inside].mean() + kernel[~inside][:, ~inside].mean()
        assert value == pytest.approx(within - 2 * kernel[inside][:, ~inside].mean(), rel=1e-3)


def test_a_mean_discrepancy_that_no_column_shows() -> None:
    """64 axes that move by 0.15 deviations each: found where corrected tests of columns find little."""
    found = {"together": 0, "columns": 0}
    for seed in range(40):
        rng = np.random.default_rng(seed)
        pooled = rng.standard_normal((230, 64))
        pooled[200:] += 0.2
        membership = two_samples.memberships(200, 30, 199, seed)
        discrepancy = two_samples.mean_discrepancy(pooled, membership)
        found["together"] += two_samples.p_values(discrepancy)[0] <= 0.05
        p = [two_samples.column_p_value(column[:200], column[200:]) for column in pooled.T]
        found["columns"] += min(two_samples.holm(np.array(p))) <= 0.05
    assert found["together"] > 32 > 2 * found["columns"]


@pytest.mark.parametrize("exclusive", [True, False])
def test_class_shares_are_those_of_scipy(exclusive: bool) -> None:
    """χ² of a contingency table: of all classes, or of the label that differs most."""
    decisions = np.eye(3)[RNG.integers(0, 3, 80)]
    membership = two_samples.memberships(50, 30, 3)
    found = two_samples.class_shares(decisions, membership, exclusive)
    for value, inside in zip(found, membership, strict=True):
        counts = [decisions[inside].sum(axis=0), decisions[~inside].sum(axis=0)]
        tables = [np.array(counts)]
        if not exclusive:
            sizes = inside.sum(), (~inside).sum()
            tables = [
                np.array([[n[k], size - n[k]] for n, size in zip(counts, sizes, strict=True)])
                for k in range(3)
            ]
        tests: list[Any] = [stats.chi2_contingency(each, correction=False) for each in tables]
        expected = max(test.statistic for test in tests)
        assert value == pytest.approx(expected, abs=1e-4)


def test_classes_that_nobody_was_decided_to_be_of() -> None:
    decisions = np.zeros((40, 2))
    decisions[:, 0] = 1
    membership = two_samples.memberships(30, 10, 19)
    for exclusive in (True, False):
        assert not two_samples.class_shares(decisions, membership, exclusive).any()


def test_the_least_of_several_p_values_holds_its_level() -> None:
    """Of ten tests of the same and of none too, 5 % of undrifted samples are flagged."""
    least = []
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        pooled = rng.standard_normal((40, 6))
        pooled[:, 3:] = pooled[:, :3]
        membership = two_samples.memberships(25, 15, 99, seed)
        statistics = np.abs(membership @ pooled - 15 * pooled.mean(axis=0)).T
        least.append(two_samples.least(np.stack([*map(two_samples.p_values, statistics)])))
    assert 0.03 <= np.mean(np.array(least) <= 0.05) <= 0.07


def test_holm() -> None:
    """The example of Holm's procedure: the smallest times their number, never below one before."""
    found = two_samples.holm(np.array([0.04, 0.01, 0.03, 0.005]))
    np.testing.assert_allclose(found, [0.06, 0.03, 0.06, 0.02])
    assert two_samples.holm(np.array([0.9, 0.8])).max() == 1


@pytest.mark.parametrize(("reference", "window"), [(300, 60), (60, 300)])
def test_smallest_shift_is_found_as_often_as_is_said(reference: int, window: int) -> None:
    """With a probability of 80 %, of normal columns, at the level that is corrected for ten columns."""
    level, shift, rng = (
        0.005,
        two_samples.smallest_shift(reference, window, 0.005),
        np.random.default_rng(0),
    )
    p = [
        two_samples.column_p_value(
            rng.standard_normal(reference), rng.standard_normal(window) + shift
        )
        for _ in range(600)
    ]
    assert 0.75 <= np.mean(np.array(p) <= level) <= 0.87


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_smallest_change_of_a_share_is_found_as_often_as_is_said(share: float) -> None:
    """With a probability of 80 %; of rare classes somewhat less, whose test is exact."""
    rng, sizes, level = np.random.default_rng(0), (400, 100), 0.01
    change = two_samples.smallest_change(share, *sizes, level)
    drifted = share + change if share < 0.5 else share - change
    p = [
        two_samples.share_p_value(
            (rng.binomial(sizes[0], share), rng.binomial(sizes[1], drifted)), sizes
        )
        for _ in range(600)
    ]
    assert 0.7 <= np.mean(np.array(p) <= level) <= 0.92


def test_sizes_are_zero_between_equals_and_grow() -> None:
    """PSI of equal samples is 0; of a moved one the more, the farther; of no common values finite."""
    values = np.random.default_rng(0).standard_normal(1000)
    psi = [two_samples.population_stability(values, values + shift) for shift in (0, 0.5, 1, 100)]
    assert psi[0] == 0 and sorted(psi) == psi and np.isfinite(psi).all()


@pytest.mark.parametrize("values", [1, 2, 3, 1000])
def test_p_values_of_columns_of_few_values_hold_their_level(values: int) -> None:
    """Windows of another size than the reference, of columns whose values are often equal."""
    rng = np.random.default_rng(values)
    p = [
        two_samples.column_p_value(
            *(rng.integers(0, values, size).astype(float) for size in (267, 60))
        )
        for _ in range(600)
    ]
    assert np.mean(np.array(p) <= 0.05) <= 0.07 and np.mean(np.array(p) <= 0.5) <= 0.56


def test_shares_of_nobody_and_of_all() -> None:
    """Of which nothing is expected in a cell: no difference; and none of hundreds against all is one."""
    for count in (0, 1):
        assert two_samples.share_p_value((300 * count, 100 * count), (300, 100)) == 1
    assert two_samples.share_p_value((0, 100), (300, 100)) < 1e-9


def test_columns_without_any_spread() -> None:
    """A constant that stays is no drift, and one that has changed is."""
    assert two_samples.column_p_value(np.zeros(30), np.zeros(20)) > 0.05
    assert two_samples.column_p_value(np.zeros(30), np.ones(20)) < 1e-6
