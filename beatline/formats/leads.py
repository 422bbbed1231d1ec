"""The twelve leads of an ECG in their usual order: of the limbs, augmented, of the chest."""

from __future__ import annotations

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
