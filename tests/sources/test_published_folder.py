"""Folders fetched file by file, from servers that misbehave: what is there and right stays, what is not
is never taken for whole, and the archive stands in."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml

from beatline.common.errors import UserError
from beatline.datasets import ptbxl
from beatline.simulators.ecg import simulator
from beatline.sources import download
from beatline.sources.pack import PackWriter
from beatline.sources.published import SAMPLE, fetch
from tests.paths import REAL_DATA, ROOT

REAL = REAL_DATA / "ptbxl"
ARCHIVE = "archive.zip"
CONTENTS = {
    "table.csv": b"a,b\n",
    **{f"records100/{n // 50:02}/{n:03} x.dat": f"recording {n}".encode() * 99 for n in range(80)},
    "records500/00/000.dat": b"large" * 99,
}
SELECTED = [name for name in CONTENTS if not name.startswith("records500")]
DAMAGED = SELECTED[20]  # none of those by which the speed is measured


@dataclass
class Server:
    """What the server in the thread has below `/1.0/`, how it fails, and what it was asked."""

    contents: dict[str, bytes] = field(default_factory=dict)
    statuses: dict[str, list[tuple[int, dict[str, str]]]] = field(default_factory=dict)
    halves: set[str] = field(default_factory=set)  # of which the first answer breaks off
    ranges: bool = True
    slow: float = 0  # seconds before an answer on a file of the folder
    slow_archive: float = 0
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    at_once: Counter[str] = field(default_factory=Counter)
    clients: set[int] = field(default_factory=set)
    address: str = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        name = unquote(handler.path).removeprefix("/1.0/")
        self.asked.append((name, handler.headers["Range"]))
        self.clients.add(handler.client_address[1])
        self.at_once["now"] += 1
        self.at_once["most"] = max(self.at_once["most"], self.at_once["now"])
        time.sleep(self.slow_archive if name == ARCHIVE else self.slow)
        self.at_once["now"] -= 1
        body = self.contents.get(name)
        status, headers = (404, {}) if body is None else (200, {"ETag": '"1"'})
        if self.statuses.get(name):
            (status, headers), body = self.statuses[name].pop(0), b""
        body = body or b""
        start = int((handler.headers["Range"] or "bytes=0-")[6:-1]) if self.ranges else 0
        if start and status == 200:
            status, headers["Content-Range"] = 206, f"bytes {start}-{len(body) - 1}/{len(body)}"
            body = body[start:]
        handler.send_response(status)
        for key, value in (headers | {"Content-Length": str(len(body))}).items():
            handler.send_header(key, value)
        handler.end_headers()
        if name in self.halves:
            self.halves.discard(name)
            body, handler.close_connection = body[: len(body) // 2], True
        handler.wfile.write(body)

    def fetched(self) -> list[str]:
        return [name for name, _ in self.asked if name.startswith("records")]


def sums_of(contents: dict[str, bytes]) -> bytes:
    lines = [f"{hashlib.sha256(body).hexdigest()} {name}\n" for name, body in contents.items()]
    return "".join(lines).encode()


@pytest.fixture
def server() -> Iterator[Server]:
    served = Server({**CONTENTS, "SHA256SUMS.txt": sums_of(CONTENTS)})

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            served.answer(self)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads, http.block_on_close = True, False
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        served.address = f"http://127.0.0.1:{http.server_port}"
        yield served
        http.shutdown()


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that clients made, each cut to a moment; and no proxy in between."""
    made: list[float] = []
    monkeypatch.setattr(
        download, "_pause", lambda retry, response: made.append(_wait(retry, response))
    )
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return made


def _wait(retry: download.Retry, response: Any) -> float:
    return (retry.get_retry_after(response) if response else None) or retry.get_backoff_time()


