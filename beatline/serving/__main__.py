"""Serve the trained models of this project: ``python -m beatline.serving``, in its root folder.

A parent process holds the port and watches its workers, each of which answers on its own. SIGTERM and
Ctrl-C end them when they have answered what they have begun; SIGHUP replaces them one after another.
"""

from __future__ import annotations

import argparse
import errno
import json
import math
import os
import socket
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prometheus_client import multiprocess
from uvicorn import Config
from uvicorn.supervisors.multiprocess import Multiprocess, Process

from beatline import params
from beatline.errors import UserError, reporting_mistakes
from beatline.serving import registry
from beatline.serving.settings import Serve
from beatline.serving.telemetry import FOLDER as METRICS_FOLDER
from beatline.serving.telemetry import WORKERS_READY

APPLICATION = "beatline.serving.app:of_project"
MAX_WORKERS = 4  # by default
CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")  # microseconds of processors, in so many microseconds
SECONDS_TO_LOAD = 60  # at most, of a worker that takes another's place at SIGHUP
LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"format": "%(asctime)s %(process)d %(levelname)s %(message)s"},
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
    "loggers": {"beatline.serving": {"level": "INFO"}, "uvicorn.access": {"level": "INFO"}},
}


class Supervisor(Multiprocess):
    """Workers that are replaced when they die; what a dead one held is taken out of the metrics."""

    def __init__(self, config: Config, listener: socket.socket, url: str) -> None:
        super().__init__(config, [listener])
        self.failed = False
        self._url = url
        self._healthy = threading.Event()
        self._pids: set[int] = set()

    def run(self) -> None:
        threading.Thread(target=self._announce, daemon=True).start()
        super().run()

    def keep_subprocess_alive(self) -> None:
        """Replace the dead. Without uvicorn's pings, which take a busy worker for a dead one, and wait
        for the answer of one that has just died."""
        for number, process in enumerate(self.processes):
            if process.exitcode is None:
                continue
            if not self._healthy.is_set():
                # It would die again and again. Its own words stand above.
                print("error: a worker ended before it could answer", file=sys.stderr)
                self.failed = True
                self.should_exit.set()
                return
            print(f"worker {process.pid} has ended and is replaced", file=sys.stderr, flush=True)
            self.processes[number] = Process(self.config, self.sockets)
            self.processes[number].start()
        self._forget_the_dead()

    def terminate_all(self) -> None:
        for listener in self.sockets:
            listener.close()  # who comes now is refused rather than left waiting
        super().terminate_all()

    def _forget_the_dead(self) -> None:
        alive = {process.pid for process in self.processes if process.pid}
        for pid in self._pids - alive:
            multiprocess.mark_process_dead(pid)
        self._pids = alive

    def _announce(self) -> None:
        """Say where to go once the models answer, and before that what they wait for, if it lasts."""
        said = ""
        while not self.should_exit.wait(0.1):
            reason = _why_not_healthy(self._url, self.config.workers)
            if reason is None:
                self._healthy.set()
                os.environ[registry.LOAD_FIRST] = "1"  # for workers that replace others from now on
                print(f"Beatline answers at {self._url} (Ctrl-C ends it)", flush=True)
                return
            if reason not in ("", said) and not reason.startswith("loading"):
                print(f"not healthy yet: {reason}", file=sys.stderr, flush=True)
                said = reason


def _why_not_healthy(url: str, workers: int) -> str | None:
    """None if all workers are; "" if that cannot be told yet."""
    # Never by a proxy, which could not reach this machine's own address.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}/health", timeout=10), opener.open(f"{url}/metrics") as metrics:
            return None if f"{WORKERS_READY} {workers}.0" in metrics.read().decode() else ""
    except urllib.error.HTTPError as error:
        return json.loads(error.read())["detail"]
    except OSError:
        return ""


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m beatline.serving", description="Serve the trained models of this project."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=_port, default=5000, help="0: any free one (%(default)s)")
    parser.add_argument(
        "--workers",
        type=_workers,
        default=min(MAX_WORKERS, _cores()),
        help="processes that answer (the cores there are, at most %(default)s here)",
    )
    parser.add_argument("--access-log", action="store_true", help="a line per request, on stderr")
    return parser.parse_args(arguments)


def _cores() -> int:
    """Those that this process may use, in a container those that it is limited to."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        quota, period = CPU_LIMIT.read_text().split()
        return max(1, min(cores or 1, int(quota) // int(period)))
    except (OSError, ValueError):  # no container, or no limit ("max")
        return cores or 1


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"a port is a number from 0 to 65535, not {text!r}")
    return int(text)


def _workers(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"a number of processes is at least 1, not {text!r}")
    return int(text)


def _listener(host: str, port: int) -> socket.socket:
    """A listening socket. Raises UserError if the address cannot be had."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server((address[0], port), family=family, backlog=2048)
    except socket.gaierror:
        raise UserError(f"--host {host}: there is no such address") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UserError(
                f"port {port} of {host} is in use: end what answers there, or name another by --port"
            ) from None
        raise UserError(f"port {port} of {host} cannot be opened: {error.strerror}") from None


def _url(host: str, listener: socket.socket) -> str:
    """Where a program on this machine reaches it."""
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}
    name = everywhere.get(host, host)
    name = f"[{name}]" if ":" in name else name
    return f"http://{name}:{listener.getsockname()[1]}"


def _limits(root: Path) -> Serve:
    """The block `serve`. Raises UserError if it is wrong or there is nothing to serve yet."""
    content = params.load()
    limits = params.block(content, "serve", Serve)
    wanted = registry.wanted(content)
    registry.check_features(limits.features, wanted)
    if not any((root / registry.FOLDER / key / registry.FILES[0]).exists() for key in wanted):
        raise UserError(registry.NONE_YET)
    return limits


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    limits = _limits(Path.cwd())
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # workers share the cores already
    listener = _listener(options.host, options.port)
    config = Config(
        APPLICATION,
        factory=True,
        workers=options.workers,
        loop="uvloop",
        http="httptools",
        ws="none",
        log_config=LOGGING,
        access_log=options.access_log,
        server_header=False,
        timeout_graceful_shutdown=math.ceil(limits.seconds_to_answer),
        timeout_worker_healthcheck=SECONDS_TO_LOAD,
    )
    with listener, tempfile.TemporaryDirectory(prefix="beatline-metrics-") as folder:
        os.environ[METRICS_FOLDER] = folder
        supervisor = Supervisor(config, listener, _url(options.host, listener))
        supervisor.run()
    return int(supervisor.failed)


if __name__ == "__main__":
    with reporting_mistakes():
        sys.exit(main())
