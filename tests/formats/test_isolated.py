"""Readers in a process of their own: what they cannot do, and that they leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beatline.common import parallel
from beatline.common.errors import UserError
from beatline.formats import isolated
from beatline.formats.recording import BadRecording, LargeRecording, Recording, UnfitRecording
from tests.paths import ROOT

FILES: dict[str, bytes | memoryview] = {"b": b"second", "a": memoryview(b"first")}


def read(
    name: str, files: Mapping[str, bytes | memoryview] = FILES, most: float = 1e6, **arguments: int
) -> Recording:
    reader = f"tests.formats.readers:{name}"
    return isolated.read(reader, files, "x.file", most, "X file", **arguments)


def pid() -> int:
    """Of the process that would read next."""
    return int(read("pid").samples[0, 0])


def exists(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def eventually(condition: Callable[[], bool], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def test_all_that_a_recording_holds_comes_back() -> None:
    """Samples of any type, names, rate, units and notices; prints of a library disturb nothing."""
    recording = read("bytes_of", times=3)
    expected = 3 * np.frombuffer(b"firstsecond", np.uint8).astype(np.int32)
    np.testing.assert_array_equal(recording.samples[:, 0], expected)
    assert recording.samples.dtype == np.int32 and recording.samples.flags.writeable
    assert (recording.channels, recording.sampling_rate, recording.units) == (["a"], 7.5, ["mV"])
    assert recording.warnings[0].message == "x.file 1000000.0"


def test_a_process_reads_more_than_one_file() -> None:
    """Starting one takes longer than reading."""
    assert pid() == pid() != os.getpid()
    with pytest.raises(BadRecording):
        read("deep")
    with pytest.raises(UnfitRecording, match=r"^x\.file is unfit, and so is x\.file$"):
        read("unfit")
    assert read("bytes_of").samples.size == 11


@pytest.mark.parametrize("reader", ["endless", "endless_in_c"])
def test_time_is_limited(reader: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop costs its time and its process; the next file is read by another."""
    before = pid()
    monkeypatch.setenv(isolated.SECONDS[0], "0.3")
    begin = time.monotonic()
    with pytest.raises(BadRecording, match=rf"x\.file .*0\.3 .*{isolated.SECONDS[0]}"):
        read(reader)
    assert time.monotonic() - begin < 5
    monkeypatch.delenv(isolated.SECONDS[0])
    assert pid() != before and not exists(before)


def test_a_process_that_has_stopped_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that reads no more, and so not what is sent either, however long that is."""
    stopped = pid()
    monkeypatch.setattr(isolated, "_TO_START", 1.0)
    os.kill(stopped, signal.SIGSTOP)
    try:
        monkeypatch.setattr(isolated, "_started", partial(_slowly, isolated._started, monkeypatch))
        assert read("pid", {"a": bytes(1 << 20)}).samples[0, 0] != stopped
    finally:
        monkeypatch.undo()
    assert eventually(lambda: not exists(stopped))


def _slowly(
    start: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, where: str
) -> isolated._Process:
    """A new process has all the time that imports take."""
    monkeypatch.setattr(isolated, "_TO_START", 120.0)
    return start(where)


def test_memory_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """17 GB are refused where 1 GB is allowed, as are files that are larger than what is."""
    with pytest.raises(LargeRecording, match=rf"x\.file .*1000 MB.*{isolated.MEGABYTES[0]}"):
        read("hungry")
    assert read("bytes_of").samples.size == 11
    monkeypatch.setenv(isolated.MEGABYTES[0], "1")
    with pytest.raises(LargeRecording, match=r"2 MB"):
        read("bytes_of", {"a": bytes(2_000_000)})


def test_libraries_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """One process reads with several libraries, of which each takes more than any of the files may."""
    monkeypatch.setenv(isolated.MEGABYTES[0], "20")
    mine = pid()
    for module in ("vendors", "edf", "mat", "wfdb_library"):
        with pytest.raises(BadRecording):
            arguments = {"form": "muse"} if module == "vendors" else {}
            isolated.read(f"beatline.formats.{module}:read", FILES, "x", 1, "X file", **arguments)
        assert pid() == mine
    with pytest.raises(LargeRecording, match="20 MB"):
        read("bytes_of", {"a": bytes(6_000_000)}, np.inf)


def test_no_process_can_be_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As where a container allows no more: a sentence, which is no complaint about the file."""
    while isolated._idle:
        isolated._idle.pop().end()
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(UserError, match=r"x\.file") as error:
        read("bytes_of")
    assert not list(tmp_path.iterdir()) and not isinstance(error.value, BadRecording)


