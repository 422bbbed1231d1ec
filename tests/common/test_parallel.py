"""Several processes: the results, words and errors of one."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beatline.common import parallel
from beatline.common.errors import UserError, warn
from tests.paths import ROOT

ITEMS = range(1000)
LEISURE = 0.02  # seconds


def in_a_worker() -> bool:
    """Whether this is no longer the process of the test, which works at leisure until others do."""
    if multiprocessing.parent_process():
        return True
    time.sleep(LEISURE)
    return False


def squared(item: int) -> tuple[int, int]:
    in_a_worker()
    return item * item, os.getpid()


def chatty(item: int) -> int:
    in_a_worker()
    if item % 70 == 3:
        warn(f"item {item} is odd")
    return item


def refuses_900(item: int) -> int:
    if item == 900:
        raise UserError("record 900 is damaged: get it again")
    return chatty(item)


def has_a_bug(item: int) -> float:
    return 1 / (900 - item) if in_a_worker() else 0.0


def killed(item: int) -> int:
    if in_a_worker() and item > 500:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def environment(_: int) -> tuple[str | None, int]:
    in_a_worker()
    return os.environ.get("OMP_NUM_THREADS"), parallel.number_of_workers()


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool for any work, of two processes whatever the machine has."""
    monkeypatch.setattr(parallel, "STARTUP", 0.0)
    monkeypatch.setenv(parallel.WORKERS, "2")
    monkeypatch.delenv(parallel.SCHEDULER, raising=False)


@pytest.mark.usefixtures("eager")
def test_a_long_folder_for_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As clusters name it by job: the path of a socket in it would be too long."""
    folder = tmp_path / ("x" * 90)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with parallel._pool(1, __name__) as submit:
        assert submit(squared, 3).result()[0] == 9


@pytest.mark.usefixtures("eager")
def test_results_come_in_order_and_from_others() -> None:
    """Whoever works, what is written of the results is the same."""
    results = list(parallel.ordered(squared, ITEMS))
    assert [value for value, _ in results] == [item * item for item in ITEMS]
    assert len({process for _, process in results}) == 3, "this process at first, then two others"


@pytest.mark.usefixtures("eager")
def test_words_and_errors_are_those_of_one_process(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user reads the same warnings in the same places, and the same error after them."""
    heard = []
    for workers in (2, 1):
        with pytest.raises(UserError) as error:
            list(parallel.ordered(refuses_900, ITEMS, workers=workers))
        heard.append((str(error.value), capfd.readouterr().out))
        monkeypatch.setattr(sys.modules[__name__], "LEISURE", 0.0)
    assert heard[0] == heard[1]
    assert heard[0][1].count("warning") == 13


@pytest.mark.usefixtures("eager")
def test_a_bug_keeps_its_traceback() -> None:
    """What is no user's mistake is shown with the line that it is in."""
    with pytest.raises(ZeroDivisionError) as error:
        list(parallel.ordered(has_a_bug, ITEMS))
    assert "has_a_bug" in str(error.value.__cause__)


@pytest.mark.usefixtures("eager")
def test_a_killed_worker_is_a_sentence() -> None:
    """The kernel ends who takes too much memory: that is no traceback of ours, and has a cure."""
    with pytest.raises(UserError, match=parallel.WORKERS):
        list(parallel.ordered(killed, ITEMS))


@pytest.mark.usefixtures("eager")
def test_workers_have_one_thread_and_start_no_pools() -> None:
    """n processes of n threads would wait for each other; the environment here stays as it is."""
    before = dict(os.environ)
    assert list(parallel.ordered(environment, ITEMS))[-1] == ("1", 1)
    assert dict(os.environ) == before


@pytest.mark.usefixtures("eager")
def test_few_results_are_in_memory() -> None:
    """Who is slow to write holds the workers up, instead of filling the memory."""
    taken = []

    def items() -> Iterator[int]:
        for item in range(1000):
            taken.append(item)
            yield item

    for done, _ in enumerate(parallel.ordered(squared, items()), 1):
        assert len(taken) <= done + 2 * parallel.AHEAD


@pytest.mark.usefixtures("eager")
def test_who_stops_early_leaves_no_process() -> None:
    """A full disk in the middle of the writing is not the end of the stage alone."""
    results = parallel.ordered(squared, range(1000))
    while not psutil.Process().children(recursive=True):
        next(results)
    results.close()
    left = [
        each for each in psutil.Process().children() if "spawn_main" in " ".join(each.cmdline())
    ]
    assert not left


@given(st.lists(st.integers(), max_size=20), st.integers(1, 3))
def test_short_work_starts_no_process(items: list[int], workers: int) -> None:
    """The data sets of the tests, and those of a first try, do not pay for a pool."""
    assert list(parallel.ordered(abs, items, workers=workers)) == [abs(item) for item in items]


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", "²"])
def test_a_number_of_workers_that_is_none(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable is named, and what it may be."""
    monkeypatch.setenv(parallel.WORKERS, text)
    with pytest.raises(UserError, match=f"{parallel.WORKERS}.*{text}.*at least 1"):
        list(parallel.ordered(abs, [1]))


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_its_parent(name: signal.Signals, tmp_path: Path) -> None:
    """Ctrl-C ends all at once and without a traceback; so does a kill that cannot be caught."""
    script = (
        "from beatline.common import parallel\n"
        "from beatline.common.errors import reporting_mistakes\n"
        "import signal\n"
        "from tests.common.test_parallel import squared\n"
        "if __name__ == '__main__':\n"
        "    signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # also if the tests ignore it
        "    parallel.STARTUP = 0\n"
        "    with reporting_mistakes():\n"
        "        for number, _ in enumerate(parallel.ordered(squared, range(10**9))):\n"
        "            if number == 2000: print('at work', flush=True)\n"
    )
    (tmp_path / "script.py").write_text(script)
    environment = {**os.environ, parallel.WORKERS: "2", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "script.py")],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    ) as process:
        assert process.stdout and process.stdout.readline() == "at work\n"
        workers = psutil.Process(process.pid).children(recursive=True)
        assert len(workers) >= 2
        # As a terminal sends Ctrl-C: to all of the group.
        (os.killpg if name == signal.SIGINT else os.kill)(process.pid, name)
        try:
            process.wait(timeout=20)
        finally:
            process.kill()
        _, alive = psutil.wait_procs(workers, timeout=20)
        assert not alive
        assert process.returncode == -name
        assert process.stderr and "Traceback" not in process.stderr.read()
