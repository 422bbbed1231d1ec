"""Made-up requests, well formed and not, to a server in a process of its own: whatever comes, no answer
is an error of ours, nothing is logged as one, and the server goes on."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.commands.test_serve import Process, serving
from tests.fuzz import CASES
from tests.serving import project

ECG = project.raw_recordings("ptbxl")[0]
SECONDS = 20
METHODS = [b"GET", b"POST", b"HEAD", b"PUT", b"OPTIONS", b"get", b"PRI", b"CONNECT", b"\x16\x03"]
PATHS = [
    *(b"/", b"/docs", b"/health", b"/models", b"/metrics", b"/openapi.json", b"/predict"),
    *(b"/models/ptbxl/cnn/predict", b"/models/ecg5000/autoencoder/predict?explain=true"),
    *(b"/models/ptbxl/cnn/predict?explain=true&recording=true", b"/models/ptbxl/cnn/examples/1"),
    *(
        b"/page/../params.yaml",
        b"/page/%2e%2e/%2e%2e/etc/passwd",
        b"//",
        b"*",
        b"http://localhost/",
    ),
    *(b"/v2/models/ptbxl.cnn/infer", b"/v2/models/ecg_features.mlp/versions/1", b"/v2/health/%00"),
    *(b"/models/%00/\xff/predict", b"/health?explain=1", b"/models/ptbxl/cnn/examples/..%2F1"),
]
TYPES = [
    *(b"application/json", b"text/csv", b"application/x-npy", b"application/octet-stream"),
    *(
        b"multipart/form-data; boundary=x",
        b"audio/wav",
        b"image/png",
        b"application/zip",
        b"\xe9",
        b"",
    ),
]
VALUES = [
    b"",
    b"1",
    b"120,3",
    b"-1",
    b"1e999",
    b"mV",
    b"a,b,c",
    b"\xff\xfe",
    b"9" * 400,
    b"a" * 9000,
]
NAMES = [
    *(b"X-Shape", b"X-Sampling-Rate", b"X-Unit", b"X-Channels", b"Content-Encoding", b"Expect"),
    *(
        b"Content-Length",
        b"Transfer-Encoding",
        b"Connection",
        b"Range",
        b"Upgrade",
        b"Host",
        b"x y",
        b"Inference-Header-Content-Length",
    ),
]
BODIES = [
    *(b"", b"{}", b"[", b"[" * 3000, b"null", json.dumps(ECG.tolist()).encode(), ECG.tobytes()),
    *(json.dumps({"signal": ECG.T.tolist(), "sampling_rate": 250, "unit": "uV"}).encode(),),
    *(b'{"heart_rate": 0.5, "pr_interval": 1, "qrs_duration": null}', b"a,b\n1,2\n3,x\n"),
    *(
        b"\x93NUMPY\x01\x00v\x00{'descr': '|O'}",
        b"RIFF\xff\xff\xff\xffWAVE",
        b"PK\x03\x04",
        b"fLaC",
    ),
    b'{"inputs": [{"name": "recording", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}',
    b'--x\r\nContent-Disposition: form-data; name="a"; filename="a.csv"\r\n\r\n1,2,3\r\n--x--\r\n',
]


def damaged(content: bytes, draw: random.Random) -> bytes:
    """Some bytes changed, lost or repeated."""
    result = bytearray(content)
    for _ in range(draw.choice([0, 0, 1, 1, 3])):
        place = draw.randrange(len(result) + 1)
        result[place : place + draw.choice([0, 1, 5])] = draw.randbytes(draw.choice([0, 1, 4]))
    return bytes(result)


def request(draw: random.Random) -> bytes:
    """The bytes of a request that is more or less one."""
    body = damaged(draw.choice(BODIES), draw)
    length = draw.choice([len(body)] * 6 + [len(body) // 2, len(body) + 5, -1, 10**20])
    lines = [
        draw.choice(METHODS[:2] * 4 + METHODS) + b" " + draw.choice(PATHS) + b" HTTP/1.1",
        b"Host: " + draw.choice([b"localhost"] * 100 + VALUES),
        b"Content-Type: " + draw.choice(TYPES),
        *([b"Content-Length: %d" % length] if draw.random() < 0.9 else []),
    ]
    lines += [
        draw.choice(NAMES) + b": " + draw.choice(VALUES) for _ in range(draw.choice([0, 0, 0, 1]))
    ]
    head = b"\r\n".join(lines) + b"\r\n\r\n"
    return (damaged(head, draw) if draw.random() < 0.1 else head) + body


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder: Path = project.make(tmp_path_factory.mktemp("project"))
    with serving(folder) as running:
        yield running


def answers(address: tuple[str, int], sent: bytes) -> bytes:
    """Everything that comes back when nothing more is sent."""
    received = b""
    # The server may have had enough, and say so by a reset.
    with socket.create_connection(address, SECONDS) as connection, suppress(ConnectionError):
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        while part := connection.recv(1 << 16):
            received += part
    return received


def test_no_request_is_an_error_of_ours(server: Process) -> None:
    """One request after the other, each by a connection that ends with it."""
    draw, counts = random.Random(1), Counter[str]()
    for number in range(CASES):
        sent = request(draw)
        received = answers(server.address, sent)
        statuses = re.findall(rb"^HTTP/1\.1 (\d{3}) ", received, re.M)
        counts.update([status.decode() for status in statuses] or ["none"])
        assert not any(status.startswith(b"5") for status in statuses), (number, sent, received)
    print(dict(sorted(counts.items())))
    assert counts["200"] and counts["400"] and counts["422"]
    assert httpx.get(f"{server.url}/health").status_code == 200
    os.kill(server.process.pid, signal.SIGTERM)
    _, said = server.process.communicate(timeout=30)
    assert "Traceback" not in said and "ERROR" not in said, said[-3000:]
