"""The operations of the API. Small work is done where it arrives, since passing it to a thread costs
more than it takes; a few threads do whatever may take long, so that ``/health`` and other clients are
answered meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import orjson
from fastapi import FastAPI, Query
from fastapi import Path as InPath
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from beatline.common.errors import UserError
from beatline.common.files import read_json
from beatline.common.sums import verified
from beatline.serving import answers, documentation, preparation, requests, telemetry, uploads
from beatline.serving.documentation import problems
from beatline.serving.problems import shown, unavailable, unknown, unsupported
from beatline.serving.recording import Recording
from beatline.serving.registry import Registry
from beatline.serving.responses import (
    AnomalyAnswer,
    Available,
    ClassAnswer,
    Example,
    LabelsAnswer,
    RowAnswer,
    Unavailable,
)
from beatline.serving.settings import Serve
from beatline.serving.telemetry import Telemetry

log = logging.getLogger("beatline.serving")
EXAMPLES = Path("data/examples")
JSON, NPY, RAW = "application/json", "application/x-npy", "application/octet-stream"
THREADS = 2  # for what takes long; more would only share the cores
WAITING = 16  # requests for these threads, beyond which a client is asked to come back
# Bodies up to this size, of formats that unpack to nothing larger, are read at once, and answered at
# once if what the model looks at has few values: 12 x 1000 samples are 48 kB as float32 and 250 kB as
# JSON of all digits.
SMALL = 512_000
LITTLE = 50_000
MODEL = "/models/{dataset}/{model}"
Explain = Annotated[
    bool, Query(description="Also tell which parts of the recording moved the answer (slower).")
]
Show = Annotated[bool, Query(description="Also give the recording as the model looked at it.")]
Name = Annotated[str, InPath(min_length=1, examples=["1"])]
Result = TypeVar("Result")


class Npy(Response):
    media_type = NPY


class Operation(APIRoute):
    """A path operation that FastAPI describes by its signature, and that is called with what that can
    hold: names from the path, and query parameters that are true or false. FastAPI's own way of filling
    in arguments takes a tenth of the time of an answer, and leaves out parameters that it does not know.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        flags = [field.alias for field in self.dependant.query_params]

        async def handle(request: Request) -> Response:
            given = requests.flags(request, flags)
            return await self.endpoint(request, **request.path_params, **given)

        return handle


