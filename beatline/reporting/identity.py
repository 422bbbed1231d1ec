"""The origin of the numbers: revision, data, code, versions, machine of each model and evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from string import ascii_uppercase
from typing import Any

from beatline.common import versions as installed
from beatline.common.words import spoken
from beatline.evaluation.results import Evaluated
from beatline.lineage import code
from beatline.reporting.document import (
    DASH,
    DIGITS,
    IDENTITY,
    MANY,
    NOT_RECORDED,
    anchor,
    fill,
    link,
    short_hash,
)
from beatline.reporting.results import DatasetResults, heading

REVISION_DIGITS = 7
DRAWN_WITH = ("matplotlib", "pillow", "markdown-it-py")
CLEAN, UNCOMMITTED = "clean", "with uncommitted changes"
Identity = Mapping[str, Any]
"""A record made by :func:`beatline.lineage.record.identity`; older models lack `git`."""


def revision(identity: Identity) -> str:
    """The Git revision, short, as Markdown."""
    git = identity.get("git")
    if not git:
        return NOT_RECORDED
    return f"`{git['revision'][:REVISION_DIGITS]}`" if git["revision"] else "no revision"


def state(identity: Identity) -> str:
    """Whether what was run is what the revision holds; empty if there is no revision."""
    git = identity.get("git")
    if not git or not git["revision"]:
        return ""
    return CLEAN if git["clean"] else UNCOMMITTED


def changes(identity: Identity) -> list[str]:
    git = identity.get("git")
    return list(git["changed"]) if git and git["revision"] else []


def made_by(identity: Identity) -> str:
    """`revision 0b2efde (clean)`, as Markdown."""
    git_state = state(identity)
    if not git_state:
        return (
            "code of no known revision"
            if identity.get("git")
            else "a revision that was not recorded"
        )
    return f"revision {revision(identity)} ({git_state})"


def versions(identity: Identity) -> str:
    environment = identity["environment"]
    return ", ".join(
        f"{name} {value}"
        for name, value in environment.items()
        if isinstance(value, str) and name != "device"
    )


def machine(identity: Identity) -> str:
    """Device, processor, cores and threads, as far as they are recorded."""
    environment = identity["environment"]
    info = environment.get("machine") or {}
    facts = [environment["device"], info.get("system"), info.get("processor")]
    for name in ("cores", "threads"):
        if info.get(name) is not None:
            facts.append(f"{info[name]} {name if info[name] != 1 else name[:-1]}")
    return ", ".join(fact for fact in facts if fact)


def made_from(model: Evaluated, place: str = "") -> str:
    """One line below a table of a model's metrics. `place`: of the report, seen from the document."""
    identity = model.description["identity"]
    return (
        f"[Made by]({place}#{anchor(IDENTITY)}) {made_by(identity)} from data "
        f"{short_hash(identity['data'])}."
    )


def revisions(datasets: Sequence[DatasetResults], place: str = "") -> str:
    """One line below a table of the metrics of several models."""
    made = [model.description["identity"] for results in datasets for model in results.models]
    by = list(dict.fromkeys(map(made_by, made)))
    data = {short_hash(identity["data"]) for identity in made}
    from_data = f" from data {data.pop()}" if len(data) == 1 else ""
    return f"[Made by]({place}#{anchor(IDENTITY)}) {spoken(by)}{from_data}."


# ---------------------------------------------------------------- the table of all models


class _Named:
    """Letters or numbers for what many rows share, in the order in which they come."""

    def __init__(self, names: Sequence[str] = ()) -> None:
        self.names, self.values = names, []

    def name(self, value: Any) -> str:
        if value not in self.values:
            self.values.append(value)
        at = self.values.index(value)
        return self.names[at] if at < len(self.names) else str(at + 1)


def identities(
    datasets: Sequence[DatasetResults], names: Mapping[tuple[str, str], str] | None = None
) -> str:
    """A row per model, one more where it was evaluated by something else than what trained it; below,
    what the letters and numbers in it stand for. `names`: of models, by data set and model, where they
    are not links to the report's sections."""
    environments, uncommitted = _Named(ascii_uppercase), _Named()
    rows = []
    for results in datasets:
        for model in results.models:
            trained = model.description["identity"]
            evaluated = model.estimates.get("identity")
            label = (names or {}).get((results.name, model.model)) or link(
                heading(results, model), f"{results.name}: {model.model}"
            )
            rows.append([label, "trained", *_cells(trained, environments, uncommitted)])
            if not evaluated:
                rows.append([label, "evaluated", NOT_RECORDED, *[DASH] * 4])
            elif _differ(trained, evaluated):
                rows.append([label, "evaluated", *_cells(evaluated, environments, uncommitted)])
    return fill(
        "identities",
        rows=rows,
        digits=DIGITS,
        changes=[(uncommitted.name(paths), listed_paths(paths)) for paths in uncommitted.values],
        environments=[(environments.name(value), *value) for value in environments.values],
    )


def _cells(identity: Identity, environments: _Named, uncommitted: _Named) -> list[str]:
    changed = changes(identity)
    git_state = f"changes {uncommitted.name(changed)}" if changed else state(identity) or DASH
    return [
        revision(identity),
        git_state,
        short_hash(identity["data"]),
        short_hash(identity["code"]),
        environments.name((machine(identity), versions(identity))),
    ]


def _differ(trained: Identity, evaluated: Identity) -> bool:
    return any(trained.get(part) != evaluated.get(part) for part in ("git", "environment"))


def listed_paths(paths: Sequence[str]) -> str:
    """List paths as Markdown, of many only the first ones."""
    shown = [f"`{path}`" for path in paths[:MANY]]
    more = len(paths) - len(shown)
    return spoken([*shown, f"{more} more"] if more else shown)


def own_identity() -> dict[str, Any]:
    """Return the identity of the process that writes the report: its revision, the sum of its code, and
    versions, those of the packages that draw and render included."""
    drawing = {package: version(package) for package in DRAWN_WITH}
    return {
        "git": code.git_identity(),
        "code": code.code_identity(),
        "environment": installed.versions() | drawing,
    }
