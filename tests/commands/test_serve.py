"""`beatline serve`, a real process: how it starts and ends; nothing is lost between."""

from __future__ import annotations

import http.client
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from ruamel.yaml import YAML

from beatline.commands.serve import MAX_SOURCES
from beatline.serving import access_log, registry, tokens
from beatline.serving.supervisor import METRICS
from tests.paths import ROOT
from tests.serving import project

CNN = "/models/ptbxl/cnn/predict"
RAW = {"Content-Type": "application/octet-stream", "X-Shape": "120,3"}
ECG = project.raw_recordings("ptbxl")[0].tobytes()
WORKERS = 2
TOKEN = "a-token-of-some-length"


class Process:
    """A server in a process of its own, `process`, at `url`, when it has said that it answers."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.temporary = folder / "temporary"
        self.temporary.mkdir(exist_ok=True)
        self.process = start(folder, *options, TMPDIR=str(self.temporary))
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        found = re.fullmatch(
            r"Beatline answers at (http://127.0.0.1:\d+) \(Ctrl-C ends it\)\n", said
        )
        if found is None:
            self.kill()
        assert found, said
        self.url = found[1]

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.url.removeprefix("http://").split(":")
        return host, int(port)

    def end(self, number: int = signal.SIGTERM) -> str:
        """Return its stderr when it has ended as it should after a signal."""
        self.process.send_signal(number)
        _, said = self.process.communicate(timeout=30)
        assert self.process.returncode == 0, said
        assert list(self.temporary.iterdir()) == []
        return said

    def kill(self) -> None:
        """All its processes, if a test has failed before it ended."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.communicate()


def start(folder: Path, *options: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "beatline", "serve", *options],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@contextmanager
def serving(folder: Path) -> Iterator[Process]:
    server = Process(folder, "--port", "0", "--workers", str(WORKERS))
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return project.make(tmp_path / "project")


def metric(url: str, name: str, **labels: str) -> float:
    """The sum of a metric's samples that have these labels."""
    found = re.findall(
        rf"^beatline_{name}(\{{.*\}})? (.*)$", httpx.get(f"{url}/metrics").text, re.M
    )
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    return sum(float(value) for shown, value in found if all(each in shown for each in wanted))


def until(url: str, name: str, expected: float) -> None:
    """Wait until a metric of the model under test has a value."""
    labels = {"dataset": "ptbxl", "model": "cnn"}
    project.wait_until(lambda: metric(url, name, **labels) == expected, seconds=60)


class Load:
    """Clients that ask again and again: `weights`, in the order of the answers, and what went wrong."""

    def __init__(self, address: tuple[str, int], clients: int = 4) -> None:
        self.weights: list[str] = []
        self.wrong: list[object] = []
        self._address = address
        self._enough = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        for thread in self._threads:
            thread.join()

    def more(self, answers: int) -> None:
        """Wait for so many further answers."""
        enough = len(self.weights) + answers
        project.wait_until(lambda: len(self.weights) > enough or bool(self.wrong))

    def _ask(self) -> None:
        connection = http.client.HTTPConnection(*self._address, timeout=20)
        while not self._enough.is_set():
            try:
                connection.request("POST", CNN, ECG, RAW)
                response = connection.getresponse()
                content = json.loads(response.read())
            except Exception as error:
                self.wrong.append(error)
                return
            if response.status == 200:
                self.weights.append(content["model"]["weights"])
            else:
                self.wrong.append(content)
            time.sleep(0.002)
        connection.close()


def test_bundles_change_without_a_dropped_request(folder: Path, tmp_path: Path) -> None:
    """Under load on two workers, a bundle is replaced by a rename, by delete and copy, and by halves of
    files: every request is answered, by the old model or by the new one, and in the end by the new."""
    place = folder / registry.FOLDER / "ptbxl/cnn"
    others = {}
    for seed in (2, 3, 4):
        project.save(tmp_path / f"new{seed}/ptbxl/cnn", "ptbxl/cnn", seed)
        others[seed] = tmp_path / f"new{seed}/ptbxl/cnn"
    known = [project.weights(folder, "ptbxl/cnn")]
    with serving(folder) as server, Load(server.address) as load:
        for seed, replace in ((2, by_rename), (3, by_copy), (4, by_halves)):
            project.wait_until(lambda: bool(load.weights or load.wrong))
            replace(others[seed], place)
            known.append(project.weights(folder, "ptbxl/cnn"))
            # Each worker has loaded each of them once: no half, and nothing twice.
            until(server.url, "model_loads_total", WORKERS * len(known))
            assert metric(server.url, "model_info", weights=known[-1][:12]) == 1
            load.more(50)
        assert load.wrong == []
        assert set(load.weights[-20:]) == {known[-1]}
        assert list(dict.fromkeys(load.weights)) == known


