"""The twelve leads of an ECG: their names, usual order, and what follows from two limb leads."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

import numpy as np

LEADS = (
    "I",
    "II",
    "III",
    "AVR",
    "AVL",
    "AVF",
    "V1",
    "V2",
    "V3",
    "V4",
    "V5",
    "V6",
)  # as files name them
PRINTED = tuple(name.replace("AV", "aV") for name in LEADS)
POSITION = {name: number for number, name in enumerate(LEADS)}

# Before the name of a lead: in HL7 and IEEE 11073, DICOM, EDF+.
_PREFIX = re.compile(r"(mdc[ _])?(e[ck]g[ _:]+)?(lead[ _:-]*)?", re.I)
# Behind it: in DICOM's code meanings.
_SUFFIX = re.compile(r" *\((einthoven|goldberger|wilson)[^()]*\)$", re.I)
_SPANISH = {"DI": "I", "DII": "II", "DIII": "III"}  # derivación, derivação, dérivation

# Each limb lead as a sum of I and II: Einthoven's law, and Goldberger's augmented leads.
_OF_I_AND_II = {
    "I": (1.0, 0.0),
    "II": (0.0, 1.0),
    "III": (-1.0, 1.0),
    "AVR": (-0.5, -0.5),
    "AVL": (1.0, -0.5),
    "AVF": (-0.5, 1.0),
}
LIMBS = tuple(_OF_I_AND_II)
DERIVABLE = ("III", "AVR", "AVL", "AVF")


def lead_name(name: str) -> str | None:
    """Return the name in LEADS of a lead such as "Lead aVR" or MDC_ECG_LEAD_AVR; None if it is none."""
    plain = _SUFFIX.sub("", _PREFIX.sub("", name.strip(), count=1)).strip().upper()
    plain = _SPANISH.get(plain, plain)
    return plain if plain in POSITION else None


def lead_names(names: Sequence[str]) -> list[str]:
    """Return channels' names with those of leads as in LEADS; as they are where two would become one."""
    named = [lead_name(name) or name for name in names]
    return [new if named.count(new) == 1 else name for name, new in zip(names, named, strict=True)]


def derived(
    samples: np.ndarray, channels: Sequence[str], wanted: Collection[str]
) -> tuple[np.ndarray, list[str]]:
    """Samples `[T, C]` and the names of their channels, with those of III, AVR, AVL and AVF behind them
    that are `wanted`, missing, and follow from two limb leads; nothing else is added.

    They follow from the first two in the order of LEADS, by Einthoven's law (II = I + III) and the
    definition of Goldberger's leads (AVR = -(I + II) / 2 and so on); any two determine the others. Names
    are those in LEADS. A derived sample is NaN where one of the two is.
    """
    missing = [name for name in DERIVABLE if name in wanted and name not in channels]
    given = [name for name in LIMBS if list(channels).count(name) == 1][:2]
    if not missing or len(given) < 2:
        return samples, list(channels)
    base = np.linalg.inv([_OF_I_AND_II[name] for name in given])
    weights = np.array([_OF_I_AND_II[name] for name in missing]) @ base
    limbs = samples[:, [list(channels).index(name) for name in given]]
    made = limbs @ weights.T.astype(samples.dtype)
    return np.concatenate([samples, made], axis=1), [*channels, *missing]
