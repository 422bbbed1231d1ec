"""Compare two commits, branches, tags or DVC experiments, or one of them with the workspace.

What Git and the DVC cache hold is compared, by the block `compare` of the base; nothing is trained.
Several runs on each side, separated by commas, are compared by their means. --answers compares what a
champion and its challenger have said of the same recordings in production.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from dvc.repo import Repo

from beatline.commands.sides import add_sides, sides
from beatline.common import params
from beatline.common.errors import UserError
from beatline.comparing import page, words
from beatline.comparing.comparison import compare
from beatline.comparing.differences import Compare
from beatline.comparing.revisions import Revision, repository
from beatline.comparing.runs import compare_runs
from beatline.evaluation.estimates import Evaluate
from beatline.monitoring.settings import Monitoring


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the two sides, and where to write the comparison."""
    add_sides(parser, needed=False)
    parser.add_argument(
        "--other-records",
        action="store_true",
        help="compare models that were tested on other records, as independent samples",
    )
    parser.add_argument("--folder", type=Path, help="write comparison.html and comparison.md there")
    parser.add_argument(
        "--pictures",
        metavar="URL",
        help="where comparison.md finds files in Git; {commit} stands for the commit",
    )
    parser.add_argument(
        "--answers",
        metavar="DATASET/MODEL",
        help="compare no revisions, but what a model's champion and its challenger have answered in "
        "production (monitoring.shadow)",
    )


def run(options: argparse.Namespace) -> int:
    """Print the comparison, and write it if a folder is named. Raises UserError if there is no such
    revision."""
    if options.answers:
        return _answers(options)
    if options.base is None:
        raise UserError(
            "nothing is named to compare with: name a commit, a branch or an experiment"
        )
    with repository() as repo:
        if "," in options.base or "," in options.revision:
            return _runs(repo, options)
        before, after = sides(repo, options)
        return _compare(before, after, options)


def parameters_of(before: Revision, after: Revision) -> Compare:
    """The block `compare` of the base, so that a change cannot loosen what it is judged by; if the base
    is older than the block, the other side's or the current one. Raises UserError if it is wrong."""
    for revision in (before, after):
        if (block := revision.params.get("compare")) is not None:
            return params.validated(block, f"compare of {revision.label}", Compare)
    return params.block(params.load(), "compare", Compare)


def _answers(options: argparse.Namespace) -> int:
    if options.base or options.folder or options.other_records:
        raise UserError("--answers compares two versions in the log: leave out all else")
    content = params.load()
    monitoring = params.block(content, "monitoring", Monitoring)
    # Only here: the log needs what serving needs.
    from beatline.monitoring import shadows
    from beatline.monitoring.answers import AnswerLog

    how = params.block(content, "evaluate", Evaluate)
    parameters = params.block(content, "compare", Compare)
    with AnswerLog(monitoring.place()) as log:
        print(shadows.told(log, options.answers, how, parameters))
    return 0


def _runs(repo: Repo, options: argparse.Namespace) -> int:
    if options.folder or options.other_records:
        raise UserError(
            "several runs of a side are compared in a table alone: leave out the options"
        )
    parameters = params.block(params.load(), "compare", Compare)
    print(compare_runs(repo, options.base.split(","), options.revision.split(","), parameters))
    return 0


def _compare(before: Revision, after: Revision, options: argparse.Namespace) -> int:
    parameters = parameters_of(before, after)
    comparison = compare(before, after, parameters, other_records=options.other_records)
    print(words.text(comparison))
    if options.folder:
        page.write(comparison, options.folder, options.pictures)
        html, markdown = options.folder / page.HTML, options.folder / page.MARKDOWN
        print(f"{html} (open in a browser), {markdown}")
    return 0
