"""The mirror: a run in MLflow for every state of a model that `dvc.lock` tells of.

A state is what the stages train and evaluate made of what; the SHA-256 of their entries in `dvc.lock`,
less durations, is its key. So a second call finds the runs of the first and adds nothing, and what
several revisions share is there once. A run counts as done when its status is FINISHED, which is set
last: a run that an interruption has left is completed by the next call, with the same values at the same
times.

Simulated and real recordings are never in one experiment: their metrics do not compare.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.entities import Experiment, Metric, Param, Run, RunTag

from beatline.common import params
from beatline.common.errors import UserError, names_there_are
from beatline.common.sums import KEY as SUM
from beatline.comparing.changes import parameters_of
from beatline.comparing.revisions import Revision
from beatline.lineage.lock import key_of
from beatline.tracking.client import FOLDER, MlflowClient, reporting_faults
from beatline.tracking.names import (
    BUNDLE,
    CARD,
    DATASET,
    FIGURES,
    FINISHED,
    KEY,
    LINEAGE,
    LIVE,
    METRICS,
    MODEL,
    PREDICTIONS,
    PREFIX,
    SIMULATED,
    WEIGHTS,
)

AT_ONCE = {"metrics": 1000, "params": 100, "tags": 100}  # MLflow's limits to a batch
NOTE = {
    True: "**Simulated recordings.** Scores show that the pipeline works and how models compare; they "
    "say nothing about patients or machines.",
    False: "Real recordings.",
}


@dataclass(frozen=True)
class State:
    """A model on a data set as the stages of a revision made it. `about`: the content of its metrics
    file."""

    revision: Revision
    dataset: str
    model: str
    key: str
    about: Mapping[str, Any]

    @property
    def name(self) -> str:
        return f"{self.dataset}/{self.model}"

    @property
    def simulated(self) -> bool:
        return bool(self.about["simulated"])

    @property
    def experiment(self) -> str:
        return experiment_of(self.dataset, self.simulated)


@dataclass
class Mirrored:
    """What a call did: the names of runs that it `added`, how many were `present`, and why states were
    `left_out`."""

    added: list[str] = field(default_factory=list)
    present: int = 0
    left_out: list[str] = field(default_factory=list)


def experiment_of(dataset: str, simulated: bool) -> str:
    """Return the name of the experiment that holds a data set's runs."""
    return f"beatline/{dataset}{' (simulated)' if simulated else ''}"


def mirror(
    client: MlflowClient,
    revisions: Iterable[Revision],
    tell: Callable[[str], None] = print,
) -> Mirrored:
    """Add a run for each state of the revisions that MLflow does not have yet.

    What cannot be read is left out, and said. Raises UserError if MLflow fails.
    """
    result, seen, homes = Mirrored(), set[str](), _homes(client)
    for revision in revisions:
        for pair in revision.trained:
            try:
                state = state_of(revision, *pair)
                if state.key in seen:
                    continue
                seen.add(state.key)
                run = _find(client, homes.get(state.experiment), state)
                if is_done(run):
                    result.present += 1
                    continue
                _write(client, state, run)
            except _Incomplete as error:
                result.left_out.append(str(error))
                continue
            result.added.append(state.name)
            without = (
                "" if _has_bundle(state) else ", without its bundle, which DVC's cache has not"
            )
            tell(f"{state.name} of {revision.label}: added{without}")
    return result


def ensure(client: MlflowClient, state: State) -> Run:
    """Return the run of a state with its bundle, added if there is none. Raises UserError if it cannot
    be."""
    run = _find(client, _homes(client).get(state.experiment), state)
    if not is_done(run) and not _has_bundle(state):
        raise UserError(
            f"the bundle of {state.name} of {state.revision.label} is not in DVC's cache: run `dvc pull "
            f"--all-commits` if you have a remote, or check that revision out and run `dvc repro`"
        )
    run_id = run.info.run_id if run and is_done(run) else _write(client, state, run)
    with reporting_faults():
        return client.get_run(run_id)


class _Incomplete(UserError):
    """A state that is not whole in its revision, as when evaluate has not run."""


