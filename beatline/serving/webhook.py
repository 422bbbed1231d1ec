"""What Alertmanager calls when a model is to be trained again: an address that starts `beatline retrain`.

A server of its own beside the pipeline's checkout, and not the service's: whoever predicts has neither
DVC nor the data, and shares its processors with nobody.
"""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Literal

import orjson
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from pydantic import BaseModel, Field, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from beatline.common.errors import UserError, names_there_are, shown
from beatline.monitoring.states import EXIT_TOO_FEW
from beatline.serving.guard import Guard
from beatline.serving.problems import Problem, malformed, too_large, unfit
from beatline.serving.rates import Rates
from beatline.serving.telemetry import MEDIA_TYPE
from beatline.serving.tokens import HASHES, VARIABLE, Tokens

MOST_BYTES = 1_000_000  # of a notification
MOST_ALERTS = 1000
SECONDS_TO_SEND = 10.0
SECONDS_TO_END = 30.0  # of a retraining that is told to end; it goes on from there another time
COMMAND = (sys.executable, "-m", "beatline", "retrain")
# By its exit status; with all others it has failed.
ENDS: dict[int | None, str] = {0: "made", EXIT_TOO_FEW: "too little feedback"}
log = logging.getLogger("beatline.serving")


class Alert(BaseModel):
    """What is looked at of an alert."""

    status: Literal["firing", "resolved"]
    labels: dict[str, str]


class Notification(BaseModel):
    """What is looked at of a notification, in Alertmanager's format of version 4."""

    version: Literal["4"]
    alerts: list[Alert] = Field(max_length=MOST_ALERTS)


