"""CSV: a line per time step, a column per channel, with or without a line of names."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace

import numpy as np
import pandas as pd

from beatline.common.errors import shown
from beatline.formats.cells import MISSING, grouped, number
from beatline.formats.recording import (
    BadRecording,
    Recording,
    UnfitRecording,
    check_size,
    decoding,
    note,
)
from beatline.formats.times import CLOCK, DAY, clock, without_times
from beatline.formats.units import power_of_ten

DELIMITERS = (";", "\t", ",")  # a comma may also be that of a decimal
_LOOKED_AT = 200  # characters of a name
_IN_A_UNIT = re.compile(r"(.*\S)\s*[(\[]\s*(\S{1,2})\s*[)\]]")
# What a line about the one who was recorded has, and one with the names of channels has not.
_OF_A_PERSON = re.compile(
    r"\d{1,4}[./-]\d{1,2}[./-]\d{2,4}|\b(patient|name|born|birth|dob|geb\w*)\b[^:=]{0,20}[:=]", re.I
)


def read(content: bytes, where: str, most: float) -> Recording:
    """The table, float64, NaN where a cell is empty or says so; names if its first line has them.

    The delimiter is a comma, semicolon or tab; besides the last two a decimal comma is understood. A
    column with times of day is in seconds, from 0 on. Raises BadRecording if lines differ in their number
    of cells, or a cell is no number; what it says then is not repeated where it may be about a person.
    """
    lines = _lines(content, where)
    delimiter = _delimiter(lines[0])
    columns = lines[0].count(delimiter) + 1
    check_size(content.count(delimiter.encode()) + len(lines), most, where)
    counted = _counted(lines, delimiter)
    numbered = _numbered(lines, delimiter)
    names = [""] * columns if counted or numbered else _names(lines[0], delimiter)
    first = 0 if names is None else 1
    if names is not None:
        _check_names(names, where)
    if names is not None and len(names) != columns:
        raise BadRecording(f"{where}: the names in line 1 are not set apart by {delimiter!r} alone")
    _check_columns(lines, delimiter, columns, where)
    if not lines[first:]:
        raise UnfitRecording(f"{where} holds no samples: there is nothing below its names")
    names, units = _without_units(names) if names else (names, None)
    body, clocked = _clocked(lines[first:], delimiter, where)
    values = _values(body, delimiter, columns, where, first)
    if counted:
        return Recording(values[:, 1:])
    if numbered:
        message = f"line 1 numbers the {columns} columns, and is not used as a sample"
        return Recording(values, warnings=[note("header", message)])
    if clocked is None:
        return Recording(values, names, units=units)
    column, seconds = clocked
    values[:, column] = seconds
    named = names or [""] * columns
    named[column] = CLOCK
    recording = Recording(values, named, units=units)
    return recording if names else replace(without_times(recording, where, most), channels=None)


def _counted(lines: list[str], delimiter: str) -> bool:
    """Whether pandas wrote a table without names: they are 0, 1, 2 … then, beside those of the rows."""
    return (
        lines[0].split(delimiter)[:3] == ["", "0", "1"]
        and lines[1:2] != []
        and (lines[1].split(delimiter)[0] == "0")
    )


def _numbered(lines: list[str], delimiter: str) -> bool:
    """Whether the first line is 0, 1, 2 … as pandas names columns without names; of two columns only
    where samples have decimals, since 0 and 1 may be samples too."""
    cells = lines[0].split(delimiter)
    decimals = any(mark in line for line in lines[1:] for mark in ".eE")
    return cells == [str(number) for number in range(len(cells))] and (
        len(cells) > 2 or (len(cells) == 2 and decimals)
    )


def _check_names(names: list[str], where: str) -> None:
    """Raise BadRecording if the line of names is about a person: it would be kept with the samples."""
    if any(_OF_A_PERSON.search(name[:_LOOKED_AT]) for name in names):
        raise BadRecording(
            f"{where}: line 1 is about a person or a date, and does not name channels: remove it"
        )


def _without_units(names: list[str]) -> tuple[list[str], list[str] | None]:
    """The names without the unit of voltage behind them, as in `V1 (uV)`, and the units; the names as
    they are if one has none, unless it is the first, which may be that of times."""
    found = [_IN_A_UNIT.fullmatch(name) for name in names]
    parts = [
        each.groups() if each and power_of_ten(each[2], "mV") is not None else None
        for each in found
    ]
    if not all(parts[1:]) or not any(parts):
        return names, None
    named = [part[0] if part else name for part, name in zip(parts, names, strict=True)]
    return named, [part[1] if part else "" for part in parts]


def _clocked(
    lines: list[str], delimiter: str, where: str
) -> tuple[list[str], tuple[int, np.ndarray] | None]:
    """The lines without the times of day in one of their columns, and which it is, with the seconds."""
    cells = lines[0].split(delimiter)
    column = next((number for number, cell in enumerate(cells) if clock(cell) is not None), None)
    if column is None:
        return lines, None
    seconds, rest = np.empty(len(lines)), []
    for row, line in enumerate(lines):
        cells = line.split(delimiter)
        if (moment := clock(cells[column])) is None:
            raise BadRecording(
                f"{where}: sample {row + 1} has {_cell(cells[column])} in column {column + 1}, which is "
                f"no time of day as above it: correct it"
            )
        seconds[row], cells[column] = moment, ""
        rest.append(delimiter.join(cells))
    midnights = np.cumsum(np.append(0, np.diff(seconds) < -DAY / 2))
    return rest, (column, (seconds - seconds[0] + DAY * midnights).round(6))


def _lines(content: bytes, where: str) -> list[str]:
    """The lines that are not empty; in a single column an empty one is a missing sample."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise BadRecording(f"{where} is no UTF-8 text: save the table as CSV in UTF-8")
    text = text.replace("\r\n", "\n").replace("\r", "\n").strip("\n")
    lines = text.split("\n")
    if not text:
        raise UnfitRecording(f"{where} holds no samples: it is empty")
    single = all(delimiter not in lines[0] for delimiter in DELIMITERS)
    return lines if single else [line for line in lines if line.strip(" ")]


