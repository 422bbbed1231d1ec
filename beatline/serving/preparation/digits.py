"""A digit in a photo or a scan as those of MNIST: light on black, without its background, cropped, scaled
to fit 20 x 20 pixels, and centred by its centre of mass in 28 x 28 (Y. LeCun, C. Cortes and C. Burges,
The MNIST database of handwritten digits).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from beatline.formats.recording import Notice, caution, note

# Of MNIST: a digit's box, as a share of the image's side, and where its centre of mass lies.
BOX, OFF_CENTRE = 20 / 28, 1.5  # pixels from the middle; of 5,000 digits none is by more than 0.5
BLACK, BRIGHT = 0.1, 0.5  # shares of white that a background stays below, and that a digit reaches
LARGEST = 224  # pixels of a side that are looked at: a larger image is made smaller
STROKE = (
    0.25  # of the image's shorter side: a stroke is narrower, and all that is wider is background
)
APART = (
    0.15  # of the image of the largest stroke: parts that are farther apart are different things
)
ANOTHER = 0.2  # of the ink of the largest thing: a smaller one is a speck
WIDEST = 1.5  # width of a digit by its height
# What stands out from the background: by shares of white, and by standard deviations of the latter.
FAINTEST, NOISE = 0.06, 4.0


@dataclass(frozen=True)
class _Thing:
    """`ink` `[H, W]`: 1 for strokes, 0 elsewhere, grey at their edges; `box`: where it is; `several`:
    whether there are others as large."""

    ink: np.ndarray
    box: tuple[slice, slice]
    several: bool


def is_as_mnist(pixels: np.ndarray) -> bool:
    """Whether shares of white `[side, side]` show a digit in the place and the size of MNIST's."""
    side = len(pixels)
    if pixels.max() < BRIGHT:
        return False
    box = ndimage.find_objects((pixels > BLACK).astype(int))[0]
    fits = max(part.stop - part.start for part in box) <= round(BOX * side)
    off = np.abs(np.array(ndimage.center_of_mass(pixels)) - side / 2)
    return fits and bool((off <= OFF_CENTRE).all())


def prepare(pixels: np.ndarray, side: int) -> tuple[np.ndarray, list[Notice]]:
    """Return an image `[H, W]` of shares of white as one `[side, side]` of MNIST's, and what was done."""
    notices = []
    image = _resized(pixels, min(1, LARGEST / max(pixels.shape)))
    if dark := _is_ink_dark(image):
        notices.append(note("inverted", "dark on light in the image: inverted, as in training"))
    background = _background(image, dark)
    ink = 1 - image / np.maximum(background, BLACK) if dark else image - background
    ink = np.maximum(ink, 0)
    thing = _largest(ink)
    if thing is None:
        message = "nothing stands out from the background of the image: does it show a digit?"
        flat = Image.fromarray(1 - image if dark else image)
        blank = np.asarray(flat.resize((side, side), Image.Resampling.BILINEAR))
        return np.clip(blank, 0, 1), [*notices, caution("blank", message)]
    if (1 - background if dark else background).max() > BLACK / 2:
        message = "the background of the image, its paper and its light, is removed"
        notices.append(note("background", message))
    rows, columns = (
        f"{round(part.start * scale) + 1} to {round(part.stop * scale)}"
        for part, scale in zip(thing.box, np.divide(pixels.shape, image.shape), strict=True)
    )
    size, box = " x ".join(map(str, pixels.shape)), round(BOX * side)
    message = (
        f"cropped from {size} pixels to rows {rows} and columns {columns}, scaled to fit {box} x {box}, "
        f"and centred in {side} x {side} by the centre of mass, as the images of the training"
    )
    return _centred(thing.ink[thing.box], side), [
        *notices,
        note("cropped", message),
        *_doubts(thing),
    ]


def _doubts(thing: _Thing) -> list[Notice]:
    doubts = []
    rows, columns = thing.box
    if thing.several or columns.stop - columns.start > WIDEST * (rows.stop - rows.start):
        message = (
            "the image shows more than one thing, or something wider than a digit: the answer is about "
            "the largest; send one digit at a time"
        )
        doubts.append(caution("several", message))
    places = zip(thing.box, thing.ink.shape, strict=True)
    if any(part.start == 0 or part.stop == length for part, length in places):
        message = (
            "what the image shows reaches its edge: is a whole digit in it, and nothing beside it?"
        )
        doubts.append(caution("edge", message))
    return doubts


