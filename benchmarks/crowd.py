"""Twelve clients at once, who ask for everything that the API has: errors, memory, and times.

Run as `python -m benchmarks.crowd [SECONDS]` (five minutes by default) in a project whose models are
trained. Each client draws its requests from a seeded list: health, models, the page, examples, rows,
pictures, ECGs and sounds in several formats, explanations, and mistakes. Printed are the memory of all
processes of the server at ten times, and the times of each kind of request. Exits with status 1 if a
request is not answered as it should be, or if the memory grows by more than 20 MB after the first tenth
of the time.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from beatline.common.errors import reporting_mistakes
from benchmarks.hostile_clients import DIGIT, ECG, memory, picture, processes_of, wait_for_all
from benchmarks.serving import post, raw_recordings, server, sounds

CLIENTS, SECONDS, LOOKS = 12, 300.0, 10
LONGEST_GROWTH = 20.0  # MB
BUSY = 503  # which a client is told, who then comes again
SOUND = "/models/machine_sound/autoencoder/predict"


@dataclass(frozen=True)
class Kind:
    """A kind of request: how often it is drawn, and the status of its answer."""

    weight: int
    method: str
    path: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200


def kinds() -> dict[str, Kind]:
    _, ecgs = raw_recordings("ptbxl/cnn")
    ecg, (rows, features) = ecgs[0], _features()
    shape = ",".join(map(str, ecg.shape))
    raw = {"Content-Type": "application/octet-stream", "X-Shape": shape}
    as_json = {"Content-Type": "application/json"}
    long_raw = raw | {"X-Shape": f"10000,{ecg.shape[1]}", "X-Sampling-Rate": "100"}
    long_ecg = np.concatenate([ecg] * 10).tobytes()
    return {
        "health": Kind(8, "GET", "/health"),
        "models": Kind(2, "GET", "/models"),
        "metrics": Kind(1, "GET", "/metrics"),
        "page": Kind(2, "GET", "/"),
        "example": Kind(2, "GET", "/models/ptbxl/cnn/examples/1"),
        "row": Kind(8, "POST", "/predict", features, as_json),
        "rows": Kind(1, "POST", "/predict", rows, as_json),
        "digit": Kind(8, "POST", DIGIT, picture(), {"Content-Type": "image/png"}),
        "ECG, raw": Kind(8, "POST", ECG, ecg.tobytes(), raw),
        "ECG, JSON": Kind(8, "POST", ECG, json.dumps(ecg.tolist()).encode(), as_json),
        "ECG, explained": Kind(2, "POST", f"{ECG}?explain=true", ecg.tobytes(), raw),
        "long ECG": Kind(1, "POST", ECG, long_ecg, long_raw),
        "sound": Kind(4, "POST", SOUND, sounds()[0], {"Content-Type": "audio/wav"}),
        "wrong shape": Kind(2, "POST", ECG, ecg.tobytes(), raw | {"X-Shape": "1,2"}, 400),
        "no JSON": Kind(2, "POST", ECG, b"[1, 2", as_json, 400),
        "no model": Kind(2, "POST", "/models/a/b/predict", b"x", raw, 404),
    }


def _features() -> tuple[bytes, bytes]:
    """Many rows, and one."""
    _, rows = raw_recordings("ecg_features/mlp")
    known = [[None if np.isnan(value) else float(value) for value in row[0]] for row in rows]
    return json.dumps(known).encode(), json.dumps(known[0]).encode()


class Crowd:
    """`seconds` of each kind's answers; `busy`: how often a client was told to come again; `wrong`: what
    came instead of the answer."""

    def __init__(self, port: int, end: float) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.busy: dict[str, int] = defaultdict(int)
        self.wrong: list[str] = []
        self._port, self._end, self._kinds = port, end, kinds()
        self._threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(CLIENTS)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _ask(self, number: int) -> None:
        draw, names = random.Random(number), list(self._kinds)
        weights = [kind.weight for kind in self._kinds.values()]
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        while time.monotonic() < self._end:
            (name,) = draw.choices(names, weights)
            kind, began = self._kinds[name], time.perf_counter()
            try:
                connection.request(kind.method, kind.path, kind.body, dict(kind.headers))
                response = connection.getresponse()
                content = response.read()
            except (OSError, http.client.HTTPException) as error:
                self.wrong.append(f"{name}: {error!r}")
                connection.close()
                continue
            self.seconds[name].append(time.perf_counter() - began)
            if response.status == BUSY and b"too busy" in content:
                self.busy[name] += 1
            elif response.status != kind.status:
                self.wrong.append(f"{name}: {response.status} {content[:200]!r}")
        connection.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seconds", nargs="?", type=float, default=SECONDS)
    seconds: float = parser.parse_args().seconds
    with server("beatline", "serve") as (port, _), processes_of(port) as processes:
        wait_for_all(port, post(DIGIT, picture(), Content_Type="image/png"))
        crowd = Crowd(port, time.monotonic() + seconds)
        crowd.start()
        looks = []
        for _ in range(LOOKS):
            time.sleep(seconds / LOOKS)
            looks.append(memory(processes))
        crowd.join()
    print("memory, MB:", ", ".join(f"{look:.0f}" for look in looks))
    print("| request | answers | median | 99th percentile | told to come again |")
    print("|---------|--------:|-------:|----------------:|-------------------:|")
    for name, durations in sorted(crowd.seconds.items()):
        median, last = np.percentile(durations, [50, 99]) * 1e3
        row = (name, f"{len(durations):,}", f"{median:.1f} ms", f"{last:.1f} ms", crowd.busy[name])
        print(f"| {' | '.join(map(str, row))} |")
    print(f"{sum(map(len, crowd.seconds.values())):,} answers, {len(crowd.wrong)} wrong")
    for reason in sorted(set(crowd.wrong))[:10]:
        print(f"  {reason}", file=sys.stderr)
    return int(bool(crowd.wrong) or max(looks) - looks[0] > LONGEST_GROWTH)


if __name__ == "__main__":
    with reporting_mistakes():
        sys.exit(main())
