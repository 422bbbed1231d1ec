"""How fast the API answers, against a plain endpoint of Flask, torch and JSON in the same run.

Run as `python -m benchmarks.serving` in a project whose models are trained (about two minutes). It starts
`beatline serve` and `python -m benchmarks.plain_endpoint` on loopback, sends both the same
test recordings over connections that stay open, in turns, and compares every answer with what torch says
in this process. Then it measures networks alone: torch against ONNX Runtime, and whether eight
recordings together cost less than eight alone. Exits with status 1 if a line is slower than it must
be or an answer differs by more than 1e-5.

One loop that waits for all sockets at once sends the requests: threads would wait for each other. What it
costs is measured too, against a server that answers at once.
"""

from __future__ import annotations

import argparse
import gc
import http.client
import io
import json
import os
import re
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from beatline import bundle
from beatline.bundle import Bundle
from beatline.bundle.model_info import GRAPH
from beatline.common import params
from beatline.common.errors import UserError, reporting_mistakes
from beatline.export.session import ANSWERS, WINDOWS, open_session
from beatline.prediction.windows import starts
from beatline.preprocessing.arrays import load_split
from beatline.preprocessing.normalization import Normalization
from beatline.sources.pack import Pack

MODELS, NORMALIZED, RAW = Path("data/models"), Path("data/normalized"), Path("data/raw")
ECG, SOUNDS = "ptbxl/cnn", ("machine_sound/autoencoder", "machine_sound/embedding")
RECORDINGS = 64  # different ones, so that none is answered from a cache
SOUND_SECONDS = 10
WARM_UP, ROUNDS = 50, 4
ONE_CLIENT, EIGHT_CLIENTS, PLAIN_EIGHT_CLIENTS, OF_SOUND, STARTS = 2000, 10_000, 1000, 300, 5
TOGETHER, REPEATS = 8, 30
TOLERANCE = 1e-5
LONGEST_START, LONGEST_ANSWER = 120, 60  # seconds, after which something is broken
LAST_WORDS = 3000  # characters of a server that failed
SEND_BUFFER = 1 << 20  # bytes: a whole request, so that sending one keeps nobody waiting
CLOSES = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


# Servers


@contextmanager
def server(*command: str) -> Iterator[tuple[int, float]]:
    """The port of a server that runs until the block ends, and the seconds until it was healthy.

    Its number of threads is its own decision. It is in a group of its own, which ends with the block
    whatever happens in it.
    """
    port = _free_port()
    environment = {name: value for name, value in os.environ.items() if "NUM_THREADS" not in name}
    with tempfile.TemporaryFile() as words:
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", *command, "--port", str(port)],
            env=environment,
            stdout=words,
            stderr=words,
            start_new_session=True,
        )
        try:
            while not _healthy(port):
                if process.poll() is not None or time.perf_counter() - began > LONGEST_START:
                    raise UserError(f"{command[0]} did not start")
                time.sleep(0.01)
            yield port, time.perf_counter() - began
        except UserError as error:
            words.seek(0)
            last = words.read().decode(errors="replace")[-LAST_WORDS:].strip()
            raise UserError(f"{error}\nThe last words of {command[0]}:\n{last}") from None
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask it to stop, and end what is left of its group."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(LONGEST_ANSWER)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LONGEST_ANSWER)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


@contextmanager
def nothing() -> Iterator[int]:
    """The port of a server that reads requests and answers without looking at them: what is measured
    against it is the cost of measuring. A thread per connection, each in this process."""
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"

    def serve(connection: socket.socket) -> None:
        with connection:
            received = bytearray()
            while more := connection.recv(1 << 20):
                received += more
                if _is_complete(received):
                    connection.sendall(answer)
                    received.clear()

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:  # closed
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]


# Clients


