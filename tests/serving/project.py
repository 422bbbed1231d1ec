"""A project in a folder, as the server finds one: params.yaml, small bundles of networks that have been
saved as trained ones are, metrics, examples."""

from __future__ import annotations

import json
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch
import uvicorn
from fastapi import FastAPI
from ruamel.yaml import YAML
from starlette.applications import Starlette

from beatline import bundle, models
from beatline.bundle import model_info
from beatline.common import sums
from beatline.monitoring.settings import Monitoring
from beatline.prediction import tasks
from beatline.prediction.familiarity import features
from beatline.prediction.reference import Reference
from beatline.preprocessing import normalization
from beatline.serving import registry
from beatline.serving.app import create_app
from beatline.serving.connections import BoundedProtocol
from beatline.serving.settings import Serve
from tests import parameters
from tests.bundle.bundles import HISTORY
from tests.parameters import ARCHITECTURES

REVISION = "5" * 40
LIMITS: dict[str, Any] = {
    "features": "ecg_features/mlp",
    "max_megabytes": 1.0,
    "max_values": 100_000,
    "max_rows": 20,
    "seconds_to_send": 5.0,
    "seconds_to_answer": 10.0,
    "poll_seconds": 0.05,
}
FEATURES = ["heart_rate", "pr_interval", "qrs_duration"]
CLASSES = ["NORM", "MI", "CD"]
_COMMON: dict[str, Any] = {
    "source": "beatline/simulators/ecg",
    "citation": "Somebody et al. 2020",
    "simulated": True,
    "sections": None,
    "representation": None,
    "typical": {"rms": [0.5, 1.5]},
}
DATASETS: dict[str, dict[str, Any]] = {
    "ptbxl": {
        "title": "12-lead ECGs",
        "channels": ["I", "II", "V1"],
        "sampling_rate": 100,
        "unit": "mV",
        "drawing": "twelve_leads",
        "length": 120,
    },
    "ecg5000": {
        "title": "beats",
        "channels": ["channel 1"],
        "sampling_rate": None,
        "unit": "archive units",
        "drawing": "trace",
        "length": 40,
    },
    "ecg_features": {
        "title": "a table",
        "channels": FEATURES,
        "sampling_rate": None,
        "unit": "of each feature its own",
        "drawing": "features",
        "length": 1,
    },
}
BANDS = 128  # of mel
SOUND = {
    "kind": "sound",
    "channel": "mean",
    "sampling_rate": 16000,
    "frame": 1024,
    "hop": 512,
    "bands": BANDS,
    "lowest_frequency": 0.0,
    "highest_frequency": None,
    "top_db": 80.0,
    "contrast_bands": 6,
}
# Of tests that add their bundles.
MORE_DATASETS: dict[str, dict[str, Any]] = {
    "mnist": {
        "title": "digits",
        "simulated": False,
        "channels": [f"column {number}" for number in range(1, 29)],
        "sampling_rate": None,
        "unit": "share of white",
        "drawing": "image",
        "length": 28,
    },
    "machine_sound": {
        "title": "sound",
        "channels": [f"mel band {number} ({60 * number} Hz)" for number in range(1, BANDS + 1)],
        "sampling_rate": 31.25,
        "unit": "dB",
        "drawing": "spectrogram",
        "length": 64,
        "representation": SOUND,
    },
}
TASKS = {
    "cnn": "multilabel",
    "autoencoder": "reconstruction",
    "mlp": "multiclass",
    "mahalanobis": "neighbours",
}
TRAINED = ["ptbxl/cnn", "ecg5000/autoencoder", "ecg_features/mlp"]
MISSING = "ptbxl/lstm"  # wanted, and not trained yet
WANTED = [*TRAINED, MISSING]


def raw_recordings(dataset: str) -> np.ndarray:
    """`[8, T, C]` float32 of the data set's length, channels of their own offsets."""
    about = DATASETS[dataset]
    shape = (8, about["length"], len(about["channels"]))
    offsets = np.arange(shape[2]) / 4
    return (np.random.default_rng(0).standard_normal(shape) + offsets).astype(np.float32)


def save(folder: Path, key: str, seed: int = 1, validation: int = 0) -> None:
    """A bundle with the weights that a seed starts with, and batch statistics of some recordings.
    `validation`: of how many made-up validation records it is watched by."""
    dataset, name = key.split("/")
    recordings = raw_recordings(dataset)
    how = normalization.Normalize(recordings="x", per="channel", invalid="mean")
    fitted = normalization.fit([recordings], how)
    task = TASKS.get(key) or TASKS[name]
    classes = ["anomaly"] if task in ("reconstruction", "neighbours") else CLASSES
    windows = {"length": 60 if dataset == "ptbxl" else 0, "stride": 60, "aggregate": "mean"}
    description = {
        "architecture": {"name": name, "parameters": ARCHITECTURES[name]},
        "task": task,
        "classes": classes,
        "sections": [],
        "thresholds": [] if task == "multiclass" else [1 / 3] * len(classes),
        "windows": windows,
        "normalization": fitted.as_dict(),
        "dataset": {**_COMMON, **DATASETS[dataset]},
        "training": {"seed": seed},
        "parameters": 1,
        "best_epoch": 1,
        "identity": {
            "git": {"revision": REVISION, "clean": True, "changed": []},
            "data": "d" * 64,
            "code": "c" * 64,
            "environment": {},
        },
    }
    torch.manual_seed(seed)
    network = bundle.network_of(description, "x")
    length, _ = bundle.shape_of(description)
    network.train()(torch.from_numpy(fitted.apply(recordings)[:, :length]))
    assert isinstance(network, torch.nn.Module) and not models.needs_memory_bank(network)
    reference = _reference(description, validation, seed) if validation else None
    bundle.save(folder, network, description, HISTORY, reference=reference)


