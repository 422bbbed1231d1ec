"""Make a challenger from recordings that experts have labelled.

What the service has logged, with feedback and with its recording, becomes a snapshot in data/incoming;
the pipeline runs on it beside the checkout; champion and challenger are measured on the test records of
before and on those of the snapshot. The branch retrain/<data set>/<model>/<date> then holds all of it,
and the registry the challenger. `beatline promote` makes it the champion, if the gate holds. Exits with 2
if there is too little feedback to learn from."""

from __future__ import annotations

import argparse

from beatline.common import params
from beatline.common.errors import UserError
from beatline.monitoring import retraining
from beatline.monitoring.answers import AnswerLog
from beatline.monitoring.settings import VARIABLE, Monitoring
from beatline.tracking import client, registered

EXIT_TOO_FEW = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take which model."""
    parser.add_argument("model", metavar="DATASET/MODEL", help="such as machine_sound/autoencoder")


def run(options: argparse.Namespace) -> int:
    """The exit status. Raises UserError if nothing is logged here, or a step fails."""
    registered.registered_name(options.model)
    settings = params.block(params.load(), "monitoring", Monitoring)
    if settings.where is None:
        raise UserError(
            "params.yaml: monitoring.log names no log of answers, so that there is no feedback: "
            f"name one, or set {VARIABLE}"
        )
    server = client.connect()
    with AnswerLog(settings.where) as log:
        outcome = retraining.retrain(
            server, log, options.model, least=settings.retrain.records, tell=_tell
        )
    if outcome is None:
        return EXIT_TOO_FEW
    print(f"{outcome.key} version {outcome.version} is the challenger, on branch {outcome.branch}")
    for part, sentence in outcome.sentences.items():
        print(f"{part} test records: {sentence}")
    print(f"next: `beatline promote {outcome.key}`, and merge {outcome.branch}")
    return 0


def _tell(sentence: str) -> None:
    print(sentence, flush=True)
