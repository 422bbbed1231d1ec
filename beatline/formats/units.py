"""Units of voltage, and how they are converted."""

from __future__ import annotations

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
