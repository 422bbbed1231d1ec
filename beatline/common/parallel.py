"""Work on many items in several processes, to the same results as in one.

On one machine they are those of a local pool, one per core unless BEATLINE_WORKERS says otherwise; where
DASK_SCHEDULER_ADDRESS names a scheduler, the workers of a Dask cluster (:mod:`beatline.common.cluster`).
Each item is worked on without regard to the others and results come in the order of the items, so that
what is made of them does not depend on who worked.
"""

from __future__ import annotations

import io
import itertools
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sized
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, redirect_stdout
from functools import partial
from typing import Any, TypeVar

from beatline.common.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

WORKERS, SCHEDULER = "BEATLINE_WORKERS", "DASK_SCHEDULER_ADDRESS"  # of the environment
STARTUP = 2.0  # seconds that a pool takes to begin
LONGEST_FOLDER = 60  # characters: an address of a socket has 107, and more is added
AHEAD = 2  # items per worker that are worked on or wait to be fetched
# Processes that share the cores would wait for each other's threads.
_OF_A_WORKER = {
    WORKERS: "1",
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
}


def ordered(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int | None = None,
    total: int | None = None,
) -> Generator[Result]:
    """Yield `function` of each of the `items`, in their order; a few results per worker are in memory.

    `function` and items go to other processes by pickle. `workers`: how many, None for those of the
    environment. `total`: about how many items there are, where they have no length. Work begins in this
    process, and a pool is started when it would save more than it costs. What an item prints, and the
    error that it raises, are those of one process after the other.
    Raises UserError if a worker is lost.
    """
    alone = workers == 1 or os.environ.get(WORKERS) == "1"
    workers = number_of_workers() if workers is None else workers
    # However few cores are here: a cluster has its own.
    if not alone and (address := os.environ.get(SCHEDULER)):
        from beatline.common import cluster

        yield from cluster.ordered(function, items, address)
        return
    total = len(items) if isinstance(items, Sized) else total
    waiting, spent = iter(items), 0.0
    for done, item in enumerate(waiting, 1):
        begin = time.process_time()  # which others on the machine do not lengthen
        result = function(item)
        spent += time.process_time() - begin
        yield result
        # Of how many items there are, nothing may be known: then as much is left as is done.
        left = spent * (total / done - 1) if total else spent
        if workers > 1 and left * (1 - 1 / workers) > STARTUP:
            yield from _in_pool(function, waiting, workers)
            return


def number_of_workers() -> int:
    """The processes that BEATLINE_WORKERS allows; without it, one per core that this one may use."""
    text = os.environ.get(WORKERS) or str(len(os.sched_getaffinity(0)))
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"{WORKERS} is {text!r}: give a number of processes of at least 1")
    return int(text)


def quiet(function: Callable[[Item], Result], item: Item) -> tuple[str, Result | UserError]:
    """What `function` prints, and its result or UserError, of an item that another process asked for."""
    with redirect_stdout(io.StringIO()) as printed:
        try:
            result = function(item)
        except UserError as error:
            result = error
    return printed.getvalue(), result


def told(outcome: tuple[str, Result | UserError]) -> Result:
    """Print and return, or raise, in this process what :func:`quiet` caught in another."""
    printed, result = outcome
    print(printed, end="", flush=True)
    if isinstance(result, UserError):
        raise result
    return result


def _in_pool(
    function: Callable[[Item], Result], items: Iterator[Item], workers: int
) -> Iterator[Result]:
    """Yield the results of `items` from a pool of processes, of this one until the pool has begun."""
    with _pool(workers, _module(function)) as submit:
        begun = [submit(_begun, function) for _ in range(workers)]
        while not all(future.done() for future in begun):
            for item in itertools.islice(items, 1):
                yield function(item)
                break
            else:
                return
        waiting: deque[Future[tuple[str, Result | UserError]]] = deque()
        for item in items:
            waiting.append(submit(quiet, function, item))
            if len(waiting) >= AHEAD * workers:
                yield told(waiting.popleft().result())
        while waiting:
            yield told(waiting.popleft().result())


def _begun(function: Callable[..., Any]) -> None:
    """Nothing: with its argument a worker has imported what the work needs."""
    del function


def _module(function: Callable[..., Any]) -> str:
    """Return the name of the module that a function comes from."""
    while isinstance(function, partial):
        function = function.func
    return function.__module__


@contextmanager
def _pool(workers: int, module: str) -> Iterator[Callable[..., Future[Any]]]:
    """Give what submits calls to a pool, whose processes end at once with an error, Ctrl-C, or this one.

    They are forked by a server that has imported the `module` and has no threads: importing it takes as
    long in each worker as the work of seconds, and a fork of this process would hold locks of threads
    that it has not.
    """
    before = set(multiprocessing.active_children())
    # The server listens in the folder for temporary files, whose path may be too long for that.
    short = len(tempfile.gettempdir()) <= LONGEST_FOLDER
    context = multiprocessing.get_context("forkserver" if short else "spawn")
    if short:
        context.set_forkserver_preload([module])
    executor = ProcessPoolExecutor(workers, context, initializer=_follow_parent)

    def submit(*call: Any) -> Future[Any]:
        with _environment_of_a_worker():  # a process is spawned when a call finds none idle
            return executor.submit(*call)

    try:
        yield submit
    except BaseException as error:
        executor.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - before:
            process.terminate()
        if isinstance(error, BrokenProcessPool):
            raise UserError(
                f"a worker process was killed, as happens for want of memory: run the command again with "
                f"fewer of them, such as {WORKERS}=1"
            ) from None
        raise
    finally:
        executor.shutdown()


@contextmanager
def _environment_of_a_worker() -> Iterator[None]:
    """Have what is spawned here inherit _OF_A_WORKER, and leave Ctrl-C to this process."""
    before = dict(os.environ)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    os.environ.update(_OF_A_WORKER)
    try:
        yield
    finally:
        for name in _OF_A_WORKER:
            os.environ.pop(name)
            if name in before:
                os.environ[name] = before[name]
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _follow_parent() -> None:
    """End this process as soon as the one that started it is gone, however it went."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
