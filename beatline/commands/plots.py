"""Show the plots that differ between two revisions, in one page that needs no network.

Curves are drawn of both revisions in one chart, pictures stand side by side. What stages declare as plots
in dvc.yaml is read, from Git or the DVC cache; nothing is run.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from beatline.commands.sides import add_sides, sides
from beatline.common.files import replacing
from beatline.comparing import plots, plots_page
from beatline.comparing.revisions import repository


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the two revisions, and where to write."""
    add_sides(parser)
    parser.add_argument("--output", type=Path, default=Path("review/plots.html"))


def run(options: argparse.Namespace) -> int:
    """Write the page. Raises UserError if there is no such revision."""
    with repository() as repo:
        changed = plots.collect(*sides(repo, options))
    with replacing(options.output) as beside:
        beside.write_text(plots_page.page(changed), encoding="utf-8")
    for plot in changed.plots:
        if not plot.shown:
            print(f"warning: {plot.path}: {', '.join(plot.notes)}", file=sys.stderr)
    print(f"{plots_page.outcome(changed)}: {options.output} (open in a browser)")
    return 0
