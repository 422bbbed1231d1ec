"""Images as shares of white, in the size of the training: pixels in grey levels as digits of MNIST, and
values in the data set's own unit as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from beatline.common.errors import listed
from beatline.formats.recording import Notice, Recording, caution, note
from beatline.serving.preparation import digits
from beatline.serving.preparation.signals import check_present
from beatline.serving.problems import unfit
from beatline.serving.recording import Prepared
from beatline.serving.settings import Serve
from beatline.serving.uploads.images import GREY_LEVEL

_WHITE = 255  # the grey level


def steps(_: Recording, dataset: Mapping[str, Any]) -> int:
    """Return how many rows there will be."""
    return dataset["length"]


def prepare(recording: Recording, dataset: Mapping[str, Any], _: Serve) -> Prepared:
    """Shares of white `[rows, columns]`, 0 for black."""
    notices: list[Notice] = []
    units = set(recording.units or [dataset["unit"]])
    pixels, grey = recording.samples, units == {GREY_LEVEL}
    if grey:
        pixels = pixels.astype(np.float32) / np.float32(_WHITE)
    elif units != {dataset["unit"]}:
        raise unfit(
            f"pixels in {listed(sorted(units))} cannot be used: send an image, or {dataset['unit']} "
            f"from 0 to 1"
        )
    if recording.sampling_rate is not None:
        notices.append(note("sampling_rate", "an image has no sampling rate: it is not used"))
    if not (np.isnan(pixels) | ((pixels >= 0) & (pixels <= 1))).all():
        raise unfit(
            f"pixels must be {dataset['unit']}, from 0 to 1: say X-Unit: {GREY_LEVEL} if they go from "
            f"0 to {_WHITE}"
        )
    pixels = _sized(pixels, dataset, notices, grey=grey)
    return Prepared(pixels, notices, len(pixels))


def _sized(
    pixels: np.ndarray, dataset: Mapping[str, Any], notices: list[Notice], *, grey: bool
) -> np.ndarray:
    rows, columns = dataset["length"], len(dataset["channels"])
    missing = int(np.count_nonzero(np.isnan(pixels)))
    if missing:
        notices.append(caution("missing", f"{missing} of {pixels.size} pixels are missing"))
    right = pixels.shape == (rows, columns)
    if right and (missing or not grey or digits.is_as_mnist(pixels)):
        check_present(pixels, dataset["channels"])
        return pixels
    size = " x ".join(map(str, pixels.shape))
    if missing or min(pixels.shape) == 1:
        raise unfit(
            f"{size} values{' of which some are missing' if missing else ''} are no image that can be "
            f"resized to {rows} x {columns}: send an image of this size"
        )
    if grey and rows == columns:
        pixels, done = digits.prepare(pixels, rows)
        notices += done
        return pixels
    message = (
        f"resized from {size} to {rows} x {columns} pixels as it is: send {GREY_LEVEL}s, or an image, to "
        f"have a digit found in it and centred"
    )
    notices.append(caution("resized", message))
    image = Image.fromarray(np.ascontiguousarray(pixels, dtype=np.float32))
    return np.clip(np.asarray(image.resize((columns, rows), Image.Resampling.BILINEAR)), 0, 1)
