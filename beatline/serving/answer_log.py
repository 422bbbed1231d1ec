"""What the service puts into the log of answers, and how a client learns that it is there."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from starlette.requests import Request

from beatline.bundle.model_info import WEIGHTS_SHA256
from beatline.common.errors import UserError, shown
from beatline.monitoring.answers import Answer, KeptRecording
from beatline.monitoring.settings import Monitoring
from beatline.monitoring.writer import Writer
from beatline.serving.machines import ID
from beatline.serving.problems import unavailable, unfit

if TYPE_CHECKING:
    from beatline.serving.answers import Observed
    from beatline.serving.model import Model
    from beatline.serving.shadow import Shadows
    from beatline.serving.telemetry import Telemetry

ENTITY, WAIT = "X-Entity-Id", "X-Wait-For-Log"
SECONDS_TO_WAIT = 1.0


AWAY = "the log of answers cannot be used now: try again in some seconds; the server's log says why"
log = logging.getLogger("beatline.serving")


@contextmanager
def using_log() -> Iterator[None]:
    """Turn a log that cannot be used into Problem 503, without the words that say where it is."""
    try:
        yield
    except UserError as error:
        log.warning("the log of answers cannot be used: %s", error)
        raise unavailable(AWAY) from None


@dataclass
class Asked:
    """A request: the `entity` that it is about, whether its client waits (`wait`) for the log, whether
    the entity is a `machine`, and when that was `measured` (None: what is sent was just now); when it
    `began`; and what is `written` of its answers."""

    entity: str | None
    wait: bool
    machine: bool = False
    measured: datetime | None = None
    began: float = field(default_factory=time.perf_counter)
    written: list[Future[bool]] = field(default_factory=list)


def asked(request: Request, machine: str | None = None) -> Asked:
    """Return what a request says about the log; `machine`: whose sound it is. Raises Problem if a header
    is wrong."""
    return Asked(_entity(request, machine), _waits(request), machine is not None)


def _entity(request: Request, machine: str | None) -> str | None:
    if (given := request.headers.get(ENTITY)) is None:
        return machine
    if not re.fullmatch(ID, given):
        raise unfit(
            f"{ENTITY} is 1 to 64 letters, digits and _.:-, and begins with a letter or a digit, not "
            f"{shown(given)!r}: send a pseudonym like that, and no name"
        )
    if machine not in (None, given):
        raise unfit(f"{ENTITY} is not the machine that the sound is said to be of: leave it out")
    return given


def _waits(request: Request) -> bool:
    given = request.headers.get(WAIT, "0")
    if given not in ("0", "1"):
        raise unfit(f"{WAIT} must be 1 or 0, not {shown(given)!r}")
    return given == "1"


class Logbook:
    """Writes answers to the log of `monitoring`, and lets `shadows` answer too. Raises UserError if
    that is no place for one."""

    def __init__(
        self, monitoring: Monitoring, telemetry: Telemetry, shadows: Shadows | None = None
    ) -> None:
        assert monitoring.where, "there is a log"
        self.shadows = shadows
        self.writer = Writer(monitoring.where, monitoring, telemetry.logged)
        self.alarm = monitoring.alarm
        self._keeps = monitoring.keep_recordings is not None

    def note(
        self, model: Model, request: Asked, content: dict[str, Any], observed: Observed
    ) -> None:
        """Have an answer logged with what it rests on, and give it the id by which it is found again."""
        content["answer"] = secrets.token_hex(16)
        answer = self._answer(model, request, content, observed)
        kept = _recording(model, answer.id, observed) if self._keeps else None
        written = self.writer.add(answer, kept, request.wait)
        if written is not None:
            request.written.append(written)
        if self.shadows:
            self.shadows.offer(model, observed, request, answer.id, self)

    def note_shadow(
        self, model: Model, request: Asked, content: dict[str, Any], observed: Observed, beside: str
    ) -> None:
        """Have what a challenger says logged, `beside` the answer that was given."""
        content["answer"] = secrets.token_hex(16)
        self.writer.add(self._answer(model, request, content, observed, beside))

    def _answer(
        self,
        model: Model,
        request: Asked,
        content: dict[str, Any],
        observed: Observed,
        beside: str | None = None,
    ) -> Answer:
        thresholds, now = model.model_info["thresholds"], datetime.now(UTC)
        return Answer(
            id=content["answer"],
            moment=now,
            dataset=model.dataset,
            model=model.name,
            weights=model.model_info[WEIGHTS_SHA256],
            version=(model.registered or {}).get("version"),
            role="shadow" if beside else "champion",
            scores=observed.scores,
            decisions=observed.decisions,
            warnings=[warning["code"] for warning in content["warnings"]],
            seconds=time.perf_counter() - request.began,
            embedding=observed.embedding,
            features=observed.features,
            entity=request.entity,
            thresholds=np.array(thresholds, np.float32) if thresholds else None,
            beside=beside,
            measured=(request.measured or now) if request.machine else None,
        )


async def tell(content: Any, request: Asked) -> None:
    """Say in an answer, or in several, whether they are in the log; wait for that, but not for long."""
    futures = [asyncio.wrap_future(written) for written in request.written]
    if futures:
        await asyncio.wait(futures, timeout=SECONDS_TO_WAIT)
    answers = content if isinstance(content, list) else [content]
    logged = [future.done() and future.result() for future in futures]
    for number, answer in enumerate(answers):
        answer["logged"] = bool(logged) and logged[number]


def _recording(model: Model, answer: str, observed: Observed) -> KeptRecording | None:
    """Return what is kept of a recording, None of what is a row of features."""
    prepared, dataset = observed.prepared, model.model_info["dataset"]
    if prepared is None or dataset["length"] == 1:
        return None
    if prepared.waveform is not None:
        rate = dataset["representation"]["sampling_rate"]
        return KeptRecording(answer, prepared.waveform[:, None], ["sound"], rate, "full scale")
    channels, rate = dataset["channels"], dataset["sampling_rate"]
    return KeptRecording(answer, prepared.samples, channels, rate, dataset["unit"])
