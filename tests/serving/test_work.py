"""Work in lanes: what is given up ends, what waits too long or is too much is refused, and memory that
was taken is given back."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request

from beatline.serving.model import Check
from beatline.serving.problems import Problem
from beatline.serving.work import NICENESS, GivenUp, Lane, Room
from tests.serving.project import wait_until

SECONDS = 5.0


def request(gone: asyncio.Event) -> Request:
    """A request whose body has come, and whose client leaves when `gone` is set."""

    async def receive() -> dict[str, Any]:
        await gone.wait()
        return {"type": "http.disconnect"}

    return Request({"type": "http"}, receive)


@pytest.fixture
def lane() -> Iterator[Callable[..., Lane]]:
    made: list[Lane] = []

    def make(
        threads: int = 1, waiting: int = 1, seconds: float = SECONDS, nice: bool = False
    ) -> Lane:
        made.append(Lane("test", threads, waiting, seconds, nice))
        return made[-1]

    yield make
    for each in made:
        each.stop()


class Parts:
    """Work in parts without end: `parts` that were done, and whether it was given up."""

    def __init__(self) -> None:
        self.parts = 0
        self.given_up = False

    def __call__(self, check: Check) -> None:
        try:
            while True:
                check()
                self.parts += 1
                time.sleep(0.001)
        except GivenUp:
            self.given_up = True
            raise


def test_result(lane: Callable[..., Lane]) -> None:
    async def run() -> int:
        return await lane().run(request(asyncio.Event()), lambda check: check() or 7)

    assert asyncio.run(run()) == 7


def test_errors_are_those_of_the_work(lane: Callable[..., Lane]) -> None:
    async def run() -> None:
        await lane().run(request(asyncio.Event()), lambda _: 1 // 0)

    with pytest.raises(ZeroDivisionError):
        asyncio.run(run())


def test_a_client_that_leaves_ends_its_work(lane: Callable[..., Lane]) -> None:
    """At the end of the part that is under way; the thread is free for the next."""
    work = Parts()

    async def run() -> int:
        gone, one = asyncio.Event(), lane()
        asking = asyncio.create_task(one.run(request(gone), work))
        while not work.parts:
            await asyncio.sleep(0.01)
        gone.set()
        with pytest.raises(ClientDisconnect):
            await asking
        return await one.run(request(asyncio.Event()), lambda _: 7)

    assert asyncio.run(run()) == 7
    assert work.given_up


def test_work_that_takes_too_long(lane: Callable[..., Lane]) -> None:
    """Ends by itself, and its client is told; also if all that time went by in waiting."""
    first, second = Parts(), Parts()

    async def run() -> list[BaseException | None]:
        one = lane(seconds=0.3)
        asked = [one.run(request(asyncio.Event()), work) for work in (first, second)]
        return await asyncio.gather(*asked, return_exceptions=True)

    for error in asyncio.run(run()):
        assert isinstance(error, Problem) and error.status == 503
    wait_until(lambda: first.given_up)
    assert second.parts < first.parts


def test_more_than_may_wait(lane: Callable[..., Lane]) -> None:
    """Is refused at once; when one has ended there is a place again."""
    release = threading.Event()

    async def run() -> list[Any]:
        one = lane(threads=1, waiting=2)
        asked = [
            asyncio.create_task(one.run(request(asyncio.Event()), lambda _: release.wait(5)))
            for _ in range(3)
        ]
        await asyncio.sleep(0)
        with pytest.raises(Problem) as refused:
            await one.run(request(asyncio.Event()), lambda _: None)
        assert refused.value.status == 503
        release.set()
        answers = await asyncio.gather(*asked)
        return [*answers, await one.run(request(asyncio.Event()), lambda _: 7)]

    assert asyncio.run(run()) == [True, True, True, 7]


@pytest.mark.skipif(
    sys.platform != "linux", reason="threads have no priority of their own elsewhere"
)
def test_nice_threads_go_behind_others(lane: Callable[..., Lane]) -> None:
    def niceness(_: Check) -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    async def run(nice: bool) -> int:
        return await lane(nice=nice).run(request(asyncio.Event()), niceness)

    ours = os.getpriority(os.PRIO_PROCESS, 0)
    assert asyncio.run(run(False)) == ours
    assert asyncio.run(run(True)) == NICENESS > ours


def test_room_is_given_back() -> None:
    """Whatever happens meanwhile; more than there is is refused, and nothing is taken by that."""
    room = Room(100)
    with pytest.raises(ZeroDivisionError), room.share() as take:
        take(60)
        with room.share() as another:
            another(40)
            with pytest.raises(Problem) as refused:
                another(1)
            assert refused.value.status == 503
        take(40)
        raise ZeroDivisionError
    with room.share() as take:
        take(0, expected=100)
        take(1)
        with pytest.raises(Problem):
            take(0, expected=100)
        take(99)
