"""What the log of answers costs the service, and how fast it is read.

Run as `python -m benchmarks.logging` in a project whose models are trained, on a machine with nothing
else to do (two minutes). It starts a server that logs to SQLite, one that logs to a real PostgreSQL and,
as the baseline, one that logs nothing, and asks them the same ECGs in turns. Then it reads a log of a
hundred thousand answers in a process of its own. `--fill FILE` makes such a log and does nothing else.
Exits with status 1 if something costs more than it may.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np

from beatline.common.errors import UserError, reporting_mistakes
from beatline.monitoring import retention
from beatline.monitoring.answers import Answer, AnswerLog
from beatline.monitoring.settings import VARIABLE
from benchmarks.serving import ECG, Exchange, exchange, in_turns, post, raw_recordings, server
from tests import postgresql

NOTHING, SQLITE, POSTGRESQL = "nothing", "SQLite", "PostgreSQL"
ONE_CLIENT, EIGHT_CLIENTS = 4000, 8000
ANSWERS, AT_ONCE = 100_000, 1000
CLASSES, EMBEDDING = 5, 174  # of ptbxl/cnn
MOST_SLOWER, LEAST_RATE = 0.1, 0.95  # ms, share of the requests per second
MOST_SECONDS, MOST_MEGABYTES = 5.0, 300.0
READ = """
import re, sys, time
from pathlib import Path
from beatline.monitoring.answers import AnswerLog
began = time.perf_counter()
with AnswerLog(sys.argv[1]) as log:
    window = log.window("ptbxl", "cnn")
seconds = time.perf_counter() - began
# Not by getrusage, which counts what the process was before it became this one.
peak = re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())
print(len(window), seconds, int(peak[1]) * 1024 / 1e6)
"""


def fill(where: str, count: int) -> None:
    """Write made-up answers of ptbxl/cnn, a minute apart until now."""
    generator = np.random.default_rng(1)
    first = datetime.now(UTC) - timedelta(minutes=count)
    with AnswerLog(where) as log:
        for begin in range(0, count, AT_ONCE):
            scores = generator.random((AT_ONCE, CLASSES), np.float32)
            embeddings = generator.standard_normal((AT_ONCE, EMBEDDING), np.float32)
            log.write(
                [
                    Answer(
                        id=uuid.UUID(bytes=generator.bytes(16)).hex,
                        moment=first + timedelta(minutes=begin + number),
                        dataset="ptbxl",
                        model="cnn",
                        weights="0" * 64,
                        version=None,
                        role="champion",
                        scores=scores[number],
                        decisions=scores[number] > 0.5,
                        warnings=["far"] if number % 10 == 0 else [],
                        seconds=0.002,
                        embedding=embeddings[number],
                        entity=f"patient-{number}",
                        thresholds=np.full(CLASSES, 0.5, np.float32),
                    )
                    for number in range(min(AT_ONCE, count - begin))
                ]
            )


@contextmanager
def serving(where: str) -> Iterator[int]:
    """The port of a server that logs there, nowhere if it is empty."""
    os.environ[VARIABLE] = where
    with server("beatline", "serve") as (port, _):
        yield port


def ask(requests: list[bytes], port: int, count: int, clients: int = 1) -> Exchange:
    return exchange(port, requests, count, clients)


def cost(folder: Path) -> list[str]:
    """Print what logging costs; what costs too much."""
    _, recordings = raw_recordings(ECG)
    about = {"X_Shape": f"{recordings.shape[1]},{recordings.shape[2]}"}
    about["Content_Type"] = "application/octet-stream"
    path = f"/models/{ECG}/predict"
    requests = [post(path, each.astype("<f4").tobytes(), **about) for each in recordings]
    (folder / "postgresql").mkdir()
    with (
        postgresql.server(folder / "postgresql") as main,
        postgresql.database(main) as database,
        serving("") as nothing,
        serving(str(folder / "answers.db")) as sqlite,
        serving(database) as postgres,
    ):
        ports = {NOTHING: nothing, SQLITE: sqlite, POSTGRESQL: postgres}
        alone = in_turns(ONE_CLIENT, *(partial(ask, requests, port) for port in ports.values()))
        crowd = in_turns(
            EIGHT_CLIENTS, *(partial(ask, requests, port, clients=8) for port in ports.values())
        )
        time.sleep(2)
        logged = {SQLITE: str(folder / "answers.db"), POSTGRESQL: database}
        counts = {name: _count(where) for name, where in logged.items()}
    print("| log | one client, p50 | p99 | 8 clients | p99 | answers in the log |")
    print("|-----|----------------:|----:|----------:|----:|-------------------:|")
    wrong = []
    for name, one, eight in zip(ports, alone, crowd, strict=True):
        print(
            f"| {name} | {one.percentile(50):.3f} ms | {one.percentile(99):.2f} ms "
            f"| {eight.rate:.0f}/s | {eight.percentile(99):.2f} ms | {counts.get(name, '')} |"
        )
        slower, rate = one.percentile(50) - alone[0].percentile(50), eight.rate / crowd[0].rate
        if slower > MOST_SLOWER or rate < LEAST_RATE:
            wrong.append(f"{name}: {slower:.3f} ms slower, {rate:.1%} of the requests per second")
        if name in counts and counts[name] < len(one.bodies) + len(eight.bodies):
            wrong.append(f"{name}: {counts[name]} answers are logged, and more were given")
    return wrong


def _count(where: str) -> int:
    with AnswerLog(where) as log:
        return retention.state(log).answers


def reading(folder: Path) -> list[str]:
    """Print how long a large log is read; what is too slow or too large."""
    where = str(folder / "large.db")
    began = time.perf_counter()
    fill(where, ANSWERS)
    print(f"\n{ANSWERS:,} answers, written in {time.perf_counter() - began:.1f} s", end="")
    print(f", take {Path(where).stat().st_size / 1e6:.0f} MB")
    done = subprocess.run([sys.executable, "-c", READ, where], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"the log could not be read: {done.stderr[-1000:]}")
    rows, seconds, megabytes = map(float, done.stdout.split())
    print(f"read as a window in {seconds:.2f} s, by a process of at most {megabytes:.0f} MB")
    if rows != ANSWERS or seconds > MOST_SECONDS or megabytes > MOST_MEGABYTES:
        return [f"a window of {rows:.0f} answers: {seconds:.2f} s, {megabytes:.0f} MB"]
    return []


def main() -> int:
    """Print the tables; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--fill", metavar="FILE", help="only make a log of made-up answers there")
    parser.add_argument("--answers", type=int, default=ANSWERS, help="so many (%(default)s)")
    parser.add_argument("--reading", action="store_true", help="only read, no server")
    options = parser.parse_args()
    if options.fill:
        fill(options.fill, options.answers)
        return 0
    with tempfile.TemporaryDirectory() as name:
        wrong = [] if options.reading else cost(Path(name))
        wrong += reading(Path(name))
    for sentence in wrong:
        print(f"error: {sentence}", file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    with reporting_mistakes():
        sys.exit(main())
