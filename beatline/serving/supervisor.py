"""The parent process: it holds the port and watches its workers, each of which answers on its own.

SIGTERM and Ctrl-C end the workers when they have answered what they have begun; SIGHUP replaces them one
after another.
"""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TextIO

from prometheus_client import multiprocess
from uvicorn import Config
from uvicorn.supervisors.multiprocess import Multiprocess, Process

from beatline.serving import registry
from beatline.serving.telemetry import FOLDER, WORKERS_READY

METRICS = "beatline-metrics-"  # begins the names of folders for metrics
SECONDS_TO_LOCK = 60  # after which a folder that nobody holds has been left
SECONDS_WITHOUT_PARENT = 1.5  # for what has begun to be answered


@dataclass
class _Coming:
    """A worker that is to take the place of that with the `number`, if it is ready by the `deadline`."""

    number: int
    process: Process
    deadline: float
    asked: bool = False

    def is_ready(self) -> bool:
        """Whether it has said so. Never waits: it is asked now, and heard at the next call."""
        connection = self.process.parent_conn
        try:
            if not self.asked:
                connection.send(b"ping")
            self.asked = not connection.poll()
            return not self.asked and connection.recv()
        except (OSError, EOFError):
            return False  # it ends


class Supervisor(Multiprocess):
    """Workers that are replaced when they die; what a dead one held is taken out of the metrics. A
    restart goes on by small steps, so that signals are heard and the dead replaced meanwhile."""

    def __init__(
        self,
        config: Config,
        listener: socket.socket,
        url: str,
        announcements: TextIO,
        token: str,
    ) -> None:
        super().__init__(config, [listener])
        self._token = token  # for its own questions
        self._announcements = announcements
        self.failed = False
        self._url = url
        self._healthy = threading.Event()
        self._pids: set[int] = set()
        self._outdated: list[int] = []  # numbers of the workers that are to be replaced
        self._coming: _Coming | None = None
        self._leaving: list[Process] = []  # have been told to end

    def run(self) -> None:
        threading.Thread(target=self._announce, daemon=True).start()
        super().run()

    def keep_subprocess_alive(self) -> None:
        """Replace the dead. Without uvicorn's pings, which take a busy worker for a dead one, and wait
        for the answer of one that has just died."""
        if self.should_exit.is_set() or self.signal_queue:
            return  # the signal that ends this process may have ended its workers first
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
            self.processes[number] = self._started()
        self._go_on_restarting()
        self._forget_the_dead()

    def handle_hup(self) -> None:
        self._outdated = [*range(len(self.processes))]

    def handle_ttou(self) -> None:
        if self.processes_num > 1:
            self.processes_num -= 1
            self._retire(self.processes.pop())

    def terminate_all(self) -> None:
        for listener in self.sockets:
            listener.close()  # who comes now is refused rather than left waiting
        if self._coming:
            self._retire(self._coming.process)
        super().terminate_all()

    def join_all(self) -> None:
        super().join_all()
        for process in self._leaving:
            process.join()

    def _go_on_restarting(self) -> None:
        """Take the next step: one worker comes at a time, and the next when the one before has left."""
        self._leaving = [process for process in self._leaving if process.exitcode is None]
        coming = self._coming
        if coming is None:
            if self._outdated and not self._leaving:
                deadline = time.monotonic() + self.config.timeout_worker_healthcheck
                self._coming = _Coming(self._outdated.pop(0), self._started(), deadline)
        elif coming.process.exitcode is not None or time.monotonic() > coming.deadline:
            print(
                f"error: worker {coming.process.pid} was not ready in time to replace another: the "
                f"restart ends here",
                file=sys.stderr,
                flush=True,
            )
            coming.process.kill()
            self._leaving.append(coming.process)
            self._outdated, self._coming = [], None
        elif coming.number >= len(self.processes):  # there are fewer now
            self._retire(coming.process)
            self._coming = None
        elif coming.is_ready():
            self._retire(self.processes[coming.number])
            self.processes[coming.number], self._coming = coming.process, None

    def _started(self) -> Process:
        process = Process(self.config, self.sockets)
        process.start()
        return process

    def _retire(self, process: Process) -> None:
        process.terminate()
        self._leaving.append(process)

    def _forget_the_dead(self) -> None:
        workers = [
            *self.processes,
            *self._leaving,
            *([self._coming.process] if self._coming else []),
        ]
        alive = {process.pid for process in workers if process.pid}
        for pid in self._pids - alive:
            multiprocess.mark_process_dead(pid)
        self._pids = alive

    def _announce(self) -> None:
        """Say where to go once the models answer, and before that what they wait for, if it lasts."""
        announced = ""
        while not self.should_exit.wait(0.1):
            reason = _why_not_healthy(self._url, self.config.workers, self._token)
            if reason is None:
                self._healthy.set()
                os.environ[registry.LOAD_FIRST] = "1"  # for workers that replace others from now on
                sentence = f"Beatline answers at {self._url} (Ctrl-C ends it)"
                print(sentence, file=self._announcements, flush=True)
                return
            if reason not in ("", announced) and not reason.startswith("loading"):
                print(f"not healthy yet: {reason}", file=sys.stderr, flush=True)
                announced = reason


@contextmanager
def ending_with_parent() -> Iterator[None]:
    """Let this process, if it is a worker, end within two seconds of its parent when that is killed:
    nobody would replace it or count it, and it would hold the port. The metrics go too."""
    if (parent := multiprocessing.parent_process()) is None:
        yield
        return

    def remove_metrics() -> None:
        shutil.rmtree(os.environ.get(FOLDER, ""), ignore_errors=True)

    def watch() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(SECONDS_WITHOUT_PARENT)
        remove_metrics()
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()
    try:
        yield
    finally:
        if not parent.is_alive():
            remove_metrics()


@contextmanager
def metrics_folder() -> Iterator[Path]:
    """A folder for the workers' metrics, locked while this process lives, and removed in the end. Those
    that killed servers have left go too."""
    for left in Path(tempfile.gettempdir()).glob(f"{METRICS}*"):
        with suppress(OSError), _locked(left):
            if time.time() - left.stat().st_mtime > SECONDS_TO_LOCK:
                shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=METRICS) as name, _locked(Path(name)):
        yield Path(name)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Raises OSError if another process holds the lock."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _why_not_healthy(url: str, workers: int, token: str) -> str | None:
    """Return why not all workers are healthy; None if they are, "" if that is not known yet."""
    # Never by a proxy, which could not reach this machine's own address.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    opener.addheaders.append(("Authorization", f"Bearer {token}"))
    try:
        with opener.open(f"{url}/health", timeout=10), opener.open(f"{url}/metrics") as metrics:
            return None if f"{WORKERS_READY} {workers}.0" in metrics.read().decode() else ""
    except urllib.error.HTTPError as error:
        if error.code == HTTPStatus.TOO_MANY_REQUESTS:  # there is an answer: soon the next
            return ""
        return json.loads(error.read())["detail"]
    except OSError:
        return ""
