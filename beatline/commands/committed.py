"""Check that dvc.lock matches the code, the parameters and the results beside it.

`dvc status` answers that where the data is. Here nothing is needed but what is in Git, so a fresh
clone can be asked, and a pull request refused whose numbers are not those of its code: DVC's own
classes compare what Git holds with dvc.lock, and dvc.lock with itself.
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import dpath
from dvc.dependency import ParamsDependency
from dvc.dvcfile import Lockfile
from dvc.exceptions import DvcException
from dvc.output import Output
from dvc.repo import Repo
from dvc.stage import PipelineStage

from beatline.common import params
from beatline.common.errors import UserError

LOCK = "dvc.lock"
CURE = "run `dvc repro` and commit dvc.lock and reports/"
# Git writes these lines where two branches changed the same ones.
CONFLICT = re.compile(r"^(<{7}|={7}|>{7})( |$)", re.MULTILINE)
ABSENT = object()  # of a parameter
SHOWN = 3  # of many files or stages

# Each kind of problem in words; what it is about follows.
NEW = "dvc.lock does not have all that dvc.yaml lists"
LEFT = (
    "dvc.lock has stages that dvc.yaml does not have (remove dvc.lock, and what is called so in data/ "
    "and reports/, before `dvc repro`)"
)
COMMAND = "commands in dvc.yaml have changed"
CODE = "code has changed"
SOURCE = "recordings, or what describes or makes them, have changed"
PARAMETER = "parameters have changed"
RESULT = "what is in reports/ is not what the stages wrote"
CHAIN = "stages read other files than the stages before them wrote"
EXTRA = "stages read files that no stage makes (remove them first)"
KINDS = (NEW, LEFT, COMMAND, CODE, SOURCE, PARAMETER, RESULT, CHAIN, EXTRA)


class Problem(NamedTuple):
    """A mismatch: its kind, one of KINDS, what does not match, and the stage that it concerns."""

    kind: str
    subject: str
    stage: str


def problems(repo: Repo) -> Iterator[Problem]:
    """Everything in which dvc.lock differs from what Git holds, and from itself.

    Raises UserError if dvc.lock is missing or holds the marks of a merge conflict, or if DVC cannot
    read dvc.yaml, dvc.lock or params.yaml.
    """
    lock = Path(repo.root_dir, LOCK)
    if not lock.is_file():
        raise UserError(f"{LOCK} is missing: {CURE}")
    check_no_conflict(lock.read_text())
    try:
        locked = Lockfile(repo, str(lock)).load().get("stages", {})
        stages = {
            str(stage.name): stage
            for stage in repo.index.stages
            if isinstance(stage, PipelineStage)
        }
        sources = _sources(Path(repo.root_dir))
        files: dict[str, Any] = {}
        outs = {out.fs_path: out for stage in stages.values() for out in stage.outs}
        for name in [*stages, *(name for name in locked if name not in stages)]:
            if name not in locked:
                yield Problem(NEW, name, name)
            elif name not in stages:
                yield Problem(LEFT, name, name)
            else:
                yield from _problems_of(name, stages[name], outs, sources, files)
    except DvcException as error:
        raise UserError(f"DVC cannot tell: {_sentence(error)}") from None


def check_no_conflict(content: str) -> None:
    """Raise UserError if a dvc.lock's content holds the marks of a merge conflict."""
    if CONFLICT.search(content):
        raise UserError(
            f"{LOCK} holds the marks of a merge conflict: take a branch's, as by "
            f"`git checkout HEAD -- dvc.lock reports`, then {CURE}"
        )


def _problems_of(
    name: str,
    stage: PipelineStage,
    outs: dict[str, Output],
    sources: set[str],
    files: dict[str, Any],
) -> Iterator[Problem]:
    if stage.cmd_changed:
        yield Problem(COMMAND, str(stage.cmd), name)
    for dependency in stage.deps:
        if isinstance(dependency, ParamsDependency):
            changed = _changed_parameters(dependency, files)
            yield from (Problem(PARAMETER, key, name) for key in changed)
        elif kind := _mismatch(dependency, outs, sources):
            extra = ", ".join(_extra(dependency, outs)) if kind == EXTRA else ""
            yield Problem(kind, extra or str(dependency), name)
    for out in stage.outs:
        if not out.hash_info:
            yield Problem(NEW, str(out), name)
        elif not out.use_cache and out.workspace_status():
            yield Problem(RESULT, str(out), name)


