"""A Dask cluster, whose workers must have the code and the packages of the process that they work for.

The scheduler and the workers are the user's: docs/scaling.md says how they are started. Results come as
those of :func:`beatline.common.parallel.ordered` do, which is what calls this.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from beatline.common import parallel
from beatline.common.errors import UserError
from beatline.common.files import sha256
from beatline.common.parallel import Item, Result
from beatline.common.versions import instructions, machine, versions

if TYPE_CHECKING:
    from distributed import Client, Future

TIMEOUT = 10.0  # seconds in which a scheduler answers
PATIENCE = 60.0  # seconds without any worker
POLL = 2.0  # seconds
# Of a worker's threads: what a task prints is caught for it alone.
_ONE_AT_A_TIME = threading.Lock()


def ordered(
    function: Callable[[Item], Result], items: Iterable[Item], address: str
) -> Generator[Result]:
    """Yield `function` of each of the `items`, in their order, as the workers of a cluster find them.

    What a lost worker had is done by another. Raises UserError if the scheduler or all workers are gone,
    one has other code or packages, or workers die of one and the same item.
    """
    with connected(address) as client:
        work = partial(_work, function, _digest())
        waiting: deque[Future] = deque()
        for item in items:
            waiting.append(client.submit(work, item, pure=False))
            while len(waiting) >= parallel.AHEAD * max(1, _threads(client)):
                yield parallel.told(result(client, waiting.popleft()))
        while waiting:
            yield parallel.told(result(client, waiting.popleft()))


@contextmanager
def connected(address: str) -> Iterator[Client]:
    """Give a client of the scheduler at `address`, when each worker has been found to be like this
    process. Raises UserError if one is not, there is none, or the scheduler cannot be reached."""
    try:
        from distributed import Client
    except ImportError:
        raise UserError(
            f"a cluster is named ({address}) and the package distributed is not installed: run `make "
            f"cluster`, or name none"
        ) from None
    # An error is told once, in a sentence.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    try:
        _probe(address)
        client = Client(address, timeout=TIMEOUT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise UserError(
            f"the scheduler {address} cannot be reached ({error}): start it by `dask scheduler`, or "
            f"correct the address, such as tcp://host:8786, in {parallel.SCHEDULER} or CLUSTER"
        ) from None
    with client:
        _check_workers(client, address)
        yield client


def _probe(address: str) -> None:
    """Raise OSError or ValueError if nobody listens at `address`: a client that finds that out itself
    leaves a traceback behind."""
    from distributed.comm.addressing import parse_address, parse_host_port

    scheme, location = parse_address(address)
    if scheme != "tcp":
        raise ValueError(f"no address begins with {scheme}://")
    socket.create_connection(parse_host_port(location, 8786), TIMEOUT).close()


def result(client: Client, future: Future) -> Any:
    """Wait for a task's result. Raises UserError if nobody is left who could have it."""
    return value(next(completed(client, [future])))


def completed(client: Client, futures: Iterable[Future]) -> Iterator[Future]:
    """Yield tasks as they end. Raises UserError if nobody is left who could do them."""
    import distributed

    left, since = list(futures), time.monotonic()
    while left:
        for future in [each for each in left if each.done()]:
            left.remove(future)
            since = time.monotonic()
            yield future
        if client.status != "running":
            raise _lost("the scheduler is")
        since = time.monotonic() if _threads(client) else since
        if time.monotonic() - since > PATIENCE:
            raise _lost("all workers are")
        with suppress(TimeoutError), client.as_current():
            if left:
                distributed.wait(left, timeout=POLL, return_when="FIRST_COMPLETED")


def value(future: Future) -> Any:
    """Return the result of a task that has ended, or raise its error; UserError if the cluster is what
    it has ended by."""
    from distributed import CancelledError, KilledWorker

    try:
        return future.result(timeout=TIMEOUT)
    except KilledWorker as error:
        raise UserError(
            f"several workers died of the same task (the last was {error.last_worker.address}), as "
            f"happens for want of memory: give them more, and run the command again"
        ) from None
    except (CancelledError, OSError):
        if future.status == "error":  # the task's own
            raise
        raise _lost("the scheduler is") from None


def _threads(client: Client) -> int:
    """How many tasks the workers that are there now can do at a time."""
    try:
        threads: Any = client.nthreads()
        return sum(threads.values())
    except OSError:
        raise _lost("the scheduler is") from None


def _lost(who: str) -> UserError:
    return UserError(
        f"{who} gone from the cluster, and nothing is written: start the cluster again, then the "
        f"command"
    )


def _check_workers(client: Client, address: str) -> None:
    try:
        client.wait_for_workers(1, timeout=PATIENCE)
    except TimeoutError:
        raise UserError(
            f"the scheduler {address} has no worker: start some by `dask worker {address} --nthreads 1` "
            f"in a checkout of this revision"
        ) from None
    answers: Any = client.run(difference, identity(), on_error="return")
    for worker, answer in sorted(answers.items()):
        if isinstance(answer, Exception):
            answer = f"no such code ({answer})"
        if answer:
            raise UserError(
                f"the worker {worker} has {answer}: check out the same revision there, install the same "
                f"requirements, and start the worker again on a machine of the same kind"
            )


@lru_cache(maxsize=1)
def identity() -> dict[str, dict[str, str]]:
    """What may change a result of this process: the package's files, and versions of libraries, as they
    were when it was first asked, which is when a worker first loads them; and the machine, whose
    instructions libraries choose by, and round otherwise with others."""
    package = Path(__file__).resolve().parents[1]
    files = [path for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    code = {path.relative_to(package).as_posix(): sha256(path) for path in files}
    kind = {**machine(), "instructions": instructions()}
    return {"code": code, "packages": versions(), "machine": kind}


def difference(expected: dict[str, dict[str, str]]) -> str:
    """Return what this process differs in from another with the identity `expected`; "" if in nothing."""
    own = identity()
    for kind, theirs in expected.items():
        names = {*own[kind], *theirs}
        for name in sorted(name for name in names if own[kind].get(name) != theirs.get(name)):
            if kind == "code":
                return f"other code ({name})"
            if name == "instructions":
                return "a processor with other instructions"
            return f"{name} {own[kind].get(name, 'none')}, not {theirs.get(name, 'none')}"
    return ""


def _digest() -> str:
    return hashlib.sha256(json.dumps(identity(), sort_keys=True).encode()).hexdigest()


def _work(
    function: Callable[[Item], Result], expected: str, item: Item
) -> tuple[str, Result | UserError]:
    """Do a task, in a worker. It may have joined since the others were looked at."""
    with _ONE_AT_A_TIME:
        os.environ[parallel.WORKERS] = "1"  # it is a worker, and starts none
        if _digest() != expected:
            return "", UserError(
                "a worker that has joined the cluster has other code or packages: start it in a checkout "
                "of the same revision with the same requirements, and run the command again"
            )
        return parallel.quiet(function, item)
