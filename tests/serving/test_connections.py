"""Connections of clients that send too much, too slowly, or nothing: each ends, with the reason where
there is somebody to read it, and others are answered meanwhile."""

from __future__ import annotations

import json
import logging
import re
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import psutil
import pytest

from beatline.serving import connections
from tests.serving import project

HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
ECG = project.raw_recordings("ptbxl")[0].tobytes()
PREDICT = b"POST /models/ptbxl/cnn/predict HTTP/1.1\r\nHost: localhost\r\nX-Shape: 120,3\r\n"
SOON = 0.3  # in place of the seconds that a client is given

Connect = Callable[[], socket.socket]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with project.client(project.make(tmp_path_factory.mktemp("project"))) as found:
        yield found


@pytest.fixture
def connect(client: httpx.Client) -> Iterator[Connect]:
    """Opens connections to the server, which are closed in the end."""
    opened: list[socket.socket] = []

    def open_one() -> socket.socket:
        address = (client.base_url.host, client.base_url.port or 80)
        opened.append(socket.create_connection(address, timeout=10))
        return opened[-1]

    yield open_one
    for connection in opened:
        connection.close()


def until_closed(connection: socket.socket) -> bytes:
    """Everything that comes until the server ends the connection."""
    received = b""
    with suppress(ConnectionError):  # reset, since something was not read
        while part := connection.recv(1 << 16):
            received += part
    return received


def status(answer: bytes) -> int:
    """The status of a problem document, which is all there is, on a connection that is closed."""
    head, _, body = answer.partition(b"\r\n\r\n")
    number = int(head.split()[1])
    assert b"content-type: application/problem+json" in head and b"connection: close" in head
    assert json.loads(body)["status"] == number
    return number


def is_open(connection: socket.socket) -> bool:
    readable, _, _ = select.select([connection], [], [], 0)
    return not readable


def answers(connection: socket.socket) -> bool:
    connection.sendall(HEALTH + b"\r\n")
    return connection.recv(1 << 16).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "headers",
    [
        b"X: " + b"a" * 70_000 + b"\r\n\r\n",
        b"".join(b"X-%d: %s\r\n" % (number, b"a" * 1000) for number in range(70)) + b"\r\n",
        b"X: " + b"a" * 70_000,  # and never an end
        b"a:\r\n" * 101 + b"\r\n",
    ],
    ids=["one long", "long together", "without end", "many"],
)
def test_headers_that_are_too_large(connect: Connect, headers: bytes) -> None:
    connection = connect()
    connection.sendall(HEALTH + headers)
    assert status(until_closed(connection)) == 431