def _reference(model_info: dict[str, Any], count: int, seed: int) -> Reference:
    """Scores by chance, and what is decided of them."""
    rng, dataset = np.random.default_rng(seed), model_info["dataset"]
    recordings = rng.standard_normal((count, dataset["length"], len(dataset["channels"])))
    embeddings = np.stack([features(each, dataset) for each in recordings]).astype(np.float32)
    scores = rng.dirichlet(np.ones(len(model_info["classes"])), count).astype(np.float32)
    if model_info["classes"] == ["anomaly"]:
        scores = rng.random((count, 1), np.float32)
    decided = tasks.TASKS[model_info["task"]].decide(scores, model_info["thresholds"])
    return Reference(embeddings, scores, decided.sum(axis=0, dtype=np.int64), count, 0)


@cache
def _made(about: str) -> tempfile.TemporaryDirectory[str]:
    """A project that is made once per process, of the data sets that there are: tests have others."""
    del about
    made = tempfile.TemporaryDirectory()
    _make(Path(made.name))
    return made


def make(folder: Path) -> Path:
    """The project: all that the server reads, to be changed at will."""
    return shutil.copytree(_made(repr((DATASETS, TASKS))).name, folder, dirs_exist_ok=True)


def _make(folder: Path) -> None:
    for key in TRAINED:
        save(folder / registry.FOLDER / key, key)
        evaluate(folder, key)
    examples = folder / "data/examples/ptbxl"
    examples.mkdir(parents=True)
    np.save(examples / "1.npy", raw_recordings("ptbxl")[0])
    entry = {"record": "00000/00001", "labels": ["MI"], "sampling_rate": 100, "unit": "mV"}
    listed = {"examples": [{"name": "1", **entry}]}
    (examples / "examples.json").write_text(json.dumps(listed))
    sums.seal(examples)
    with (folder / "params.yaml").open("w") as file:
        YAML(typ="safe", pure=True).dump(_params(), file)


def evaluate(folder: Path, key: str, auc: float = 0.75) -> None:
    """Metrics of the bundle that is there."""
    path = folder / registry.PREDICTIONS / key / "estimates.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    overall = {"auc": {"value": auc, "low": 0.5, "high": 0.875}}
    content = {"overall": overall, "identity": {"model": weights(folder, key)}}
    path.write_text(json.dumps(content))
    sums.seal(path.parent)


def weights(folder: Path, key: str) -> str:
    """The sum that tells the model of a bundle apart."""
    return model_info.read_model_info(folder / registry.FOLDER / key)[model_info.WEIGHTS_SHA256]


def _params() -> dict[str, Any]:
    """params.yaml, of which the server looks at the names of data sets and models, and at `serve`."""
    content = parameters.content()
    blocks = content["datasets"]["ptbxl"]
    content["datasets"] = dict.fromkeys(DATASETS, blocks)
    content["extract_features"] = {}
    content["train"] = {}
    for key in WANTED:
        dataset, model = key.split("/")
        content["train"].setdefault(model, {})[dataset] = {}
    content["serve"] = LIMITS
    return content


def limits(**changes: Any) -> Serve:
    return Serve(**{**LIMITS, **changes})


def app(folder: Path, monitoring: Monitoring | None = None, **changes: Any) -> FastAPI:
    return create_app(limits(**changes), folder, WANTED, monitoring=monitoring)


@contextmanager
def client(
    folder: Path, monitoring: Monitoring | None = None, **changes: Any
) -> Iterator[httpx.Client]:
    """A client of a server in a thread of this process, when it has loaded what there is."""
    with (
        serving(app(folder, monitoring, **changes)) as url,
        httpx.Client(base_url=url, timeout=30) as found,
    ):
        wait_until(lambda: "loading" not in found.get("/health").text)
        yield found


@contextmanager
def serving(application: Starlette) -> Iterator[str]:
    """The address of a server in a thread of this process."""
    config = uvicorn.Config(
        application,
        http=BoundedProtocol,
        ws="none",
        log_config=None,
        timeout_graceful_shutdown=10,
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            wait_until(lambda: server.started or not thread.is_alive())
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Returns when `condition()` is true, raises AssertionError when that takes too long."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not so after {seconds} seconds"
        time.sleep(0.01)
