"""What models were measured by, as states of the project that a comparison reads.

A version has its metrics and predictions beside it in MLflow. Where test records have changed since the
champion was measured, it and its challenger are measured again, on the same records; that lies beside the
challenger's run, for the gate to read when it is to be promoted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from beatline.common.files import sha256, write_json
from beatline.common.params import PATH
from beatline.common.sums import read_sealed_json
from beatline.comparing.changes import parameters_of
from beatline.comparing.revisions import Revision
from beatline.evaluation import estimates, predictions
from beatline.evaluation.estimates import Evaluate
from beatline.evaluation.predictions import FILE, Predictions
from beatline.preprocessing import arrays
from beatline.preprocessing.normalization import Normalization
from beatline.tracking import registered
from beatline.tracking.client import MlflowClient, reporting_faults
from beatline.tracking.names import LINEAGE, METRICS, PREDICTIONS
from beatline.tracking.registered import Version

BESIDE = "beside"  # artifacts of a run: its model and a champion, measured again
BEFORE, AFTER = "before", "after"


class Measured(Revision):
    """A model with what it was measured by, as a state of the project: the one model that it is. `label`:
    what it is called; `stages`: how it was made; `metrics`, `predicted`: the content of its files."""

    def __init__(
        self, label: str, key: str, stages: Mapping[str, Any], metrics: bytes, predicted: bytes
    ) -> None:
        self.name, self.commit = label, None
        dataset, _, model = key.partition("/")
        content = {
            "datasets": {dataset: {}},
            "train": {model: {dataset: {}}},
            "evaluate": {"max_fpr": parameters_of(stages)["evaluate.max_fpr"]},
        }
        self._contents = {  # JSON is YAML too
            "dvc.lock": json.dumps({"stages": stages}).encode(),
            str(PATH): json.dumps(content).encode(),
            f"reports/metrics/{key}.json": metrics,
            f"data/predictions/{key}/{FILE}": predicted,
        }

    @property
    def label(self) -> str:
        return self.name

    def content(self, path: str) -> bytes | None:
        return self._contents.get(path)


def of_version(client: MlflowClient, version: Version, folder: Path) -> Measured:
    """Return a version as it was measured when it was made; `folder` takes its files. Raises UserError if
    these are missing or damaged."""
    for path in (METRICS, PREDICTIONS):
        registered.fetch(client, version.run_id, path, folder, version.label)
    return _read(
        version, stages_of(client, version, folder), folder / METRICS, folder / PREDICTIONS / FILE
    )


def stages_of(client: MlflowClient, version: Version, folder: Path) -> Mapping[str, Any]:
    """Return the stages by which a version was made. Raises UserError if they cannot be read."""
    registered.fetch(client, version.run_id, LINEAGE, folder, version.label)
    try:
        return dict(json.loads((folder / LINEAGE).read_text()))
    except (ValueError, TypeError) as error:
        reason = f"its lineage cannot be read: {type(error).__name__}"
        raise registered.damaged(version.label, reason) from None


def _read(version: Version, stages: Mapping[str, Any], metrics: Path, predicted: Path) -> Measured:
    """Raises UserError if the files are no longer those that were measured."""
    try:
        content = metrics.read_bytes()
        if sha256(predicted) != json.loads(content)["about"][0]["predictions"]:
            raise registered.damaged(version.label, f"{FILE} is not the one that was measured")
        return Measured(version.label, version.key, stages, content, predicted.read_bytes())
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, OSError) as error:
        reason = f"its metrics cannot be read: {type(error).__name__}"
        raise registered.damaged(version.label, reason) from None


# ---------------------------------------------------------------- measured again


def test_records(root: Path, dataset: str) -> pd.DataFrame:
    """The table of the test records of a data set in the project in `root`."""
    return arrays.load_split(root / "data/normalized" / dataset / "test").table


def measure(
    trained_in: Path,
    root: Path,
    key: str,
    parts: Mapping[str, Sequence[str]],
    folder: Path,
    how: Evaluate,
) -> None:
    """Measure the bundle in the folder `trained_in` on test records of the data set of `key` in the
    project in `root`, and write what evaluate does for each of the `parts` (names of records) into a
    folder.

    The records are as they were recorded: the bundle normalizes them as those that it has learned from.
    """
    # Only here: the service has no torch.
    from beatline.bundle import model as bundle

    dataset = key.partition("/")[0]
    normalized = root / "data/normalized" / dataset
    description = read_sealed_json(normalized / "dataset.json")
    trained = bundle.load(trained_in)
    labels, sections = (
        trained.task.labels(trained.classes),
        trained.description["dataset"]["sections"],
    )
    test = arrays.load_split(normalized / "test", labels, sections)
    normalization = Normalization(**description["normalization"])
    answers = [
        trained.answer(trained.normalization.apply(normalization.undo(several)))
        for several in test.signals.batches()
    ]
    predicted = predictions.made(
        trained.description,
        np.concatenate([each.values for each in answers]),
        np.concatenate([each.decisions for each in answers]),
        test.table,
    )
    for name, records in parts.items():
        part = predicted.rows(np.flatnonzero(predicted.table["record"].isin(list(records))))
        write(folder / name, part, trained.description, how)


def write(folder: Path, part: Predictions, model_info: Mapping[str, Any], how: Evaluate) -> None:
    """Write what evaluate does of predictions that the model of `model_info` (model.json) has made."""
    folder.mkdir(parents=True)
    predictions.write(folder, part)
    estimated = {**estimates.measured(part, how), "subgroups": {}, "seeds": []}
    about = estimates.about(part, how, model_info.get("parameters") or 0, folder / FILE)
    simulated = model_info["dataset"]["simulated"]
    write_json(folder / METRICS, estimates.metrics_of(part, estimated, about, simulated))


def again(label: str, key: str, stages: Mapping[str, Any], folder: Path) -> Measured:
    """Return a model on one part of the test records, as :func:`measure` has written it to `folder`."""
    metrics, predicted = (folder / METRICS).read_bytes(), (folder / FILE).read_bytes()
    return Measured(label, key, stages, metrics, predicted)


def keep(client: MlflowClient, run_id: str, champion: Version, folder: Path) -> None:
    """Put what was measured again (BEFORE and AFTER in `folder`) beside the challenger's run."""
    with reporting_faults():
        client.log_artifacts(run_id, str(folder), f"{BESIDE}/{champion.number}")


def beside(
    client: MlflowClient, champion: Version, candidate: Version, folder: Path
) -> list[tuple[Measured, Measured]]:
    """Return the champion and a candidate as they were measured again on the same records, a pair for
    each part of these; none if they were not. Raises UserError if that is damaged."""
    path = f"{BESIDE}/{champion.number}"
    with reporting_faults():
        kept = client.list_artifacts(candidate.run_id, f"{path}/{AFTER}")
    if not kept:
        return []
    fetched = registered.fetch(client, candidate.run_id, path, folder, candidate.label)
    stages = [
        stages_of(client, version, folder / str(version.number))
        for version in (champion, candidate)
    ]
    return [
        (
            _read(champion, stages[0], part / METRICS, part / FILE),
            _read(candidate, stages[1], other / METRICS, other / FILE),
        )
        for part in sorted((fetched / BEFORE).iterdir(), reverse=True)  # old, and then new
        for other in [fetched / AFTER / part.name]
    ]
