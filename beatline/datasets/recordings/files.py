"""The files of a data set of one's own: which row of its table is which file, and what is in them.

Files are read in several processes, each by what the first bytes say it is; this process gives them their
content and writes what they found, in order, so that memory does not grow with the number of files.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import PurePosixPath

import numpy as np
from tqdm import tqdm

from beatline.common import parallel
from beatline.common.errors import UserError, shown
from beatline.datasets.recordings import quality
from beatline.formats import recordings
from beatline.formats.leads import lead_name
from beatline.formats.recording import Recording
from beatline.formats.resampling import interpolated
from beatline.formats.units import power_of_ten, scaled
from beatline.sources.archives import Source

MOST = 100_000_000  # values of one recording, 400 MB
HEADER, SAMPLES = ".hea", (".mat", ".dat")  # of WFDB records
AGREES = 1e-3  # share by which two statements of a sampling rate may differ
VOLTAGE = "mV"


@dataclass(frozen=True)
class Asked:
    """A file to be read, with those that it names; `rate` (Hz) and `unit`: what its row says of it,
    where it does. `problem`: why there is nothing to read."""

    name: str
    contents: dict[str, bytes]
    rate: float | None = None
    unit: str = ""
    problem: str = ""

    @property
    def path(self) -> str:
        return self.name

    def __contains__(self, name: str) -> bool:
        return name in self.contents

    def read(self, name: str) -> memoryview:
        return memoryview(self.contents[name])


@dataclass(frozen=True)
class Found:
    """A file that was read: `npy`, its samples `[T, C]` as a float32 NPY file, in mV where they are
    voltages; `channels` and `units`, each None where nobody says; `flags` of
    :mod:`beatline.datasets.recordings.quality` with columns; `sum` of what it holds; `cautions` of its
    reader. `problem`: why it cannot be used, and then nothing else is
    set."""

    name: str
    problem: str = ""
    npy: bytes = b""
    kind: str = ""
    steps: int = 0
    rate: float | None = None
    channels: tuple[str, ...] = ()
    named: bool = False
    units: tuple[str, ...] | None = None
    range: float = 0.0
    flags: dict[str, list[int]] | None = None
    sum: str = ""
    cautions: tuple[str, ...] = ()


def candidates(source: Source, table: str) -> list[str]:
    """The files of a source that are recordings by their names; its `table` is none, nor are samples in
    a file of their own, of which a header beside them is the record."""
    return [
        name
        for name in source.names()
        if name != table
        and name.lower().endswith(recordings.EXTENSIONS)
        and not (name.endswith(SAMPLES) and source.exists(without_ending(name) + HEADER))
    ]


def matched(rows: Sequence[str], files: Sequence[str], folder: str) -> list[str | None]:
    """The file that each of the `rows` of a table names: by its path in the source or from the table's
    `folder`, with its ending or without, or by its name alone where one file is called so. The signal
    file of a WFDB record stands for its header. A path that is :func:`elsewhere` names the file that
    shares the most of its end with it; that is the file's whole path, or all such rows have the same
    folder in place of another one."""
    places: dict[str, list[str]] = {}
    ends: dict[str, list[str]] = {}
    for name in files:
        paths = name, without_ending(name)
        for key in dict.fromkeys((*paths, *(PurePosixPath(path).name for path in paths))):
            places.setdefault(key, []).append(name)
        for end in dict.fromkeys(end for path in paths for _, end in _parted(f"/{path}")):
            ends.setdefault(end, []).append(name)
    exact = set(files)

    def named(key: str, by: dict[str, list[str]]) -> list[str]:
        if key in exact and by is places:
            return [key]
        record = key[:-4] if key.lower().endswith(SAMPLES) else ""
        return by.get(key) or [name for name in by.get(record, []) if name.endswith(HEADER)]

    result: list[str | None] = []
    moved: dict[int, tuple[str, str]] = {}  # the folders that stand for each other, by rows
    for row in rows:
        path = row.strip().replace("\\", "/").removeprefix("./")
        found: list[str] = []
        if path and elsewhere(path):
            for start, end in _parted(path):
                if found := named(end, ends):
                    own = "/".join(found[0].split("/")[: -len(end.split("/"))])
                    moved |= {len(result): (start, own)} if len(found) == 1 else {}
                    break
        elif path:
            hits = (named(key, places) for key in (path, f"{folder}{path}"))
            found = next((hit for hit in hits if len(hit) == 1), [])
        result.append(found[0] if len(found) == 1 else None)
    if len(set(moved.values())) > 1:
        for number, (_, own) in moved.items():
            result[number] = result[number] if own in ("", folder[:-1]) else None
    return result


def elsewhere(row: str) -> bool:
    """Whether a row names its file by the way to it on some machine, not in the source."""
    return bool(re.match(r"~?[/\\]|[a-z]:", row.strip(), re.I))


def _parted(path: str) -> list[tuple[str, str]]:
    """The ways to part a path in a folder and the rest, the longest rest first."""
    parts = path.split("/")
    return [("/".join(parts[:n]), "/".join(parts[n:])) for n in range(1, len(parts))]


def without_ending(name: str) -> str:
    """A file's name without the ending by which it is a recording."""
    ending = next((e for e in recordings.EXTENSIONS if name.lower().endswith(e)), "")
    return name[: len(name) - len(ending)]


def record_names(files: Sequence[str]) -> dict[str, str]:
    """What later stages call each file: its path without ending, with it where two would be called
    alike."""
    bare = Counter(map(without_ending, files))
    return {name: n if bare[n := without_ending(name)] == 1 else name for name in files}


