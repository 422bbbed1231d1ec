"""Make a challenger from recordings that experts have labelled.

What the service has logged, with feedback and with its recording, becomes a snapshot in data/incoming;
the pipeline runs on it beside the checkout; champion and challenger are measured on the test records of
before and on those of the snapshot. The branch retrain/<data set>/<model>/<date> then holds all of it,
and the registry the challenger. `beatline promote` makes it the champion, if the gate holds. Exits with 2
if there is too little feedback to learn from.

With --listen it waits for alerts instead, and starts itself for the models that these name: see
docs/monitoring.md. Clients show the token of BEATLINE_TOKEN."""

from __future__ import annotations

import argparse
import logging
import socket

from beatline.common import params
from beatline.common.errors import UserError
from beatline.monitoring.settings import Monitoring
from beatline.monitoring.states import EXIT_TOO_FEW


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take which model, or where to wait for alerts."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "model", nargs="?", metavar="DATASET/MODEL", help="such as machine_sound/autoencoder"
    )
    what.add_argument(
        "--listen",
        type=_address,
        metavar="HOST:PORT",
        help="run for each model that a webhook of Alertmanager's names, such as 127.0.0.1:5003",
    )


def run(options: argparse.Namespace) -> int:
    """The exit status. Raises UserError if nothing is logged here, or a step fails."""
    if options.listen:
        return _listen(*options.listen)
    # Here, since who waits for alerts needs neither DVC nor MLflow in memory.
    from beatline.monitoring import retraining
    from beatline.monitoring.answers import AnswerLog
    from beatline.tracking import client, registered

    registered.registered_name(options.model)
    settings = params.block(params.load(), "monitoring", Monitoring)
    where = settings.place()
    server = client.connect()
    with AnswerLog(where) as log:
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


def _listen(host: str, port: int) -> int:
    """Answer until a signal ends it. Raises UserError if the address cannot be had or no token is set."""
    import uvicorn  # with the service's packages, which a retraining by hand does without

    from beatline.serving import tokens, webhook
    from beatline.serving.connections import BoundedProtocol
    from beatline.serving.registry import wanted

    tokens.settle()
    app = webhook.create_app(webhook.Retrainings(), lambda: wanted(params.load()))
    try:
        listener = socket.create_server((host, port))
    except OSError as error:
        raise UserError(
            f"--listen {host}:{port} cannot be opened ({error.strerror}): name an address of this "
            f"machine and a free port"
        ) from None
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("beatline.serving").setLevel(logging.INFO)
    config = uvicorn.Config(app, http=BoundedProtocol, ws="none", log_config=None)
    with listener:
        _tell(f"waiting for alerts at http://{host}:{listener.getsockname()[1]}/retrain")
        uvicorn.Server(config).run(sockets=[listener])
    return 0


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"give HOST:PORT, such as 127.0.0.1:5003, not {text!r}")
    return host, int(port)


def _tell(sentence: str) -> None:
    print(sentence, flush=True)