def _resized(pixels: np.ndarray, scale: float) -> np.ndarray:
    """Return `[H, W]` with both sides times `scale`, means of what becomes one pixel."""
    rows, columns = (max(round(length * scale), 1) for length in pixels.shape)
    image = Image.fromarray(np.ascontiguousarray(pixels, dtype=np.float32))
    return np.asarray(image.resize((columns, rows), Image.Resampling.HAMMING))


def _is_ink_dark(image: np.ndarray) -> bool:
    """Whether what deviates from the background is darker than it. The background is the quadratic
    surface through the image's border, which follows the light."""
    y, x = (np.linspace(-1, 1, length) for length in image.shape)
    y, x = np.broadcast_arrays(y[:, None], x[None])
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)
    border = np.ones(image.shape, dtype=bool)
    margin = [max(length // 20, 1) for length in image.shape]
    border[margin[0] : -margin[0], margin[1] : -margin[1]] = False
    surface = np.linalg.lstsq(terms[border], image[border], rcond=None)[0]
    return bool(((image - terms @ surface) ** 3).sum() < -1e-6)  # strong ones count, not shades


def _background(image: np.ndarray, dark: bool) -> np.ndarray:
    """Return what is left of an image when all that is narrower than a square of STROKE is taken away:
    its morphological closing where ink is dark, else its opening. Noise is taken away before."""
    width = max(round(STROKE * min(image.shape)), 3)
    sign = 1 if dark else -1
    # Beyond the image there is nothing to take away from: neither ink nor paper.
    smooth = np.pad(sign * ndimage.median_filter(image, 3), width, constant_values=-np.inf)
    closed = ndimage.minimum_filter(ndimage.maximum_filter(smooth, width), width)
    return sign * closed[width:-width, width:-width]


def _largest(ink: np.ndarray) -> _Thing | None:
    """Return the thing with the most ink; None if no ink stands out from the background's noise."""
    strokes = ink > _otsu(ink)
    if not strokes.any() or strokes.all():
        return None
    paper, noise, peak = ink[~strokes].mean(), ink[~strokes].std(), ink[strokes].mean()
    if peak - paper < max(FAINTEST, NOISE * noise):
        return None
    parts = _labelled(strokes)
    boxes = ndimage.find_objects(parts)
    largest = boxes[np.bincount(parts[strokes]).argmax() - 1]
    reach = max(round(APART * max(part.stop - part.start for part in largest)), 3) | 1
    things = _labelled(ndimage.maximum_filter(strokes, reach))
    amounts = np.bincount(things.ravel(), weights=(ink * strokes).ravel())
    number = int(amounts[1:].argmax()) + 1
    several = bool((np.delete(amounts, [0, number]) > ANOTHER * amounts[number]).any())
    itself = (things == number) & ndimage.maximum_filter(strokes, 3)
    box = ndimage.find_objects((strokes & (things == number)).astype(int))[0]
    low, high = paper + 2 * noise, np.percentile(ink[strokes & itself], 75)
    levels = np.clip((ink - low) / max(high - low, FAINTEST / 2), 0, 1)
    return _Thing(np.where(itself, levels, 0).astype(np.float32), box, several)


def _labelled(marked: np.ndarray) -> np.ndarray:
    """Return the number of the connected part that each pixel is in, 0 for none; corners connect."""
    labelled: Any = ndimage.label(marked, np.ones((3, 3)))
    return labelled[0]


def _otsu(values: np.ndarray) -> float:
    """Return the threshold that leaves the least variance within both sides of it (N. Otsu, IEEE
    Transactions on Systems, Man, and Cybernetics 9(1), 1979)."""
    counts, edges = np.histogram(values, 256)
    centres = (edges[1:] + edges[:-1]) / 2
    below, sums = counts.cumsum()[:-1], (counts * centres).cumsum()
    above = values.size - below
    means_apart = sums[-1] * below - sums[:-1] * values.size
    return float(edges[1 + (means_apart**2 / np.maximum(below * above, 1)).argmax()])


def _centred(ink: np.ndarray, side: int) -> np.ndarray:
    """Return a cropped digit in an image `[side, side]`: scaled to its box, and shifted by whole pixels,
    so that its centre of mass is in the middle."""
    digit = np.clip(_resized(ink, round(BOX * side) / max(ink.shape)), 0, 1)
    digit = digit / max(digit.max(), FAINTEST)  # the strokes of a thin pen are pale by now
    image = np.zeros((side, side), np.float32)
    centre = ndimage.center_of_mass(digit)
    rows, columns = (
        min(max(round(side / 2 - float(place)), 0), side - length)
        for place, length in zip(centre, digit.shape, strict=True)
    )
    image[rows : rows + digit.shape[0], columns : columns + digit.shape[1]] = digit
    return image
