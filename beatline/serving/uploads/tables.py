"""CSV: a line per time step, a column per channel, with or without a line of names."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import numpy as np
import pandas as pd

from beatline.serving.problems import Problem, malformed, shown, unfit
from beatline.serving.recording import Notice, Recording
from beatline.serving.settings import Serve
from beatline.serving.uploads.checks import check_size, decoding

DELIMITERS = (";", "\t", ",")  # a comma may also be that of a decimal
# Units of a first column with the times of samples, and how many of them are a second.
TIMES = {
    **dict.fromkeys(("time", "t", "seconds", "timestamp", "time_s", "time (s)", "time [s]"), 1),
    **dict.fromkeys(("ms", "milliseconds", "time_ms", "time (ms)", "time [ms]"), 1000),
}
NUMBERING = ("sample", "samples", "index", "")  # of a first column that counts; "" is pandas' index
_NEAR_INTEGER = 1e-3  # share of a rate by which times that were rounded may be off
_AGREES = 0.01  # share of the usual step by which another one may be off
_MULTIPLE = 0.1  # as much where samples were lost, to a multiple of it
_MOST_DIGITS = 7  # after the point, of times in seconds
_USUAL = 0.9  # of all steps at least


def read(content: bytes, where: str, limits: Serve) -> Recording:
    """The table, float64, NaN where a cell is empty or says so; names if its first line has them.

    The delimiter is a comma, semicolon or tab; besides the last two a decimal comma is understood. A
    first column of times or numbers is no channel; samples that were lost by its times are NaN.
    Raises Problem if lines differ in their number of cells, a cell is no number, or times are not
    regular.
    """
    lines = _lines(content, where)
    delimiter = _delimiter(lines[0])
    columns = lines[0].count(delimiter) + 1
    check_size(content.count(delimiter.encode()) + len(lines), limits, where)
    names = _names(lines[0], delimiter)
    first = 0 if names is None else 1
    if names is not None and len(names) != columns:
        raise malformed(f"{where}: the names in line 1 are not set apart by {delimiter!r} alone")
    _check_columns(lines, delimiter, columns, where)
    values = _values(lines[first:], delimiter, columns, where)
    if not len(values):
        raise unfit(f"{where} holds no samples: there is nothing below its names")
    return _without_times(values, names, where, limits)


def _lines(content: bytes, where: str) -> list[str]:
    """The lines that are not empty; in a single column an empty one is a missing sample."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise malformed(f"{where} is no UTF-8 text: save the table as CSV in UTF-8")
    text = text.replace("\r\n", "\n").replace("\r", "\n").strip("\n")
    lines = text.split("\n")
    if not text:
        raise unfit(f"{where} holds no samples: it is empty")
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
    if all(not cell or _is_number(cell) for cell in cells):
        return None
    cells[0] = cells[0].removeprefix("#").strip()
    return cells


def _is_number(cell: str) -> bool:
    try:
        float(cell.replace(",", "."))
    except ValueError:
        return cell.casefold() in ("na", "n/a", "null", "none")
    return True


def _check_columns(lines: list[str], delimiter: str, columns: int, where: str) -> None:
    for number, line in enumerate(lines, 1):
        if line.count(delimiter) != columns - 1:
            raise malformed(
                f"{where}: line {number} has {line.count(delimiter) + 1} cells instead of {columns}: "
                f"give every line as many"
            )


def _values(lines: list[str], delimiter: str, columns: int, where: str) -> np.ndarray:
    """`[T, C]`; pandas reads an empty cell as NaN.

    It is given one column, since every line has as many cells: of a table of many columns and one line
    pandas takes a thousand times the time and memory.
    """
    if not lines:
        return np.empty((0, columns))
    text = "\n".join(lines).replace('"', "")
    decimal = "," if delimiter != "," and "," in text and "." not in text else "."
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
            )
        except ValueError as error:
            raise _no_number(text, delimiter, where) or error from None
        cells = np.full(len(lines) * columns, np.nan)
        cells[: len(frame)] = frame["cell"]  # an empty cell at the very end is no line for pandas
        return cells.reshape(-1, columns)


