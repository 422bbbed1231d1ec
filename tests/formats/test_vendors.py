"""Files of electrocardiographs: read as others read them, or as they were written, and no more."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ET
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import sierraecg
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.waveforms.numpy_handler import multiplex_array

from beatline.formats import recordings
from beatline.formats.leads import LEADS, derived, lead_name
from beatline.formats.recording import BadRecording, LargeRecording, Recording, UnfitRecording
from tests.formats import ecg_files
from tests.formats.ecg_files import MADE, SECRETS, digital
from tests.paths import REAL_DATA

REAL = REAL_DATA / "vendor_ecg"
real = pytest.mark.skipif(not REAL.is_dir(), reason=f"no real recordings at {REAL}")


class Files(dict[str, bytes]):
    """Files in memory."""

    path = "files"

    def read(self, name: str) -> memoryview:
        return memoryview(self[name])


def read(content: bytes, name: str = "x", most: float = 1e9) -> Recording:
    return recordings.read(Files({name: content}), name, most)


def check(recording: Recording, expected: dict[str, np.ndarray], rate: float) -> None:
    """`expected`: in mV, by lead; the leads come in their usual order."""
    assert recording.channels == [name for name in LEADS if name in expected]
    assert recording.units == ["mV"] * len(expected) and recording.sampling_rate == rate
    for column, name in enumerate(recording.channels or []):
        # What float32 can hold of a few mV.
        np.testing.assert_allclose(recording.samples[:, column], expected[name], rtol=0, atol=1e-6)


# ---------------------------------------------------------------- real files, by independent readers


@real
@pytest.mark.parametrize("version", ["1_03", "1_04"])
def test_philips_as_sierraecg_reads_it(version: str) -> None:
    """Compressed and with limb leads as differences: any slip would show in all samples. The pulse of
    1 mV for 0.2 s at the end of each, at once in all leads, is no heart's: II is not I + III there."""
    path = REAL / f"philips_{version}.xml"
    other = sierraecg.read_file(str(path))
    expected = {str(lead_name(lead.label)): lead.samples * 0.005 for lead in other.leads}
    recording = read(path.read_bytes())
    length = len(recording.samples)
    check(recording, {name: samples[:length] for name, samples in expected.items()}, 500)
    assert other.leads[0].sampling_freq == 500 and set(expected) == set(LEADS)
    rest = np.stack([samples[length:] for samples in expected.values()])
    assert 150 < rest.shape[1] < 300 and (rest == rest[0]).all()
    assert set(rest[0]) == {0, 1} and np.count_nonzero(rest[0]) == 100
    one, two, three = recording.samples[:, :3].T
    assert np.std(one + three - two) < 0.02 * np.std(two)
    assert [notice.code for notice in recording.warnings] == ["calibration"]


@real
def test_aecg_as_its_xml_says() -> None:
    """The digits, scale and origin of the first series, by Python's own parser."""
    content = (REAL / "hl7_aecg.xml").read_bytes()
    hl7 = "{urn:hl7-org:v3}"
    root: Any = ET.fromstring(content)
    sequences = root.find(f"{hl7}component/{hl7}series").iter(f"{hl7}sequence")
    expected, rate = {}, 0.0
    for sequence in sequences:
        code, value = sequence.find(f"{hl7}code").get("code"), sequence.find(f"{hl7}value")
        if code.startswith("TIME"):
            rate = rate or 1 / float(value.find(f"{hl7}increment").get("value"))
        elif (lead := lead_name(code)) and lead not in expected:
            scale, origin = value.find(f"{hl7}scale"), value.find(f"{hl7}origin")
            assert scale.get("unit") == origin.get("unit") == "uV"
            counts = np.array(value.find(f"{hl7}digits").text.split(), float)
            microvolts = counts * float(scale.get("value")) + float(origin.get("value"))
            expected[lead] = microvolts / 1000
    assert set(expected) == set(LEADS) and len(expected["I"]) == 5000
    check(read(content), expected, rate)


@real
def test_dicom_as_pydicom_reads_it() -> None:
    """Its samples by pydicom, which applies sensitivity, correction and baseline itself."""
    content = (REAL / "dicom_12_lead.dcm").read_bytes()
    dataset = pydicom.dcmread(io.BytesIO(content))
    group = dataset.WaveformSequence[0]
    values = multiplex_array(dataset, 0, as_raw=False)
    expected = {}
    for channel, samples in zip(group.ChannelDefinitionSequence, values.T, strict=True):
        unit = channel.ChannelSensitivityUnitsSequence[0].CodeValue
        name = str(lead_name(channel.ChannelSourceSequence[0].CodeMeaning))
        expected[name] = samples * {"uV": 1e-3, "mV": 1.0}[unit]
    assert set(expected) == set(LEADS)
    check(read(content), expected, float(group.SamplingFrequency))


