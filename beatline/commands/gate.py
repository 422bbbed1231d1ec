"""Judge a revision by its base: passed, failed, or cannot tell.

Exits with 0 if it passed, and with 1 if a metric that params.yaml watches is worse by more than its
tolerance and by more than chance. Where the test records can show neither, `compare.cannot_tell` decides:
0 for `pass`, 3 for `fail`. Prints the outcome and a table in Markdown. The block `compare` is that of the
base, so that a change cannot loosen what it is judged by.
"""

from __future__ import annotations

import argparse

from dvc.repo import Repo

from beatline.commands.compare import parameters_of
from beatline.commands.sides import BEHIND, add_sides, is_behind, sides
from beatline.common.errors import UserError
from beatline.comparing import words
from beatline.comparing.comparison import CANNOT_TELL, FAILED, compare
from beatline.comparing.revisions import Revision, repository

EXIT_FAILED, EXIT_CANNOT_TELL = 1, 3  # 2 is that of a wrong command line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the two sides."""
    add_sides(parser)


def run(options: argparse.Namespace) -> int:
    """The exit status. Raises UserError if there is nothing to judge."""
    with repository() as repo:
        return _gate(repo, *sides(repo, options))


def _gate(repo: Repo, before: Revision, after: Revision) -> int:
    if before.commit == after.commit:
        raise UserError(f"{before.label} is what is compared with it: name another base")
    if after.commit is None and is_behind(repo):
        raise UserError(
            f"{BEHIND}: its numbers are older, and the gate judges by numbers; run it, or name the "
            f"commit that is meant"
        )
    parameters = parameters_of(before, after)
    comparison = compare(before, after, parameters)
    print(words.gate(comparison))
    if (block := before.params.get("compare")) and after.params.get("compare") != block:
        print(
            f"\nThe block compare of params.yaml was changed: the gate holds to {before.label}'s."
        )
    if comparison.outcome == FAILED:
        return EXIT_FAILED
    if comparison.outcome == CANNOT_TELL:
        print(
            f"\ncompare.cannot_tell is {parameters.cannot_tell}: that is what becomes of it here."
        )
        return EXIT_CANNOT_TELL if parameters.cannot_tell == "fail" else 0
    return 0
