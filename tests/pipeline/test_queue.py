"""Whoever is killed while queued experiments run, and whenever: the next `beatline run-queue` brings each
of them to its end, under its name, with the outputs that it has when nobody is killed.

``KILLS=20 pytest tests/pipeline/test_queue.py -s`` tries more instants than one round has.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

from tests.pipeline.clones import Clone, make_heartbeats_clone, small_clone

ROUNDS = int(os.environ.get("KILLS", "1"))
TARGET = "split@ecg5000"
KINDS = ("worker and experiment", "worker alone", "experiment alone")
LONGEST = 5.0  # seconds to a kill: about as long as an experiment takes
# Kills the worker that it runs for, and goes on.
KILLER = """
import psutil, time
for process in psutil.Process().parents():
    if "queue-worker" in process.cmdline():
        process.kill()
time.sleep(100)
"""

# Prints MD5 sums of the splits by the seeds that are its arguments.
ALONE = """
import hashlib, json, pathlib, re, sys
from stages import split
params, sums = pathlib.Path("params.yaml"), {}
for seed in sys.argv[1:]:
    before, block, after = params.read_text().partition("ecg5000:")
    params.write_text(before + block + re.sub("seed: .*", f"seed: {seed}", after, count=1))
    split.main("ecg5000")
    sums[seed] = hashlib.md5(pathlib.Path("data/splits/ecg5000.csv").read_bytes()).hexdigest()
print(json.dumps(sums))
"""


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Clone]:
    """A clone in which what comes before the split has run."""
    made = make_heartbeats_clone(tmp_path / "clone")
    made.run("dvc", "repro", "--quiet", TARGET)
    made.commit("Split")
    yield made
    end_all(made)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Clone]:
    """A project of one stage, which writes a number into a file, or does what `do.py` says."""
    made = small_clone(tmp_path / "small")
    yield made
    end_all(made)


def processes(clone: Clone, word: str) -> list[psutil.Process]:
    """Those of the queue that live: workers by `queue-worker`, experiments by `exec-run`."""
    return [
        process
        for process in psutil.process_iter(["cmdline", "cwd"])
        if word in (process.info["cmdline"] or ())
        and Path(process.info["cwd"] or "/").is_relative_to(clone.root)
    ]


def end_all(clone: Clone) -> None:
    """Kill all that the queue has started, as a power cut does."""
    for word in ("queue-worker", "exec-run"):
        for process in processes(clone, word):
            with contextlib.suppress(psutil.Error):
                for each in (process, *process.children(recursive=True)):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        each.kill()


def kill(clone: Clone, kind: str, draw: random.Random) -> None:
    """Kill one process, or one with all that it has started, as soon as there is one of its kind."""
    word = "exec-run" if kind == "experiment alone" else "queue-worker"
    deadline = time.monotonic() + 30
    while not (living := processes(clone, word)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for victim in living[:1] if draw.random() < 0.5 else living[-1:]:
        with contextlib.suppress(psutil.NoSuchProcess):
            others = victim.children(recursive=True) if kind == "worker and experiment" else []
            for process in (victim, *others):
                process.kill()


def experiments(clone: Clone) -> dict[str, str]:
    """Commits of the experiments of HEAD by their names."""
    head = clone.run("git", "rev-parse", "HEAD").strip()
    listed = clone.run(
        "git", "for-each-ref", "--format=%(refname:lstrip=4) %(objectname)",
        f"refs/exps/{head[:2]}/{head[2:]}",
    )  # fmt: skip
    return dict(line.split() for line in listed.splitlines())


def split_of(clone: Clone, commit: str) -> tuple[str, str]:
    """Seed and MD5 sum of the split that an experiment has made."""
    yaml = YAML(typ="safe")
    params = yaml.load(clone.run("git", "show", f"{commit}:params.yaml"))
    lock = yaml.load(clone.run("git", "show", f"{commit}:dvc.lock"))
    [md5] = [
        out["md5"]
        for out in lock["stages"][TARGET]["outs"]
        if out["path"] == "data/splits/ecg5000.csv"
    ]
    return str(params["datasets"]["ecg5000"]["split"]["seed"]), md5


def splits_without_queue(clone: Clone, seeds: list[int]) -> dict[str, str]:
    """MD5 sums, by seed, of the splits that the stage's script makes alone."""
    return json.loads(clone.run("python", "-c", ALONE, *map(str, seeds)).splitlines()[-1])


