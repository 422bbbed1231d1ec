"""The two revisions that a command compares: how they are named, and what they are."""

from __future__ import annotations

import argparse
import sys
from functools import cache

from dvc.repo import Repo

from beatline.commands import committed
from beatline.comparing.revisions import WORKSPACE, Revision

BEHIND = "the workspace has changes that `dvc repro` has not run"


def add_sides(parser: argparse.ArgumentParser, *, needed: bool = True) -> None:
    """Take the two revisions that are compared; `needed`: whether the first must be there."""
    parser.add_argument(
        "base",
        nargs=None if needed else "?",
        help="commit, branch, tag or experiment that is compared with",
    )
    parser.add_argument("revision", nargs="?", default=WORKSPACE, help="default: the workspace")


def sides(repo: Repo, options: argparse.Namespace) -> tuple[Revision, Revision]:
    """The two revisions that the options name. Raises UserError if there is no such one."""
    before, after = (revision_of(repo, name) for name in (options.base, options.revision))
    return before, after


def revision_of(repo: Repo, name: str) -> Revision:
    """Return a revision; the workspace with a warning if its numbers are older than what it holds."""
    if name == WORKSPACE and is_behind(repo):
        # On stderr: what is printed may be meant for a comment.
        print(f"warning: {BEHIND}: its numbers are older", file=sys.stderr)
    return Revision(repo, name)


@cache
def is_behind(repo: Repo) -> bool:
    """Whether the workspace holds what was not run."""
    return any(committed.problems(repo))
