"""Several processes train one network: to the bytes of one, on one machine or two; whoever is gone ends
the others."""

from __future__ import annotations

import os
import pkgutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from beatline import models
from beatline.common.errors import UserError
from beatline.training import processes
from beatline.training.processes import Group, Place
from tests.paths import ROOT
from tests.training.test_loop import INTERRUPTED

ENOUGH_SECONDS = 30  # in which a process or a network that is gone ends the others
ONE = "lstm"


def started(
    folder: Path, names: str, epochs: int = 2, namespace: str = "", **environment: str
) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    inside = ["ip", "netns", "exec", namespace] if namespace else []
    return subprocess.Popen(
        [*inside, sys.executable, "-m", "tests.training.share", str(folder), str(epochs), names],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    errors = process.communicate(timeout=120)[1]
    # torch's own warning of an address without a name, as in a network namespace.
    lines = [line for line in errors.splitlines(True) if not line.startswith("[W")]
    return process.returncode, "".join(lines)


def results(folder: Path) -> dict[str, str]:
    return {path.stem: path.read_text() for path in sorted(folder.glob("*.json"))}


def wait_for(line: str, process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    printed = ""
    while line not in printed:
        more = process.stdout.readline()
        assert more, printed + ended(process)[1]
        printed += more


def place_of(
    rank: int, size: int = 2, address: str = "127.0.0.1", port: int = 29571
) -> dict[str, str]:
    """What torchrun tells a process."""
    values = {"RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": address, "MASTER_PORT": port}
    return {name: str(value) for name, value in values.items()}


def is_one_sentence(errors: str) -> bool:
    """Whether an error is told in one line, and no traceback."""
    lines = [line for line in errors.splitlines() if line]
    return len(lines) == 1 and lines[0].startswith("error: ")


@pytest.fixture(scope="module")
def by_one(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What one process makes of every network."""
    folder = tmp_path_factory.mktemp("one")
    process = started(folder, ",".join(INTERRUPTED), BEATLINE_PROCESSES="1")
    assert ended(process) == (0, "")
    return results(folder)


def test_every_network_is_compared() -> None:
    """A new one too: whatever this loop trains must not depend on the number of processes."""
    names = {module.name for module in pkgutil.iter_modules(models.__path__)}
    names = {name for name in names if not name.startswith("_")}
    trained = {name for name in names if not hasattr(models.module(name), "fit")}
    assert trained <= {model for model, *_ in INTERRUPTED.values()}


@pytest.mark.parametrize("size", [2, 3, 4])
def test_any_number_of_processes_gives_the_same_bytes(
    size: int, by_one: dict[str, str], tmp_path: Path
) -> None:
    """Weights, running statistics, memory banks and history of every network, with dropout, crops and
    augmentation, in 16 bits too. Three processes divide four shards unevenly."""
    process = started(tmp_path, ",".join(INTERRUPTED), BEATLINE_PROCESSES=str(size))
    assert ended(process) == (0, "")
    assert results(tmp_path) == by_one and by_one.keys() == INTERRUPTED.keys()


def loses_one(process: subprocess.Popen[str], lose: Callable[[psutil.Process], object]) -> str:
    """What a training by two processes says, within seconds, when it has lost the other one."""
    (child,) = psutil.Process(process.pid).children()
    lose(child)
    since = time.monotonic()
    code, errors = ended(process)
    assert time.monotonic() - since < ENOUGH_SECONDS
    assert code == 1 and is_one_sentence(errors) and "process 1 of 2" in errors
    return errors


def test_a_killed_process_ends_the_others(tmp_path: Path) -> None:
    """At once, in one sentence that says which and by what; the next run goes on, with another number of
    processes, to the bytes of a run that nobody killed."""
    process = started(tmp_path / "killed", ONE, 40, BEATLINE_PROCESSES="2")
    wait_for("epoch   3/", process)
    errors = loses_one(process, psutil.Process.kill)
    assert "SIGKILL" in errors and "run the stage again" in errors
    again = started(tmp_path / "killed", ONE, 40, BEATLINE_PROCESSES="4")
    wait_for("going on after", again)
    whole = started(tmp_path / "whole", ONE, 40, BEATLINE_PROCESSES="1")
    for each in (again, whole):
        assert ended(each) == (0, "")
    assert results(tmp_path / "killed") == results(tmp_path / "whole")


def test_process_0_ends_those_that_it_has_started(tmp_path: Path) -> None:
    """None stays behind to hold memory and ports."""
    process = started(tmp_path, ONE, 1000, BEATLINE_PROCESSES="3")
    wait_for("epoch   2/", process)
    children = psutil.Process(process.pid).children()
    assert len(children) == 2
    process.kill()
    process.communicate()
    assert psutil.wait_procs(children, ENOUGH_SECONDS)[1] == []


def test_a_process_that_no_longer_answers_ends_the_others(tmp_path: Path) -> None:
    """One that is stopped keeps its connections: only its silence tells."""
    process = started(tmp_path, ONE, 10_000, BEATLINE_PROCESSES="2")
    wait_for("epoch   2/", process)
    loses_one(process, psutil.Process.suspend)


def test_processes_that_do_not_train_the_same_do_not_begin(tmp_path: Path) -> None:
    """Another version of a package on one machine: both say which, and nothing is written."""
    pair = [
        started(tmp_path, ONE, 2, **place_of(rank), TORCH=version)
        for rank, version in enumerate(("2.13", "2.12"))
    ]
    for process in pair:
        code, errors = ended(process)
        assert code == 1 and is_one_sentence(errors)
        for part in ("process 1", "packages.torch", "2.13", "2.12"):
            assert part in errors
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rank", [0, 1])
def test_processes_that_cannot_meet_are_told_where(rank: int, tmp_path: Path) -> None:
    """Process 0, whose port another program has; the other, where nobody listens."""
    with socket.socket() as listening:
        listening.bind(("", 0))
        if rank == 0:
            listening.listen()
        port = listening.getsockname()[1]
        code, errors = ended(started(tmp_path, ONE, 2, **place_of(rank, port=port)))
    assert code == 1 and is_one_sentence(errors)
    assert f"MASTER_ADDR 127.0.0.1, MASTER_PORT {port}" in errors


def test_a_process_that_does_not_come_is_not_waited_for_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A node that is down: the others say which process is missing."""
    monkeypatch.setattr(processes, "JOIN_SECONDS", 0.2)
    for name, value in place_of(0, port=29572).items():
        monkeypatch.setenv(name, value)
    with (
        pytest.raises(UserError, match="process 1 of 2"),
        processes.joined(processes.place(2), {}, []),
    ):
        pass


# --------------------------------------------------------------------------------- two machines in one


@pytest.fixture
def namespaces() -> Iterator[tuple[str, str]]:
    """Two network namespaces and a cable between them: 10.77.0.1 and 10.77.0.2."""
    names = f"beatline-{os.getpid()}-a", f"beatline-{os.getpid()}-b"
    if (
        os.geteuid()
        or subprocess.run(["ip", "netns", "add", names[0]], capture_output=True).returncode
    ):
        pytest.skip("network namespaces need root, and ip")
    try:
        subprocess.run(["ip", "netns", "add", names[1]], check=True)
        pair = ["ip", "-n", names[0], "link", "add", "veth0", "type", "veth"]
        subprocess.run([*pair, "peer", "name", "veth0", "netns", names[1]], check=True)
        for number, name in enumerate(names, 1):
            inside = ["ip", "-n", name]
            address = ["address", "add", f"10.77.0.{number}/24", "dev", "veth0"]
            subprocess.run([*inside, *address], check=True)
            for device in ("lo", "veth0"):
                subprocess.run([*inside, "link", "set", device, "up"], check=True)
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)


def pair_in(
    namespaces: tuple[str, str], folder: Path, names: str, epochs: int
) -> list[subprocess.Popen[str]]:
    return [
        started(folder, names, epochs, namespace, **place_of(rank, address="10.77.0.1"))
        for rank, namespace in enumerate(namespaces)
    ]


def test_two_machines_give_the_bytes_of_one(
    namespaces: tuple[str, str], by_one: dict[str, str], tmp_path: Path
) -> None:
    """Neither knows its own name's address in the other's network."""
    for process in pair_in(namespaces, tmp_path, "cnn,lstm,cnn_lstm,autoencoder", 2):
        assert ended(process) == (0, "")
    for name, result in results(tmp_path).items():
        assert result == by_one[name]


@pytest.mark.parametrize("what", ["process", "network"])
def test_a_machine_that_is_lost_ends_the_other(
    what: str, namespaces: tuple[str, str], tmp_path: Path
) -> None:
    """A process that is killed, or a network that says nothing any more: within 30 seconds, in one
    sentence; started again, both go on to the bytes of a run that nothing interrupted."""
    pair = pair_in(namespaces, tmp_path / "lost", ONE, 40)
    wait_for("epoch   3/", pair[0])
    if what == "process":
        pair[1].kill()
    else:
        down = ["ip", "-n", namespaces[1], "link", "set", "veth0", "down"]
        subprocess.run(down, check=True)
    since = time.monotonic()
    for process in pair[: 1 if what == "process" else 2]:
        code, errors = ended(process)
        assert time.monotonic() - since < ENOUGH_SECONDS
        assert code == 1 and is_one_sentence(errors) and "run the stage again" in errors
    pair[1].communicate()
    subprocess.run(["ip", "-n", namespaces[1], "link", "set", "veth0", "up"], check=True)
    pair = pair_in(namespaces, tmp_path / "lost", ONE, 40)
    whole = started(tmp_path / "whole", ONE, 40, BEATLINE_PROCESSES="1")
    wait_for("going on after", pair[0])
    for process in (*pair, whole):
        assert ended(process) == (0, "")
    assert results(tmp_path / "lost") == results(tmp_path / "whole")


# -------------------------------------------------------------------------------------- who is who


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever runs the tests is no launcher of theirs."""
    for name in os.environ:
        if name in (*place_of(0), "BEATLINE_PROCESSES") or name.startswith("SLURM_"):
            monkeypatch.delenv(name)


MEETING = {"MASTER_ADDR": "node1", "MASTER_PORT": "29500"}
SLURM = {"SLURM_PROCID": "5", "SLURM_LOCALID": "1"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, Place()),
        ({"BEATLINE_PROCESSES": "3"}, Place(size=3)),
        ({"BEATLINE_PROCESSES": "9"}, Place(size=8)),
        ({**MEETING, "RANK": "2", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}, Place(2, 4, 1, True)),
        ({**MEETING, "JOB_COMPLETION_INDEX": "1", "WORLD_SIZE": "2"}, Place(1, 2, 0, True)),
        ({**MEETING, **SLURM, "SLURM_STEP_NUM_TASKS": "8"}, Place(5, 8, 1, True)),
        # An Indexed Job of one pod, and the script of sbatch itself, which is no step.
        ({**MEETING, "RANK": "0", "WORLD_SIZE": "1", "BEATLINE_PROCESSES": "2"}, Place(size=2)),
        ({**MEETING, **SLURM, "SLURM_NTASKS": "8"}, Place()),
    ],
)
def test_the_environment_says_which_process_this_is(
    environment: dict[str, str], expected: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torchrun's, srun's, or that of an Indexed Job; otherwise the stage starts its own, no more than
    there are shards."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert processes.place(8) == expected


@pytest.mark.parametrize(
    ("environment", "parts"),
    [
        ({"BEATLINE_PROCESSES": "0"}, ("BEATLINE_PROCESSES", "'0'")),
        ({"BEATLINE_PROCESSES": "two"}, ("BEATLINE_PROCESSES", "'two'")),
        ({**MEETING, "RANK": "0", "WORLD_SIZE": "9"}, ("9 processes", "training.shards", "8")),
        ({"RANK": "0", "WORLD_SIZE": "2"}, ("MASTER_ADDR", "MASTER_PORT")),
        ({**MEETING, "WORLD_SIZE": "2"}, ("RANK", "torchrun")),
        ({**MEETING, "RANK": "2", "WORLD_SIZE": "2"}, ("RANK", "torchrun")),
        ({**MEETING, "RANK": "0", "WORLD_SIZE": "many"}, ("WORLD_SIZE", "many")),
        ({**SLURM, "SLURM_STEP_NUM_TASKS": "8"}, ("MASTER_ADDR", "train.sbatch")),
    ],
)
def test_what_cannot_be_is_told(
    environment: dict[str, str], parts: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """More processes than shards, numbers that are none, and launchers that say half."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as error:
        processes.place(8)
    assert all(part in str(error.value) for part in parts)


def test_processes_without_shards_for_them_are_told_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who asks for two and gets one is warned."""
    monkeypatch.setenv("BEATLINE_PROCESSES", "2")
    assert processes.place(1) == Place()
    assert "training.shards" in capsys.readouterr().out


@pytest.mark.parametrize("shards", range(1, 9))
@pytest.mark.parametrize("size", range(1, 9))
def test_every_shard_is_computed_once(shards: int, size: int) -> None:
    """By one process, in the order in which the rows of all are gathered."""
    groups = [Group(rank, size) for rank in range(size)]
    rows = {
        group.rank * group.rows(shards) + row: number
        for group in groups
        for row, number in enumerate(group.own(shards))
    }
    assert rows == {number: number for number in range(shards)}
