"""A cluster: the results, words and errors of one process, or a sentence and nothing."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import psutil
import pytest

from beatline.common import cluster, parallel
from beatline.common.errors import UserError, warn
from tests.clusters import Start, address, start
from tests.paths import ROOT

pytest.importorskip("distributed", reason="distributed is not installed: make cluster does it")
ITEMS = range(30)
__all__ = ["address", "start"]  # fixtures


def squared(item: int) -> tuple[int, int]:
    return item * item, os.getpid()


def chatty(item: int) -> int:
    if item % 10 == 3:
        warn(f"item {item} is odd")
    if item == 25:
        raise UserError("record 25 is damaged: get it again")
    return item


def deadly(path: str, item: int) -> int:
    """Kill the worker of item 7 the first time, or always without a path."""
    if item == 7 and not (path and Path(path).exists()):
        if path:
            Path(path).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return item


class Once:
    """`deadly` with its path, as something that can be pickled."""

    def __init__(self, path: str = "") -> None:
        self.path = path

    def __call__(self, item: int) -> int:
        return deadly(self.path, item)


def test_words_results_and_errors_are_those_of_one_process(
    start: Start, address: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whoever works, what is written, read and refused is the same. A worker that dies is replaced."""
    for threads in ("1", "2"):
        start("worker", address, "--nthreads", threads)
    found = list(parallel.ordered(squared, ITEMS))
    assert [value for value, _ in found] == [item * item for item in ITEMS]
    assert os.getpid() not in {process for _, process in found}
    heard = []
    for workers in (1, None):
        with pytest.raises(UserError) as error:
            list(parallel.ordered(chatty, ITEMS, workers=workers))
        heard.append((str(error.value), capfd.readouterr().out))
    assert heard[0] == heard[1] and heard[0][1].count("warning") == 3


def missing(item: int) -> int:
    raise FileNotFoundError(2, "No such file or directory", f"/data/{item}.wav")


def test_an_error_of_a_task_is_no_lost_cluster(start: Start, address: str) -> None:
    """A file that is not there, or a disk that is full there, is told as it would be here; a cluster is
    asked however few cores are here."""
    start("worker", address, "--nthreads", "1")
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        with pytest.raises(FileNotFoundError, match=r"/data/0\.wav"):
            list(parallel.ordered(missing, ITEMS))
    finally:
        os.sched_setaffinity(0, cores)


def test_a_worker_on_another_processor_is_named() -> None:
    """Its libraries choose other instructions, and round otherwise."""
    own = cluster.identity()
    assert not cluster.difference(own)
    other = {**own, "machine": {**own["machine"], "instructions": "fewer"}}
    assert "processor" in cluster.difference(other)


def test_a_lost_worker_is_replaced(start: Start, address: str, tmp_path: Path) -> None:
    """What a lost node had is done elsewhere; what kills each worker is a sentence."""
    for _ in range(2):
        start("worker", address, "--nthreads", "1")
    assert list(parallel.ordered(Once(str(tmp_path / "died")), ITEMS)) == list(ITEMS)
    assert (tmp_path / "died").exists()
    with pytest.raises(UserError, match="memory"):
        list(parallel.ordered(Once(), ITEMS))


def test_a_lost_scheduler_is_a_sentence(start: Start, address: str) -> None:
    """Nobody waits for ever for what is gone."""
    start("worker", address, "--nthreads", "1")
    results = parallel.ordered(squared, range(100000))
    next(results)
    (scheduler,) = [
        each for each in psutil.Process().children() if "scheduler" in " ".join(each.cmdline())
    ]
    scheduler.kill()
    with pytest.raises(UserError, match="scheduler is gone"):
        list(results)


def test_a_scheduler_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    """The address is named, and a cure, after seconds."""
    monkeypatch.setattr(cluster, "TIMEOUT", 1.0)
    monkeypatch.setenv(parallel.WORKERS, "2")
    for wrong in ("tcp://127.0.0.1:1", "nowhere", "ftp://127.0.0.1:1"):
        monkeypatch.setenv(parallel.SCHEDULER, wrong)
        with pytest.raises(UserError, match=f"{wrong}.*dask scheduler"):
            next(parallel.ordered(squared, ITEMS))


def test_a_scheduler_without_workers(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for ever for what was never started."""
    monkeypatch.setattr(cluster, "PATIENCE", 1.0)
    with pytest.raises(UserError, match=f"{address} has no worker.*dask worker"):
        next(parallel.ordered(squared, ITEMS))


def test_a_worker_with_other_code_gets_no_task(
    start: Start, address: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Half a table by one revision and half by another is what nobody would notice."""
    shutil.copytree(ROOT / "beatline", tmp_path / "beatline")
    with (tmp_path / "beatline/features/ecg/beats.py").open("a") as file:
        file.write("# changed\n")
    start("worker", address, "--nthreads", "1", code=tmp_path)
    with pytest.raises(UserError, match=r"other code \(features/ecg/beats.py\).*same revision"):
        next(parallel.ordered(chatty, [3]))
    assert not capfd.readouterr().out


def test_identities_tell_code_and_packages_apart() -> None:
    """The first of what differs is named, with both versions of a package."""
    own = cluster.identity()
    assert cluster.difference(own) == ""
    assert len(own["code"]) > 200 and "numpy" in own["packages"]
    other = {**own, "packages": {**own["packages"], "numpy": "1.0"}}
    assert cluster.difference(other) == f"numpy {own['packages']['numpy']}, not 1.0"
    fewer = {**own, "code": {"cli.py": own["code"]["cli.py"]}}
    assert "other code" in cluster.difference(fewer)


def test_a_worker_that_joins_late_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were there at the beginning were all looked at; this one had no part in it."""
    monkeypatch.setenv(parallel.WORKERS, "2")
    assert cluster._work(abs, cluster._digest(), -1) == ("", 1)
    _, error = cluster._work(abs, "another", -1)
    assert isinstance(error, UserError) and "same revision" in str(error)
