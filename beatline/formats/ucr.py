"""The four text formats in which the UCR/UEA archive is published.

`.txt` and `.tsv`: one series a line, label first, separated by blanks, tabs, commas or semicolons.
`.arff` (Weka): after `@data`, comma separated; its attributes tell which is the label. `.ts`
(sktime/aeon): after `@data`, channels separated by colons, samples by commas, label last. What a header
says is held against the series. A missing sample is an empty cell, or another one of
:data:`beatline.formats.cells.MISSING`.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from decimal import Decimal
from pathlib import PurePath
from typing import NamedTuple

import numpy as np

from beatline.common.errors import UserError
from beatline.formats.cells import MISSING, grouped, number

EXTENSIONS = (".tsv", ".txt", ".ts", ".arff")
LABELS = ("class", "classes", "classlabel", "class_label", "label", "labels", "target")  # in .arff
NUMERIC = ("numeric", "real", "integer")
_QUOTED = r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*\""""
_ATTRIBUTE = re.compile(rf"@attribute\s+({_QUOTED}|[^\s{{]+)\s*(\{{.*\}}|[^{{]+)$", re.IGNORECASE)
_CELL = re.compile(rf"\s*({_QUOTED}|[^,]*?)\s*(,|$)")

Line = tuple[int, str]  # its number in the file, and its text


@dataclass(frozen=True)
class Series:
    """`labels`: N texts, as `1` even where the file says `1.0`. `values`: float32 `[N, T, C]`.

    Series of unequal length are filled up with NaN to the longest.
    """

    labels: list[str]
    values: np.ndarray


class _Row(NamedTuple):
    """A series as it stands in a line: per channel, the samples as texts."""

    line: int
    label: str
    channels: list[list[str]]


