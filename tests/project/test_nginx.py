"""deploy/nginx/beatline.conf, by a real nginx before a real service."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest

from beatline.common import params
from beatline.serving import hosts, tokens
from beatline.serving.settings import Serve
from tests.paths import ROOT
from tests.serving import project

pytestmark = pytest.mark.skipif(
    not (shutil.which("nginx") and shutil.which("openssl")), reason="nginx or openssl is not here"
)
CONFIGURATION = ROOT / "deploy/nginx/beatline.conf"
NAME = "ecg.example"
LOGIN = ("ada", "secret")
# Around what is included, as Debian's nginx.conf is, with all files in one folder.
AROUND = """
daemon off;
pid nginx.pid;
error_log stderr;
{user}
events {{}}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    {included}
}}
"""
COMPOSE = ROOT / "deploy/nginx/compose.conf"
TOKEN = "a-token-of-some-length"
CNN = "models/ptbxl/cnn/predict"
RAW = {"Content-Type": "application/octet-stream", "X-Shape": "120,3"}
ECG = project.raw_recordings("ptbxl")[0].tobytes()

Ask = Callable[..., httpx.Response]


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _certificate(folder: Path) -> None:
    words = f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={NAME} -addext"
    files = ["-keyout", folder / "beatline.key", "-out", folder / "beatline.pem"]
    subprocess.run(
        ["openssl", *words.split(), f"subjectAltName=DNS:{NAME}", *files],
        check=True,
        capture_output=True,
    )


def _write(folder: Path, service: str) -> int:
    """Write what nginx reads, and return the port at which it will listen for TLS."""
    port = _free_port()
    included = CONFIGURATION.read_text()
    for shipped, here in (
        ("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;"),
        ("listen 80;", f"listen 127.0.0.1:{_free_port()};"),
        ("127.0.0.1:5000", service.removeprefix("http://")),
        ("/etc/nginx/", f"{folder}/"),
    ):
        assert shipped in included
        included = included.replace(shipped, here)
    user = "user root;" if os.getuid() == 0 else ""  # who may read the folder of a test
    (folder / "nginx.conf").write_text(AROUND.format(user=user, included=included))
    (folder / "beatline.htpasswd").write_text(f"{LOGIN[0]}:{{PLAIN}}{LOGIN[1]}\n")
    _certificate(folder)
    return port


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Ask nginx by its name, with a login unless `auth` says otherwise."""
    folder = tmp_path_factory.mktemp("nginx")
    with ExitStack() as stack:
        environment = stack.enter_context(pytest.MonkeyPatch.context())
        environment.setenv(hosts.VARIABLE, NAME)
        made = project.make(tmp_path_factory.mktemp("project"))
        service = stack.enter_context(project.serving(project.app(made)))
        port = _write(folder, service)
        nginx = subprocess.Popen(["nginx", "-p", folder, "-c", "nginx.conf", "-e", "stderr"])
        stack.callback(lambda: (nginx.terminate(), nginx.wait(10)))
        context = ssl.create_default_context(cafile=folder / "beatline.pem")
        client = stack.enter_context(httpx.Client(verify=context, auth=LOGIN, timeout=30))

        def ask(
            path: str, method: str = "GET", host: str = NAME, **options: object
        ) -> httpx.Response:
            options["headers"] = {"Host": host, **options.get("headers", {})}  # type: ignore[dict-item]
            return client.request(
                method,
                urljoin(f"https://127.0.0.1:{port}", path),
                extensions={"sni_hostname": NAME},
                **options,  # type: ignore[arg-type]
            )

        def answers() -> bool:
            assert nginx.poll() is None
            try:
                return ask("/beatline/health").status_code == 200
            except httpx.TransportError:
                return False

        project.wait_until(answers)
        yield ask


def test_the_page_and_all_it_loads(ask: Ask) -> None:
    """Whatever the page and /docs load, however deep, is found under the prefix."""
    waiting, seen = ["/beatline/", "/beatline/docs"], set[str]()
    while waiting:
        address = waiting.pop()
        answer = ask(address)
        assert answer.status_code == 200, address
        seen.add(address)
        links = (
            re.findall(r'(?:href|src)="([^"#:]+)"', answer.text)
            if "html" in answer.text[:100]
            else []
        )
        if "/page/" in address and address.endswith(".js"):
            links = re.findall(r'from "([^"]+\.js)"', answer.text)
        waiting += {urljoin(address, link) for link in links} - seen
    assert "/beatline/page/page.js" in seen and len(seen) > 8
    assert all(address.startswith("/beatline/") for address in seen)
    redirect = ask("/beatline")
    assert (redirect.status_code, redirect.headers["Location"]) == (301, "/beatline/")


