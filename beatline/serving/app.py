"""The API: recordings in, answers of the trained models out, mistakes in problem documents."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from collections.abc import Sequence
from functools import partial
from http import HTTPStatus
from pathlib import Path

from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from beatline.common import params
from beatline.common.errors import shown
from beatline.feature_store import client
from beatline.monitoring.settings import Monitoring
from beatline.serving import (
    access_log,
    documentation,
    hosts,
    origins,
    registry,
    requests,
    telemetry,
)
from beatline.serving import inference_protocol as oip
from beatline.serving.guard import Guard
from beatline.serving.inference_protocol import LIVE, READY, InferenceProtocol
from beatline.serving.problems import Problem, unavailable
from beatline.serving.rates import Rates
from beatline.serving.registry import LOAD_FIRST
from beatline.serving.routes import Service
from beatline.serving.settings import Serve
from beatline.serving.telemetry import Telemetry
from beatline.serving.tokens import Tokens

PAGE = Path(__file__).parent / "page"
COMMON_HEADERS = {
    "Cache-Control": "no-cache",  # kept, and asked for again: pages and modules change together
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    ),
}
# Swagger UI sets style attributes.
DOCS_POLICY = COMMON_HEADERS["Content-Security-Policy"] + "; style-src 'self' 'unsafe-inline'"
NO_ANSWER = "none"  # in place of a status: the client is gone
OURS = Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "an error of ours")
POLLED = {
    "/health",
    "/metrics",
    LIVE,
    READY,
}  # by programs, every few seconds: not in the access log
ENDING = unavailable("the server ends: try again in some seconds")
log = logging.getLogger("beatline.serving")


def create_app(
    limits: Serve,
    root: Path,
    wanted: Sequence[str],
    load_first: bool = False,
    feature_store: str | None = None,
    monitoring: Monitoring | None = None,
) -> FastAPI:
    """The application for the project in `root`, which answers with the bundles `wanted`
    (``<data set>/<model>``). They are loaded once it has started, or before, if `load_first`.
    `feature_store`: the URL of Feast's server, None without one; `monitoring`: whether and how answers
    are logged. The environment says by which names it may be asked for (:mod:`beatline.serving.hosts`),
    which tokens it knows and which pages may ask.

    Raises UserError if there is a model behind an address of its own that is none of them, the URL or the
    place of the log is none, or there is no token where `serve.token` wants one.
    """
    registry.check_behind(limits, wanted)
    service = Service(limits, root, wanted, load_first, feature_store, monitoring)
    refusal = partial(_answer_problem, limits)
    app = FastAPI(
        title="Beatline",
        version="1",
        description=documentation.DESCRIPTION,
        # Where this document is, behind whatever prefix a proxy gives.
        servers=[{"url": ".", "description": "this server"}],
        docs_url=None,
        redirect_slashes=False,  # to an address without a proxy's prefix
        redoc_url=None,
        lifespan=service.lifespan,
        generate_unique_id_function=lambda route: route.name,
        exception_handlers={
            Problem: refusal,
            HTTPException: _answer_http_exception,
        },
    )
    app.state.service = service
    service.add_to(app)
    InferenceProtocol(service).add_to(app)
    tokens = Tokens(limits.token)
    app.openapi = lambda: documentation.document(app, limits, service.registry, root, tokens)
    app.add_route("/", _page)
    app.add_route("/machines.html", _machines)
    app.add_route("/docs", _docs)
    app.add_route("/favicon.ico", _no_icon)
    app.mount("/page", StaticFiles(directory=PAGE))
    app.mount("/swagger", StaticFiles(packages=[("fastapi_offline", "static")]))
    rates = Rates(limits.requests_per_second)
    app.add_middleware(Guard, tokens=tokens, rates=rates, refusal=refusal)
    if allowed := origins.allowed():
        app.add_middleware(
            CORSMiddleware,
            allow_origins=allowed,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=[access_log.HEADER, oip.HEADER, "Retry-After"],
        )
    app.add_middleware(Outermost, telemetry=service.telemetry, routes=app.routes)
    return app


def project_application() -> FastAPI:
    """The application of the project in the current folder, as its params.yaml says."""
    content = params.load()
    limits = params.block(content, "serve", Serve)
    load_first = LOAD_FIRST in os.environ
    feature_store = os.environ.get(client.VARIABLE)
    monitoring = params.block(content, "monitoring", Monitoring)
    wanted = registry.wanted(content)
    return create_app(limits, Path.cwd(), wanted, load_first, feature_store, monitoring)


class Outermost:
    """Around everything: counts, times and logs requests, adds the headers that all answers have, and
    turns an error of ours into a problem document without details, its traceback into the log."""

    def __init__(self, app: ASGIApp, telemetry: Telemetry, routes: Sequence[BaseRoute]) -> None:
        self._app = app
        self._telemetry = telemetry
        self._hosts = hosts.allowed()
        # Routes as they stand in the documentation: never the path, of which there is no end.
        self._labels = {
            getattr(route, "endpoint", route.app): route.path
            for route in routes
            if isinstance(route, Route | Mount)
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, size = None, 0
        request = access_log.request_id(scope["headers"])

        async def send_and_note(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[access_log.HEADER] = request
                for name, value in COMMON_HEADERS.items():
                    headers.setdefault(name, value)
            elif scope["method"] != "HEAD":
                size += len(message.get("body", b""))
            await send(message)

        async def tell(problem: Problem) -> None:
            if status is None:
                await _response(problem, scope["path"])(scope, receive, send_and_note)

        def about() -> tuple[str, str, str]:
            return request, scope["method"], shown(scope["path"], access_log.LONGEST)

        start = time.perf_counter()
        self._telemetry.began()
        try:
            hosts.check(scope, self._hosts)
            await self._app(scope, receive, send_and_note)
        except Problem as problem:
            await tell(problem)
        except ClientDisconnect:
            pass  # nobody is there to be answered
        except asyncio.CancelledError:  # the server ends, and has waited long enough
            log.warning("request %s: given up at the end: %s %r", *about())
            await tell(ENDING)
        except Exception:
            log.exception("request %s: an error while answering %s %r", *about())
            await tell(OURS)
        finally:
            seconds = time.perf_counter() - start
            route = self._labels.get(scope.get("endpoint"), telemetry.OTHER)
            source = Headers(scope=scope).get("X-Source")
            self._telemetry.ended(route, scope["method"], str(status or NO_ANSWER), seconds, source)
            if route not in POLLED:
                path = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
                client, method = scope.get("client"), scope["method"]
                access_log.write(request, client, method, path, status, seconds, size)


async def _page(_: Request) -> Response:
    return FileResponse(PAGE / "index.html")


async def _machines(_: Request) -> Response:
    return FileResponse(PAGE / "machines.html")


async def _docs(_: Request) -> Response:
    return FileResponse(PAGE / "docs.html", headers={"Content-Security-Policy": DOCS_POLICY})


async def _no_icon(_: Request) -> Response:
    return Response(status_code=HTTPStatus.NO_CONTENT)


def _response(problem: Problem, path: str) -> Response:
    """A refusal in the words of whoever asks: the Open Inference Protocol has its own."""
    theirs = path == oip.PREFIX or path.startswith(f"{oip.PREFIX}/")
    return oip.error(problem) if theirs else problem.response()


async def _answer_problem(limits: Serve, request: Request, problem: Exception) -> Response:
    assert isinstance(problem, Problem)
    response = _response(problem, request.url.path)
    slow = problem.status == HTTPStatus.REQUEST_TIMEOUT
    large = problem.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    without_end = large and "transfer-encoding" in request.headers
    if slow or without_end or not requests.ends_soon(request, limits):
        response.headers["Connection"] = "close"
    return response


def _switched_off(request: Request) -> str | None:
    """How to have what answers at an address where it is switched on, if it is not."""
    service, path = request.app.state.service, request.url.path
    if service.logbook is None and re.fullmatch("/feedback|/machines(/[^/]+/history)?", path):
        return "there is no log of answers: set monitoring.log in params.yaml"
    if service.machines is None and re.fullmatch("/machines/[^/]+/(features|predict)", path):
        return f"there is no feature store: set {client.VARIABLE} to the address of its server"
    return None


async def _answer_http_exception(request: Request, error: Exception) -> Response:
    """The framework's refusals: unknown paths and methods."""
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    details = {
        HTTPStatus.NOT_FOUND: _switched_off(request)
        or "there is nothing at this address: /docs lists what there is",
        HTTPStatus.METHOD_NOT_ALLOWED: f"{request.method} is not possible at this address",
    }
    problem = Problem(status, details.get(status, error.detail))
    response = _response(problem, request.url.path)
    response.headers.update(error.headers or {})
    return response
