"""SHA-256 sums of what a stage has written, compared by whoever reads it.

A folder has them in SHA256SUMS, a line for every file below it; a table that is an output by itself has
its own beside it, in `<name>.sha256`. Both are as coreutils write and check them (`sha256sum --check`).
The last line, to coreutils a comment, is the sum of the lines above: a damaged list is known as such,
and a lost line makes no file a foreign one. A JSON file that is an output by itself ends with the sum of
the bytes before it, as its last key.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from beatline.common.errors import UserError
from beatline.common.files import replacing, sha256, write_json

SUMS, ENDING = "SHA256SUMS", ".sha256"
KEY = "sha256"  # of a JSON file, its last


def seal(path: Path) -> None:
    """Write the sums of a file, or of all files below a folder, that is complete."""
    names = _below(path) if path.is_dir() else {path.name}
    root = path if path.is_dir() else path.parent
    lines = "".join(f"{sha256(root / name)}  {name}\n" for name in sorted(names)).encode()
    with replacing(root / SUMS if path.is_dir() else _beside(path)) as beside:
        beside.write_bytes(lines + _last_line(lines))


def verified(path: Path) -> Path:
    """Return the path of a file in a folder that was sealed, having compared its bytes with their sum.

    Raises UserError if they differ, or if the folder has not exactly the files that it was sealed with.
    """
    return _compared(path, listed(path.parent, path), SUMS)


def verified_alone(path: Path) -> Path:
    """Return the path of a file that was sealed by itself, having compared its bytes with their sum."""
    beside = _beside(path)
    return _compared(path, _read(beside, path, path), beside.name)


def write_sealed_json(path: Path, content: dict[str, Any], digits: int = 6) -> None:
    """Write an object as :func:`beatline.common.files.write_json` does, with a sum of its own."""
    with replacing(path) as beside:
        write_json(beside, content, digits)
        above = beside.read_bytes().removesuffix(_END)
        beside.write_bytes(above + _last_key(above))


def read_sealed_json(path: Path) -> dict[str, Any]:
    """Return what :func:`write_sealed_json` wrote, without the sum. Raises UserError if the file is
    missing or damaged."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run `dvc repro` to make it") from None
    above = content[: -len(_last_key(b""))]
    if content != above + _last_key(above):
        raise UserError(
            f"{path} is damaged (it does not end with the SHA-256 of what stands before): "
            f"{_repair(path)}, or `dvc repro` if an older version wrote it"
        )
    return json.loads(above + _END)


def listed(folder: Path, wanted: Path | None = None) -> dict[str, str]:
    """Return the sums by name of the files below a folder that was sealed, without comparing their bytes.

    Raises UserError if a file is lost, if one is there that does not belong there, or if there are no
    sums: then `wanted`, the file to be read, may be what is missing.
    """
    sums, names = _read(folder / SUMS, folder, wanted or folder), _below(folder)
    if lost := sorted(sums.keys() - names):
        raise UserError(f"{folder / lost[0]} is missing: {_repair(folder / lost[0])}")
    if foreign := sorted(names - sums.keys()):
        raise UserError(
            f"{folder / foreign[0]} is no file of what a stage has written ({SUMS} in {folder} does not "
            f"list it): move it elsewhere"
        )
    return sums


def check(folder: Path) -> dict[str, str]:
    """Return what :func:`listed` does, having compared the bytes of every file with their sum."""
    sums = listed(folder)
    for name in sums:
        _compared(folder / name, {Path(name).name: sums[name]}, SUMS)
    return sums


def _compared(path: Path, sums: dict[str, str], place: str) -> Path:
    if path.name not in sums or not path.is_file():
        raise UserError(f"{path} is missing: run `dvc repro` to make it")
    if sha256(path) != sums[path.name]:
        raise UserError(f"{path} is damaged (its SHA-256 is not that in {place}): {_repair(path)}")
    return path


def _read(manifest: Path, sealed: Path, wanted: Path) -> dict[str, str]:
    """Return the sums by name in a file of sums. Whatever its own sum lets pass is as it was written."""
    try:
        content = manifest.read_bytes()
    except FileNotFoundError:
        if not wanted.exists():
            raise UserError(f"{wanted} is missing: run `dvc repro` to make it") from None
        raise UserError(
            f"{sealed} has no {manifest.name}, so that nobody can tell whether it is damaged: "
            f"{_repair(sealed)}, or `dvc repro` if an older version wrote it"
        ) from None
    lines = content[: -len(_last_line(b""))]
    if content != lines + _last_line(lines):
        raise UserError(f"{manifest} is damaged: {_repair(manifest)}")
    pairs = (line.split("  ", 1) for line in lines.decode().split("\n") if line)
    return {name: digest for digest, name in pairs}


def _below(folder: Path) -> set[str]:
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return files - {SUMS}


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ENDING)


def _last_line(lines: bytes) -> bytes:
    return f"# {hashlib.sha256(lines).hexdigest()}  the lines above\n".encode()


_END = b"\n}\n"  # of an object as it is written


def _last_key(above: bytes) -> bytes:
    return f',\n  "{KEY}": "{hashlib.sha256(above).hexdigest()}"'.encode() + _END


def _repair(path: Path) -> str:
    return f"run `beatline repair {path}`"
