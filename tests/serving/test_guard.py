"""What strangers may ask, and how often: tokens, rates by address, and pages of other servers."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import schemathesis

from beatline.common.errors import UserError
from beatline.serving import inference_protocol, origins, rates, tokens
from beatline.serving.problems import Problem
from beatline.serving.settings import Serve
from tests.serving import project
from tests.serving.test_answer_log import settings

TOKEN = "a-token-of-some-length"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
SHA = hashlib.sha256(TOKEN.encode()).hexdigest()
ECG = {"signal": project.raw_recordings("ptbxl")[0].tolist()}
PREDICT, RECORDINGS = "/models/ptbxl/cnn/predict", "/models/{dataset}/{model}/predict"
OPEN = ["/", "/docs", "/machines.html", "/page/page.js", "/swagger/swagger-ui.css", "/health"]
OPEN += [inference_protocol.LIVE, inference_protocol.READY]

Start = Callable[..., Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return project.make(tmp_path_factory.mktemp("project"))


@contextmanager
def started(folder: Path, **environment: str) -> Iterator[Start]:
    """Start services of a project, with more limits, in an environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)

        @contextmanager
        def start(**limits: Any) -> Iterator[httpx.Client]:
            with project.client(folder, **limits) as client:
                yield client

        yield start


@pytest.mark.parametrize("stored", [{tokens.VARIABLE: TOKEN}, {tokens.HASHES: f"{'0' * 64} {SHA}"}])
def test_what_costs_much_or_changes_something_needs_the_token(
    folder: Path, stored: dict[str, str]
) -> None:
    """An explanation, feedback, features that are stored; a plain prediction does not."""
    costly = [
        ("POST", f"{PREDICT}?explain=true", {}),
        ("POST", f"{PREDICT}?%65xplain=true", {}),
        ("POST", f"{PREDICT}?explain=false&explain=true", {}),
        ("POST", PREDICT, {"X-Machine-Id": "pump-7"}),
        *(
            (method, path, {})
            for method in ("GET", "POST")
            for path in ("/feedback", "/feedback/x")
        ),
    ]
    with started(folder, **stored) as start, start() as client:
        assert client.post(PREDICT, json=ECG).status_code == 200
        assert client.post(f"{PREDICT}?explain=false", json=ECG).status_code == 200
        for method, path, headers in costly:
            refused = client.request(method, path, json=ECG, headers=headers)
            assert refused.status_code == 401, path
            assert refused.headers["WWW-Authenticate"].startswith("Bearer")
            assert "Authorization: Bearer" in refused.json()["detail"]
            assert (
                client.request(method, path, json=ECG, headers=headers | BEARER).status_code != 401
            )
        assert client.post(costly[0][1], json=ECG, headers=BEARER).json()["explanation"]


@pytest.mark.parametrize(
    "given",
    [
        "",
        "Bearer",
        "Bearer x",
        f"Basic {TOKEN}",
        f"Bearer {TOKEN}x",
        f"Bearer {SHA}",
        TOKEN,
        "Bearer é",
    ],
)
def test_another_token(folder: Path, given: str) -> None:
    with started(folder, **{tokens.VARIABLE: TOKEN}) as start, start(token="everything") as client:
        answer = client.get("/models", headers={"Authorization": given.encode()})
        assert answer.status_code == 401
        assert client.get("/models", headers={"Authorization": f"bearer  {TOKEN}"}).is_success


