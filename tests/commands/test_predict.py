"""`beatline predict`: rows are the answers of the API; a file that cannot be read says why in its row."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from beatline import bundle
from tests.paths import ROOT
from tests.serving import project
from tests.serving.uploads import csv, record

LEADS = ["I", "II", "V1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return project.make(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def ecgs() -> np.ndarray:
    """`[N, T, C]` in mV, as they are in files of a thousandth."""
    return np.round(project.raw_recordings("ptbxl"), 3)


def predict(folder: Path, *arguments: str, path: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run the command; modules in `path` come before those that are installed."""
    return subprocess.run(
        [sys.executable, "-m", "beatline", "predict", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": f"{path}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
    )


def table(folder: Path, *arguments: str, status: int = 0) -> pd.DataFrame:
    """The rows that are written as CSV."""
    done = predict(folder, *arguments, "--csv", "out.csv")
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return pd.read_csv(folder / "out.csv", keep_default_na=False)


def test_every_kind_of_file(folder: Path, ecgs: np.ndarray, tmp_path: Path) -> None:
    """A folder with a record of two files, tables, an archive, a hidden file and a damaged one: a row for
    each recording, in the order of names, with the numbers that the bundle gives."""
    one, two, three, four = ecgs[:4]
    recordings = tmp_path / "recordings"
    (recordings / "deeper").mkdir(parents=True)
    for name, content in record((one * 1000).astype(int), LEADS, "100"):
        (recordings / "deeper" / name).write_bytes(content)
    (recordings / "b.csv").write_bytes(csv(two, LEADS))
    (recordings / ".b.csv").write_bytes(b"hidden")
    np.save(recordings / "d.npy", three)
    (recordings / "e.npy").write_bytes(b"\x93NUMPY damaged")
    with zipfile.ZipFile(recordings / "c.zip", "w") as archive:
        archive.writestr("x.csv", csv(four, LEADS))
        archive.writestr("y.csv", csv(one, LEADS))
    rows = table(folder, "ptbxl/cnn", str(recordings), status=1)
    names = ["b.csv", "c.zip/x.csv", "c.zip/y.csv", "d.npy", "deeper/one.hea", "e.npy"]
    assert list(rows["recording"]) == [str(recordings / name) for name in names]
    assert [error != "" for error in rows["error"]] == [False] * 5 + [True]
    loaded = bundle.load(folder / "data/models/ptbxl/cnn")
    expected = loaded.predict(np.stack([two, four, one, three, one]))
    assert list(rows.columns) == ["recording", *loaded.classes, "decided", "warnings", "error"]
    values = rows.loc[:4, loaded.classes].to_numpy(np.float64)
    np.testing.assert_allclose(values, expected.values, atol=2e-5)
    decided = [" ".join(np.array(loaded.classes)[row == 1]) for row in expected.decisions]
    assert list(rows.loc[:4, "decided"]) == decided


def test_a_detector_by_its_folder(folder: Path) -> None:
    beats = project.raw_recordings("ecg5000")
    path = folder / "beats.npy"
    np.save(path, beats[0])
    rows = table(folder, "data/models/ecg5000/autoencoder", str(path))
    loaded = bundle.load(folder / "data/models/ecg5000/autoencoder")
    expected = loaded.predict(beats[:1])
    np.testing.assert_allclose(rows["score"].to_numpy(np.float64), expected.values[:, 0], rtol=1e-4)
    assert list(rows["anomaly"].astype(str)) == [str(bool(expected.decisions[0, 0]))]


def test_what_files_do_not_say(folder: Path, ecgs: np.ndarray) -> None:
    """Comes from options, by which the answer is another one."""
    np.savetxt(folder / "uv.csv", np.repeat(ecgs[0] * 1000, 2, axis=0), delimiter=",")
    wrong = table(folder, "ptbxl/cnn", "uv.csv", status=1)
    assert "sampling rate" in wrong["error"][0]
    options = ["--sampling-rate", "200", "--unit", "uV", "--channels", "I,II,V1"]
    right = table(folder, "ptbxl/cnn", "uv.csv", *options)
    assert "200 Hz" in right["warnings"][0] and "uV" in right["warnings"][0]


def test_printed(folder: Path, ecgs: np.ndarray) -> None:
    np.save(folder / "a.npy", ecgs[0])
    done = predict(folder, "ptbxl/cnn", "a.npy")
    assert done.returncode == 0 and re.search(r"^ *recording +NORM +MI", done.stdout)


def test_it_needs_no_server(folder: Path, ecgs: np.ndarray, tmp_path: Path) -> None:
    """Who ran the pipeline can predict: what is installed for the service alone may be absent."""
    np.save(folder / "a.npy", ecgs[0])
    for name in (
        "starlette",
        "fastapi",
        "uvicorn",
        "prometheus_client",
        "python_multipart",
        "uvloop",
    ):
        (tmp_path / f"{name}.py").write_text("raise ImportError('not installed')\n")
    done = predict(folder, "ptbxl/cnn", "a.npy", path=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["ptbxl/cn", "params.yaml"],
            r"no trained model ptbxl/cn .*did you mean ptbxl/cnn\?.*ecg_f",
        ),
        (["ptbxl/cnn", "nothing.csv"], r"nothing\.csv is missing"),
        (["ptbxl/cnn", "empty"], r"empty holds no files"),
    ],
)
def test_mistakes(folder: Path, arguments: list[str], sentence: str) -> None:
    (folder / "empty").mkdir(exist_ok=True)
    done = predict(folder, *arguments)
    assert done.returncode == 1 and re.match(f"error: .*{sentence}", done.stderr), done.stderr
    assert done.stderr.count("\n") == 1