def parse(content: bytes, where: str) -> Series:
    """The series in a file's content; `where` is its name, which also tells its format.

    Raises UserError, naming file and line, if a line cannot be read, the channels differ, or the header
    says something else than the series.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{where} is not a text file: give the data set in text form") from None
    lines = enumerate(re.split(r"\r\n|\r|\n", text), 1)
    lines = [(number, line) for number, line in lines if line.strip(" ")]
    suffix, decimal = PurePath(where).suffix.lower(), "."
    # In .arff a # is as good a label as others.
    comments = "%" if suffix == ".arff" else "#%"
    lines = [(number, line) for number, line in lines if line.strip()[:1] not in [*comments]]
    if suffix in (".ts", ".arff"):
        header, lines = _parts(lines, where)
        rows = (_ts if suffix == ".ts" else _arff)(header, lines, where)
    else:
        rows, decimal = _text(lines, where)
    if not rows:
        raise UserError(f"{where} holds no series: the file is empty or cut short")
    labels = [_plain(row.label, f"{where}, line {row.line}", decimal) for row in rows]
    series = [_samples(row, where, decimal) for row in rows]
    return Series(labels, _stacked(series, rows, where))


# ---------------------------------------------------------------- .txt and .tsv


def _text(lines: list[Line], where: str) -> tuple[list[_Row], str]:
    """The rows and the decimal sign, by the separator and the sign that fit all lines."""
    text = "\n".join(line for _, line in lines)
    fits: dict[tuple[str, str], list[_Row]] = {}
    faults: list[tuple[int, str]] = []
    for separator in (";", "\t", ",", " "):
        for decimal in ".,":
            if (separator not in text and separator != " ") or (decimal == "," not in text):
                continue
            if separator == decimal and '"' not in text:
                continue
            if separator == " " and any(fit == "\t" for fit, _ in fits):
                continue  # two tabs in a row hold an empty cell
            rows, fault = _split(lines, separator, decimal)
            if fault is None:
                fits[separator, decimal] = rows
            else:
                faults.append((len(rows), fault))
    if not fits:
        _, fault = max(faults, key=lambda fault: fault[0])
        raise UserError(f"{where}, {fault}")
    (_, decimal), rows = next(iter(fits.items()))
    for other in fits.values():
        if differing := [row for row, again in zip(rows, other, strict=True) if row != again]:
            raise UserError(
                f"{where}, line {differing[0].line} can be read in two ways, with commas that separate "
                f"or are decimal: separate by tabs, and write decimal points"
            )
    cells = (
        [cell for row in rows for cell in (row.label, *row.channels[0])] if decimal == "," else []
    )
    if cell := grouped(cells):
        raise UserError(
            f"{where}: {cell} may be {cell.replace(',', '')} or, with a decimal comma, "
            f"{cell.replace(',', '.', 1)}: write numbers with a decimal point and no other sign"
        )
    return rows, decimal


def _split(lines: list[Line], separator: str, decimal: str) -> tuple[list[_Row], str | None]:
    """The rows by a separator (a blank: any run of blanks and tabs), up to the first line that it does
    not fit, and what is wrong there."""
    rows: list[_Row] = []
    for line, text in lines:
        cells = _cells(text, separator)
        if len(cells) < 2:
            return rows, f"line {line} has no valid sample: repair or remove the line"
        label, samples = cells[0], cells[1:]
        if (
            any(sign in label for sign in ",;\t")
            and ('"' not in text or number(label, ",") is not None)
            and number(label, decimal) is None
        ):
            return rows, f"line {line}: its label {label!r} holds a separator: repair the line"
        if any(number(cell, decimal) is None for cell in samples):
            return rows, f"line {line} holds a sample that is no number: repair the line"
        if separator == " " and re.search(r"^\t|\t[ \t]*\t|\t$", text):
            return (
                rows,
                f"line {line} has blanks and empty cells between tabs: separate by tabs alone",
            )
        rows.append(_Row(line, label, [samples]))
    if all(len(row.channels[0]) > 1 and not row.channels[0][-1] for row in rows):
        # Each line ends in a separator: nobody has a sample there.
        rows = [row._replace(channels=[row.channels[0][:-1]]) for row in rows]
    return rows, None


def _cells(text: str, separator: str) -> list[str]:
    if separator == " ":
        cells = text.split()
    elif '"' in text:
        try:
            cells = next(csv.reader([text], delimiter=separator, skipinitialspace=True))
        except csv.Error:  # a cell of more than 128 kB
            return []
    else:
        cells = text.split(separator)
    return [cell.strip().strip('"') for cell in cells]


# ---------------------------------------------------------------- .ts and .arff


def _parts(lines: list[Line], where: str) -> tuple[list[Line], list[Line]]:
    """The lines before and after `@data`, without blanks around them."""
    lines = [(number, line.strip()) for number, line in lines if line.strip()]
    for position, (_, line) in enumerate(lines):
        if line.lower() == "@data":
            return lines[:position], lines[position + 1 :]
    raise UserError(f"{where} has no @data line: the file is cut short or of another format")


def _ts(header: list[Line], lines: list[Line], where: str) -> list[_Row]:
    said = {key.lower(): rest for _, text in header for key, _, rest in [text.partition(" ")]}
    said = {key: rest.split() for key, rest in said.items()}
    for key, fault in (
        ("@timestamps", "gives each sample a time: resample it, and leave the times out"),
        (
            "@targetlabel",
            "holds numbers to predict and no classes: give a data set for classification",
        ),
    ):
        if _flag(said, key, where):
            raise UserError(f"{where} {fault}")
    if _flag(said, "@classlabel", where) is False:
        raise UserError(f"{where} has no labels (@classLabel false): give the data set with labels")
    declared = {_plain(label, where) for label in said.get("@classlabel", [])[1:]}
    rows = []
    for line, text in lines:
        *channels, label = text.split(":")
        place = f"{where}, line {line}"
        if not channels or ("," in label and not declared):
            raise UserError(f"{place} has no label: repair or remove the line")
        _check_declared(_plain(label, place), declared, "@classLabel", place)
        rows.append(_Row(line, label, [channel.split(",") for channel in channels]))
    _check_said(said, rows, where)
    return rows


def _flag(said: dict[str, list[str]], key: str, where: str) -> bool | None:
    """What a line of the header says, None if it is not there."""
    if key not in said:
        return None
    word = (said[key] or [""])[0].lower()
    if word not in ("true", "false"):
        raise UserError(f"{where}: {key} is {word!r}: write true or false")
    return word == "true"


def _check_said(said: dict[str, list[str]], rows: list[_Row], where: str) -> None:
    """Raise UserError for the first row that is not what the header says of all."""
    wanted: dict[str, int] = {}
    for key in ("@dimensions", "@dimension", "@serieslength"):
        if key in said and not (said[key] and said[key][0].isdecimal()):
            raise UserError(f"{where}: {key} is {' '.join(said[key])!r}: write a whole number")
        if key in said:
            wanted[key.rstrip("s")] = int(said[key][0])
    if _flag(said, "@univariate", where):
        wanted["@univariate"] = 1
    equal = _flag(said, "@equallength", where)
    if equal is False:
        wanted.pop("@serieslength", None)
    elif equal and rows:
        wanted.setdefault("@serieslength", len(rows[0].channels[0]))
    complete = _flag(said, "@missing", where) is False
    for row in rows:
        sizes = {"@serieslength": len(row.channels[0])}
        for key, size in wanted.items():
            if (has := sizes.get(key, len(row.channels))) != size:
                unit = "samples" if key == "@serieslength" else "channels"
                raise UserError(
                    f"{where}, line {row.line} has {has} {unit} instead of {size}, by {key} in the "
                    f"header or the first series: correct the header or the line"
                )
        if complete and any(
            cell.strip() in MISSING for channel in row.channels for cell in channel
        ):
            raise UserError(
                f"{where}, line {row.line} has a missing sample, and the header says @missing false: "
                f"correct the header or the line"
            )


def _arff(header: list[Line], lines: list[Line], where: str) -> list[_Row]:
    attributes: list[tuple[str, str]] = []
    for line, text in header:
        if text.lower().startswith("@attribute"):
            if not (match := _ATTRIBUTE.match(text)):
                raise UserError(f"{where}, line {line} declares no attribute: correct the line")
            attributes.append((_unquoted(match[1]), match[2].strip()))
    if not lines:
        return []
    position = _label(attributes, where)
    for index, (name, kind) in enumerate(attributes):
        if index != position and kind.lower() not in NUMERIC:
            raise UserError(
                f"{where}: the attribute {name} is {kind[:30]} and neither numeric nor the label: remove "
                f"it, or give the data set as .ts"
            )
    kind = attributes[position][1]
    declared = {_plain(label, where) for label in _values(kind[1:-1])} if kind[0] == "{" else set()
    blanks = not any("," in text for _, text in lines)
    rows = []
    for line, text in lines:
        place = f"{where}, line {line}"
        if text.startswith("{"):
            raise UserError(f"{place} is sparse: save the file without sparse rows")
        cells = text.split() if blanks else _values(text)
        if len(cells) != len(attributes):
            raise UserError(
                f"{place} has {len(cells)} values, and the header declares {len(attributes)} attributes: "
                f"correct the header or the line"
            )
        label = cells.pop(position)
        _check_declared(_plain(label, place), declared, "@attribute", place)
        rows.append(_Row(line, label, [cells]))
    return rows


def _label(attributes: list[tuple[str, str]], where: str) -> int:
    """Which attribute is the label: the one that is nominal, of several the one that is called so."""
    nominal = {index for index, (_, kind) in enumerate(attributes) if kind.startswith("{")}
    named = {index for index, (name, _) in enumerate(attributes) if name.casefold() in LABELS}
    for candidates in (nominal | named, nominal & named):
        if len(candidates) == 1 and len(named) <= 1:
            return candidates.pop()
    raise UserError(
        f"{where} does not tell which attribute is the label: declare one with its values, such as "
        f"@attribute target {{1,2}}, and call no other class, label or target"
    )


def _values(text: str) -> list[str]:
    """The cells of a line, or the values of a nominal attribute, without quotes."""
    if "'" not in text and '"' not in text:
        return [cell.strip() for cell in text.split(",")]
    cells, end = [], 0
    while match := _CELL.match(text, end):
        cells.append(_unquoted(match[1]))
        end = match.end()
        if not match[2]:
            break
    return cells


def _unquoted(text: str) -> str:
    if text[:1] in ("'", '"') and len(text) > 1:
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    return text


def _check_declared(label: str, declared: set[str], key: str, place: str) -> None:
    if declared and label not in declared:
        raise UserError(
            f"{place}: the label {label!r} is not declared by {key}: correct one of them"
        )


# ---------------------------------------------------------------- all formats


def _plain(label: str, where: str, decimal: str = ".") -> str:
    """A label as text; one that is a number is written as short as can be."""
    label = label.strip().strip("'\"")
    if label in ("", "?"):
        raise UserError(f"{where} has no label: repair or remove the line")
    value = number(label, decimal)
    if value is None:
        return label
    if not np.isfinite(value):
        raise UserError(f"{where}: {label!r} is no label: repair or remove the line")
    return f"{Decimal(label.replace(',', '.')).normalize() + 0:f}"


def _samples(row: _Row, where: str, decimal: str) -> np.ndarray:
    """`[T, C]` of one series."""
    where = f"{where}, line {row.line}"
    if len({len(channel) for channel in row.channels}) != 1:
        raise UserError(f"{where}: its channels differ in length: repair or remove the line")
    values = [[number(cell, decimal) for cell in channel] for channel in row.channels]
    if any(None in channel for channel in values):
        raise UserError(f"{where} holds a sample that is no number: repair the line")
    with np.errstate(over="ignore"):
        samples = np.array(values, dtype=np.float64).astype(np.float32).T
    if np.isinf(samples).any():
        raise UserError(f"{where} holds a sample that is infinite: repair the line")
    return samples


def _stacked(series: list[np.ndarray], rows: list[_Row], where: str) -> np.ndarray:
    channels = series[0].shape[1]
    for row, signal in zip(rows, series, strict=True):
        if signal.shape[1] != channels:
            raise UserError(
                f"{where}, line {row.line} has {signal.shape[1]} channels, the first has {channels}"
            )
        if not np.isfinite(signal).any():
            raise UserError(f"{where}, line {row.line} has no valid sample: remove the line")
    length = max(len(signal) for signal in series)
    values = np.full((len(series), length, channels), np.nan, dtype=np.float32)
    for target, signal in zip(values, series, strict=True):
        target[: len(signal)] = signal
    return values
