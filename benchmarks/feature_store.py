"""How fast a machine's features are there: in Feast's process, from its server, from the API; and from a
WAV file to a decision.

Run as `python -m benchmarks.feature_store` in a project whose models are trained and whose Feast is
installed (`make features`), on a machine with nothing else to do (two minutes). In a folder of its own it
fills a store in SQLite and one in a real PostgreSQL and asks for one row with 13 features after another.
The last line is a sound of a machine that nobody knew: sent to a detector of sounds (the last one in
params.yaml), measured, stored and read back, with the decision of `serve.machines` if that is trained.
Exits with status 1 if the 99th percentile of PostgreSQL is beyond what it may be.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import soundfile
from ruamel.yaml import YAML

from beatline.common import params
from beatline.common.errors import UserError, reporting_mistakes
from beatline.feature_store import client, definitions, store
from beatline.serving import registry
from beatline.serving.machines import HEADER
from benchmarks.serving import server
from tests import postgresql

LINKED = ("data/features", "data/models", "data/examples", ".venv-feast")
SOUNDS = "machine_sound"
MACHINE, WARM_UP, SENT_SHARE = "id_00", 50, 20
PAUSE = 0.002  # seconds between two questions whether a row is there
MOST = {"in Feast's process": 1.0, "from the API": 10.0, "WAV to decision": 50.0}  # ms
IN_PROCESS = """
import json, sys, time
from feast import FeatureStore
store = FeatureStore(repo_path=".")
service = store.get_feature_service("machine_sound")
times = []
for _ in range(int(sys.argv[1])):
    began = time.perf_counter()
    found = store.get_online_features(service, [{"machine_id": sys.argv[2]}])
    times.append(time.perf_counter() - began)
assert None not in found.to_dict()["rms_mean"]
print(json.dumps(times))
"""


@contextmanager
def project() -> Iterator[str]:
    """Work in a folder with this project's data, and yield the model that measures sounds."""
    root = Path.cwd()
    content = params.load()
    serve, wanted = content["serve"], registry.wanted(content)
    (*_, key) = [key for key in wanted if key.startswith(f"{SOUNDS}/")] or [""]
    if not key or not (root / registry.FOLDER / key).exists():
        raise UserError(f"no model of {SOUNDS} is trained here: run `make repro`")
    with tempfile.TemporaryDirectory() as name:
        for linked in LINKED:
            (Path(name) / linked).parent.mkdir(exist_ok=True)
            (Path(name) / linked).symlink_to(root / linked)
        if serve.get("machines") and not (root / registry.FOLDER / serve["machines"]).exists():
            serve["machines"] = None
        with (Path(name) / params.PATH).open("w") as file:
            YAML(typ="safe", pure=True).dump(content, file)
        os.chdir(name)
        try:
            yield key
        finally:
            os.chdir(root)


def in_process(count: int) -> list[float]:
    command, environment = store.server(Path(), "", 0)
    python = Path(command[0]).with_name("python")
    done = subprocess.run(
        [python, "-W", "ignore", "-c", IN_PROCESS, str(count), MACHINE],
        cwd=definitions.FOLDER,
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise UserError(f"Feast failed: {done.stderr[-1000:]}")
    return json.loads(done.stdout)


def settle() -> None:
    """Have PostgreSQL do now what it would do in the background after so many new rows."""
    if (url := os.environ[store.ONLINE_STORE]) != "sqlite":
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("VACUUM (ANALYZE)")
            connection.execute("CHECKPOINT")


def timed(count: int, ask: Callable[[int], None]) -> list[float]:
    times = []
    for number in range(count):
        began = time.perf_counter()
        ask(number)
        times.append(time.perf_counter() - began)
    return times


class Asked:
    """A connection that stays open."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def __call__(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        self._connection.request(method, path, body, headers or {})
        response = self._connection.getresponse()
        return response.status, response.read()

    def surely(self, *request: Any) -> None:
        status, content = self(*request)
        if status != 200:
            raise UserError(f"{request[:2]}: {status}: {content.decode()[:500]}")


def measure(key: str, count: int) -> dict[str, list[float]]:
    """Seconds of each request, by what is asked, with the online store that the environment names."""
    tables = definitions.tables(params.load(), Path(), 86400.0)
    store.fill(tables, Path())
    settle()
    (names,) = [table.features for table in tables if table.name == SOUNDS]
    body = {
        "features": [f"{SOUNDS}:{name}" for name in names],
        "entities": {"machine_id": [MACHINE]},
    }
    question = json.dumps(body).encode(), {"Content-Type": "application/json"}
    found = {"in Feast's process": in_process(count)}
    decides = params.load()["serve"].get("machines")
    sound = wav()
    with server("beatline", "feature-server") as (port, _):
        feast = Asked(port)
        ask = lambda _: feast.surely("POST", "/get-online-features", *question)  # noqa: E731
        timed(WARM_UP, ask)
        found["from Feast's server"] = timed(count, ask)
        os.environ[client.VARIABLE] = f"http://127.0.0.1:{port}"
        with server("beatline", "serve", "--workers", "1") as (own, _):
            api = Asked(own)
            ask = lambda _: api.surely("GET", f"/machines/{MACHINE}/features")  # noqa: E731
            timed(WARM_UP, ask)
            found["from the API"] = timed(count, ask)

            def send(number: int) -> None:
                machine = f"new-{number}"
                headers = {"Content-Type": "audio/wav", HEADER: machine}
                api.surely("POST", f"/models/{key}/predict", sound, headers)
                address = f"/machines/{machine}/" + ("predict" if decides else "features")
                while api("POST" if decides else "GET", address)[0] == 404:
                    time.sleep(PAUSE)  # it is being stored

            timed(5, lambda number: send(-1 - number))
            found["WAV to decision"] = timed(max(count // SENT_SHARE, 1), send)
    return found


def wav() -> bytes:
    samples = np.load(f"data/examples/{SOUNDS}/1.npy")
    rate = json.loads(Path(f"data/examples/{SOUNDS}/examples.json").read_text())
    file = io.BytesIO()
    soundfile.write(file, samples, rate["examples"][0]["sampling_rate"], "PCM_16", format="WAV")
    return file.getvalue()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=5000)
    count = parser.parse_args().requests
    slow = False
    with (
        project() as key,
        tempfile.TemporaryDirectory() as folder,
        postgresql.server(Path(folder)) as running,
        postgresql.database(running) as url,
    ):
        for kind, where in (("SQLite", "sqlite"), ("PostgreSQL", url)):
            os.environ[store.ONLINE_STORE] = where
            for what, seconds in measure(key, count).items():
                p50, p99 = np.percentile(np.array(seconds) * 1000, (50, 99))
                most = MOST.get(what) if kind == "PostgreSQL" else None
                slow |= most is not None and bool(p99 > most)
                limit = f" (at most {most:g})" if most else ""
                print(
                    f"{kind:12} {what:22} p50 {p50:7.2f} ms  p99 {p99:7.2f} ms{limit}", flush=True
                )
    return int(slow)


if __name__ == "__main__":
    with reporting_mistakes():
        sys.exit(main())
