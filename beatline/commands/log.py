"""Tell what is in the log of answers, or erase all that is about one entity: a machine, or the pseudonym
of a person. A service may go on writing to it meanwhile.
"""

from __future__ import annotations

import argparse

from beatline.common import params
from beatline.common.errors import UserError
from beatline.monitoring import retention
from beatline.monitoring.answers import AnswerLog
from beatline.monitoring.settings import Monitoring


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the entity that is to be erased."""
    parser.add_argument("--erase", metavar="ENTITY", help="erase all that is about it")


def run(options: argparse.Namespace) -> int:
    """Print what is in the log, or what was erased. Raises UserError if there is no log, or nothing about
    the entity."""
    settings = params.block(params.load(), "monitoring", Monitoring)
    with AnswerLog(settings.place()) as log:
        if options.erase is None:
            print("\n".join(_lines(retention.state(log))))
        elif erased := retention.erase(log, options.erase):
            print(
                f"erased: {erased} answers about {options.erase}, and what was kept and said of them"
            )
        else:
            raise UserError(
                f"--erase {options.erase}: the log has no answer about it: check the name"
            )
    return 0


def _lines(state: retention.State) -> list[str]:
    span = ""
    if state.first and state.last:
        first, last = (f"{moment:%Y-%m-%d %H:%M}" for moment in (state.first, state.last))
        span = f", from {first} to {last} UTC"
    return [
        f"answers:    {state.answers} ({state.answers_bytes / 1e6:.1f} MB){span}",
        f"entities:   {state.entities}",
        f"feedback:   {state.feedback}",
        f"recordings: {state.recordings} ({state.recordings_bytes / 1e6:.1f} MB)",
    ]
