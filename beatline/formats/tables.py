"""CSV and Parquet tables: columns of numbers and of texts, and every damage named with its line."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet

from beatline.common.errors import UserError
from beatline.formats.cells import MISSING, grouped, number

EXTENSIONS = (".csv", ".tsv", ".parquet")
TRUTH = {"true": 1.0, "false": 0.0}
SEPARATORS = ",;\t"
DIGITS = 22  # of a whole number that is written out, at most
MAGIC = b"PAR1"  # at both ends of a Parquet file

Content = bytes | memoryview
# Its functions are made at run time, out of sight of type checkers.
compute: Any = pyarrow.compute
_MISSING = pa.array(sorted(MISSING))
_EXACT = {16: 2**11, 32: 2**24, 64: 2**53}  # by the bits of a float: whole numbers up to it
_LOOKED_AT = 100  # rows, to find the separator


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

    In CSV, commas, semicolons or tabs separate; beside the last two a decimal comma is understood.
    Numbers may also be true and false, for 1 and 0. Raises UserError if there are no rows, a row is
    incomplete, a value of a column of `numbers` is none or infinite, or a comma in one could be that of
    thousands.
    """
    selected = list(dict.fromkeys([*numbers, *texts]))
    place, decimal = _row, "."
    if _is_parquet(content):
        columns = _read_parquet(content, where, selected)
    else:
        columns = _read_csv(content, where, selected, numbers)

        def place(row: int) -> str:
            return f"line {_line(content, where, row)}"

        decimal = _decimal(columns, numbers, where, place)

    if not columns.num_rows:
        raise UserError(f"{where} has no rows: correct `source:` in params.yaml")
    values = np.empty((len(numbers), columns.num_rows)).T  # a column lies together
    for position, name in enumerate(numbers):
        values[:, position] = _numbers(columns.column(name), name, where, place, decimal)
        if len(infinite := np.flatnonzero(np.isinf(values[:, position]))):
            raise UserError(
                f"{where}, {place(int(infinite[0]))}: column {name} is infinite: correct the value, "
                f"or leave it empty if it is not known"
            )
    named = {name: _texts(columns.column(name), name, where, decimal) for name in texts}
    return Table(values, named, place)


def text(value: str | float | bool) -> str:
    """A label or name as text: 1, 1.0, "1.0" and "1" are "1"; other texts stay as they are."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 10**DIGITS:
        value = int(value)
    value = str(value).strip()
    if re.fullmatch(r"[-+]?\d+\.\d*([eE][-+]?\d{1,3})?", value, re.ASCII):
        exact = Decimal(value)  # beyond 2**53 a float is another number
        if exact.adjusted() < DIGITS and exact == exact.to_integral_value():
            return str(int(exact))
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
        return _parquet(content, where).read(columns=selected, use_threads=False)
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
    start = bytes(content[:4096])
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UserError(f"{where} is UTF-16 and not UTF-8 text: save it as UTF-8")
    if b"\0" in start:
        raise UserError(f"{where} is no CSV file (it holds binary data): correct `source:`")
    delimiter = _delimiter(content, where)
    rows = (
        (line, row) for line, row in _rows(content, where, delimiter) if any(map(str.strip, row))
    )
    if (first := next(rows, None)) is None:
        raise UserError(f"{where} is empty: correct `source:` in params.yaml")
    columns = [name.strip() for name in first[1]]
    if "" in columns:
        raise UserError(
            f"{where}: column {columns.index('') + 1} has no name: name it, or remove it if it only "
            f"numbers the rows or is but a separator at the end of each line"
        )
    if all(number(name) is not None for name in columns):
        raise UserError(f"{where} begins with numbers: add a first line with the columns' names")
    return _Header(columns, delimiter, first[0])


def _delimiter(content: Content, where: str) -> str:
    """The separator by which the first lines have as many cells each, or else the first has most.

    Raises UserError if that is true of two.
    """
    widths: dict[str, list[int]] = {}
    for separator in SEPARATORS:
        try:
            rows = [row for _, row in islice(_rows(content, where, separator), _LOOKED_AT)]
        except UserError:  # by another separator a quote may not be one
            continue
        widths[separator] = [len(row) for row in rows if any(map(str.strip, row))]
    fits = [separator for separator, cells in widths.items() if len(set(cells)) == 1 < cells[0]]
    if len(fits) > 1 and len(widths[fits[0]]) > 1:
        shown = " and by ".join(map(repr, fits))
        raise UserError(
            f"{where} can be read by the separators {shown}: put texts that hold one of them, or "
            f"numbers with a decimal comma, in double quotes"
        )
    return max(fits or SEPARATORS, key=lambda separator: (widths.get(separator) or [0])[0])


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
    except pa.ArrowInvalid:  # slower, to say which value is wrong, or to read other numbers
        try:
            return _parsed(content, header, as_texts)
        except pa.ArrowInvalid as error:
            _find_damage(content, where, header)
            raise UserError(f"{where} is no CSV table ({error}): correct it") from None


def _decimal(
    columns: pa.Table, numbers: Sequence[str], where: str, place: Callable[[int], str]
) -> str:
    """The decimal sign of all numbers: a comma if one has it and none has a point."""
    commas: list[tuple[str, int]] = []
    for name in dict.fromkeys(numbers):
        if (column := columns.column(name)).type != pa.string():
            continue
        cells = compute.utf8_trim_whitespace(column)
        cells = compute.if_else(compute.is_in(cells, value_set=_MISSING), "", cells)
        if compute.any(compute.match_substring(cells, ".")).as_py():
            return "."
        commas += [(cell, row) for row, cell in enumerate(cells.to_pylist()) if "," in cell]
    if cell := grouped(cell for cell, _ in commas):
        raise UserError(
            f"{where}, {place(commas[0][1])}: {cell} may be {cell.replace(',', '')} or, with a decimal "
            f"comma, {cell.replace(',', '.', 1)}: write numbers with a decimal point and no other sign"
        )
    return "," if commas else "."


def _parsed(content: Content, header: _Header, types: dict[str, pa.DataType]) -> pa.Table:
    return pyarrow.csv.read_csv(
        pa.BufferReader(pa.py_buffer(content)),
        # By one thread: threads that end with the process have been seen to abort it.
        pyarrow.csv.ReadOptions(
            use_threads=False, skip_rows=header.lines, column_names=header.names
        ),
        pyarrow.csv.ParseOptions(
            delimiter=header.delimiter, newlines_in_values=bool(re.search(b'"', content))
        ),
        pyarrow.csv.ConvertOptions(
            column_types=types,
            include_columns=list(types),
            null_values=_MISSING.to_pylist(),
            strings_can_be_null=False,
        ),
    )


def _rows(content: Content, where: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The rows, each with the line on which it ends; empty lines are left out."""
    reader = csv.reader(_lines(content, where), delimiter=delimiter)
    try:
        for row in reader:
            if row:
                yield reader.line_num, row
    except csv.Error as error:
        raise UserError(f"{where}, line {reader.line_num}: {error}: correct it") from None


