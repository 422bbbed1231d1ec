"""Recordings by their names and first bytes, and WFDB records in layouts that others read for us."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import wfdb

from beatline.formats import recordings
from beatline.formats.recording import BadRecording, LargeRecording, UnfitRecording
from tests.formats.test_vendors import Files, read

pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")  # of wfdb, about pandas


def folder(path: Path) -> Files:
    return Files({file.name: file.read_bytes() for file in path.iterdir()})


def test_names_tell_where_bytes_do_not() -> None:
    """And bytes go before names: who renames a file does not change it."""
    text = b"I,II\n1,2\n3,4\n"
    assert recordings.kind("x.csv", text) == recordings.kind("a.b/x.TSV", text) == "csv"
    assert recordings.kind("x", text) is recordings.kind("x.dat", text) is None
    npy = io.BytesIO()
    np.save(npy, np.eye(3))
    assert recordings.kind("x.csv", npy.getvalue()) == "npy"
    utf16 = "<?xml version='1.0'?><restingecgdata>".encode("utf-16")
    assert recordings.kind("x.xml", utf16) == "sierra" and recordings.kind("x.xml", b"<a>") is None
    assert {".hea", ".edf", ".dcm", ".xml", ".wav"} <= set(recordings.EXTENSIONS)


def test_leads_of_tables_and_their_times() -> None:
    """A column of times is no channel, and tells the rate; leads are spelt in one way."""
    times = np.arange(50) / 250
    values = np.random.default_rng(1).normal(size=(50, 2))
    rows = [f"{t:.3f},{a},{b}" for t, (a, b) in zip(times, values.tolist(), strict=True)]
    recording = read("\n".join(["time (s),Lead aVR,resp", *rows]).encode(), "x.csv")
    assert recording.channels == ["AVR", "resp"] and recording.sampling_rate == 250
    np.testing.assert_array_equal(recording.samples, values)


def test_sound() -> None:
    """In full scale, and refused where it is cut short."""
    file = io.BytesIO()
    soundfile.write(file, np.linspace(-0.5, 0.5, 800), 8000, format="WAV")
    recording = read(file.getvalue())
    assert recording.units == ["full scale"] and recording.samples.shape == (800, 1)
    with pytest.raises(BadRecording, match="cut short"):
        read(file.getvalue()[:-9])
    with pytest.raises(LargeRecording, match="800"):
        read(file.getvalue(), most=799)


def test_files_that_are_not_there_or_not_known() -> None:
    """A table may name what its folder lacks."""
    with pytest.raises(BadRecording, match=r"a/x\.csv is not there"):
        recordings.read(Files({}), "a/x.csv")
    with pytest.raises(BadRecording, match=r"x\.dat is in no known format.*\.hea"):
        read(b"1234", "x.dat")


# ---------------------------------------------------------------- layouts of WFDB


def test_several_samples_per_frame(tmp_path: Path) -> None:
    """Two leads at 500 Hz beside breath at 125 Hz: the leads as wfdb reads them, breath left out."""
    rng = np.random.default_rng(1)
    signals = [rng.integers(-999, 999, n) for n in (1000, 1000, 250)]
    wfdb.wrsamp(
        "x",
        125,
        ["mV", "mV", "l"],
        ["Lead II", "V1", "resp"],
        fmt=["16"] * 3,
        write_dir=str(tmp_path),
        e_d_signal=signals,
        samps_per_frame=[4, 4, 1],
        adc_gain=[1000.0] * 3,
        baseline=[0] * 3,
    )
    record: Any = wfdb.rdrecord(str(tmp_path / "x"), smooth_frames=False)
    expected = record.e_p_signal
    recording = recordings.read(folder(tmp_path), "x.hea")
    assert recording.channels == ["II", "V1"] and recording.sampling_rate == 500
    np.testing.assert_allclose(recording.samples, np.stack(expected[:2], axis=1), atol=1e-6)
    assert [notice.code for notice in recording.warnings] == ["dropped"]


def test_several_segments(tmp_path: Path) -> None:
    """With a gap between them, which is missing: as wfdb reads it."""
    values = np.random.default_rng(1).integers(-999, 999, (300, 2)) / 1000
    for name, part in (("s1", values[:100]), ("s2", values[100:])):
        options = {"adc_gain": [1000.0] * 2, "baseline": [0] * 2, "write_dir": str(tmp_path)}
        wfdb.wrsamp(name, 250, ["mV"] * 2, ["I", "II"], part, fmt=["16"] * 2, **options)
    (tmp_path / "l.hea").write_text(
        "l 2 250 0\n" + "".join(f"~ 0 1000/mV 16 0 0 0 0 {n}\n" for n in ("I", "II"))
    )
    (tmp_path / "x.hea").write_text("x/4 2 250 350\nl 0\ns1 100\n~ 50\ns2 200\n")
    recording = recordings.read(folder(tmp_path), "x.hea")
    record: tuple[Any, Any] = wfdb.rdsamp(str(tmp_path / "x"))
    expected, fields = record
    np.testing.assert_allclose(recording.samples, expected, atol=1e-6)
    assert np.isnan(recording.samples).sum() == 100 and recording.channels == fields["sig_name"]
    with pytest.raises(LargeRecording, match="700"):
        recordings.read(folder(tmp_path), "x.hea", 699)
    (tmp_path / "s2.dat").unlink()
    with pytest.raises(BadRecording, match=r"s2\.hea names s2\.dat"):
        recordings.read(folder(tmp_path), "x.hea")


def test_skewed_leads(tmp_path: Path) -> None:
    """A lead that is stored 3 samples late is put in time: as wfdb reads it."""
    values = np.random.default_rng(1).integers(-999, 999, (50, 2)).astype("<i2")
    (tmp_path / "x.dat").write_bytes(values.tobytes())
    (tmp_path / "x.hea").write_text(
        "x 2 250 50\nx.dat 16 1000 16 0 0 0 0 I\nx.dat 16:3 1000 16 0 0 0 0 II\n"
    )
    recording = recordings.read(folder(tmp_path), "x.hea")
    record: tuple[Any, Any] = wfdb.rdsamp(str(tmp_path / "x"))
    np.testing.assert_allclose(recording.samples, record[0], atol=1e-6)
    np.testing.assert_allclose(recording.samples[:47, 1], values[3:, 1] / 1000, atol=1e-6)


@pytest.mark.parametrize("name", ["../secret.dat", "/etc/hostname", "a\\b.dat", "missing.dat"])
@pytest.mark.parametrize(
    "layout", ["x 1 250 50\n{} 16x2 1000 16 0 0 0 0 I\n", "x/1 1 250 50\n{} 50\n"]
)
def test_files_elsewhere_are_not_followed(layout: str, name: str) -> None:
    """Neither by our reader nor by the library, which follows any path that a header names."""
    files = Files({"x.hea": layout.format(name).encode(), "secret.dat": bytes(200)})
    with pytest.raises(BadRecording, match=r"x\.hea "):
        recordings.read(files, "x.hea")


def test_records_of_no_signals() -> None:
    """A header of comments alone, or of a record whose segments are all null."""
    for text in ("# nothing\n", "x/1 1 250 50\n~ 50\n"):
        with pytest.raises(BadRecording):
            recordings.read(Files({"x.hea": text.encode()}), "x.hea")
    with pytest.raises(UnfitRecording):
        read(b"x,y\n", "x.csv")
