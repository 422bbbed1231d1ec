"""Writing files so that a reader never sees half of one, and so that equal content is equal bytes.

DVC may hard-link its cache into the workspace: opening an output for update would write into the
cache. Everything here is therefore written beside its place and renamed into it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Collection, Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd

from beatline.common.errors import UserError

_PARTIAL = ".*.partial"  # what is being written, beside its place
TEXTS = ("record", "group", "alike", "split", "machine_id")  # columns that may look like numbers


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write a file or a folder to; rename it into place on success.

    On any error what was written is removed and `path` keeps what it held before.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # A killed run's is removed by the next.
    beside = path.with_name(_PARTIAL.replace("*", path.name))
    _remove(beside)
    try:
        yield beside
        if path.is_dir():
            shutil.rmtree(path)
        beside.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
    finally:
        _remove(beside)


def remove_half_written(folder: Path) -> list[Path]:
    """Remove what killed runs were writing below a folder; return the paths."""
    left = list(folder.rglob(_PARTIAL))
    for path in left:
        _remove(path)
    return left


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def rounded(value: Any, digits: int = 6) -> Any:
    """`value` with every float in it rounded to `digits` significant digits, NaN turned to None."""
    if isinstance(value, dict):
        return {str(key): rounded(item, digits) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(item, digits) for item in value]
    if isinstance(value, np.ndarray):
        return rounded(value.tolist(), digits)
    if isinstance(value, np.generic):
        return rounded(value.item(), digits)
    if isinstance(value, float):
        return float(f"{value:.{digits}g}") if np.isfinite(value) else None
    return value


def write_json(path: Path, content: Any, digits: int = 6) -> None:
    """Write `content` as JSON: keys in the order given, floats of `digits` significant digits."""
    with replacing(path) as beside:
        beside.write_text(json.dumps(rounded(content, digits), indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises UserError if it is missing or not JSON."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run `dvc repro` to make it") from None
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path} is not valid JSON ({error}): run `beatline repair {path}`"
        ) from None


def write_csv(path: Path, table: pd.DataFrame, digits: int = 6) -> None:
    """Write a table as CSV with a header line, no index, and floats of `digits` digits."""
    with replacing(path) as beside:
        table.to_csv(beside, index=False, float_format=f"%.{digits}g", lineterminator="\n")


def parse_csv(content: Path | IO[bytes], sections: str | None = None) -> pd.DataFrame:
    """A table that a stage wrote; the columns TEXTS, and that of `sections`, are texts, whatever they
    look like, and nothing but an empty cell is missing. Raises ValueError if it is none."""
    texts: dict[Hashable, type[str]] = dict.fromkeys(
        (*TEXTS, *([sections] if sections else [])), str
    )
    return pd.read_csv(content, dtype=texts, keep_default_na=False, na_values=[""])


def read_csv(
    path: Path, columns: Collection[str] = (), sections: str | None = None
) -> pd.DataFrame:
    """The table in a file that a stage wrote, as :func:`parse_csv` reads it.

    Raises UserError if it is missing, is no table, or has not all of `columns`.
    """
    try:
        table = parse_csv(path, sections)
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run `dvc repro` to make it") from None
    except ValueError as error:
        raise UserError(
            f"{path} is not a CSV table ({' '.join(str(error).split())}): run `beatline repair "
            f"{path}`"
        ) from None
    if missing := [name for name in columns if name not in table.columns]:
        raise UserError(f"{path} has no column {missing[0]}: run `beatline repair {path}`")
    return table


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, as hexadecimal text."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
