"""The registry of models: versions made from runs, their aliases, and the moves of the champion.

A model of a data set, `ptbxl/cnn`, is called `ptbxl.cnn` there, since MLflow's names hold no slash. A
version is the bundle of a run as a `pyfunc` (:mod:`beatline.tracking.pyfunc`). `champion` is the one in
production, `challenger` the one that was registered last::

    server = client.connect()
    version = aliased(server, "ptbxl/cnn")                  # the champion, None if it has none
    version = resolve(server, "ptbxl/cnn", "champion")      # or a number; there must be one
    download(server, version, folder / version.key)         # its bundle, every byte compared

Neither torch nor DVC is needed. Whatever goes wrong is a UserError, within the time-outs of the client.
"""

from __future__ import annotations

import getpass
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from beatline.bundle.model_info import GRAPH, GRAPH_SHA256, read_model_info, shape_of
from beatline.common import sums
from beatline.common.errors import UserError, names_there_are
from beatline.common.files import replacing, sha256
from beatline.common.sums import SUMS
from beatline.tracking.client import MlflowClient, reporting_faults
from beatline.tracking.names import (
    BUNDLE,
    CHALLENGER,
    CHAMPION,
    DATASET,
    FINISHED,
    GATE,
    MODEL,
    MOVE,
    PYFUNC,
    SEAL,
    SIMULATED,
    WEIGHTS,
)

NEEDED = ("mlflow-skinny", "numpy", "onnxruntime", "pandas")  # packages, to load a version
DIGITS = 4  # of the number of a move, so that their names sort
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # what MLflow says of no such alias
LONGEST = 5000  # characters of a description, in its databases


class Foreign(UserError):
    """A version that somebody has made by hand, which is none of ours; the registry itself answers."""


@dataclass(frozen=True)
class Version:
    """A version of a model: its `key`, such as ptbxl/cnn, and `number`; the `run_id` that holds its
    files; its `aliases`; the SHA-256 of its `weights`, and of its bundle's SHA256SUMS (`seal`)."""

    key: str
    number: int
    run_id: str
    aliases: tuple[str, ...]
    weights: str
    seal: str
    simulated: bool
    tags: Mapping[str, str]

    @property
    def label(self) -> str:
        return f"{self.key} version {self.number}"


@dataclass(frozen=True)
class Move:
    """A move of the champion, `before` (None for the first) to `after`, by whom, at what time, and
    why."""

    number: int
    kind: Literal["promotion", "rollback"]
    before: int | None
    after: int
    by: str
    at: str
    verdict: str


def registered_name(key: str) -> str:
    """Return what the model `key`, such as ptbxl/cnn, is called in the registry. Raises UserError if it
    names none."""
    dataset, slash, model = key.partition("/")
    if not (dataset and slash and model) or "/" in model or ":" in key:
        raise UserError(f"{key!r} names no model: give DATA SET/MODEL, such as ptbxl/cnn")
    return f"{dataset}.{model}"


def known(client: MlflowClient) -> list[str]:
    """Return the keys of the models in the registry."""
    with reporting_faults():
        models = client.search_registered_models(max_results=1000)
    return sorted(
        f"{model.tags[DATASET]}/{model.tags[MODEL]}"
        for model in models
        if {DATASET, MODEL} <= model.tags.keys()
    )


def aliased(client: MlflowClient, key: str, alias: str = CHAMPION) -> Version | None:
    """Return the version of a model that an alias names, None if none is called so. Raises Foreign if
    it is none of ours."""
    with reporting_faults():
        try:
            present = client.get_model_version_by_alias(registered_name(key), alias)
        except MlflowException as error:
            if error.error_code in ABSENT:
                return None
            raise
    return _version(present)


def resolve(client: MlflowClient, key: str, which: str | int = CHAMPION) -> Version:
    """Return the version of a model that an alias or a number names.

    Raises UserError if there is none, with those that there are.
    """
    if not str(which).isdecimal() and (version := aliased(client, key, str(which))) is not None:
        return version
    versions = _versions(client, key)
    if not versions:
        raise UserError(
            f"{key} is not in the registry: register it by `beatline register {key}`"
            f"{names_there_are(key, known(client))}"
        )
    for version in versions:
        if str(version.number) == str(which):
            return version
    numbers = ", ".join(str(version.number) for version in versions)
    aliases = sorted({alias for version in versions for alias in version.aliases})
    raise UserError(
        f"{key} has no version {which!r}, but {numbers} and the aliases {', '.join(aliases) or 'none'}: "
        f"name one of these, or make one the champion by `beatline promote {key}`"
    )


def _versions(client: MlflowClient, key: str) -> list[Version]:
    """All versions of a model, by their numbers; none if the registry has no such model."""
    name = registered_name(key)
    with reporting_faults():
        found = client.search_model_versions(f"name = '{name}'", max_results=1000)
        # A search does not tell aliases.
        whole = [client.get_model_version(name, each.version) for each in found]
    return sorted((_version(each) for each in whole), key=lambda version: version.number)