def state_of(revision: Revision, dataset: str, model: str) -> State:
    """Return a model's state in a revision.

    Raises UserError if its stages have not run, or have not run after each other, and if its metrics are
    not those that evaluate wrote.
    """
    train, evaluate = (f"{stage}_{model}@{dataset}" for stage in ("train", "evaluate"))
    where, stages = f"{dataset}/{model} of {revision.label}", revision.stages
    if (dataset, model) not in revision.trained:
        names = ["/".join(pair) for pair in revision.trained]
        raise UserError(
            f"{params.PATH} of {revision.label} has no training of {dataset}/{model}: name another"
            f"{names_there_are(f'{dataset}/{model}', names)}"
        )
    for stage in (train, evaluate):
        if stage not in stages:
            raise _Incomplete(f"{where}: dvc.lock has no {stage}: run `dvc repro {stage}`")
    trained = _md5(stages[train]["outs"], f"data/models/{dataset}/{model}")
    if trained != _md5(stages[evaluate]["deps"], f"data/models/{dataset}/{model}"):
        raise _Incomplete(
            f"{where}: it was trained after it was evaluated: run `dvc repro {evaluate}`"
        )
    path = f"reports/metrics/{dataset}/{model}.json"
    content, about = revision.content(path), revision.metrics(dataset, model)
    if content is None or about is None:
        raise _Incomplete(f"{where}: {path} is missing or of an older form: run `dvc repro`")
    written = _md5(stages[evaluate]["outs"], path)
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != written:
        raise _Incomplete(
            f"{where}: {path} is not what {evaluate} wrote (its MD5 is not that in dvc.lock): "
            f"run `dvc repro`"
        )
    return State(revision, dataset, model, key_of(stages, (train, evaluate)), about)


def _md5(files: Iterable[Mapping[str, Any]], path: str) -> str | None:
    return next((file.get("md5") for file in files if file["path"] == path), None)


def _homes(client: MlflowClient) -> dict[str, str]:
    """The numbers of the experiments by their names: a question less for each model."""
    with reporting_faults():
        present = client.search_experiments(filter_string="name LIKE 'beatline/%'")
    return {each.name: each.experiment_id for each in present}


def _find(client: MlflowClient, home: str | None, state: State) -> Run | None:
    """Return the run of a state in the experiment numbered `home`, a finished one if there are
    several."""
    if home is None:
        return None
    with reporting_faults():
        runs = client.search_runs([home], f"tags.`{KEY}` = '{state.key}'")
    return next((run for run in runs if is_done(run)), next(iter(runs), None))


def is_done(run: Run | None) -> bool:
    return run is not None and run.info.status == FINISHED


def experiment(client: MlflowClient, dataset: str, simulated: bool) -> Experiment:
    """Return the experiment of a data set, created if it is new. Raises UserError if it was deleted."""
    name = experiment_of(dataset, simulated)
    is_served = client.tracking_uri.startswith("http")
    with reporting_faults():
        present = client.get_experiment_by_name(name)
        if present is None:
            number = client.create_experiment(
                name,
                # A server knows where it keeps artifacts; a database by itself does not.
                None if is_served else str((FOLDER / "artifacts").absolute()),
                {
                    SIMULATED: str(simulated).lower(),
                    "mlflow.note.content": NOTE[simulated],
                    # By which its pages begin with runs, and not with conversations.
                    "mlflow.experimentKind": "custom_model_development",
                },
            )
            present = client.get_experiment(number)
    if present.lifecycle_stage != "active":
        raise UserError(
            f"MLflow's experiment {name} was deleted: restore it there, or remove it by `mlflow gc`"
        )
    return present


