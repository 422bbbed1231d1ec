"""Changes in what a model was made from: parameters, code and data, as dvc.lock records them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from beatline.lineage.lock import Stages

CODE = ("beatline/", "stages/")
RAW, SIMULATORS = "data/raw/", "beatline/simulators/"


@dataclass(frozen=True)
class Changes:
    """`parameters`: what stood at a dotted key before and after, None where it was missing. `code` and
    `data`: paths whose content is another, is new or is gone."""

    parameters: dict[str, tuple[Any, Any]]
    code: list[str]
    data: list[str]

    def __bool__(self) -> bool:
        return bool(self.parameters or self.code or self.data)

    @property
    def simulation(self) -> str:
        """What made other recordings under the same names, where they are simulated: the simulator's
        parameters and its code. Empty if they are the same recordings, or the same ones in another form,
        such as at another sampling rate."""
        if not any(path.startswith(RAW) for path in self.data):
            return ""
        parameters = [
            f"{key}: {_shown(before)} → {_shown(after)}"
            for key, (before, after) in self.parameters.items()
            if ".download.simulated." in key
        ]
        return ", ".join(
            [*parameters, *(path for path in self.code if path.startswith(SIMULATORS))]
        )

    @property
    def sentences(self) -> list[str]:
        """One per kind of change, for people."""
        lines = [
            f"parameter {key}: {_shown(before)} → {_shown(after)}"
            for key, (before, after) in self.parameters.items()
        ]
        lines += [f"code: {', '.join(self.code)}"] if self.code else []
        lines += [f"data: {', '.join(self.data)}"] if self.data else []
        return lines


def changes(before: Stages, after: Stages) -> Changes:
    """Return the changes between two states of the stages that lead to a model (entries of dvc.lock)."""
    old, new = parameters_of(before), parameters_of(after)
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    return Changes(
        {key: (old.get(key), new.get(key)) for key in keys},
        _differing(_code(before), _code(after)),
        _differing(_raw(before), _raw(after)),
    )


def _differing(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    return sorted(
        path for path in before.keys() | after.keys() if before.get(path) != after.get(path)
    )


def parameters_of(stages: Stages) -> dict[str, Any]:
    """Every parameter that a stage depends on, by its whole dotted key, as it stands in params.yaml."""
    parameters: dict[str, Any] = {}
    for entry in stages.values():
        for blocks in entry.get("params", {}).values():
            for key, value in blocks.items():
                parameters |= _flat(key, value)
    return parameters


def _flat(key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {key: value}
    return {
        name: leaf
        for inner, part in value.items()
        for name, leaf in _flat(f"{key}.{inner}", part).items()
    }


def _code(stages: Stages) -> dict[str, str]:
    return {
        dep["path"]: dep.get("md5", "")
        for entry in stages.values()
        for dep in entry.get("deps", [])
        if _is_code(dep["path"])
    }


def _raw(stages: Stages) -> dict[str, str]:
    """The raw recordings: what a download made, and files from outside the pipeline."""
    made = {out["path"]: out for entry in stages.values() for out in entry.get("outs", [])}
    read = [dep for entry in stages.values() for dep in entry.get("deps", [])]
    raw = [out for path, out in made.items() if path.startswith(RAW)]
    outside = [dep for dep in read if dep["path"] not in made and not _is_code(dep["path"])]
    return {file["path"]: file.get("md5", "") for file in (*raw, *outside)}


def _is_code(path: str) -> bool:
    return path.startswith(CODE)


def _shown(value: Any) -> str:
    return (
        "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    )
