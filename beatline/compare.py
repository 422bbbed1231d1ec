"""What a change did to every model: ``python -m beatline.compare main`` (or ``make compare BASE=main``).

Compares two commits, branches, tags or DVC experiments, or one of them with the workspace, from what
Git and the DVC cache hold. Nothing is trained. ``--gate`` prints the metrics that params.yaml watches
as a table in Markdown and exits with 1 if one is worse by more than its tolerance and than chance; it
goes by the block `compare` of the base, so that a change cannot loosen what it is judged by. Several
runs on each side, separated by commas, are compared by their means.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dvc.repo import Repo

from beatline import committed, params
from beatline.comparing import page, words
from beatline.comparing.comparison import compare
from beatline.comparing.differences import Compare
from beatline.comparing.revisions import WORKSPACE, Revision, repository
from beatline.comparing.runs import compare_runs
from beatline.errors import UserError, reporting_mistakes


def main(arguments: list[str]) -> int:
    options = _parser().parse_args(arguments)
    with repository() as repo:
        if "," in options.base or "," in options.revision:
            return _runs(repo, options)
        before, after = (_revision(repo, name) for name in (options.base, options.revision))
        return _gate(before, after) if options.gate else _compare(before, after, options)


def _runs(repo: Repo, options: argparse.Namespace) -> int:
    if options.gate or options.folder or options.other_records:
        raise UserError(
            "several runs of a side are compared in a table alone: leave out the options"
        )
    parameters = params.block(params.load(), "compare", Compare)
    print(compare_runs(repo, options.base.split(","), options.revision.split(","), parameters))
    return 0


def _compare(before: Revision, after: Revision, options: argparse.Namespace) -> int:
    parameters = params.block(params.load(), "compare", Compare)
    found = compare(before, after, parameters, other_records=options.other_records)
    print(words.text(found))
    if options.folder:
        page.write(found, options.folder, options.pictures)
        html, markdown = options.folder / page.HTML, options.folder / page.MARKDOWN
        print(f"{html} (open in a browser), {markdown}")
    return 0


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
    found = compare(before, after, parameters)
    print(words.gate(found))
    if after.params.get("compare") != block:
        print(
            f"\nThe block compare of params.yaml was changed: the gate holds to {before.label}'s."
        )
    return 1 if found.failures else 0


def _revision(repo: Repo, name: str) -> Revision:
    if name == WORKSPACE and any(committed.problems(repo)):
        # On stderr: what is printed may be meant for a comment.
        print(
            "warning: the workspace has changes that `dvc repro` has not run: its numbers are older",
            file=sys.stderr,
        )
    return Revision(repo, name)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m beatline.compare", description=__doc__)
    parser.add_argument("base", help="commit, branch, tag or experiment that is compared with")
    parser.add_argument("revision", nargs="?", default=WORKSPACE, help="default: the workspace")
    parser.add_argument(
        "--gate", action="store_true", help="exit with 1 if a watched metric is worse"
    )
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
    return parser


if __name__ == "__main__":
    with reporting_mistakes():
        sys.exit(main(sys.argv[1:]))
