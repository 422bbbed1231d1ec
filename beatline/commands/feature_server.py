"""Run Feast's server, which the service asks for features and tells new ones (Ctrl-C ends it).

It has no login: leave it on an address that only this machine, or the service's network, can reach.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from beatline.commands import addresses
from beatline.feature_store import store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the address."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=addresses.port, default=6566, help="(%(default)s)")


def run(options: argparse.Namespace) -> int:
    """Become Feast's server. Raises UserError if the store is not filled or the address not to be had."""
    command, environment = store.server(Path(), options.host, options.port)
    addresses.listener(options.host, options.port).close()  # gunicorn would try and try again
    print(f"Feast answers at http://{options.host}:{options.port} in some seconds", flush=True)
    os.execve(command[0], command, environment)
