"""States of a project without DVC: a folder with the files that a revision holds, real bundles and real
metrics among them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ruamel.yaml import YAML

from beatline.bundle import model_info
from beatline.common import sums
from beatline.comparing.differences import Compare
from beatline.comparing.revisions import Revision
from beatline.evaluation import estimates, predictions
from beatline.evaluation.estimates import Evaluate
from tests import parameters
from tests.serving import project

RECORDS = 120
EVALUATE = {"resamples": 100, "confidence": 0.95, "max_fpr": 0.1, "seed": 1}
COMPARE = Compare(
    resamples=200,
    confidence=0.95,
    seed=1,
    metrics=["auc", "f1"],
    tolerance={"auc": 0.01},
    cannot_tell="fail",
)


class Stored(Revision):
    """A revision whose files lie in the folder `root`."""

    def __init__(self, root: Path, name: str = "workspace") -> None:
        self.root, self.name, self.commit = root, name, None

    @property
    def commit_time(self) -> int | None:
        return 1_000_000_000

    def content(self, path: str) -> bytes | None:
        file = self.root / path
        return file.read_bytes() if file.is_file() else None

    def below(self, path: str) -> list[str]:
        files = sorted(file for file in (self.root / path).rglob("*") if file.is_file())
        return [file.relative_to(self.root).as_posix() for file in files]


def make(root: Path, *keys: str, seed: int = 1, skill: float = 1.0) -> Stored:
    """A revision in which the models `keys` were trained. `skill`: by how many standard deviations their
    predictions tell the labels apart."""
    content = parameters.content()
    content["datasets"] = {key.partition("/")[0]: content["datasets"]["ptbxl"] for key in keys}
    content["train"], stages = {}, dict[str, Any]()
    for key in keys:
        dataset, model = key.split("/")
        content["train"].setdefault(model, {})[dataset] = {"epochs": 2, "batch_size": 64 + seed}
        project.save(root / "data/models" / key, key, seed)
        _evaluate(root, key, seed, skill)
        durations = root / f"data/durations/{key}"
        sums.write_sealed_json(durations / "train.json", {"train_seconds": 12.5})
        figures = root / "reports/figures" / dataset
        figures.mkdir(parents=True, exist_ok=True)
        for name in (f"{model}_curves.svg", f"{model}_other_curves.svg", "comparison.svg"):
            (figures / name).write_text("<svg/>")
        stages |= _locked(root, dataset, model, content["train"][model][dataset])
    for path, mapping in (("params.yaml", content), ("dvc.lock", {"stages": stages})):
        with (root / path).open("w") as file:
            YAML(typ="safe", pure=True).dump(mapping, file)
    return Stored(root)


def _evaluate(root: Path, key: str, seed: int, skill: float) -> None:
    """Write predictions of the model that are as good as `skill` says, and what evaluate makes of
    them."""
    info = model_info.read_model_info(root / "data/models" / key)
    classes = info["classes"]
    truth, noise = np.random.default_rng(7), np.random.default_rng(seed)
    targets = truth.integers(0, 2, (RECORDS, len(classes)))
    if info["task"] == "multiclass":
        targets = np.eye(len(classes), dtype=int)[truth.integers(0, len(classes), RECORDS)]
    own, shared = noise.standard_normal(targets.shape), truth.standard_normal(targets.shape)
    values = 1 / (1 + np.exp(-(skill * (2 * targets - 1) + shared + 0.1 * own)))
    records = pd.DataFrame({"record": [f"r{number:03}" for number in range(RECORDS)]})
    records["group"], records["normal"] = records["record"], 1 - targets[:, 0]
    for name, column in zip(classes, targets.T, strict=True):
        records[name] = column
    decisions = (values >= 0.5).astype(int)
    predicted = predictions.made(info, values, decisions, records)
    folder = root / "data/predictions" / key
    predictions.write(folder, predicted)
    sums.seal(folder)
    how = Evaluate(**EVALUATE)
    estimated = {**estimates.measured(predicted, how), "subgroups": {}, "seeds": []}
    about = estimates.about(predicted, how, 1234, folder / predictions.FILE)
    metrics = estimates.metrics_of(predicted, estimated, about, info["dataset"]["simulated"])
    path = root / f"reports/metrics/{key}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(metrics))


def _locked(root: Path, dataset: str, model: str, block: dict[str, Any]) -> dict[str, Any]:
    """The entries of dvc.lock of the stages that lead to a model's metrics."""
    name = f"{dataset}/{model}"
    bundle = {"path": f"data/models/{name}", "md5": md5(root / "data/models" / name / "SHA256SUMS")}
    metrics = {
        "path": f"reports/metrics/{name}.json",
        "md5": md5(root / f"reports/metrics/{name}.json"),
    }
    raw = {"path": f"data/raw/{dataset}.zip", "md5": "a" * 32}
    duration = {"path": f"data/durations/{name}/train.json", "md5": "b" * 32}
    return {
        f"download@{dataset}": {"cmd": "download", "outs": [raw]},
        f"train_{model}@{dataset}": {
            "cmd": "train",
            "deps": [{**raw}],
            "params": {"params.yaml": {f"train.{model}.{dataset}": block, "training": {"seed": 1}}},
            "outs": [bundle, duration],
        },
        f"evaluate_{model}@{dataset}": {
            "cmd": "evaluate",
            "deps": [{**bundle}],
            "params": {"params.yaml": {"evaluate": EVALUATE}},
            "outs": [metrics],
        },
    }


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
