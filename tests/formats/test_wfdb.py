"""WFDB records: equal to wfdb bit for bit, and every damage is one clear sentence."""

from __future__ import annotations

import math
import tempfile
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
import wfdb
from hypothesis import given, settings
from hypothesis import strategies as st

from beatline.formats.wfdb import BadRecord, check_records, parse_header, read_records
from beatline.sources.pack import Pack, PackWriter
from tests.paths import REAL_DATA

# Of wfdb itself, about pandas.
pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")

REAL = REAL_DATA / "ptbxl"
LEADS = ["I", "II", "III", "AVR", "AVL", "AVF", "V1", "V2", "V3", "V4", "V5", "V6"]
MISSING = {
    "16": -(2**15),
    "24": -(2**23),
    "32": -(2**31),
    "80": -(2**7),
    "212": -(2**11),
    "508": -(2**7),
    "516": -(2**15),
    "524": -(2**23),  # by FLAC
}

# Of a sample in the file. In 310 and 311 three samples take four bytes: wfdb reads whole triplets.
BITS = {8: 8, 16: 16, 24: 24, 32: 32, 61: 16, 80: 8, 160: 16, 212: 12, 310: 32 / 3, 311: 32 / 3}


def pack_of(path: Path, files: dict[str, bytes]) -> Pack:
    with PackWriter(path) as pack:
        for name, content in files.items():
            pack.add(name, content)
    return Pack(path)


def record(
    n_samples: int = 50,
    leads: list[str] = LEADS,
    name: str = "1",
    first: str = "{name} {n} 100 {T}",
    line: str = "{name}.dat 16 1000.0(0)/mV 16 0 {initial} {checksum} 0 {lead}",
) -> dict[str, bytes]:
    """A record in the layout of PTB-XL, of random samples."""
    rng = np.random.default_rng(len(leads))
    samples = rng.integers(-2000, 2000, (n_samples, len(leads)), np.int16)
    lines = [first.format(name=name, n=len(leads), T=n_samples)]
    for lead, values in zip(leads, samples.T, strict=True):
        checksum = int(values.sum(dtype=np.int64)) % 65536
        lines.append(line.format(name=name, initial=values[0], checksum=checksum, lead=lead))
    dat = samples.astype("<i2").tobytes()
    return {f"{name}.hea": "\n".join(lines).encode() + b"\n", f"{name}.dat": dat}


def read_one(path: Path, files: dict[str, bytes], **expected) -> np.ndarray:
    with pack_of(path / "raw.zip", files) as pack:
        (batch,) = read_records(pack, ["1"], **expected)
    return batch[0]


def rdsamp(folder: Path, name: str = "1") -> np.ndarray:
    return np.asarray(wfdb.rdsamp(str(folder / name))[0])


def assert_equal_to_wfdb(folder: Path) -> None:
    """The record `1` in `folder` reads as wfdb reads it, bit for bit, in both precisions."""
    files = {file.name: file.read_bytes() for file in sorted(folder.iterdir())}
    expected = rdsamp(folder)
    for dtype in (np.float64, np.float32):
        got = read_one(folder, files, dtype=dtype)
        assert got.dtype == dtype
        # As bytes, because NaN is unequal to itself; the sign of a NaN means nothing.
        same = np.where(np.isnan(expected), np.nan, expected).astype(dtype)
        assert np.where(np.isnan(got), np.nan, got).astype(dtype).tobytes() == same.tobytes()


