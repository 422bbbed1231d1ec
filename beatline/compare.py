"""What a change did to every model: ``python -m beatline.compare main`` (or ``make compare BASE=main``).

Compares two commits, branches, tags or DVC experiments, or one of them with the workspace, from what
Git and the DVC cache hold. Nothing is trained. ``--gate`` prints the metrics that params.yaml watches
as a table in Markdown and exits with 1 if one is worse by more than its tolerance and than chance.
Several runs on each side, separated by commas, are compared by their means.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from beatline import params
from beatline.comparing import page, words
from beatline.comparing.comparison import compare
from beatline.comparing.differences import Compare
from beatline.comparing.revisions import WORKSPACE, repository
from beatline.comparing.runs import compare_runs
from beatline.errors import reporting_mistakes


def main(arguments: list[str]) -> int:
    options = _parser().parse_args(arguments)
    parameters = params.block(params.load(), "compare", Compare)
    with repository() as repo:
        if "," in options.base:
            print(
                compare_runs(repo, options.base.split(","), options.revision.split(","), parameters)
            )
            return 0
        comparison = compare(
            repo, options.base, options.revision, parameters, other_records=options.other_records
        )
        if options.folder:
            page.write(comparison, options.folder, options.pictures)
    if options.gate:
        print(words.gate(comparison))
        return 1 if comparison.failures else 0
    print(words.text(comparison))
    if options.folder:
        print(
            f"\n{options.folder / page.HTML} (open in a browser), {options.folder / page.MARKDOWN}"
        )
    return 0


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
