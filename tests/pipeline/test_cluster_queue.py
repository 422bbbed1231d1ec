"""A sweep by the workers of a cluster: the experiments of one that is run here."""

from __future__ import annotations

import re
import time
from pathlib import Path

import psutil
import pytest

from tests.clusters import Start, address, start
from tests.pipeline.clones import Clone, small_clone

pytest.importorskip("distributed", reason="distributed is not installed: make cluster does it")
__all__ = ["address", "start"]  # fixtures


@pytest.fixture
def small(tmp_path: Path) -> Clone:
    return small_clone(tmp_path / "small")


def queue(clone: Clone, seeds: str) -> None:
    clone.run("dvc", "exp", "run", "--queue", "--name", "sweep", "-S", f"seed={seeds}", "do")


def results(clone: Clone) -> dict[str, tuple[str, str]]:
    """The dvc.lock and params.yaml of each experiment, by its name."""
    listed = clone.run("git", "for-each-ref", "--format=%(refname)", "refs/exps").split()
    refs = [ref for ref in listed if re.fullmatch(r"refs/exps/../[^/]{38}/[^/]+", ref)]
    return {
        ref.rpartition("/")[2]: (
            clone.run("git", "show", f"{ref}:dvc.lock"),
            clone.run("git", "show", f"{ref}:params.yaml"),
        )
        for ref in refs
    }


def processes(folder: Path, word: str) -> list[psutil.Process]:
    """Those that have a word in their command lines and run in a folder, or below it."""
    return [
        each
        for each in psutil.process_iter(["cmdline", "cwd"])
        if word in (each.info["cmdline"] or ())
        and Path(each.info["cwd"] or "/").is_relative_to(folder)
    ]


def test_a_sweep_on_a_cluster_is_the_sweep_here(
    small: Clone, tmp_path: Path, start: Start, address: str
) -> None:
    """Four experiments by two workers are equal to those that run one by one; their outputs are in the
    cache, and what is uncommitted goes with them."""
    (small.root / "params.yaml").write_text("seed: 0\nuncommitted: 1\n")
    queue(small, "1,2,3,4")
    small.run("beatline", "run-queue")
    alone = results(small)
    while processes(small.root, "queue-worker"):
        time.sleep(0.5)  # idle, it would take what is queued next
    small.run("dvc", "exp", "remove", "--all-commits")
    small.run("dvc", "cache", "dir", "--local", str(tmp_path / "another"))
    assert results(small) == {} and len(alone) == 4
    for _ in range(2):
        start("worker", address, "--nthreads", "1")
    queue(small, "1,2,3,4")
    printed = small.run("beatline", "run-queue", "--cluster", address)
    assert results(small) == alone, printed
    assert "uncommitted: 1" in alone["sweep-3"][1]
    assert "Queued" not in small.run("dvc", "queue", "status")
    small.run("dvc", "exp", "apply", "sweep-3")
    assert (small.root / "out.txt").read_text() == (small.root / "params.yaml").read_text()
    assert "seed: 3" in (small.root / "out.txt").read_text()


def test_a_failed_experiment_stays_queued(small: Clone, start: Start, address: str) -> None:
    """It says why, and where its log is; the others succeed."""
    (small.root / "do.py").write_text(
        "import pathlib, sys\ntext = pathlib.Path('params.yaml').read_text()\n"
        "pathlib.Path('out.txt').write_text(text)\n"
        "sys.exit('error: seed 2 is unlucky' if 'seed: 2' in text else 0)\n"
    )
    small.commit("Unlucky")
    start("worker", address, "--nthreads", "1")
    queue(small, "1,2")
    printed = small.run("beatline", "run-queue", "--cluster", address, ok=False)
    log = re.search(r"sweep-2 failed \(error: seed 2 is unlucky\): its log is (\S+);", printed)
    assert log and "unlucky" in (small.root / log[1]).read_text()
    assert set(results(small)) == {"sweep-1"}
    assert "sweep-2" in small.run("dvc", "queue", "status")


def test_no_scheduler_leaves_all_queued(small: Clone) -> None:
    """A wrong address costs seconds and nothing that was queued."""
    queue(small, "1,2")
    printed = small.run("beatline", "run-queue", "--cluster", "nowhere", ok=False)
    assert "error: the scheduler nowhere cannot be reached" in printed
    assert "Traceback" not in printed
    assert len(re.findall(r"sweep-\d +.*Queued", small.run("dvc", "queue", "status"))) == 2


def test_who_is_lost_in_the_middle(
    small: Clone, start: Start, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a lost worker had is run by another; what the caller no longer waits for is ended."""
    flag = tmp_path / "go-on"
    (small.root / "do.py").write_text(
        "import pathlib, time\n"
        f"while not pathlib.Path({str(flag)!r}).exists(): time.sleep(0.1)\n"
        "pathlib.Path('out.txt').write_text(pathlib.Path('params.yaml').read_text())\n"
    )
    small.commit("Wait")
    clones = tmp_path / "clones"
    clones.mkdir()
    monkeypatch.setenv("TMPDIR", str(clones))  # of the workers
    workers = [start("worker", address, "--nthreads", "1") for _ in range(2)]
    queue(small, "1,2")

    def at_work(number: int) -> list[psutil.Process]:
        found: list[psutil.Process] = []
        for _ in range(600):
            found = processes(clones, "do.py")
            if len(found) == number:
                return found
            time.sleep(0.1)
        raise AssertionError(f"{len(found)} experiments are at work, not {number}")

    caller = small.start("beatline", "run-queue", "--cluster", address)
    at_work(2)
    caller.kill()
    caller.communicate()
    at_work(0)
    caller = small.start("beatline", "run-queue", "--cluster", address)
    at_work(2)
    for each in (*workers[0].children(recursive=True), workers[0]):
        each.kill()
    flag.touch()
    printed, _ = caller.communicate(timeout=120)
    assert caller.returncode == 0, printed
    assert set(results(small)) == {"sweep-1", "sweep-2"}