def test_an_address_that_is_too_long(connect: Connect) -> None:
    connection = connect()
    connection.sendall(b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert status(until_closed(connection)) == 431


def test_headers_as_large_as_they_may_be(connect: Connect) -> None:
    """Alone, in pieces, and with a large body behind them in the same piece: all are answered."""
    headers = b"".join(b"X-%d: %s\r\n" % (number, b"a" * 640) for number in range(98)) + b"\r\n"
    connection = connect()
    for piece in (1 << 20, 5000):
        whole = HEALTH + headers
        for begin in range(0, len(whole), piece):
            connection.sendall(whole[begin : begin + piece])
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
    body = b"[" + b"0.5," * 50_000 + b"0.5]"
    head = b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    connection.sendall(PREDICT + head + body)
    assert connection.recv(1 << 16).startswith(b"HTTP/1.1 422 ")


def test_headers_after_a_body(connect: Connect) -> None:
    """Count as those before it."""
    connection = connect()
    connection.sendall(PREDICT + b"Transfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n")
    connection.sendall(b"a: b\r\n" * 200 + b"\r\n")
    assert b" 200 " not in until_closed(connection)


@pytest.mark.parametrize("sent", [b"", b"GET /hea", HEALTH + b"X: a"])
def test_headers_that_do_not_come(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    """A letter now and then gives no more time. Who has said nothing is told nothing."""
    monkeypatch.setattr(connections, "SECONDS_FOR_HEADERS", SOON)
    connection = connect()
    began = time.monotonic()
    connection.sendall(sent)
    while is_open(connection):
        assert time.monotonic() - began < 5
        if sent:
            connection.sendall(b"a")
        time.sleep(0.05)
    answer = until_closed(connection)
    assert status(answer) == 408 if sent else answer == b""
    assert time.monotonic() - began >= SOON


def test_the_next_request_in_halves(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the time that the first one had, and no more."""
    monkeypatch.setattr(connections, "SECONDS_FOR_HEADERS", SOON)
    connection = connect()
    assert answers(connection)
    connection.sendall(HEALTH)
    assert status(until_closed(connection)) == 408


def test_a_body_that_nobody_reads(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request is answered without it; its rest is not waited for without end, slowly as it comes."""
    monkeypatch.setattr(connections, "SECONDS_FOR_THE_REST", SOON)
    connection = connect()
    connection.sendall(HEALTH + b"Content-Length: 100000\r\n\r\nabc")
    assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
    began = time.monotonic()
    while is_open(connection):
        assert time.monotonic() - began < 3
        connection.sendall(b"a")
        time.sleep(0.05)


def test_answers_that_nobody_takes(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """More than the system holds between two programs: the connection ends, in silence."""
    monkeypatch.setattr(connections, "SECONDS_FOR_THE_REST", SOON)
    connection = connect()
    file = b"GET /swagger/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
    connection.sendall(file * connections.PIPELINED)
    project.wait_until(lambda: not held_by_server(connection))
    time.sleep(0.1)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def held_by_server(connection: socket.socket) -> bool:
    """Whether its other end is still open. It runs in this process too."""
    ours = connection.getsockname()
    return any(other.raddr == ours for other in psutil.Process().net_connections("tcp"))


def test_requests_that_come_together(connect: Connect) -> None:
    """Some may wait for the answer of another. More are not taken in."""
    connection = connect()
    connection.sendall((HEALTH + b"\r\n") * connections.PIPELINED)
    received = b""
    while received.count(b"HTTP/1.1 200 OK") < connections.PIPELINED:
        received += connection.recv(1 << 16)
    hostile = connect()
    head = PREDICT + b"Content-Length: %d\r\n\r\n" % len(ECG)
    hostile.sendall((head + ECG) * 500)
    assert until_closed(hostile).count(b"HTTP/1.1 200 OK") < 500


def test_more_connections_than_there_may_be(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that has waited longest for its client gives way, whoever answers stays, and a new client
    is answered."""
    monkeypatch.setattr(connections, "CONNECTIONS", 8)
    working = connect()
    working.sendall(PREDICT + b"Content-Length: %d\r\n\r\n" % len(ECG))
    idle = [connect() for _ in range(20)]
    project.wait_until(lambda: sum(map(is_open, idle)) <= 8)
    assert answers(connect())
    assert not is_open(idle[0]) and is_open(idle[-1])
    working.sendall(ECG)
    assert working.recv(1 << 16).startswith(b"HTTP/1.1 200 ")


def test_more_connections_of_a_client_than_it_may_have(
    client: httpx.Client, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They take the room of its own and of nobody else's, and it is answered all the same. A proxy has
    many clients."""
    monkeypatch.setattr(connections, "CONNECTIONS_OF_CLIENT", 4)
    through_a_proxy = [connect() for _ in range(8)]
    address = (client.base_url.host, client.base_url.port or 80)
    with ExitStack() as stack:

        def connect_elsewhere() -> socket.socket:
            elsewhere = socket.create_connection(address, 10, source_address=("127.0.0.2", 0))
            return stack.enter_context(elsewhere)

        greedy = [connect_elsewhere() for _ in range(20)]
        project.wait_until(lambda: sum(map(is_open, greedy)) <= 4)
        assert answers(connect_elsewhere()) and not is_open(greedy[0])
        assert all(map(is_open, through_a_proxy)) and answers(through_a_proxy[0])


def test_a_connection_without_another_request(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ends, in silence: it holds a place that others want."""
    monkeypatch.setattr(connections, "SECONDS_IDLE", SOON)
    connection = connect()
    assert answers(connection)
    began = time.monotonic()
    assert until_closed(connection) == b""
    assert SOON / 2 < time.monotonic() - began < 4


def test_a_tunnel(connect: Connect) -> None:
    """Is not opened: the request is refused as one of HTTP, and the connection ends with it."""
    connection = connect()
    head = b"CONNECT /health HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\n\r\n"
    connection.sendall(head + b" what follows is no HTTP")
    began = time.monotonic()
    assert re.match(rb"HTTP/1.1 4\d\d ", until_closed(connection))
    assert time.monotonic() - began < 3


WHOLE = b"Content-Length: %d\r\n\r\n%s" % (len(ECG), ECG)
IN_PARTS = b"Transfer-Encoding: chunked\r\n\r\n3e8\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n" % (
    ECG[:1000],
    len(ECG) - 1000,
    ECG[1000:],
)
# Of curl --http2, of Java's HttpClient, and of a browser that asks for a web socket.
UPGRADES = {
    "h2c": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
    "websocket": b"Upgrade: websocket\r\nConnection: upgrade\r\n",
}


@pytest.mark.parametrize("body", [WHOLE, IN_PARTS], ids=["length", "chunked"])
@pytest.mark.parametrize("upgrade", UPGRADES)
@pytest.mark.parametrize("parts", ["one", "head apart", "bytes", "three requests"])
def test_an_upgrade_is_not_taken_up(
    connect: Connect, upgrade: str, body: bytes, parts: str
) -> None:
    """The request is answered as any other (RFC 9110, 7.8), whose body it has, however it comes, and the
    connection goes on."""
    connection = connect()
    request = PREDICT + UPGRADES[upgrade] + body
    if parts == "one":
        connection.sendall(request)
    elif parts == "head apart":
        head, _, rest = request.partition(b"\r\n\r\n")
        for part in (head + b"\r\n\r\n", rest):
            connection.sendall(part)
            time.sleep(0.1)
    elif parts == "bytes":
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number in range(300):
            connection.sendall(request[number : number + 1])
        connection.sendall(request[300:])
    else:
        connection.sendall(2 * request)
        assert answered(connection).count(b"HTTP/1.1 200 ") == 1
        connection.sendall(request)
        assert b'"probabilities"' in answered(connection)
    assert b'"probabilities"' in answered(connection)
    assert answers(connection)


def test_upgrades_without_a_body(connect: Connect) -> None:
    """As many as come together are answered, each once."""
    connection = connect()
    head = b"GET /models/ptbxl/cnn/examples HTTP/1.1\r\nHost: localhost\r\n"
    connection.sendall(10 * (head + UPGRADES["h2c"] + b"\r\n"))
    assert all(b'"examples"' in answered(connection) for _ in range(10))
    assert answers(connection)


def answered(connection: socket.socket) -> bytes:
    """The next answer, with its head, which says that it is one."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(1)
    assert received.startswith(b"HTTP/1.1 200 "), received
    length = int(re.findall(rb"content-length: (\d+)", received)[0])
    while length:
        part = connection.recv(length)
        received, length = received + part, length - len(part)
    return received


def test_no_request_at_all(connect: Connect) -> None:
    connection = connect()
    connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS client")
    assert status(until_closed(connection)) == 400


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (b"localhost", 200),
        (b"LOCALHOST.:80", 200),
        (b"127.0.0.1:5000", 200),
        (b"[::1]:5000", 200),
        (b"192.168.1.7", 200),  # an address: no name of somebody else's
        (b"beatline.example:443", 200),  # as it is started with
        (b"rebound.example", 421),
        (b"localhost.rebound.example", 421),
        (b"127.0.0.1.rebound.example", 421),
        (b"", 421),
    ],
)
def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: bytes, expected: int) -> None:
    """A page of somebody else's, whose name points here, reads nothing."""
    monkeypatch.setenv("BEATLINE_HOSTS", "0.0.0.0 beatline.example")
    with project.serving(project.app(tmp_path)) as url, httpx.Client(base_url=url) as client:
        response = client.get("/models", headers={b"Host": host})
    assert response.status_code == expected
    if expected != 200:
        assert "models" not in response.json()


@pytest.mark.parametrize("names", [b"", b"Host: localhost\r\nHost: rebound.example\r\n"])
def test_one_name(connect: Connect, names: bytes) -> None:
    connection = connect()
    connection.sendall(b"GET /models HTTP/1.1\r\n" + names + b"\r\n")
    assert re.match(rb"HTTP/1.1 400 ", connection.recv(1 << 16))
