"""What hostile clients cost the API, and what others notice of them.

Run as `python -m benchmarks.hostile_clients [ATTACK …]` in a project whose models are trained (about six
minutes). It starts `beatline serve` anew for each attack, and attacks it from a process of its own, while
another client asks for ``/health`` and for a picture of a digit, as a person at the page does. Printed
are the growth of memory of all processes of the server (at its highest, and after a rest), and the times
that others wait. Exits with status 1 if a line does not hold.
"""

from __future__ import annotations

import argparse
import http.client
import io
import multiprocessing
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import numpy as np
import psutil
from PIL import Image

from beatline.common import params
from beatline.common.errors import UserError, reporting_mistakes
from beatline.monitoring.settings import VARIABLE
from benchmarks.serving import exchange, post, server

LONGEST_GROWTH = 100  # MB of memory, of all processes together
LONGEST_HEALTH, LONGEST_OTHERS = 250, 200  # ms; of others the 95th percentile
SECONDS = 20  # that an attack lasts
REST = 3  # seconds after it, for what it leaves
EVERY = 0.05  # seconds between two looks at memory, and two requests of others
ECG = "/models/ptbxl/cnn/predict"
DIGIT = "/models/mnist/cnn/predict"

Attack = Callable[[int, float], None]


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=5)


@contextmanager
def ended_by_server() -> Iterator[None]:
    """Ignore that the server ends a connection, as it should."""
    with suppress(OSError):
        yield


