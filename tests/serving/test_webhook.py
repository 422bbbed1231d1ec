"""Alertmanager starts retrainings: those of models that there are, one at a time, with the token."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from beatline.common.errors import UserError
from beatline.serving import tokens, webhook
from tests.paths import ROOT
from tests.serving import project

TOKEN = "a-token-of-some-length"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
KEYS = ["ptbxl/cnn", "ptbxl/lstm", "machine_sound/autoencoder"]
# In place of `beatline retrain`: notes when it begins and ends, which it does when it is let go.
STAND_IN = """
import pathlib, sys, time
folder, key = pathlib.Path(sys.argv[1]), sys.argv[2].replace("/", " ")
def note(word):
    with (folder / "log").open("a") as file: file.write(f"{word} {key}\\n")
note("begin")
while not (folder / f"go {key}").exists(): time.sleep(0.01)
note("end")
sys.exit(int((folder / f"go {key}").read_text()))
"""


class Stand:
    """What the stand-ins in a folder have done, and when they may end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "stand_in.py").write_text(STAND_IN)
        self.command = [sys.executable, str(folder / "stand_in.py"), str(folder)]

    def log(self) -> list[str]:
        path = self.folder / "log"
        return path.read_text().splitlines() if path.exists() else []

    def let_go(self, key: str, status: int = 0) -> None:
        (self.folder / "go").write_text(str(status))
        (self.folder / "go").rename(self.folder / f"go {key.replace('/', ' ')}")


@pytest.fixture
def stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stand:
    monkeypatch.setenv(tokens.VARIABLE, TOKEN)
    return Stand(tmp_path)


@contextmanager
def serving(stand: Stand, wanted: Callable[[], list[str]] = lambda: KEYS) -> Iterator[httpx.Client]:
    app = webhook.create_app(webhook.Retrainings(stand.command), wanted)
    with project.serving(app) as url, httpx.Client(base_url=url, headers=BEARER) as client:
        yield client


def notification(*keys: str, status: str = "firing", **labels: str) -> dict[str, Any]:
    """What Alertmanager 0.25 sends, of one alert for each model."""
    alerts = []
    for key in keys:
        dataset, model = key.split("/")
        named = {"alertname": "BeatlineDrift", "dataset": dataset, "model": model, **labels}
        alerts.append({"status": status, "labels": named, "annotations": {}, "fingerprint": "f"})
    about = {"version": "4", "groupKey": "{}", "truncatedAlerts": 0, "receiver": "retrain"}
    return {**about, "status": status, "groupLabels": {}, "alerts": alerts}


def states(client: httpx.Client) -> dict[str, str]:
    retrainings = client.get("/retrain").json()["retrainings"]
    return {key: each["state"] for key, each in retrainings.items()}


def state_of(client: httpx.Client, key: str) -> str | None:
    return states(client).get(key)


def healthy(client: httpx.Client) -> bool:
    try:
        return client.get("/health").status_code == 200
    except httpx.TransportError:
        return False


def test_one_at_a_time_and_none_twice(stand: Stand) -> None:
    """Alerts that are repeated while a model waits or is retrained start nothing; later ones do. What
    came of each can be asked for."""
    cnn, lstm, sound = KEYS
    with serving(stand) as client:
        answer = client.post("/retrain", json=notification(cnn, lstm, "ptbxl/gru"))
        assert answer.status_code == 202
        assert answer.json()["accepted"] == [cnn, lstm]
        assert list(answer.json()["ignored"]) == ["ptbxl/gru"]
        project.wait_until(lambda: stand.log() == ["begin ptbxl cnn"])
        answer = client.post("/retrain", json=notification(cnn, lstm, sound)).json()
        assert answer["accepted"] == [sound] and set(answer["ignored"]) == {cnn, lstm}
        assert states(client) == {cnn: "running", lstm: "waiting", sound: "waiting"}
        for key, status in ((cnn, 0), (lstm, 2), (sound, 1)):
            stand.let_go(key, status)
        project.wait_until(lambda: states(client).get(sound) == "failed")
        assert states(client) == {cnn: "made", lstm: "too little feedback", sound: "failed"}
        names = [key.replace("/", " ") for key in KEYS]
        failed = [line for line in client.get("/metrics").text.splitlines() if line[:1] != "#"]
        assert [line.split()[-1] for line in failed] == ["0.0", "0.0", "1.0"]
        assert stand.log() == [f"{word} {name}" for name in names for word in ("begin", "end")]
        assert client.post("/retrain", json=notification(cnn)).json()["accepted"] == [cnn]
        project.wait_until(lambda: len(stand.log()) == 8)


