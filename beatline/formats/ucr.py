"""The four text formats in which the UCR/UEA archive is published.

`.txt` and `.tsv`: one series a line, label first, separated by blanks, tabs or commas. `.arff` (Weka):
after `@data`, comma separated, label last. `.ts` (sktime/aeon): after `@data`, channels separated by
colons, samples by commas, label last. Missing samples are `NaN` or `?`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from beatline.common.errors import UserError

EXTENSIONS = (".tsv", ".txt", ".ts", ".arff")


@dataclass(frozen=True)
class Series:
    """`labels`: N texts, as `1` even where the file says `1.0`. `values`: float32 `[N, T, C]`.

    Series of unequal length are filled up with NaN to the longest.
    """

    labels: list[str]
    values: np.ndarray


def parse(content: bytes, where: str) -> Series:
    """The series in a file's content; `where` is its name, which also tells its format.

    Raises UserError, naming file and line, if a line cannot be read or the channels differ.
    """
    try:
        lines = content.decode().splitlines()
    except UnicodeDecodeError:
        raise UserError(f"{where} is not a text file: give the data set in text form") from None
    rows = [(number, line.strip()) for number, line in enumerate(lines, 1)]
    rows = [(number, line) for number, line in rows if line and line[0] not in "#%"]
    if where.endswith((".ts", ".arff")):
        rows = _after_data(rows, where)
    if not rows:
        raise UserError(f"{where} holds no series: the file is empty or cut short")
    fields = [_fields(line, where) for _, line in rows]
    labels, series = [], []
    for (number, _), (label, channels) in zip(rows, fields, strict=True):
        labels.append(_plain(label, f"{where}, line {number}"))
        series.append(_samples(channels, f"{where}, line {number}"))
    return Series(labels, _stacked(series, rows, where))


def _after_data(rows: list[tuple[int, str]], where: str) -> list[tuple[int, str]]:
    for position, (_, line) in enumerate(rows):
        if line.lower() == "@data":
            return rows[position + 1 :]
    raise UserError(f"{where} has no @data line: the file is cut short or of another format")


def _fields(line: str, where: str) -> tuple[str, list[list[str]]]:
    """The label and, per channel, the samples as texts."""
    if where.endswith(".ts"):
        *channels, label = line.split(":")
        return label, [channel.split(",") for channel in channels]
    if where.endswith(".arff"):
        *samples, label = line.split(",")
        return label, [samples]
    label, *samples = re.split(r"[\s,]+", line)
    return label, [samples]


def _plain(label: str, where: str) -> str:
    label = label.strip().strip("'\"")
    try:
        number = float(label)
    except ValueError:
        if not label:
            raise UserError(f"{where} has no label: repair or remove the line") from None
        return label
    if not np.isfinite(number):
        raise UserError(f"{where}: {label!r} is no label: repair or remove the line")
    return str(int(number)) if number == int(number) else label


def _samples(channels: list[list[str]], where: str) -> np.ndarray:
    """`[T, C]` of one series."""
    if not channels:
        raise UserError(f"{where} has no label: repair or remove the line")
    if len({len(channel) for channel in channels}) != 1:
        raise UserError(f"{where}: its channels differ in length: repair or remove the line")
    try:
        return np.array(
            [[np.nan if text.strip() == "?" else float(text) for text in row] for row in channels],
            dtype=np.float32,
        ).T
    except ValueError:
        raise UserError(f"{where} holds a sample that is no number: repair the line") from None


def _stacked(series: list[np.ndarray], rows: list[tuple[int, str]], where: str) -> np.ndarray:
    channels = series[0].shape[1]
    for (number, _), signal in zip(rows, series, strict=True):
        if signal.shape[1] != channels:
            raise UserError(
                f"{where}, line {number} has {signal.shape[1]} channels, the first has {channels}"
            )
        if not np.isfinite(signal).any():
            raise UserError(f"{where}, line {number} has no valid sample: remove the line")
    length = max(len(signal) for signal in series)
    values = np.full((len(series), length, channels), np.nan, dtype=np.float32)
    for target, signal in zip(values, series, strict=True):
        target[: len(signal)] = signal
    return values