def description(
    server: Server, folder: Path, archive: bool = False, mirrors: tuple[str, ...] = ("1.0",)
) -> Path:
    urls = [f"{server.address}/{mirror}/" for mirror in mirrors]
    about = {"name": "ecgs-1.0", "urls": urls, "sums": "SHA256SUMS.txt"}
    content: dict[str, object] = {"folder": about | {"select": ["table.csv", "records{rate}/"]}}
    if archive:
        content["files"] = {ARCHIVE: {"urls": [f"{server.address}/1.0/{ARCHIVE}"]}}
    path = folder / "mine/description.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(content))
    return path


def fetched(path: Path, tmp_path: Path) -> Path:
    return fetch(path, tmp_path / "w", {"rate": 100}, None)


def held(folder: Path) -> dict[str, bytes]:
    """What is in a folder, less the list and the note of where it is from."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith("SHA256SUMS.txt")
    }


def test_what_is_selected_is_fetched_and_nothing_twice(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table and one of the rates, over few connections that are kept; a second call asks nothing, and
    a file that was changed or lost is fetched alone."""
    server.slow = 0.002
    path = description(server, tmp_path)
    folder = fetched(path, tmp_path)
    assert held(folder) == {name: CONTENTS[name] for name in SELECTED}
    assert sorted(server.fetched()) == sorted(SELECTED[1:])
    assert 1 < server.at_once["most"] <= download.CONNECTIONS
    assert (
        len(server.clients) <= 2 * download.CONNECTIONS + 1
    )  # of the measurement, and of the rest
    assert "files/s" in capsys.readouterr().err
    server.asked.clear()
    assert fetched(path, tmp_path) == folder and not server.asked
    (folder / SELECTED[5]).write_bytes(b"changed")
    (folder / SELECTED[7]).unlink()
    fetched(path, tmp_path)
    assert sorted(server.fetched()) == sorted([SELECTED[5], SELECTED[7]])
    assert held(folder) == {name: CONTENTS[name] for name in SELECTED}


def test_a_server_that_misbehaves(server: Server, tmp_path: Path, pauses: list[float]) -> None:
    """Broken connections, an overloaded server that says when to come again, one that fails for a moment,
    and redirects: all files come, what broke goes on, and the pauses are those asked for."""
    server.halves = {SELECTED[3], SELECTED[40]}
    server.statuses = {
        SELECTED[4]: [(503, {"Retry-After": "7"})],
        SELECTED[41]: [(500, {}), (429, {"Retry-After": "9"})],
        SELECTED[42]: [(302, {"Location": f"{server.address}/1.0/{SELECTED[42]}"})],
    }
    folder = fetched(description(server, tmp_path), tmp_path)
    assert held(folder) == {name: CONTENTS[name] for name in SELECTED}
    assert {7, 9} <= set(pauses)
    half = len(CONTENTS[SELECTED[3]]) // 2
    assert (SELECTED[3], f"bytes={half}-") in server.asked


def test_a_server_without_ranges(server: Server, tmp_path: Path) -> None:
    """What broke begins again, and no byte is doubled."""
    server.ranges, server.halves = False, {SELECTED[3]}
    folder = fetched(description(server, tmp_path), tmp_path)
    assert held(folder) == {name: CONTENTS[name] for name in SELECTED}


def wrong_bytes(server: Server) -> str:
    server.contents[DAMAGED] = b"other"
    return hashlib.sha256(b"other").hexdigest()


def lost(server: Server) -> str:
    del server.contents[DAMAGED]
    return "404"


def down(server: Server) -> str:
    server.statuses[DAMAGED] = [(503, {})] * 9
    return "503"


