"""Normalization: equal to scikit-learn's StandardScaler, whatever the batches, and free of NaN."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import StandardScaler

from beatline.common.errors import UserError
from beatline.preprocessing import normalization
from beatline.preprocessing.normalization import Normalization, Normalize, fit


def random_recordings(
    seed: int, records: int, samples: int, channels: int, offset: float, invalid: float
) -> np.ndarray:
    """`[N, T, C]` float32 whose channels differ in scale, with some NaN."""
    rng = np.random.default_rng(seed)
    scale = 10.0 ** rng.uniform(-3, 3, channels)
    values = (rng.standard_normal((records, samples, channels)) + offset) * scale
    values[rng.random(values.shape) < invalid] = np.nan
    two = np.array([[0.5], [2.5]])  # so that no channel is constant or without a valid sample
    values[0, :2] = (two + offset) * scale
    return values.astype(np.float32)


recordings = st.builds(
    random_recordings,
    seed=st.integers(0, 10**6),
    records=st.integers(1, 20),
    samples=st.integers(2, 37),
    channels=st.integers(1, 12),
    offset=st.sampled_from([0.0, 3.0, -1e3, 1e5]),
    invalid=st.sampled_from([0.0, 0.1, 0.5]),
)


def batches(values: np.ndarray, size: int) -> list[np.ndarray]:
    return [values[start : start + size] for start in range(0, len(values), size)]


def how(per: str = "channel", invalid: str = "mean") -> Normalize:
    return Normalize.model_validate({"recordings": "x", "per": per, "invalid": invalid})


def close(found: np.ndarray, expected: np.ndarray) -> bool:
    """To 1e-6, beyond 1 relatively: float32 cannot be closer."""
    return bool(np.allclose(found, expected, rtol=1e-6, atol=1e-6))


@settings(max_examples=80)
@given(recordings, st.integers(1, 7))
def test_equal_to_scikit_learn(values: np.ndarray, size: int) -> None:
    """Per channel, from batches of any size: what StandardScaler gives on float64, NaN set to 0."""
    found = fit(batches(values, size), how()).apply(values)
    samples = values.reshape(-1, values.shape[2]).astype(np.float64)
    scaler = StandardScaler().fit(samples)
    expected = np.nan_to_num(scaler.transform(samples)).reshape(values.shape)
    assert found.dtype == np.float32
    assert close(found, expected)


@settings(max_examples=40)
@given(recordings, st.integers(1, 7))
def test_one_for_all_channels(values: np.ndarray, size: int) -> None:
    """`per: all` is one mean and deviation over all samples of all channels."""
    fitted = fit(batches(values, size), how("all"))
    samples = values.reshape(-1, 1).astype(np.float64)
    expected = np.nan_to_num(StandardScaler().fit_transform(samples)).reshape(values.shape)
    assert close(fitted.apply(values), expected)
    assert len(set(fitted.mean)) == len(set(fitted.standard_deviation)) == 1


@settings(max_examples=60)
@given(recordings, st.integers(1, 7), st.sampled_from(["channel", "all"]))
def test_medians_of_many_samples_are_those_of_few(values: np.ndarray, size: int, per: str) -> None:
    """Medians of samples that must not all be in memory are those of NumPy, to the last bit: of odd and
    even numbers, signs, zeros of both signs, invalid samples."""
    values = np.where(np.abs(values) < 0.3, np.copysign(0, values), values).astype(np.float32)
    in_memory = fit(batches(values, size), how(per, "median"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(normalization, "MOST_SAMPLES", 1)
        found = fit(batches(values, size), how(per, "median"))
        with pytest.raises(ValueError, match="again"):
            fit(iter(batches(values, size)), how(per, "median"))
    assert found == in_memory


@settings(max_examples=60)
@given(recordings, st.integers(1, 7), st.sampled_from(["mean", "median"]))
def test_what_stands_in_for_invalid_samples(values: np.ndarray, size: int, invalid: str) -> None:
    """scikit-learn's SimpleImputer of that strategy, then StandardScaler, per channel."""
    found = fit(batches(values, size), how("channel", invalid)).apply(values)
    samples = values.reshape(-1, values.shape[2]).astype(np.float64)
    imputed = SimpleImputer(strategy=invalid).fit_transform(samples)
    expected = np.asarray(StandardScaler().fit(samples).transform(imputed)).reshape(values.shape)
    assert close(found, expected)


@settings(max_examples=40)
@given(recordings, st.integers(1, 7), st.sampled_from(["mean", "median"]))
def test_one_stand_in_for_all_channels(values: np.ndarray, size: int, invalid: str) -> None:
    """`per: all` takes mean or median over all samples of all channels, told by numpy."""
    fitted = fit(batches(values, size), how("all", invalid))
    samples = values[np.isfinite(values)].astype(np.float64)
    expected = samples.mean() if invalid == "mean" else np.median(samples)
    np.testing.assert_allclose(fitted.fill, [expected] * values.shape[2], rtol=1e-9, atol=1e-9)


def test_a_median_is_of_train_alone() -> None:
    """The value of an invalid sample was fixed by the training recordings, and an outlier that
    moves the mean does not move the median."""
    train = np.array([[[1.0], [2.0], [3.0], [1000.0], [np.nan]]], dtype=np.float32)
    fitted = fit([train], how("channel", "median"))
    assert fitted.fill == [2.5]
    other = np.full((1, 2, 1), np.nan, dtype=np.float32)
    expected = (2.5 - 251.5) / np.std([1, 2, 3, 1000])
    np.testing.assert_allclose(fitted.apply(other), expected, rtol=1e-6)