@dataclass(frozen=True)
class Exchange:
    """Requests and their answers: `latencies` in seconds and `bodies`, in the order of the requests;
    `seconds` from the first request to the last answer. `counts` of the runs it was put together of."""

    latencies: np.ndarray
    bodies: list[bytes]
    seconds: float
    counts: tuple[int, ...]

    def percentile(self, percent: float) -> float:
        """In milliseconds."""
        return float(np.percentile(self.latencies, percent) * 1e3)

    @property
    def rate(self) -> float:
        """Requests per second."""
        return len(self.bodies) / self.seconds

    def __add__(self, other: Exchange) -> Exchange:
        latencies = np.concatenate([self.latencies, other.latencies])
        seconds, counts = self.seconds + other.seconds, self.counts + other.counts
        return Exchange(latencies, self.bodies + other.bodies, seconds, counts)


def post(path: str, body: bytes, **headers: str) -> bytes:
    """The bytes of a request; `X_Shape` is the header X-Shape."""
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def exchange(port: int, requests: Sequence[bytes], count: int, clients: int = 1) -> Exchange:
    """Send `count` requests, those given in turn, by so many clients of which each waits for its answer.

    Raises UserError for any answer but 200, and if a connection breaks.
    """
    answers: list[tuple[float, bytes]] = [(0.0, b"")] * count
    with selectors.DefaultSelector() as selector, ExitStack() as stack:
        together = [stack.enter_context(_Client(port, selector)) for _ in range(clients)]
        gc.collect()
        gc.disable()
        stack.callback(gc.enable)
        began, asked, done = time.perf_counter(), 0, 0
        free = together[:count]
        while done < count:
            for client in free[: count - asked]:
                client.send(asked, requests[asked % len(requests)])
                asked += 1
            ready = selector.select(LONGEST_ANSWER)
            if not ready:
                raise UserError(f"no answer within {LONGEST_ANSWER} seconds")
            free = [client for key, _ in ready if (client := key.data).receive()]
            for client in free:
                answers[client.number] = client.latency, client.body()
            done += len(free)
        seconds = time.perf_counter() - began
    latencies = np.array([latency for latency, _ in answers])
    return Exchange(latencies, [body for _, body in answers], seconds, (count,))


class _Client:
    """One connection, which is opened again if the server closes it after an answer, as Flask's does."""

    def __init__(self, port: int, selector: selectors.BaseSelector) -> None:
        self.number, self.latency = 0, 0.0
        self._port, self._selector = port, selector
        self._connection: socket.socket | None = None
        self._received, self._sent = bytearray(), 0.0

    def __enter__(self) -> _Client:
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection:
            self._selector.unregister(self._connection)
            self._connection.close()
            self._connection = None

    def send(self, number: int, request: bytes) -> None:
        self._received.clear()
        self.number, self._sent = number, time.perf_counter()
        if self._connection is None:
            self._connection = self._connected()
        self._connection.sendall(request)

    def _connected(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self._port), timeout=LONGEST_ANSWER)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self._selector.register(connection, selectors.EVENT_READ, self)
        return connection

    def receive(self) -> bool:
        """Take what is there; whether the answer is complete."""
        assert self._connection
        more = self._connection.recv(1 << 16)
        if not more:
            raise UserError("the server closed a connection before it had answered")
        self._received += more
        if not _is_complete(self._received):
            return False
        self.latency = time.perf_counter() - self._sent
        if CLOSES.search(self._received):
            self.__exit__()
        return True

    def body(self) -> bytes:
        head, _, body = bytes(self._received).partition(b"\r\n\r\n")
        if head.split(None, 2)[1] != b"200":
            raise UserError(f"{head.splitlines()[0].decode()}: {body[:500].decode()}")
        return body


def _is_complete(received: bytearray) -> bool:
    """Whether a request or an answer is all there; each says how long its body is."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return False
    length = LENGTH.search(received, 0, end + 2)
    assert length, "a message without Content-Length"
    return len(received) >= end + 4 + int(length[1])


def in_turns(count: int, *measures: Callable[[int], Exchange]) -> list[Exchange]:
    """Each measure's `count` requests after a warm-up, in rounds, so that what else the machine does
    meets all of them."""
    for measure in measures:
        measure(WARM_UP)
    found: list[Exchange | None] = [None] * len(measures)
    for _ in range(ROUNDS):
        for n, measure in enumerate(measures):
            before, now = found[n], measure(count // ROUNDS)
            found[n] = now if before is None else before + now
    return [one for one in found if one is not None]


# What is sent, and what must come back


def raw_recordings(key: str) -> tuple[Bundle, np.ndarray]:
    """A bundle and test recordings `[N, T, C]` in the unit of its data set."""
    loaded = bundle.load(MODELS / key)
    signals = load_split(NORMALIZED / key.partition("/")[0] / "test").signals[:RECORDINGS]
    normal: Normalization = loaded.normalization
    raw = signals * np.asarray(normal.standard_deviation) + np.asarray(normal.mean)
    return loaded, raw.astype(np.float32)


def sounds() -> list[bytes]:
    """WAV files of 10 s: test recordings one after the other."""
    files: list[bytes] = []
    clips: list[np.ndarray] = []
    with Pack(RAW / "machine_sound.zip") as pack:
        for name in load_split(NORMALIZED / "machine_sound/test").table["record"]:
            clip, rate = soundfile.read(io.BytesIO(pack.read(name)), dtype="int16")
            clips.append(clip)
            if sum(map(len, clips)) >= SOUND_SECONDS * rate:
                written = io.BytesIO()
                whole = np.concatenate(clips)[: SOUND_SECONDS * rate]
                soundfile.write(written, whole, rate, format="WAV")
                files.append(written.getvalue())
                clips = []
    return files[:RECORDINGS]


def largest_difference(found: Exchange, classes: Sequence[str], expected: np.ndarray) -> float:
    """Between the probabilities of all answers and those expected `[N, K]` of the N requests in turn."""
    answers = [json.loads(body)["probabilities"] for body in found.bodies]
    values = np.array([[answer[name] for name in classes] for answer in answers])
    turns = np.concatenate([np.arange(count) % len(expected) for count in found.counts])
    return float(np.abs(values - expected[turns]).max())


# Networks alone


def milliseconds(run: Callable[[], object]) -> float:
    """The median duration."""
    run()
    durations = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        run()
        durations.append(time.perf_counter() - began)
    return float(np.median(durations) * 1e3)


def by_graph(session: Any, loaded: Bundle, signals: np.ndarray) -> np.ndarray:
    """Answers `[N, K]` for normalized recordings `[N, T, C]`, by ONNX Runtime."""
    first = starts(signals.shape[1], loaded.windows)
    length = min(loaded.windows.length or signals.shape[1], signals.shape[1])
    windows = np.concatenate([one[None, s : s + length] for one in signals for s in first])
    of_windows = session.run([ANSWERS], {WINDOWS: windows})[0]
    each = of_windows.reshape(len(signals), len(first), -1)
    return each.mean(axis=1) if loaded.windows.aggregate == "mean" else each.max(axis=1)


def networks(keys: Sequence[str]) -> list[str]:
    """Print a row per bundle; what is wrong with them."""
    print("one recording in this process, in ms, by one thread; by ONNX Runtime also 8 together")
    print("| bundle | torch | ONNX Runtime | ratio | 8 together, each | difference |")
    print("|--------|------:|-------------:|------:|-----------------:|-----------:|")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    wrong = []
    for key in keys:
        loaded = bundle.load(MODELS / key)
        session = open_session((MODELS / key / GRAPH).read_bytes())
        signals = np.array(
            load_split(NORMALIZED / key.partition("/")[0] / "test").signals[:RECORDINGS]
        )
        expected, found = loaded.answer(signals).values, by_graph(session, loaded, signals)
        difference = float((np.abs(found - expected) / np.maximum(np.abs(expected), 1)).max())
        one, eight = signals[:1], signals[:TOGETHER]
        by_torch = milliseconds(lambda m=loaded, x=one: m.answer(x))
        alone = milliseconds(lambda s=session, m=loaded, x=one: by_graph(s, m, x))
        together = milliseconds(lambda s=session, m=loaded, x=eight: by_graph(s, m, x)) / len(eight)
        print(
            f"| {key} | {by_torch:.3f} | {alone:.3f} | {by_torch / alone:.1f} | {together:.3f} "
            f"| {difference:.1e} |"
        )
        if not difference <= TOLERANCE:
            wrong.append(f"{key}: torch and ONNX Runtime differ by {difference:.1e}")
    torch.set_num_threads(threads)
    return wrong


# What it must show


@dataclass(frozen=True)
class Line:
    """A line of the table: what was measured, in words; what is asked; whether it holds."""

    what: str
    ours: str
    plain: str
    asked: str
    holds: bool


def shown(lines: Iterable[Line]) -> list[str]:
    """Print the lines as they come; those that do not hold."""
    print("\n| what | ours | plain endpoint | asked | holds |")
    print("|------|------|----------------|-------|-------|", flush=True)
    wrong = []
    for line in lines:
        holds = "yes" if line.holds else "NO"
        print(f"| {line.what} | {line.ours} | {line.plain} | {line.asked} | {holds} |", flush=True)
        if not line.holds:
            wrong.append(f"{line.what}: {line.ours}, asked {line.asked}")
    return wrong


def times(found: Exchange) -> str:
    return f"p50 {found.percentile(50):.2f}, p99 {found.percentile(99):.2f} ms"


def ecg(port: int, plain_port: int) -> list[Line]:
    """One ECG at a time and eight at once, as JSON and raw, from both servers."""
    loaded, recordings = raw_recordings(ECG)
    expected = np.concatenate([loaded.predict(one[None]).values for one in recordings])
    path = f"/models/{ECG}/predict"
    texts = [json.dumps({"signal": one.tolist()}).encode() for one in recordings]
    about = {"X_Shape": f"{recordings.shape[1]},{recordings.shape[2]}"}
    as_json = [post(path, text, Content_Type="application/json") for text in texts]
    plainly = [post("/predict", text, Content_Type="application/json") for text in texts]
    raw = [
        post(path, one.astype("<f4").tobytes(), Content_Type="application/octet-stream", **about)
        for one in recordings
    ]
    ours, plain, of_raw = in_turns(
        ONE_CLIENT,
        lambda count: exchange(port, as_json, count),
        lambda count: exchange(plain_port, plainly, count),
        lambda count: exchange(port, raw, count),
    )
    exchange(port, raw, 8 * WARM_UP, 8)
    eight = exchange(port, raw, EIGHT_CLIENTS, 8)
    exchange(plain_port, plainly, WARM_UP, 8)
    plain_eight = exchange(plain_port, plainly, PLAIN_EIGHT_CLIENTS, 8)
    eight_json = exchange(port, as_json, PLAIN_EIGHT_CLIENTS, 8)
    gaps = [
        [largest_difference(found, loaded.classes, expected) for found in exchanges]
        for exchanges in ((ours, of_raw, eight, eight_json), (plain, plain_eight))
    ]
    faster = plain.percentile(50) / ours.percentile(50)
    more = eight.rate / plain_eight.rate
    return [
        Line(
            f"ECG 12 x 1000, cnn, JSON ({len(texts[0]) / 1e3:.0f} kB), one client",
            times(ours),
            times(plain),
            f"p99 10 ms, 2 x faster at the median ({faster:.1f} x)",
            ours.percentile(99) <= 10 and faster >= 2,
        ),
        Line(
            f"the same as raw float32 ({recordings[0].nbytes / 1e3:.0f} kB)",
            times(of_raw),
            "",
            "p99 5 ms",
            of_raw.percentile(99) <= 5,
        ),
        Line(
            f"8 clients, raw float32, {EIGHT_CLIENTS:,} requests",
            f"{eight.rate:.0f} requests/s, {times(eight)}",
            f"{plain_eight.rate:.0f} requests/s, {times(plain_eight)}",
            f"3 x as many ({more:.1f} x), no error",
            more >= 3,
        ),
        Line(
            f"8 clients, JSON, {PLAIN_EIGHT_CLIENTS:,} requests",
            f"{eight_json.rate:.0f} requests/s, {times(eight_json)}",
            "as above",
            "",
            True,
        ),
        Line(
            "largest difference from torch, all answers",
            f"{max(gaps[0]):.1e}",
            f"{max(gaps[1]):.1e}",
            f"{TOLERANCE:.0e}",
            max(gaps[0]) <= TOLERANCE,
        ),
    ]


def cost_of_asking() -> None:
    """Print what the clients cost, against a server that answers at once."""
    _, recordings = raw_recordings(ECG)
    requests = [post("/", one.tobytes()) for one in recordings]
    with nothing() as port:
        one, eight = (
            exchange(port, requests, ONE_CLIENT),
            exchange(port, requests, EIGHT_CLIENTS, 8),
        )
    print(
        f"\n{os.cpu_count()} cores, loopback; asking alone takes {one.percentile(50):.2f} ms a request, "
        f"and 8 clients ask {eight.rate:.0f} times a second at most"
    )


def features(port: int, key: str) -> Line:
    """One row of features at a time."""
    loaded, rows = raw_recordings(key)
    expected = loaded.predict(rows).values
    names = loaded.description["dataset"]["channels"]
    bodies = [json.dumps(dict(zip(names, row[0].tolist(), strict=True))).encode() for row in rows]
    requests = [post("/predict", body, Content_Type="application/json") for body in bodies]
    exchange(port, requests, WARM_UP)
    found = exchange(port, requests, ONE_CLIENT)
    for number, body in enumerate(found.bodies):
        answer, values = json.loads(body), expected[number % len(expected)]
        if not abs(answer["probability"] - values[answer["predicted_class"]]) <= TOLERANCE:
            raise UserError(f"POST /predict answers {answer}, torch {values}")
    return Line(
        f"features to /predict ({key})", times(found), "", "p99 5 ms", found.percentile(99) <= 5
    )


def sound(port: int, key: str) -> Line:
    """Ten seconds of sound, from a file's bytes to a decision."""
    path = f"/models/{key}/predict"
    requests = [post(path, content, Content_Type="audio/wav") for content in sounds()]
    exchange(port, requests, WARM_UP)
    found = exchange(port, requests, OF_SOUND)
    decided = {json.loads(body)["anomaly"] for body in found.bodies}
    if not decided <= {True, False}:
        raise UserError(f"{key} does not decide")
    return Line(
        f"{SOUND_SECONDS} s of sound as WAV, {key}",
        times(found),
        "",
        "p99 50 ms",
        found.percentile(99) <= 50,
    )


def start_up() -> Line:
    """Measure the time from the command to the first answer that it is healthy."""
    seconds = []
    for _ in range(STARTS):
        with server("beatline", "serve") as (_, duration):
            seconds.append(duration)
    return Line(
        f"from start to healthy ({STARTS} starts)",
        f"{np.median(seconds):.2f} s, at most {max(seconds):.2f} s",
        "",
        "5 s",
        max(seconds) <= 5,
    )


def answering(features_key: str | None) -> Iterator[Line]:
    """Measure a server of ours beside a plain one."""
    with (
        server("beatline", "serve") as (port, _),
        server("benchmarks.plain_endpoint", str(MODELS / ECG)) as (plain_port, _),
    ):
        yield from ecg(port, plain_port)
        if features_key:
            yield features(port, features_key)
        for key in SOUNDS:
            yield sound(port, key)
    yield start_up()


def main() -> int:
    """Print the tables; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--networks", action="store_true", help="the networks alone, no server")
    options = parser.parse_args()
    content = params.load()
    keys = [f"{name}/{model}" for model, names in content["train"].items() for name in names or {}]
    if missing := [key for key in keys if not (MODELS / key / GRAPH).is_file()]:
        raise UserError(
            f"{MODELS / missing[0] / GRAPH} is missing: run `dvc repro` to train the models"
        )
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started is ended then, too
    wrong = networks(keys)
    if not options.networks:
        cost_of_asking()
        wrong += shown(answering(params.block_of(content, "serve.features")))
    for sentence in wrong:
        print(f"error: {sentence}", file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    with reporting_mistakes():
        sys.exit(main())
