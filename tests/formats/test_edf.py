"""EDF and BDF: equal to what pyedflib (EDFlib, in C) wrote and reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyedflib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beatline.formats import recordings
from beatline.formats.recording import BadRecording, Recording, UnfitRecording
from tests.formats.test_vendors import read

RATE = 250


def written(
    path: Path,
    names: tuple[str, ...] = ("V1", "ECG I", "Lead II"),
    units: tuple[str, ...] = ("uV", "mV", "uV"),
    rates: tuple[int, ...] = (RATE,) * 3,
    kind: int = pyedflib.FILETYPE_EDFPLUS,
) -> dict[str, np.ndarray]:
    """Write 4 s, and return what pyedflib reads of it: physical samples by name."""
    writer = pyedflib.EdfWriter(str(path), len(names), file_type=kind)
    with writer:
        writer.setPatientName("Jane Roe")
        for number, (name, unit, rate) in enumerate(zip(names, units, rates, strict=True)):
            bits = 23 if kind in (pyedflib.FILETYPE_BDF, pyedflib.FILETYPE_BDFPLUS) else 15
            largest = {"mV": 8.0, "uV": 4000.0}.get(unit, 30.0)
            header = {"label": name, "dimension": unit, "sample_frequency": rate, "physical_max": largest,
                      "physical_min": -largest, "digital_max": 2**bits - 1, "digital_min": -(2**bits),
                      "prefilter": "", "transducer": ""}  # fmt: skip
            writer.setSignalHeader(number, header)
        rng = np.random.default_rng(1)
        writer.writeSamples([rng.normal(0, 1, 4 * rate) for rate in rates])
        if kind in (pyedflib.FILETYPE_EDFPLUS, pyedflib.FILETYPE_BDFPLUS):
            writer.writeAnnotation(1.0, 0.1, "Jane Roe")
    with pyedflib.EdfReader(str(path)) as reader:
        return {name: reader.readSignal(number) for number, name in enumerate(names)}


KINDS = {
    "EDF": pyedflib.FILETYPE_EDF,
    "EDF+": pyedflib.FILETYPE_EDFPLUS,
    "BDF": pyedflib.FILETYPE_BDF,
    "BDF+": pyedflib.FILETYPE_BDFPLUS,
}


@pytest.mark.parametrize("kind", KINDS)
def test_as_edflib_reads_it(kind: str, tmp_path: Path) -> None:
    """16 and 24 bits, in mV and with leads in their usual order; annotations are no channel."""
    expected = written(tmp_path / "x", kind=KINDS[kind])
    content = (tmp_path / "x").read_bytes()
    assert recordings.kind("", content[: recordings.HEAD]) == "edf"
    recording = read(content)
    assert recording.channels == ["I", "II", "V1"] and recording.units == ["mV"] * 3
    assert recording.sampling_rate == RATE and recording.warnings == []
    columns = [expected["ECG I"], expected["Lead II"] / 1000, expected["V1"] / 1000]
    np.testing.assert_allclose(recording.samples, np.stack(columns, axis=1), rtol=0, atol=1e-6)
    assert "Roe" not in repr(recording)


def test_channels_of_other_rates_are_left_out(tmp_path: Path) -> None:
    """A Holter recorder stores motion beside the ECG: the ECG is read, and the rest is named."""
    expected = written(tmp_path / "x", ("ECG", "Motion"), ("mV", "g"), (RATE, 25))
    recording = read((tmp_path / "x").read_bytes())
    assert recording.channels == ["ECG"] and len(recording.samples) == 4 * RATE
    np.testing.assert_allclose(recording.samples[:, 0], expected["ECG"], atol=1e-6)
    assert [notice.code for notice in recording.warnings] == ["dropped"]
    assert "Motion" in recording.warnings[0].message


def test_units_that_are_no_voltage_stay(tmp_path: Path) -> None:
    """A channel of motion is in g, and no lead of an ECG may be."""
    written(tmp_path / "x", ("ECG", "Motion"), ("mV", "g"), (RATE, RATE))
    assert read((tmp_path / "x").read_bytes()).units == ["mV", "g"]
    written(tmp_path / "x", ("I", "Motion"), ("g", "g"), (RATE, RATE))
    with pytest.raises(UnfitRecording, match="lead I in g"):
        read((tmp_path / "x").read_bytes())


def field(content: bytes, start: int, text: str, length: int = 8) -> bytes:
    return content[:start] + text.encode("latin-1").ljust(length) + content[start + length :]


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    """A file that is cut short, recorded with interruptions, of two rates, or of an impossible range."""
    written(tmp_path / "x")
    content = (tmp_path / "x").read_bytes()
    for share in (0.1, 0.5, 0.9, 0.99):
        with pytest.raises(BadRecording):
            read(content[: int(share * len(content))])
    with pytest.raises(UnfitRecording, match=r"x\.edf .*\+D"):
        read(field(content, 192, "EDF+D"), "x.edf")
    n_signals = int(content[252:256])
    digital_max = 256 + n_signals * (16 + 80 + 8 + 8 + 8 + 8)
    with pytest.raises(BadRecording, match=r"x\.edf "):
        read(field(content, digital_max, "-32768"), "x.edf")
    written(tmp_path / "x", ("I", "II"), ("mV", "mV"), (RATE, 500))
    with pytest.raises(UnfitRecording, match=r"250 Hz.*500 Hz"):
        read((tmp_path / "x").read_bytes())


def test_a_recorder_that_did_not_finish(tmp_path: Path) -> None:
    """The number of records is -1 then: what is there is read, with a caution."""
    written(tmp_path / "x")
    content = (tmp_path / "x").read_bytes()
    recording = read(field(content, 236, "-1"))
    np.testing.assert_array_equal(recording.samples, read(content).samples)
    assert [notice.grade for notice in recording.warnings] == ["caution"]


def test_micro_signs(tmp_path: Path) -> None:
    """µV, in Latin-1 and in UTF-8, neither of which the header may hold."""
    written(tmp_path / "x")
    content = (tmp_path / "x").read_bytes()
    unit = 256 + int(content[252:256]) * (16 + 80)
    expected = read(content).samples
    for text in ("\u00b5V", "\u00c2\u00b5V"):
        np.testing.assert_array_equal(read(field(content, unit, text)).samples, expected)


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("edf") / "x"
    written(path)
    return path.read_bytes()


@settings(max_examples=50)
@given(place=st.integers(0, 1500), text=st.binary(min_size=1, max_size=9))
def test_any_header(content: bytes, place: int, text: bytes) -> None:
    """Whatever stands in a header: a recording or a sentence."""
    try:
        assert isinstance(
            read(content[:place] + text + content[place + len(text) :], "x.edf"), Recording
        )
    except BadRecording as error:
        assert "x.edf" in str(error)