def _delimiter(line: str) -> str:
    return next((delimiter for delimiter in DELIMITERS if delimiter in line), ",")


def _names(line: str, delimiter: str) -> list[str] | None:
    """The cells of the first line if one of them is neither a number nor empty. numpy.savetxt puts a
    # before them."""
    try:
        cells = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))
    except csv.Error:  # a cell of more than 128 kB
        return None
    cells = [cell.strip() for cell in cells]
    if all(_is_number(cell) or clock(cell) is not None for cell in cells):
        return None
    cells[0] = cells[0].removeprefix("#").strip()
    return cells


def _is_number(cell: str) -> bool:
    return number(cell) is not None or number(cell, ",") is not None


def _check_columns(lines: list[str], delimiter: str, columns: int, where: str) -> None:
    for position, line in enumerate(lines, 1):
        if line.count(delimiter) != columns - 1:
            raise BadRecording(
                f"{where}: line {position} has {line.count(delimiter) + 1} cells instead of {columns}: "
                f"give every line as many"
            )


def _values(lines: list[str], delimiter: str, columns: int, where: str, above: int) -> np.ndarray:
    """`[T, C]`; pandas reads an empty cell as NaN.

    It is given one column, since every line has as many cells: of a table of many columns and one line
    pandas takes a thousand times the time and memory.
    """
    if not lines:
        return np.empty((0, columns))
    text = "\n".join(lines).replace('"', "")
    decimal = "," if delimiter != "," and "," in text and not _has_points(text) else "."
    if decimal == "," and (
        cell := grouped(cell for line in lines for cell in line.replace('"', "").split(delimiter))
    ):
        raise BadRecording(
            f"{where}: {cell} may be {cell.replace(',', '')} or, with a decimal comma, "
            f"{cell.replace(',', '.', 1)}: write numbers with a decimal point and no other sign"
        )
    with decoding(where, "table of numbers"):
        try:
            frame = pd.read_csv(
                io.StringIO(text.replace(delimiter, "\n")),
                sep=delimiter,
                header=None,
                names=["cell"],
                dtype=np.float64,
                decimal=decimal,
                skipinitialspace=True,
                skip_blank_lines=False,
                na_values=list(MISSING),
            )
        except ValueError as error:
            raise _no_number(text, delimiter, decimal, where, above) or error from None
        cells = np.full(len(lines) * columns, np.nan)
        cells[: len(frame)] = frame["cell"]  # an empty cell at the very end is no line for pandas
        return cells.reshape(-1, columns)


def _has_points(text: str) -> bool:
    """Whether there is a point in another cell than a mark of a missing value, such as 1.#IND."""
    for mark in MISSING:
        text = text.replace(mark, "") if "." in mark else text
    return "." in text


def _cell(cell: str) -> str:
    """A cell as a message may repeat it: words may be somebody's name."""
    text = shown(cell.strip(), 30)
    return repr(text) if len(re.findall(r"[^\W\d_]", text)) < 3 else "words"


def _no_number(
    text: str, delimiter: str, decimal: str, where: str, above: int
) -> BadRecording | None:
    """Return an error that names the first cell that is no number; None if all cells are numbers."""
    for row, line in enumerate(text.split("\n"), above + 1):
        for column, cell in enumerate(line.split(delimiter), 1):
            if number(cell, decimal) is None:
                return BadRecording(
                    f"{where}: {_cell(cell)} is no number, in column {column} of line {row} (empty lines "
                    f"not counted): correct it, or leave the cell empty"
                )
    return None
