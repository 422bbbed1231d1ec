"""How the machines in the log of answers are, as metrics: a look twice a minute, by one of the server's
processes. Not when Prometheus asks: a database that is slow or away would look like a service that is."""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from beatline.common.errors import UserError
from beatline.monitoring import machines
from beatline.monitoring.answers import AnswerLog
from beatline.monitoring.settings import Alarm
from beatline.serving.telemetry import FOLDER, Telemetry

SECONDS = 30.0
SECONDS_TO_END = 5.0
LOCK = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
log = logging.getLogger("beatline.serving")


class MachineWatch:
    """Looks at the machines that `detectors()` were asked about, by what the log of answers says."""

    def __init__(
        self,
        answers: AnswerLog,
        alarm: Alarm,
        max_age_seconds: float,
        detectors: Callable[[], Sequence[machines.Key]],
        telemetry: Telemetry,
    ) -> None:
        self._answers = answers
        self._alarm = alarm
        self._max_age_seconds = max_age_seconds
        self._detectors = detectors
        self._telemetry = telemetry
        self._failed = False
        self._turn: int | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="machine watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Return when the look that is under way has ended, or in some seconds without."""
        self._stop.set()
        self._thread.join(SECONDS_TO_END)
        if self._turn is not None:
            os.close(self._turn)

    def _run(self) -> None:
        while not self._stop.wait(min(SECONDS, 1) if self._turn is None else SECONDS):
            # Before models are loaded, no machine would seem to be known.
            if (detectors := self._detectors()) and self._is_our_turn():
                self._look(detectors)

    def _is_our_turn(self) -> bool:
        """Whether this process looks: the first of several, and another once that has ended, since the
        system then lets go of its lock."""
        if self._turn is None:
            folder = os.environ.get(FOLDER)
            # Held, and inherited by nobody, until the process ends.
            turn = os.open(Path(folder, "machines.lock") if folder else os.devnull, LOCK)
            try:
                if folder:
                    fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(turn)
                return False
            self._turn = turn
        return True

    def _look(self, detectors: Sequence[machines.Key]) -> None:
        counts = None
        try:
            counts = machines.counts(self._answers, detectors, self._alarm, self._max_age_seconds)
        except UserError as error:  # nothing is logged yet, or the log is away
            if not self._failed:
                log.warning("machines cannot be counted: %s", error)
        except Exception:  # whatever it is, models answer, and the next look may succeed
            log.exception("machines cannot be counted")
        self._failed = counts is None
        self._telemetry.machines_seen(counts)
