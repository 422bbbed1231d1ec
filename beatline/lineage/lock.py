"""dvc.lock: the stages that have run, and which of them built on which."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

DVC_YAML, DVC_LOCK = Path("dvc.yaml"), Path("dvc.lock")
DURATIONS = "data/durations/"
Stages = Mapping[str, Mapping[str, Any]]
"""The entries of dvc.lock by stage (`train_cnn@ptbxl`)."""


def read(root: Path) -> dict[str, Any]:
    """Return the stages in dvc.lock of the project in the folder `root`; none where there is no such
    file."""
    path = root / DVC_LOCK
    content = YAML(typ="safe").load(path) if path.is_file() else None
    return (content or {}).get("stages", {})


def is_sound(content: str) -> bool:
    """Whether DVC can read this content of a dvc.lock: an interrupted run may leave part of it."""
    # Only here: no stage needs DVC, which takes half a second.
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from voluptuous import Invalid

    try:
        COMPILED_LOCKFILE_SCHEMA(YAML(typ="safe").load(content))
    except (YAMLError, Invalid):
        return False
    return True


def upstream(stages: Stages, name: str) -> dict[str, Mapping[str, Any]]:
    """The entries of the stage `name`, if there is one, and then of all that it builds on."""
    if name not in stages:
        return {}
    deps = [dep["path"] for dep in stages[name].get("deps", ())]
    return {stage: stages[stage] for stage in (name, *reversed(makers(stages, deps)))}


def upstream_of_next_run(name: str) -> dict[str, dict[str, Any]] | None:
    """Return what the stage `name` builds on when it is run in the current folder: the stages behind it,
    in running order, each with `params` (dotted key: value), `deps` and `outs` (path: MD5).

    None without a dvc.lock. The stage's own entry is not looked at: it tells of the run before, or is
    not there yet.
    """
    if not (DVC_LOCK.is_file() and DVC_YAML.is_file()):
        return None
    yaml = YAML(typ="safe")
    templates = yaml.load(DVC_YAML)["stages"]
    # DVC leaves the entries of removed stages where they are.
    stages = {
        stage: entry
        for stage, entry in yaml.load(DVC_LOCK)["stages"].items()
        if stage.partition("@")[0] in templates
    }
    template, _, key = name.partition("@")
    deps = templates[template].get("do", templates[template])["deps"]
    behind = makers(stages, [path.replace("${key}", key) for path in deps])
    return {stage: _without_durations(stages[stage]) for stage in behind}


def key_of(stages: Stages, names: Iterable[str]) -> str:
    """SHA-256 of the entries of stages, less durations: the same whenever they made the same of the
    same."""
    entries = [[stages[name]["cmd"], _without_durations(stages[name])] for name in names]
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()


def makers(stages: Stages, paths: Iterable[str]) -> list[str]:
    """The stages behind the paths in running order: those that made them, a folder that holds them, or
    something in them, and what those build on. It does not depend on the order of the entries."""
    made_by = {
        out["path"]: stage for stage, entry in stages.items() for out in entry.get("outs", ())
    }
    inside: dict[str, set[str]] = {}
    for out, stage in made_by.items():
        for path in _with_parents(out):
            inside.setdefault(path, set()).add(stage)
    behind: dict[str, None] = {}

    def add(path: str) -> None:
        around = {made_by[parent] for parent in _with_parents(path) if parent in made_by}
        for stage in sorted(around | inside.get(path, set())):
            if stage not in behind:
                for dep in stages[stage].get("deps", ()):
                    add(dep["path"])
                behind[stage] = None

    for path in paths:
        add(path)
    return list(behind)


def _with_parents(path: str) -> list[str]:
    """`a/b/c` and the folders that hold it, `a/b` and `a`."""
    parts = path.split("/")
    return ["/".join(parts[:number]) for number in range(len(parts), 0, -1)]


def _without_durations(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry of dvc.lock, less durations: they differ whenever the same is run again."""
    params: dict[str, Any] = {}
    for values in entry.get("params", {}).values():
        params |= values
    sums = {
        kind: {
            item["path"]: item.get("md5")
            for item in entry.get(kind, ())
            if not item["path"].startswith(DURATIONS)
        }
        for kind in ("deps", "outs")
    }
    return {"params": params, **sums}
