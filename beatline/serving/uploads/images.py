"""Images, PNG and JPEG, as grey levels."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageOps

from beatline.formats.recording import Recording
from beatline.serving.problems import too_large
from beatline.serving.settings import Serve
from beatline.serving.uploads.checks import check_size, decoding

MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
GREY_LEVEL = "grey level"  # from 0 for black to 255 for white
_FORMATS = ("PNG", "JPEG")
MOST_SHRUNK = 8  # times `limits` that a JPEG may have, which is decoded at a fraction of its size
_DEEP = ("I", "I;16", "I;16B", "I;16L")  # of 16 bits a pixel


def read(content: bytes, where: str, limits: Serve) -> Recording:
    """Grey levels float32 `[rows, columns]`, what is transparent as white paper, upright as EXIF says. A
    large photo is decoded at a half or a fourth of its sides (JPEG's own scaling).

    Raises Problem if it is no such image, or larger than `limits`, which is checked before a pixel
    is decoded.
    """
    with decoding(where, "PNG or JPEG image"):
        try:
            image = Image.open(io.BytesIO(content), formats=_FORMATS)
        except Image.DecompressionBombError:
            raise too_large(f"{where} has far too many pixels: send a smaller image") from None
        size = image.width * image.height / limits.max_values
        if 1 < size <= MOST_SHRUNK:
            side = 2 if size <= 4 else 4
            image.draft("L", (image.width // side, image.height // side))
        check_size(image.width * image.height, limits, where)
        pixels = _grey(ImageOps.exif_transpose(image))
    return Recording(pixels, units=[GREY_LEVEL] * pixels.shape[1])


def _grey(image: Image.Image) -> np.ndarray:
    if image.mode in _DEEP:
        return np.asarray(image).astype(np.float32) / np.float32(257)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(paper, image)
    return np.asarray(image.convert("L")).astype(np.float32)
