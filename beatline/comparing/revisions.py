"""A revision in Git and the DVC cache: its parameters, metrics, predictions, and how they were made.

A revision is a commit, a branch, a tag, a DVC experiment, or the workspace. Files in Git are always
there; predictions are in DVC's cache, or in the remote if there is one, or they are not to be had.
"""

from __future__ import annotations

import hashlib
import json
import sys
from functools import cache, cached_property
from pathlib import Path
from typing import Any, cast

from dvc.api import DVCFileSystem
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.scm import NoSCMError, RevError, SCMError, resolve_rev
from dvc_data.index import DataIndexDirError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from beatline.common import params
from beatline.common.errors import UserError, did_you_mean
from beatline.common.sums import SUMS, listed, read_sealed_json, verified
from beatline.evaluation.predictions import FILE, Predictions, parse
from beatline.lineage.code import ends_of_history
from beatline.lineage.lock import DURATIONS, Stages, upstream

WORKSPACE = "workspace"
REFERENCES = ("refs/heads/", "refs/remotes/", "refs/tags/")  # what Git names revisions by
ABOUT = {"task", "classes", "records", "parameters", "confidence", "test_records", "predictions"}


def repository() -> Repo:
    """The project in the current folder. Raises UserError if there is none, or none in Git."""
    try:
        repo = Repo(".")
        repo.scm.get_rev()
    except (DvcException, SCMError, AttributeError):  # AttributeError: DVC was told to use no Git
        raise UserError(
            "here is no project in a Git repository: run the command in the project's root folder"
        ) from None
    return repo


