"""Work that other processes do, however short it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import pytest

from beatline.common import parallel
from beatline.common.parallel import Item, Result


def by_others(
    function: Callable[[Item], Result], items: Iterable[Item], **_: object
) -> Iterator[Result]:
    """Work like :func:`beatline.common.parallel.ordered`, all of it in a pool of two processes."""
    with parallel._pool(2, parallel._module(function)) as submit:
        futures = [submit(parallel.quiet, function, item) for item in items]
        yield from (parallel.told(future.result()) for future in futures)


def leave_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have all that may be worked on in other processes be so from here on."""
    monkeypatch.setattr(parallel, "ordered", by_others)
