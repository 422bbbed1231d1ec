"""The API: recordings in, answers of the trained models out, mistakes told in problem documents.

Handlers take the plain request and give bytes: what is in a body is checked by the readers of its format
and by the model, in words of their own. Small work is done where it arrives, since passing it to a
thread costs more than it takes; whatever may take long is done by a few threads, so that ``/health``
and other clients are answered meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from http import HTTPStatus
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import orjson
from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from beatline.common import params
from beatline.common.errors import UserError
from beatline.common.files import read_json
from beatline.serving import answers, preparation, registry, requests, telemetry, uploads
from beatline.serving.problems import MEDIA_TYPE, Problem
from beatline.serving.recording import Recording
from beatline.serving.registry import LOAD_FIRST, Registry
from beatline.serving.settings import Serve
from beatline.serving.telemetry import Telemetry
from beatline.serving.uploads.checks import shown

PAGE = Path(__file__).parent / "page"
EXAMPLES = Path("data/examples")
JSON, NPY, RAW = "application/json", "application/x-npy", "application/octet-stream"
THREADS = 2  # for what takes long; more would only share the cores
WAITING = 16  # requests for these threads, beyond which one is told to come back
# Bodies up to this size, of formats that unpack to nothing larger, are read at once, and answered at
# once if what the model looks at has few values: 12 x 1000 samples are 48 kB as float32 and 250 kB as
# JSON of all digits.
SMALL = 512_000
LITTLE = 50_000
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
DOCS_FILES = {"swagger-ui.css": "text/css", "swagger-ui-bundle.js": "text/javascript"}
DOCS = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Beatline: the API</title>
<link rel="icon" href="page/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
DOCS_START = """SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
});
"""
NO_ANSWER = "none"  # in place of a status: the client is gone
OURS = Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "an error of ours")
ENDING = Problem(HTTPStatus.SERVICE_UNAVAILABLE, "the server ends: try again in some seconds")
log = logging.getLogger("beatline.serving")
Result = TypeVar("Result")


def create_app(
    limits: Serve, root: Path, wanted: Sequence[str], load_first: bool = False
) -> FastAPI:
    """The application for the project in `root`, which answers with the bundles `wanted`
    (``<data set>/<model>``). They are loaded once it has started, or before, if `load_first`.

    Raises UserError if there is a model behind ``POST /predict`` that is none of them.
    """
    registry.check_features(limits.features, wanted)
    service = Service(limits, root, wanted, load_first)
    app = FastAPI(
        title="Beatline",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        lifespan=service.lifespan,
    )
    app.state.service = service
    labels: dict[object, str] = {}
    for path, handler, method in service.routes():
        app.router.add_route(path, handler, methods=[method])
        labels[handler] = path
    page = StaticFiles(directory=PAGE, check_dir=False)
    app.mount("/page", page)
    labels[page] = "/page"
    app.add_exception_handler(Problem, service.answer_problem)
    app.add_exception_handler(HTTPException, _answer_http_exception)
    app.add_middleware(Outermost, telemetry=service.telemetry, labels=labels)
    return app


def of_project() -> FastAPI:
    """The application of the project in the current folder, as its params.yaml says."""
    content = params.load()
    limits = params.block(content, "serve", Serve)
    load_first = LOAD_FIRST in os.environ
    return create_app(limits, Path.cwd(), registry.wanted(content), load_first)


class Service:
    """What the routes share, and the routes."""

    def __init__(self, limits: Serve, root: Path, wanted: Sequence[str], load_first: bool) -> None:
        self.limits = limits
        self.load_first = load_first
        self.root = root
        self.telemetry = Telemetry()
        self.registry = Registry(root, wanted, limits.poll_seconds, self.telemetry)
        self.threads = Threads(limits.seconds_to_answer)

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        self.registry.start()
        if self.load_first:
            await asyncio.to_thread(self.registry.first_round.wait)
        try:
            yield
        finally:
            await asyncio.to_thread(self.registry.stop)
            self.threads.stop()

    def routes(self) -> list[tuple[str, Callable[[Request], Awaitable[Response]], str]]:
        get, post = "GET", "POST"
        model = "/models/{dataset}/{model}"
        rows = [("/predict", self.predict_rows, post)] if self.limits.features else []
        return [
            (f"{model}/predict", self.predict_recording, post),
            *rows,
            ("/health", self.health, get),
            ("/models", self.models, get),
            (f"{model}/examples", self.examples, get),
            (f"{model}/examples/{{name}}", self.example, get),
            ("/metrics", self.metrics, get),
            ("/openapi.json", self.openapi, get),
            ("/", self.page, get),
            ("/favicon.ico", self.favicon, get),
            ("/docs", self.docs, get),
            ("/docs/{name}", self.docs_file, get),
        ]

    async def predict_recording(self, request: Request) -> Response:
        """A model's answer about a recording."""
        options = requests.flags(request, ("explain", "recording"))
        model = self.registry.model(**_names(request))
        requests.check_shape(request.headers)
        body = await requests.read_body(request, self.limits)
        kind = requests.content_type(request)

        def read() -> Recording:
            return uploads.read(requests.upload_of(request.headers, kind, body), self.limits)

        def answer(recording: Recording) -> bytes:
            found = answers.respond(
                model,
                recording,
                explain=options["explain"],
                with_recording=options["recording"],
                limits=self.limits,
            )
            self.telemetry.answered(model, found)
            return orjson.dumps(found, option=orjson.OPT_SERIALIZE_NUMPY)

        if len(body) > SMALL or not _is_plain(kind, request):
            found = await self.threads.run(lambda: answer(read()))
            return Response(found, media_type=JSON)
        recording = read()
        dataset = model.description["dataset"]
        if any(options.values()) or preparation.resampled_values(recording, dataset) > LITTLE:
            return Response(await self.threads.run(partial(answer, recording)), media_type=JSON)
        return Response(answer(recording), media_type=JSON)

    async def predict_rows(self, request: Request) -> Response:
        """The answer of the model of a table about one row of features, or several."""
        requests.flags(request)
        model = self.registry.model(*str(self.limits.features).split("/"))
        if (kind := requests.content_type(request)) not in (JSON, ""):
            raise Problem(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                f"Content-Type {kind!r} is not understood: send {JSON}",
            )
        body = await requests.read_body(request, self.limits)

        def answer() -> bytes:
            found = answers.respond_rows(model, _json(body), self.limits)
            self.telemetry.answered_rows(model, found if isinstance(found, list) else [found])
            return orjson.dumps(found, option=orjson.OPT_SERIALIZE_NUMPY)

        if len(body) <= SMALL // 16:  # a hundred rows or so
            return Response(answer(), media_type=JSON)
        return Response(await self.threads.run(answer), media_type=JSON)

    async def health(self, request: Request) -> Response:
        requests.flags(request)
        if reason := self.registry.why_not_ready():
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, reason)
        return _json_response({"status": "healthy"})

    async def models(self, request: Request) -> Response:
        requests.flags(request)
        return _json_response({"models": self.registry.summaries()})

    async def examples(self, request: Request) -> Response:
        requests.flags(request)
        names = _names(request)
        self.registry.check_known(**names)
        found = await asyncio.to_thread(self._examples, names["dataset"])
        return _json_response({"examples": found})

    async def example(self, request: Request) -> Response:
        requests.flags(request)
        name, names = request.path_params["name"], _names(request)
        self.registry.check_known(**names)
        content = await asyncio.to_thread(self._example, names["dataset"], name)
        return Response(content, media_type=NPY)

    def _examples(self, dataset: str) -> list[dict[str, Any]]:
        """What is listed; nothing while DVC is writing the folder, or if there is none."""
        try:
            return list(read_json(self.root / EXAMPLES / dataset / "examples.json")["examples"])
        except (UserError, OSError, KeyError, TypeError):
            return []

    def _example(self, dataset: str, name: str) -> bytes:
        """The bytes of an example's file, found in the list: no path is made of what was asked for."""
        for example in self._examples(dataset):
            if example["name"] == name:
                with suppress(OSError):  # it is being replaced
                    return (self.root / EXAMPLES / dataset / f"{name}.npy").read_bytes()
        raise Problem(
            HTTPStatus.NOT_FOUND,
            f"there is no example {shown(name)!r}: the list of examples has all names",
        )

    async def metrics(self, request: Request) -> Response:
        requests.flags(request)
        # Not behind answers: what the server does matters most when there are many of them.
        found = await asyncio.to_thread(self.telemetry.exposition)
        return Response(found, headers={"Content-Type": telemetry.MEDIA_TYPE})

    async def openapi(self, request: Request) -> Response:
        from beatline.serving import openapi  # only who reads it waits for its making

        requests.flags(request)
        key = self.limits.features
        features = self.registry.loaded(key) if key else None
        return _json_response(openapi.document(self.limits, self.registry.wanted, features))

    async def answer_problem(self, request: Request, problem: Exception) -> Response:
        assert isinstance(problem, Problem)
        response = _response(problem)
        large = problem.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        slow = problem.status == HTTPStatus.REQUEST_TIMEOUT
        if slow or (large and not requests.ends_soon(request, self.limits)):
            response.headers["Connection"] = "close"
        return response

    async def page(self, _: Request) -> Response:
        return FileResponse(PAGE / "index.html")

    async def favicon(self, _: Request) -> Response:
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def docs(self, _: Request) -> Response:
        return HTMLResponse(DOCS, headers={"Content-Security-Policy": DOCS_POLICY})

    async def docs_file(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name == "start.js":
            return Response(DOCS_START, media_type="text/javascript")
        if name not in DOCS_FILES:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        path = resources.files("fastapi_offline") / "static" / name
        return FileResponse(str(path), media_type=DOCS_FILES[name])


class Threads:
    """A few threads for what takes long. Python cannot stop a thread: who is given up on keeps it until
    its work is done, so others wait, and beyond WAITING of them are told so at once."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="answer")
        self._waiting = 0

    async def run(self, function: Callable[[], Result]) -> Result:
        """What `function` gives. Raises Problem 503 if too many wait or it takes too long."""
        if self._waiting >= THREADS + WAITING:
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "too busy: try again in some seconds")
        self._waiting += 1
        work = self._executor.submit(function)
        work.add_done_callback(partial(asyncio.get_running_loop().call_soon_threadsafe, self._done))
        try:
            async with asyncio.timeout(self._seconds):
                return await asyncio.wrap_future(work)
        except TimeoutError:
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"the answer took longer than {self._seconds:g} seconds: send less, or try again",
            ) from None

    def _done(self, _: object) -> None:
        self._waiting -= 1

    def stop(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)


class Outermost:
    """Around everything: counts and times requests, adds the headers that all answers have, and turns an
    error of ours into a problem document without details, its traceback into the log."""

    def __init__(self, app: ASGIApp, telemetry: Telemetry, labels: dict[object, str]) -> None:
        self._app = app
        self._telemetry = telemetry
        self._labels = labels

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = NO_ANSWER

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
                headers = MutableHeaders(scope=message)
                for name, value in COMMON_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        start = time.perf_counter()
        self._telemetry.began()
        try:
            await self._app(scope, receive, send_and_note)
        except ClientDisconnect:
            pass  # nobody is there to be answered
        except asyncio.CancelledError:  # the server ends, and has waited long enough
            log.warning("given up at the end: %s %r", scope["method"], scope["path"])
            await self._tell(ENDING, status, scope, receive, send_and_note)
        except Exception:
            log.exception("an error while answering %s %r", scope["method"], scope["path"])
            await self._tell(OURS, status, scope, receive, send_and_note)
        finally:
            seconds = time.perf_counter() - start
            # The route as it stands in the documentation: never the path, of which there is no end.
            route = self._labels.get(scope.get("endpoint"), telemetry.OTHER)
            self._telemetry.ended(route, scope["method"], status, seconds)

    @staticmethod
    async def _tell(
        problem: Problem, status: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if status == NO_ANSWER:
            await _response(problem)(scope, receive, send)


def _names(request: Request) -> dict[str, str]:
    found = request.path_params
    return {"dataset": found["dataset"], "name": found["model"]}


def _is_plain(kind: str, request: Request) -> bool:
    """Whether a body of this kind is read at once: nothing in it has to be unpacked."""
    return kind in (JSON, NPY) or (kind == RAW and "x-shape" in request.headers)


def _json(body: bytes) -> object:
    try:
        return orjson.loads(body)
    except ValueError as error:
        raise Problem(HTTPStatus.BAD_REQUEST, f"the body is not JSON: {error}") from None


def _json_response(content: object) -> Response:
    return Response(orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY), media_type=JSON)


def _response(problem: Problem) -> Response:
    headers = {}
    if problem.status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = "5"
    return Response(
        orjson.dumps(problem.document()), problem.status, headers, media_type=MEDIA_TYPE
    )


async def _answer_http_exception(request: Request, error: Exception) -> Response:
    """What the framework refuses: unknown paths and methods."""
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    details = {
        HTTPStatus.NOT_FOUND: "there is nothing at this address: /docs lists what there is",
        HTTPStatus.METHOD_NOT_ALLOWED: f"{request.method} is not possible at this address",
    }
    response = _response(Problem(status, details.get(status, error.detail)))
    response.headers.update(error.headers or {})
    return response