def test_more_values_than_are_taken() -> None:
    """What a reader gives is counted, whatever it was told."""
    with pytest.raises(LargeRecording, match="11 values"):
        read("bytes_of", most=10)


def test_crashes_are_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a process is killed while it waits, which nobody notices."""
    with pytest.raises(BadRecording, match=r"x\.file .*X file"):
        read("crashing")
    os.kill(pid(), signal.SIGKILL)
    assert read("bytes_of").samples.size == 11
    monkeypatch.setenv(isolated.SECONDS[0], "soon")
    with pytest.raises(UserError, match=rf"{isolated.SECONDS[0]} is 'soon'"):
        read("bytes_of")


def _numbered(number: int) -> int:
    samples = read("bytes_of", {"a": bytes([number]) * 50_000}).samples
    assert (samples == number).all()
    return len(samples)


def test_threads_do_not_mix_their_files() -> None:
    """As in the service, in which several recordings are read at a time."""
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(_numbered, range(64))) == [50_000] * 64


def test_workers_of_a_pool_and_forks_have_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the pipeline, workers read; neither they nor a fork take the answers of others."""
    assert _numbered(1) == 50_000
    monkeypatch.delenv(parallel.WORKERS, raising=False)
    monkeypatch.setattr(parallel, "STARTUP", -1e9)  # a pool, however little there is to do
    assert list(parallel.ordered(_numbered, list(range(9)), workers=2)) == [50_000] * 9
    mine = pid()
    if not (fork := os.fork()):
        ended = 1
        try:
            ended = int(pid() == mine or _numbered(7) != 50_000)
        finally:
            os._exit(ended)
    assert os.waitpid(fork, 0)[1] == 0
    assert _numbered(2) == 50_000 and pid() == mine


PARENT = """
import sys, threading, time
from tests.formats.test_isolated import pid, read
print(pid(), flush=True)
if sys.argv[1] != "idle":
    threading.Thread(target=read, args=(sys.argv[1],), daemon=True).start()
    time.sleep(0.3)
print("reading", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("state", ["idle", "endless", "endless_in_c"])
def test_nothing_is_left_behind(state: str, tmp_path: Path) -> None:
    """Whoever is killed while a file is read leaves no process and no file."""
    own = {"TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT), isolated.SECONDS[0]: "2"}
    command = [sys.executable, "-c", PARENT, state]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, **own}
    ) as parent:
        assert parent.stdout
        reader = int(parent.stdout.readline())
        assert parent.stdout.readline() == "reading\n" and exists(reader)
        assert list(tmp_path.iterdir())
        parent.kill()
    assert eventually(lambda: not exists(reader))
    # A process that the system ends while no thread of it runs leaves a folder of links to memory.
    assert state == "endless_in_c" or eventually(lambda: not list(tmp_path.iterdir()))
    assert all(path.is_symlink() for folder in tmp_path.iterdir() for path in folder.iterdir())


def test_nothing_is_left_behind_at_the_end(tmp_path: Path) -> None:
    """A program that ends takes its readers with it."""
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", "from tests.formats.test_isolated import pid; print(pid())"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert not done.stderr and not exists(int(done.stdout)) and not list(tmp_path.iterdir())
