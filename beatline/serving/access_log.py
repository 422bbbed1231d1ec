"""The access log, JSON lines, and the id by which a request is found again in it, in the log of errors
and in its answer."""

from __future__ import annotations

import logging
import os
import queue
import re
import threading
import time
import uuid
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

import orjson

from beatline.common.errors import UserError

HEADER = "X-Request-ID"
STDOUT, STDOUT_DESCRIPTOR = "-", 1  # in place of a file
# What others name by it stands in logs and headers: nothing there needs to be escaped.
REQUEST_ID = re.compile(rb"[A-Za-z0-9._:+/=@-]{1,128}")
# Characters of a path or a client, so that a line is written as a whole: a pipe takes 4,096 bytes at
# once, and each character of a path may become six.
LONGEST = 300
WAITING = 2000  # lines to be written, of each process; more are lost
SECONDS_TO_END = 2.0  # in which lines are still written
NAME = "beatline.access"
_lines = logging.getLogger(NAME)
_log = logging.getLogger("beatline.serving")


def request_id(headers: list[tuple[bytes, bytes]]) -> str:
    """Return the X-Request-ID that a proxy or client has given, or a new one if that is none of at most
    128 letters, digits and `._:+/=@-`, or if there are several."""
    given = [value for name, value in headers if name == b"x-request-id"]
    if len(given) == 1 and REQUEST_ID.fullmatch(given[0]):
        return given[0].decode()
    return uuid.uuid4().hex


def write(
    request: str,
    client: tuple[str, int] | None,
    method: str | None = None,
    path: str | None = None,
    status: HTTPStatus | int | None = None,
    seconds: float = 0.0,
    size: int = 0,
) -> None:
    """Write a line, if there is an access log. `status` is None if the client was gone before its answer;
    `method` and `path` are None of what was refused before they had arrived."""
    if not _lines.isEnabledFor(logging.INFO):
        return
    line: dict[str, Any] = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "method": method,
        "path": path and path[:LONGEST],
        "status": status,
        "duration_ms": round(seconds * 1e3, 3),
        "bytes": size,
        "client": client and client[0][:LONGEST],
        "request_id": request,
    }
    _lines.info(orjson.dumps(line).decode())


def logging_of(path: str | None) -> dict[str, Any]:
    """Return the handlers and loggers of an access log in a file, on stdout (`-`) or nowhere (None), for
    ``logging.config``. Raises UserError if the file cannot be written."""
    if path is None:
        return {"handlers": {}, "loggers": {NAME: {"level": "CRITICAL", "propagate": False}}}
    if path != STDOUT:
        try:
            Path(path).open("ab").close()
        except OSError as error:
            raise UserError(
                f"--access-log {path} cannot be written ({error.strerror}): name a file in a folder that "
                f"you may write to, or leave it out for stdout"
            ) from None
    handler = {"()": Lines, "path": path if path == STDOUT else str(Path(path).resolve())}
    logger = {"level": "INFO", "handlers": ["access"], "propagate": False}
    return {"handlers": {"access": handler}, "loggers": {NAME: logger}}


def finish() -> None:
    """Return when the lines of this process are written, or in some seconds without."""
    for handler in _lines.handlers:
        if isinstance(handler, Lines):
            handler.finish()


class Lines(logging.Handler):
    """A handler whose lines a thread writes: a full disk, a reader that is gone or one that takes nothing
    costs lines, not answers. What was lost is said in the log of errors, once, and at the end."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path
        self._failed = False
        self._waiting: queue.Queue[bytes] = queue.Queue(WAITING)
        self._lost = 0
        self._thread: threading.Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if self._thread is None:  # not in the parent process, which writes none
            self._thread = threading.Thread(target=self._run, name="access log", daemon=True)
            self._thread.start()
        try:
            self._waiting.put_nowait(f"{record.getMessage()}\n".encode())
        except queue.Full:
            self._lost += 1

    def finish(self) -> None:
        """Wait until all lines are written, but not long, and say how many were lost."""
        end = time.monotonic() + SECONDS_TO_END
        while self._waiting.unfinished_tasks and time.monotonic() < end:
            time.sleep(0.01)
        self._say_what_is_lost(self._waiting.unfinished_tasks)

    def _run(self) -> None:
        while True:
            line = self._waiting.get()
            try:
                self._write(line)
                self._failed = False
            except OSError as error:
                if not self._failed:
                    _log.error(
                        "the access log cannot be written (%s): lines are lost", error.strerror
                    )
                self._failed = True
            self._waiting.task_done()
            if self._lost and not self._waiting.unfinished_tasks:
                self._say_what_is_lost()

    def _say_what_is_lost(self, more: int = 0) -> None:
        self.acquire()  # as who emits has it
        try:
            lost, self._lost = self._lost + more, 0
        finally:
            self.release()
        if lost:
            _log.error("the access log was not taken in time: %d lines are lost", lost)

    def _write(self, line: bytes) -> None:
        """Write a line by one call: several processes write to the same file."""
        if self._path == STDOUT:
            os.write(STDOUT_DESCRIPTOR, line)
            return
        # Opened for each line, which takes microseconds: logrotate may have moved the file away.
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)