class Service:
    """The operations, and what they share."""

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

    def add_to(self, app: FastAPI) -> None:
        """Add the operations to an application, with what its document says of them."""
        app.router.route_class = Operation
        post = partial(app.add_api_route, methods=["POST"])
        get = partial(app.add_api_route, methods=["GET", "HEAD"])
        post(
            f"{MODEL}/predict",
            self.predict_recording,
            tags=["Recordings"],
            response_model=LabelsAnswer | ClassAnswer | AnomalyAnswer,
            responses=problems(400, 404, 408, 413, 415, 422, 503),
            openapi_extra=documentation.recording_body(self.limits),
        )
        if self.limits.features:
            post(
                "/predict",
                self.predict_rows,
                tags=["Rows of features"],
                response_model=RowAnswer | list[RowAnswer],
                responses=problems(400, 408, 413, 415, 422, 503),
                openapi_extra=documentation.rows_body(self.limits),
            )
        about_models: dict[str, Any] = {"tags": ["Models"], "responses": problems(404, 422, 503)}
        listed = list[Available | Unavailable]
        get("/models", self.models, **about_models, response_model=dict[Literal["models"], listed])
        examples = dict[Literal["examples"], list[Example]]
        get(f"{MODEL}/examples", self.examples, **about_models, response_model=examples)
        get(f"{MODEL}/examples/{{name}}", self.example, **about_models, response_class=Npy)
        about_server: dict[str, Any] = {"tags": ["Server"], "responses": problems(422, 503)}
        healthy = dict[Literal["status"], Literal["healthy"]]
        get("/health", self.health, **about_server, response_model=healthy)
        get("/metrics", self.metrics, **about_server, response_class=PlainTextResponse)

    async def predict_recording(
        self,
        request: Request,
        dataset: str,
        model: str,
        explain: Explain = False,
        recording: Show = False,
    ) -> Response:
        """A model's answer about a recording."""
        loaded = self.registry.model(dataset, model)
        body = await requests.read_body(request, self.limits)
        kind = requests.content_type(request)

        def read() -> Recording:
            return uploads.read(requests.upload_of(request.headers, kind, body), self.limits)

        def answer(sent: Recording) -> Response:
            options = {"explain": explain, "with_recording": recording}
            content = answers.respond(loaded, sent, **options, limits=self.limits)
            self.telemetry.answered(loaded, content)
            return _json(content)

        plain = kind in (JSON, NPY) or (kind == RAW and "x-shape" in request.headers)
        if len(body) > SMALL or not plain:
            return await self.threads.run(lambda: answer(read()))
        sent = read()
        values = preparation.resampled_values(sent, loaded.model_info["dataset"])
        if explain or recording or values > LITTLE:
            return await self.threads.run(partial(answer, sent))
        return answer(sent)

    async def predict_rows(self, request: Request) -> Response:
        """The class of a row of features, or of several."""
        loaded = self.registry.model(*str(self.limits.features).split("/"))
        if (kind := requests.content_type(request)) not in (JSON, ""):
            raise unsupported(f"Content-Type {kind!r} is not understood: send {JSON}")
        body = await requests.read_body(request, self.limits)

        def answer() -> Response:
            content = answers.respond_rows(loaded, requests.parsed(body), self.limits)
            rows = content if isinstance(content, list) else [content]
            self.telemetry.answered(loaded, *rows)
            return _json(content)

        if len(body) <= SMALL // 16:  # a hundred rows or so
            return answer()
        return await self.threads.run(answer)

    async def health(self, _: Request) -> Response:
        """Whether models can answer."""
        if reason := self.registry.why_not_ready():
            raise unavailable(reason)
        return _json({"status": "healthy"})

    async def models(self, _: Request) -> Response:
        """All models that are trained here, and those that cannot answer with the reason."""
        return _json({"models": self.registry.summaries()})

    async def examples(self, _: Request, dataset: str, model: str) -> Response:
        """Test recordings to try a model on."""
        self.registry.check_known(dataset, model)
        return _json({"examples": await asyncio.to_thread(self._examples, dataset)})

    async def example(self, _: Request, dataset: str, model: str, name: Name) -> Response:
        """A test recording as an NPY file, ready to be sent to its model."""
        self.registry.check_known(dataset, model)
        return Npy(await asyncio.to_thread(self._example, dataset, name))

    def _examples(self, dataset: str) -> list[dict[str, Any]]:
        """Return the listed examples: none while DVC is writing the folder, if there is no folder, or if
        they are damaged, which is logged."""
        path = self.root / EXAMPLES / dataset / "examples.json"
        try:
            return list(read_json(verified(path))["examples"])
        except UserError as error:
            if path.exists():
                log.warning("no examples of %s: %s", dataset, error)
        except (OSError, KeyError, TypeError):
            pass
        return []

    def _example(self, dataset: str, name: str) -> bytes:
        """The bytes of a file in the list: no path is made of what a client asks for."""
        for example in self._examples(dataset):
            if example["name"] == name:
                try:
                    return verified(self.root / EXAMPLES / dataset / f"{name}.npy").read_bytes()
                except UserError as error:
                    raise unavailable(str(error)) from None
                except OSError:  # it is being replaced
                    break
        raise unknown(f"there is no example {shown(name)!r}: the list of examples has all names")

    async def metrics(self, _: Request) -> Response:
        """Metrics for Prometheus."""
        # Not behind answers: what the server does matters most when there are many of them.
        content = await asyncio.to_thread(self.telemetry.exposition)
        return Response(content, headers={"Content-Type": telemetry.MEDIA_TYPE})


class Threads:
    """A few threads for what takes long. Python cannot stop a thread: who is given up on keeps it until
    its work is done, so others wait, and beyond WAITING of them are refused at once."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="answer")
        self._waiting = 0

    async def run(self, function: Callable[[], Result]) -> Result:
        """The result of `function`. Raises Problem 503 if too many wait or it takes too long."""
        if self._waiting >= THREADS + WAITING:
            raise unavailable("too busy: try again in some seconds")
        self._waiting += 1
        work = self._executor.submit(function)
        work.add_done_callback(partial(asyncio.get_running_loop().call_soon_threadsafe, self._done))
        try:
            async with asyncio.timeout(self._seconds):
                return await asyncio.wrap_future(work)
        except TimeoutError:
            raise unavailable(
                f"the answer took longer than {self._seconds:g} seconds: send less, or try again"
            ) from None

    def _done(self, _: object) -> None:
        self._waiting -= 1

    def stop(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)


def _json(content: object) -> Response:
    return Response(orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY), media_type=JSON)
