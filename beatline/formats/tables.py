"""CSV and Parquet tables: columns of numbers and of texts, and every damage named with its line."""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet

from beatline.common.errors import UserError

EXTENSIONS = (".csv", ".tsv", ".parquet")
MISSING = ("", "NA", "N/A", "#N/A", "<NA>", "NaN", "nan", "null", "NULL")  # in any column
NO_NUMBER = (*MISSING, "None", "?")  # in a column of numbers
TRUTH = {"true": 1.0, "false": 0.0}
MAGIC = b"PAR1"  # at both ends of a Parquet file

Content = bytes | memoryview
# Its functions are made at run time, out of sight of type checkers.
compute: Any = pyarrow.compute


@dataclass(frozen=True)
class Table:
    """`numbers` `[N, F]` float64, NaN where a value is missing. `texts`: N texts per column, empty
    where one is missing; whole numbers are written alike (1.0 is "1"). `place(row)`: where a row
    (counted from 0) stands in the file, such as "line 12"."""

    numbers: np.ndarray
    texts: dict[str, pd.Series]
    place: Callable[[int], str]


def names(content: Content, where: str) -> list[str]:
    """The names of the columns. `where`: the file, for errors.

    Raises UserError if it is neither CSV nor Parquet, has no rows, or a column has no name or that of
    another.
    """
    if _is_parquet(content):
        columns = [name for name in _parquet(content, where).schema_arrow.names if name]
        # What pandas adds to remember its row numbers.
        columns = [name for name in columns if not re.fullmatch(r"__index_level_\d+__", name)]
    else:
        if where.lower().endswith(".parquet"):
            raise UserError(f"{where} is no Parquet file: correct `source:` in params.yaml")
        columns = _header(content, where).names
        _check_quotes(content, where)
    if twice := [name for name, times in Counter(columns).items() if times > 1]:
        raise UserError(f"{where} has several columns {twice[0]}: rename all but one")
    return columns


def read(content: Content, where: str, numbers: Sequence[str], texts: Sequence[str]) -> Table:
    """The columns `numbers` and `texts`, which are among its :func:`names`.

    In CSV, commas, semicolons or tabs separate. Numbers may also be true and false, for 1 and 0.
    Raises UserError if there are no rows, a row is incomplete, or a value of a column of `numbers` is
    none or infinite.
    """
    selected = list(dict.fromkeys([*numbers, *texts]))
    if _is_parquet(content):
        columns, place = _read_parquet(content, where, selected), _row
    else:
        columns = _read_csv(content, where, selected, numbers)

        def place(row: int) -> str:
            return f"line {_line(content, where, row)}"

    if not columns.num_rows:
        raise UserError(f"{where} has no rows: correct `source:` in params.yaml")
    values = np.empty((len(numbers), columns.num_rows)).T  # a column lies together
    for number, name in enumerate(numbers):
        values[:, number] = _numbers(columns.column(name), name, where, place)
        if len(infinite := np.flatnonzero(np.isinf(values[:, number]))):
            raise UserError(
                f"{where}, {place(int(infinite[0]))}: column {name} is infinite: correct the value, "
                f"or leave it empty if it is not known"
            )
    return Table(values, {name: _texts(columns.column(name), name, where) for name in texts}, place)


def text(value: str | float | bool) -> str:
    """A label or name as text: 1, 1.0, "1.0" and "1" are "1"; other texts stay as they are."""
    if isinstance(value, float):
        value = repr(value)
    value = str(value).strip()
    if re.fullmatch(r"[-+]?\d+\.\d*([eE][-+]?\d+)?", value) and float(value).is_integer():
        return str(int(float(value)))
    return "" if value in MISSING else value


def _is_parquet(content: Content) -> bool:
    return bytes(content[: len(MAGIC)]) == MAGIC


def _row(row: int) -> str:
    return f"row {row + 1}"


# ---------------------------------------------------------------- Parquet


