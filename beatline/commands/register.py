"""Make a version in MLflow's registry from a trained model, and judge it by the champion.

The bundle becomes a model that `mlflow.pyfunc.load_model` loads in an environment with neither torch nor
this project. It gets the alias `challenger`; `beatline promote` makes it the champion. A state that is a
version already becomes no other one, but the challenger again, as after a rollback.
"""

from __future__ import annotations

import argparse

from beatline.commands.sides import revision_of
from beatline.common import params
from beatline.comparing.differences import Compare
from beatline.comparing.revisions import WORKSPACE, repository
from beatline.tracking import client, promotion, registered, runs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take which model."""
    parser.add_argument("model", metavar="DATASET/MODEL", help="such as ptbxl/cnn")
    parser.add_argument(
        "--revision",
        default=WORKSPACE,
        help="commit, tag or experiment that it is taken from (default: the workspace)",
    )


def run(options: argparse.Namespace) -> int:
    """Print the version and what the gate says. Raises UserError if there is no such trained model."""
    registered.registered_name(options.model)
    dataset, _, model = options.model.partition("/")
    parameters = params.block(params.load(), "compare", Compare)
    with repository() as repo:
        state = runs.state_of(revision_of(repo, options.revision), dataset, model)
        server = client.connect()
        version, is_new, judgement = promotion.register(server, state, parameters)
    simulated = " (simulated data)" if version.simulated else ""
    aliases = f", {' and '.join(version.aliases)}" if version.aliases else ""
    print(f"{version.label}{simulated}: {'registered' if is_new else 'there before'}{aliases}")
    print(f"gate: {judgement.sentence}")
    return 0
