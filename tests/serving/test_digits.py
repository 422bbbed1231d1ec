"""Photos of digits become what MNIST shows, and what MNIST shows stays what it is."""

from __future__ import annotations

import io
import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter
from scipy import ndimage
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from beatline.formats.mnist import parse_idx
from beatline.formats.recording import Recording
from beatline.serving import uploads
from beatline.serving.preparation import digits, prepare
from beatline.serving.recording import Prepared
from tests.serving.uploads import DIGITS, LIMITS, REAL, image, npy, upload

LIGHTS = st.floats(-0.3, 0.3)


def prepared(content: bytes) -> Prepared:
    return prepare(uploads.read(upload(content), LIMITS), DIGITS, 1, limits=LIMITS)


def grades(found: Prepared) -> dict[str, str]:
    return {notice.code: notice.grade for notice in found.notices}


def three(side: int = 28) -> np.ndarray:
    """A digit 3 of two arcs `[side, side]`, 1 for ink: higher than wide, alike to no turn of itself."""
    y, x = np.mgrid[: side * 4, : side * 4] / (side * 4) - 0.5
    upper = np.abs(np.hypot(x, y + 0.16) - 0.13)
    lower = np.abs(np.hypot(x, y - 0.14) - 0.17)
    ink = ((upper < 0.04) & (x > -0.07)) | ((lower < 0.04) & (x > -0.1))
    return ink.reshape(side, 4, side, 4).mean(axis=(1, 3))


def drawn(
    ink: np.ndarray,
    shape: tuple[int, int] = (240, 320),
    at: tuple[int, int] = (60, 90),
    light: tuple[float, float] = (0.2, -0.2),
) -> np.ndarray:
    """Dark `ink` on paper of `shape`, grey levels; the light falls off along the axes by `light`."""
    whole = np.zeros(shape)
    whole[at[0] : at[0] + ink.shape[0], at[1] : at[1] + ink.shape[1]] = ink
    y, x = (np.linspace(-1, 1, length) for length in shape)
    lit = 0.65 + light[0] * y[:, None] + light[1] * x[None]
    return np.round(255 * np.clip(lit * (1 - 0.7 * whole), 0, 1)).astype(np.uint8)