def test_the_api(ask: Ask) -> None:
    """Where its document says that the API is, a recording is answered."""
    address = "/beatline/openapi.json"
    (server,) = ask(address).json()["servers"]
    path = urljoin(address, f"{server['url']}/{CNN}")
    assert path == f"/beatline/{CNN}"
    answer = ask(path, "POST", content=ECG, headers=RAW)
    assert answer.status_code == 200, answer.text
    assert set(answer.json()["probabilities"]) == set(project.CLASSES)
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["X-Request-ID"])
    assert "max-age" in answer.headers["Strict-Transport-Security"]


def test_nothing_without_a_login(ask: Ask) -> None:
    """But whether it is healthy; its metrics are not for clients at all."""
    for path in ("", "models", "page/page.js", "health/../models", "%68ealth/", CNN):
        for auth in (httpx.Auth(), httpx.BasicAuth(LOGIN[0], "guessed")):
            assert ask(f"/beatline/{path}", auth=auth).status_code == 401
    assert ask("/beatline/health", auth=httpx.Auth()).json() == {"status": "healthy"}
    assert ask("/beatline/metrics").status_code == 404


def test_other_names(ask: Ask) -> None:
    """A name that somebody else has given this address gets no answer."""
    with pytest.raises(httpx.RemoteProtocolError):
        ask("/beatline/", host="elsewhere.example")


def test_what_is_too_large_is_told_by_the_service(ask: Ask) -> None:
    """A refusal is a problem document with the limit, not a page of nginx's."""
    limit = int(project.LIMITS["max_megabytes"] * 1e6)
    answer = ask(f"/beatline/{CNN}", "POST", content=b"\0" * (limit + 1), headers=RAW)
    assert answer.status_code == 413
    assert json.loads(answer.text)["status"] == 413


def test_before_containers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy of compose.yaml: TLS before a service that asks for its token, and counts the requests of
    the client and not of the proxy; metrics stay inside."""
    monkeypatch.setenv(hosts.VARIABLE, NAME)
    monkeypatch.setenv(tokens.VARIABLE, TOKEN)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    _certificate(tmp_path)
    port = _free_port()
    limits = {"token": "everything", "requests_per_second": 0.1}
    application = project.app(project.make(tmp_path / "project"), **limits)
    with project.serving(application) as service, ExitStack() as stack:
        text = COMPOSE.read_text()
        for shipped, here in (
            ("/tmp/", f"{tmp_path}/"),
            ("8443", f"127.0.0.1:{port}"),
            ("api:5000", service.removeprefix("http://")),
            ("/run/secrets/tls_certificate", f"{tmp_path}/beatline.pem"),
            ("/run/secrets/tls_key", f"{tmp_path}/beatline.key"),
        ):
            assert shipped in text
            text = text.replace(shipped, here)
        (tmp_path / "nginx.conf").write_text(("user root;" if os.getuid() == 0 else "") + text)
        command = ["nginx", "-c", tmp_path / "nginx.conf", "-e", "stderr", "-g", "daemon off;"]
        nginx = subprocess.Popen(command)
        stack.callback(lambda: (nginx.terminate(), nginx.wait(10)))
        context = ssl.create_default_context(cafile=tmp_path / "beatline.pem")
        client = stack.enter_context(
            httpx.Client(verify=context, timeout=30, headers={"Host": NAME})
        )

        def ask(path: str, **headers: str) -> httpx.Response:
            address = f"https://127.0.0.1:{port}{path}"
            return client.get(address, headers=headers, extensions={"sni_hostname": NAME})

        def healthy() -> bool:
            assert nginx.poll() is None
            try:
                return ask("/health").status_code == 200
            except httpx.TransportError:
                return False

        project.wait_until(healthy)
        assert ask("/metrics").status_code == 404
        right = {"Authorization": f"Bearer {TOKEN}"}
        answer = ask("/models", **right)
        assert (
            answer.status_code == 200 and "max-age" in answer.headers["Strict-Transport-Security"]
        )
        pretended = ask("/models", **right, **{"X-Forwarded-For": "198.51.100.7"})
        assert pretended.status_code == 429, "a client's own word for its address counts nothing"


@pytest.mark.parametrize("path", [CONFIGURATION, COMPOSE], ids=lambda path: path.name)
def test_limits_agree_with_params(path: Path) -> None:
    """nginx gives up later than the service, and lets through what that may take."""
    text = path.read_text()
    serve = params.block(params.load(ROOT / "params.yaml"), "serve", Serve)
    (megabytes,) = re.findall(r"client_max_body_size (\d+)m;", text)
    (seconds,) = re.findall(r"proxy_read_timeout (\d+)s;", text)
    assert int(megabytes) * 2**20 > serve.max_bytes
    assert int(seconds) > serve.seconds_to_answer
