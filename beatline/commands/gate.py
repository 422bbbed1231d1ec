"""Exit with 1 if a revision is worse than its base by more than tolerance and chance.

Prints the metrics that params.yaml watches as a table in Markdown. The gate goes by the block `compare`
of the base, so that a change cannot loosen what it is judged by.
"""

from __future__ import annotations

import argparse

from beatline.commands.sides import add_sides, sides
from beatline.common import params
from beatline.common.errors import UserError
from beatline.comparing import words
from beatline.comparing.comparison import compare
from beatline.comparing.differences import Compare
from beatline.comparing.revisions import Revision, repository


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the two sides."""
    add_sides(parser)


def run(options: argparse.Namespace) -> int:
    """0 if the gate is open, 1 if it is closed. Raises UserError if there is nothing to judge."""
    with repository() as repo:
        return _gate(*sides(repo, options))


def _gate(before: Revision, after: Revision) -> int:
    """0 if it is open, 1 if it is closed."""
    if before.commit == after.commit:
        raise UserError(f"{before.label} is what is compared with it: name another base")
    block = before.params.get("compare", after.params.get("compare"))
    if block is None:
        raise UserError(
            f"params.yaml has no block compare in {before.label} and {after.label}: add it"
        )
    parameters = params.validated(block, f"compare of {before.label}", Compare)
    comparison = compare(before, after, parameters)
    print(words.gate(comparison))
    if after.params.get("compare") != block:
        print(
            f"\nThe block compare of params.yaml was changed: the gate holds to {before.label}'s."
        )
    return 1 if comparison.failures else 0
