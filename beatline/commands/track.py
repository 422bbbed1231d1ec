"""Mirror models, metrics, curves, figures and bundles into MLflow: a run for each model and state.

What dvc.lock, params.yaml, reports/ and DVC's cache hold is copied; nothing is trained. What is there
already is left alone, so that this may be called as often as one likes. MLFLOW_TRACKING_URI says where
to; without it, to a file below data/mlflow, which `make mlflow` shows.
"""

from __future__ import annotations

import argparse

from beatline.commands.sides import revision_of
from beatline.common.errors import warn
from beatline.comparing.leaderboard import revisions_of
from beatline.comparing.revisions import WORKSPACE, Revision, repository
from beatline.tracking import client, runs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take whose state is mirrored."""
    parser.add_argument(
        "--revisions",
        nargs="+",
        metavar="REVISION",
        default=[],
        help="commits, branches, tags or experiments, besides the workspace",
    )
    parser.add_argument("--experiments", action="store_true", help="all DVC experiments too")


def run(options: argparse.Namespace) -> int:
    """1 if a state could not be mirrored. Raises UserError if MLflow fails or a revision does not
    exist."""
    with repository() as repo:
        experiments = revisions_of(repo, 0)[1] if options.experiments else []
        names = dict.fromkeys([*options.revisions, *experiments])
        revisions = [revision_of(repo, WORKSPACE), *(Revision(repo, name) for name in names)]
        server = client.connect()
        mirrored = runs.mirror(server, revisions, lambda line: print(line, flush=True))
    for reason in mirrored.left_out:
        warn(reason)
    shown = "" if client.uri().startswith("http") else " (`make mlflow` shows them)"
    print(
        f"runs added: {len(mirrored.added)}, there before: {mirrored.present}; "
        f"{client.masked(client.uri())}{shown}"
    )
    return 1 if mirrored.left_out else 0
