"""Every experiment and revision in one table: ``python -m beatline.leaderboard`` (``make leaderboard``).

Reads what Git and the DVC cache hold of the workspace, all experiments, branches and tags, and the last
commits, and writes one HTML file. Nothing is trained.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from beatline.comparing import leaderboard, leaderboard_page
from beatline.comparing.revisions import repository
from beatline.errors import reporting_mistakes
from beatline.files import replacing


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m beatline.leaderboard", description=__doc__)
    parser.add_argument(
        "--commits", type=int, default=20, help="of the branch checked out (default: 20)"
    )
    parser.add_argument("--output", type=Path, default=Path("review/leaderboard.html"))
    options = parser.parse_args(arguments)
    with repository() as repo:
        board = leaderboard.collect(repo, options.commits)
    with replacing(options.output) as beside:
        beside.write_text(leaderboard_page.page(board), encoding="utf-8")
    print(f"{len(board.entries)} results: {options.output} (open in a browser)")
    if board.nothing:
        print(f"{len(board.nothing)} revisions have no metrics with intervals and are not shown")


if __name__ == "__main__":
    with reporting_mistakes():
        main(sys.argv[1:])
