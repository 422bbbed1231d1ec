"""Answers of a model as arrays."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import orjson
import pandas as pd
from sqlalchemy import Row

from beatline.common.errors import UserError
from beatline.monitoring.rows import BOOL, FLOAT

ARRAYS = {"scores": FLOAT, "decisions": BOOL, "thresholds": FLOAT, "embedding": FLOAT}
NAN = float("nan")


@dataclass(frozen=True)
class Window:
    """N answers of a model, from the oldest to the newest.

    `moments` `[N]` datetime64 in UTC; `scores`, `decisions` `[N, K]`; `thresholds` `[N, K]` and
    `embeddings` `[N, D]`, NaN where there are none; `features`: a table of N rows, without columns if
    nothing was measured; `warnings`: the codes of each answer; `seconds` `[N]`.
    """

    dataset: str
    model: str
    ids: list[str]
    moments: np.ndarray
    weights: list[str]
    versions: list[str | None]
    scores: np.ndarray
    decisions: np.ndarray
    thresholds: np.ndarray
    embeddings: np.ndarray
    features: pd.DataFrame
    warnings: list[tuple[str, ...]]
    seconds: np.ndarray
    entities: list[str | None]

    def __len__(self) -> int:
        return len(self.ids)


def collected(dataset: str, model: str, newest_first: Iterable[Row[Any]]) -> Window:
    """Return the window of the rows of answers of a model, given from the newest to the oldest.

    Raises UserError if their outputs differ in number.
    """
    texts: dict[str, list[Any]] = {name: [] for name in ("id", "weights", "version", "entity")}
    numbers: dict[str, array[Any]] = {"moment": array("q"), "seconds": array("d")}
    arrays = {name: _Arrays(name, dtype) for name, dtype in ARRAYS.items()}
    warnings: list[tuple[str, ...]] = []
    features = _Table()
    shared: dict[Any, Any] = {}  # one object for the same text
    for row in newest_first:
        given = row._mapping
        for name, values in texts.items():
            values.append(shared.setdefault(given[name], given[name]))
        for name, values in numbers.items():
            values.append(given[name])
        for name, several in arrays.items():
            several.add(given[name])
        warnings.append(_codes(row.warnings))
        features.add(row.features)
    shaped = {name: several.array(f"{dataset}/{model}")[::-1] for name, several in arrays.items()}
    return Window(
        dataset=dataset,
        model=model,
        ids=texts["id"][::-1],
        moments=np.array(numbers["moment"], "datetime64[us]")[::-1],
        weights=texts["weights"][::-1],
        versions=texts["version"][::-1],
        scores=shaped["scores"],
        decisions=shaped["decisions"],
        thresholds=shaped["thresholds"],
        embeddings=shaped["embedding"],
        features=features.frame(),
        warnings=warnings[::-1],
        seconds=np.array(numbers["seconds"])[::-1],
        entities=texts["entity"][::-1],
    )


class _Arrays:
    """Arrays of one length as bytes one after the other: objects for each would take many times the
    memory."""

    def __init__(self, name: str, dtype: str) -> None:
        self._name, self._dtype = name, np.dtype(dtype)
        self._bytes = bytearray()
        self._present = bytearray()
        self._size = 0
        self._differ = False

    def add(self, content: bytes | None) -> None:
        self._present.append(content is not None)
        if content is not None:
            self._differ |= len(content) != (self._size or len(content))
            self._size = len(content)
            self._bytes += content

    def array(self, key: str) -> np.ndarray:
        """Return `[N, K]`, NaN where there was none."""
        if self._differ:
            raise UserError(
                f"{key}: the {self._name} of its answers differ in number, since they are of several "
                f"bundles: name the weights of one of them"
            )
        width = self._size // self._dtype.itemsize
        present = np.frombuffer(self._present, bool)
        given = np.frombuffer(self._bytes, self._dtype).reshape(sum(self._present), width)
        if present.all():
            return given
        result = np.full((len(present), width), NAN, self._dtype)
        result[present] = given
        return result


class _Table:
    """Rows of named numbers, which are not the same in all."""

    def __init__(self) -> None:
        self._rows = 0
        self._columns: dict[str, array[float]] = {}

    def add(self, content: str | None) -> None:
        for name, value in (orjson.loads(content) if content else {}).items():
            column = self._columns.setdefault(name, array("d"))
            column.extend([NAN] * (self._rows - len(column)))
            column.append(NAN if value is None else value)
        self._rows += 1

    def frame(self) -> pd.DataFrame:
        """Return a table of what was added, the last row first."""
        for column in self._columns.values():
            column.extend([NAN] * (self._rows - len(column)))
        columns = {name: np.frombuffer(column)[::-1] for name, column in self._columns.items()}
        return pd.DataFrame(columns, index=range(self._rows))


@lru_cache(1000)
def _codes(warnings: str) -> tuple[str, ...]:
    """Return the codes in a text; the same object for the same text, of which there are few."""
    return tuple(warnings.split())