def _version(present: ModelVersion) -> Version:
    """Raises Foreign if it is none of ours."""
    tags = present.tags
    missing = [name for name in (DATASET, MODEL, WEIGHTS, SEAL) if name not in tags]
    if missing or not present.run_id:
        raise Foreign(
            f"version {present.version} of {present.name} in MLflow was not made by `beatline register` "
            f"(it has no {missing[0] if missing else 'run'}): delete it there"
        )
    return Version(
        f"{tags[DATASET]}/{tags[MODEL]}",
        int(present.version),
        present.run_id,
        tuple(sorted(present.aliases)),
        tags[WEIGHTS],
        tags[SEAL],
        tags.get(SIMULATED) != "false",
        tags,
    )


def register(
    client: MlflowClient, run_id: str, tags: Mapping[str, str], description: str
) -> tuple[Version, bool]:
    """Make a version from the bundle of a run, called `challenger` unless it is the champion, and return
    it; the second value tells whether it is new, or one whose registration was interrupted. A run has one
    version, which is the challenger again when it is registered again.

    Raises UserError if the run is not whole, or its bundle is damaged or cannot be served.
    """
    with reporting_faults():
        run = client.get_run(run_id)
    key = f"{run.data.tags.get(DATASET)}/{run.data.tags.get(MODEL)}"
    name = registered_name(key)
    if run.info.status != FINISHED:
        raise UserError(f"the run of {key} is not whole: `beatline track` completes it")
    present = next((each for each in _versions(client, key) if each.run_id == run_id), None)
    if present and CHAMPION in present.aliases:
        return present, False
    number = present.number if present else _create(client, run, key, tags, description)
    with reporting_faults():  # of one, too, whose registration was interrupted before this
        client.set_registered_model_alias(name, CHALLENGER, str(number))
    return resolve(client, key, number), present is None or GATE not in present.tags


def _create(
    client: MlflowClient, run: Run, key: str, tags: Mapping[str, str], description: str
) -> int:
    """Make a version of a run's bundle; return its number."""
    run_id, name = run.info.run_id, registered_name(key)
    with reporting_faults():
        if client.list_artifacts(run_id) and not client.list_artifacts(run_id, BUNDLE):
            raise UserError(
                f"run {run_id} of {key} has no bundle, which DVC's cache had lost when it was mirrored: "
                f"delete the run in MLflow, bring the bundle back by `dvc pull` or `dvc repro`, and "
                f"register it again"
            )
    with tempfile.TemporaryDirectory() as folder:
        bundle = _fetch(client, run_id, BUNDLE, Path(folder, "fetched"), f"the bundle of {key}")
        model_info = read_model_info(bundle)
        if model_info.get(GRAPH_SHA256) is None:
            raise UserError(
                f"{key} has no {GRAPH}: its network could not be exported when it was trained, so that "
                f"it cannot be registered: train it again"
            )
        own = {WEIGHTS: model_info["weights_sha256"], SEAL: sha256(bundle / SUMS)}
        own |= {each: run.data.tags[each] for each in (DATASET, MODEL, SIMULATED)}
        save_pyfunc(Path(folder, PYFUNC), bundle, model_info)
        with reporting_faults():
            client.log_artifacts(run_id, str(Path(folder, PYFUNC)), PYFUNC)
    with reporting_faults():
        _create_model(client, name, own)
        present = client.create_model_version(
            name,
            f"{run.info.artifact_uri}/{PYFUNC}",
            run_id,
            {**tags, **own},
            description=description[:LONGEST],
            await_creation_for=0,
        )
    return int(present.version)


def _create_model(client: MlflowClient, name: str, tags: Mapping[str, str]) -> None:
    try:
        client.create_registered_model(name, {each: tags[each] for each in (DATASET, MODEL)})
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def save_pyfunc(folder: Path, bundle: Path, model_info: dict[str, Any]) -> None:
    """Write a bundle as a model of MLflow's, with its signature and an example of its input."""
    import mlflow.pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec

    from beatline.tracking import pyfunc  # only here: the service has no use for it

    channels, (length, _) = model_info["dataset"]["channels"], shape_of(model_info)
    how = model_info["normalization"]
    noise = np.random.default_rng(0).standard_normal((1, length, len(channels)))
    example: Any = (noise * how["standard_deviation"] + how["mean"]).astype(np.float32)
    inputs = Schema([TensorSpec(np.dtype("float32"), (-1, -1, len(channels)))])
    if model_info["dataset"]["length"] == 1:
        example = pd.DataFrame(example[:, 0].astype(np.float64), columns=channels)
        inputs = Schema([ColSpec("double", name) for name in channels])
    columns = [("double", name) for name in model_info["classes"]] + [("string", "decided")]
    if model_info["task"] in pyfunc.DETECTORS:
        columns = [("double", "score"), ("double", "threshold"), ("boolean", "anomaly")]
    with tempfile.TemporaryDirectory() as temporary:
        # MLflow calls what it copies as the folder is called.
        named = shutil.copytree(bundle, Path(temporary, BUNDLE))
        mlflow.pyfunc.save_model(
            folder,
            python_model=pyfunc.__file__,
            artifacts={BUNDLE: str(named)},
            signature=ModelSignature(inputs, Schema([ColSpec(*column) for column in columns])),
            input_example=example,
            pip_requirements=[f"{name}=={metadata.version(name)}" for name in NEEDED],
        )


