"""Leads of an ECG: their names, and those that follow from two others."""

from __future__ import annotations

from itertools import combinations, permutations
from typing import Any

import numpy as np
import pytest
import wfdb

from beatline.formats.leads import DERIVABLE, LEADS, LIMBS, derived, lead_name, lead_names
from tests.paths import REAL_DATA

NAMES = {
    "AVR": [
        "aVR",
        "AVR",
        "avr ",
        "Lead aVR",
        "MDC_ECG_LEAD_AVR",
        "EKG aVR",
        "Lead aVR (Goldberger)",
    ],
    "I": ["I", "i", "Lead I", "MDC_ECG_LEAD_I", "ECG I", "ECG Lead I", "DI", "Lead I (Einthoven)"],
    "V1": ["v1", "Lead V1", "ECG V1", "MDC_ECG_LEAD_V1"],
    None: ["", "V7", "V3R", "MLII", "-aVR", "1", "IV", "lead", "ECG", "I-cal", "X", "IVUS", "aVRx"],
}


@pytest.mark.parametrize("name", NAMES, ids=str)
def test_names_by_many_spellings(name: str | None) -> None:
    """As devices, HL7, DICOM and EDF+ write them; what only looks like a lead is none."""
    read = {spelling: lead_name(spelling) for spelling in NAMES[name]}
    assert read == dict.fromkeys(NAMES[name], name)


def test_two_channels_never_become_one() -> None:
    """Where both I and Lead I are there, nobody knows which is meant."""
    assert lead_names(["Lead I", "resp", "aVF"]) == ["I", "resp", "AVF"]
    assert lead_names(["Lead I", "I", "aVF"]) == ["Lead I", "I", "AVF"]


def of_electrodes() -> dict[str, np.ndarray]:
    """The leads of the limbs by their definitions, from potentials of three electrodes."""
    right, left, foot = np.random.default_rng(1).normal(size=(3, 40))
    return {
        "I": left - right,
        "II": foot - right,
        "III": foot - left,
        "AVR": right - (left + foot) / 2,
        "AVL": left - (right + foot) / 2,
        "AVF": foot - (right + left) / 2,
    }


@pytest.mark.parametrize("given", combinations(LIMBS, 2), ids="-".join)
def test_any_two_limb_leads_determine_the_others(given: tuple[str, str]) -> None:
    """Whatever the potentials are, and in either order."""
    leads = of_electrodes()
    for names in permutations(given):
        samples = np.stack([leads[name] for name in names], axis=1)
        made, channels = derived(samples, names, LEADS)
        assert channels == [*names, *(name for name in DERIVABLE if name not in names)]
        expected = np.stack([leads[name] for name in channels], axis=1)
        np.testing.assert_allclose(made, expected, atol=1e-12)


def test_nothing_else_is_made() -> None:
    """Neither a lead of the chest, nor one that is not wanted or is there, nor any from a single one."""
    one, two, three = (of_electrodes()[name] for name in ("I", "II", "III"))
    for names, wanted in (
        (("I", "V1"), LEADS),
        (("I", "II"), ("V1", "I")),
        (("I", "I"), LEADS),
        (("lead", "II"), LEADS),
    ):
        samples, channels = derived(np.stack([one, two], axis=1), names, wanted)
        assert (channels, samples.shape) == (list(names), (40, 2))
    wrong = three + 1  # a lead that is there stays as it is
    samples, channels = derived(np.stack([one, two, wrong], axis=1), ("I", "II", "III"), ("III",))
    assert channels == ["I", "II", "III"]
    np.testing.assert_array_equal(samples[:, 2], wrong)


def test_a_missing_sample_is_missing_in_what_follows() -> None:
    """And float32 stays float32."""
    leads = of_electrodes()
    samples = np.stack([leads["I"], leads["II"]], axis=1).astype(np.float32)
    samples[5, 1] = np.nan
    made, _ = derived(samples, ("I", "II"), ("III",))
    assert made.dtype == np.float32 and np.isnan(made[:, 2]).nonzero()[0].tolist() == [5]


@pytest.mark.skipif(not (REAL_DATA / "ptbxl").is_dir(), reason=f"no real ECGs at {REAL_DATA}")
def test_real_leads_follow_to_their_resolution() -> None:
    """PTB-XL stores all twelve, each filtered and rounded for itself."""
    record: tuple[Any, Any] = wfdb.rdsamp(str(REAL_DATA / "ptbxl/records500/00000/00001_hr"))
    samples, fields = record
    made, channels = derived(samples[:, :2], fields["sig_name"][:2], LEADS)
    assert channels == list(LEADS[:6])
    np.testing.assert_allclose(made, samples[:, :6], atol=0.002)
