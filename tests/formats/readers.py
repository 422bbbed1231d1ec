"""Readers that do what a damaged or hostile file may make one do; run by beatline.formats.isolated."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import numpy as np

from beatline.formats.recording import Notice, Recording, UnfitRecording


def bytes_of(path: Path, most: float, where: str, *, times: int = 1) -> Recording:
    """The bytes of all files in the folder, by name, and what the caller said."""
    contents = b"".join(each.read_bytes() for each in sorted(path.parent.iterdir()))
    print("a library that prints")
    sys.stdout.flush()
    samples = np.frombuffer(contents, np.uint8)[:, None] * np.int32(times)
    note = Notice("note", "said", f"{where} {most}")
    return Recording(samples, ["a"], 7.5, ["mV"], [note])


def endless(path: Path, most: float, where: str) -> Recording:
    while True:
        pass


def endless_in_c(path: Path, most: float, where: str) -> Recording:
    """A regular expression that backtracks for ever and lets no other thread run."""
    re.match(r"(a+)+$", "a" * 64 + "b")
    raise AssertionError


def hungry(path: Path, most: float, where: str) -> Recording:
    return Recording(np.ones((1 << 28, 8)))


def crashing(path: Path, most: float, where: str) -> Recording:
    os.abort()


def deep(path: Path, most: float, where: str) -> Recording:
    return deep(path, most, where)


def unfit(path: Path, most: float, where: str) -> Recording:
    raise UnfitRecording(f"{where} is unfit, and so is {path}")


def pid(path: Path, most: float, where: str) -> Recording:
    return Recording(np.array([[os.getpid()]]))
