"""Write every experiment and revision into one table.

Reads what Git and the DVC cache hold of the workspace, all experiments, branches and tags, and the last
commits, and writes one HTML file. Nothing is trained.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from beatline.common.files import replacing
from beatline.comparing import leaderboard, leaderboard_page
from beatline.comparing.revisions import repository


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take how far to look back, and where to write."""
    parser.add_argument(
        "--commits", type=int, default=20, help="of the branch checked out (default: 20)"
    )
    parser.add_argument("--output", type=Path, default=Path("review/leaderboard.html"))


def run(options: argparse.Namespace) -> int:
    """Write the page. Raises UserError outside of a project."""
    with repository() as repo:
        board = leaderboard.collect(repo, options.commits)
    with replacing(options.output) as beside:
        beside.write_text(leaderboard_page.page(board), encoding="utf-8")
    print(f"{len(board.entries)} results: {options.output} (open in a browser)")
    if board.nothing:
        print(f"{len(board.nothing)} revisions have no metrics with intervals and are not shown")
    return 0