class Retrainings:
    """Runs a command for one model after the other, and for none twice at a time."""

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        self._command = command
        self._states: dict[str, dict[str, str]] = {}
        self._lock = threading.Lock()
        self._waiting: queue.Queue[str | None] = queue.Queue()  # of each model one at most
        self._process: subprocess.Popen[bytes] | None = None
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="retraining", daemon=True)
        self._registry = CollectorRegistry()
        self._failed = Gauge(
            "beatline_retraining_run_failed",
            "1 if the last run of `beatline retrain` that an alert began has failed, else 0.",
            ("dataset", "model"),
            registry=self._registry,
        )

    def exposition(self) -> bytes:
        """What failed, in Prometheus' text format."""
        return generate_latest(self._registry)

    @property
    def states(self) -> dict[str, dict[str, str]]:
        """What came of each model's last one: `state` and `since` when."""
        with self._lock:
            return dict(self._states)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End what is running, and return when it has ended."""
        with self._lock:
            self._ending = True
            self._signal(signal.SIGTERM)
        self._waiting.put(None)
        self._thread.join(SECONDS_TO_END)
        with self._lock:
            self._signal(signal.SIGKILL)
        self._thread.join()

    def ask(self, key: str) -> bool:
        """Have a model retrained, unless that is under way or to come already; whether it was not."""
        with self._lock:
            if self._states.get(key, {}).get("state") in ("waiting", "running"):
                return False
            self._note(key, "waiting")
        self._waiting.put(key)
        return True

    def _run(self) -> None:
        while (key := self._waiting.get()) is not None and not self._ending:
            status = self._status(key)
            self._failed.labels(*key.split("/")).set(status not in ENDS)
            with self._lock:
                self._process = None
                self._note(key, ENDS.get(status, "failed"))
            log.log(
                logging.INFO if status in ENDS else logging.ERROR,
                "%s: `beatline retrain` has ended with %s",
                *(key, status),
            )

    def _status(self, key: str) -> int | None:
        """Run the command for a model; return its exit status, None if it could not be run."""
        try:
            with self._lock:
                if self._ending:
                    return None
                self._note(key, "running")
                # With a group of its own: the steps that it starts end with it.
                self._process = subprocess.Popen(
                    [*self._command, key], stdin=subprocess.DEVNULL, start_new_session=True
                )
            return self._process.wait()
        except Exception:  # whatever it is, the next one is begun
            log.exception("%s: `beatline retrain` could not be run", key)
            return None

    def _note(self, key: str, state: str) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._states[key] = {"state": state, "since": now}

    def _signal(self, number: int) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)


def create_app(retrainings: Retrainings, wanted: Callable[[], Sequence[str]]) -> Starlette:
    """The application, which asks for a token everywhere but at ``/health``. `wanted`: the models that
    there are, ``<data set>/<model>``. Raises UserError if the environment has no token."""
    if not (os.environ.get(VARIABLE) or os.environ.get(HASHES)):
        raise UserError(
            f"--listen: whoever starts a retraining must show a token, and the environment has none: set "
            f"{VARIABLE}, or {HASHES}"
        )

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        retrainings.start()
        try:
            yield
        finally:
            await asyncio.to_thread(retrainings.stop)

    async def health(_: Request) -> Response:
        return _json({"status": "healthy"})

    async def metrics(_: Request) -> Response:
        return Response(retrainings.exposition(), headers={"Content-Type": MEDIA_TYPE})

    async def retrain(request: Request) -> Response:
        if request.method != "POST":
            return _json({"retrainings": retrainings.states})
        notification = _notification(await _body(request))
        accepted, ignored = _ask(retrainings, notification, await asyncio.to_thread(wanted))
        return _json({"accepted": accepted, "ignored": ignored}, HTTPStatus.ACCEPTED)

    guard = Middleware(
        Guard, tokens=Tokens("everything"), rates=Rates(None), refusal=_answer_problem
    )
    return Starlette(
        routes=[
            Route("/health", health),
            Route("/metrics", metrics),
            Route("/retrain", retrain, methods=["GET", "POST"]),
        ],
        middleware=[guard],
        exception_handlers={
            Problem: _answer_problem,
            UserError: _answer_mistake,
            HTTPException: _answer_http_exception,
        },
        lifespan=lifespan,
    )


def _ask(
    retrainings: Retrainings, notification: Notification, wanted: Sequence[str]
) -> tuple[list[str], dict[str, str]]:
    """Return the models that will be retrained, and those that will not with the reason. Raises Problem
    if alerts fire, and none names a model that there is: nobody would see that nothing happens."""
    named = {
        f"{alert.labels.get('dataset', '')}/{alert.labels.get('model', '')}"
        for alert in notification.alerts
        if alert.status == "firing"
    }
    known = sorted(named & set(wanted))
    if named and not known:
        word = shown(min(named))
        raise unfit(
            f"no alert names a model that is trained here by its labels dataset and model, such as "
            f"{word!r}{names_there_are(word, wanted)}: correct the route to this address"
        )
    reasons = dict.fromkeys(sorted(shown(each) for each in named - {*known}), "not trained here")
    accepted = [key for key in known if retrainings.ask(key)]
    waiting = dict.fromkeys((key for key in known if key not in accepted), "under way already")
    for key in accepted:
        log.info("%s is retrained: an alert asks for it", key)
    return accepted, reasons | waiting


async def _body(request: Request) -> bytes:
    """Raise Problem if it is too large or too slow."""
    body = bytearray()
    try:
        async with asyncio.timeout(SECONDS_TO_SEND):
            async for part in request.stream():
                body += part
                if len(body) > MOST_BYTES:
                    raise too_large(
                        f"the body is larger than {MOST_BYTES:,} bytes: group alerts by dataset and model"
                    )
    except (TimeoutError, ClientDisconnect):
        raise Problem(
            HTTPStatus.REQUEST_TIMEOUT,
            f"the body did not arrive within {SECONDS_TO_SEND:g} seconds: send it faster",
        ) from None
    return bytes(body)


def _notification(body: bytes) -> Notification:
    try:
        return Notification.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the body"
        raise malformed(
            f"{where}: {first['msg']}: send what Alertmanager sends to a webhook (version 4)"
        ) from None


def _json(content: Any, status: HTTPStatus = HTTPStatus.OK) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")


async def _answer_problem(_: Request, problem: Exception) -> Response:
    assert isinstance(problem, Problem)
    response = problem.response()
    response.headers["Connection"] = "close"  # the rest of the body is not read
    return response


async def _answer_mistake(_: Request, error: Exception) -> Response:
    """params.yaml cannot be read now: Alertmanager tries again."""
    log.error("a retraining cannot be begun: %s", error)
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error)).response()


async def _answer_http_exception(request: Request, error: Exception) -> Response:
    """Addresses and methods that there are not."""
    assert isinstance(error, HTTPException)
    cure = "ask GET or POST /retrain, GET /metrics or GET /health"
    detail = f"{request.method} {shown(request.url.path)} is not here: {cure}"
    return Problem(HTTPStatus(error.status_code), detail, error.headers).response()
