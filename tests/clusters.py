"""A scheduler and workers, started by Dask's own command, as users do."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from beatline.common import parallel
from tests.paths import ROOT

Start = Callable[..., psutil.Process]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a scheduler or a worker by Dask's own command, as users do."""
    with ExitStack() as stack:

        def begin(*words: str, code: Path = ROOT) -> psutil.Process:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *words, "--no-dashboard"],
                env={**os.environ, "PYTHONPATH": os.pathsep.join((str(code), str(ROOT)))},
                cwd=code,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            stack.callback(_end, process)
            return psutil.Process(process.pid)

        yield begin


def _end(process: subprocess.Popen[bytes]) -> None:
    for each in psutil.Process(process.pid).children(recursive=True):
        each.kill()
    process.kill()
    process.wait()


@pytest.fixture
def address(start: Start, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a scheduler without workers, which the environment names."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start("scheduler", "--host", "127.0.0.1", "--port", str(port))
    name = f"tcp://127.0.0.1:{port}"
    monkeypatch.setenv(parallel.SCHEDULER, name)
    monkeypatch.setenv(parallel.WORKERS, "2")
    for _ in range(300):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return name
        time.sleep(0.1)
    raise AssertionError("no scheduler has begun")
