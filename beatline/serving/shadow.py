"""Challengers that answer beside their champions, heard by nobody but the log.

A share of the answers is made again by the challenger of their model, in a thread of low priority that
has a budget of processor time: what is beyond it is left out, and nobody waits. `beatline compare
--answers` reads what came of it."""

from __future__ import annotations

import logging
import queue
import random
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from beatline.formats.recording import Recording
from beatline.monitoring.settings import Shadow
from beatline.serving import answers
from beatline.serving.problems import Problem
from beatline.serving.registry import Registry
from beatline.serving.work import yield_to_others
from beatline.tracking.names import CHALLENGER

if TYPE_CHECKING:
    from beatline.serving.answer_log import Asked, Logbook
    from beatline.serving.answers import Observed
    from beatline.serving.model import Model
    from beatline.serving.settings import Serve
    from beatline.serving.telemetry import Telemetry

WAITING = 8  # recordings that are held for a challenger
SAVED = 5.0  # seconds whose budget is kept for later
log = logging.getLogger("beatline.serving")


class Budget:
    """A share of one processor, of which as much as SAVED seconds give can be saved."""

    def __init__(self, processors: float) -> None:
        self._processors = processors
        self._left = processors * SAVED
        self._looked = time.monotonic()

    def has_some(self) -> bool:
        """Whether there is any left."""
        now = time.monotonic()
        earned = self._processors * (now - self._looked)
        self._left, self._looked = min(self._left + earned, self._processors * SAVED), now
        return self._left > 0

    def spend(self, seconds: float) -> None:
        """Take seconds of a processor, more than are left if need be: the next wait for it."""
        self._left -= seconds


@dataclass(frozen=True)
class _Heard:
    """What the champion (`model`) has `answered` about, and who is to answer it too."""

    model: Model
    challenger: Model
    observed: Observed
    asked: Asked
    answered: str
    logbook: Logbook

    def note(self, content: dict[str, object], seen: Observed) -> None:
        self.logbook.note_shadow(self.challenger, self.asked, content, seen, self.answered)

    @property
    def recording(self) -> Recording | None:
        """The recording as the champion has prepared it, described by what that was trained on; None of a
        row."""
        dataset, prepared = self.model.model_info["dataset"], self.observed.prepared
        if prepared is None or dataset["length"] == 1:
            return None
        if prepared.waveform is not None:
            rate = float(dataset["representation"]["sampling_rate"])
            return Recording(prepared.waveform[:, None], ["sound"], rate)
        return Recording(
            prepared.samples[: prepared.length],
            dataset["channels"],
            dataset["sampling_rate"],
            [dataset["unit"]] * len(dataset["channels"]),
        )


class Shadows:
    """The challengers of the models `wanted`, from the copies that the project in `root` has of them."""

    def __init__(
        self,
        shadow: Shadow,
        root: Path,
        wanted: Sequence[str],
        limits: Serve,
        telemetry: Telemetry,
    ) -> None:
        self._shadow = shadow
        self._limits = limits
        self._telemetry = telemetry
        self._registry = Registry(root, wanted, limits.poll_seconds, telemetry, CHALLENGER)
        self._budget = Budget(shadow.processors)
        self._waiting: queue.Queue[_Heard | None]
        self._waiting = queue.Queue(WAITING)
        self._draw = random.Random()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)

    def start(self) -> None:
        self._registry.start()
        self._thread.start()

    def stop(self) -> None:
        """Return when the answer that is being made is made."""
        self._ending.set()
        with suppress(queue.Full):  # then nobody waits for something to come
            self._waiting.put_nowait(None)
        self._registry.stop()
        self._thread.join(self._limits.seconds_to_answer)

    def offer(
        self, model: Model, observed: Observed, asked: Asked, answer: str, logbook: Logbook
    ) -> None:
        """Let the challenger of a model see what it has just answered about, if it is drawn and there is
        room. Never waits."""
        challenger = self._registry.loaded(f"{model.dataset}/{model.name}")
        if challenger is None or self._draw.random() >= self._shadow.share:
            return
        if challenger.identity["weights"] == model.identity["weights"]:
            return  # it has been promoted
        try:
            self._waiting.put_nowait(_Heard(model, challenger, observed, asked, answer, logbook))
        except queue.Full:
            self._telemetry.shadowed("left out")

    def _run(self) -> None:
        yield_to_others()
        while (heard := self._waiting.get()) is not None and not self._ending.is_set():
            if not self._budget.has_some():
                self._telemetry.shadowed("left out")
                continue
            began = time.thread_time()
            try:
                self._answer(heard)
            except Problem as problem:
                self._telemetry.shadowed("failed")
                log.debug("the challenger %s cannot answer: %s", heard.challenger.name, problem)
            except Exception:  # whatever it is, the champion has answered
                self._telemetry.shadowed("failed")
                log.exception("the challenger of %s failed", heard.challenger.name)
            else:
                self._telemetry.shadowed("answered")
            self._budget.spend(time.thread_time() - began)

    def _answer(self, heard: _Heard) -> None:
        challenger, recording = heard.challenger, heard.recording
        if recording is not None:
            answers.respond(
                challenger,
                recording,
                explain=False,
                with_recording=False,
                limits=self._limits,
                observe=heard.note,
            )
        elif challenger.detects:
            answers.respond_measured(challenger, heard.observed.features or {}, (), heard.note)
        else:
            answers.respond_rows(
                challenger, heard.observed.features or {}, self._limits, heard.note
            )
