"""Write answers to the log behind those who give them."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

from beatline.common.errors import UserError
from beatline.monitoring import retention
from beatline.monitoring.answers import Answer, AnswerLog, KeptRecording
from beatline.monitoring.settings import Monitoring

Outcome = Literal["written", "dropped", "failed"]
SECONDS = 5.0  # that a statement may take
BETWEEN = 1.0  # seconds from a batch, or a failed one, to the next, unless somebody waits
SECONDS_TO_END = 3.0  # in which rows that wait are still written
BATCH = 500  # rows of a transaction
MOST_WAITING = 10_000  # answers that are held; more are dropped
MOST_HELD = 64_000_000  # bytes of recordings that are held; more are dropped
BETWEEN_TIDYING = 600.0  # seconds
SHARE_BETWEEN_TIDYING = 0.02  # of the log, that may be written in between
log = logging.getLogger("beatline.monitoring")


@dataclass(frozen=True)
class _Entry:
    answer: Answer
    recording: KeptRecording | None
    written: Future[bool] | None

    @property
    def rows(self) -> int:
        return 1 if self.recording is None else 2


class Writer:
    """Writes to the log at `where`, in batches and in a thread of its own: no answer waits for it or
    fails by it. What a database that is away, slow or full cannot take is tried again, and dropped when
    too much waits. `count` is told what came of rows. Raises UserError if `where` is no place."""

    def __init__(
        self, where: str, settings: Monitoring, count: Callable[[Outcome, int], None]
    ) -> None:
        self.log = AnswerLog(where, SECONDS)
        self._settings = settings
        self._count = count
        self._waiting: deque[_Entry] = deque()
        self._batch: list[_Entry] = []  # taken from those that wait, and not written yet
        self._singly = 0  # of those that wait, that are written one by one
        self._held = 0  # bytes of recordings in both
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._ending = False
        self._failed = False
        self._tidied, self._bytes = 0.0, 0  # when, and what was written since
        self._thread = threading.Thread(target=self._run, name="answer log", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Return when what waits was written, or in some seconds without."""
        self._ending = True
        self._wake.set()
        self._thread.join(SECONDS_TO_END)
        if left := [*self._waiting.copy(), *self._batch]:
            self._count("dropped", sum(entry.rows for entry in left))
            log.warning(
                "%d answers are not in the log: it could not be written in the end", len(left)
            )

    def add(
        self, answer: Answer, recording: KeptRecording | None = None, wait: bool = False
    ) -> Future[bool] | None:
        """Have an answer written; never waits. Return a future, if `wait`, of whether it is in the log:
        false as soon as that is not known to be so, though it may be written later."""
        written: Future[bool] | None = Future() if wait else None
        entry = _Entry(answer, recording, written)
        if len(self._waiting) + len(self._batch) >= MOST_WAITING:
            self._count("dropped", entry.rows)
            _settle(written, False)
            return written
        if recording is not None and not self._hold(recording.samples.nbytes):
            self._count("dropped", 1)
            entry = replace(entry, recording=None)
        self._waiting.append(entry)
        if wait:
            self._wake.set()
        return written

    def _hold(self, size: int) -> bool:
        """Take room for a recording; return whether there was any."""
        with self._lock:
            fits = self._held + size <= MOST_HELD
            self._held += size * fits
        return fits

    def _run(self) -> None:
        with suppress(Exception):  # which is told with the first batch: nothing ends this thread
            self.log.write([])  # so that there is a log to be read
        while not self._ending:
            self._wake.wait(BETWEEN)
            self._wake.clear()
            self._write_all()
            self._tidy()
        self._write_all()  # what came in the meantime

    def _write_all(self) -> None:
        while self._write():
            pass

    def _write(self) -> bool:
        """Write a batch; return whether there may be more to write."""
        while self._waiting and len(self._batch) < (1 if self._singly else BATCH):
            self._batch.append(self._waiting.popleft())
        batch = self._batch
        if not batch:
            return False
        try:
            kept = [entry.recording for entry in batch if entry.recording is not None]
            self._bytes += self.log.write([entry.answer for entry in batch], kept)
        except UserError as error:
            if not self._failed:  # once, and not for each batch
                log.warning("answers wait to be logged: %s", error)
            self._failed = True
            for entry in (*batch, *self._waiting.copy()):  # a copy: others append
                _settle(entry.written, False)
            return False
        except Exception:  # whatever it is, the next rows are written
            if len(batch) > 1:  # one by one: whose fault it is costs nobody else
                self._waiting.extendleft(reversed(batch))
                self._batch, self._singly = [], len(batch)
                return True
            log.exception("an answer could not be logged")
            self._end(batch, "failed")
        else:
            if self._failed:
                log.warning("answers are logged again")
            self._failed = False
            self._end(batch, "written")
        return True

    def _end(self, batch: list[_Entry], outcome: Outcome) -> None:
        self._batch, self._singly = [], max(self._singly - len(batch), 0)
        kept = [entry.recording for entry in batch if entry.recording is not None]
        with self._lock:
            self._held -= sum(recording.samples.nbytes for recording in kept)
        self._count(outcome, sum(entry.rows for entry in batch))
        for entry in batch:
            _settle(entry.written, outcome == "written")

    def _tidy(self) -> None:
        """Forget what is too old or too much, now and then."""
        due = time.monotonic() - self._tidied > BETWEEN_TIDYING
        much = self._bytes > SHARE_BETWEEN_TIDYING * 1e6 * self._settings.max_megabytes
        if self._failed or self._ending or not (due or much):
            return
        self._tidied, self._bytes = time.monotonic(), 0
        try:
            retention.forget(self.log, self._settings)
        except UserError as error:
            log.warning("what is too old stays in the log: %s", error)
        except Exception:
            log.exception("what is too old stays in the log")


def _settle(written: Future[bool] | None, outcome: bool) -> None:
    if written is not None:
        with suppress(InvalidStateError):  # nobody waits any more, or it was told so before
            written.set_result(outcome)
