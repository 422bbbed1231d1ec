"""The trained models in memory: loaded at the start, and again when their files change.

A changed bundle is loaded completely beside the old one, then a reference is swapped. Who answers a
request holds a reference of its own, so nothing is dropped. A folder that is gone (DVC deletes a stage's
outputs before it runs) or half written leaves the old model where it is.
"""

from __future__ import annotations

import gc
import logging
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from beatline.bundle.model_info import (
    DESCRIPTION,
    FAMILIARITY,
    FOLDER,
    GRAPH,
    REFERENCE_SHA256,
    read_reference,
)
from beatline.common import params
from beatline.common.errors import UserError, names_there_are
from beatline.common.sums import SUMS
from beatline.serving.problems import unavailable, unknown
from beatline.tracking import copies, names

if TYPE_CHECKING:
    from beatline.prediction.reference import Reference
    from beatline.serving.model import Model
    from beatline.serving.settings import Serve
    from beatline.serving.telemetry import Telemetry

PREDICTIONS = Path("data/predictions")  # where a model's metrics and their intervals are
# Whose stamps show that a bundle has changed.
FILES = (DESCRIPTION, GRAPH, FAMILIARITY, SUMS, copies.VERSION)
# The environment variable that names where models come from: FOLDER, or copies from the registry.
MODELS, OWN, FROM_REGISTRY = "BEATLINE_MODELS", "data", "registry"
# The environment variable that tells a worker to take requests only when its models are loaded: it takes
# the place of another, beside workers that answer.
LOAD_FIRST = "BEATLINE_LOAD_FIRST"
SHOWN = 80  # characters of what a client asked for
NONE_YET = f"no trained model in {FOLDER} yet: run `dvc repro` or `dvc pull`"
NO_CHAMPION = "the registry has no version of it with the alias champion: run `beatline promote`"

Stamp = tuple[tuple[int, ...] | None, ...]
log = logging.getLogger("beatline.serving")


def wanted(content: dict[str, Any]) -> list[str]:
    """`<data set>/<model>` of every model that params.yaml trains, by data set, in its order."""
    return [
        f"{dataset}/{model}"
        for dataset in content["datasets"]
        for model in params.models_of(content, dataset)
    ]


def check_behind(limits: Serve, wanted: Sequence[str]) -> None:
    """Raises UserError if there is a model behind an address of its own that is none of the trained."""
    for key, name in (("features", limits.features), ("machines", limits.machines)):
        if name is not None and name not in wanted:
            hint = names_there_are(name, wanted)
            raise UserError(
                f"params.yaml: serve.{key}: {name} is not trained{hint}: name one, or null"
            )


def stamp(*paths: Path) -> Stamp:
    """Return the times of change, inodes and sizes of files (None for a missing one): they differ once
    a file has changed, since nobody can set the time of the last change of an inode."""
    stamps: list[tuple[int, ...] | None] = []
    for path in paths:
        try:
            status = path.stat()
            stamps.append((status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_size))
        except OSError:
            stamps.append(None)
    return tuple(stamps)


@dataclass(frozen=True)
class Entry:
    """The state of one wanted bundle. `tried`: the stamp of the files that were last looked at, None
    if they should be looked at again; `described`: that of the metrics in `summary`; `reason`: why
    there is no model, or no newer one."""

    model: Model | None = None
    summary: dict[str, Any] | None = None
    tried: Stamp | None = None
    described: Stamp | None = None
    reason: str = "not loaded yet"


