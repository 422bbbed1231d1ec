"""Files of electrocardiographs, written from their published specifications and by none of the readers'
authors. All of them are of one patient, Jane Roe, born in 1961, whose name no reader may let out."""

from __future__ import annotations

import base64
import binascii
import io
import json
import struct
from collections.abc import Callable, Mapping

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian, TwelveLeadECGWaveformStorage

from beatline.formats.leads import LEADS

STORED = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")  # in MUSE and SCP files: the others follow
SECRETS = ("Roe", "Jane", "1961")
_CODES = dict(zip(STORED, range(1, 9), strict=True)) | {"III": 61, "AVR": 62, "AVL": 63, "AVF": 64}
_ISHNE_CODES = {name: number for number, name in enumerate(LEADS, 5)}

Digital = Mapping[str, np.ndarray]  # int16 samples by lead


def digital(names: tuple[str, ...] = STORED, n_samples: int = 500) -> dict[str, np.ndarray]:
    """Made-up counts, different in each lead, of which neighbours are near each other as in an ECG."""
    steps = np.random.default_rng(3).integers(-40, 41, (len(names), n_samples))
    steps[:, 100] = 300  # a QRS complex: differences that no short code of SCP-ECG has
    return dict(zip(names, np.cumsum(steps, axis=1).astype(np.int16), strict=True))


def muse(
    leads: Digital,
    rate: int = 500,
    per_bit: str = "4.88",
    unit: str = "MICROVOLTS",
    doctype: str = '<!DOCTYPE RestingECG SYSTEM "restecg.dtd">',
) -> bytes:
    """GE MUSE XML: median beats of zeros, then the rhythm, base64 of int16."""

    def waveform(kind: str, each: Digital) -> str:
        data = [
            f"<LeadData><LeadByteCountTotal>{2 * len(samples)}</LeadByteCountTotal>"
            f"<LeadSampleCountTotal>{len(samples)}</LeadSampleCountTotal>"
            f"<LeadAmplitudeUnitsPerBit>{per_bit}</LeadAmplitudeUnitsPerBit>"
            f"<LeadAmplitudeUnits>{unit}</LeadAmplitudeUnits>"
            f"<LeadSampleSize>2</LeadSampleSize><LeadID>{name}</LeadID>"
            f"<WaveFormData>{base64.encodebytes(samples.astype('<i2').tobytes()).decode()}</WaveFormData>"
            f"<LeadDataCRC32>{binascii.crc32(samples.astype('<i2').tobytes())}</LeadDataCRC32></LeadData>"
            for name, samples in each.items()
        ]
        return (
            f"<Waveform><WaveformType>{kind}</WaveformType><SampleBase>{rate}</SampleBase>"
            f"<SampleExponent>0</SampleExponent>{''.join(data)}</Waveform>"
        )

    patient = (
        "<PatientDemographics><PatientLastName>Roe</PatientLastName><PatientFirstName>Jane"
        "</PatientFirstName><DateofBirth>01-02-1961</DateofBirth></PatientDemographics>"
    )
    median = {name: np.zeros(60, np.int16) for name in leads}
    return (
        f'<?xml version="1.0" encoding="ISO-8859-1"?>{doctype}<RestingECG>{patient}'
        f"{waveform('Median', median)}{waveform('Rhythm', leads)}</RestingECG>"
    ).encode()


def mortara(leads: Digital, rate: int = 500, per_mv: int = 400) -> bytes:
    """Mortara ELI XML."""
    channels = [
        f'<CHANNEL NAME="{name}" UNITS_PER_MV="{per_mv}" SAMPLE_FREQ="{rate}" DURATION="{len(samples)}" '
        f'FORMAT="SIGNED" BITS="16" OFFSET="0" ENCODING="BASE64" '
        f'DATA="{base64.b64encode(samples.astype("<i2").tobytes()).decode()}"/>'
        for name, samples in leads.items()
    ]
    subject = '<SUBJECT LAST_NAME="Roe" FIRST_NAME="Jane" DOB="19610201"/>'
    inner = subject + "".join(channels)
    return f'<?xml version="1.0"?><ECG ACQUISITION_TIME="20200101">{inner}</ECG>'.encode()