def _write(client: MlflowClient, state: State, begun: Run | None) -> str:
    """Write a run whole, or what an interrupted one lacks, and return its id."""
    seconds = _durations(state)
    files = dict(_files(state))  # all that can be damaged is read before anything is written
    try:
        curves = list(curves_of(files.get(f"{BUNDLE}/history.csv")))
        tags = _tags(state, files)
    except ValueError as error:
        raise _Incomplete(f"{state.name}: its bundle cannot be read ({error})") from None
    home = experiment(client, state.dataset, state.simulated)
    began = 1000 * _commit_time(state.revision)
    with reporting_faults():
        run = begun or client.create_run(
            home.experiment_id,
            began,
            {KEY: state.key},
            f"{state.model} {state.revision.label if state.revision.commit else state.key[:7]}",
        )
        run_id, began = run.info.run_id, run.info.start_time
        values = {**metrics_of(state.about), **seconds}
        metrics = [Metric(name, value, began, step) for name, value, step in curves]
        metrics += [Metric(name, value, began, 0) for name, value in values.items()]
        params = [Param(name, value) for name, value in _parameters(state).items()]
        log(client, run_id, metrics=metrics, params=params, tags=tags)
        with tempfile.TemporaryDirectory() as folder:
            for name, content in files.items():
                path = Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            client.log_artifacts(run_id, folder)
        ended = began + int(1000 * seconds.get("train_seconds", 0))
        client.set_terminated(run_id, FINISHED, ended)
        _replace_live(client, home, state)
    return run_id


def log(client: MlflowClient, run_id: str, **entities: Sequence[Any]) -> None:
    """Log `metrics`, `params` and `tags` in as few batches as MLflow takes: one, as a rule."""
    left = {name: list(values) for name, values in entities.items()}
    while any(left.values()):
        room, batch = AT_ONCE["metrics"], {}
        for name, values in left.items():
            count = min(AT_ONCE[name], room)
            batch[name], left[name] = values[:count], values[count:]
            room -= len(batch[name])
        client.log_batch(run_id, **batch)


def _replace_live(client: MlflowClient, home: Experiment, state: State) -> None:
    """Delete the runs that showed this model's training, now that what came of it is here."""
    wanted = f"tags.`{LIVE}` = '{state.name}' AND attributes.status != 'RUNNING'"
    for run in client.search_runs([home.experiment_id], wanted):
        client.delete_run(run.info.run_id)


def _commit_time(revision: Revision) -> int:
    """Seconds since 1970; those of now for the workspace."""
    return revision.commit_time or int(time.time())


def _parameters(state: State) -> dict[str, str]:
    """All parameters that led to the model. Those of its own block are called as within it, so that runs
    of several models have columns in common."""
    own = f"train.{state.model}.{state.dataset}."
    given = parameters_of(state.revision.made(state.dataset, state.model))
    return {
        _safe(name.removeprefix(own), "/"): value if isinstance(value, str) else json.dumps(value)
        for name, value in given.items()
    }


def metrics_of(about: Mapping[str, Any]) -> dict[str, float]:
    """Every number of a metrics file: `auc`, `auc.low`, `auc.high`; of a class, a machine, a subgroup or
    a seed `MI/auc` and so on. What is undefined is left out."""
    values: dict[str, Any] = {}
    for row in about["metrics"]:
        name = row["metric"]
        values |= {name: row["value"], f"{name}.low": row["low"], f"{name}.high": row["high"]}
    about_itself = {**about["about"][0]}
    values |= {f"test/{name}": value for name, value in about_itself.items()}
    groups: list[tuple[str, Mapping[str, Any]]] = []
    for part in about.get("parts", ()):
        name, *_ = part.values()
        groups.append((str(name), part))
    for row in about.get("subgroups", ()):
        groups.append((f"{row['by']} {row['group']}", row))
    for row in (*about.get("seeds", ()), *about.get("members", ())):
        groups.append((f"seed {row['seed']}", row))
    uncalibrated: dict[str, float] = {}
    for row in about.get("uncalibrated", ()):
        name = row["metric"]
        uncalibrated |= {name: row["value"], f"{name}_low": row["low"], f"{name}_high": row["high"]}
    groups.append(("uncalibrated", uncalibrated))
    for number, (group, row) in enumerate(groups):
        prefix = _safe(group)
        if any(name.startswith(f"{prefix}/") for name in values):
            prefix = (
                f"{prefix} {number}"  # two names may be the same without their special characters
            )
        inside = {re.sub("_(low|high)$", r".\1", name): value for name, value in row.items()}
        values |= {f"{prefix}/{name}": value for name, value in inside.items()}
    return {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }


def _safe(name: str, kept: str = "") -> str:
    """A name in the characters that MLflow has for names."""
    return re.sub(rf"[^\w\-. :{kept}]", "_", name).strip(". ") or "_"