def _below(content: Content, where: str, header: _Header) -> Iterator[tuple[int, list[str]]]:
    """The rows below the names."""
    rows = _rows(content, where, header.delimiter)
    return ((line, row) for line, row in rows if line > header.lines)


def _find_damage(content: Content, where: str, header: _Header) -> None:
    """Raise UserError for the first row that has not as many values as there are names."""
    for line, row in _below(content, where, header):
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
    for line, row in _below(content, where, _header(content, where)):
        before, last = last, line
        swallowed = any("\n" in value for value in row)
    if swallowed:
        raise UserError(
            f"{where}, line {before + 1} has a double quote that is not closed: close or remove it"
        )


def _line(content: Content, where: str, number: int) -> int:
    rows = _below(content, where, _header(content, where))
    return next(line for row, (line, _) in enumerate(rows) if row == number)


# ---------------------------------------------------------------- columns


def _decoded(column: pa.ChunkedArray, name: str, where: str) -> pa.ChunkedArray:
    """A column without a dictionary, its texts as strings: older writers store them as binary."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_string_view(kind):
        try:
            return column.cast(pa.string())
        except pa.ArrowInvalid:
            raise UserError(
                f"{where}: column {name} holds bytes that are no UTF-8 text: store it as text"
            ) from None
    return column


def _numbers(
    column: pa.ChunkedArray, name: str, where: str, place: Callable[[int], str], decimal: str
) -> np.ndarray:
    """A column as float64 `[N]`. Raises UserError for the first value that is no number."""
    column = _decoded(column, name, where)
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        column = _numbers_of_texts(column, name, where, place, decimal)
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
    column: pa.ChunkedArray, name: str, where: str, place: Callable[[int], str], decimal: str
) -> pa.ChunkedArray:
    trimmed = compute.utf8_trim_whitespace(column)
    trimmed = compute.if_else(compute.is_in(trimmed, value_set=_MISSING), None, trimmed)
    try:
        return trimmed.cast(pa.float64())
    except pa.ArrowInvalid:  # slower, with other ways to write a number
        values = [
            TRUTH[value.lower()] if value.lower() in TRUTH else number(value, decimal)
            for value in trimmed.fill_null("").to_pylist()
        ]
    if None in values:
        row = values.index(None)
        raise UserError(
            f"{where}, {place(row)}: column {name} holds {trimmed[row].as_py()!r}, which is no number: "
            f"correct the value, or add {name} to `ignore` in params.yaml"
        )
    return pa.chunked_array([values])


def _texts(column: pa.ChunkedArray, name: str, where: str, decimal: str) -> pd.Series:
    """A column as texts `[N]`, each different one turned into :func:`text` once."""
    column = _decoded(column, name, where)
    kind = column.type
    if pa.types.is_nested(kind):
        raise UserError(f"{where}: column {name} holds {kind}: use a column of plain values")
    if pa.types.is_null(kind):
        return pd.Series([""] * len(column), dtype=object)
    if pa.types.is_floating(kind):
        values = column.cast(pa.float64()).to_numpy()
        if (np.abs(values) > _EXACT[kind.bit_width]).any():
            raise UserError(
                f"{where}: column {name} holds names of more digits than {kind} can tell apart: "
                f"store it as whole numbers or as text"
            )
    codes, values = pd.factorize(pd.Series(column.to_pylist(), dtype=object))
    if decimal == ",":  # labels that are numbers are written like the others
        values = [re.sub(r"^([-+]?\d+),(\d+([eE][-+]?\d+)?)$", r"\1.\2", value) for value in values]
    # Missing values have the code -1, which is the last of these texts.
    return pd.Series(np.array([*(text(value) for value in values), ""], dtype=object)[codes])
