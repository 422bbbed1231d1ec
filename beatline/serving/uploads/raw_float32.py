"""Raw little-endian float32 in C order, whose shape is in the request header X-Shape."""

from __future__ import annotations

import math
import re

import numpy as np

from beatline.common.errors import shown
from beatline.formats.recording import Recording
from beatline.serving.problems import malformed, unfit
from beatline.serving.settings import Serve
from beatline.serving.uploads.checks import check_size, two_dimensional

SHAPE = r"^\s*\d{1,9}\s*(,\s*\d{1,9}\s*){0,2}$"  # of the header, also for the documentation
SHAPE_PATTERN = re.compile(SHAPE, re.ASCII)


def check_shape(shape: str) -> None:
    """Raise Problem if X-Shape is no shape, also where the format tells its own: who sends it means
    something by it."""
    if not SHAPE_PATTERN.fullmatch(shape):
        raise malformed(
            f"the header X-Shape is {shown(shape)!r}: say time steps and channels, such as 1000,12"
        )


def read(content: bytes, shape: str, where: str, limits: Serve) -> Recording:
    """The samples, not copied. Raises Problem if the shape is not that of the content."""
    sizes = [int(size) for size in shape.split(",")]
    values = math.prod(sizes)
    check_size(values, limits, where)
    if not values:
        raise unfit("the header X-Shape says that there are no samples: send some")
    if len(content) != 4 * values:
        raise malformed(
            f"{where} has {len(content)} bytes, and {values} values of X-Shape {shown(shape)} take "
            f"{4 * values}: send float32, and its shape"
        )
    samples = np.frombuffer(content, "<f4").reshape(sizes)
    return Recording(two_dimensional(samples, where))