@pytest.mark.parametrize("fail", [wrong_bytes, lost, down])
def test_one_file_that_cannot_be_had(
    server: Server,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    fail: Callable[[Server], str],
) -> None:
    """It is named and nothing is taken for whole; the next call asks for no more than what is missing.
    With an archive, that is fetched instead."""
    said = fail(server)
    path = description(server, tmp_path)
    with pytest.raises(UserError, match=said) as error:
        fetched(path, tmp_path)
    assert download.quote(DAMAGED) in str(error.value)
    assert not (tmp_path / "w/ecgs-1.0" / DAMAGED).exists()
    server.contents[ARCHIVE] = b"archive" * 1000
    path = description(server, tmp_path, archive=True)
    server.statuses.clear()
    if fail is down:
        server.statuses[DAMAGED] = [(503, {})] * 9
    assert fetched(path, tmp_path) == tmp_path / "w" / ARCHIVE
    assert "trying the archive" in capsys.readouterr().out
    (tmp_path / "w" / ARCHIVE).unlink()
    server.contents[DAMAGED] = CONTENTS[DAMAGED]
    server.statuses.clear()
    del server.contents[ARCHIVE]
    server.asked.clear()
    folder = fetched(path, tmp_path)
    assert held(folder) == {name: CONTENTS[name] for name in SELECTED}
    assert DAMAGED in server.fetched() and len(server.fetched()) < len(SELECTED) - SAMPLE


