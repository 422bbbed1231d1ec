"""Augmentation: what each parameter may do to a recording, and that it does no more."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import ndimage

from beatline.training.augmentation import Augment, augmented


def augment(**changes: Any) -> Augment:
    return Augment.model_validate(changes)


def draw(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=draw(99))


def maps_of(parameters: Augment, count: int = 400, side: int = 41) -> tuple[np.ndarray, np.ndarray]:
    """The matrices `[B, 2, 2]` and shifts `[B, 2]` (column, row) by which images were changed, as seen
    in what becomes of two ramps, which tell the column and the row that a pixel was taken from."""
    places = torch.arange(side) - (side - 1) / 2
    inside = slice(side // 4, -(side // 4))  # nothing there comes from outside of the image
    column, row = np.meshgrid(places[inside], places[inside])
    known = np.column_stack([column.ravel(), row.ravel(), np.ones(column.size)])
    seen = []
    for ramp in (places.expand(side, side), places[:, None].expand(side, side)):
        images = augmented(ramp.repeat(count, 1, 1), parameters, draw())[:, inside, inside]
        found, residuals, *_ = np.linalg.lstsq(known, images.reshape(count, -1).numpy().T)
        assert residuals.max() < 1e-4  # a plane: the map is affine
        seen.append(found.T)
    maps = np.stack(seen, axis=1)
    return maps[:, :, :2], maps[:, :, 2]


def test_nothing_is_nothing() -> None:
    """All at 0: the very recordings, and no number drawn."""
    recordings, generator = random(4, 30, 3), draw()
    before = generator.get_state()
    assert augmented(recordings, augment(), generator) is recordings
    assert torch.equal(generator.get_state(), before)


@settings(max_examples=40)
@given(
    shift=st.integers(0, 9),
    scale=st.sampled_from([0.0, 0.3]),
    noise=st.sampled_from([0.0, 0.2]),
    seed=st.integers(0, 99),
)
def test_time(shift: int, scale: float, noise: float, seed: int) -> None:
    """Shift with zeros coming in, then a gain per recording, then noise: written out, draw by draw."""
    recordings = random(5, 12, 2)
    found = augmented(recordings, augment(shift=shift, scale=scale, noise=noise), draw(seed))
    generator, expected = draw(seed), recordings.clone()
    if shift:
        first = torch.randint(2 * shift + 1, (5,), generator=generator)
        expected.zero_()
        for record, by in enumerate((shift - first).tolist()):
            for step in range(12):
                if 0 <= step - by < 12:
                    expected[record, step] = recordings[record, step - by]
    if scale:
        expected = expected * (1 + scale * torch.randn((5, 1, 1), generator=generator))
    if noise:
        expected = expected + noise * torch.randn((5, 12, 2), generator=generator)
    assert torch.equal(found, expected)


def test_rotate() -> None:
    """A rotation about the centre and nothing else, evenly spread up to so many degrees either way."""
    matrices, shifts = maps_of(augment(rotate=20.0))
    angles = np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0])
    expected = np.array([[np.cos(angles), -np.sin(angles)], [np.sin(angles), np.cos(angles)]])
    np.testing.assert_allclose(matrices, np.moveaxis(expected, 2, 0), atol=1e-4)
    np.testing.assert_allclose(shifts, 0, atol=1e-3)
    assert_evenly_spread(np.degrees(angles), 20)


def test_zoom() -> None:
    """Width and height change on their own, about the centre, by up to that share."""
    matrices, shifts = maps_of(augment(zoom=0.2))
    np.testing.assert_allclose(matrices[:, [0, 1], [1, 0]], 0, atol=1e-4)
    np.testing.assert_allclose(shifts, 0, atol=1e-3)
    for axis in (0, 1):
        assert_evenly_spread(matrices[:, axis, axis] - 1, 0.2)
    assert abs(np.corrcoef(matrices[:, 0, 0], matrices[:, 1, 1])[0, 1]) < 0.2


def test_shear() -> None:
    """Rows slide along themselves: columns per row, the centre row stays."""
    matrices, shifts = maps_of(augment(shear=0.3))
    np.testing.assert_allclose(matrices[:, 1], [[0, 1]] * 400, atol=1e-4)
    np.testing.assert_allclose(matrices[:, 0, 0], 1, atol=1e-4)
    np.testing.assert_allclose(shifts, 0, atol=1e-3)
    assert_evenly_spread(matrices[:, 0, 1], 0.3)


def test_move() -> None:
    """Along columns and rows on their own, by up to so many pixels, parts of a pixel too."""
    matrices, shifts = maps_of(augment(move=3.0))
    np.testing.assert_allclose(matrices, np.tile(np.eye(2), (400, 1, 1)), atol=1e-4)
    for axis in (0, 1):
        assert_evenly_spread(shifts[:, axis], 3)
    assert abs(np.corrcoef(shifts.T)[0, 1]) < 0.2


def assert_evenly_spread(values: np.ndarray, most: float) -> None:
    """Between -most and most, near both ends, with the deviation of an even spread."""
    assert np.abs(values).max() <= most * 1.001
    assert values.min() < -0.95 * most and values.max() > 0.95 * most
    assert values.std() == pytest.approx(most / math.sqrt(3), rel=0.1)


@settings(max_examples=25)
@given(st.integers(5, 30), st.integers(5, 30), st.integers(0, 99))
def test_images_as_scipy_makes_them(height: int, width: int, seed: int) -> None:
    """All at once, on images that are no squares: linear interpolation, the edge repeated."""
    images = random(3, height, width)
    parameters = augment(rotate=30.0, zoom=0.3, shear=0.2, move=2.0)
    angle, slant, wide, high, right, down = (
        2 * torch.rand((6, 3), generator=draw(seed)).double().numpy() - 1
    )
    found = augmented(images, parameters, draw(seed))
    centre = np.array([(height - 1) / 2, (width - 1) / 2])
    for number, image in enumerate(images.numpy()):
        turn = math.radians(30) * angle[number]
        rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
        stretch = np.diag([1 + 0.3 * wide[number], 1 + 0.3 * high[number]])
        matrix = rotation @ np.array([[1, 0.2 * slant[number]], [0, 1]]) @ stretch
        matrix = matrix[::-1, ::-1]  # scipy counts rows first
        offset = centre - matrix @ centre + 2 * np.array([down[number], right[number]])
        expected = ndimage.affine_transform(
            image,
            matrix,
            offset,  # pyright: ignore[reportArgumentType] - its stub knows one number only
            order=1,
            mode="nearest",
        )
        np.testing.assert_allclose(found[number].numpy(), expected, atol=2e-3)


def test_the_seed_decides() -> None:
    """Same seed, same recordings; another, others; each record of a batch is changed differently."""
    parameters = augment(noise=0.1, scale=0.1, shift=2, rotate=9.0, zoom=0.1, shear=0.1, move=1.0)
    images = random(1, 28, 28).repeat(3, 1, 1)
    first, again = (augmented(images, parameters, draw(1)) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, augmented(images, parameters, draw(2)))
    assert not torch.equal(first[0], first[1])


@pytest.mark.parametrize(
    "wrong", [{"zoom": 1.0}, {"rotate": -1.0}, {"rotate": 181.0}, {"move": -1.0}, {"shift": 0.5}]
)
def test_impossible_parameters(wrong: dict[str, Any]) -> None:
    """Nothing that would turn an image inside out, and no negative extent."""
    with pytest.raises(ValidationError):
        augment(**wrong)


def test_channels_are_dropped_whole() -> None:
    """As often as it says, each by itself and anew for each recording; the others stay as they are."""
    recordings = random(500, 20, 12)
    changed = augmented(recordings, augment(drop_channels=0.2), draw())
    dropped = (changed == 0).all(dim=1)
    assert torch.equal(changed, recordings * ~dropped[:, None])
    assert float(dropped.float().mean()) == pytest.approx(0.2, abs=0.02)
    for by in (0, 1):
        shares = dropped.float().mean(dim=by)
        assert shares.min() < 0.2 < shares.max() < 0.8


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_not_all_channels_can_be_dropped(share: float) -> None:
    with pytest.raises(ValidationError, match="drop_channels"):
        augment(drop_channels=share)
