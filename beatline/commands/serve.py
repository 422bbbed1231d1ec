"""Serve the trained models of this project, in its root folder.

A parent process holds the port and watches its workers, each of which answers on its own. SIGTERM and
Ctrl-C end them when they have answered what they have begun; SIGHUP replaces them one after another.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from uvicorn import Config

from beatline.commands import addresses
from beatline.common import params
from beatline.common.errors import UserError, warn
from beatline.feature_store import client
from beatline.monitoring import database
from beatline.monitoring.settings import Monitoring
from beatline.serving import access_log, hosts, origins, rates, registry, tokens
from beatline.serving.connections import BoundedProtocol
from beatline.serving.settings import PROCESSES, Serve
from beatline.serving.supervisor import Supervisor, metrics_folder
from beatline.serving.telemetry import FOLDER as METRICS_FOLDER
from beatline.serving.telemetry import SOURCES

APPLICATION = "beatline.serving.app:project_application"
MAX_WORKERS = 4  # by default
MAX_SOURCES = 50  # each is a time series
CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")  # microseconds of processors, in so many microseconds
SECONDS_TO_LOAD = 60  # at most, of a worker that takes another's place at SIGHUP
LOOKS = 5  # at files, for one at the registry of models
LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"format": "%(asctime)s %(process)d %(levelname)s %(message)s"},
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
    "loggers": {"beatline.serving": {"level": "INFO"}},
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the address, the number of processes and whether requests are logged."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument(
        "--port", type=addresses.port, default=5000, help="0: any free one (%(default)s)"
    )
    parser.add_argument(
        "--workers",
        type=_workers,
        default=min(MAX_WORKERS, _cores()),
        help="processes that answer (the cores there are, at most %(default)s here)",
    )
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name by which it may be asked for, besides localhost, --host and any address; repeat it "
        f"for more, or list them in {hosts.VARIABLE}",
    )
    parser.add_argument(
        "--source",
        action="append",
        default=[],
        type=_source,
        metavar="NAME",
        help="a value of the header X-Source whose requests are counted apart, and not as `other`; "
        f"repeat it for more (at most {MAX_SOURCES})",
    )
    parser.add_argument(
        "--models",
        choices=(registry.OWN, registry.FROM_REGISTRY),
        default=os.environ.get(registry.MODELS, registry.OWN),
        help=f"where models come from: the bundles in {registry.FOLDER}, or the champions of the "
        "registry that MLFLOW_TRACKING_URI names (%(default)s)",
    )
    parser.add_argument(
        "--access-log",
        nargs="?",
        const=access_log.STDOUT,
        metavar="FILE",
        help="a line of JSON per request, in FILE, or on stdout, which then has nothing else",
    )


def _cores() -> int:
    """Return how many cores this process may use; in a container, how many it is limited to."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        quota, period = CPU_LIMIT.read_text().split()
        return max(1, min(cores or 1, int(quota) // int(period)))
    except (OSError, ValueError):  # no container, or no limit ("max")
        return cores or 1


def _workers(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"a number of processes is at least 1, not {text!r}")
    return int(text)


def _source(text: str) -> str:
    if not re.fullmatch(r"[\w.:/-]{1,64}", text, re.ASCII):
        raise argparse.ArgumentTypeError(
            f"a source is 1 to 64 letters, digits and _.:/-, not {text!r}"
        )
    return text


def _url(host: str, listener: socket.socket) -> str:
    """Return the URL under which a program on this machine reaches the server."""
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}
    name = everywhere.get(host, host)
    name = f"[{name}]" if ":" in name else name
    return f"http://{name}:{listener.getsockname()[1]}"


def _limits(root: Path) -> Serve:
    """The block `serve`. Raises UserError if it is wrong or there is nothing to serve yet."""
    content = params.load()
    limits = params.block(content, "serve", Serve)
    wanted = registry.wanted(content)
    registry.check_behind(limits, wanted)
    if url := os.environ.get(client.VARIABLE):
        client.Client(url)  # is it one?
    origins.allowed()
    tokens.Tokens(limits.token)
    if where := params.block(content, "monitoring", Monitoring).where:
        database.address(where)
    return limits


def _check_trained(root: Path, wanted: Sequence[str]) -> None:
    if not any((root / registry.FOLDER / key / registry.FILES[0]).exists() for key in wanted):
        raise UserError(registry.NONE_YET)


@contextmanager
def _models_from(origin: str, root: Path, seconds: float) -> Iterator[None]:
    """Have models from the project's own bundles, or from the registry while this lasts.

    Raises UserError if there are none.
    """
    os.environ[registry.MODELS] = origin
    wanted = registry.wanted(params.load())
    if origin == registry.OWN:
        _check_trained(root, wanted)
        if params.block(params.load(), "monitoring", Monitoring).shadow:
            warn(
                "monitoring.shadow: no challenger answers, since these come from the registry: serve by "
                "--models registry"
            )
        yield
        return
    from beatline.tracking.champions import (
        Champions,  # with MLflow, which is installed for this alone
    )

    shadow = params.block(params.load(), "monitoring", Monitoring).shadow
    champions = Champions(root, wanted, seconds, challengers=shadow is not None)
    champions.start()
    try:
        yield
    finally:
        champions.stop()


def _logging(path: str | None) -> dict[str, Any]:
    """LOGGING, with the access log. Raises UserError if that cannot be written."""
    access = access_log.logging_of(path)
    return {**LOGGING, **{key: {**LOGGING[key], **access[key]} for key in access}}


def run(options: argparse.Namespace) -> int:
    """Answer until a signal ends it; 1 if no worker could. Raises UserError if there is nothing to serve
    or the address cannot be had."""
    token = tokens.settle()
    limits = _limits(Path.cwd())
    if len(options.source) > MAX_SOURCES:
        raise UserError(
            f"--source is given {len(options.source)} times: name at most {MAX_SOURCES}"
        )
    os.environ[SOURCES] = " ".join(options.source)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # workers share the cores already
    # What large bodies have taken goes back to the system: glibc would keep it, by thread.
    os.environ.setdefault("MALLOC_ARENA_MAX", "2")
    os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", "1000000")
    os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", "8000000")
    os.environ[PROCESSES] = str(options.workers)
    given = os.environ.get(hosts.VARIABLE, "")
    os.environ[hosts.VARIABLE] = " ".join([given, options.host, *options.allow_host])
    hosts.allowed()  # are they names?
    listener = addresses.listener(options.host, options.port)
    config = Config(
        APPLICATION,
        factory=True,
        workers=options.workers,
        loop="uvloop",
        http=BoundedProtocol,
        ws="none",
        log_config=_logging(options.access_log),
        access_log=False,  # uvicorn's, which knows neither durations nor ids
        server_header=False,
        timeout_graceful_shutdown=math.ceil(limits.seconds_to_answer),
        timeout_worker_healthcheck=SECONDS_TO_LOAD,
    )
    with (
        listener,
        _models_from(options.models, Path.cwd(), LOOKS * limits.poll_seconds),
        metrics_folder() as folder,
    ):
        os.environ[METRICS_FOLDER] = str(folder)
        rates.share(folder / "rates")
        announcements = sys.stderr if options.access_log == access_log.STDOUT else sys.stdout
        supervisor = Supervisor(
            config, listener, _url(options.host, listener), announcements, token
        )
        supervisor.run()
    return int(supervisor.failed)
