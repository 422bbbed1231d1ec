"""Labels from the path of an audio file: training or test, normal or anomaly, and which machine.

A file is for training if one of its folders is called `normal` or `train`, for test if one is called
`test` (in any case of letters; of several such folders the first counts). Whether a test file is an
anomaly is said by its name, which holds `anomaly`, `anomalous`, `abnormal` or `normal`, and if it
holds none, by the folders below `test/`. This covers a plain folder, and DCASE's Task 2 with its
`train/normal_id_00_00000012.wav`, `test/anomaly_id_02_00000000.wav` (Koizumi et al. 2020).

A source that has folders called `abnormal` and no `test/` is laid out as MIMII is, such as
`fan/id_00/abnormal/00000000.wav`. It is divided as by its baseline (Purohit et al. 2019): of each
machine the first normal recordings, as many as there are abnormal ones, are for test, the rest for
training.

The machine ID is what the other folders are called, above and below, joined by `_`, followed by
`id_<number>` or `section_<number>` if that is in the file name. Folders that all files share do not
count unless they are called so themselves. With nothing left the ID is `machine`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Literal

from beatline.common.errors import UserError
from beatline.formats.audio import EXTENSIONS

MACHINE = "machine"  # the ID where the paths name none
_TRAIN, _TEST, _ABNORMAL = {"normal", "train"}, {"test"}, {"abnormal", "anomaly"}
_ANOMALY_WORD = re.compile(r"abnormal|anomal(?:y|ies|ous)", re.IGNORECASE)
_NORMAL_WORD = re.compile(r"normal", re.IGNORECASE)
_ID = re.compile(r"(?<![A-Za-z0-9])((?:id|section)_\d+)(?![A-Za-z0-9])", re.IGNORECASE)


@dataclass(frozen=True)
class Placed:
    """An audio file of the source and what its path says of it."""

    name: str
    fold: Literal["train", "test"]
    machine_id: str
    anomaly: int


def is_audio(name: str) -> bool:
    """Whether `name` is that of an audio file, and not of one that macOS or an editor hides."""
    path = PurePosixPath(name)
    hidden = path.name.startswith(".") or "__MACOSX" in path.parts
    return path.suffix.lower() in EXTENSIONS and not hidden


def place(names: Sequence[str], where: str, *, whole: bool = True) -> list[Placed]:
    """The audio files `names` of the source called `where` that are for training or test, sorted.

    Raises UserError, naming the file, if a test file says neither or both, if one for training says
    that it is an anomaly, and, of a `whole` source, if there is nothing to train on or no test with both
    kinds. What is not whole joins others: there a folder that all files share names a machine too.
    """
    paths = sorted(PurePosixPath(name) for name in names)
    roles = {role for path in paths for role in _folders(path)}
    mimii = bool(roles & _ABNORMAL) and not roles & _TEST
    shared = _shared_folders(paths) if whole else set()
    files = []
    for path in paths:
        labels = _mimii_file(path) if mimii else _file(path, where)
        if labels:
            fold, anomaly = labels
            files.append(Placed(str(path), fold, _machine_id(path, shared), anomaly))
    if mimii:
        files = _divided_as_mimii(files, where)
    if whole:
        _check_complete(files, where)
    return files


def _folders(path: PurePosixPath) -> list[str]:
    return [part.lower() for part in path.parts[:-1]]


def _file(path: PurePosixPath, where: str) -> tuple[Literal["train", "test"], int] | None:
    """Fold and anomaly; None for a file that is neither below `normal/` or `train/` nor `test/`."""
    folders = _folders(path)
    first = next((part for part in folders if part in _TRAIN | _TEST), None)
    if first is None:
        return None
    if first in _TRAIN:
        if _ANOMALY_WORD.search(path.name):
            raise UserError(
                f"{where}: {path} is among the recordings for training, which are all normal, but "
                f"its name says anomaly: move it to test/"
            )
        return "train", 0
    below = "/".join(folders[folders.index(first) + 1 :])
    words = _words(path.name) or _words(below)
    if len(words) != 1:
        raise UserError(
            f"{where}: the name of {path} says {'both' if words else 'neither'} normal "
            f"{'and' if words else 'nor'} anomaly: rename the file so that it says one of the two"
        )
    return "test", int("anomaly" in words)


def _words(name: str) -> set[str]:
    """Which of `normal` and `anomaly` are in the name; an `abnormal` is no `normal`."""
    rest = _ANOMALY_WORD.sub("/", name)
    labels = {"anomaly"} if rest != name else set()
    return labels | ({"normal"} if _NORMAL_WORD.search(rest) else set())


def _mimii_file(path: PurePosixPath) -> tuple[Literal["train", "test"], int] | None:
    folders = set(_folders(path))
    if folders & _ABNORMAL:
        return "test", 1
    return ("train", 0) if folders & _TRAIN else None


def _divided_as_mimii(files: list[Placed], where: str) -> list[Placed]:
    """The first normal recordings of a machine, as many as its abnormal ones, put to the test."""
    left: dict[str, int] = {}
    for file in files:
        left[file.machine_id] = left.get(file.machine_id, 0) + file.anomaly
    divided = []
    for file in files:
        if not file.anomaly and left[file.machine_id] > 0:
            left[file.machine_id] -= 1
            file = replace(file, fold="test")
        divided.append(file)
    for machine_id in sorted(left):
        if not any(other.machine_id == machine_id and other.fold == "train" for other in divided):
            raise UserError(
                f"{where}: {machine_id} has no more normal than abnormal recordings, so none is "
                f"left for training: add normal ones, or lay the files out in normal/ and test/"
            )
    return divided


def _shared_folders(paths: list[PurePosixPath]) -> set[tuple[int, str]]:
    """Place and name of the outer folders in which all the files are."""
    shared = set()
    for depth, parts in enumerate(zip(*(path.parts[:-1] for path in paths), strict=False)):
        if len(set(parts)) > 1:
            break
        shared.add((depth, parts[0]))
    return shared


def _machine_id(path: PurePosixPath, shared: set[tuple[int, str]]) -> str:
    parts = [
        part
        for depth, part in enumerate(path.parts[:-1])
        if part.lower() not in _TRAIN | _TEST | _ABNORMAL
        and ((depth, part) not in shared or _ID.fullmatch(part))
    ]
    in_name = _ID.search(path.stem)
    if in_name and in_name[1] not in parts:
        parts.append(in_name[1])
    return "_".join(parts) or MACHINE


def _check_complete(files: list[Placed], where: str) -> None:
    kinds = {(file.fold, file.anomaly) for file in files}
    for kind, kind_name in (
        (("train", 0), "recordings for training: put normal ones into normal/"),
        (("test", 0), "normal recordings for test: put some into test/ with `normal` in the name"),
        (("test", 1), "anomalies for test: put some into test/ with `anomaly` in the name"),
    ):
        if kind not in kinds:
            raise UserError(
                f"{where} holds no {kind_name} (as {', '.join(EXTENSIONS)}), or correct `source:` in "
                f"params.yaml"
            )