def download(client: MlflowClient, wanted: Version, folder: Path) -> Path:
    """Put the bundle of a version into `folder`, whole or not at all, and return it.

    Every file is compared with its SHA-256, and the list of these with the one in the registry. Raises
    UserError if the registry is away or the bundle is damaged: what `folder` held before is still there.
    """
    with tempfile.TemporaryDirectory() as temporary, replacing(folder) as beside:
        path = f"{PYFUNC}/artifacts/{BUNDLE}"
        fetched = _fetch(client, wanted.run_id, path, Path(temporary), wanted.label)
        if sha256(fetched / SUMS) != wanted.seal:
            raise damaged(wanted.label, f"its {SUMS} is not the one that was registered")
        shutil.copytree(fetched, beside)
    return folder


def fetch(client: MlflowClient, run_id: str, path: str, folder: Path, what: str) -> Path:
    """Put an artifact of a run below `folder`. Raises UserError that says `what` if it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    with reporting_faults():
        run = client.get_run(run_id)
        try:
            return Path(client.download_artifacts(run_id, path, str(folder)))
        except (OSError, MlflowException) as error:
            if client.list_artifacts(run_id):  # others are there: it is this one that is missing
                raise damaged(what, f"{path} is missing in run {run.info.run_id}") from error
            raise damaged(what, f"run {run.info.run_id} has lost its artifacts") from error


def _fetch(client: MlflowClient, run_id: str, path: str, folder: Path, what: str) -> Path:
    """:func:`fetch` a bundle, and compare all files with their sums."""
    fetched = fetch(client, run_id, path, folder, what)
    try:
        sums.check(fetched)
    except UserError as error:
        reason = str(error).replace(f"{fetched}/", "").partition(":")[0]
        raise damaged(what, reason) from None
    return fetched


def damaged(what: str, reason: str) -> UserError:
    """Return the error that tells of damage to the artifacts of a run or a version."""
    return UserError(
        f"what MLflow holds of {what} is damaged ({reason}): restore its artifacts from a backup, or "
        f"delete its run there and register the model again"
    )


def tag(client: MlflowClient, version: Version, name: str, value: str) -> None:
    """Write something on a version."""
    with reporting_faults():
        client.set_model_version_tag(registered_name(version.key), str(version.number), name, value)


def moves(client: MlflowClient, key: str) -> list[Move]:
    """Return the moves of a model's champion, the first first."""
    with reporting_faults():
        tags = client.get_registered_model(registered_name(key)).tags
    return [Move(**json.loads(tags[name])) for name in sorted(tags) if name.startswith(MOVE)]


def _done(client: MlflowClient, key: str, present: int | None) -> list[Move]:
    """The moves of a champion that is version `present` now, without a last one that was interrupted
    before the alias moved."""
    done = moves(client, key)
    if done and done[-1].after != present and done[-1].before == present:
        done.pop()
    return done


def move_champion(
    client: MlflowClient, after: Version, kind: Literal["promotion", "rollback"], verdict: str
) -> Move:
    """Make a version the champion, and record that. It is the challenger no more.

    The record is written first: of a move that was interrupted, it is replaced by the next one.
    """
    before, name = aliased(client, after.key), registered_name(after.key)
    number = before.number if before else None
    done = _done(client, after.key, number)
    move = Move(
        len(done) + 1,
        kind,
        number,
        after.number,
        getpass.getuser(),
        datetime.now(UTC).isoformat(timespec="seconds"),
        verdict[:1000],
    )
    with reporting_faults():
        tag = f"{MOVE}{move.number:0{DIGITS}}"
        client.set_registered_model_tag(name, tag, json.dumps(asdict(move)))
        client.set_registered_model_alias(name, CHAMPION, str(after.number))
        if CHALLENGER in after.aliases:
            client.delete_registered_model_alias(name, CHALLENGER)
    return move


def previous_champion(client: MlflowClient, key: str) -> Version:
    """Return the version that was the champion before the one that is.

    Raises UserError if there was none, or if somebody has moved the alias in MLflow itself.
    """
    present = resolve(client, key, CHAMPION)
    stack: list[int | None] = []
    last: int | None = None
    for move in _done(client, key, present.number):
        if move.kind == "rollback":
            stack.pop()
        else:
            stack.append(move.before)
        last = move.after
    if last != present.number:
        raise UserError(
            f"the champion of {key} was moved to version {present.number} by another hand than `beatline "
            f"promote`: name the version to go back to by `beatline promote {key} --version N`"
        )
    if not stack or stack[-1] is None:
        raise UserError(
            f"{key} has had no champion before version {present.number}: name one by `beatline promote "
            f"{key} --version N`"
        )
    return resolve(client, key, stack[-1])
