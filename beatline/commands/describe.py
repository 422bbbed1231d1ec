"""Print what a trained model is and what made it, from its bundle alone."""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from beatline import bundle
from beatline.common.errors import UserError
from beatline.common.files import sha256

WIDTH = 80
COLUMN = 14  # of labels: a SHA-256 sum then fits beside one
SHOWN = 12  # channels; of more, the first and the last are named
NOT_RECORDED = "not recorded"

Rows = list[tuple[str, str]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the bundle's folder."""
    parser.add_argument("folder", type=Path, help="of the bundle: data/models/ptbxl/cnn")
    parser.add_argument(
        "--json", action="store_true", help="model.json and the files' SHA-256 sums"
    )


def run(options: argparse.Namespace) -> int:
    """Print it. Raises UserError if the folder holds no trained model, or a damaged one."""
    folder = options.folder
    if not (folder / bundle.DESCRIPTION).is_file():
        raise UserError(
            f"{folder} is no trained model (it holds no {bundle.DESCRIPTION}): name a folder "
            f"such as data/models/ptbxl/cnn, or run `dvc repro` to train it"
        )
    description = bundle.load(folder).description
    sums = {name: sha256(folder / name) for name in _files(folder)}
    if options.json:
        print(json.dumps({bundle.DESCRIPTION: description, "sha256": sums}, indent=2))
    else:
        print("\n".join(lines(folder, description, sums)))
    return 0


def lines(folder: Path, description: dict[str, Any], sums: dict[str, str]) -> Iterable[str]:
    """All that the bundle says, in lines of at most WIDTH characters. `sums`: SHA-256 by file."""
    dataset, identity = description["dataset"], description["identity"]
    name = description["architecture"]["name"]
    yield from _wrapped(f"{folder}: {name} on {dataset.get('title', NOT_RECORDED)}")
    if dataset.get("simulated"):
        yield from _wrapped(
            "SIMULATED recordings: its scores say nothing about real patients or machines."
        )
    yield from _section("Model", _model(folder, description))
    yield from _section("Data", _data(dataset))
    yield from _section("Hyperparameters", _flat(_hyperparameters(description)), wide=True)
    yield from _section("Made by", _made_by(identity))
    yield from _files_checked(sums)
    yield from _stages(identity)


def _model(folder: Path, description: dict[str, Any]) -> Rows:
    dataset, windows = description["dataset"], description["windows"]
    samples, channels = bundle.shape_of(description)
    rate = dataset.get("sampling_rate")
    number = description.get("parameters")
    looks_at = (
        f"{samples} x {channels}, every {windows['stride']} samples; the {windows['aggregate']} of "
        f"the answers counts"
    )
    rows = [
        ("architecture", description["architecture"]["name"]),
        ("parameters", NOT_RECORDED if number is None else f"{number:,}"),
        ("task", description["task"]),
        ("classes", ", ".join(description["classes"])),
        ("input", f"[N, {dataset['length']}, {channels}]: recordings, samples, channels"),
        ("windows", looks_at if samples < dataset["length"] else "none: whole recordings"),
        ("channels", _named(dataset["channels"])),
        ("unit", dataset.get("unit") or NOT_RECORDED),
        ("sampling rate", f"{rate:g} Hz" if rate else "none: no axis of time in seconds"),
        ("thresholds", _thresholds(description)),
        ("best epoch", str(description["best_epoch"])),
        ("other seeds", _value([path.name for path in bundle.other_seeds(folder)])),
    ]
    if description["sections"]:
        rows.insert(4, ("tells apart", ", ".join(description["sections"])))
    return rows


def _thresholds(description: dict[str, Any]) -> str:
    if not description["thresholds"]:
        return "none: the most probable class is decided"
    pairs = zip(description["classes"], description["thresholds"], strict=True)
    return ", ".join(f"{name} {threshold:.4g}" for name, threshold in pairs)


def _data(dataset: dict[str, Any]) -> Rows:
    representation = dataset.get("representation")
    of_them = _flat(representation) if representation else [("", "recordings as they are")]
    return [
        ("title", dataset.get("title", NOT_RECORDED)),
        ("source", dataset.get("source", NOT_RECORDED)),
        ("simulated", _value(dataset.get("simulated", NOT_RECORDED))),
        ("citation", dataset.get("citation", NOT_RECORDED)),
        ("made of them", ", ".join(" ".join(pair).strip() for pair in of_them)),
    ]


def _hyperparameters(description: dict[str, Any]) -> dict[str, Any]:
    return {"architecture": description["architecture"]["parameters"], **description["training"]}


def _made_by(identity: dict[str, Any]) -> Rows:
    environment = dict(identity.get("environment", {}))
    device, machine = environment.pop("device", NOT_RECORDED), environment.pop("machine", None)
    versions = ", ".join(f"{name} {number}" for name, number in environment.items())
    rows = [
        *_revision(identity.get("git")),
        ("code", identity["code"]),
        ("data", identity["data"]),
        ("versions", versions or NOT_RECORDED),
        ("device", device),
    ]
    if not machine:
        return [*rows, ("machine", NOT_RECORDED)]
    told = f"{machine['processor']}, {machine['cores']} cores, {machine['threads']} in use"
    return [*rows, ("machine", told), ("system", machine["system"])]


def _revision(git: dict[str, Any] | None) -> Rows:
    if git is None or git["revision"] is None:
        why = "" if git is None else ": there was no Git repository that holds the project"
        return [("Git revision", NOT_RECORDED + why)]
    state = "clean: code and parameters were those of the revision"
    if not git["clean"]:
        state = "not clean, changed or new: " + ", ".join(git["changed"])
    return [("Git revision", git["revision"]), ("Git state", state)]


def _files_checked(sums: dict[str, str]) -> Iterable[str]:
    """Each file and its sum. That of the weights has been compared when the bundle was loaded."""
    yield from ("", "Files, SHA-256")
    for name, found in sums.items():
        yield f"  {name}" + (" (verified)" if name == bundle.WEIGHTS else "")
        yield f"    {found}"


def _stages(identity: dict[str, Any]) -> Iterable[str]:
    pipeline = identity.get("pipeline")
    if pipeline is None:
        why = ": DVC did not run the training" if "pipeline" in identity else ""
        yield from _section("Stages before", [("", NOT_RECORDED + why)])
        return
    for name, entry in pipeline.items():
        yield from _section(f"Stage before: {name}", _flat(entry["params"]), wide=True)
        for kind, title in (("deps", "read"), ("outs", "made")):
            yield f"  {title}, MD5"
            for path, md5 in entry[kind].items():
                # DVC marks the sum of a folder.
                is_folder = str(md5).endswith(".dir")
                told = f"{str(md5).removesuffix('.dir')}  {path}{'/' if is_folder else ''}"
                yield from _wrapped(told if md5 else f"{NOT_RECORDED}  {path}", "    ")


def _section(title: str, rows: Rows, wide: bool = False) -> Iterable[str]:
    """A title and labelled values below it, their column as wide as the labels if they are `wide`."""
    column = max((len(label) for label, _ in rows), default=0) + 2 if wide else COLUMN
    yield from ("", title)
    for label, value in rows:
        if not label:
            yield from _wrapped(value, "  ")
        else:
            yield from _wrapped(value, f"  {label:{column}}")


def _wrapped(text: str, first: str = "") -> list[str]:
    """The text after `first`, further lines below its beginning, trailing spaces left out."""
    indent = " " * min(len(first), WIDTH // 2)
    found = textwrap.wrap(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=indent,
        break_on_hyphens=False,
    )
    return found or [first.rstrip()]


def _flat(content: dict[str, Any], prefix: str = "") -> Rows:
    """Nested parameters by their dotted keys."""
    rows: Rows = []
    for key, value in content.items():
        if isinstance(value, dict) and value:
            rows += _flat(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", _value(value)))
    return rows


def _value(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_value, value)) or "none"
    if isinstance(value, (bool, type(None))):
        return {True: "yes", False: "no", None: "none"}[value]
    return str(value)


def _named(names: list[str]) -> str:
    if len(names) <= SHOWN:
        return ", ".join(names)
    return f"{', '.join(names[:3])}, … {names[-1]} ({len(names)}; all of them: --json)"


def _files(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )
