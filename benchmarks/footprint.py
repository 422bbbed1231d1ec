"""What a server needs: resident memory of each process and model, processor time and time of an answer.

Run as `python -m benchmarks.footprint` in a project whose models are trained (about a minute). It starts
`beatline serve --workers 1` and asks each model about a test recording as JSON, one request after the
other; what that took is read from the server's own `/metrics`. The memory of a model is that by which a
process of its own grows, which has loaded another before.
"""

from __future__ import annotations

import http.client
import multiprocessing
import os
import re
import statistics
import time

import psutil

from beatline.bundle.model_info import GRAPH
from beatline.common import params
from beatline.common.errors import UserError, reporting_mistakes
from beatline.serving import registry
from benchmarks.serving import LONGEST_ANSWER, MODELS, server

REQUESTS, WARM_UP = 50, 10
MB = 1e6


def memory_of(key: str, other: str) -> float:
    """Return by how many MB a process grows when it loads a model after another."""
    # Set as `beatline serve` sets it, before the modules that read it are there.
    os.environ["OMP_NUM_THREADS"] = "1"
    from beatline.serving import model

    held = [model.load(MODELS / other)]
    before = psutil.Process().memory_info().rss
    held.append(model.load(MODELS / key))
    return (psutil.Process().memory_info().rss - before) / MB


def uses(connection: http.client.HTTPConnection, name: str, role: str) -> float:
    """Return what the server says that one of its processes uses."""
    text = ask(connection, "GET", "/metrics").decode()
    values = re.findall(rf'^process_{name}{{.*role="{role}".*}} (.*)$', text, re.MULTILINE)
    return float(values[0])


def ask(connection: http.client.HTTPConnection, method: str, path: str, body: bytes = b"") -> bytes:
    connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
    response = connection.getresponse()
    content = response.read()
    if response.status != 200:
        raise UserError(f"{method} {path}: {response.status}: {content.decode()}")
    return content


def answers(connection: http.client.HTTPConnection, key: str, path: str) -> tuple[float, float]:
    """Return the median time of an answer and its processor time, in ms."""
    example = ask(connection, "GET", f"/models/{key}/examples/1?json=true")
    durations = []
    for _ in range(WARM_UP):
        ask(connection, "POST", path, example)
    before = uses(connection, "cpu_seconds_total", "worker")
    for _ in range(REQUESTS):
        began = time.perf_counter()
        ask(connection, "POST", path, example)
        durations.append(time.perf_counter() - began)
    spent = uses(connection, "cpu_seconds_total", "worker") - before
    return statistics.median(durations) * 1e3, spent / REQUESTS * 1e3


def main() -> None:
    """Print the tables."""
    content = params.load()
    keys = [key for key in registry.wanted(content) if (MODELS / key).is_dir()]
    if not keys:
        raise UserError(registry.NONE_YET)
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(1, maxtasksperchild=1) as pool:
        grown = pool.starmap(memory_of, [(key, keys[0]) for key in keys], chunksize=1)
    with server("beatline", "serve", "--workers", "1") as (port, _):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LONGEST_ANSWER)
        sizes = {"the parent": uses(connection, "resident_memory_bytes", "parent") / MB}
        sizes[f"a worker with {len(keys)} models"] = (
            uses(connection, "resident_memory_bytes", "worker") / MB
        )
        print("| model | file, MB | memory, MB | an answer, ms | of a processor, ms |")
        print("|-------|---------:|-----------:|--------------:|-------------------:|")
        for key, memory in zip(keys, grown, strict=True):
            has_own_path = key == content["serve"]["features"]
            path = "/predict" if has_own_path else f"/models/{key}/predict"
            wall, processor = answers(connection, key, path)
            size = (MODELS / key / GRAPH).stat().st_size / MB
            print(f"| {key} | {size:.1f} | {memory:.0f} | {wall:.1f} | {processor:.1f} |")
        sizes["the same after these answers"] = (
            uses(connection, "resident_memory_bytes", "worker") / MB
        )
    print("\n| process | memory, MB |\n|---------|-----------:|")
    for name, size in sizes.items():
        print(f"| {name} | {size:.0f} |")


if __name__ == "__main__":
    with reporting_mistakes():
        main()