def test_a_record_is_named_by_its_header(folder: Path, ecgs: np.ndarray, tmp_path: Path) -> None:
    """Alone, with its signal file, or by its folder: one row, of the same numbers."""
    for name, content in record((ecgs[0] * 1000).astype(int), LEADS, "100"):
        (tmp_path / name).write_bytes(content)
    header = next(tmp_path.glob("*.hea"))
    rows = [
        table(folder, "ptbxl/cnn", *map(str, paths))
        for paths in ([header], [header, header.with_suffix(".dat")], [tmp_path])
    ]
    assert [each["error"].tolist() for each in rows] == [[""]] * 3
    pd.testing.assert_frame_equal(rows[0], rows[1])
    pd.testing.assert_frame_equal(rows[0], rows[2])


def test_cures_are_those_of_a_command(folder: Path, ecgs: np.ndarray, tmp_path: Path) -> None:
    """A command has options, where a request has headers."""
    np.save(tmp_path / "one.npy", ecgs[0])
    (tmp_path / "none.npy").write_bytes(b"")
    for options in (["--sampling-rate", "abc"], ["--channels", "I,II"], ["--unit", "furlong"]):
        rows = table(folder, "ptbxl/cnn", str(tmp_path), *options, status=1)
        assert "" not in rows["error"].tolist()
        assert not rows["error"].str.contains("X-|the request|header").any(), rows["error"].tolist()


def test_a_table_is_read_row_by_row(folder: Path, tmp_path: Path) -> None:
    """Of a model of rows: with names and without, what the bundle predicts of them."""
    rows = np.round(project.raw_recordings("ecg_features")[:4, 0], 3).astype(np.float64)
    trained = bundle.load(folder / "data/models/ecg_features/mlp")
    expected = trained.predict(rows[:, None].astype(np.float32)).values
    frame = pd.DataFrame(rows, columns=trained.description["dataset"]["channels"])
    more = frame.assign(who=[f"p,{n}" for n in range(4)])
    for each, header in ((frame, True), (frame, False), (more, True)):
        each.to_csv(tmp_path / "rows.csv", index=False, header=header)
        found = table(folder, "ecg_features/mlp", str(tmp_path / "rows.csv"))
        assert [name.endswith(f"row {n}.csv") for n, name in enumerate(found["recording"], 1)] == [
            True
        ] * 4
        np.testing.assert_allclose(found[trained.description["classes"]], expected, atol=1e-5)
    more[:1].to_csv(tmp_path / "rows.csv", index=False)
    found = table(folder, "ecg_features/mlp", str(tmp_path / "rows.csv"))
    np.testing.assert_allclose(found[trained.description["classes"]], expected[:1], atol=1e-5)
    (tmp_path / "rows.csv").write_bytes(b'a,"b\n' + b"x" * 200_000)
    found = table(folder, "ecg_features/mlp", str(tmp_path / "rows.csv"), status=1)
    assert [error != "" for error in found["error"]] == [True]