def by_rename(new: Path, place: Path) -> None:
    place.rename(place.with_name(".old"))
    new.rename(place)
    shutil.rmtree(place.with_name(".old"))


def by_copy(new: Path, place: Path) -> None:
    """Bundles change as by a stage of DVC: outputs are deleted, and made again some time later."""
    shutil.rmtree(place)
    time.sleep(0.3)
    shutil.copytree(new, place)


def by_halves(new: Path, place: Path) -> None:
    """Into the files that are there, with pauses in the middle of each."""
    for path in new.iterdir():
        content = path.read_bytes()
        for part in (content[: len(content) // 2], content):
            (place / path.name).write_bytes(part)
            time.sleep(0.12)


def test_a_request_that_has_begun_is_finished(folder: Path) -> None:
    """SIGTERM comes in the middle of a body: it is read to its end and answered, new connections are
    refused, the process ends with status 0, and its temporary folder is gone."""
    with serving(folder) as server, socket.create_connection(server.address) as begun:
        head = f"POST {CNN} HTTP/1.1\r\nHost: localhost\r\nX-Shape: 120,3\r\n"
        head += f"Content-Length: {len(ECG)}\r\n\r\n"
        begun.sendall(head.encode() + ECG[:100])
        time.sleep(0.2)
        server.process.send_signal(signal.SIGTERM)
        project.wait_until(lambda: not accepts(server.address))
        assert server.process.poll() is None
        begun.sendall(ECG[100:])
        answer = b""
        while part := begun.recv(65536):
            answer += part
        assert answer.startswith(b"HTTP/1.1 200 ") and b"probabilities" in answer
        said = server.end()
    assert "Traceback" not in said


def accepts(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address).close()
    except ConnectionError:
        return False
    return True


def test_workers_are_replaced(folder: Path) -> None:
    """One that is killed is followed by another, which answers only when it has loaded its models; what
    the dead one has counted stays, what it held does not. All die together on Ctrl-C, in silence."""
    with serving(folder) as server:
        for _ in range(20):
            assert httpx.post(server.url + CNN, content=ECG, headers=RAW).status_code == 200
        assert metric(server.url, "predictions_total", predicted="MI") > 0
        counted = metric(server.url, "requests_total", route="/models/{dataset}/{model}/predict")
        assert counted == 20
        dead = workers(server)[0]
        os.kill(dead, signal.SIGKILL)
        project.wait_until(lambda: len(workers(server)) == WORKERS and dead not in workers(server))
        project.wait_until(lambda: metric(server.url, "workers_ready") == WORKERS)
        for _ in range(20):
            assert httpx.post(server.url + CNN, content=ECG, headers=RAW).status_code == 200
        counted = metric(server.url, "requests_total", route="/models/{dataset}/{model}/predict")
        assert counted == 40
        assert metric(server.url, "requests_in_flight") == 1
        os.killpg(server.process.pid, signal.SIGINT)  # as a terminal does
        said = server.end(signal.SIGINT)
    assert "Traceback" not in said and "KeyboardInterrupt" not in said


def test_a_file_of_metrics_that_is_still_empty(folder: Path) -> None:
    """A worker makes its files first and writes into them later, or never, if it is killed in between:
    what the others have counted is told all the same."""
    with serving(folder) as server:
        assert httpx.post(server.url + CNN, content=ECG, headers=RAW).status_code == 200
        (metrics,) = server.temporary.iterdir()
        for kind in ("counter", "histogram", "gauge_livesum"):
            (metrics / f"{kind}_{2**22 + 1}.db").touch()
        assert metric(server.url, "predictions_total", predicted="MI") > 0
        assert metric(server.url, "workers_ready") == WORKERS


def test_what_each_process_uses(folder: Path) -> None:
    """Whichever worker is asked tells of all of them and of their parent, and of no dead one."""
    with serving(folder) as server:

        def roles() -> dict[int, str]:
            text = httpx.get(f"{server.url}/metrics").text
            lines = re.findall(r'^process_open_fds{pid="(\d+)",role="(\w+)"} [1-9]', text, re.M)
            return {int(pid): role for pid, role in lines}

        def alive() -> dict[int, str]:
            return {server.process.pid: "parent", **dict.fromkeys(workers(server), "worker")}

        assert roles() == alive()
        os.kill(workers(server)[0], signal.SIGKILL)
        project.wait_until(lambda: len(workers(server)) == WORKERS and roles() == alive())


@pytest.mark.parametrize("to_file", [True, False])
def test_an_access_log(folder: Path, tmp_path: Path, to_file: bool) -> None:
    """In a file or on stdout, and then nothing else is there: a line for each request to any worker,
    whole though they write at once, and in a new file after logrotate has moved the old one away."""
    path = tmp_path / "access.jsonl"
    process = start(
        folder, "--port", "0", "--workers", "2", "--access-log", *([str(path)] * to_file)
    )
    assert process.stdout and process.stderr
    try:
        announced = (process.stdout if to_file else process.stderr).readline()
        url = announced.split()[3]
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda n: httpx.get(f"{url}/page/{n}{'é' * 200}"), range(80)))
        text = ""
        if to_file:
            text = path.read_text()
            path.rename(tmp_path / "access.jsonl.1")
        answers.append(httpx.get(f"{url}/models"))
    finally:
        process.terminate()
        said, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    text += path.read_text() if to_file else said
    lines = [json.loads(line) for line in text.splitlines()]
    logged = {line["request_id"]: (line["status"], line["bytes"]) for line in lines}
    assert len(lines) == len(answers)
    assert logged == {
        answer.headers["X-Request-ID"]: (answer.status_code, len(answer.content))
        for answer in answers
    }