def photo(ink: np.ndarray, rng: np.random.Generator) -> bytes:
    """A JPEG of `ink` somewhere on paper: larger, turned, in uneven light, noisy and blurred."""
    shape = tuple(rng.integers(200, 500, 2).tolist())
    side = int(rng.uniform(0.35, 0.8) * min(shape))
    picture = Image.fromarray((255 * ink).astype(np.uint8)).resize((side, side))
    turned = picture.rotate(rng.uniform(-10, 10), Image.Resampling.BICUBIC)
    row, column = (int(rng.integers(0, length - side + 1)) for length in shape)
    light = tuple(rng.uniform(-0.25, 0.25, 2))
    paper = drawn(np.asarray(turned) / 255, shape, (row, column), light)
    noisy = np.clip(paper + rng.normal(0, 4, shape), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(noisy).filter(ImageFilter.GaussianBlur(1)).save(file, "JPEG", quality=75)
    return file.getvalue()


def test_photos_of_digits_are_read() -> None:
    """Real handwriting, photographed, is told apart by its nearest neighbours among prepared scans, as
    often as scans are (85 %). Images that are merely made smaller are told apart in 15 of 100 cases."""
    found: Any = load_digits()
    written = [np.pad(np.kron(digit, np.ones((4, 4))) / 16, 4) for digit in found.images[:560]]
    smooth = [ndimage.gaussian_filter(digit, 1.5) for digit in written]
    scans = [digits.prepare(digit, 28)[0].ravel() for digit in smooth[:500]]
    reader = KNeighborsClassifier(1).fit(scans, found.target[:500])
    rng = np.random.default_rng(4)
    photos = [prepared(photo(digit, rng)).samples.ravel() for digit in smooth[500:]]
    assert reader.score(photos, found.target[500:560]) >= 0.8


@pytest.mark.skipif(not (REAL / "mnist").is_dir(), reason="real digits are not here")
def test_images_of_mnist_are_left_as_they_are() -> None:
    """To the last bit, and in silence, whichever way the grey levels come."""
    names = "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"
    pixels, labels = ((REAL / "mnist" / name).read_bytes() for name in names)
    images = parse_idx(pixels, labels, *names).images
    assert all(digits.is_as_mnist(pixels.astype(np.float32) / 255) for pixels in images)
    for pixels in images[::50]:
        for sent in (upload(image(pixels)), npy(pixels, X_Unit="grey level")):
            found = prepare(uploads.read(sent, LIMITS), DIGITS, 1, limits=LIMITS)
            np.testing.assert_array_equal(found.samples, pixels.astype(np.float32) / 255)
            assert not found.notices


@settings(max_examples=15)
@given(
    side=st.integers(100, 230),
    across=st.floats(0, 1),
    down=st.floats(0, 1),
    light=st.tuples(LIGHTS, LIGHTS),
    dark=st.booleans(),
)
@example(side=130, across=0.0, down=0.0, light=(0.0, 0.0), dark=False)
def test_where_and_how_large_a_digit_is_does_not_matter(
    side: int, across: float, down: float, light: tuple[float, float], dark: bool
) -> None:
    """Nor how the light falls on it, or whether it is ink on paper or chalk on a board: it is as high as
    MNIST's digits are, its centre of mass in the middle, black around it."""
    expected, _ = digits.prepare(three(200), 28)
    at = int(down * (240 - side)), int(across * (320 - side))
    levels = drawn(three(side), at=at, light=light) if dark else drawn(three(side), at=at)
    found = prepared(image(levels if dark else 255 - levels))
    samples = found.samples
    # The centre of mass may fall between two pixels, and is brought to either; so may an edge. What is
    # moved by half a pixel here is blurred.
    steps = itertools.product((0, -0.5, 0.5, -1, 1), repeat=2)
    moved = [ndimage.shift(samples, by, order=1) for by in steps]
    assert max(np.corrcoef(each.ravel(), expected.ravel())[0, 1] for each in moved) > 0.96
    rows, columns = ndimage.find_objects((samples > 0).astype(int))[0]
    assert max(rows.stop - rows.start, columns.stop - columns.start) == 20
    assert np.abs(np.array(ndimage.center_of_mass(samples)) - 14).max() <= 0.5
    assert samples.dtype == np.float32 and samples.max() == 1
    steps = {"background": "note", "cropped": "note"} | ({"inverted": "note"} if dark else {})
    assert grades(found) == steps


def test_the_place_in_the_photo_is_told() -> None:
    """In the photo's own pixels, also of one that is made smaller to look at."""
    ink = np.ones((300, 60))
    levels = drawn(ink, (900, 1200), (200, 500))
    (message,) = (n.message for n in prepared(image(levels)).notices if n.code == "cropped")
    numbers = [int(word) for word in message.replace(",", "").split() if word.isdigit()]
    assert numbers[:6] == pytest.approx([900, 1200, 201, 500, 501, 560], abs=6)


@pytest.mark.parametrize("shape", [(28, 28), (240, 320), (3, 400)])
@pytest.mark.parametrize("paper", [0, 128, 255])
def test_a_blank_image_is_warned_of(shape: tuple[int, int], paper: int) -> None:
    """With noise, in uneven light and without: a model would call it some digit."""
    rng = np.random.default_rng(paper)
    even = np.full(shape, paper, np.uint8)
    noisy = np.clip(even + rng.normal(0, 4, shape), 0, 255).astype(np.uint8)
    for levels in (even, noisy, drawn(np.zeros((1, 1)), shape, (0, 0))):
        found = prepared(image(levels))
        assert grades(found)["blank"] == "caution" and found.samples.shape == (28, 28)


def test_what_is_more_or_less_than_a_digit_is_warned_of() -> None:
    """Two digits, a digit that the photo cuts, a table beside the paper: the answer is about one thing,
    or about none. Specks do not matter."""
    left, right = drawn(three(80), at=(60, 30)), drawn(three(80), at=(60, 200))
    assert grades(prepared(image(np.minimum(left, right))))["several"] == "caution"
    cut = drawn(three(150), at=(50, 90))[:130]
    assert grades(prepared(image(cut)))["edge"] == "caution"
    table = left.copy()
    table[:, 240:] = 10
    assert "caution" in grades(prepared(image(table))).values()
    specks = left.copy()
    specks[20:23, 300:303] = 40
    found = prepared(image(specks))
    assert set(grades(found).values()) == {"note"}
    np.testing.assert_allclose(found.samples, prepared(image(left)).samples, atol=0.1)


def test_values_are_taken_at_their_word() -> None:
    """Shares of white of the right size are the data set's own, whatever they show."""
    for values in (np.full((28, 28), 0.9), 1 - three(28), np.zeros((28, 28))):
        found = prepare(Recording(values), DIGITS, 1, limits=LIMITS)
        np.testing.assert_array_equal(found.samples, values)
        assert not found.notices
    other = prepare(Recording(three(56)), DIGITS, 1, limits=LIMITS)
    assert grades(other) == {"resized": "caution"} and other.samples.shape == (28, 28)