def _no_number(text: str, delimiter: str, where: str) -> Problem | None:
    """Return a Problem that names the first cell that is no number; None if all cells are numbers."""
    for line in text.split("\n"):
        for cell in line.split(delimiter):
            if cell.strip() and not _is_number(cell.strip()):
                return malformed(
                    f"{where}: {shown(cell.strip(), 30)!r} is no number, in the line that begins with "
                    f"{shown(line, 30)!r}: correct it, or leave the cell empty"
                )
    return None


def _without_times(
    values: np.ndarray, names: list[str] | None, where: str, limits: Serve
) -> Recording:
    """The table without a first column of the samples' times or numbers."""
    first = names[0].casefold() if names else None
    if names is None or values.shape[1] == 1 or first not in (*TIMES, *NUMBERING):
        return Recording(values, names)
    samples, names, column = values[:, 1:], names[1:], names[0]
    if first in NUMBERING or len(values) == 1:
        return Recording(samples, names)
    times = values[:, 0] / TIMES[first]
    places = _places(times)
    if places is None:
        raise unfit(
            f"{where}: the times in column {column!r} are not regular: resample the recording, or "
            f"leave them out and say its rate by the header X-Sampling-Rate"
        )
    rate = _near_integer(places[-1] / (times[-1] - times[0]))
    return _on_grid(Recording(samples, names, rate), places, where, limits)


def _places(times: np.ndarray) -> np.ndarray | None:
    """Return each time's (s) step of a regular grid, as floats from 0; None if they are on no grid.

    Nine of ten steps in time or more are the usual one, and others are multiples of it: there samples
    were lost. Or else the times of a regular grid were rounded, such as those of 360 Hz to milliseconds.
    """
    with np.errstate(all="ignore"):  # what overflows or is NaN is on no grid
        steps = np.diff(times)
        usual = np.median(steps)
        multiples = steps / usual
        duration = times[-1] - times[0]
    if not (usual > 0 and 0 < duration < np.inf):
        return None
    nearest = np.round(multiples)
    same = np.abs(multiples - 1) <= _AGREES
    lost = (nearest >= 1) & (np.abs(multiples - nearest) <= _MULTIPLE)
    if same.mean() >= _USUAL and (same | lost).all():
        return np.append(0, np.cumsum(nearest))
    places, step = np.arange(len(times), dtype=np.float64), duration / (len(times) - 1)
    off = np.abs(times - times[0] - places * step).max()
    return places if off <= (1 + _AGREES) * _last_digit(times) and off < 0.5 * step else None


def _last_digit(times: np.ndarray) -> float:
    """Return the power of ten that times were rounded to, a second at most; 0 if they were not."""
    precision = 4 * np.spacing(np.abs(times).max())
    return next(
        (
            10.0**-digits
            for digits in range(_MOST_DIGITS)
            if np.abs(times - times.round(digits)).max() <= precision
        ),
        0.0,
    )


def _near_integer(rate: float) -> float:
    near = round(rate)
    return float(near if abs(rate - near) <= _NEAR_INTEGER * near else rate)


def _on_grid(recording: Recording, places: np.ndarray, where: str, limits: Serve) -> Recording:
    """Put each row of samples at its step of the grid, and NaN at the steps between."""
    samples = recording.samples
    if places[-1] == len(samples) - 1:
        return recording
    length = int(places[-1]) + 1
    check_size(length * samples.shape[1], limits, f"{where}, with the gaps in its times,")
    grid = np.full((length, samples.shape[1]), np.nan)
    grid[places.astype(np.int64)] = samples
    message = (
        f"by the times of the recording {length - len(samples)} of {length} samples were lost: they "
        f"are missing"
    )
    return replace(recording, samples=grid, warnings=[Notice("irregular", message)])
