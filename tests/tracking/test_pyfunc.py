"""The model as a stranger loads it from MLflow: the same answers as the service's, from files that were
compared with their sums."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest

from beatline.bundle import model_info
from beatline.common import sums
from beatline.serving import model as serving
from beatline.serving import predictor
from beatline.tracking import pyfunc, registered
from beatline.tracking.client import MlflowClient
from tests.paths import ROOT
from tests.serving import project

BARE = ROOT / ".venv-mlflow/bin/python"
KEYS = ["ptbxl/cnn", "ecg5000/autoencoder", "ecg_features/mlp"]
# Not in this environment: it must load where neither torch nor this package is.
STRANGER = """
import importlib.util, sys
assert not any(importlib.util.find_spec(name) for name in ("torch", "beatline", "dvc"))
import mlflow.pyfunc, numpy, pandas
model = mlflow.pyfunc.load_model(sys.argv[1])
given = sys.argv[2]
recordings = pandas.read_csv(given) if given.endswith(".csv") else numpy.load(given)
model.predict(recordings).to_csv(sys.argv[3], index=False, float_format="%.9g")
"""


def longer(dataset: str) -> Any:
    """Raw recordings as the model takes them, with an invalid sample; where it looks at windows, longer
    than those of the training and no multiple of a window."""
    recordings = project.raw_recordings(dataset)
    if dataset == "ptbxl":
        recordings = np.concatenate([recordings, recordings[:, :73] * 1.5], axis=1)
    recordings[1, 0, 0] = np.nan
    if dataset == "ecg_features":
        return pd.DataFrame(recordings[:, 0].astype(np.float64), columns=project.FEATURES)
    return recordings


def saved(folder: Path, key: str) -> Path:
    """A bundle, and beside it the model of MLflow's that was made of it."""
    bundle = folder / key
    project.save(bundle, key)
    registered.save_pyfunc(folder / "model", bundle, model_info.read_model_info(bundle))
    return folder / "model"


@pytest.mark.parametrize("key", KEYS)
def test_answers_are_the_services(key: str, tmp_path: Path) -> None:
    """Probabilities, scores and decisions, of recordings of another length and with gaps too."""
    model = mlflow.pyfunc.load_model(str(saved(tmp_path, key)))
    recordings = longer(key.partition("/")[0])
    answers = model.predict(recordings)
    raw = recordings.to_numpy() if isinstance(recordings, pd.DataFrame) else recordings
    rate = 100 if key == "ptbxl/cnn" else None  # needed for another length
    expected = predictor.load(tmp_path / key).predict(raw, sampling_rate=rate)
    assert list(answers) == [name for name in expected if name in answers]
    for name in answers:
        values: Any = expected[name]
        if values.dtype.kind == "f":
            np.testing.assert_allclose(answers[name].astype(float), values, atol=1e-5, rtol=1e-5)
        else:
            assert answers[name].tolist() == values.tolist()