def aecg(leads: Digital, step: str = "0.002", scale: str = "5") -> bytes:
    """HL7 aECG (ANSI/HL7 V3 ECG R1), in µV."""
    sequences = [
        f'<component><sequence><code code="MDC_ECG_LEAD_{name}"/><value xsi:type="SLIST_PQ">'
        f'<origin value="0" unit="uV"/><scale value="{scale}" unit="uV"/>'
        f"<digits>{' '.join(map(str, samples))}</digits></value></sequence></component>"
        for name, samples in leads.items()
    ]
    time = (
        '<component><sequence><code code="TIME_ABSOLUTE"/><value xsi:type="GLIST_TS">'
        f'<head value="20200101"/><increment value="{step}" unit="s"/></value></sequence></component>'
    )
    name = (
        "<componentOf><timepointEvent><componentOf><subjectAssignment><subject><trialSubject>"
        "<subjectDemographicPerson><name><family>Roe</family><given>Jane</given></name>"
        '<birthTime value="19610201"/></subjectDemographicPerson></trialSubject></subject>'
        "</subjectAssignment></componentOf></timepointEvent></componentOf>"
    )
    return (
        '<?xml version="1.0"?><AnnotatedECG xmlns="urn:hl7-org:v3" '
        f'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">{name}<component><series>'
        f'<code code="RHYTHM"/><component><sequenceSet>{time}{"".join(sequences)}</sequenceSet>'
        "</component></series></component></AnnotatedECG>"
    ).encode()


def kardia(leads: Digital, rate: int = 300, nanovolts: int = 500) -> bytes:
    """AliveCor Kardia's JSON."""
    samples = {f"lead{name}": values.tolist() for name, values in leads.items()}
    raw = {"frequency": rate, "amplitudeResolution": nanovolts, "samples": samples}
    raw["numLeads"] = len(leads)
    return json.dumps(
        {"recordedAt": "2020-01-01T00:00:00Z", "note": "Jane Roe 1961", "data": {"raw": raw}}
    ).encode()


# ---------------------------------------------------------------- SCP-ECG (EN 1064)


BEAT, FIDUCIAL, QRS = 60, 20, (100, 220, 390)  # samples of the reference beat; beats' fiducials


