"""Whatever ends a run, and whenever: the project's own command goes on, to the same outputs.

``INTERRUPTIONS=100 pytest tests/pipeline/test_interruptions.py -s`` tries more instants than one.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.pipeline.clones import Clone, make_heartbeats_clone

ROUNDS = int(os.environ.get("INTERRUPTIONS", "1"))
TARGET = "evaluate_cnn@ecg5000"
WHOLE = 20  # seconds, about, that a run takes
KINDS = ("group SIGKILL", "group SIGTERM", "group SIGINT", "DVC SIGKILL", "DVC SIGTERM")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone in which six stages have run."""
    made = make_heartbeats_clone(tmp_path_factory.mktemp("clone"))
    made.run("beatline", "repro", TARGET)
    return made


def interrupted(clone: Clone, seconds: float, kind: str) -> int:
    """Run all stages anew for so many seconds, then send the signal; the command's exit status."""
    process = clone.start("beatline", "repro", "--force", TARGET)
    time.sleep(seconds)
    whom, name = kind.split()
    number = signal.Signals[name]
    if process.poll() is None:
        if whom == "group":
            os.killpg(process.pid, number)
        else:
            for child in psutil.Process(process.pid).children():
                child.send_signal(number)
    try:
        return process.wait(60)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise


def test_every_interruption_is_survived(clone: Clone) -> None:
    """Seeded instants over all stages, each kind in turn: nothing is lost, nobody has to mend."""
    expected = clone.outputs()
    draw = random.Random(1)
    for number in range(ROUNDS):
        kind = KINDS[number % len(KINDS)]
        seconds = draw.uniform(0, WHOLE)
        status = interrupted(clone, seconds, kind)
        printed = clone.run("beatline", "repro", TARGET)
        assert clone.outputs() == expected, (number, kind, seconds)
        mended = [line for line in printed.splitlines() if "was damaged" in line]
        print(f"{number + 1}: {kind} after {seconds:.2f} s, exit status {status}", *mended)


def test_each_file_that_an_interruption_can_empty(clone: Clone) -> None:
    """By what is left when a signal comes between emptying and writing."""
    expected = clone.outputs()
    for name in ("dvc.lock", ".dvc/tmp/rwlock"):
        Path(clone.root, name).write_text("")
        assert "dvc.lock" in clone.run("dvc", "repro", TARGET, ok=False) or name != "dvc.lock"
        assert "was damaged" in clone.run("beatline", "repro", TARGET)
        assert clone.outputs() == expected