def test_every_kill_is_survived(clone: Clone) -> None:
    """Workers, experiments and the command itself are killed at seeded instants; then each ends."""
    draw = random.Random(1)
    seeds: dict[str, int] = {}
    made: dict[str, str] = {}
    before = (clone.root / "dvc.lock").read_bytes()
    for number in range(ROUNDS):
        queued = {f"round-{number}-{each}": 100 + 4 * number + each for each in range(1, 5)}
        seeds |= queued
        change = f"datasets.ecg5000.split.seed={','.join(map(str, queued.values()))}"
        name = f"round-{number}"  # and -1 to -4
        clone.run("dvc", "exp", "run", "--quiet", "--queue", "--name", name, "-S", change, TARGET)
        kinds = draw.sample(KINDS, len(KINDS))
        with clone.start("beatline", "run-queue", "--workers", "2") as first:
            for kind in kinds[:2]:
                time.sleep(draw.uniform(0, LONGEST))
                kill(clone, kind, draw)
            time.sleep(draw.uniform(0, LONGEST))
            first.kill()
            end_all(clone)
            printed = [first.stdout.read() if first.stdout else ""]
        with clone.start("beatline", "run-queue", "--workers", "2") as second:
            time.sleep(draw.uniform(0, LONGEST))
            kill(clone, kinds[2], draw)
            printed += second.communicate(timeout=240)
        end_all(clone)  # or idle workers take what the next round queues
        made = experiments(clone)
        assert seeds.keys() == made.keys(), (number, kinds, printed)
        print(f"round {number}: {kinds}", *printed, sep="\n")
    assert not list((clone.root / ".dvc/tmp/exps").glob("tmp*"))
    assert clone.run("git", "status", "--porcelain") == ""
    assert (clone.root / "dvc.lock").read_bytes() == before
    expected = splits_without_queue(clone, list(seeds.values()))
    assert len(set(expected.values())) == len(seeds)
    for name, seed in seeds.items():
        assert split_of(clone, made[name]) == (str(seed), expected[str(seed)]), name


def queue(project: Clone, *names: str) -> None:
    """Queue experiments whose seeds are 1, 2, …"""
    for seed, name in enumerate(names, 1):
        project.run("dvc", "exp", "run", "--quiet", "--queue", "--name", name, "-S", f"seed={seed}")


def test_what_kills_its_worker_each_time_has_failed(small: Clone) -> None:
    """It is tried a bounded number of times, leaves no process, and holds up no other experiment."""
    working = (small.root / "do.py").read_text()
    (small.root / "do.py").write_text(KILLER)
    small.commit("Killer")
    queue(small, "killer")
    printed = small.run("beatline", "run-queue", ok=False)
    assert printed.count("queued again") == 2
    [failed] = [line for line in printed.splitlines() if line.startswith("killer failed")]
    assert "killed 3 times" in failed
    assert (small.root / failed.rpartition("its log is ")[2]).is_file()
    assert "Failed" in small.run("dvc", "queue", "status")
    assert not processes(small, "exec-run")
    assert not processes(small, "do.py")
    assert not list((small.root / ".dvc/tmp/exps").glob("tmp*"))

    (small.root / "do.py").write_text(working)
    small.commit("Working")
    queue(small, "next")
    assert "killer" not in small.run("beatline", "run-queue")
    assert experiments(small).keys() == {"next"}


def test_what_kills_leave_is_mended(small: Clone) -> None:
    """What a worker has taken and dropped from the stash keeps its name; locks, a list of readers and
    writers that was cut, refs and a folder that nobody uses are in nobody's way."""
    queue(small, "taken", "waiting")
    repo = Repo(str(small.root))
    celery = repo.experiments.celery_queue
    stash = celery.stash
    broker = Path(celery.wdir, "broker")
    message = min((broker / "in").glob("*.celery.msg"))
    message.rename(broker / "processed" / message.name)
    stash.drop(len(stash) - 1)  # the first that was queued
    [left] = stash.stash_revs.values()
    assert left.name == "waiting"
    git = small.root / ".git"
    (git / "logs" / celery.ref).write_text("half a li")
    (git / f"{celery.ref}.lock").touch()
    repo.scm.set_ref("refs/exps/temp/head-1", repo.scm.get_rev())
    folder = small.root / ".dvc/tmp/exps"
    (folder / "rwlock").write_text('{"write": {')
    (folder / "tmp1").mkdir()
    packed = git / "packed-refs.lock"  # every git takes that one: whether it may go, a person knows
    packed.touch()
    assert re.search(r"packed-refs\.lock .*remove it", small.run("beatline", "run-queue", ok=False))
    packed.unlink()

    printed = small.run("beatline", "run-queue", "--workers", "2")

    assert re.search(r"^taken: .*queued again", printed, re.MULTILINE)
    made = experiments(small)
    for seed, name in enumerate(("taken", "waiting"), 1):
        assert small.run("git", "show", f"{made[name]}:params.yaml") == f"seed: {seed}\n"
    assert not list(folder.glob("tmp*"))
    assert not small.run("git", "for-each-ref", "refs/exps/temp")

    # Of workers that were killed when they had collected the experiment, or before they read a message.
    for result in Path(celery.wdir, "result").iterdir():
        result.unlink()
    end_all(small)
    small.run("dvc", "queue", "stop")
    orders = [json.loads(path.read_text())["body"] for path in broker.glob("in/*dvc-exp-*.msg")]
    assert any(b"shutdown" in base64.b64decode(order) for order in orders)
    queue(small, "next")
    assert "queued again" not in small.run("beatline", "run-queue")
    assert experiments(small).items() >= made.items()
    assert "next" in experiments(small)