def test_the_mean_becomes_zero() -> None:
    """`invalid: mean` is exactly 0 after normalization, whatever the offset."""
    values = np.random.default_rng(0).normal(1e5, 3, (4, 50, 2)).astype(np.float32)
    values[2, 5] = np.nan
    assert (fit([values], how()).apply(values)[2, 5] == 0).all()


@settings(max_examples=40)
@given(recordings, st.integers(1, 7))
def test_streaming_is_the_whole(values: np.ndarray, size: int) -> None:
    """Batches give the moments of the whole: memory is bounded, the result is not approximate."""
    one, many = fit([values], how()), fit(batches(values, size), how())
    assert np.allclose(one.mean, many.mean, rtol=1e-12, atol=1e-12)
    assert np.allclose(one.standard_deviation, many.standard_deviation, rtol=1e-9)


@settings(max_examples=40)
@given(recordings)
def test_undo_is_the_inverse(values: np.ndarray) -> None:
    """A figure can draw recordings in their own unit again."""
    fitted = fit([values], how())
    valid = np.isfinite(values)
    back = fitted.undo(fitted.apply(values))
    scale = np.broadcast_to(fitted.standard_deviation, values.shape)[valid]
    assert (
        np.abs(back[valid] - values[valid]) / scale < 1e-5 * (1 + np.abs(values[valid]) / scale)
    ).all()


def test_constant_channel_becomes_zero() -> None:
    """A flat lead is counted and becomes 0, as with StandardScaler, not a division by zero."""
    values = np.random.default_rng(0).standard_normal((5, 9, 3)).astype(np.float32)
    values[:, :, 1] = 0.1
    fitted = fit(batches(values, 2), how())
    assert fitted.constant_channels == [1]
    assert fitted.standard_deviation[1] == 1
    assert np.abs(fitted.apply(values)[:, :, 1]).max() < 1e-7


@pytest.mark.parametrize("unit", [1e-150, 1e-40, 1e-15, 1e-6, 1e9, 1e150])
@pytest.mark.parametrize("per", ["channel", "all"])
@pytest.mark.parametrize("offset", [0.0, 3.0])
def test_the_unit_of_a_channel_does_not_matter(unit: float, per: str, offset: float) -> None:
    """A magnetic field in tesla is as little constant as one in picotesla; a constant one is in both."""
    values = np.random.default_rng(0).standard_normal((5, 9, 2)) + offset
    if per == "channel":
        values[:, :, 1] = 0.1
    scaled = fit(batches(values * unit, 2), how(per))
    assert scaled.constant_channels == fit(batches(values, 2), how(per)).constant_channels
    assert scaled.constant_channels == ([1] if per == "channel" else [])
    found = scaled.apply(values * unit)[:, :, 0]
    np.testing.assert_allclose(found, fit([values], how(per)).apply(values)[:, :, 0], atol=1e-5)


def test_constant_is_what_rounding_may_leave() -> None:
    """A long constant channel is constant however its mean is rounded; one that changes by a millionth
    of a millionth is not."""
    values = np.full((1, 1_000_000, 2), 0.1)
    values[0, ::2, 1] += 1e-13
    fitted = fit([values], how())
    assert fitted.constant_channels == [0]
    assert fitted.standard_deviation[1] == pytest.approx(5e-14, rel=0.01)
    np.testing.assert_allclose(np.unique(fitted.apply(values)[..., 1]), [-1, 1], atol=0.01)


@pytest.mark.parametrize("unit", [1e-170, 1e-157, 1e170])
def test_values_that_float64_cannot_square_are_an_error(unit: float) -> None:
    """They are neither divided by 0 nor taken for constant: channel and cure are named."""
    values = np.random.default_rng(0).standard_normal((2, 9, 2))
    values[:, :, 1] *= unit
    with np.errstate(all="ignore"), pytest.raises(UserError, match=r"channel B has .*another unit"):
        fit([values], how(), ["A", "B"])


def test_infinite_samples_are_left_out_like_nan() -> None:
    """inf spoils neither mean nor deviation and becomes the mean."""
    values = np.random.default_rng(0).standard_normal((5, 9, 2)).astype(np.float32)
    with_nan, with_inf = values.copy(), values.copy()
    with_nan[1, 2], with_inf[1, 2] = np.nan, [np.inf, -np.inf]
    assert fit([with_inf], how()) == fit([with_nan], how())
    assert (fit([with_inf], how()).apply(with_inf)[1, 2] == 0).all()


@pytest.mark.parametrize("invalid", ["mean", "median"])
def test_channel_without_a_valid_sample_is_an_error(invalid: str) -> None:
    """A lead that is NaN throughout is named; one mean for all channels can do without it."""
    values = np.ones((2, 4, 2), dtype=np.float32)
    values[:, :, 1] = np.nan
    with pytest.raises(UserError, match=r"channel V1 has no valid sample.*normalize\.per"):
        fit([values], how("channel", invalid), ["I", "V1"])
    with pytest.raises(UserError, match="channel number 2 has no valid sample"):
        fit([values], how("channel", invalid))
    assert fit([values], how("all", invalid)).fill == [1, 1]


def test_apply_changes_nothing_it_was_given() -> None:
    """The raw recordings, maybe a memory map, stay as they are."""
    values = np.full((1, 3, 1), np.nan, dtype=np.float32)
    values.setflags(write=False)
    assert (Normalization([1.0], [2.0], [1.0], []).apply(values) == 0).all()
    assert np.isnan(values).all()