def test_a_window_is_not_padded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spectrograms of sounds, by which a detector of machines is asked."""
    monkeypatch.setitem(project.DATASETS, "machine_sound", project.MORE_DATASETS["machine_sound"])
    model = mlflow.pyfunc.load_model(str(saved(tmp_path, "machine_sound/autoencoder")))
    recordings = project.raw_recordings("machine_sound")
    served = serving.load(tmp_path / "machine_sound/autoencoder")
    expected = [served.outputs(served.normalized(each)).values[0] for each in recordings]
    np.testing.assert_allclose(model.predict(recordings)["score"], expected, rtol=1e-5)


@pytest.mark.skipif(not BARE.exists(), reason="no .venv-mlflow: `make test` makes it")
@pytest.mark.parametrize("key", KEYS)
def test_it_loads_where_neither_torch_nor_this_package_is(key: str, tmp_path: Path) -> None:
    model, recordings = saved(tmp_path, key), longer(key.partition("/")[0])
    given = tmp_path / ("given.csv" if isinstance(recordings, pd.DataFrame) else "given.npy")
    if isinstance(recordings, pd.DataFrame):
        recordings.to_csv(given, index=False)
    else:
        np.save(given, recordings)
    command = [str(BARE), "-c", STRANGER, str(model), str(given), str(tmp_path / "answers.csv")]
    environment = {"PATH": "/usr/bin:/bin", "MLFLOW_DISABLE_TELEMETRY": "true"}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=120)
    answers: pd.DataFrame = pd.read_csv(tmp_path / "answers.csv", keep_default_na=False)
    here = mlflow.pyfunc.load_model(str(model)).predict(recordings)
    pd.testing.assert_frame_equal(answers, here, check_dtype=False, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["model.onnx", "model.json", "weights.safetensors", sums.SUMS])
@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_a_damaged_bundle_is_not_loaded(name: str, damage: str, tmp_path: Path) -> None:
    model = saved(tmp_path, KEYS[0])
    path = model / "artifacts/bundle" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    if damage != "gone":
        path.write_bytes(content[: len(content) // 2] if damage == "cut" else content)
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        mlflow.pyfunc.load_model(str(model))
    assert name in str(caught.value)


def test_a_graph_of_another_model_is_not_loaded(tmp_path: Path) -> None:
    """Sealed anew, so that all sums agree; model.json knows whose graph it is."""
    model = saved(tmp_path, KEYS[0])
    bundle = model / "artifacts/bundle"
    project.save(tmp_path / "other", KEYS[0], seed=2)
    (bundle / "model.onnx").write_bytes((tmp_path / "other/model.onnx").read_bytes())
    sums.seal(bundle)
    with pytest.raises(ValueError, match=r"model\.onnx"):
        mlflow.pyfunc.load_model(str(model))


@pytest.mark.parametrize(
    ("key", "shape", "word"),
    [("ptbxl/cnn", (2, 59, 3), "60"), ("ptbxl/cnn", (2, 0, 3), "60")],
)
def test_recordings_that_do_not_fit_are_refused(
    key: str, shape: tuple[int, ...], word: str, tmp_path: Path
) -> None:
    model = mlflow.pyfunc.load_model(str(saved(tmp_path, key)))
    with pytest.raises(ValueError, match=word):
        model.predict(np.zeros(shape, np.float32))


def test_columns_are_told_by_their_names(tmp_path: Path) -> None:
    """A table in another order gives the same answers; one without a feature is refused by its name."""
    model = mlflow.pyfunc.load_model(str(saved(tmp_path, "ecg_features/mlp")))
    table = longer("ecg_features")
    turned = table[table.columns[::-1]]
    pd.testing.assert_frame_equal(model.predict(turned), model.predict(table))
    with pytest.raises(Exception, match=project.FEATURES[1]):
        model.predict(table.drop(columns=project.FEATURES[1]))


def test_nothing_is_pickled(tmp_path: Path) -> None:
    """Who loads it runs the code of pyfunc.py, which can be read, and no other."""
    model = saved(tmp_path, KEYS[0])
    assert not [path for path in model.rglob("*") if path.suffix in (".pkl", ".pickle")]
    assert (model / "pyfunc.py").read_text() == Path(pyfunc.__file__).read_text()


def test_input_and_output_are_declared(sqlite_mlflow: MlflowClient, tmp_path: Path) -> None:
    """MLflow's pages say what the model takes, and have an example that it answers."""
    del sqlite_mlflow
    for key, inputs in (("ptbxl/cnn", "(-1, -1, 3)"), ("ecg_features/mlp", project.FEATURES[0])):
        folder = tmp_path / key
        folder.mkdir(parents=True)
        model = mlflow.pyfunc.load_model(str(saved(folder, key)))
        assert inputs in str(model.metadata.signature.inputs)
        example = model.input_example
        assert list(model.predict(example)) == model.metadata.signature.outputs.input_names()
