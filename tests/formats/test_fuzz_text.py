"""Made-up text tables and series: each is read as pandas and scipy read it, or refused in words.

``FUZZ_CASES=20000 pytest -s tests/formats/test_fuzz_text.py`` reads a quarter as many of each kind, and
says how many were refused, and why.
"""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.io import arff

from beatline.common.errors import UserError
from beatline.formats import tables, ucr
from beatline.formats.cells import MISSING
from beatline.serving import uploads
from beatline.serving.problems import Problem
from beatline.serving.uploads import File, Upload
from tests.fuzz import CASES
from tests.serving.uploads import LIMITS

MARKS = sorted(MISSING - {""})
RARELY = 0.05  # share of files, all of which a program could have written, that may be refused


def told(name: str, cases: int, case: Callable[[Random], str]) -> None:
    """Run cases; each says how it went. Fails if more than rarely one is refused."""
    outcomes = Counter(case(Random(seed)) for seed in range(cases))
    print(f"\n{name}: {cases} cases")
    for outcome, count in outcomes.most_common():
        print(f"  {count:6d} {outcome}")
    assert outcomes["equal"] >= (1 - RARELY) * cases


def why(error: UserError) -> str:
    """An error without what differs from file to file."""
    message = str(error)
    assert "\n" not in message and message.startswith("x")
    return "refused: " + re.sub(r"\d+|'[^']*'|\"[^\"]*\"", "_", message)[:70]


def digits(random: Random, decimal: str) -> str:
    """A number as some program writes it."""
    value = random.choice([random.gauss(0, 1), random.uniform(-2000, 2000), random.randint(-5, 5)])
    cell = random.choice(
        [repr(value), f"{value:.3f}", f"{value:.7e}", f"{value:+.2f}", f"{value:.0f}", f"{value:g}"]
    )
    if random.random() < 0.1:
        cell = cell.replace("0.", ".", 1) if cell.lstrip("+-").startswith("0.") else cell
    return cell.replace(".", decimal)


# ---------------------------------------------------------------- tables


WORDS = ["NORM", "MI", "1", "1.0", "0", "001", "2.5", "True", "a b", "x;y", "x,y", 'say "a"', "#1",
         "two\nlines", "µV", "-", "12345678901234567", "3.0000000e+00", "none", "2020-01-01"]  # fmt: skip


def table(random: Random) -> str:
    separator = random.choice(tables.SEPARATORS)
    decimal = random.choice(".,")
    quoting = csv.QUOTE_ALL if random.random() < 0.3 else csv.QUOTE_MINIMAL
    end = random.choice(["\n", "\r\n", "\r"])
    numbers = [f"n{i}" for i in range(random.randint(1, 4))]
    texts = [f"{random.choice('tä')} {i}" for i in range(random.randint(1, 2))]
    names = random.sample([*numbers, *texts], len(numbers) + len(texts))
    missing = random.choice([*MARKS, "", "", ""])
    gaps = random.choice([0, 0.1, 0.5])
    written: list[str] = []

    def cell(name: str) -> str:
        if random.random() < gaps:
            return missing
        if name in numbers:
            written.append(digits(random, decimal))
            return written[-1]
        word = random.choice(WORDS)
        if decimal == ",":
            word = re.sub(r"^(\d+)\.(\d)", r"\1,\2", word)
        return word.replace("\n", end)

    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=separator, quoting=quoting, lineterminator=end)
    for row in [names, *[[cell(name) for name in names] for _ in range(random.randint(1, 8))]]:
        writer.writerow(row)
        if (
            end != "\r" and random.random() < 0.03
        ):  # pandas loses a cell after an empty line of "\r"
            file.write(end)
    content = (random.choice(["", "", "\ufeff"]) + file.getvalue()).encode()
    content = content.removesuffix(end.encode()) if random.random() < 0.2 else content
    try:
        assert tables.names(content, "x") == names
        found = tables.read(content, "x", numbers, texts)
    except UserError as error:
        return why(error)
    options: dict[str, Any] = {"sep": separator, "decimal": decimal, "na_values": ["?"]}
    expected = pd.read_csv(io.BytesIO(content), dtype=dict.fromkeys(texts, str), **options)
    values = expected[numbers].to_numpy(np.float64)
    np.testing.assert_array_equal(found.numbers, values, str(content))
    for name in texts:
        words = expected[name].fillna("")
        if "," in "".join(written):  # the numbers tell that it is the decimal sign
            words = words.str.replace(r"^(\d+),(\d)", r"\1.\2", regex=True)
        # Whole numbers are one text, as they are one value for pandas; others stay as they are.
        assert found.texts[name].to_list() == [tables.text(word) for word in words], content
    return "equal"