def read(
    source: Source,
    asked: Sequence[tuple[str, float | None, str]],
    channels: tuple[str, ...] = (),
) -> Iterator[Found]:
    """Read files (their names, and the sampling rate and unit of their rows) in the order in which they
    are in the source, in several processes. `channels`: of files that name none and have as many."""
    about = {name: (rate, unit) for name, rate, unit in asked}
    names = source.in_order(about)
    items = (_asked(source, name, *about[name]) for name in names)
    found = parallel.ordered(partial(read_one, channels=channels), items, total=len(names))
    yield from tqdm(found, "read", len(names), mininterval=10, unit=" files")


def _asked(source: Source, name: str, rate: float | None, unit: str) -> Asked:
    contents: dict[str, bytes] = {}
    try:
        for file in _with_named_files(source, [name], contents):
            contents[file] = source.read(file)
    except UserError as error:
        return Asked(name, {}, problem=str(error))
    return Asked(name, contents, rate, unit)


def _with_named_files(
    source: Source, waiting: list[str], contents: dict[str, bytes]
) -> Iterator[str]:
    """The file, and those that the header of a WFDB record names, with those that these name."""
    while waiting:
        name = waiting.pop()
        if name in contents or not source.exists(name):
            continue
        yield name
        if not name.lower().endswith(HEADER):
            continue
        folder = name[: name.rfind("/") + 1]
        lines = contents[name].decode("utf-8", "replace").splitlines()
        words = [line.split()[0] for line in lines if line.split() and line[0] != "#"]
        waiting += [folder + word + end for word in set(words) for end in ("", HEADER)]


def read_one(asked: Asked, channels: tuple[str, ...] = ()) -> Found:
    """Read one file; what is wrong with it becomes the `problem` of what was found. `channels`: of one
    that names none, and has as many."""
    if asked.problem:
        return Found(asked.name, asked.problem)
    try:
        return _found(asked, recordings.read(asked, asked.name, MOST), channels)
    except UserError as error:
        return Found(asked.name, f"{asked.name}: {error}")


def _found(asked: Asked, recording: Recording, usual: tuple[str, ...]) -> Found:
    samples, rate = recording.samples, recording.sampling_rate
    channels = recording.channels and _unrepeated(recording.channels)
    if channels is None and samples.shape[1] != len(usual) == len(samples):
        samples = samples.T  # an array `[C, T]`
    if channels is None and samples.shape[1] == len(usual):
        channels = list(usual)
    if rate and asked.rate and abs(rate - asked.rate) > AGREES * rate:
        raise UserError(
            f"the file says {rate:g} Hz and its row of the table {asked.rate:g} Hz: correct one of them"
        )
    rate = rate or asked.rate
    units = recording.units and [unit.strip() for unit in recording.units]
    if units and not any(units):
        units = None
    if units and asked.unit and {power_of_ten(unit, asked.unit) for unit in units} != {0}:
        raise UserError(
            f"the file says its unit is {shown(units[0], 20)} and its row of the table {asked.unit}: "
            f"correct one of them"
        )
    units = units or ([asked.unit] * samples.shape[1] if asked.unit else None)
    if not samples.size or np.isnan(samples).all():
        raise UserError("it holds no valid sample: use another file, or take its row out")
    samples, units = in_millivolts(samples, units)
    samples = samples.astype(np.float32)
    samples[~np.isfinite(samples)] = np.nan
    names = channels or [f"channel {number + 1}" for number in range(samples.shape[1])]
    content = io.BytesIO()
    np.save(content, np.ascontiguousarray(samples), allow_pickle=False)
    told = json.dumps([names, rate, units])
    return Found(
        asked.name,
        npy=content.getvalue(),
        kind=recordings.kind(asked.name, asked.contents[asked.name][: recordings.HEAD]) or "",
        steps=len(samples),
        rate=rate,
        channels=tuple(names),
        named=recording.channels is not None,
        units=tuple(units) if units else None,
        range=float(np.median(np.ptp(interpolated(samples)[0], axis=0))),
        flags=quality.measured(samples, channels, rate),
        cautions=tuple(n.message for n in recording.warnings if n.grade == "caution"),
        sum=hashlib.sha256(told.encode() + content.getvalue()).hexdigest(),
    )


def _unrepeated(channels: list[str]) -> list[str]:
    """The names of channels, with a number where one recurs. Raises UserError for an ECG lead that does:
    nobody knows which is right."""
    named = Counter(lead_name(name) for name in channels)
    if twice := next((lead for lead, times in named.items() if lead and times > 1), None):
        raise UserError(f"it has several channels that are lead {twice}: keep one of them")
    result: list[str] = []
    for name in channels:
        others = (f"{name} {number}" for number in count(2))
        free = (other for other in others if other not in {*result, *channels})
        result.append(next(free) if name in result else name)
    return result


def in_millivolts(
    samples: np.ndarray, units: list[str] | None
) -> tuple[np.ndarray, list[str] | None]:
    """The samples `[T, C]` with channels that hold voltages in mV, and their units."""
    powers = [power_of_ten(unit, VOLTAGE) for unit in units or []]
    if units is None or all(power is None for power in powers):
        return samples, units
    named = [unit if p is None else VOLTAGE for unit, p in zip(units, powers, strict=True)]
    shifts = [power or 0 for power in powers]
    return (scaled(samples, shifts) if any(shifts) else samples), named