def _parquet(content: Content, where: str) -> pyarrow.parquet.ParquetFile:
    try:
        return pyarrow.parquet.ParquetFile(pa.py_buffer(content))
    except (pa.ArrowException, OSError) as error:
        raise _damaged(where, error) from None


def _read_parquet(content: Content, where: str, selected: list[str]) -> pa.Table:
    try:
        return _parquet(content, where).read(columns=selected)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(where, error) from None


def _damaged(where: str, error: Exception) -> UserError:
    reason = str(error).strip().splitlines()[0].rstrip(".")
    return UserError(f"{where} is no Parquet file, or is damaged ({reason}): get it again")


# ---------------------------------------------------------------- CSV


@dataclass(frozen=True)
class _Header:
    names: list[str]
    delimiter: str
    lines: int  # of the file, down to the end of the names


def _header(content: Content, where: str) -> _Header:
    """The first line that is not empty."""
    if b"\0" in bytes(content[:4096]):
        raise UserError(f"{where} is no CSV file (it holds binary data): correct `source:`")
    if not (line := _first_line(content, where)):
        raise UserError(f"{where} is empty: correct `source:` in params.yaml")
    delimiter = max(",;\t", key=line.count)
    reader = csv.reader(_lines(content, where), delimiter=delimiter)
    columns = [name.strip() for name in next(row for row in reader if row)]
    if "" in columns:
        raise UserError(
            f"{where}: column {columns.index('') + 1} has no name: name it, or remove it if it only "
            f"numbers the rows"
        )
    if all(_is_number(name) for name in columns):
        raise UserError(f"{where} begins with numbers: add a first line with the columns' names")
    return _Header(columns, delimiter, reader.line_num)


def _first_line(content: Content, where: str) -> str:
    return next((line for line in _lines(content, where) if line.strip()), "")


def _lines(content: Content, where: str) -> Iterator[str]:
    """The lines of a text file. Raises UserError, naming the line, if one is not UTF-8."""
    number = 0
    try:
        for number, line in enumerate(  # noqa: B007 - it is used when the next line fails
            io.TextIOWrapper(pa.BufferReader(pa.py_buffer(content)), "utf-8-sig", newline=""), 1
        ):
            yield line
    except UnicodeDecodeError:
        raise UserError(
            f"{where} is not UTF-8 text from about line {number + 1} on: save it as UTF-8"
        ) from None


def _read_csv(
    content: Content, where: str, selected: list[str], numbers: Sequence[str]
) -> pa.Table:
    """Columns of numbers as such where they are, otherwise as texts."""
    header = _header(content, where)
    as_texts = dict.fromkeys(selected, pa.string())
    try:
        return _parsed(content, header, as_texts | dict.fromkeys(numbers, pa.float64()))
    except pa.ArrowInvalid:  # slower, to say which value is wrong, or to read true and false
        try:
            return _parsed(content, header, as_texts)
        except pa.ArrowInvalid as error:
            _find_damage(content, where, header)
            raise UserError(f"{where} is no CSV table ({error}): correct it") from None


def _parsed(content: Content, header: _Header, types: dict[str, pa.DataType]) -> pa.Table:
    return pyarrow.csv.read_csv(
        pa.BufferReader(pa.py_buffer(content)),
        pyarrow.csv.ReadOptions(skip_rows=header.lines, column_names=header.names),
        pyarrow.csv.ParseOptions(
            delimiter=header.delimiter, newlines_in_values=bool(re.search(b'"', content))
        ),
        pyarrow.csv.ConvertOptions(
            column_types=types,
            include_columns=list(types),
            null_values=list(NO_NUMBER),
            strings_can_be_null=False,
        ),
    )