def test_tables() -> None:
    """Separators, decimal signs, quotes, line breaks in cells, missing values, byte order marks."""
    told("tables", CASES // 4, table)


# ---------------------------------------------------------------- series


def series(random: Random, decimal: str, missing: list[str]) -> list[list[str]]:
    """Rows of samples, of equal length or not, each with a number in it."""
    length = random.randint(1, 8)
    gaps = random.choice([0, 0.2, 0.5])
    rows = []
    for _ in range(random.randint(1, 8)):
        row = [
            random.choice(missing) if random.random() < gaps else digits(random, decimal)
            for _ in range(length)
        ]
        row[random.randrange(length)] = digits(random, decimal)
        rows.append(row[: random.randint(1, length)] if random.random() < 0.1 else row)
        rows[-1][0] = rows[-1][0] if len(rows[-1]) > 1 else digits(random, decimal)
        if all(cell in MISSING for cell in rows[-1]):
            rows[-1][-1] = digits(random, decimal)
    return rows


def finished(random: Random, lines: list[str], blank: str = "") -> bytes:
    end = random.choice(["\n", "\r\n", "\r"])
    for position in range(len(lines), 0, -1):
        if end != "\r" and random.random() < 0.03:  # as above
            lines.insert(position, blank)
    text = end.join(lines) + random.choice([end, end, ""])
    return (random.choice(["", "", "\ufeff"]) + text).encode()


def text_series(random: Random) -> str:
    separator, decimal = random.choice(
        ["\t.", "\t,", ";.", ";,", ",.", " .", " ,"]  # a comma cannot be both
    )
    missing = ["NaN", "?", "NA"] if separator == " " else ["", "", "NaN", "?", *MARKS]
    missing = [random.choice([mark for mark in missing if " " not in mark or separator != " "])]
    rows = series(random, decimal, missing)
    names = random.choice([["1", "2"], ["-1", "1"], ["1.0000000e+00", "2.0"], ["N", "AF"]])
    labels = [random.choice(names).replace(".", decimal) for _ in rows]
    quote = '"' if separator != " " and random.random() < 0.1 else ""
    space = random.choice(["", "", " "]) if not quote else ""
    before, between = random.choice(["", "  "]), separator + space
    if separator == " ":
        between = random.choice([" ", "   ", " \t"])
    lines = [
        before + between.join(f"{quote}{cell}{quote}" for cell in (label, *row))
        for label, row in zip(labels, rows, strict=True)
    ]
    if random.random() < 0.05:
        lines = [line + separator for line in lines]
    content = finished(random, lines, "  ")
    try:
        found = ucr.parse(content, "x.txt")
    except UserError as error:
        return why(error)
    length = max(map(len, rows)) + 2
    options: dict[str, Any] = {
        "sep": separator if separator != " " else r"\s+",
        "decimal": decimal,
        "names": range(length),
        "na_values": ["?", " ", "? ", *(f"{mark} " for mark in MARKS)],
        "dtype": dict.fromkeys(range(1, length), np.float64) | {0: str},
        "skipinitialspace": True,
    }
    expected = pd.read_csv(io.BytesIO(content), header=None, index_col=False, **options)
    values = expected.iloc[:, 1:].to_numpy(np.float32)
    read = found.values[:, :, 0]
    assert read.shape[1] >= max(map(len, rows)) - 1, (
        content
    )  # a last cell may be empty in every line
    np.testing.assert_array_equal(read, values[:, : read.shape[1]], str(content))
    assert np.isnan(values[:, read.shape[1] :]).all()
    assert found.labels == [tables.text(label.replace(",", ".")) for label in expected[0]], content
    return "equal"


def arff_series(random: Random) -> str:
    rows = series(random, ".", ["?"])
    length = max(map(len, rows))
    names = random.choice([["1", "2"], ["N", "AF"], ["'slow walk'", "run"], ["-1", "1"]])
    place = random.randint(0, length)
    lines = ["% made up", "@RELATION x", ""]
    attributes = [f"{random.choice(['att', chr(39) + 'a b '])}{i}" for i in range(length)]
    attributes = [name + "'" * name.startswith("'") + " " for name in attributes]
    kind = random.choice(["numeric", "REAL"])
    declared = [f"@attribute {name}{kind}" for name in attributes]
    declared.insert(place, f"@attribute target {{{','.join(names)}}}")
    for row in rows:
        row += ["?"] * (length - len(row))
        row.insert(place, random.choice(names))
    lines += [*declared, random.choice(["@data", "@DATA"]), *(",".join(row) for row in rows)]
    content = finished(random, lines)
    try:
        found = ucr.parse(content, "x.arff")
    except UserError as error:
        return why(error)
    text = content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    text = text.replace("'slow walk'", "slow_walk")  # scipy leaves the quotes at one of them
    data: Any = arff.loadarff(io.StringIO(text))[0]
    columns = list(data.dtype.names)
    labels = [label.decode().replace("_", " ") for label in data[columns.pop(place)]]
    values = np.column_stack([data[name] for name in columns]).astype(np.float32)
    np.testing.assert_array_equal(found.values[:, :, 0], values, str(content))
    assert found.labels == labels, content
    return "equal"


def ts_series(random: Random) -> str:
    missing = random.choice(["?", "NaN"])
    channels = random.randint(1, 3)
    rows, labels = [], []
    for _ in range(random.randint(1, 6)):
        cells = list(itertools.chain(*series(random, ".", [missing])))
        length = max(1, len(cells) // channels)
        row = [(cells * channels)[i * length : (i + 1) * length] for i in range(channels)]
        rows.append(row)
        labels.append(random.choice(["1", "2.0", "walk"]))
    said = ["@problemName X", "@timeStamps false", f"@univariate {str(channels == 1).lower()}",
            f"@dimensions {channels}", "@classLabel true 1 2 walk", "@missing true",
            f"@equalLength {str(len({len(row[0]) for row in rows}) == 1).lower()}"]  # fmt: skip
    lines = [*random.sample(said, random.randint(0, len(said))), "@data"]
    lines += [
        ":".join([*map(",".join, row), label]) for row, label in zip(rows, labels, strict=True)
    ]
    try:
        found = ucr.parse(finished(random, lines), "x.ts")
    except UserError as error:
        return why(error)
    assert found.labels == [tables.text(label) for label in labels]
    for read, row in zip(found.values, rows, strict=True):
        values = np.array([[float(cell.replace("?", "nan")) for cell in one] for one in row]).T
        np.testing.assert_array_equal(read[: len(values)], values.astype(np.float32))
        assert np.isnan(read[len(values) :]).all()
    return "equal"


@pytest.mark.parametrize("case", [text_series, arff_series, ts_series])
def test_series(case: Callable[[Random], str]) -> None:
    """Text as pandas reads it, .arff as scipy does, .ts as it was written."""
    told(case.__name__, CASES // 4, case)


# ---------------------------------------------------------------- the service's CSV


def recording(random: Random) -> str:
    separator, decimal = random.choice([";.", ";,", "\t.", "\t,", ",."])
    rows = random.randint(1, 30)
    names = [f"lead {number}" for number in range(random.randint(2, 4))]
    missing, gaps = random.choice(["", "NaN", *MARKS]), random.choice([0, 0.1, 0.5])
    cells = [
        [missing if random.random() < gaps else digits(random, decimal) for _ in names]
        for _ in range(rows)
    ]
    cells[0] = [digits(random, decimal) for _ in names]
    quote = random.choice(["", "", '"'])
    head = [names] if random.random() < 0.5 else []
    lines = [separator.join(quote + cell + quote for cell in row) for row in [*head, *cells]]
    content = finished(random, lines)
    try:
        found = uploads.read(Upload("text/csv", {}, [File("x", content)]), LIMITS)
    except Problem as problem:
        return why(UserError(problem.detail))
    options: dict[str, Any] = {"sep": separator, "decimal": decimal, "na_values": ["?"]}
    options |= {"header": 0 if head else None, "dtype": np.float64}
    values = pd.read_csv(io.BytesIO(content), **options).to_numpy()
    np.testing.assert_array_equal(found.samples, values, str(content))
    assert found.channels == (names if head else None)
    return "equal"


def test_recordings() -> None:
    """What is sent to the service as CSV."""
    told("recordings", CASES // 4, recording)