def together(count: int, client: Callable[[], None]) -> None:
    """Run so many clients at once, each in a thread, until all have ended."""
    threads = [threading.Thread(target=client) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# Attacks. Each gets the port and the time at which it ends.


def long_header(port: int, end: float) -> None:
    """Two connections whose headers never end, up to 800 MB each."""
    line = b"X-%d: " + b"a" * 4000 + b"\r\n"

    def client() -> None:
        with ended_by_server(), connected(port) as connection:
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n")
            for number in range(200_000):
                connection.sendall(line % number)
                if time.monotonic() > end:
                    return

    together(2, client)


def many_headers(port: int, end: float) -> None:
    """Two connections with headers of four bytes, without end."""
    lines = b"a:\r\n" * 10_000

    def client() -> None:
        with ended_by_server(), connected(port) as connection:
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n")
            while time.monotonic() < end:
                connection.sendall(lines)

    together(2, client)


def idle(port: int, end: float) -> None:
    """4,000 connections: half of them say nothing, half send a header a letter at a time."""
    connections: list[socket.socket] = []
    for number in range(4000):
        with ended_by_server():
            connections.append(connected(port))
            if number % 2:
                connections[-1].sendall(b"GET /health HTTP/1.1\r\nX: " + b"a" * 1000)
    while time.monotonic() < end:
        for connection in connections[1::2]:
            with ended_by_server():
                connection.sendall(b"a")
        time.sleep(1)


def pipeline(port: int, end: float) -> None:
    """Connections that send requests without end, and read no answer."""
    requests = b"GET /models HTTP/1.1\r\nHost: localhost\r\n\r\n" * 5000

    def client() -> None:
        while time.monotonic() < end:
            with ended_by_server(), connected(port) as connection:
                connection.settimeout(max(end - time.monotonic(), 0.1))
                while time.monotonic() < end:
                    connection.sendall(requests)

    together(8, client)


def bodies(port: int, end: float) -> None:
    """60 connections that send all but the last byte of the largest body."""
    size = largest()
    head = post(ECG, b"", Content_Type="application/octet-stream", X_Shape="333333,12")
    head = head.replace(b"Content-Length: 0", b"Content-Length: %d" % size)

    def client() -> None:
        while time.monotonic() < end:
            with ended_by_server(), connected(port) as connection:
                connection.settimeout(max(end - time.monotonic(), 0.1))
                connection.sendall(head)
                for _ in range(15):
                    connection.sendall(bytes(size // 16))
                connection.sendall(bytes(size - 15 * (size // 16) - 1))
                connection.recv(1000)
                time.sleep(0.2)

    together(60, client)


def explanations(port: int, end: float) -> None:
    """Six clients that ask, again and again, for the explanation of the largest recording."""
    steps = largest() // 4 // 12
    noise = np.random.default_rng(0).standard_normal((steps, 12)).astype(np.float32)
    options = {"Content_Type": "application/octet-stream", "X_Shape": f"{steps},12"}
    request = post(f"{ECG}?explain=true", noise.tobytes(), **options, X_Sampling_Rate="100")
    _ask(6, port, end, [request])


def long_recordings(port: int, end: float) -> None:
    """Six clients that ask for explanations of recordings as long as these are answered."""
    requests = []
    for steps in (3000, 10_000, 30_000):
        noise = np.random.default_rng(0).standard_normal((steps, 12)).astype(np.float32)
        options = {"Content_Type": "application/octet-stream", "X_Shape": f"{steps},12"}
        path = f"{ECG.replace('cnn', 'cnn_lstm')}?explain=true&recording=true"
        requests.append(post(path, noise.tobytes(), **options, X_Sampling_Rate="100"))
    _ask(6, port, end, requests)


def json_values(port: int, end: float) -> None:
    """Six clients that send the largest recording as JSON."""
    body = b"[" + b"1," * (largest() // 2 - 2) + b"1]"
    _ask(6, port, end, [post(ECG, body, Content_Type="application/json")])


def empty_rows(port: int, end: float) -> None:
    """Four clients that send five million empty rows of features each."""
    body = b"[" + b"[]," * (largest() // 3 - 2) + b"[]]"
    _ask(4, port, end, [post("/predict", body, Content_Type="application/json")])


def long_texts(port: int, end: float) -> None:
    """Four clients whose largest bodies are more values than there may be, and a text of all the rest,
    with and without escapes and an end, or a key."""
    ones = b"[" + b"1," * 180_000
    rest = (largest() - len(ones) - 10) // 2
    bodies = {
        "/predict": [
            ones + b'"' + part * rest + end for part in (b"aa", rb"\"") for end in (b'"]', b"")
        ],
        "/feedback": [b'{"' + b"aa" * rest + b'": 1}'],
    }
    _ask(4, port, end, _json(bodies))


def small_objects(port: int, end: float) -> None:
    """Four clients whose largest bodies are lists of a value, objects, texts or channels' names."""
    most = largest()
    named = b",".join(b'"%x": [1]' % number for number in range(most // 14))
    lists, objects, texts = (
        b"[" + part * ((most - 4) // len(part)) + b"1]" for part in (b"[1],", b"{},", b'"",')
    )
    bodies = {
        "/feedback": [lists, objects, texts],
        ECG: [lists, objects, texts, b'{"signal": {%s}}' % named],
        "/predict": [objects, texts],
    }
    _ask(4, port, end, _json(bodies))


def outputs(port: int, end: float) -> None:
    """Four clients that ask for the same output of the inference protocol 12,000 times."""
    names = b",".join([b'{"name": "probabilities"}'] * 12_000)
    values = b",".join([b"0"] * 120)
    tensor = b'{"name": "recording", "shape": [10, 12], "datatype": "FP32", "data": [%s]}' % values
    body = b'{"inputs": [%s], "outputs": [%s]}' % (tensor, names)
    _ask(4, port, end, _json({"/v2/models/ptbxl.cnn/infer": [body]}))


def _json(bodies: dict[str, list[bytes]]) -> list[bytes]:
    """Requests that send them."""
    return [
        post(path, body, Content_Type="application/json")
        for path, several in bodies.items()
        for body in several
    ]


def _ask(count: int, port: int, end: float, requests: list[bytes]) -> None:
    def client() -> None:
        number = 0
        while time.monotonic() < end:
            with ended_by_server(), connected(port) as connection:
                connection.settimeout(60)
                connection.sendall(requests[number % len(requests)])
                if not connection.recv(1 << 16).startswith(b"HTTP/1.1 200"):
                    time.sleep(0.1)
            number += 1

    together(count, client)


ATTACKS: dict[str, Attack] = {
    attack.__name__: attack
    for attack in (
        long_header, many_headers, idle, pipeline, bodies, explanations, long_recordings,
        json_values, empty_rows, long_texts, small_objects, outputs,
    )
}  # fmt: skip


def largest() -> int:
    """The bytes of the largest body that params.yaml allows."""
    return int(params.load()["serve"]["max_megabytes"] * 1e6)


# What others notice


@dataclass
class Others:
    """Seconds that answers took, by what was asked for; requests that got none."""

    health: list[float] = field(default_factory=list)
    digit: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def picture() -> bytes:
    """A picture of something like a seven, as a PNG file."""
    drawn = np.zeros((28, 28), np.uint8)
    drawn[6:8, 7:21] = 255
    drawn[8:23, 17:19] = 255
    written = io.BytesIO()
    Image.fromarray(drawn).save(written, "PNG")
    return written.getvalue()


def ask(port: int, others: Others, stop: threading.Event) -> None:
    """Ask for health and a digit in turns, each by a new connection."""
    requests = ((others.health, "GET", "/health", b""), (others.digit, "POST", DIGIT, picture()))
    while not stop.is_set():
        for seconds, method, path, body in requests:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            began = time.perf_counter()
            try:
                connection.request(method, path, body, {"Content-Type": "image/png"})
                response = connection.getresponse()
                content = response.read()
                if response.status != 200:
                    others.failed.append(f"{response.status}: {content[:200]!r}")
            except (OSError, http.client.HTTPException) as error:
                others.failed.append(repr(error))
            seconds.append(time.perf_counter() - began)
            connection.close()
        stop.wait(EVERY)


def wait_for_all(port: int, request: bytes) -> None:
    """Wait until each process of the server answers: any of them may be asked."""
    answered = 0
    while answered < 20:
        try:
            exchange(port, [request], 1)
            answered += 1
        except UserError:
            answered = 0
            time.sleep(EVERY)


def memory(processes: list[psutil.Process]) -> float:
    """MB of the processes together; what they share counts once for each."""
    return sum(process.memory_info().rss for process in processes) / 1e6


@contextmanager
def processes_of(port: int) -> Iterator[list[psutil.Process]]:
    """The processes of the server that this one has started."""
    parent = next(child for child in psutil.Process().children() if _listens(child, port))
    yield [parent, *parent.children(recursive=True)]


def _listens(process: psutil.Process, port: int) -> bool:
    return any(
        connection.laddr.port == port and connection.status == psutil.CONN_LISTEN
        for connection in process.net_connections("tcp")
    )


@contextmanager
def logging_answers() -> Iterator[None]:
    """Have the server log answers, as one that takes feedback does."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ[VARIABLE] = f"{folder}/answers.db"
        yield


def attacked(name: str) -> bool:
    """Print the line of an attack; whether it holds."""
    others, stop = Others(), threading.Event()
    with (
        logging_answers(),
        server("beatline", "serve") as (port, _),
        processes_of(port) as processes,
    ):
        digit = post(DIGIT, picture(), Content_Type="image/png")
        wait_for_all(port, digit)
        exchange(port, [digit], 200, clients=8)  # what is imported and kept anyway
        before = highest = memory(processes)
        end = time.monotonic() + SECONDS
        attack = multiprocessing.Process(target=ATTACKS[name], args=(port, end))
        asking = threading.Thread(target=ask, args=(port, others, stop))
        attack.start()
        asking.start()
        while attack.is_alive() and time.monotonic() < end + REST:
            highest = max(highest, memory(processes))
            time.sleep(EVERY)
        attack.kill()
        time.sleep(REST)
        stop.set()
        asking.join()
        left = memory(processes)
    health, digits = max(others.health) * 1e3, float(np.percentile(others.digit, 95)) * 1e3
    holds = (
        highest - before <= LONGEST_GROWTH
        and health <= LONGEST_HEALTH
        and digits <= LONGEST_OTHERS
        and not others.failed
    )
    print(
        f"| {name} | {highest - before:.0f} MB | {left - before:.0f} MB | {health:.0f} ms "
        f"| {digits:.0f} ms | {len(others.digit)} | {len(others.failed)} "
        f"| {'yes' if holds else 'NO'} |",
        flush=True,
    )
    for reason in sorted(set(others.failed))[:3]:
        print(f"  {reason}", file=sys.stderr)
    return holds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("attacks", nargs="*", help=", ".join(ATTACKS))
    chosen = parser.parse_args().attacks or list(ATTACKS)
    print(
        "| attack | memory, highest | after | /health, longest | digit, p95 | asked | failed | holds |"
    )
    print(
        "|--------|----------------:|------:|-----------------:|-----------:|------:|-------:|-------|"
    )
    held = [attacked(name) for name in chosen]
    return int(not all(held))


if __name__ == "__main__":
    with reporting_mistakes():
        sys.exit(main())
