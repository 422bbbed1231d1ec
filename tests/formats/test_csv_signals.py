"""CSV with samples: lines that are none, and what errors may repeat."""

from __future__ import annotations

import math

import numpy as np
import pytest

from beatline.formats import csv_signals
from beatline.formats.recording import BadRecording


def read(text: str) -> csv_signals.Recording:
    return csv_signals.read(text.encode(), "mine.csv", math.inf)


@pytest.mark.parametrize("columns", [2, 3, 12])
def test_numbers_of_columns_are_no_sample(columns: int) -> None:
    """pandas writes them above a table without names; taken for a sample, they are one of 11 mV."""
    samples = np.random.default_rng(1).normal(size=(20, columns)).round(3)
    lines = [",".join(map(str, row)) for row in samples.tolist()]
    recording = read("\n".join([",".join(map(str, range(columns))), *lines]))
    np.testing.assert_array_equal(recording.samples, samples)
    assert recording.channels is None
    assert [notice.grade for notice in recording.warnings] == ["note"]


@pytest.mark.parametrize(
    ("head", "channels", "units"),
    [
        ("I (uV),II [µV]", ["I", "II"], ["uV", "µV"]),
        ("time (s),V1 (mV)", ["time (s)", "V1"], ["", "mV"]),
        ("I (uV),II", ["I (uV)", "II"], None),  # which may be of any unit
        ("bar (s),speed (m)", ["bar (s)", "speed (m)"], None),
    ],
)
def test_units_behind_names(head: str, channels: list[str], units: list[str] | None) -> None:
    """As most programs export them; taken for a part of the name, no lead would be known."""
    recording = read(f"{head}\n0,2\n1,4\n")
    assert (recording.channels, recording.units) == (channels, units)


def test_whole_numbers_of_two_channels_are_samples() -> None:
    """0 and 1 may be the first ones."""
    assert read("0,1\n5,7\n3,2\n").samples.tolist() == [[0, 1], [5, 7], [3, 2]]


@pytest.mark.parametrize(
    "text",
    [
        "1,2\n3,4\nErika Mustermann,03.03.1950\n5,6\n",
        "Erika Mustermann,03.03.1950\n1,2\n3,4\n",
        "Patient: Erika Mustermann,II\n1,2\n3,4\n",
        "time,Erika Mustermann 1950-03-03\n1,2\n3,4\n",
        "00:00:01.0,2\n00:00:02.0,3\nErika Mustermann,4\n",
    ],
)
def test_names_of_people_stay_in_their_file(text: str) -> None:
    """They are neither repeated in a message, which ends in a log, nor kept as the name of a channel."""
    with pytest.raises(BadRecording) as raised:
        read(text)
    assert "Erika" not in str(raised.value) and "1950" not in str(raised.value)


def test_a_wrong_number_is_told_with_its_place() -> None:
    """So that it can be found and corrected."""
    with pytest.raises(BadRecording, match=r"'3\.4\.5'.*column 2 of line 3"):
        read("I,II\n1.5,2.5\n1.0,3.4.5\n")
