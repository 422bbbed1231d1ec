"""Predict from recordings in files, by a trained model's bundle: a row per recording.

What the API takes is taken here, by the same readers, and answered with the same numbers: a WFDB record,
sound, tables, arrays, images, and folders and ZIP archives of them. A recording that cannot be read or
does not fit is a row that says why.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from beatline.bundle.model_info import find
from beatline.common.errors import UserError
from beatline.common.files import write_csv
from beatline.serving import answers, uploads
from beatline.serving import model as models
from beatline.serving.model import Model
from beatline.serving.problems import Problem
from beatline.serving.settings import Serve
from beatline.serving.uploads import archives, metadata, wfdb_records
from beatline.serving.uploads.upload import File, Upload

# Of a file, far beyond what the service takes from strangers: these are the user's own, and her memory.
LIMITS = Serve(
    features=None,
    max_megabytes=4000,
    max_values=1_000_000_000,
    max_rows=1,
    seconds_to_send=1,
    seconds_to_answer=1,
    poll_seconds=1,
)
RECORDING, WARNINGS, ERROR = "recording", "warnings", "error"


@dataclass(frozen=True)
class Source:
    """A file on disk or in an archive: `name` with the folders that lead to it, and how it is `read`."""

    name: str
    read: Callable[[], bytes]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the model, the files, what they do not say themselves, and where the table goes."""
    parser.add_argument("model", help="a bundle's folder, or its name such as ptbxl/cnn")
    parser.add_argument("paths", nargs="+", type=Path, metavar="FILE", help="or folder, or archive")
    parser.add_argument("--csv", type=Path, help="write the table there instead of printing it")
    parser.add_argument("--sampling-rate", help="in Hz, of files that do not say theirs")
    parser.add_argument("--unit", help="of the samples, such as uV")
    parser.add_argument("--channels", help="names in the order of the file: I,II,III")


def run(options: argparse.Namespace) -> int:
    """Print or write the table; 1 if a recording was not predicted. Raises UserError if there is no such
    model, or no such file."""
    model = models.load(find(options.model))
    given = {header: getattr(options, name) for name, header in metadata.HEADERS.items()}
    headers = {header: value for header, value in given.items() if value is not None}
    found = [each for path in options.paths for each in _recordings(path)]
    progress = tqdm(found, "predict", unit=" recordings", disable=len(found) == 1)
    rows = [_row(model, files, headers) for files in progress]
    table, failed = pd.DataFrame(rows), sum(row[ERROR] != "" for row in rows)
    if options.csv:
        write_csv(options.csv, table)
        print(f"{len(table)} recordings, {failed} of them not predicted: {options.csv}")
    else:
        print(table.to_string(index=False, float_format="{:.4g}".format, na_rep=""))
    return int(failed > 0)


def _recordings(path: Path) -> list[list[Source]]:
    """The recordings of a file, of an archive, or of all files below a folder, in the order of their
    names: the one file of each, or a WFDB header with its signal files. Raises UserError if there is
    none."""
    if not path.exists():
        raise UserError(f"{path} is missing: name a file or a folder with recordings")
    paths = sorted(path.rglob("*")) if path.is_dir() else [path]
    files = [file for file in paths if file.is_file() and not _is_hidden(file.relative_to(path))]
    sources = [source for file in files for source in _sources(file)]
    if not sources:
        raise UserError(f"{path} holds no files: name a folder with recordings")
    by_name = {source.name: source for source in sources}
    records = {source.name: [source, *_signals(source, by_name)] for source in sources}
    in_records = {file.name for files in records.values() for file in files[1:]}
    return [files for name, files in records.items() if name not in in_records]


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _sources(path: Path) -> list[Source]:
    """A file, or the files in it if it is an archive that can be read."""
    whole = Source(str(path), path.read_bytes)
    with path.open("rb") as file:
        if file.read(len(archives.MAGIC[0])) not in archives.MAGIC:
            return [whole]
    try:
        members = archives.unpacked(path.read_bytes(), path.name, LIMITS)
    except Problem:  # which is told in its row
        return [whole]
    return [
        Source(f"{path}/{member.name}", lambda member=member: member.content) for member in members
    ]


def _signals(source: Source, by_name: Mapping[str, Source]) -> list[Source]:
    """The signal files that a WFDB header names and that are beside it; none for another file."""
    if not wfdb_records.is_header(File(source.name, b"")):
        return []
    lines = source.read().decode(errors="replace").splitlines()
    names = {words[0] for line in lines if (words := line.split()) and not line.startswith("#")}
    beside = (str(Path(source.name).with_name(Path(name).name)) for name in sorted(names))
    return [by_name[name] for name in beside if name in by_name and name != source.name]


def _row(model: Model, files: list[Source], headers: Mapping[str, str]) -> dict[str, Any]:
    """A row of the table: values, what is decided, warnings, or the error."""
    empty = dict.fromkeys(_columns(model), None)
    row: dict[str, Any] = {RECORDING: files[0].name, **empty, WARNINGS: "", ERROR: ""}
    try:
        sent = Upload("", headers, [File(file.name, file.read()) for file in files])
        recording = uploads.read(sent, LIMITS)
        answer = answers.respond(
            model, recording, explain=False, with_recording=False, limits=LIMITS
        )
    except (Problem, OSError) as error:
        return row | {ERROR: str(error)}
    return row | _values(answer) | {WARNINGS: "; ".join(w["message"] for w in answer["warnings"])}


def _columns(model: Model) -> list[str]:
    if model.detects:
        return ["score", "threshold", "anomaly"]
    return [*model.classes, "decided"]


def _values(answer: Mapping[str, Any]) -> dict[str, Any]:
    if "score" in answer:
        return {name: answer[name] for name in ("score", "threshold", "anomaly")}
    decisions = answer.get("decisions", {})
    decided = answer.get("class", " ".join(name for name, holds in decisions.items() if holds))
    return {**answer["probabilities"], "decided": decided}