@pytest.mark.skipif(not REAL.is_dir(), reason="the real records are not here")
@pytest.mark.parametrize(("folder", "n_samples"), [("records100", 1000), ("records500", 5000)])
def test_all_real_records(folder: str, n_samples: int, tmp_path: Path) -> None:
    """Every real record reads as wfdb reads it, and none is found to be bad."""
    headers = sorted((REAL / folder).rglob("*.hea"))
    with PackWriter(tmp_path / "raw.zip") as writer:
        for header in headers:
            for file in (header, header.with_suffix(".dat")):
                writer.add(file.relative_to(REAL).as_posix(), file.read_bytes())
    names = [header.relative_to(REAL).with_suffix("").as_posix() for header in headers]
    expected = {"leads": LEADS, "sampling_rate": n_samples / 10, "samples": n_samples}
    with Pack(tmp_path / "raw.zip") as pack:
        batches = list(read_records(pack, names, **expected, batch=128))
        assert check_records(pack, names, **expected) == {}
    got = np.concatenate(batches)
    assert got.shape == (len(names), n_samples, 12) and got.dtype == np.float32
    assert all(len(batch) == 128 for batch in batches[:-1])
    for name, values in zip(names, got, strict=True):
        assert np.float32(rdsamp(REAL, name)).tobytes() == values.tobytes(), name


@settings(max_examples=80)
@given(data=st.data())
def test_what_wfdb_writes(data: st.DataObject) -> None:
    """All formats that wfdb writes, over gains, baselines, lengths and missing samples."""
    n_leads = data.draw(st.sampled_from([1, 2, 12]))
    n_samples = data.draw(st.integers(1, 90))
    form = data.draw(st.sampled_from(sorted(MISSING)))
    gain = st.one_of(
        st.sampled_from([1000.0, 200.0, 204.8, 1.0]),
        st.floats(1e-3, 1e6).map(lambda x: round(x, 9)),
    )
    gains = data.draw(st.lists(gain, min_size=n_leads, max_size=n_leads))
    bases = data.draw(st.lists(st.integers(-5000, 5000), min_size=n_leads, max_size=n_leads))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    lowest = MISSING[form]
    samples = rng.integers(lowest, -lowest, (n_samples, n_leads))
    samples[rng.random(samples.shape) < 0.1] = lowest
    with tempfile.TemporaryDirectory() as folder:
        wfdb.wrsamp(
            "1",
            fs=100,
            units=["mV"] * n_leads,
            sig_name=LEADS[:n_leads],
            d_signal=samples,
            fmt=[form] * n_leads,
            adc_gain=gains,
            baseline=bases,
            write_dir=folder,
        )
        assert_equal_to_wfdb(Path(folder))


