"""Made-up text tables and series: each is read as pandas and scipy read it, or refused in words.

``FUZZ_CASES=20000 pytest -s tests/formats/test_fuzz_text.py`` reads a quarter as many of each kind, and
says how many were refused, and why.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import pandas as pd

from beatline.common.errors import UserError
from beatline.formats import tables
from beatline.formats.cells import MISSING
from tests.fuzz import CASES

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
        if random.random() < 0.03:
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