def test_one_that_cannot_be_started_ends_no_other(stand: Stand) -> None:
    """Memory has run out, or the environment is being made anew: it has failed, which is seen, and the
    next ones run."""
    python = stand.folder / "python"
    stand.command[0] = str(python)
    failed = 'beatline_retraining_run_failed{dataset="ptbxl",model="cnn"}'
    with serving(stand) as client:
        client.post("/retrain", json=notification(KEYS[0]))
        project.wait_until(lambda: state_of(client, KEYS[0]) == "failed")
        assert f"{failed} 1.0" in client.get("/metrics").text
        python.symlink_to(sys.executable)
        for key in KEYS[:2]:
            stand.let_go(key)
        answer = client.post("/retrain", json=notification(*KEYS[:2])).json()
        assert answer["accepted"] == KEYS[:2]
        project.wait_until(lambda: states(client) == dict.fromkeys(KEYS[:2], "made"))
        assert f"{failed} 0.0" in client.get("/metrics").text


def test_what_is_resolved_starts_nothing(stand: Stand) -> None:
    """Alertmanager tells of the end of an alert too."""
    with serving(stand) as client:
        answer = client.post("/retrain", json=notification(KEYS[0], status="resolved"))
        assert answer.json() == {"accepted": [], "ignored": {}} and states(client) == {}


@pytest.mark.parametrize(
    ("status", "body", "cure"),
    [
        (400, b"", "Alertmanager"),
        (400, b"[1, 2", "Alertmanager"),
        (400, b'{"version": "3", "alerts": []}', "version"),
        (400, b'{"version": "4", "alerts": [{"status": "firing", "labels": 1}]}', "labels"),
        (413, b" " * (webhook.MOST_BYTES + 1), "group"),
        (422, httpx.Request("P", "http://x", json=notification("ptbxl/gru")).content, "ptbxl/cnn"),
        (422, b'{"version": "4", "alerts": [{"status": "firing", "labels": {}}]}', "labels"),
    ],
)
def test_what_cannot_be_done_is_refused(stand: Stand, status: int, body: bytes, cure: str) -> None:
    """With a cure, which Alertmanager logs: an alert that starts nothing is seen."""
    with serving(stand) as client:
        answer = client.post("/retrain", content=body)
        assert (answer.status_code, cure in answer.json()["detail"]) == (status, True)
        assert states(client) == {} and client.get("/health").status_code == 200


def test_what_there_is_not_is_a_problem_document(stand: Stand) -> None:
    """As all other refusals are, with what an address takes."""
    with serving(stand) as client:
        for status, method, path in (
            (405, "PUT", "/retrain"),
            (405, "POST", "/metrics"),
            (404, "GET", "/x"),
        ):
            answer = client.request(method, path)
            assert answer.status_code == answer.json()["status"] == status
            assert answer.headers["content-type"] == "application/problem+json"
            assert path in answer.json()["detail"]
        allowed = client.put("/retrain").headers["allow"]
        assert set(allowed.split(", ")) == {"GET", "HEAD", "POST"}


def test_nothing_without_the_token(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a start nor a look, nor a server that would ask for none; health is for everybody."""
    with serving(stand) as client:
        for wrong in ("", "Bearer", "Bearer another-token-of-some-length", f"Basic {TOKEN}"):
            assert client.get("/metrics", headers={"Authorization": wrong}).status_code == 401
            for method in ("GET", "POST"):
                asked = {"headers": {"Authorization": wrong}, "json": notification(KEYS[0])}
                assert client.request(method, "/retrain", **asked).status_code == 401
        assert client.get("/health", headers={"Authorization": ""}).status_code == 200
        assert states(client) == {}
    monkeypatch.delenv(tokens.VARIABLE)
    with pytest.raises(UserError, match=tokens.VARIABLE):
        webhook.create_app(webhook.Retrainings(), list)


def test_a_slow_client_is_given_up(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that begins a body and never ends it holds nothing up."""
    monkeypatch.setattr(webhook, "SECONDS_TO_SEND", 0.2)
    with serving(stand) as client:
        address = (client.base_url.host, client.base_url.port or 0)
        with socket.create_connection(address, timeout=10) as connection:
            head = f"POST /retrain HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
            connection.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())
            assert b" 408 " in connection.recv(1000)


def test_parameters_that_cannot_be_read(stand: Stand) -> None:
    """They may be written at this moment: the client is told to come again."""

    def broken() -> list[str]:
        raise UserError("params.yaml: line 3 is wrong: correct it")

    with serving(stand, broken) as client:
        answer = client.post("/retrain", json=notification(KEYS[0]))
        assert answer.status_code == 503 and "params.yaml" in answer.json()["detail"]


