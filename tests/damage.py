"""Damage as disks do it: a byte that changes, at the same size and time."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def flip(path: Path, place: int, change: int = 1) -> None:
    """Change a byte where it is, and give the file back its time of change."""
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(place % status.st_size)
        (byte,) = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ change]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@contextmanager
def flipped(path: Path, place: int, change: int = 1) -> Iterator[None]:
    """The same, for a while."""
    flip(path, place, change)
    try:
        yield
    finally:
        flip(path, place, change)


def places(path: Path, number: int) -> list[int]:
    """So many bytes of a file, the first, the last and some in between, always the same."""
    size = path.stat().st_size
    return [0, size - 1, *random.Random(0).choices(range(size), k=number - 2)]