# ---------------------------------------------------------------- files made to the specifications


@cache
def made(form: str) -> bytes:
    write, names, *_ = MADE[form]
    return write(digital(names))


@pytest.mark.parametrize("form", MADE)
def test_what_was_written_is_read(form: str) -> None:
    """Values in mV, leads and rate, whatever the order of the leads and the unit in the file."""
    _, names, rate, scale, offset = MADE[form]
    counts = digital(names)
    expected = {name: samples * scale + offset for name, samples in counts.items()}
    assert recordings.kind("", made(form)[: recordings.HEAD]) == form.split()[0]
    check(read(made(form)), expected, rate)


@pytest.mark.parametrize("form", MADE)
def test_no_patient_leaves_a_reader(form: str) -> None:
    """Names and dates of birth stand in each file; neither a recording nor an error repeats them."""
    assert b"Roe" in made(form) and b"Jane" in made(form)
    said = [repr(read(made(form)))]
    for end in range(100, len(made(form)), max(len(made(form)) // 20, 1)):
        with pytest.raises(BadRecording) as error:
            read(made(form)[:end])
        said.append(str(error.value))
    assert not [text for text in said for secret in SECRETS if secret in text]


def test_leads_that_muse_leaves_out_follow() -> None:
    """Eight leads are stored; the twelve that a model needs follow by Einthoven and Goldberger."""
    recording = read(made("muse"))
    assert recording.channels
    samples, channels = derived(recording.samples, recording.channels, LEADS)
    by_name = dict(zip(channels, samples.T.astype(float), strict=True))
    assert set(by_name) == set(LEADS)
    one, two = by_name["I"], by_name["II"]
    np.testing.assert_allclose(by_name["III"], two - one, atol=1e-5)
    np.testing.assert_allclose(by_name["AVR"], -(one + two) / 2, atol=1e-5)
    np.testing.assert_allclose(by_name["AVL"], one - two / 2, atol=1e-5)
    np.testing.assert_allclose(by_name["AVF"], two - one / 2, atol=1e-5)


def test_units_of_any_size() -> None:
    """The same volts in another unit are the same millivolts."""
    expected = read(made("muse")).samples
    in_nanovolts = ecg_files.muse(digital(), per_bit="4880", unit="NANOVOLTS")
    np.testing.assert_allclose(read(in_nanovolts).samples, expected, atol=1e-6)


def test_rates_that_are_no_whole_number_stay() -> None:
    """360.1 Hz are not 360 Hz: after half an hour the difference is half a second."""
    recording = read(ecg_files.aecg(digital(), step=str(1 / 360.5)))
    assert recording.sampling_rate == pytest.approx(360.5, rel=1e-9)
    assert read(ecg_files.scp(digital(), interval=3333)).sampling_rate == 300


def test_faults_of_electrodes_are_missing() -> None:
    """An ISHNE recorder stores -32768 while an electrode is off, which is no voltage."""
    counts = digital()
    counts["II"][7:9] = -32768
    samples = read(ecg_files.ishne(counts)).samples
    assert np.argwhere(np.isnan(samples)).tolist() == [[7, 1], [8, 1]]


def test_leads_that_begin_later_are_in_place() -> None:
    """In SCP-ECG each lead says at which sample it begins."""
    content = bytearray(ecg_files.scp(digital(("I", "II"))))
    place = content.index(b"\x02\x14" + b"\1\0\0\0") + 2 + 9  # of lead II in section 3
    content[place : place + 8] = (11).to_bytes(4, "little") + (510).to_bytes(4, "little")
    recording = read(_resealed(content))
    missing = np.isnan(recording.samples)
    assert missing[:10, 1].all() and missing[500:, 0].all() and missing.sum() == 20
    np.testing.assert_allclose(
        recording.samples[10:, 1], digital(("I", "II"))["II"] * 0.0025, atol=1e-6
    )
    assert [notice.code for notice in recording.warnings] == ["missing"]


def _resealed(content: bytearray) -> bytes:
    """An SCP-ECG file with correct checksums again."""
    for number in range(12):
        pointer = 22 + 10 * number
        length, start = (
            int.from_bytes(content[at : at + 4], "little") for at in (pointer + 2, pointer + 6)
        )
        if length:
            section = content[start + 1 : start - 1 + length]
            content[start - 1 : start + 1] = ecg_files._crc(bytes(section)).to_bytes(2, "little")
    content[:2] = ecg_files._crc(bytes(content[2:])).to_bytes(2, "little")
    return bytes(content)


# ---------------------------------------------------------------- what is refused

EACH = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
BOMB, FOREIGN = f'<!ENTITY e0 "{"x" * 1000}">{EACH}', '<!ENTITY e9 SYSTEM "file:///etc/hostname">'


@pytest.mark.parametrize("root", ["RestingECG", "restingecgdata", "AnnotatedECG", "ECG"])
@pytest.mark.parametrize("entities", [BOMB, FOREIGN], ids=["bomb", "foreign"])
def test_entities_are_refused(root: str, entities: str) -> None:
    """A few lines that expand to gigabytes, or to a file of the machine, are read by no reader of XML."""
    content = f"<!DOCTYPE {root} [{entities}]><{root}><CHANNEL>&e9;</CHANNEL></{root}>"
    with pytest.raises(BadRecording, match=r"^x\.xml .*entit"):
        read(f'<?xml version="1.0"?>{content}'.encode(), "x.xml")


def damaged_scp() -> bytes:
    content = bytearray(made("scp"))
    content[-100] ^= 1
    return bytes(content)


def damaged_muse() -> bytes:
    return made("muse").replace(b"<LeadDataCRC32>", b"<LeadDataCRC32>1", 20)


TWO_RATES = made("mortara").replace(b'SAMPLE_FREQ="500"', b'SAMPLE_FREQ="250"', 1)
REFUSED = {
    "a sum of SCP-ECG that is wrong": (damaged_scp(), BadRecording, "CRC"),
    "a sum of MUSE that is wrong": (damaged_muse(), BadRecording, "CRC"),
    "DICOM without a waveform": (ecg_files.dicom(digital(), waveform=False), BadRecording, "Waveform"),
    "two rates": (TWO_RATES.replace(b'DURATION="500"', b"", 1), UnfitRecording, "250 Hz"),
    "no unit": (ecg_files.muse(digital(), unit="FURLONGS"), UnfitRecording, "lead I "),
    "infinity": (made("aecg").replace(b"ts>", b"ts>1e999 ", 1), UnfitRecording, "infinite"),
    "only median beats": (made("muse").replace(b"Rhythm", b"Median"), BadRecording, "rhythm"),
    "no rate": (made("muse").replace(b"Base>500", b"Base>0"), BadRecording, "SampleBase"),
    "fewer than announced": (ecg_files.ishne(digital(), announced=9000), BadRecording, "9,000"),
    "XML of something else": (b"<svg></svg>", BadRecording, "no known format"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_is_said(case: str) -> None:
    """One sentence each, which names the file and what is wrong."""
    content, kind, words = REFUSED[case]
    with pytest.raises(kind) as error:
        read(content, "x.file")
    assert "x.file" in str(error.value) and words in str(error.value), str(error.value)
    assert str(error.value).isprintable() and "/" not in str(error.value).replace("4.88/", "")


@pytest.mark.parametrize("form", MADE)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.99])
def test_files_that_are_cut_short_are_refused(form: str, share: float) -> None:
    """A part of a recording never passes for the whole."""
    content = made(form)
    with pytest.raises(BadRecording):
        read(content[: int(share * len(content))], f"x.{form.split()[0]}")


def test_more_values_than_are_taken() -> None:
    """The limit of who asks holds for every format."""
    assert read(made("dicom"), most=12 * 500).samples.size == 6000
    with pytest.raises(LargeRecording, match="6,000"):
        read(made("dicom"), most=12 * 500 - 1)


@cache
def contents() -> dict[str, bytes]:
    files = {path.name: path.read_bytes() for path in REAL.iterdir()} if REAL.is_dir() else {}
    return {**files, **{form: made(form) for form in MADE}}


@pytest.mark.parametrize("name", contents())
@settings(max_examples=15)
@given(data=st.data())
def test_damage_of_any_kind(name: str, data: st.DataObject) -> None:
    """Bytes that are changed, lost or repeated anywhere, mostly in headers, end in a recording or in one
    sentence."""
    content = bytearray(contents()[name])
    end = data.draw(st.sampled_from([300, 3000, len(content)]))
    places = st.integers(0, min(end, len(content)) - 1)
    for _ in range(data.draw(st.integers(1, 3))):
        place, length = data.draw(places), data.draw(st.integers(1, 64))
        kind = data.draw(st.sampled_from(["flip", "cut", "repeat"]))
        if kind == "flip":
            content[place % len(content)] ^= data.draw(st.integers(1, 255))
        elif kind == "cut":
            del content[place : place + length]
        else:
            content[place:place] = content[place : place + length]
    try:
        recording = read(bytes(content), Path(name).name)
    except BadRecording as error:
        assert str(error).isprintable() and "beatline-" not in str(error)
    else:
        assert recording.samples.ndim == 2 and len(recording.channels or []) in (
            0,
            recording.samples.shape[1],
        )