def test_an_access_log_that_nobody_reads(folder: Path) -> None:
    """Costs lines, and no answer; how many is said at the end, and what was read is whole."""
    process = start(folder, "--port", "0", "--workers", "1", "--access-log")
    assert process.stdout and process.stderr
    try:
        address = process.stderr.readline().split()[3].removeprefix("http://").split(":")
        asked = access_log.WAITING + 1000  # a pipe takes some hundred lines
        head = b"GET /page/%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % (b"a" * access_log.LONGEST)
        with socket.create_connection((address[0], int(address[1])), timeout=20) as connection:
            answers = connection.makefile("rb")
            for _ in range(asked):
                connection.sendall(head)
                assert answers.readline() == b"HTTP/1.1 404 Not Found\r\n"
                length = 0
                while (line := answers.readline()) != b"\r\n":
                    if line.startswith(b"content-length: "):
                        length = int(line.split()[1])
                answers.read(length)
        assert httpx.get(f"http://{':'.join(address)}/health", timeout=20).status_code == 200
    finally:
        process.terminate()
        said, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    lines = [json.loads(line) for line in said.splitlines()]
    lost = sum(map(int, re.findall(r"access log .* (\d+) lines", errors)))
    assert lines and lost and len(lines) + lost == asked


def test_a_token_and_a_rate_of_all_workers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server says that it answers although everything needs a token; no worker holds that; and two
    workers together let through what the limit says."""
    yaml = YAML(typ="safe", pure=True)
    content = yaml.load(folder / "params.yaml")
    content["serve"] |= {"token": "everything", "requests_per_second": 0.5}
    yaml.dump(content, folder / "params.yaml")
    status, said = failed(folder)
    assert status == 1 and re.search(f"^error: .*serve.token.*{tokens.VARIABLE}", said)
    monkeypatch.setenv(tokens.VARIABLE, TOKEN)
    with serving(folder) as server:
        assert all(TOKEN not in str(psutil.Process(pid).environ()) for pid in workers(server))
        other = {"Authorization": f"Bearer {TOKEN}", "X-Forwarded-For": "198.51.100.7"}
        answers = [httpx.get(f"{server.url}/models", headers=other) for _ in range(12)]
        limited = [answer.status_code for answer in answers]
        assert limited[0] == 200 and 2 <= limited.count(200) <= 4 and limited[-1] == 429
        stranger = {"X-Forwarded-For": "198.51.100.8"}
        assert httpx.get(f"{server.url}/metrics", headers=stranger).status_code == 401
        assert TOKEN not in server.end()


def test_an_access_log_that_cannot_be_written(folder: Path, tmp_path: Path) -> None:
    """It is told before anything starts."""
    status, said = failed(folder, "--access-log", str(tmp_path / "none/access.jsonl"))
    assert status == 1
    assert re.search(r"^error: --access-log .*none/access.jsonl.*folder", said)


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        (["--source", "a b"], "--source.*'a b'"),
        (["--source", ""], "--source.*''"),
        (["--source", "a" * 65], "--source.*64"),
        (
            [word for n in range(MAX_SOURCES + 1) for word in ("--source", f"s{n}")],
            "--source.*most",
        ),
    ],
)
def test_sources_that_cannot_be_labels(folder: Path, options: list[str], cause: str) -> None:
    """They become labels of metrics: a bad one, or too many, is told before anything starts."""
    status, said = failed(folder, *options)
    assert status != 0
    assert re.search(f"error: .*{cause}", said) and "Traceback" not in said


def test_a_restart_loses_no_request(folder: Path) -> None:
    """SIGHUP, while clients ask on connections that stay open: all are answered, by new workers then."""
    with serving(folder) as server, Load(server.address, clients=6) as load:
        before = set(workers(server))
        project.wait_until(lambda: bool(load.weights or load.wrong))
        server.process.send_signal(signal.SIGHUP)
        project.wait_until(lambda: before.isdisjoint(workers(server)) or bool(load.wrong), 60)
        load.more(100)
        assert load.wrong == []
        assert len(workers(server)) == WORKERS


def test_a_restart_that_waits_for_slow_clients(folder: Path) -> None:
    """While a worker that is replaced finishes what it has begun, one that dies is replaced, and the
    signal that ends the server is heard: who comes then is refused."""
    patient(folder, seconds=60.0)
    server = Process(folder, "--port", "0", "--workers", "1")
    with ExitStack() as stack:
        stack.callback(server.kill)
        slow = stack.enter_context(socket.create_connection(server.address))
        head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        slow.sendall(head + b"Content-Length: 11\r\n\r\n[")
        (old,) = workers(server)
        project.wait_until(lambda: metric(server.url, "requests_in_flight") == 2)
        server.process.send_signal(signal.SIGHUP)
        project.wait_until(lambda: not listens(old), 60)
        (new,) = set(workers(server)) - {old}
        os.kill(new, signal.SIGKILL)
        project.wait_until(lambda: bool(set(workers(server)) - {old, new}), 60)
        project.wait_until(lambda: accepts(server.address))
        server.process.send_signal(signal.SIGTERM)
        project.wait_until(lambda: not accepts(server.address))
        assert psutil.pid_exists(old) and not select.select([slow], [], [], 0)[0]
        slow.sendall(b"71,150,90]")
        assert slow.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
        server.end()


def patient(folder: Path, seconds: float) -> None:
    """Have the server wait so long for bodies and answers."""
    yaml, path = YAML(typ="safe", pure=True), folder / "params.yaml"
    content = yaml.load(path)
    content["serve"] |= {"seconds_to_send": seconds, "seconds_to_answer": seconds}
    yaml.dump(content, path)


def listens(pid: int) -> bool:
    connections = psutil.Process(pid).net_connections("tcp")
    return any(connection.status == psutil.CONN_LISTEN for connection in connections)


def test_workers_end_with_their_parent(folder: Path) -> None:
    """A parent that is killed leaves nobody who holds the port, and nothing in the temporary folder."""
    with serving(folder) as server:
        pids = workers(server)
        server.process.kill()
        server.process.communicate()
        project.wait_until(lambda: not any(map(psutil.pid_exists, pids)), seconds=4)
        assert not accepts(server.address)
        assert list(server.temporary.iterdir()) == []


def test_a_whole_server_ends_at_once_and_says_nothing(folder: Path) -> None:
    """Ctrl-C reaches the workers too, and none of them is said to be replaced. Who wants its port before
    is told of the parent: a worker that is ended is replaced."""
    with serving(folder) as server:
        status, said = failed(folder, "--port", str(server.address[1]))
        assert status == 1 and f"by process {server.process.pid} (" in said
        os.killpg(server.process.pid, signal.SIGINT)
        _, error = server.process.communicate(timeout=10)
        assert server.process.returncode == 0 and "replaced" not in error


def test_folders_of_killed_servers_are_removed(folder: Path) -> None:
    """By the next start; that of a server that lives stays, and one that is being made."""
    with serving(folder) as living:
        (kept,) = living.temporary.iterdir()
        left, made = (Path(tempfile.mkdtemp(prefix=METRICS, dir=kept.parent)) for _ in range(2))
        for path in (kept, left):
            os.utime(path, (0, 0))
        with serving(folder) as other:
            assert {kept, made} < set(other.temporary.iterdir()) and not left.exists()
            made.rmdir()
            other.process.send_signal(signal.SIGTERM)
            other.process.communicate(timeout=30)
        living.end()


def workers(server: Process) -> list[int]:
    """The processes that have counted something, and live."""
    (metrics,) = server.temporary.iterdir()
    pids = {int(path.stem.rsplit("_", 1)[1]) for path in metrics.glob("gauge_livesum_*.db")}
    return sorted(pid for pid in pids if Path(f"/proc/{pid}").exists())


def test_what_a_worker_imports(folder: Path) -> None:
    """Neither torch nor what belongs to training, also when it has answered: the environment of the API
    has none of them."""
    code = (
        "import json, sys\n"
        "from pathlib import Path\n"
        "import numpy as np\n"
        "from beatline.serving import answers, app, uploads\n"
        "from beatline.serving.uploads import File, Upload\n"
        "application = app.project_application()\n"
        "service = application.state.service\n"
        "service.registry.look()\n"
        "model, limits = service.registry.model('ptbxl', 'cnn'), service.limits\n"
        "body = json.dumps(np.ones((120, 3)).tolist()).encode()\n"
        "upload = Upload('application/json', {}, [File('', body)])\n"
        "recording = uploads.read(upload, limits)\n"
        "answers.respond(model, recording, explain=True, with_recording=True, limits=limits)\n"
        "application.openapi()\n"
        "print(' '.join(sys.modules))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    said = subprocess.check_output(command, cwd=folder, env=environment, text=True)
    imported = {name.split(".")[0] for name in said.split()}
    assert {"onnxruntime", "fastapi"} <= imported
    assert imported.isdisjoint({"torch", "sklearn", "matplotlib", "dvc", "librosa", "wfdb"})


def failed(folder: Path, *options: str) -> tuple[int, str]:
    """Status and stderr of a start that fails."""
    process = start(folder, *options)
    try:
        said, error = process.communicate(timeout=30)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert said == ""
    return process.returncode, error


def test_mistakes_at_the_start(folder: Path, tmp_path: Path) -> None:
    """Each is one sentence that says what to do, and status 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        status, said = failed(folder, "--port", port)
    assert status == 1
    holder = rf"by process {os.getpid()} \(.*\)"
    assert re.fullmatch(rf"error: port {port} of 127.0.0.1 is in use {holder}: .* --port\n", said)
    (tmp_path / "empty").mkdir()
    shutil.copy(folder / "params.yaml", tmp_path / "empty")
    status, said = failed(tmp_path / "empty")
    assert (status, said) == (1, f"error: {registry.NONE_YET}\n")
    status, said = failed(folder, "--allow-host", "http://ecg.example")
    assert status == 1 and "'http://ecg.example'" in said and said.count("\n") == 1
    status, said = failed(tmp_path)
    assert status == 1 and re.fullmatch("error: params.yaml is missing: .* root folder\n", said)
    text = (folder / "params.yaml").read_text()
    (folder / "params.yaml").write_text(text.replace("ecg_features/mlp", "ecg_features/mpl"))
    status, said = failed(folder)
    assert status == 1 and "did you mean ecg_features/mlp?" in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--port", "70000"), "a port is a number from 0 to 65535, not '70000'"),
        (("--workers", "0"), "a number of processes is at least 1, not '0'"),
        (("--hots", "x"), "unrecognized arguments"),
    ],
)
def test_wrong_options(folder: Path, options: Any, sentence: str) -> None:
    """Errors look as in every command: usage and a sentence, status 2."""
    status, said = failed(folder, *options)
    assert status == 2 and sentence in said


def test_a_broken_worker_is_not_started_for_ever(folder: Path) -> None:
    """If no worker comes up, the command ends, with what the worker said."""
    (folder / "onnxruntime.py").write_text("raise ImportError('no such thing')\n")
    environment = {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "TMPDIR": tempfile.gettempdir()}
    process = start(folder, "--port", "0", "--workers", "1", **environment)
    try:
        _, said = process.communicate(timeout=30)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 1
    assert "no such thing" in said and "error: a worker ended before it could answer" in said