def scp(
    leads: Digital,
    interval: int = 2000,
    nanovolts: int = 2500,
    *,
    packed: bool = False,
    subtracted: bool = False,
) -> bytes:
    """SCP-ECG; `packed`: second differences in the standard's Huffman code; `subtracted`: less a
    reference beat at each of QRS, which has twice the scale. `interval` in µs."""
    beats = {name: np.arange(BEAT, dtype=np.int16) * (n + 1) for n, name in enumerate(leads)}
    if subtracted:
        leads = {name: samples.copy() for name, samples in leads.items()}
        for name, samples in leads.items():
            for fiducial in QRS:  # all of these count from 1
                start = fiducial - FIDUCIAL
                samples[start : start + BEAT] -= 2 * beats[name]
    lengths = [len(samples) for samples in leads.values()]
    ranges = [
        struct.pack("<IIB", 1, n, _CODES[name]) for name, n in zip(leads, lengths, strict=True)
    ]

    def coded(each: Digital, scale: int) -> bytes:
        parts = [
            _huffman(_second_differences(samples)) if packed else samples.astype("<i2").tobytes()
            for samples in each.values()
        ]
        content = struct.pack("<HHBB", scale, interval, 2 if packed else 0, 0)
        return content + struct.pack(f"<{len(parts)}H", *map(len, parts)) + b"".join(parts)

    places = [(0, at - FIDUCIAL + 1, at, at - FIDUCIAL + BEAT) for at in QRS]
    zones = struct.pack("<HHH", BEAT * interval // 1000, FIDUCIAL, len(QRS))
    zones += b"".join(struct.pack("<HIII", *place) for place in places)
    zones += b"".join(struct.pack("<II", first, last) for _, first, _, last in places)
    tags = ((0, b"Roe\0"), (1, b"Jane\0"), (5, struct.pack("<HBB", 1961, 2, 1)))
    patient = b"".join(struct.pack("<BH", tag, len(value)) + value for tag, value in tags)
    bodies = {
        1: patient + b"\xff\0\0",
        **({2: struct.pack("<H", 19999)} if packed else {}),
        3: bytes([len(leads), subtracted | 4 | len(leads) << 3]) + b"".join(ranges),
        **({4: zones, 5: coded(beats, 2 * nanovolts)} if subtracted else {}),
        6: coded(leads, nanovolts),
    }
    sections = {number: _section(number, body) for number, body in bodies.items()}
    start, pointers = 6 + 16 + 120, {0: (136, 7)}
    for number, section in sections.items():
        pointers[number] = (len(section), start + 1)
        start += len(section)
    table = b"".join(struct.pack("<HII", n, *pointers.get(n, (0, 0))) for n in range(12))
    content = struct.pack("<I", start) + _section(0, table) + b"".join(sections.values())
    return struct.pack("<H", _crc(content)) + content


def _crc(content: bytes) -> int:
    """CRC-CCITT as the standard describes it, bit by bit."""
    crc = 0xFFFF
    for byte in content:
        crc ^= byte << 8
        for _ in range(8):
            crc = crc << 1 ^ (0x1021 if crc & 0x8000 else 0)
            crc &= 0xFFFF
    return crc


def _section(number: int, body: bytes) -> bytes:
    body += b"\0" * (len(body) % 2)
    content = struct.pack("<HIBB6s", number, 16 + len(body), 20, 20, b"SCPECG" * (not number))
    content += body
    return struct.pack("<H", _crc(content)) + content


def _second_differences(samples: np.ndarray) -> list[int]:
    values = samples.astype(int)
    return [*values[:2].tolist(), *np.diff(values, 2).tolist()]


def _huffman(values: list[int]) -> bytes:
    """The default table: 0 is 0, then k ones, a zero and the sign, or an escape and 8 or 16 bits."""
    bits = ""
    for value in values:
        if value == 0:
            bits += "0"
        elif abs(value) <= 8:
            bits += "1" * abs(value) + "0" + ("1" if value < 0 else "0")
        elif -128 <= value < 128:
            bits += "1111111110" + f"{value & 0xFF:08b}"
        else:
            bits += "1111111111" + f"{value & 0xFFFF:016b}"
    bits += "0" * (-len(bits) % 16)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


# ---------------------------------------------------------------- ISHNE, MFER, DICOM


def ishne(leads: Digital, rate: int = 200, nanovolts: int = 2500, announced: int = 0) -> bytes:
    """The ISHNE Holter standard output format (Badilini 1998)."""
    n = len(leads)
    n_samples = len(next(iter(leads.values())))

    def twelve(values: list[int]) -> list[int]:
        return values + [-9] * (12 - len(values))

    header = struct.pack("<iiiih", 0, announced or n_samples, 522, 522, 1)
    header += struct.pack("<40s40s20shh", b"Jane", b"Roe", b"17", 2, 0)
    header += struct.pack("<12h", 1, 2, 1961, 1, 1, 2020, 1, 1, 2020, 0, 0, 0)
    header += struct.pack("<h12h", n, *twelve([_ISHNE_CODES[name] for name in leads]))
    header += struct.pack("<12h12hh", *twelve([0] * n), *twelve([nanovolts] * n), 0)
    header += struct.pack("<40sh80s80s88s", b"digital", rate, b"", b"", b"")
    samples = np.stack(list(leads.values()), axis=1).astype("<i2").tobytes()
    return b"ISHNE1.0" + struct.pack("<H", _crc(header)) + header + samples


def mfer(leads: Digital, milliseconds: int = 2, microvolts: int = 5) -> bytes:
    """MFER (ISO 22077-1), little-endian, a block of all samples per channel."""
    n_samples = len(next(iter(leads.values())))

    def field(tag: int, value: bytes) -> bytes:
        length = (
            bytes([len(value)]) if len(value) < 128 else b"\x84" + struct.pack(">I", len(value))
        )
        return bytes([tag]) + length + value

    content = field(0x40, b"MFR Standard 12-lead ECG        ") + field(0x01, b"\1")
    content += field(0x81, b"Roe^^Jane") + field(
        0x83, b"\x3b\0\0" + struct.pack("<HBB", 1961, 2, 1)
    )
    content += field(0x08, struct.pack("<H", 1)) + field(0x0A, b"\0")
    content += field(0x0B, struct.pack("<BbB", 1, -3, milliseconds))
    content += field(0x0C, struct.pack("<BbB", 0, -6, microvolts))
    content += field(0x04, struct.pack("<I", n_samples)) + field(0x05, bytes([len(leads)]))
    content += field(0x06, b"\1")
    for number, name in enumerate(leads):
        lead = field(0x09, struct.pack("<H", _CODES[name]))
        content += bytes([0x3F, number, len(lead)]) + lead
    samples = b"".join(each.astype("<i2").tobytes() for each in leads.values())
    return content + field(0x1E, samples) + field(0x80, b"")


def dicom(
    leads: Digital, rate: int = 500, microvolts: float = 2.5, *, waveform: bool = True
) -> bytes:
    """A 12-lead ECG as DICOM (PS3.3 A.34.3)."""

    def code(value: str, scheme: str, meaning: str) -> Sequence:
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
        return Sequence([item])

    dataset, meta = Dataset(), FileMetaDataset()
    dataset.file_meta = meta
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = TwelveLeadECGWaveformStorage
    meta.MediaStorageSOPInstanceUID = UID("1.2.3")
    dataset.SOPClassUID, dataset.SOPInstanceUID = TwelveLeadECGWaveformStorage, "1.2.3"
    dataset.PatientName, dataset.PatientBirthDate = "Roe^Jane", "19610201"
    if waveform:
        group = Dataset()
        group.MultiplexGroupLabel, group.WaveformOriginality = "RHYTHM", "ORIGINAL"
        group.NumberOfWaveformChannels = len(leads)
        group.NumberOfWaveformSamples = len(next(iter(leads.values())))
        group.SamplingFrequency = rate
        channels = []
        for name in leads:
            channel = Dataset()
            channel.ChannelSourceSequence = code(
                f"5.6.3-9-{_CODES[name]}", "SCPECG", f"Lead {name}"
            )
            channel.ChannelSensitivity, channel.ChannelSensitivityCorrectionFactor = microvolts, 1
            channel.ChannelSensitivityUnitsSequence = code("uV", "UCUM", "microvolt")
            channel.ChannelBaseline, channel.WaveformBitsStored = 100, 16
            channels.append(channel)
        group.ChannelDefinitionSequence = Sequence(channels)
        group.WaveformBitsAllocated, group.WaveformSampleInterpretation = 16, "SS"
        group.WaveformData = np.stack(list(leads.values()), axis=1).astype("<i2").tobytes()
        dataset.WaveformSequence = Sequence([group])
    file = io.BytesIO()
    pydicom.dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()


# By format: a file, its leads, rate (Hz), mV per count, and mV that are added.
MADE: dict[str, tuple[Callable[[Digital], bytes], tuple[str, ...], float, float, float]] = {
    "muse": (muse, STORED, 500, 0.00488, 0),
    "mortara": (mortara, LEADS, 500, 0.0025, 0),
    "aecg": (aecg, LEADS, 500, 0.005, 0),
    "scp": (scp, STORED, 500, 0.0025, 0),
    "scp packed": (lambda leads: scp(leads, packed=True), STORED, 500, 0.0025, 0),
    "scp subtracted": (
        lambda leads: scp(leads, packed=True, subtracted=True),
        STORED,
        500,
        0.0025,
        0,
    ),
    "ishne": (ishne, LEADS, 200, 0.0025, 0),
    "mfer": (mfer, LEADS, 500, 0.005, 0),
    "dicom": (dicom, LEADS, 500, 0.0025, 0.1),
    "kardia": (kardia, ("I", "II", "III"), 300, 0.0005, 0),
}
