"""Print what experiments changed and what came of it, as a table that fits the terminal.

`dvc exp show` has a column for every metric of every model, every parameter and every file: hundreds
here. This keeps the metrics and parameters that differ between the rows, folds their names, and shows
of an experiment what is not as in the commit that it started from.
"""

from __future__ import annotations

import argparse
import re
import shutil
from collections.abc import Iterator
from typing import Any

import dvc.api
import pandas as pd
from dvc.exceptions import DvcException

from beatline.common.errors import UserError

ABOUT = ("Experiment", "rev", "typ", "Created", "parent", "State", "Executor")  # DVC's own columns
METRIC_FILE = "reports/metrics/"
METRIC = re.compile(rf"(?:{METRIC_FILE}(.+)\.json:)?([^/:]+)")
UNDONE = ("Queued", "Running", "Failed")
NOTHING = "-"
SAME = "."  # as in the commit that an experiment started from
WIDTH = 100  # columns, where the terminal's width is not known


def table(rows: list[dict[str, Any]], width: int) -> str:
    """The rows of `dvc exp show` as text of `width` columns; more columns go into blocks below.

    Raises UserError if there is no experiment among the rows.
    """
    if all(row["typ"] == "baseline" for row in rows):
        raise UserError("there are no experiments here yet: `dvc exp run -S <parameter>=<value>`")
    if not (names := _changed(rows)):
        return "The experiments differ in no parameter and no metric."
    shown = pd.DataFrame(
        [[_unless_same(row, start, name) for name in names] for row, start in _with_start(rows)],
        index=[_name(row) for row in rows],
        columns=_folded(names),
    )
    return shown.to_string(line_width=width)


def _changed(rows: list[dict[str, Any]]) -> list[str]:
    """Metrics and parameters that differ. What has a path and is no metric is a file that was read."""
    names = [name for name in rows[0] if name not in ABOUT and METRIC.fullmatch(name)]
    return [name for name in names if len({_value(row, name) for row in rows} - {NOTHING}) > 1]


def _with_start(
    rows: list[dict[str, Any]],
) -> Iterator[tuple[dict[str, Any], dict[str, Any] | None]]:
    """Each row with that of the commit above it, which an experiment started from; None of a commit."""
    start = None
    for row in rows:
        is_start = row["typ"] == "baseline"
        start = row if is_start else start
        yield row, None if is_start else start


def _unless_same(row: dict[str, Any], start: dict[str, Any] | None, name: str) -> str:
    value = _value(row, name)
    return SAME if start and value != NOTHING and value == _value(start, name) else value


def _value(row: dict[str, Any], name: str) -> str:
    """A value as text. Of an experiment that is not done yet DVC gives the metrics of its baseline."""
    value = row.get(name)
    if value is None or (row["State"] in UNDONE and METRIC_FILE in name):
        return NOTHING
    return f"{value:g}" if isinstance(value, float) else str(value)


def _folded(names: list[str]) -> pd.MultiIndex:
    """A name's parts, one below the other: data set, model and metric, or a parameter's keys."""
    parts = []
    for name in names:
        match = METRIC.fullmatch(name)
        assert match is not None  # _changed kept no others
        place = match[1].split("/") if match[1] else []
        parts.append([*place, *match[2].removeprefix("train.").split(".")])
    depth = max(map(len, parts))
    return pd.MultiIndex.from_tuples([("",) * (depth - len(part)) + (*part,) for part in parts])


def _name(row: dict[str, Any]) -> str:
    name = row["Experiment"] or row["rev"]
    state = row["State"]
    return name if state in (None, "Success") else f"{name} ({state.lower()})"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the commit whose experiments are listed."""
    parser.add_argument(
        "revision", nargs="?", help="what the experiments started from: default HEAD"
    )


def run(options: argparse.Namespace) -> int:
    """Print the table. Raises UserError if there are no experiments."""
    try:
        rows = dvc.api.exp_show(revs=options.revision)
    except DvcException as error:
        raise UserError(" ".join(str(error).split())) from None
    print(table(rows, shutil.get_terminal_size((WIDTH, 24)).columns))
    for row in rows:
        if row["State"] == "Failed":
            print(f"{row['Experiment']} failed: `dvc queue logs {row['Experiment']}` says why")
    return 0