@settings(max_examples=60)
@given(
    forms=st.lists(st.sampled_from(sorted(BITS)), min_size=1, max_size=3),
    n_samples=st.integers(1, 90),
    offset=st.integers(0, 9),
    announced=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_any_bytes_in_any_format(
    forms: list[int], n_samples: int, offset: int, announced: bool, seed: int
) -> None:
    """Several files of several formats, a byte offset, and a length that only the file tells."""
    rng = np.random.default_rng(seed)
    n_samples *= 3 if {310, 311} & {*forms} else 1
    with tempfile.TemporaryDirectory() as folder:
        lines = [f"1 {2 * len(forms)} 360/360(0){f' {n_samples}' if announced else ''}"]
        for number, form in enumerate(forms):
            content = rng.bytes(offset + math.ceil(2 * n_samples * BITS[form] / 8))
            (Path(folder) / f"{number}.dat").write_bytes(content)
            lines += [f"{number}.dat {form}+{offset} 200(7)/uV 12 3"] * 2
        (Path(folder) / "1.hea").write_text("\n".join(lines))
        assert_equal_to_wfdb(Path(folder))


def test_header_fields() -> None:
    """Every field of header(5) has its place."""
    header = parse_header(
        "#a comment\n\n1 2 360/3.6(0.5) 10 12:00:00 01/02/1999\n"
        "1.dat 212x1:0+4 2.5e2(-3)/uV 11 1024 995 -22131 8 MLII (left)\n1.dat 212+4\n# age 5\n",
        "1.hea",
    )
    assert (header.record_name, header.n_leads) == ("1", 2)
    assert (header.sampling_rate, header.n_samples) == (360, 10)
    first, second = header.leads
    assert first[:3] == ("1.dat", 995, -22131)
    assert tuple(first.format) == (212, 4, 250, -3, "uV", "MLII (left)")
    assert second[:3] == ("1.dat", 0, None)
    assert tuple(second.format) == (212, 4, 200, 0, "mV", "")


def test_header_defaults() -> None:
    """Defaults of fields that are left out: 250 Hz, gain 200 also for 0, the ADC's zero as baseline."""
    header = parse_header("1 1\n1.dat 16 0 12 5 0\n", "1.hea")
    assert (header.sampling_rate, header.n_samples) == (250, None)
    assert header.leads[0].format.gain == 200
    assert header.leads[0].format.baseline == 5


def test_leads_in_the_order_asked_for(tmp_path: Path) -> None:
    """Names decide, not positions, whatever their case; a subset may be chosen."""
    files = record()
    whole = read_one(tmp_path, files)
    got = read_one(tmp_path, files, leads=["aVR", "v6", "I"])
    assert np.array_equal(got, whole[:, [3, 11, 0]])


def test_leads_of_the_first_record_hold_for_all(tmp_path: Path) -> None:
    """A record with its leads in another order is put in order, never mixed in silently."""
    files = record() | record(leads=LEADS[::-1], name="2")
    with pack_of(tmp_path / "raw.zip", files) as pack:
        (batch,) = read_records(pack, ["1", "2"])
    assert np.array_equal(batch[1], batch[0][:, ::-1])


def test_records_of_different_scale(tmp_path: Path) -> None:
    """Gain and format may change from record to record within a batch."""
    line = "{name}.dat 160 200/mV 16 0 {initial} 0 0 {lead}"
    files = record() | record(name="2", line=line)
    with pack_of(tmp_path / "raw.zip", files) as pack:
        one, two, again = next(read_records(pack, ["1", "2", "1"], verify=False, dtype=float))
    assert np.array_equal(one, again)
    stored = (one * 1000).round().astype(int) & 0xFFFF
    expected = np.where(stored == 0, np.nan, (stored - 32768) / 200)
    assert np.array_equal(two, expected, equal_nan=True)


@pytest.mark.parametrize(("gain", "unit"), [("1", "uV"), ("1", "µV"), ("1e6", "V"), ("1e3", "mv")])
def test_units_are_converted(gain: str, unit: str, tmp_path: Path) -> None:
    """Records in microvolts or volts are not taken for millivolts; each keeps its own unit unless
    one is asked for."""
    expected = read_one(tmp_path, record(), unit="mV")
    line = f"{{name}}.dat 16 {gain}(0)/{unit} 16 0 {{initial}} {{checksum}} 0 {{lead}}"
    np.testing.assert_array_equal(read_one(tmp_path, record(line=line), unit="mV"), expected)
    own = {"1": 1000, "1e6": 0.001, "1e3": 1}[gain]
    np.testing.assert_allclose(read_one(tmp_path, record(line=line)), expected * own, rtol=1e-6)


def test_names_with_a_slash(tmp_path: Path) -> None:
    """A header that was written in another folder names itself and its file by the way from there;
    only a number after the slash counts segments."""
    files = record(leads=["I", "II"])
    expected = read_one(tmp_path, files)
    files["1.hea"] = (
        files["1.hea"].replace(b"1.dat", b"beats/1.dat").replace(b"1 2", b"beats/a 2", 1)
    )
    assert np.array_equal(read_one(tmp_path, files), expected)
    files["beats/1.dat"] = files.pop("1.dat")
    assert np.array_equal(read_one(tmp_path, files), expected)
    files["1.hea"] = b"r/2 2 500 600\nr_1 300\nr_2 300\n"
    with pytest.raises(BadRecord, match="has several segments"):
        read_one(tmp_path, files)


def test_a_signal_file_of_matlab(tmp_path: Path) -> None:
    """The records of PhysioNet's challenges lie in .mat files behind a head of 24 bytes."""
    files = record(leads=["I", "II"])
    expected = read_one(tmp_path, files)
    files["1.hea"] = files["1.hea"].replace(b"1.dat 16 ", b"1.mat 16+24 ")
    files["1.mat"] = bytes(24) + files.pop("1.dat")
    assert np.array_equal(read_one(tmp_path, files), expected)


def test_compressed_files_are_checked(tmp_path: Path) -> None:
    """A record in FLAC that is damaged, too short, or does not say its length is one sentence."""
    samples = np.arange(200).reshape(100, 2)
    options = {"fs": 100, "units": ["mV"] * 2, "sig_name": ["I", "II"], "fmt": ["516"] * 2}
    gains = {"adc_gain": [200.0] * 2, "baseline": [0, 0]}
    wfdb.wrsamp("1", d_signal=samples, write_dir=str(tmp_path / "."), **options, **gains)
    header, content = ((tmp_path / f"1.{kind}").read_bytes() for kind in ("hea", "dat"))
    np.testing.assert_array_equal(
        read_one(tmp_path, {"1.hea": header, "1.dat": content}, dtype=float), samples / 200
    )
    for changed, damaged, problem in (
        (header.replace(b" 100 100", b" 100 101", 1), content, "cannot be read"),
        (header.replace(b" 100 100", b" 100", 1), content, "announces no samples"),
        (header, content[:60], "cannot be read"),
        (header.replace(b" 9900 ", b" 9901 "), content, "checksum of lead I is"),
    ):
        with pytest.raises(BadRecord, match=problem):
            read_one(tmp_path, {"1.hea": changed, "1.dat": damaged})


def test_nothing_to_read(tmp_path: Path) -> None:
    """No names, no batches."""
    with pack_of(tmp_path / "raw.zip", record()) as pack:
        assert list(read_records(pack, [])) == []


FOLDER = "records100/"
REPLACED = [
    ("1 12 100 50", "1", "does not say how many leads it has"),
    ("1 12 100 50", "1 twelve", "unreadable number of leads"),
    ("1 12 100 50", "1/2 12 100 50", "several segments"),
    ("1 12 100 50", "1 11 100 50", "announces 11 leads and describes 12"),
    ("1 12 100 50", "1 12 1OO 50", "unreadable sampling rate"),
    ("1 12 100 50", "1 12 0 50", "impossible sampling rate"),
    ("1 12 100 50", "1 12 100 -50", "impossible number of samples"),
    ("1 12 100 50", "1 12 100 999999999999", "1.dat, which is cut short to 1200 bytes"),
    ("1 12 100 50", "1 12 100 49", "checksum of lead I is"),
    (".dat 16 ", ".dat 17 ", "format 17, of which only 8, 16, 24"),
    (".dat 16 ", ".dat 516 ", "1.dat, which cannot be read .*FLAC"),
    ("1.dat 16 1000.0(0)/mV", "1.dat 16 1000.0(0)/mmHg", "lead I in 'mmHg', which is no mV"),
    (".dat 16 ", ".dat 16x4 ", "4 samples per frame"),
    (".dat 16 ", ".dat 16:2 ", "skewed by 2 samples"),
    (".dat 16 ", ".dat banana ", "unreadable format"),
    ("1000.0(0)/mV", "10o0.0(0)/mV", "unreadable gain"),
    ("1000.0(0)/mV", "1e-300/mV", "impossible gain"),
    (" 16 0 ", " 16 zero ", "unreadable ADC zero"),
    ("1.dat ", "../1.dat ", "no file in its own folder"),
    ("1.dat ", "a/../1.dat ", "no file in its own folder"),
    ("1.dat ", "/1.dat ", "no file in its own folder"),
    ("1.dat ", "2.dat ", "names records100/2.dat, which is missing"),
    (" AVR", " I", "has no lead avr"),
]


@pytest.mark.parametrize(("old", "new", "sentence"), REPLACED)
def test_bad_headers(old: str, new: str, sentence: str, tmp_path: Path) -> None:
    """Each mistake is one sentence with the file, the fault and the cure."""
    files = record()
    files["1.hea"] = files["1.hea"].decode().replace(old, new).encode()
    with pack_of(tmp_path / "raw.zip", {FOLDER + k: v for k, v in files.items()}) as pack:
        with pytest.raises(BadRecord, match=rf"{FOLDER}1\.hea .*({sentence}).*source") as error:
            list(read_records(pack, [FOLDER + "1"], leads=LEADS, unit="mV"))
        assert check_records(pack, [FOLDER + "1"], leads=LEADS, unit="mV") == {
            FOLDER + "1": str(error.value)
        }


def test_check_records(tmp_path: Path) -> None:
    """Bad records are listed, each with its own reason, and good ones are not."""
    files = record()
    for number, change in enumerate(["", "rate", "length", "leads", "cut", "flip", "lost"], 2):
        leads = LEADS[:3] if change == "leads" else LEADS
        rate = "500" if change == "rate" else "100"
        n_samples = 60 if change == "length" else 50
        more = record(n_samples, leads, str(number), f"{{name}} {{n}} {rate} {{T}}")
        dat = f"{number}.dat"
        if change == "cut":
            more[dat] = more[dat][:-1]
        if change == "flip":
            more[dat] = bytes([more[dat][0] ^ 1]) + more[dat][1:]
        if change == "lost":
            del more[dat]
        files |= more
    with pack_of(tmp_path / "raw.zip", files) as pack:
        problems = check_records(pack, [str(number) for number in range(1, 10)])
        assert "6" in check_records(pack, ["6"], verify=False)
        assert "7" not in check_records(pack, ["7"], verify=False)
    assert {name: problem.split(": ")[1] for name, problem in problems.items()} == {
        "3": "3.hea has 500 Hz instead of 100 Hz",
        "4": "4.hea has 60 samples instead of 50",
        "5": "5.hea has no lead avr, avl, avf, v1, v2, v3, v4, v5, v6 among i, ii, iii",
        "6": "6.hea needs 1200 bytes of 6.dat, which is cut short to 1199 bytes",
        "7": "7.hea does not fit 7.dat",
        "8": "8.hea names 8.dat, which is missing",
        "9": "9.hea is missing",
    }


def test_any_lost_sample_is_noticed(tmp_path: Path) -> None:
    """The checksum covers every sample, also those after the last full fold of forty."""
    files = record(n_samples=83, leads=["I", "II"])
    for position in range(0, len(files["1.dat"]), 2):
        dat = bytearray(files["1.dat"])
        dat[position] ^= 1
        with pytest.raises(BadRecord, match=r"checksum of lead I+ is"):
            read_one(tmp_path, files | {"1.dat": bytes(dat)})


def test_checksums_may_be_signed(tmp_path: Path) -> None:
    """The WFDB library in C writes checksums as signed 16-bit numbers."""
    files = record(leads=["I"])
    lines = files["1.hea"].decode().split()
    lines[-3] = str(int(lines[-3]) - 65536)
    files["1.hea"] = (" ".join(lines[:4]) + "\n" + " ".join(lines[4:])).encode()
    read_one(tmp_path, files)


@settings(max_examples=400)
@given(data=st.data())
def test_damaged_headers_never_crash(data: st.DataObject) -> None:
    """Whatever happens to a header, it reads or it is a BadRecord; nothing else, no warning."""
    files = record(n_samples=5, leads=LEADS[:3])
    text = bytearray(files["1.hea"])
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        stop = data.draw(st.integers(start, min(start + 8, len(text))))
        text[start:stop] = data.draw(
            st.one_of(st.binary(max_size=6), st.sampled_from([b" ", b"\n", b"9" * 30, b"-1", b"/"]))
        )
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            read_one(Path(folder), files | {"1.hea": bytes(text)}, verify=False)
        except BadRecord as error:
            assert "1.hea" in str(error) and "\n" not in str(error)


def test_memory_does_not_grow(tmp_path: Path) -> None:
    """However many records are read, memory holds one batch."""
    peaks = []
    with pack_of(tmp_path / "raw.zip", record(n_samples=1000)) as pack:
        for n_records in (64, 640):
            tracemalloc.start()
            for _ in read_records(pack, ["1"] * n_records, batch=32):
                pass
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]
