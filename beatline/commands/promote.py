"""Make a version of a model the champion, if the gate holds for the pair.

Without --version the challenger is promoted. Exits with 1 if it is worse than the champion by more than
the tolerance and by more than chance on the same test records, and with 3 where these cannot tell and
`compare.cannot_tell` is `fail`; the champion stays. The first champion is compared with none. --rollback
goes back to the champion before, without a comparison. Each move is recorded in the registry.
"""

from __future__ import annotations

import argparse
import sys

from beatline.commands.gate import EXIT_CANNOT_TELL, EXIT_FAILED
from beatline.common import params
from beatline.comparing.comparison import CANNOT_TELL
from beatline.comparing.differences import Compare
from beatline.tracking import client, promotion, registered
from beatline.tracking.names import CHALLENGER


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take which version of which model."""
    parser.add_argument("model", metavar="DATASET/MODEL", help="such as ptbxl/cnn")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--version", metavar="N", default=CHALLENGER, help="default: the challenger"
    )
    choice.add_argument("--rollback", action="store_true", help="go back to the champion before")


def run(options: argparse.Namespace) -> int:
    """The exit status. Raises UserError if there is no such version, or nothing to go back to."""
    registered.registered_name(options.model)
    parameters = params.block(params.load(), "compare", Compare)
    server = client.connect()
    if options.rollback:
        version = promotion.rollback(server, options.model)
        print(f"{version.label} is the champion again")
        return 0
    version, judgement = promotion.promote(server, options.model, options.version, parameters)
    if judgement.may_move:
        print(f"{version.label} is the champion: {judgement.sentence}")
        return 0
    print(f"{version.label} is not promoted: {judgement.sentence}", file=sys.stderr)
    return EXIT_CANNOT_TELL if judgement.outcome == CANNOT_TELL else EXIT_FAILED
