"""Print what experiments changed and what came of it, as a table that fits the terminal.

`dvc exp show` has a column for every metric of every model, every parameter and every file: hundreds
here. This keeps the metrics and parameters that differ between the rows, folds their names, and shows
of an experiment what is not as in the commit that it started from. Of a data set or a training run that
some of the rows do not have yet, one column says which have it.
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
from dvc.repo import Repo
from dvc.repo.experiments.utils import exp_refs
from dvc.scm import Git

from beatline.common.errors import UserError
from beatline.comparing.revisions import commit_of, repository

ABOUT = ("Experiment", "rev", "typ", "Created", "parent", "State", "Executor")  # DVC's own columns
METRIC_FILE = "reports/metrics/"
METRIC = re.compile(rf"(?:{METRIC_FILE}(.+)\.json:)?([^/:]+)")
UNDONE = ("Queued", "Running", "Failed")
NOTHING = "-"
THERE = "there"  # a block of parameters
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
    """Metrics and parameters that differ, and blocks of parameters that not all have. What has a path and
    is no metric is a file that was read."""
    names = [name for name in rows[0] if name not in ABOUT and METRIC.fullmatch(name)]
    blocks = _blocks(names)
    changed: dict[str, None] = {}
    for name in names:
        block, having = blocks.get(name, ""), rows
        if block:
            inside = [each for each in names if blocks.get(each) == block]
            having = [row for row in rows if any(_value(row, each) != NOTHING for each in inside)]
        if 0 < len(having) < len(rows) and block not in changed:
            changed[block] = None
            for row in rows:
                row[block] = THERE if row in having else None
        values = {_value(row, name) for row in having} - (
            {NOTHING} if METRIC_FILE in name else set()
        )
        if len(values) > 1:
            changed[name] = None
    return list(changed)


def _blocks(names: list[str]) -> dict[str, str]:
    """Of each parameter of a data set or a training run the block that it stands in, as
    `datasets.ptbxl` and `train.cnn.ptbxl`."""
    datasets = {name.split(".")[1] for name in names if name.startswith("datasets.")}
    parts = {name: name.split(".")[:3] for name in names if METRIC_FILE not in name}
    return {
        name: ".".join(keys[: keys.index(dataset) + 1])
        for name, keys in parts.items()
        if (dataset := next((key for key in keys if key in datasets), None))
    }


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
    """A value as text; NOTHING for what is null or missing, which DVC does not tell apart. Of an
    experiment that is not done yet DVC gives the metrics of its baseline."""
    value = row.get(name)
    if value in (None, "None") or (row["State"] in UNDONE and METRIC_FILE in name):
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
    """Take the commits whose experiments are listed."""
    parser.add_argument(
        "revision",
        nargs="?",
        default="HEAD",
        help="what the experiments started from: default HEAD",
    )
    parser.add_argument(
        "--since", metavar="REVISION", help="also those of all commits from this one on"
    )


def run(options: argparse.Namespace) -> int:
    """Print the table. Raises UserError if there are no experiments, or a revision does not exist."""
    with repository() as repo:
        revisions = _starts(repo, options.revision, options.since)
    try:
        rows = dvc.api.exp_show(revs=revisions)
    except DvcException as error:
        raise UserError(" ".join(str(error).split())) from None
    print(table(rows, shutil.get_terminal_size((WIDTH, 24)).columns))
    for row in rows:
        if row["State"] == "Failed":
            print(f"{row['Experiment']} failed: `dvc queue logs {row['Experiment']}` says why")
    return 0


def _starts(repo: Repo, revision: str, since: str | None) -> list[str]:
    """The commits from `since` to `revision` that experiments started from, the latest first, and
    `revision` itself. Raises UserError if one of the two does not exist, or they are not of one line."""
    last = commit_of(repo, revision)
    if since is None:
        return [last]
    first = commit_of(repo, since)
    commits = list(repo.scm.branch_revs(last, first)) if first != last else []
    if commits and first not in repo.scm.resolve_commit(commits[-1]).parents:
        raise UserError(f"{since} is no ancestor of {revision}: name an older commit of its branch")
    queue = repo.experiments.celery_queue
    waiting = (
        *queue.iter_queued(),
        *queue.iter_active(),
        *(done.entry for done in queue.iter_failed()),
    )
    assert isinstance(repo.scm, Git)  # as `repository` has seen to
    started = {ref.baseline_sha for ref in exp_refs(repo.scm)} | {
        each.baseline_rev for each in waiting
    }
    return list(dict.fromkeys([last, *(each for each in [*commits, first] if each in started)]))