def test_everything_needs_the_token_but_the_page_and_health(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever address there is, those that do not exist included; a proof that no token is logged."""
    caplog.set_level(logging.DEBUG)
    with started(folder, **{tokens.VARIABLE: TOKEN}) as start, start(token="everything") as client:
        for path in OPEN:
            assert client.get(path).status_code == 200, path
        paths = [
            "/models",
            "/metrics",
            "/openapi.json",
            "/v2",
            "/x",
            "/health/",
            "/pages",
            "/machines",
        ]
        for path in [*paths, "/page/../models", "/v2/health/live/x"]:
            assert client.get(path).status_code == 401, path
            assert client.get(path, headers=BEARER).status_code != 401, path
        asked = client.post("/v2/models/ptbxl.cnn/infer", json={})
        assert asked.status_code == 401 and asked.json()["error"]
    assert TOKEN not in caplog.text


def test_a_token_that_is_wanted_and_not_there(tmp_path: Path) -> None:
    """Nobody believes a service protected that is not."""
    with pytest.raises(UserError, match=r"serve\.token.*BEATLINE_TOKEN"):
        project.app(tmp_path, token="everything")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        (tokens.VARIABLE, "short"),
        (tokens.VARIABLE, "x" * 30 + " y"),
        (tokens.HASHES, TOKEN),
        (tokens.HASHES, f"{SHA} {SHA[:-1]}"),
    ],
)
def test_tokens_that_are_none(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    """The reason is told, and not the token."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(UserError, match=variable) as refused:
        tokens.settle()
    assert value not in str(refused.value)


def test_processes_are_given_the_hash_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may read a worker's environment reads no token; its parent has one of its own."""
    monkeypatch.setenv(tokens.VARIABLE, TOKEN)
    monkeypatch.setenv(tokens.HASHES, "")
    own = tokens.settle()
    known = tokens.os.environ[tokens.HASHES].split()
    assert tokens.VARIABLE not in tokens.os.environ
    assert known == [SHA, hashlib.sha256(own.encode()).hexdigest()]


# ---------------------------------------------------------------- rates


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    now = [1000.0]
    monkeypatch.setattr(rates.time, "monotonic", lambda: now[0])

    def forward(seconds: float) -> None:
        now[0] += seconds

    return forward


def let_through(limit: rates.Rates, address: str, count: int) -> int:
    """How many of so many requests are not refused."""
    passed = 0
    for _ in range(count):
        try:
            limit.check(address)
            passed += 1
        except Problem as problem:
            assert problem.status == 429 and int(problem.headers["Retry-After"]) >= 1
    return passed


def test_a_client_has_its_rate_and_others_theirs(clock: Callable[[float], None]) -> None:
    """Some seconds' worth at once, then so many per second, however many are refused meanwhile."""
    limit = rates.Rates(2.0)
    burst = int(2 * rates.SECONDS_SAVED_UP)
    assert let_through(limit, "10.0.0.1", 100) == burst
    assert let_through(limit, "10.0.0.2", 1) == 1
    assert sum((clock(0.1), let_through(limit, "10.0.0.1", 5))[1] for _ in range(100)) == 20
    clock(1e6)
    assert let_through(limit, "10.0.0.1", 100) == burst
    assert let_through(rates.Rates(0.01), "10.0.0.1", 9) == 1


def test_processes_share_what_they_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is one of the server, not of each worker."""
    monkeypatch.setenv(rates.VARIABLE, "")
    rates.share(tmp_path / "rates")
    workers = [rates.Rates(0.02) for _ in range(3)]
    assert sum(let_through(worker, "10.0.0.1", 1) for worker in workers) == 1


def test_many_addresses_take_no_more_memory() -> None:
    """Nor do they use up what another client has."""
    limit = rates.Rates(0.02)
    size = limit._buckets.nbytes
    assert (
        sum(let_through(limit, f"10.{a}.{b}.1", 1) for a in range(20) for b in range(250)) == 5000
    )
    assert limit._buckets.nbytes == size < 2_000_000


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("unix:", "unix:", True),
    ],
)
def test_whose_address_it_is(one: str, other: str, same: bool) -> None:
    """A home has 2^64 addresses of IPv6: they are one client."""
    assert (rates.client_of(one) == rates.client_of(other)) == same


def test_too_many_requests(folder: Path) -> None:
    """The client is told when to come again; the page and health are always there. The limit is that of
    the client that a trusted proxy names, not of the proxy."""
    with started(folder) as start, start(requests_per_second=0.1) as client:
        assert client.get("/models").status_code == 200
        refused = client.get("/models")
        assert refused.status_code == 429 and 1 <= int(refused.headers["Retry-After"]) <= 10
        assert "per second" in refused.json()["detail"]
        assert all(client.get(path).status_code == 200 for path in OPEN * 3)
        other = {"X-Forwarded-For": "198.51.100.7"}
        assert client.get("/models", headers=other).status_code == 200
        assert client.get("/models", headers=other).status_code == 429
    with started(folder, FORWARDED_ALLOW_IPS="") as start, start(requests_per_second=0.1) as client:
        answers = [
            client.get("/models", headers={"X-Forwarded-For": f"10.0.0.{n}"}) for n in range(3)
        ]
        assert [answer.status_code for answer in answers] == [200, 429, 429]


def test_no_limit_unless_it_is_set(folder: Path) -> None:
    assert "requests_per_second" not in project.LIMITS
    assert Serve(**project.LIMITS).requests_per_second is None
    assert let_through(rates.Rates(None), "10.0.0.1", 1000) == 1000


# ---------------------------------------------------------------- pages of other servers

WARD = "https://ward.example"


def test_no_page_elsewhere_may_read_an_answer(folder: Path) -> None:
    with started(folder) as start, start() as client:
        answer = client.get("/models", headers={"Origin": WARD})
        assert not [name for name in answer.headers if name.startswith("access-control")]
        asked = {"Origin": WARD, "Access-Control-Request-Method": "POST"}
        assert client.options(PREDICT, headers=asked).status_code == 405


def test_a_page_that_is_named_may(folder: Path) -> None:
    """Refusals too, so that it can say what is wrong, and before it shows a token. No other page may."""
    environment = {origins.VARIABLE: f"{WARD} http://localhost:8080", tokens.VARIABLE: TOKEN}
    with started(folder, **environment) as start, start(token="everything") as client:
        allowed = "access-control-allow-origin"
        asked = {"Access-Control-Request-Method": "POST"}
        asked["Access-Control-Request-Headers"] = "authorization,content-type,x-unit"
        before = client.options(PREDICT, headers=asked | {"Origin": WARD})
        assert before.status_code == 200 and before.headers[allowed] == WARD
        assert "x-unit" in before.headers["access-control-allow-headers"]
        assert client.get("/models", headers={"Origin": WARD}).headers[allowed] == WARD  # a 401
        answer = client.post(PREDICT, json=ECG, headers=BEARER | {"Origin": WARD})
        assert answer.status_code == 200 and answer.headers[allowed] == WARD
        assert "access-control-allow-credentials" not in answer.headers
        for origin in ("https://elsewhere.example", "null", f"{WARD}.elsewhere.example"):
            assert allowed not in client.get("/models", headers={"Origin": origin}).headers


@pytest.mark.parametrize("value", ["*", "ward.example", f"{WARD}/page", "null", "file://x"])
def test_origins_that_are_none(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(origins.VARIABLE, f"{WARD} {value}")
    with pytest.raises(UserError, match=origins.VARIABLE) as refused:
        origins.allowed()
    assert value in str(refused.value)


def test_a_check_takes_no_time() -> None:
    """Beside the milliseconds of an answer."""
    limit = rates.Rates(1e6)
    addresses = [f"10.0.0.{number}" for number in np.arange(200)]
    began = time.perf_counter()
    for address in addresses * 10:
        limit.check(address)
    assert (time.perf_counter() - began) / 2000 < 0.0005


@pytest.mark.parametrize(
    ("token", "always", "sometimes"),
    [
        (None, {"/feedback"}, {RECORDINGS}),
        ("costly", {"/feedback"}, {RECORDINGS}),
        ("everything", {"/feedback", RECORDINGS, "/predict", "/models", "/metrics"}, set()),
    ],
)
def test_the_document_says_who_may_ask_and_how_often(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    token: str | None,
    always: set[str],
    sometimes: set[str],
) -> None:
    """What needs a token, always or by what is asked, has its scheme and a 401, and all but health a 429;
    both are answered as they are described."""
    monkeypatch.setenv("BEATLINE_TOKEN", TOKEN)
    root = project.make(tmp_path)
    options = {"token": token, "requests_per_second": 2.0}
    with project.client(root, settings(root), **options) as client:
        client.get("/openapi.json", headers=BEARER).raise_for_status()
        found = client.get("/openapi.json", headers=BEARER).json()  # made of what was made before
        (scheme,) = found["components"]["securitySchemes"].items()
        assert (scheme[1]["type"], scheme[1]["scheme"]) == ("http", "bearer")
        operations = {path: next(iter(each.values())) for path, each in found["paths"].items()}
        needed = [{scheme[0]: []}]
        security = {path: each.get("security") for path, each in operations.items()}
        assert always <= {path for path, each in security.items() if each == needed}
        assert sometimes == {path for path, each in security.items() if each == [{}, *needed]}
        for path, each in operations.items():
            assert ("401" in each["responses"]) == (security[path] is not None)
            assert ("429" in each["responses"]) == (path != "/health")
        schema = schemathesis.openapi.from_dict(found)
        refused = client.post("/feedback", json={})
        assert refused.status_code == 401
        schema["/feedback"]["POST"].validate_response(refused)
        project.wait_until(lambda: client.get("/models", headers=BEARER).status_code == 429)
        schema["/models"]["GET"].validate_response(client.get("/models", headers=BEARER))