def _rows(content: Content, where: str, header: _Header) -> Iterator[tuple[int, list[str]]]:
    """The rows below the names, each with the line on which it ends; empty lines are left out."""
    reader = csv.reader(_lines(content, where), delimiter=header.delimiter)
    try:
        for row in reader:
            if row and reader.line_num > header.lines:
                yield reader.line_num, row
    except csv.Error as error:
        raise UserError(f"{where}, line {reader.line_num}: {error}: correct it") from None


def _find_damage(content: Content, where: str, header: _Header) -> None:
    """Raise UserError for the first row that has not as many values as there are names."""
    for line, row in _rows(content, where, header):
        if len(row) != len(header.names):
            raise UserError(
                f"{where}, line {line} has {len(row)} values, but there are {len(header.names)} "
                f"columns: complete it, or put texts that hold the separator in double quotes"
            )


def _check_quotes(content: Content, where: str) -> None:
    """Raise UserError for a double quote that is never closed: it would swallow all rows below it."""
    if bytes(content).count(b'"') % 2 == 0:
        return
    before, last, swallowed = 0, 0, False
    for line, row in _rows(content, where, _header(content, where)):
        before, last = last, line
        swallowed = any("\n" in value for value in row)
    if swallowed:
        raise UserError(
            f"{where}, line {before + 1} has a double quote that is not closed: close or remove it"
        )


def _line(content: Content, where: str, number: int) -> int:
    rows = _rows(content, where, _header(content, where))
    return next(line for row, (line, _) in enumerate(rows) if row == number)


# ---------------------------------------------------------------- columns


def _numbers(
    column: pa.ChunkedArray, name: str, where: str, place: Callable[[int], str]
) -> np.ndarray:
    """A column as float64 `[N]`. Raises UserError for the first value that is no number."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        column = _numbers_of_texts(column, name, where, place)
    elif pa.types.is_boolean(kind):
        column = column.cast(pa.uint8())
    elif not any(
        is_kind(kind)
        for is_kind in (
            pa.types.is_integer,
            pa.types.is_floating,
            pa.types.is_decimal,
            pa.types.is_null,
        )
    ):
        raise UserError(
            f"{where}: column {name} holds {kind} and no numbers: add it to `ignore`, or leave it "
            f"out of `features`, in params.yaml"
        )
    return column.cast(pa.float64(), safe=False).to_numpy()


def _numbers_of_texts(
    column: pa.ChunkedArray, name: str, where: str, place: Callable[[int], str]
) -> pa.ChunkedArray:
    trimmed = compute.utf8_trim_whitespace(column)
    trimmed = compute.if_else(compute.is_in(trimmed, value_set=pa.array(NO_NUMBER)), None, trimmed)
    try:
        return trimmed.cast(pa.float64())
    except pa.ArrowInvalid:  # slower, with other ways to write a number
        values = [_number(value) for value in trimmed.to_pylist()]
    if None in values:
        row = values.index(None)
        raise UserError(
            f"{where}, {place(row)}: column {name} holds {trimmed[row].as_py()!r}, which is no number: "
            f"correct the value, or add {name} to `ignore` in params.yaml"
        )
    return pa.chunked_array([values])


def _number(value: str | None) -> float | None:
    """NaN for a missing value, None for what is no number."""
    if value is None:
        return math.nan
    if value.lower() in TRUTH:
        return TRUTH[value.lower()]
    return float(value) if _is_number(value) else None


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return "_" not in value  # which Python reads and no table means


def _texts(column: pa.ChunkedArray, name: str, where: str) -> pd.Series:
    """A column as texts `[N]`, each different one turned into :func:`text` once."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_nested(column.type):
        raise UserError(f"{where}: column {name} holds {column.type}: use a column of plain values")
    if pa.types.is_null(column.type):
        return pd.Series([""] * len(column), dtype=object)
    series = pd.Series(column.to_pylist(), dtype=object)
    codes, values = pd.factorize(series)
    # Missing values have the code -1, which is the last of these texts.
    return pd.Series(np.array([*(text(value) for value in values), ""], dtype=object)[codes])