def test_the_next_mirror(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where one has nothing, the next is asked."""
    path = description(server, tmp_path, mirrors=("away", "1.0"))
    assert held(fetched(path, tmp_path)) == {name: CONTENTS[name] for name in SELECTED}
    assert "trying the next mirror" in capsys.readouterr().out


@pytest.mark.parametrize("slow", [0, 0.05])
def test_what_comes_faster(server: Server, tmp_path: Path, slow: float) -> None:
    """The archive, if the files of the folder take their time, after those alone by which that was found;
    the folder, if the archive does."""
    server.slow, server.slow_archive = slow, 0 if slow else 2
    server.contents[ARCHIVE] = b"z" * 100_000
    got = fetched(description(server, tmp_path, archive=True), tmp_path)
    assert got.name == (ARCHIVE if slow else "ecgs-1.0")
    assert len(server.fetched()) == (SAMPLE if slow else len(SELECTED) - 1)
    server.asked.clear()
    assert fetched(description(server, tmp_path, archive=True), tmp_path) == got
    assert not server.asked


@pytest.mark.parametrize(
    "listing",
    [
        "<html>please log in</html>",
        f"{'0' * 64} ../../table.csv",
        f"{'0' * 64} /etc/table.csv",
        f"{'0' * 64} records100/../table.csv",
        f"{'0' * 64} records100\\..\\table.csv",
    ],
)
def test_a_list_that_is_none(server: Server, tmp_path: Path, listing: str) -> None:
    """A page in place of the list, and names that lead out of the folder, are refused, and nothing is
    fetched; the next call asks for the list again."""
    server.contents["SHA256SUMS.txt"] += listing.encode()
    path = description(server, tmp_path)
    with pytest.raises(UserError, match=r"SHA256SUMS\.txt"):
        fetched(path, tmp_path)
    assert not server.fetched() and not held(tmp_path / "w")
    server.contents["SHA256SUMS.txt"] = sums_of(CONTENTS)
    assert held(fetched(path, tmp_path))


def test_a_list_held_to_its_hash(server: Server, tmp_path: Path) -> None:
    """Whoever writes down the hash of the list has every file held to it."""
    path = description(server, tmp_path)
    content = yaml.safe_load(path.read_text())
    content["folder"]["sha256"] = hashlib.sha256(server.contents["SHA256SUMS.txt"]).hexdigest()
    path.write_text(yaml.safe_dump(content))
    server.contents["SHA256SUMS.txt"] = sums_of({"table.csv": b"other"})
    with pytest.raises(UserError, match=content["folder"]["sha256"]):
        fetched(path, tmp_path)


def test_what_nobody_has_selected(server: Server, tmp_path: Path) -> None:
    """A folder that the list does not know is named with the key."""
    with pytest.raises(UserError, match=r"folder\.select.*records250/"):
        fetch(description(server, tmp_path), tmp_path / "w", {"rate": 250}, None)


def test_a_killed_download_goes_on(server: Server, tmp_path: Path) -> None:
    """SIGKILL in the middle: no file under its name is half of one, and what is there is not asked for
    again."""
    server.slow = 0.03
    path = description(server, tmp_path)
    program = f"""
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from beatline.sources.published import fetch
fetch(Path({str(path)!r}), Path({str(tmp_path / "w")!r}), {{"rate": 100}}, None)
"""
    run = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, env={**os.environ, "no_proxy": "*"}
    )
    deadline = time.monotonic() + 60
    while len(server.fetched()) < SAMPLE and time.monotonic() < deadline:
        time.sleep(0.005)
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    time.sleep(0.1)  # what the server was still asked
    whole = {
        name: body for name, body in held(tmp_path / "w/ecgs-1.0").items() if ".partial" not in name
    }
    assert 0 < len(whole) < len(SELECTED)
    assert all(CONTENTS[name] == body for name, body in whole.items())
    server.slow = 0
    server.asked.clear()
    folder = fetched(path, tmp_path)
    assert held(folder) == {name: CONTENTS[name] for name in SELECTED}
    assert not set(server.fetched()) & whole.keys()


@pytest.fixture(scope="module")
def ecgs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """PTB-XL as PhysioNet lays it out: the first real records at both rates where they are at hand, else
    simulated ones."""
    folder = tmp_path_factory.mktemp("ptbxl")
    if REAL.is_dir():
        for name in ("ptbxl_database.csv", "scp_statements.csv"):
            shutil.copy(REAL / name, folder)
        for rate in ("records100", "records500"):
            (folder / rate / "00000").mkdir(parents=True)
            for number in range(1, 21):
                for file in (REAL / rate / "00000").glob(f"{number:05}_*"):
                    shutil.copy(file, folder / rate / "00000")
    else:
        simulator.simulate(folder, records=20, seed=1)
    contents = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    return {**contents, "SHA256SUMS.txt": sums_of(contents)}


def test_physionet_as_it_is_described(
    server: Server, ecgs: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The project's own description, its addresses replaced: the pack is that of the archive, byte for
    byte, and a pack is not begun where one file is wrong."""
    server.contents = dict(ecgs)
    text = (ROOT / "beatline/datasets/ptbxl/physionet.yaml").read_text()
    folder = yaml.safe_load(text)["folder"]
    path = tmp_path / "physionet.yaml"
    path.write_text(text.replace(folder["urls"][0], f"{server.address}/1.0/"))
    content = yaml.safe_load(path.read_text())
    (archive,) = content["files"]
    content["files"][archive]["urls"] = [f"{server.address}/1.0/{ARCHIVE}"]
    path.write_text(yaml.safe_dump(content))
    record = "records100/00000/00003_lr.dat"

    def pack(workspace: Path) -> bytes:
        workspace.mkdir(exist_ok=True)
        block = {"source": str(path), "sampling_rate": 100, "sha256": None}
        block["simulated"] = {"records": 20, "seed": 1}
        with PackWriter(workspace / "raw.zip") as packed:
            ptbxl.download(ptbxl.Download.model_validate(block), packed, workspace)
        return (workspace / "raw.zip").read_bytes()

    server.contents[record] = ecgs[record][:-1] + b"x"
    with pytest.raises(UserError):
        pack(tmp_path / "files")
    assert not (tmp_path / "files/raw.zip").exists()
    server.contents[record] = ecgs[record]
    one_by_one = pack(tmp_path / "files")
    assert not any(name.startswith("records500") for name in server.fetched())
    (tmp_path / "zip").mkdir()
    with zipfile.ZipFile(tmp_path / "zip" / archive, "w") as archived:
        for name, body in ecgs.items():
            archived.writestr(f"ptb-xl-1.0.3/{name}", body)
    server.asked.clear()
    assert pack(tmp_path / "zip") == one_by_one
    assert not server.asked
