"""Predictions in Python from files, as the service and ``beatline predict`` give them::

    from beatline.serving import predictor
    model = predictor.load("ptbxl/cnn")
    table = model.predict("recordings/")             # a row per recording, a column per class
    table = model.predict([ecg, "00001_lr.hea"])     # arrays [T, C] and files

Files are read by the readers of the service, and arrays as if they were sent as NPY: what is odd about a
recording, or was converted, stands in the column `warnings`, cautions first. Neither torch nor a server
is needed.
:meth:`beatline.bundle.Bundle.predict` asks the network itself, and takes arrays in the form of the
training alone.
"""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from tqdm import tqdm

from beatline.bundle.model_info import batches, find
from beatline.common.errors import UserError
from beatline.serving import answers, uploads
from beatline.serving import model as models
from beatline.serving.answers import Observe, Observed
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
TABLES = ("csv", "tsv")
NUMBERS = re.compile(r"[-+\d\s.,;eE]*")  # a line of a table that names no columns
REGISTERED = "registry:"  # begins the name of a model that is registered
RECORDING, WARNINGS, ERROR = "recording", "warnings", "error"


@dataclass(frozen=True)
class Source:
    """A file on disk or in an archive: `name` with the folders that lead to it, and how it is `read`."""

    name: str
    read: Callable[[], bytes]


@dataclass(frozen=True)
class Predictor:
    """A loaded model that takes files and arrays."""

    model: Model

    def predict(
        self,
        recordings: Any,
        *,
        sampling_rate: float | str | None = None,
        unit: str | None = None,
        channels: Sequence[str] | None = None,
        errors: Literal["raise", "rows"] = "raise",
    ) -> pd.DataFrame:
        """Return a table with a row per recording: its name, the probability of each class and what is
        decided, or score, threshold and whether it is an anomaly; warnings; and an error.

        `recordings`: the path of a file, a folder or an archive; an array `[N, T, C]` or `[T, C]`, or
        `[N, C]` of the rows of a table; or a list of paths and arrays. `sampling_rate` in Hz, `unit` and
        `channels` are needed where a file does not say them. Arrays without them are taken to be as those
        of the training.

        Raises UserError if a path is missing or holds nothing, and if a recording cannot be read or does
        not fit the model; with `errors="rows"` its row says so instead.
        """
        values = {
            "sampling_rate": None if sampling_rate is None else str(sampling_rate),
            "unit": unit,
            "channels": None if channels is None else ",".join(channels),
        }
        headers = {
            metadata.HEADERS[name]: value for name, value in values.items() if value is not None
        }
        sources = self._sources(recordings, itertools.count(1))
        progress = tqdm(sources, "predict", unit=" recordings", disable=len(sources) == 1)
        rows = []
        for files in progress:
            rows.append(_row(self.model, files, headers))
            if errors == "raise" and (error := rows[-1][ERROR]):
                raise UserError(f"{files[0].name}: {error}")
        return pd.DataFrame(rows)

    def examine(self, recordings: str | Path) -> list[Examined]:
        """Return what the model sees in each recording of a file, a folder or an archive.

        Raises UserError if there is none.
        """
        files = self._sources(recordings, itertools.count(1))
        return [_examined(self.model, each) for each in tqdm(files, "read", unit=" recordings")]

    def _sources(self, recordings: Any, numbers: Iterator[int]) -> list[list[Source]]:
        """The files of each recording; arrays are called by their number."""
        dataset = self.model.model_info["dataset"]
        by_row = dataset["channels"] if dataset["length"] == 1 else None
        if isinstance(recordings, (str, Path)):
            return _recordings([Path(recordings)], by_row)
        if isinstance(recordings, (list, tuple)) and recordings:
            are_paths = [isinstance(each, (str, Path)) for each in recordings]
            if all(are_paths):
                return _recordings(list(map(Path, recordings)), by_row)
            if any(are_paths):
                return [files for each in recordings for files in self._sources(each, numbers)]
        arrays = batches(recordings, self.model.model_info)
        if not all(len(array) for array in arrays if array.ndim):
            raise UserError("there are no recordings in an empty array: give one that holds some")
        return [
            [Source(f"array {next(numbers)}", partial(_npy, recording))]
            for array in arrays
            for recording in (array if array.ndim == 3 else [array])
        ]


@dataclass(frozen=True)
class Examined:
    """A recording as a model sees it: `scores` `[K]`, `embedding` `[D]`
    (:func:`beatline.prediction.familiarity.features`) and codes of warnings; or an `error`."""

    name: str
    scores: np.ndarray
    embedding: np.ndarray
    warnings: list[str]
    error: str = ""


