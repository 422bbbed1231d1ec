"""The operations of the API. Small work is done where it arrives, since passing it to a thread costs
more than it takes; a few threads do whatever may take long, so that ``/health`` and other clients are
answered meanwhile.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query
from fastapi import Path as InPath
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from beatline.common.errors import names_there_are
from beatline.formats.recording import Notice, Recording
from beatline.monitoring import machines as known_machines
from beatline.monitoring.settings import Monitoring
from beatline.serving import (
    access_log,
    answer_log,
    answers,
    documentation,
    examples,
    explanation,
    feedback,
    machines,
    preparation,
    requests,
    telemetry,
    uploads,
)
from beatline.serving.answer_log import Asked, Logbook
from beatline.serving.documentation import problems
from beatline.serving.machine_watch import MachineWatch
from beatline.serving.machines import Machines
from beatline.serving.model import Check, Model, go_on
from beatline.serving.problems import (
    Problem,
    too_large,
    unavailable,
    unfit,
    unknown,
    unsupported,
)
from beatline.serving.recording import Prepared
from beatline.serving.registry import Registry
from beatline.serving.responses import (
    AnomalyAnswer,
    Available,
    ClassAnswer,
    Example,
    Feedback,
    History,
    LabelsAnswer,
    MachineAnswer,
    MachineFeatures,
    RowAnswer,
    Unavailable,
    as_json,
)
from beatline.serving.responses import Machines as KnownMachines
from beatline.serving.settings import PROCESSES, Serve
from beatline.serving.shadow import Shadows
from beatline.serving.supervisor import ending_with_parent
from beatline.serving.telemetry import Telemetry
from beatline.serving.uploads.checks import check_size
from beatline.serving.work import Lane, Room

JSON, NPY, RAW = "application/json", "application/x-npy", "application/octet-stream"
ASKING = 4  # threads that wait for the feature store
THREADS = 2  # for what takes a moment; more would only share the cores
WAITING = 16  # requests for each kind of work, beyond which a client is asked to come back
# Bodies up to this size, of formats that unpack to nothing larger, are read at once: 12 x 1000 samples
# are 48 kB as float32 and 250 kB as JSON of all digits.
SMALL = 512_000
# What is looked at and answered at once, while all others wait: values after resampling, seconds.
LITTLE, AT_ONCE = 50_000, 0.01
BESIDE_THE_MODEL = 0.001  # seconds of an answer, of each further recording of a request
A_MOMENT = 0.2  # seconds of an answer that waits for others like it only
ROOM_FOR_SMALL = 8_000_000  # bytes of small bodies that are held, by all processes
FLOAT64 = 8  # bytes
ROOM_FOR_LARGE = 2  # of the largest bodies: each becomes arrays of several times its size
MODEL = "/models/{dataset}/{model}"
Explain = Annotated[
    bool, Query(description="Also tell which parts of the recording moved the answer (slower).")
]
Show = Annotated[bool, Query(description="Also give the recording as the model looked at it.")]
AsBody = Annotated[
    bool, Query(description="As a body in JSON, ready to be sent to `predict`, and not as NPY.")
]
MachineId = Annotated[str, InPath(pattern=machines.ID, examples=["id_00"])]
Name = Annotated[str, InPath(min_length=1, examples=["1"])]


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


def json_response(content: object) -> Response:
    return Response(as_json(content), media_type=JSON)


@dataclass(frozen=True)
class Answered:
    """An answer, or several: the response if it is `made`, or the `content` that is yet to be `written`
    if its client waits for the log."""

    content: Any
    made: Response | None
    written: Callable[[Any], Response]

    @staticmethod
    def at_once(
        content: Any, asked: Asked, written: Callable[[Any], Response] = json_response
    ) -> Answered:
        """Make the response where the answer was made, unless its client waits."""
        return Answered(content, None if asked.wait else written(content), written)

    async def response(self, asked: Asked) -> Response:
        """Return the response, once it is known whether the answer is in the log if that was asked."""
        if self.made is not None:
            return self.made
        await answer_log.tell(self.content, asked)
        return self.written(self.content)


class Service:
    """The operations, and what they share."""

    def __init__(
        self,
        limits: Serve,
        root: Path,
        wanted: Sequence[str],
        load_first: bool,
        feature_store: str | None,
        monitoring: Monitoring | None = None,
    ) -> None:
        self.limits = limits
        self.load_first = load_first
        self.root = root
        self.telemetry = Telemetry(limits, root)
        self.registry = Registry(root, wanted, limits.poll_seconds, self.telemetry)
        lane = partial(Lane, seconds=limits.seconds_to_answer)
        self.quick = lane("quick", THREADS, WAITING, nice=False)
        self.slow = lane("slow", 1, WAITING, nice=True)
        self.machines = None
        if feature_store:
            self.machines = Machines(root, feature_store, limits, self.telemetry)
        self.logbook, self.shadows, self.machine_watch = None, None, None
        if monitoring is not None and monitoring.where:
            if monitoring.shadow:
                self.shadows = Shadows(monitoring.shadow, root, wanted, limits, self.telemetry)
            self.logbook = Logbook(monitoring, self.telemetry, self.shadows)
            self.machine_watch = MachineWatch(
                self.logbook.writer.log,
                self.logbook.alarm,
                limits.max_age_seconds,
                self.registry.detectors,
                self.telemetry,
            )
        self.asking = lane("asking", ASKING, WAITING, nice=False)
        self.explaining = lane("explaining", 1, WAITING, nice=True)
        processes = int(os.environ.get(PROCESSES, "1"))
        self.small = Room(max(ROOM_FOR_SMALL // processes, 2 * SMALL))
        self.large = Room(max(ROOM_FOR_LARGE // processes, 1) * limits.max_bytes)
        # What recordings that wait have beyond their bodies.
        self.unpacked = Room(limits.max_values * FLOAT64)

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        with ending_with_parent():
            self.registry.start()
            if self.machines:
                self.machines.start()
            if self.logbook:
                self.logbook.writer.start()
            if self.machine_watch:
                self.machine_watch.start()
            if self.shadows:
                self.shadows.start()
            if self.load_first:
                await asyncio.to_thread(self.registry.first_round.wait)
            try:
                yield
            finally:
                await asyncio.to_thread(self.registry.stop)
                for lane in (self.quick, self.slow, self.explaining, self.asking):
                    lane.stop()
                if self.machines:
                    await asyncio.to_thread(self.machines.stop)
                if self.shadows:
                    await asyncio.to_thread(self.shadows.stop)
                if self.machine_watch:
                    await asyncio.to_thread(self.machine_watch.stop)
                if self.logbook:
                    await asyncio.to_thread(self.logbook.writer.stop)
                await asyncio.to_thread(access_log.finish)

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
        if self.machines:
            self._add_machines(post, get)
        if self.logbook:
            post(
                "/feedback",
                self.feedback,
                tags=["Feedback"],
                response_model=Feedback | list[Feedback],
                responses=problems(400, 404, 408, 413, 415, 422, 503),
                openapi_extra=documentation.feedback_body(),
            )
            about: dict[str, Any] = {"tags": ["Machines"], "responses": problems(404, 422, 503)}
            get("/machines", self.known_machines, **about, response_model=KnownMachines)
            address = "/machines/{machine_id}/history"
            get(address, self.machine_history, **about, response_model=History)
        about_models: dict[str, Any] = {"tags": ["Models"], "responses": problems(404, 422, 503)}
        listed = list[Available | Unavailable]
        get("/models", self.models, **about_models, response_model=dict[Literal["models"], listed])
        all_examples = dict[Literal["examples"], list[Example]]
        get(f"{MODEL}/examples", self.examples, **about_models, response_model=all_examples)
        get(
            f"{MODEL}/examples/{{name}}",
            self.example,
            tags=about_models["tags"],
            responses={**about_models["responses"], 200: documentation.EXAMPLE},
            response_class=Npy,
        )
        about_server: dict[str, Any] = {"tags": ["Server"], "responses": problems(422, 503)}
        healthy = dict[Literal["status"], Literal["healthy"]]
        get("/health", self.health, **about_server, response_model=healthy)
        get("/metrics", self.metrics, **about_server, response_class=PlainTextResponse)

    def _add_machines(self, post: Callable[..., None], get: Callable[..., None]) -> None:
        about: dict[str, Any] = {"tags": ["Machines"], "responses": problems(404, 422, 503)}
        address = "/machines/{machine_id}"
        get(
            f"{address}/features",
            self.machine_features,
            **about,
            response_model=MachineFeatures,
        )
        if self.limits.machines:
            predict = self.predict_machine
            post(
                f"{address}/predict",
                predict,
                **about,
                response_model=MachineAnswer,
                openapi_extra={"parameters": documentation.LOG_HEADERS[1:]},
            )

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
        kind = requests.content_type(request)

        def read(body: bytes) -> list[Recording]:
            return [uploads.read(requests.upload_of(request.headers, kind, body), self.limits)]

        return await self.answered(
            request,
            loaded,
            read,
            lambda contents: json_response(contents[0]),
            plain=kind in (JSON, NPY) or (kind == RAW and "x-shape" in request.headers),
            explain=explain,
            with_recording=recording,
        )

    async def answered(
        self,
        request: Request,
        loaded: Model,
        read: Callable[[bytes], list[Recording]],
        written: Callable[[list[dict[str, Any]]], Response],
        *,
        plain: bool,
        explain: bool = False,
        with_recording: bool = False,
    ) -> Response:
        """Answer what `read` finds in a request's body by what `written` makes of the model's answers.
        `plain`: reading it takes no longer than copying it, and no more memory."""
        machine = self._machine(request, loaded)
        asked = answer_log.asked(request, machine)

        def answer(sent: list[Recording], check: Check) -> Answered:
            observe, observed = self._observe(loaded, asked), []
            options: dict[str, Any] = {
                "explain": explain,
                "with_recording": with_recording,
                "check": check,
                "observe": observe and (lambda *seen: observed.append(seen)),
            }
            if machine is not None:
                options["see"] = partial(self._store, loaded, machine)
            contents = []
            for number, each in enumerate(sent, 1):
                with _naming(number, sent):
                    content = answers.respond(loaded, each, **options, limits=self.limits)
                contents.append(content)
            if observe:  # all or, if one is refused, none
                for seen in observed:
                    observe(*seen)
            self.telemetry.answered(loaded, *contents)
            return Answered.at_once(contents, asked, written)

        with self.small.share() as small, self.large.share() as large:
            body = await requests.read_body(request, self.limits, SMALL, small, large)

            def read_and_answer(check: Check) -> Answered | list[Recording]:
                """The answer, unless others like this one would wait for it."""
                sent = read(body)
                _, seconds = self._effort(loaded, sent, explain)
                return sent if explain or seconds > A_MOMENT else answer(sent, check)

            lane = self.slow
            if len(body) <= SMALL and plain:
                sent = read(body)
                values, seconds = self._effort(loaded, sent, explain)
                little = max(values / LITTLE, seconds / AT_ONCE) <= 1
                if little and not explain and not with_recording:
                    return await answer(sent, go_on).response(asked)
                lane = self.quick if seconds <= A_MOMENT else self.slow
            else:
                reading = self.quick if len(body) <= SMALL else self.slow
                sent = await reading.run(request, read_and_answer)
                if isinstance(sent, Answered):
                    return await sent.response(asked)
            with self.unpacked.share() as take:
                take(max(sum(each.samples.nbytes for each in sent) - len(body), 0))
                lane = self.explaining if explain else lane
                answered = await lane.run(request, partial(answer, sent))
                return await answered.response(asked)

    def _observe(self, loaded: Model, asked: Asked) -> answers.Observe | None:
        """Return what logs answers, None if nothing does."""
        return self.logbook and partial(self.logbook.note, loaded, asked)

    def _machine(self, request: Request, loaded: Model) -> str | None:
        """Return the id of the machine that a recording is of, None if it is not said. Raises Problem if
        it is none, or the model hears no sound."""
        if (given := request.headers.get(machines.HEADER)) is None:
            return None
        if loaded.model_info["dataset"]["representation"] is None:
            raise unfit(
                f"{machines.HEADER} goes with sound, which {loaded.dataset}/{loaded.name} does not take: "
                f"leave it out"
            )
        return machines.checked_id(given)

    def _store(self, loaded: Model, machine: str, prepared: Prepared) -> list[Notice]:
        assert prepared.features is not None, "_machine lets sound through alone"
        if self.machines is None:
            return [] if self.logbook else [machines.without_store()]
        return self.machines.send(loaded, machine, prepared.features.tolist())

    def _effort(
        self, loaded: Model, recordings: list[Recording], explain: bool
    ) -> tuple[int, float]:
        """Return how many values a model will look at, and about how many seconds the answer will take.
        Raises Problem if these are more than it may."""
        dataset = loaded.model_info["dataset"]
        values, seconds = 0, (len(recordings) - 1) * BESIDE_THE_MODEL
        for recording in recordings:
            resampled = preparation.resampled_values(recording, dataset)
            steps = resampled // len(dataset["channels"])
            seconds += explanation.seconds(loaded, steps, explain=explain)
            values += resampled
        if len(recordings) > 1:  # what is logged of each is held until all are answered
            check_size(values, self.limits, "the tensor, at the model's sampling rate,")
        if seconds > self.limits.seconds_to_answer:
            without = ", or do not ask for an explanation" if explain else ""
            raise too_large(
                f"the answer would take about {seconds:.2g} seconds, more than the "
                f"{self.limits.seconds_to_answer:g} that one may take: send a shorter part{without}"
            )
        return values, seconds

    async def predict_rows(self, request: Request) -> Response:
        """The class of a row of features, or of several."""
        loaded = self.registry.model(*str(self.limits.features).split("/"))
        if (kind := requests.content_type(request)) != JSON:
            raise unsupported(f"Content-Type {kind!r} is not understood: send {JSON}")
        asked = answer_log.asked(request)
        with self.small.share() as small, self.large.share() as large:
            body = await requests.read_body(request, self.limits, SMALL, small, large)

            def answer(_: Check) -> Answered:
                rows = requests.rows(body, self.limits, loaded.model_info["dataset"]["channels"])
                observe = self._observe(loaded, asked)
                content = answers.respond_rows(loaded, rows, self.limits, observe)
                answered = content if isinstance(content, list) else [content]
                self.telemetry.answered(loaded, *answered)
                self.telemetry.took_rows(loaded, len(answered))
                return Answered.at_once(content, asked)

            if len(body) <= SMALL // 16:  # a hundred rows or so
                return await answer(go_on).response(asked)
            return await (await self.quick.run(request, answer)).response(asked)

    async def machine_features(self, request: Request, machine_id: MachineId) -> Response:
        """A machine's newest features in the store, with their age."""
        assert self.machines
        ask, machine = self.machines.newest, machines.checked_id(machine_id)
        table, row, age, notices = await self.asking.run(request, lambda _: ask(machine))
        content = machines.described(machine, table, row, age)
        return json_response(
            {**content, "features": row.features, "warnings": answers.told(notices)}
        )

    async def predict_machine(self, request: Request, machine_id: MachineId) -> Response:
        """Whether a machine's newest features in the store are an anomaly; nothing need be sent."""
        assert self.machines
        loaded = self.registry.model(*str(self.limits.machines).split("/"))
        ask, machine = self.machines.newest, machines.checked_id(machine_id)
        asked = answer_log.asked(request, machine)
        table, row, age, notices = await self.asking.run(request, lambda _: ask(machine))
        self.machines.check_fits(loaded, table)
        asked.measured = row.moment
        observe = self._observe(loaded, asked)
        content = answers.respond_measured(loaded, row.features, notices, observe)
        self.telemetry.answered(loaded, content)
        content = {**machines.described(machine, table, row, age), **content}
        return await Answered.at_once(content, asked).response(asked)

    async def feedback(self, request: Request) -> Response:
        """What experts say of answers: the classes that are true, in place of what was said before."""
        assert self.logbook
        if (kind := requests.content_type(request)) != JSON:
            raise unsupported(f"Content-Type {kind!r} is not understood: send {JSON}")
        answers, model_of = self.logbook.writer.log, self.registry.model
        with self.small.share() as small, self.large.share() as large:
            body = await requests.read_body(request, self.limits, SMALL, small, large)
            several = body.lstrip().startswith(b"[")
            written = await self.asking.run(
                request, lambda _: feedback.write(feedback.read(body), answers, model_of)
            )
        return json_response(written if several else written[0])

    async def known_machines(self, request: Request) -> Response:
        """The machines that detectors were asked about, with what they said last and open alarms."""
        assert self.logbook
        log, alarm, detectors = (
            self.logbook.writer.log,
            self.logbook.alarm,
            self.registry.detectors(),
        )

        def look(_: Check) -> dict[str, Any]:
            with answer_log.using_log():
                return known_machines.overview(log, detectors, alarm)

        return json_response(await self.asking.run(request, look))

    async def machine_history(self, request: Request, machine_id: MachineId) -> Response:
        """What detectors said of a machine, and the thresholds of the time."""
        assert self.logbook
        machine = machines.checked_id(machine_id)
        log, detectors = self.logbook.writer.log, self.registry.detectors()

        def look(_: Check) -> list[dict[str, Any]]:
            with answer_log.using_log():
                if series := known_machines.history(log, detectors, machine):
                    return series
                known = known_machines.names(log, detectors)
            raise unknown(
                f"no detector was asked about a machine {machine!r}{names_there_are(machine, known)}: "
                f"send a sound of it with the header {machines.HEADER}"
            )

        series = await self.asking.run(request, look)
        return json_response({"machine": machine, "series": series})

    async def health(self, _: Request) -> Response:
        """Whether models can answer."""
        if reason := self.registry.why_not_ready():
            raise unavailable(reason)
        return json_response({"status": "healthy"})

    async def models(self, _: Request) -> Response:
        """All models that are trained here, and those that cannot answer with the reason."""
        return json_response({"models": self.registry.summaries()})

    async def examples(self, _: Request, dataset: str, model: str) -> Response:
        """Test recordings to try a model on."""
        self.registry.check_known(dataset, model)
        found = await asyncio.to_thread(examples.listed, self.root, dataset)
        return json_response({"examples": found})

    async def example(
        self, _: Request, dataset: str, model: str, name: Name, json: AsBody = False
    ) -> Response:
        """A test recording, ready to be sent to its model; a row of features, to `/predict`."""
        key = self.registry.check_known(dataset, model)
        example, npy = await asyncio.to_thread(examples.read, self.root, dataset, name)
        if not json:
            return Npy(npy)
        features = None
        if key == self.limits.features:
            features = self.registry.model(dataset, model).model_info["dataset"]["channels"]
        return await asyncio.to_thread(lambda: json_response(examples.body(example, npy, features)))

    async def metrics(self, _: Request) -> Response:
        """Metrics for Prometheus."""
        # Not behind answers: what the server does matters most when there are many of them.
        content = await asyncio.to_thread(self.telemetry.exposition)
        return Response(content, headers={"Content-Type": telemetry.MEDIA_TYPE})


@contextmanager
def _naming(number: int, sent: list[Recording]) -> Iterator[None]:
    """Have a refusal say which recording it is of, where there are several."""
    try:
        yield
    except Problem as problem:
        if len(sent) == 1:
            raise
        raise Problem(problem.status, f"recording {number}: {problem.detail}") from None
