"""Predictions in Python: whatever form a recording has, its numbers are those of the API."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from beatline import bundle
from beatline.common.errors import UserError
from beatline.serving import predictor
from tests.serving import project
from tests.serving.uploads import csv, record

CLASSES, LEADS = project.CLASSES, ["I", "II", "V1"]
ECGS = np.round(project.raw_recordings("ptbxl"), 3)  # in mV, as they are in files of a thousandth


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return project.make(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def cnn(folder: Path) -> predictor.Predictor:
    return predictor.load(folder / "data/models/ptbxl/cnn")


def values(table: pd.DataFrame) -> np.ndarray:
    return table[CLASSES].to_numpy(np.float64)


def test_paths_arrays_and_lists(folder: Path, cnn: predictor.Predictor, tmp_path: Path) -> None:
    """A row for each recording, in order, that does not depend on the form; the same as the network's."""
    for name, content in record((ECGS[0] * 1000).astype(int), LEADS, "100"):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "two.csv").write_bytes(csv(ECGS[1], LEADS))
    expected = bundle.load(folder / "data/models/ptbxl/cnn").predict(ECGS).values
    for recordings, numbers in (
        (tmp_path, [0, 1]),
        (str(tmp_path / "two.csv"), [1]),
        (ECGS, range(8)),
        (ECGS[3], [3]),
        (list(ECGS[:3]), [0, 1, 2]),
        (ECGS[:2].tolist(), [0, 1]),
        ([ECGS[4], tmp_path, str(tmp_path / "two.csv"), ECGS[5:7]], [4, 0, 1, 1, 5, 6]),
    ):
        table = cnn.predict(recordings)
        assert len(table) == len(numbers) and not any(table[predictor.ERROR])
        np.testing.assert_allclose(values(table), expected[list(numbers)], atol=2e-5)
    assert not table["recording"].duplicated(keep=False)[[0, 1, 4, 5]].any()


def test_the_same_as_the_api(folder: Path, cnn: predictor.Predictor) -> None:
    """To the last bit: probabilities, decisions and warnings."""
    with project.client(folder) as client:
        content = {"signal": (ECGS[0] * 1000).tolist(), "unit": "uV", "sampling_rate": 100}
        answer = client.post("/models/ptbxl/cnn/predict", json=content).json()
    (row,) = cnn.predict(ECGS[0] * 1000, unit="uV", sampling_rate=100).to_dict("records")
    assert {name: row[name] for name in CLASSES} == answer["probabilities"]
    assert row["decided"].split() == [name for name in CLASSES if answer["decisions"][name]]
    assert len(answer["warnings"]) == 1
    for warning in answer["warnings"]:
        assert f"{warning['grade']}: {warning['message']}" in row["warnings"]


def test_different_lengths_and_rates(cnn: predictor.Predictor) -> None:
    """Recordings of a list need not be alike; what files do not say is said for all."""
    table = cnn.predict([ECGS[0], np.tile(ECGS[1], (2, 1))], sampling_rate=100)
    assert len(table) == 2
    named = cnn.predict(ECGS[0][:, [2, 0, 1]], channels=["V1", "I", "II"])
    assert np.array_equal(values(named), values(cnn.predict(ECGS[0])))


def test_other_kinds_of_models(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A detector gives scores, and a table's rows are recordings; models are called by name."""
    monkeypatch.chdir(folder)
    for name, columns in (("ecg5000/autoencoder", ["score"]), ("ecg_features/mlp", CLASSES)):
        recordings = project.raw_recordings(name.split("/")[0])
        expected = bundle.load(folder / "data/models" / name).predict(recordings).values
        for given in (recordings, recordings.squeeze(1) if columns == CLASSES else recordings):
            table = predictor.load(name).predict(given)
            np.testing.assert_allclose(table[columns].to_numpy(np.float64), expected, rtol=1e-3)
    beat = project.raw_recordings("ecg5000")[0, :, 0]
    assert len(predictor.load("ecg5000/autoencoder").predict(beat)) == 1


def test_what_cannot_be_predicted(cnn: predictor.Predictor, tmp_path: Path) -> None:
    """Is an error that names the recording, or the error of its row."""
    (tmp_path / "damaged.npy").write_bytes(b"\x93NUMPY damaged")
    recordings = [ECGS[0], tmp_path / "damaged.npy", ECGS[0][:, :2]]
    with pytest.raises(UserError, match=r"damaged\.npy"):
        cnn.predict(recordings)
    with pytest.raises(UserError, match=r"array 2: .*channels"):
        cnn.predict([recordings[0], recordings[2]])
    table = cnn.predict(recordings, errors="rows")
    assert [bool(error) for error in table[predictor.ERROR]] == [False, True, True]
    assert np.isnan(values(table)[1:]).all()
    for wrong in (
        np.zeros((0, 120, 3)),
        [],
        np.zeros((1, 1, 120, 3, 2)),
        ["nowhere.csv"],
        [object()],
    ):
        with pytest.raises(UserError):
            cnn.predict(wrong)
    with pytest.raises(UserError, match="X-Sampling-Rate"):
        cnn.predict(ECGS[0], sampling_rate="fast")
