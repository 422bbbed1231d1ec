"""Units of voltage, and how they are converted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_POWERS = {"v": 0, "mv": -3, "uv": -6, "\N{GREEK SMALL LETTER MU}v": -6, "nv": -9}


def power_of_ten(unit: str, target: str) -> int | None:
    """The power of ten by which samples in `unit` become those in `wanted`; None if there is none.

    Case does not matter; both micro signs of Unicode are known. Any unit is converted to itself.
    """
    unit, target = unit.strip().casefold(), target.strip().casefold()
    if unit == target:
        return 0
    if unit not in _POWERS or target not in _POWERS:
        return None
    return _POWERS[unit] - _POWERS[target]


def scaled(samples: np.ndarray, powers: Sequence[int]) -> np.ndarray:
    """Samples `[T, C]`, each channel times that power of ten."""
    shifts = np.array(powers)
    # A division by 1000 is exact to the last bit, a multiplication by 0.001 is not.
    larger, smaller = (10.0 ** np.maximum(sign * shifts, 0) for sign in (1, -1))
    return samples * larger.astype(samples.dtype) / smaller.astype(samples.dtype)
