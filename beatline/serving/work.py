"""Work that takes longer than others should wait for, in threads of its own: who asks for much waits for
others who do, and for nobody else."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import Protocol, TypeVar

from starlette.requests import ClientDisconnect, Request

from beatline.serving.model import Check
from beatline.serving.problems import unavailable

NICENESS = 5  # of threads that others go before: a third of a core where others want it too
Result = TypeVar("Result")


class Take(Protocol):
    """Takes memory of a :class:`Room`."""

    def __call__(self, size: int, expected: int = 0) -> None: ...


class GivenUp(Exception):
    """Ends work that nobody waits for."""


class Lane:
    """`threads` for one kind of work, for which `waiting` more requests may wait; the next are refused.
    What takes longer than `seconds`, the wait included, is given up. `nice`: it goes behind other work of
    this machine, where the system can say so of a thread (Linux)."""

    def __init__(self, name: str, threads: int, waiting: int, seconds: float, nice: bool) -> None:
        self._most = threads + waiting
        self._seconds = seconds
        self._executor = ThreadPoolExecutor(threads, name, yield_to_others if nice else None)
        self._taken = 0

    async def run(self, request: Request, function: Callable[[Check], Result]) -> Result:
        """The result of `function`. Raises Problem 503 if too many wait or it takes too long, and
        ClientDisconnect if the client is gone."""
        if self._taken >= self._most:
            raise unavailable("too busy: try again in some seconds")
        self._taken += 1
        ended = threading.Event()
        deadline = time.monotonic() + self._seconds

        def check() -> None:
            if ended.is_set() or time.monotonic() > deadline:
                raise GivenUp

        work = self._executor.submit(function, check)
        work.add_done_callback(partial(self._left, asyncio.get_running_loop()))
        result = asyncio.wrap_future(work)
        gone = asyncio.ensure_future(_gone(request))
        try:
            await asyncio.wait({result, gone}, timeout=self._seconds, return_when="FIRST_COMPLETED")
            if result.done():
                return result.result()
            if gone.done():
                raise ClientDisconnect
            raise _too_slow(self._seconds)
        except GivenUp:
            raise _too_slow(self._seconds) from None
        finally:
            ended.set()
            gone.cancel()
            result.cancel()

    def _left(self, loop: asyncio.AbstractEventLoop, _: Future[Result]) -> None:
        with suppress(RuntimeError):  # the loop is closed: the server has ended
            loop.call_soon_threadsafe(self._leave)

    def _leave(self) -> None:
        self._taken -= 1

    def stop(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)


class Room:
    """Memory for bodies: those that are on their way and those that are being answered, `size` bytes."""

    def __init__(self, size: int) -> None:
        self._free = size

    @contextmanager
    def share(self) -> Iterator[Take]:
        """Give a function that takes so many bytes more, until the block ends. It raises Problem 503 if
        there is no room for them, nor for those that are `expected` after them."""
        taken = 0

        def take(size: int, expected: int = 0) -> None:
            nonlocal taken
            if size + expected > self._free:
                raise unavailable("too many large requests at once: try again in some seconds")
            self._free -= size
            taken += size

        try:
            yield take
        finally:
            self._free += taken


async def _gone(request: Request) -> None:
    """Return when the client of a request whose body has been read is gone."""
    message = await request.receive()
    while message["type"] != "http.disconnect":
        message = await request.receive()


def _too_slow(seconds: float) -> Exception:
    return unavailable(f"the answer took longer than {seconds:g} seconds: send less, or try again")


def yield_to_others() -> None:
    """Have this thread go behind others, where the system can say so of one (Linux)."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