def load(name: str | Path) -> Predictor:
    """Load the model that is called by its bundle's folder, by its name such as ptbxl/cnn, or, of the
    registry, by `registry:<data set>/<model>@<alias>`.

    Raises UserError if there is none, with those that there are; if it is damaged or has no ONNX graph.
    """
    if str(name).startswith(REGISTERED):
        from beatline.tracking import champions  # with MLflow, which is installed for this alone

        return Predictor(models.load(champions.fetch(str(name).removeprefix(REGISTERED))))
    return Predictor(models.load(find(str(name))))


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def _recordings(paths: Sequence[Path], by_row: Sequence[str] | None) -> list[list[Source]]:
    """The recordings of files, of archives, and of all files below folders, in the order of their names:
    the one file of each, or a WFDB header with its signal files, which need not be named; of tables
    the rows, if their columns are to be those of `by_row`. Raises UserError if there is none."""
    sources = [source for path in paths for file in _files(path) for source in _sources(file)]
    if by_row is not None:
        sources = [row for source in sources for row in _rows(source, by_row)]
    by_name = {source.name: source for source in sources}
    records = {source.name: [source, *_signals(source, by_name)] for source in sources}
    in_records = {file.name for files in records.values() for file in files[1:]}
    return [files for name, files in records.items() if name not in in_records]


def _files(path: Path) -> list[Path]:
    """The file itself, or all below a folder. Raises UserError if there is none."""
    if not path.exists():
        raise UserError(f"{path} is missing: name a file or a folder with recordings")
    paths = sorted(path.rglob("*")) if path.is_dir() else [path]
    files = [file for file in paths if file.is_file() and not _is_hidden(file.relative_to(path))]
    if not files:
        raise UserError(f"{path} holds no files: name a folder with recordings")
    return files


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


def _rows(source: Source, channels: Sequence[str]) -> list[Source]:
    """The rows of a table, each as a table of its own; another file as it is."""
    stem, _, suffix = source.name.rpartition(".")
    tables = _tables(source.read(), channels) if suffix.lower() in TABLES else []
    if not tables:
        return [source]
    several = len(tables) > 1
    return [
        Source(f"{stem}, row {number}.{suffix}" if several else source.name, partial(bytes, table))
        for number, table in enumerate(tables, 1)
    ]


def _tables(content: bytes, channels: Sequence[str]) -> list[bytes]:
    """The rows of a table of numbers, or of one with all `channels` among its columns, below their names:
    other columns, which may be texts, are left out. None of any other table."""
    text = content.decode("utf-8-sig", errors="replace")
    lines = [line for line in text.splitlines() if line.strip()]
    if lines and NUMBERS.fullmatch(lines[0]):
        return [f"{line}\n".encode() for line in lines]
    for delimiter in ",;\t":
        try:
            rows = list(filter(None, csv.reader(io.StringIO(text), delimiter=delimiter)))
        except csv.Error:  # which the reader of recordings tells
            return []
        names = rows[0] if rows else []
        if set(channels) <= set(names) and all(len(row) == len(names) for row in rows):
            columns = [names.index(channel) for channel in channels]
            return [_written([channels, [row[k] for k in columns]], delimiter) for row in rows[1:]]
    return []


def _written(rows: Sequence[Sequence[str]], delimiter: str) -> bytes:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _signals(source: Source, by_name: Mapping[str, Source]) -> list[Source]:
    """The signal files that a WFDB header names and that are beside it; none for another file."""
    if not wfdb_records.is_header(File(source.name, b"")):
        return []
    lines = source.read().decode(errors="replace").splitlines()
    names = {words[0] for line in lines if (words := line.split()) and not line.startswith("#")}
    beside = [Path(source.name).with_name(Path(name).name) for name in sorted(names)]
    return [
        by_name.get(str(path)) or Source(str(path), path.read_bytes)
        for path in beside
        if str(path) != source.name and (str(path) in by_name or path.is_file())
    ]


def _row(model: Model, files: list[Source], headers: Mapping[str, str]) -> dict[str, Any]:
    """A row of the table: values, what is decided, warnings, or the error."""
    empty = dict.fromkeys(_columns(model), None)
    row: dict[str, Any] = {RECORDING: files[0].name, **empty, WARNINGS: "", ERROR: ""}
    try:
        answer = _answer(model, files, headers)
    except (Problem, OSError) as error:
        return row | {ERROR: str(error)}
    warnings = (f"{warning['grade']}: {warning['message']}" for warning in answer["warnings"])
    return row | _values(answer) | {WARNINGS: "; ".join(warnings)}


def _examined(model: Model, files: list[Source]) -> Examined:
    seen: list[Observed] = []
    try:
        answer = _answer(model, files, {}, lambda _, observed: seen.append(observed))
    except (Problem, OSError) as error:
        nothing = np.zeros(0, np.float32)
        return Examined(files[0].name, nothing, nothing, [], str(error))
    codes = [warning["code"] for warning in answer["warnings"]]
    return Examined(files[0].name, seen[0].scores, seen[0].embedding, codes)


def _answer(
    model: Model,
    files: list[Source],
    headers: Mapping[str, str],
    observe: Observe | None = None,
) -> dict[str, Any]:
    sent = Upload("", headers, [File(file.name, file.read()) for file in files])
    recording = uploads.read(sent, LIMITS)
    return answers.respond(
        model, recording, explain=False, with_recording=False, limits=LIMITS, observe=observe
    )


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