def _changed_parameters(dependency: ParamsDependency, files: dict[str, Any]) -> list[str]:
    """The parameters that are not as dvc.lock has them. `files` keeps what they were read from: DVC reads
    params.yaml anew for every stage, which takes longer than all the rest."""
    locked, path = dependency.hash_info.value, dependency.fs_path
    if not (dependency.params and isinstance(locked, dict) and dependency.exists):
        return [str(dependency)] if dependency.status() else []
    if path not in files:
        files[path] = ParamsDependency(None, path, repo=dependency.repo).read_params()
    current = {
        key: dpath.get(files[path], key, separator=".", default=ABSENT) for key in dependency.params
    }
    return [key for key in current if key not in locked or current[key] != locked[key]]


def _mismatch(dependency: Output, outs: dict[str, Output], sources: set[str]) -> str | None:
    """The kind of problem that there is with a file or folder that a stage reads; `sources` are those of
    the data sets."""
    if not dependency.hash_info:
        return NEW
    path = dependency.fs_path
    if path in outs:
        return CHAIN if dependency.hash_info != outs[path].hash_info else None
    inside = [out for name, out in outs.items() if name.startswith(f"{path}/")]
    if not inside:
        source = dependency.def_path in sources
        if source and not dependency.exists:
            return None  # recordings of somebody's own, which Git does not hold
        kind = SOURCE if source else CODE
        return kind if dependency.workspace_status() else None
    if not any(out.use_cache for out in inside):
        return RESULT if dependency.workspace_status() else None
    return _mismatch_of_folder(dependency, inside)


def _sources(root: Path) -> set[str]:
    """Where the data sets come from, as the params.yaml in `root` says."""
    content = params.load(root / params.PATH)
    return {block["download"]["source"] for block in content["datasets"].values()}


def _mismatch_of_folder(folder: Output, inside: list[Output]) -> str | None:
    """The same for a folder in which several stages write. dvc.lock has one hash of all of it, made
    from hashes that only the cache holds; but it has the number and the size of the files too."""
    if not all(out.hash_info for out in inside):
        return None  # which is reported where the out is made
    files, size = (sum(column) for column in zip(*map(_files_and_size, inside), strict=True))
    if _files_and_size(folder)[0] > files:
        return EXTRA
    return None if _files_and_size(folder) == (files, size) else CHAIN


def _extra(folder: Output, outs: dict[str, Output]) -> list[str]:
    """Return what lies in a folder, or in a folder in it, and neither is nor holds what a stage makes."""
    made = [Path(name).parts for name in outs]

    def is_made(path: Path) -> bool:
        parts = path.parts
        return any(each[: len(parts)] == parts or parts[: len(each)] == each for each in made)

    root = Path(folder.fs_path)
    found = [path for path in sorted([*root.glob("*"), *root.glob("*/*")]) if not is_made(path)]
    return [f"{folder}/{path.relative_to(root)}" for path in found if path.parent not in found]


def _files_and_size(out: Output) -> tuple[int, int]:
    """Return the number of files and their bytes that dvc.lock records for a file or a folder."""
    return (out.meta.nfiles or 1, out.meta.size or 0) if out.meta else (0, 0)


def in_words(mismatches: list[Problem]) -> str:
    """A line for each kind of problem: what it is about, and the first stages that it concerns."""
    by_kind: dict[str, list[Problem]] = defaultdict(list)
    for problem in mismatches:
        by_kind[problem.kind].append(problem)
    lines = [
        f"- {kind}: {_first([problem.subject for problem in by_kind[kind]])} "
        f"(stages: {_first([problem.stage for problem in by_kind[kind]])})"
        for kind in KINDS
        if kind in by_kind
    ]
    return "\n".join(lines)


def _first(names: list[str]) -> str:
    different = list(dict.fromkeys(names))
    more = f" and {len(different) - SHOWN} more" if len(different) > SHOWN else ""
    return ", ".join(different[:SHOWN]) + more


def _sentence(error: BaseException) -> str:
    """DVC's message and that of what caused it, on one line."""
    cause = f" ({' '.join(str(error.__cause__).split())})" if error.__cause__ else ""
    return " ".join(str(error).split()) + cause


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take none."""
    del parser


def run(options: argparse.Namespace) -> int:
    """Print that dvc.lock matches. Raises UserError that lists what does not."""
    del options
    try:
        repo = Repo()
    except DvcException as error:
        raise UserError(f"{_sentence(error)}: run the command in the project's folder") from None
    with repo:
        if mismatches := list(problems(repo)):
            raise UserError(f"{LOCK} does not match: {CURE}\n{in_words(mismatches)}")
        print(f"{LOCK} matches: {len(repo.index.stages)} stages")
    return 0