def test_who_stops_leaves_nothing_running(stand: Stand) -> None:
    """What is under way ends with the server, and what waits does not begin."""
    with serving(stand) as client:
        client.post("/retrain", json=notification(*KEYS[:2]))
        project.wait_until(lambda: bool(stand.log()))
    assert stand.log() == ["begin ptbxl cnn"]
    words = [child.cmdline() for child in psutil.Process().children(recursive=True)]
    assert not [line for line in words if str(stand.folder / "stand_in.py") in line]


def test_the_command(stand: Stand, tmp_path: Path) -> None:
    """`beatline retrain --listen` runs `beatline retrain` itself, whose failure is told; it ends at once
    when it is told to, and says so if the port is taken or there is no token."""
    root = project.make(tmp_path / "project")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "beatline", "retrain", "--listen", f"127.0.0.1:{port}"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        options: dict[str, Any] = {"cwd": root, "text": True, "stderr": subprocess.PIPE}
        done = subprocess.run(command, **options, env=environment)
        assert done.returncode == 1 and f"{port}" in done.stderr and "Traceback" not in done.stderr
    del environment[tokens.VARIABLE]
    done = subprocess.run(command, **options, env=environment)
    assert done.returncode == 1 and tokens.VARIABLE in done.stderr
    environment[tokens.VARIABLE] = TOKEN
    with (
        subprocess.Popen(command, **options, env=environment) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=BEARER) as client,
    ):
        project.wait_until(lambda: healthy(client))
        client.post("/retrain", json=notification(KEYS[0]))
        project.wait_until(lambda: states(client) == {KEYS[0]: "failed"}, 60)
        process.send_signal(signal.SIGTERM)
        _, printed = process.communicate(timeout=20)
    assert "monitoring.log" in printed and f"{KEYS[0]}: `beatline retrain`" in printed


@pytest.mark.skipif(
    not shutil.which("prometheus-alertmanager"),
    reason="no Alertmanager: make prometheus installs it",
)
def test_a_real_alertmanager_starts_a_retraining(stand: Stand) -> None:
    """By the shipped configuration, changed in addresses and waits alone: drift of a model calls the
    address with the token; an alert that asks for nothing does not."""
    folder = stand.folder
    with ExitStack() as stack:
        client = stack.enter_context(serving(stand))
        text = (ROOT / "deploy/prometheus/alertmanager.yml").read_text()
        for shipped, here in (
            ("http://host.docker.internal:5003", str(client.base_url).rstrip("/")),
            ("/run/secrets/beatline_token", str(folder / "token")),
        ):
            assert shipped in text
            text = text.replace(shipped, here)
        text = re.sub(r"group_wait: .*", "group_wait: 0s", text)
        (folder / "alertmanager.yml").write_text(text)
        (folder / "token").write_text(TOKEN)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        words = [
            *("--config.file", folder / "alertmanager.yml", "--storage.path", folder / "data"),
            *("--web.listen-address", f"127.0.0.1:{port}", "--cluster.listen-address="),
        ]
        process = subprocess.Popen(["prometheus-alertmanager", *words], stderr=subprocess.PIPE)
        stack.callback(lambda: (process.terminate(), process.communicate(timeout=10)))
        manager = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{port}"))

        def ready() -> bool:
            assert process.poll() is None, process.stderr and process.stderr.read()
            try:
                return manager.get("/-/ready").status_code == 200
            except httpx.TransportError:
                return False

        project.wait_until(ready)
        now = datetime.now(UTC).isoformat()
        drift = {"alertname": "BeatlineDrift", "severity": "warning", "action": "retrain"}
        old = {"alertname": "BeatlineDriftCheckOld", "severity": "warning"}
        models = dict(zip(("dataset", "model"), KEYS[1].split("/"), strict=True))
        others = dict(zip(("dataset", "model"), KEYS[0].split("/"), strict=True))
        alerts = [{"labels": old | others}, {"labels": drift | models}]
        sent = manager.post("/api/v2/alerts", json=[{**each, "startsAt": now} for each in alerts])
        assert sent.status_code == 200
        project.wait_until(lambda: stand.log() == ["begin ptbxl lstm"])
        time.sleep(0.5)  # in which the other alert would come
        assert states(client) == {KEYS[1]: "running"}
        stand.let_go(KEYS[1])
        project.wait_until(lambda: states(client) == {KEYS[1]: "made"})