def _settle_memory() -> None:
    """Have Python's search for garbage pass over what is loaded now: models and libraries stay, and each
    full search of them would keep all requests waiting for a tenth of a second."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


class Registry:
    """The bundles `wanted` of the project in `root`, kept up to date by a thread of its own. `alias`:
    which versions, where models come from the registry; challengers come from there alone."""

    def __init__(
        self,
        root: Path,
        wanted: Sequence[str],
        poll_seconds: float,
        telemetry: Telemetry,
        alias: str = names.CHAMPION,
    ) -> None:
        self.wanted = wanted
        self._root = root
        self._alias = alias
        self._registered = os.environ.get(MODELS) == FROM_REGISTRY or alias != names.CHAMPION
        self._bundles = root / (copies.place_of("", alias) if self._registered else FOLDER)
        self._poll_seconds = poll_seconds
        self._telemetry = telemetry
        self._entries = dict.fromkeys(wanted, Entry())
        self._looked_at = 0  # bundles, of the first round
        self.first_round = threading.Event()  # set when every bundle has been looked at
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="registry", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns when the thread has ended: at the latest after the bundle that it is loading."""
        self._stop.set()
        self._thread.join()

    def check_known(self, dataset: str, name: str) -> str:
        """`<data set>/<model>`. Raises Problem 404 if params.yaml does not train it."""
        key = f"{dataset}/{name}"
        if key not in self._entries:
            word = key[:SHOWN]
            raise unknown(f"there is no model {word!r}{names_there_are(word, self._entries)}")
        return key

    def model(self, dataset: str, name: str) -> Model:
        """A loaded model. Raises Problem: 404 if there is no such, 503 if it is not there yet."""
        key = self.check_known(dataset, name)
        entry = self._entries[key]
        if entry.model is None:
            raise unavailable(f"{key} cannot answer yet: {entry.reason}")
        return entry.model

    def loaded(self, key: str) -> Model | None:
        return self._entries[key].model

    def detectors(self) -> list[tuple[str, str]]:
        """Return data set and name of the loaded models whose answer is an anomaly score."""
        models = (entry.model for entry in self._entries.values())
        return [(model.dataset, model.name) for model in models if model and model.detects]

    def why_not_ready(self) -> str | None:
        """None once all bundles have been looked at and one at least can answer, else the reason."""
        if self._looked_at < len(self._entries):
            return f"loading: {self._looked_at} of {len(self._entries)} models"
        if any(entry.model for entry in self._entries.values()):
            return None
        reasons = {entry.reason for entry in self._entries.values() if any(entry.tried or ())}
        return min(reasons, default=self._none_yet)

    @property
    def _none_yet(self) -> str:
        return NO_CHAMPION if self._registered else NONE_YET

    def summaries(self) -> list[dict[str, Any]]:
        """An entry of ``GET /models`` for each bundle, those that cannot answer with the reason."""
        summaries = []
        for key, entry in self._entries.items():
            dataset, name = key.split("/")
            absent = {"dataset": dataset, "name": name, "available": False, "reason": entry.reason}
            summary = entry.summary and {**entry.summary, "outdated": entry.reason or None}
            summaries.append(summary or absent)
        return summaries

    def _watch(self) -> None:
        while not self._stop.is_set():
            before = self._models()
            self.look()
            if self._models() != before:
                _settle_memory()
            self.first_round.set()
            self._stop.wait(self._poll_seconds)

    def _models(self) -> list[int]:
        """Which models are in memory; without keeping them there."""
        return [id(entry.model) for entry in self._entries.values()]

    def look(self) -> None:
        """One round: load what has changed since the last."""
        for count, key in enumerate(self._entries, 1):
            if self._stop.is_set():
                return
            self._look_at(key)
            self._looked_at = max(self._looked_at, count)
        if self._alias == names.CHAMPION:  # whose answers are what a server is there for
            self._telemetry.ready(self.why_not_ready() is None)

    def _look_at(self, key: str) -> None:
        entry = self._entries[key]
        files = stamp(*(self._bundles / key / name for name in FILES))
        if files[0] is None:
            reason = "its files are gone" if entry.model else self._none_yet
            left = entry.model
            if self._alias != names.CHAMPION:  # who goes on without files: others are none any more
                left = None
                if files != entry.tried and entry != Entry():
                    self._telemetry.dropped(key, self._alias, entry.model)
            self._set(key, replace(entry, model=left, tried=files, reason=reason))
        elif files != entry.tried:
            self._load(key, files)
        entry = self._entries[key]
        if entry.model and stamp(self._estimates(key)) != entry.described:
            self._describe(key, entry.model)

    def _load(self, key: str, files: Stamp) -> None:
        """Load a bundle whose files had the stamp `files` before."""
        from beatline.serving import model as models  # slow to import, and only workers need it

        entry = self._entries[key]
        try:
            model = models.load(self._bundles / key)
        except UserError as error:
            # Clients need not know where the project is on this machine.
            self._failed(key, files, str(error).replace(f"{self._root}/", ""))
        except Exception:  # whatever it is, the other models go on
            log.exception("%s could not be loaded", key)
            # Without a stamp it is tried again: memory or open files may have run out.
            self._failed(key, None, "an error of ours")
        else:
            self._telemetry.load_succeeded(key, self._alias)
            if entry.model is not None and entry.model.same_as(model):
                # Its files were finished while it was loaded, or written again with the same content.
                self._set(key, replace(entry, tried=files, reason=""))
                return
            self._set(key, Entry(model, entry.summary, files, None, ""))
            self._telemetry.loaded(model, entry.model)
            if self._alias == names.CHAMPION:
                self._telemetry.watched(model, entry.model, self._reference(key, model))
            # At the start there would be a line per model and worker.
            level = logging.INFO if entry.model else logging.DEBUG
            log.log(level, "%s loaded: weights %s", key, model.identity["weights"])

    def _reference(self, key: str, model: Model) -> Reference | None:
        """What the bundle is watched by, None if it has nothing: it answers all the same."""
        if model.model_info.get(REFERENCE_SHA256) is None:
            return None
        try:
            return read_reference(self._bundles / key, model.model_info)
        except UserError as error:
            log.warning("%s has no reference to be watched by: %s", key, error)
            return None

    def _failed(self, key: str, tried: Stamp | None, reason: str) -> None:
        self._set(key, replace(self._entries[key], tried=tried, reason=reason))
        self._telemetry.load_failed(key, self._alias)
        log.warning("%s could not be loaded: %s", key, reason)

    def _describe(self, key: str, model: Model) -> None:
        """Its summary, again when the metrics change."""
        from beatline.serving import model as models

        estimates = self._estimates(key)
        described = stamp(estimates)
        try:
            summary = models.summary(model, estimates)
        except Exception:  # the model answers all the same
            log.exception("%s cannot be described", key)
        else:
            self._set(key, replace(self._entries[key], summary=summary, described=described))

    def _estimates(self, key: str) -> Path:
        folder = self._bundles / key / names.PREDICTIONS if self._registered else PREDICTIONS / key
        return self._root / folder / "estimates.json"

    def _set(self, key: str, entry: Entry) -> None:
        self._entries = {**self._entries, key: entry}
