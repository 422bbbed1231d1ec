"""MAT files: as scipy wrote them, and nothing that could be executed or expanded."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wfdb
from scipy.io import savemat

from beatline.formats import recordings
from beatline.formats.recording import BadRecording, LargeRecording, UnfitRecording
from tests.formats.ecg_files import digital
from tests.formats.test_vendors import Files, read


def mat(variables: dict[str, Any], **options: Any) -> bytes:
    file = io.BytesIO()
    savemat(file, variables, **options)
    return file.getvalue()


@pytest.mark.parametrize("options", [{}, {"do_compression": True}, {"format": "4"}], ids=str)
def test_a_matrix_of_a_challenge(options: dict[str, Any]) -> None:
    """`val` has a row per lead, whatever its shape."""
    values = np.arange(24, dtype=np.int16).reshape(8, 3)
    recording = read(mat({"val": values, "other": np.eye(4)}, **options), "x.mat")
    np.testing.assert_array_equal(recording.samples, values.T)
    assert (recording.channels, recording.sampling_rate, recording.warnings) == (None, None, [])


@pytest.mark.parametrize("turned", [False, True])
def test_a_matrix_of_another_name(turned: bool) -> None:
    """Its longer side is time, which a notice says."""
    values = np.random.default_rng(1).normal(size=(50, 2))
    recording = read(mat({"signal": values.T if turned else values}), "x.mat")
    np.testing.assert_array_equal(recording.samples, values)
    assert [notice.code for notice in recording.warnings] == ["matrix"]


def test_a_record_of_a_challenge(tmp_path: Path) -> None:
    """A header beside the file, as in CinC 2020 and 2021, says leads, gain and rate: as wfdb reads it."""
    counts = digital()
    content = mat({"val": np.stack(list(counts.values()))}, format="4")
    lines = [f"A1 {len(counts)} 500 500"]
    lines += [
        f"A1.mat 16+24 1000/mV 16 0 {v[0]} {v.sum(dtype=int) % 65536} 0 {k}"
        for k, v in counts.items()
    ]
    files = {"A1.hea": "\n".join(lines).encode() + b"\n", "A1.mat": content}
    # MATLAB stores columns: time step after time step, as a signal file is.
    assert len(content) - 24 == 2 * 500 * 8
    for name, part in files.items():
        (tmp_path / name).write_bytes(part)
    record: tuple[Any, Any] = wfdb.rdsamp(str(tmp_path / "A1"))
    for name in files:
        recording = recordings.read(Files(files), name)
        np.testing.assert_allclose(recording.samples, record[0], atol=1e-6)
        assert recording.channels == list(counts) and recording.sampling_rate == 500


REFUSED = {
    "two matrices": (mat({"a": np.eye(3), "b": np.eye(3)}), UnfitRecording, "2 matrices"),
    "text": (mat({"a": "some words"}), UnfitRecording, "0 matrices"),
    "objects": (mat({"val": np.array([[1, "a"]], dtype=object)}), UnfitRecording, "0 matrices"),
    "a structure": (mat({"val": {"a": np.eye(3)}}), UnfitRecording, "0 matrices"),
    "complex numbers": (mat({"val": np.eye(3) * 1j}), UnfitRecording, "complex"),
    "version 7.3": (b"MATLAB 7.3 MAT-file" + bytes(500), BadRecording, "-v7"),
    "a cut file": (mat({"val": np.eye(9)})[:-9], BadRecording, "MAT"),
    "no MAT file": (b"\0\1\2\3" * 50, BadRecording, "MAT"),
    "too much": (
        mat({"val": np.zeros((1000, 1001))}, do_compression=True),
        LargeRecording,
        "1,001,000",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_is_said(case: str) -> None:
    """One sentence each, before much is expanded."""
    content, kind, words = REFUSED[case]
    with pytest.raises(kind) as error:
        read(content, "x.mat", most=1e6)
    assert "x.mat" in str(error.value) and words in str(error.value)