class Revision:
    """One state of the project. `name` as it was given, `commit` None for the workspace."""

    def __init__(self, repo: Repo, name: str) -> None:
        self.name = name
        self.commit = None if name == WORKSPACE else commit_of(repo, name)
        self.shown_commit = self.commit or repo.scm.get_rev()  # where the web shows its files
        # The workspace's own DVC object has read dvc.yaml by the time that its files are asked for.
        self._files = DVCFileSystem(repo.root_dir if self.commit else repo, rev=self.commit)

    @property
    def label(self) -> str:
        """The name, and the commit that it stands for if the name does not say."""
        if self.commit is None or self.commit.startswith(self.name):
            return self.name[:10]
        return f"{self.name} ({self.commit[:7]})"

    @property
    def commit_time(self) -> int | None:
        """Seconds since 1970 at which it was committed; None for the workspace."""
        scm = self._files.repo.scm
        return scm.resolve_commit(self.commit).commit_time if self.commit else None

    def content(self, path: str) -> bytes | None:
        """Return the content of a file in Git or under DVC; None if it is not to be had. Raises UserError
        if it is not what a stage has written."""
        try:
            with self._files.open(path, "rb") as file:
                content = cast(bytes, file.read())
            self._check(path, content)
            return content
        except (OSError, DvcException, DataIndexDirError):  # neither in the cache nor in a remote
            return None
        except ImportError as error:  # the remote needs a package that is not installed
            _warn_once(f"what is in the DVC remote cannot be read: {' '.join(str(error).split())}")
            return None

    def _check(self, path: str, content: bytes) -> None:
        """Compare an output in the workspace with its sum, which dvc.lock may not know yet, and one from
        DVC's cache, which DVC does not look at, with dvc.lock."""
        on_disk = Path(self._files.repo.root_dir, path)
        if self.commit is None and on_disk.exists():
            if path.startswith(DURATIONS):
                read_sealed_json(on_disk)
            elif on_disk.name == SUMS:
                listed(on_disk.parent)
            elif path.startswith("data/"):
                verified(on_disk)
            return
        expected = self._files.info(path).get("md5")
        if expected and hashlib.md5(content, usedforsecurity=False).hexdigest() != expected:
            raise UserError(
                f"{path} of {self.name} is damaged in DVC's cache: check out {self.name} and run "
                f"`beatline repair {path}`"
            )

    @cached_property
    def plots(self) -> dict[str, dict[str, Any]]:
        """The files that stages declare as plots, each with its properties (template, x, y and so on).
        Raises UserError if dvc.yaml cannot be read."""
        repo = self._files.repo
        try:
            return {
                path.lstrip("/"): out.plot if isinstance(out.plot, dict) else {}
                for out in repo.index.plots
                for path in self.below(repo.fs.relpath(out.fs_path, repo.root_dir))
            }
        except DvcException as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"dvc.yaml of {self.name} cannot be read ({reason}): correct it"
            ) from None

    def below(self, path: str) -> list[str]:
        """The files below a path, or the path itself if DVC cannot list them."""
        try:
            return list(self._files.find(path))
        except DataIndexDirError:
            return [path]

    @cached_property
    def params(self) -> dict[str, Any]:
        """The content of params.yaml. Raises UserError if there is none."""
        return self._yaml(str(params.PATH), "datasets")

    @cached_property
    def stages(self) -> dict[str, dict[str, Any]]:
        """The entries of dvc.lock by stage. Raises UserError if there is none."""
        return self._yaml("dvc.lock", "stages")["stages"]

    def _yaml(self, path: str, key: str) -> dict[str, Any]:
        """A file with a mapping at the top and another at `key`."""
        content = self.content(path)
        if content is None:
            raise UserError(f"{self.name} has no {path}: it is no state of this project")
        try:
            mapping = YAML(typ="safe").load(content.decode())  # as DVC reads it
        except (YAMLError, UnicodeDecodeError):
            mapping = None
        if not isinstance(mapping, dict) or not isinstance(mapping.get(key), dict):
            raise UserError(f"{path} of {self.name} is damaged: resolve what a merge left in it")
        return mapping

    @property
    def trained(self) -> list[tuple[str, str]]:
        """Data set and model of each training run that params.yaml lists."""
        content = self.params
        return [
            (dataset, model)
            for dataset in content["datasets"]
            for model in params.models_of(content, dataset)
        ]

    def metrics(self, dataset: str, model: str) -> dict[str, Any] | None:
        """The content of a model's metrics file, if there is one with intervals."""
        content = self.content(f"reports/metrics/{dataset}/{model}.json")
        try:
            metrics: Any = json.loads(content or b"null")
            return metrics if metrics["metrics"] and metrics["about"][0].keys() >= ABOUT else None
        except (ValueError, TypeError, KeyError, IndexError, AttributeError):
            return None  # of before metrics had intervals, or damaged

    def predictions(self, dataset: str, model: str) -> Predictions | None:
        """A model's predictions on the test records, if they are to be had. UserError if they are
        damaged."""
        path = f"data/predictions/{dataset}/{model}/{FILE}"
        content, about = self.content(path), self.metrics(dataset, model)
        if content is None:
            return None
        if about is None:
            model_info = self.content(f"data/models/{dataset}/{model}/model.json")
            about = json.loads(model_info) if model_info else None
        return parse(content, about, f"{path} of {self.name}") if about else None

    def made(self, dataset: str, model: str) -> Stages:
        """The entries of dvc.lock of all stages that lead to a model's metrics."""
        return upstream(self.stages, f"evaluate_{model}@{dataset}")


@cache
def _warn_once(message: str) -> None:
    """Warn on stderr, since stdout may become a comment on a pull request."""
    print(f"warning: {message}", file=sys.stderr)


def commit_of(repo: Repo, name: str) -> str:
    """The commit that a name stands for. Raises UserError if there is none."""
    try:
        if name and (commit := repo.scm.resolve_commit(resolve_rev(repo.scm, name))):
            return commit.hexsha
        raise RevError(f"{name!r} is no commit")
    except (RevError, SCMError, NoSCMError, AttributeError):
        raise UserError(
            f"there is no commit, branch, tag or experiment {name!r}{did_you_mean(name, _names(repo))}: "
            f"{where_else()} and `dvc exp list`"
        ) from None


def where_else() -> str:
    """Say where a commit may be that is not found here."""
    shallow = "this clone is shallow: run `git fetch --unshallow`, or "
    return f"{shallow if ends_of_history() else ''}see `git branch --all`"


def _names(repo: Repo) -> list[str]:
    """Branches, tags and experiments, by name."""
    try:
        refs = [ref.split("/", 2)[2] for ref in repo.scm.iter_refs() if ref.startswith(REFERENCES)]
        listed = repo.experiments.ls(all_commits=True).values()
    except (SCMError, NoSCMError, AttributeError):
        return []
    return [*refs, *(name for named in listed for name, _ in named if name)]