def curves_of(history: bytes | None) -> Iterator[tuple[str, float, int]]:
    """Name, value and epoch of what a training recorded."""
    if history is None:
        return
    table = pd.read_csv(BytesIO(history))
    for row in table.to_dict("records"):
        epoch = int(row.pop("epoch"))
        yield from (
            (str(name), float(value), epoch)
            for name, value in row.items()
            if pd.notna(value) and not isinstance(value, str)  # as the precision is
        )


def _durations(state: State) -> dict[str, float]:
    """Seconds of the training and milliseconds of a prediction, where DVC's cache still has them."""
    values: dict[str, float] = {}
    for name in ("train", "predict"):
        path = f"data/durations/{state.dataset}/{state.model}/{name}.json"
        content = _read(state.revision, path)
        stored = json.loads(content) if content else {}
        values |= {name: float(value) for name, value in stored.items() if name != SUM}
    return values


def _tags(state: State, files: Mapping[str, bytes]) -> list[RunTag]:
    """Lineage, and what a table of runs is filtered by."""
    stages = state.revision.made(state.dataset, state.model)
    made = {
        out["path"]: out.get("md5")
        for entry in stages.values()
        for out in entry.get("outs", ())
        if out["path"].startswith(("data/raw/", "data/normalized/", "data/models/"))
    }
    info = json.loads(files.get(f"{BUNDLE}/model.json", b"null")) or {}
    git = info.get("identity", {}).get("git") or {}
    about = state.about["about"][0]
    tags = {
        DATASET: state.dataset,
        MODEL: state.model,
        SIMULATED: str(state.simulated).lower(),
        # The workspace's name would be that of another state tomorrow.
        f"{PREFIX}revision": state.revision.label if state.revision.commit else None,
        f"{PREFIX}task": about["task"],
        f"{PREFIX}test_records": about["test_records"],
        WEIGHTS: info.get("weights_sha256"),
        f"{PREFIX}clean": str(git.get("clean")).lower() if git else None,
        "mlflow.source.git.commit": git.get("revision"),
        "mlflow.source.name": f"train_{state.model}@{state.dataset}",
        "mlflow.source.type": "PROJECT",
        "mlflow.note.content": NOTE[state.simulated],
        **{f"{PREFIX}md5.{_safe(path, '/')}": md5 for path, md5 in made.items()},
    }
    return [RunTag(name, value) for name, value in tags.items() if value]


def _files(state: State) -> Iterator[tuple[str, bytes]]:
    """The artifacts of a run, by their name there."""
    revision, name = state.revision, state.name
    models, predictions = f"data/models/{name}", f"data/predictions/{name}"
    wanted = {
        BUNDLE: (models, revision.below(models)),
        PREDICTIONS: (predictions, revision.below(predictions)),
        FIGURES: (
            f"reports/figures/{state.dataset}",
            figures_of(revision, state.dataset, state.model),
        ),
    }
    for folder, (root, paths) in wanted.items():
        for path in paths:
            if (content := _read(revision, path)) is not None:
                yield f"{folder}/{Path(path).relative_to(root)}", content
    if (card := _read(revision, f"reports/cards/{state.dataset}_models.md")) is not None:
        yield CARD, card
    yield METRICS, json.dumps(state.about, indent=2).encode()
    lineage = revision.made(state.dataset, state.model)
    yield LINEAGE, json.dumps(lineage, indent=2, sort_keys=True).encode()


def _has_bundle(state: State) -> bool:
    return _read(state.revision, f"data/models/{state.name}/model.json") is not None


def figures_of(revision: Revision, dataset: str, model: str) -> list[str]:
    """The paths of a model's figures: those called `<model>_…`, and not after a longer name."""
    models = [each for each_dataset, each in revision.trained if each_dataset == dataset]
    return [
        path
        for path in revision.below(f"reports/figures/{dataset}")
        if max(
            (each for each in models if Path(path).name.startswith(f"{each}_")), key=len, default=""
        )
        == model
    ]


def _read(revision: Revision, path: str) -> bytes | None:
    try:
        return revision.content(path)
    except UserError as error:
        raise _Incomplete(str(error)) from None
