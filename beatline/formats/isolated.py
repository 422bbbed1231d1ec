"""Readers that are not ours, in a process of their own that has little time and memory.

What others wrote for undamaged files may loop for ever, take all memory or crash at a file that was made
to harm. Here that costs the file and a process. A process stays for the next file, since starting one
takes longer than reading; it is killed and replaced when it breaks a limit, and ends with the one that it
serves, however that goes. What comes back from it is JSON and plain numbers, never a pickle. Files are
handed over in memory: none is written to a disk.
"""

from __future__ import annotations

import atexit
import json
import os
import resource
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import IO, Any

import numpy as np

from beatline.common.errors import UserError, wording
from beatline.formats.recording import (
    BadRecording,
    LargeRecording,
    Notice,
    Recording,
    UnfitRecording,
    check_size,
    decoding,
)

SECONDS = ("BEATLINE_READER_SECONDS", 10.0)  # of the environment: for one file; and the default
MEGABYTES = ("BEATLINE_READER_MEGABYTES", 1000.0)  # that reading may take, of a million bytes
_TO_START = 120.0  # seconds for imports, on a busy machine
_FRAME = struct.Struct("<QQ")  # bytes of JSON, bytes of numbers
_MOST_JSON = 1 << 20
_PART = 1 << 20  # bytes copied at a time
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH")
_ALONE = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_ERRORS = {error.__name__: error for error in (BadRecording, UnfitRecording, LargeRecording)}


def read(
    reader: str,
    files: Mapping[str, bytes | memoryview],
    where: str,
    most: float,
    format_name: str,
    **arguments: Any,
) -> Recording:
    """The recording that a function makes of `files`, which it finds in a folder.

    `reader`: the function as `module:name`; it is called with the path of the first of the files, `most`,
    `where` and the `arguments`, which JSON can hold. `files`: contents by names without folders.
    `where`: the file's name for messages. `format_name`: what it should be, such as "EDF file".
    Raises BadRecording as the function does, for whatever else it raises, and if it takes too long or its
    process ends; LargeRecording if it takes too much memory or gives more than `most` values; UserError
    if no process can be started.
    """
    seconds, megabytes = _limit(*SECONDS), _limit(*MEGABYTES)
    if (size := sum(map(len, files.values()))) > megabytes * 1e6:
        raise LargeRecording(
            f"{where} has {size / 1e6:.0f} MB, more than the {megabytes:g} MB that reading it may take: "
            f"use a shorter part of it, or set {MEGABYTES[0]}"
        )
    request = {
        "reader": reader,
        "files": [[name, len(content)] for name, content in files.items()],
        "where": where,
        "most": most if most < np.inf else None,
        "format_name": format_name,
        "seconds": seconds,
        "megabytes": megabytes,
        "arguments": arguments,
    }
    about, numbers = _answer(request, list(files.values()), seconds)
    if "error" in about:
        raise _ERRORS[about["error"]](about["message"])
    samples = np.frombuffer(numbers, np.dtype(about.pop("dtype"))).reshape(about.pop("shape"))
    check_size(samples.size, most, where)
    notices = [Notice(**notice) for notice in about.pop("warnings")]
    return Recording(samples, warnings=notices, **about)


def _limit(name: str, default: float) -> float:
    text = os.environ.get(name) or str(default)
    with suppress(ValueError):
        if 0 < (value := float(text)) < 1e6:
            return value
    raise UserError(f"{name} is {text!r}: give a number above 0, such as {default:g}")


# ---------------------------------------------------------------- the side of the one who asks


class _Process:
    """A process that reads, and the pipes to it."""

    def __init__(self) -> None:
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        root = str(Path(__file__).parents[2])
        self._folder = tempfile.mkdtemp(prefix="beatline-")
        command = [sys.executable, "-P", "-m", __name__, str(os.getpid()), self._folder]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**environment, **_ALONE, "PYTHONPATH": root},
                start_new_session=True,  # Ctrl-C is for the one who asks
            )
        except OSError:
            Path(self._folder).rmdir()
            raise
        assert self._process.stdin and self._process.stdout
        self._requests, self._answers = self._process.stdin, self._process.stdout
        os.set_blocking(self._requests.fileno(), False)  # it may stop reading

    def alive(self) -> bool:
        return self._process.poll() is None

    def end(self) -> None:
        self._process.kill()
        with suppress(BrokenPipeError):
            self._requests.close()
        self._answers.close()
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def ask(self, request: Mapping[str, Any], contents: Sequence[bytes | memoryview]) -> None:
        """Send a request, and wait until its reader is there. Raises EOFError if the process ends,
        TimeoutError if it does not begin."""
        deadline, about = time.monotonic() + _TO_START, json.dumps(request).encode()
        self._write(_FRAME.pack(len(about), sum(map(len, contents))) + about, deadline)
        for content in contents:
            self._write(content, deadline)
        self.answer(deadline, 0)

    def answer(self, deadline: float, most: float) -> tuple[dict[str, Any], bytearray]:
        """The answer, of at most so many bytes. Raises TimeoutError if it is not there in time, EOFError
        if the process ends or answers otherwise."""
        length, size = _FRAME.unpack(self._receive(_FRAME.size, deadline))
        if length > _MOST_JSON or size > most:
            raise EOFError
        about = json.loads(self._receive(length, deadline) or b"{}")
        return about, self._receive(size, deadline)

    def _write(self, content: bytes | memoryview, deadline: float) -> None:
        left, target = memoryview(content), self._requests.fileno()
        ready = select.poll()
        ready.register(target, select.POLLOUT)
        while left:
            seconds = deadline - time.monotonic()
            if seconds <= 0 or not ready.poll(seconds * 1000):
                raise TimeoutError
            try:
                left = left[os.write(target, left[:_PART]) :]
            except BrokenPipeError:
                raise EOFError from None
            except BlockingIOError:  # less room than is written at once
                continue

    def _receive(self, size: int, deadline: float) -> bytearray:
        received, source = bytearray(), self._answers.fileno()
        waiting = select.poll()  # a file's number may be too large for select.select
        waiting.register(source, select.POLLIN)
        while len(received) < size:
            left = deadline - time.monotonic()
            if left <= 0 or not waiting.poll(left * 1000):
                raise TimeoutError
            part = os.read(source, min(size - len(received), _PART))
            if not part:
                raise EOFError
            received += part
        return received


_idle: list[_Process] = []


def _forget() -> None:
    """In a fork: the processes belong to the one who was forked."""
    _idle.clear()


def _end_all() -> None:
    while _idle:
        _idle.pop().end()


os.register_at_fork(after_in_child=_forget)
atexit.register(_end_all)


def _answer(
    request: Mapping[str, Any], contents: Sequence[bytes | memoryview], seconds: float
) -> tuple[dict[str, Any], bytearray]:
    process, where = _asked(request, contents), request["where"]
    try:
        answer = process.answer(time.monotonic() + seconds, request["megabytes"] * 1e6)
    except TimeoutError:
        process.end()
        raise BadRecording(
            f"{where} is not read within {seconds:g} seconds: use an undamaged file or a shorter part of "
            f"it, or set {SECONDS[0]}"
        ) from None
    except EOFError:
        process.end()
        raise BadRecording(
            f"{where} ends the process that reads it: use an undamaged {request['format_name']} or a "
            f"shorter part of it"
        ) from None
    except BaseException:  # Ctrl-C, in between
        process.end()
        raise
    _idle.append(process)
    return answer


def _asked(request: Mapping[str, Any], contents: Sequence[bytes | memoryview]) -> _Process:
    """A process that has begun with a request: one that waits for it, or a new one."""
    while True:
        try:
            process, new = _idle.pop(), False
        except IndexError:
            process, new = _started(request["where"]), True
        try:
            if new or process.alive():
                process.ask(request, contents)
                return process
        except (EOFError, TimeoutError):  # killed while it waited, as happens for want of memory
            pass
        except BaseException:
            process.end()
            raise
        process.end()
        if new:
            raise _none_started(request["where"], "it ends at once")


def _started(where: str) -> _Process:
    try:
        return _Process()
    except OSError as error:
        raise _none_started(where, wording(error)) from None


def _none_started(where: str, reason: str) -> UserError:
    return UserError(f"no process can be started to read {where} in ({reason}): is memory free?")


def _send(pipe: IO[bytes], about: bytes = b"", *numbers: bytes | memoryview) -> None:
    pipe.write(_FRAME.pack(len(about), sum(map(len, numbers))) + about)
    for part in numbers:
        pipe.write(part)
    pipe.flush()


# ---------------------------------------------------------------- the side of the one who reads


def _serve(parent: int, folder: Path) -> None:
    """Read what is asked for on standard input until it ends. `folder`: an empty one."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1):  # libraries that print do not answer
        os.dup2(nothing, number)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # which would keep what was read
    with suppress(OSError):  # where memory is short, the system ends this process before others
        Path("/proc/self/oom_score_adj").write_text("1000")
    threading.Thread(target=_follow, args=(parent, folder), daemon=True).start()
    taken = 0
    while frame := requests.read(_FRAME.size):
        request = json.loads(requests.read(_FRAME.unpack(frame)[0]))
        module, function = request["reader"].split(":")
        if module not in sys.modules:
            _limit_to(resource.RLIMIT_AS, None)  # what a library takes is not the file's
            import_module(module)
            taken = _address_space()
        if taken:
            _limit_to(resource.RLIMIT_AS, taken + int(request["megabytes"] * 1e6))
        with _files(folder, request["files"], requests) as path:
            _send(answers)
            _limit_time(request["seconds"])
            about, numbers = _described(getattr(sys.modules[module], function), path, request)
        _send(answers, json.dumps(about).encode(), numbers)
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _files(folder: Path, names: list[tuple[str, int]], requests: IO[bytes]) -> Iterator[Path]:
    """Have the files of a request in the folder, as links to memory where the system has such files
    (Linux), and give the path of the first."""
    with ExitStack() as stack:
        for name, size in names:
            path = folder / name
            stack.callback(path.unlink)
            if hasattr(os, "memfd_create"):
                number = os.memfd_create("recording")
                path.symlink_to(f"/proc/self/fd/{number}")
                file = os.fdopen(number, "wb", 0)
            else:
                file = path.open("wb", 0)
            stack.enter_context(file)
            for start in range(0, size, _PART):
                file.write(requests.read(min(size - start, _PART)))
        yield folder / names[0][0]


def _follow(parent: int, folder: Path) -> None:
    """End this process when the one that it serves is gone, which may have been killed."""
    while os.getppid() == parent:
        time.sleep(0.5)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def _address_space() -> int:
    """The bytes that this process takes; 0 where the system does not say (not Linux), nor limits them."""
    with suppress(FileNotFoundError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        return pages * resource.getpagesize()
    return 0


def _limit_time(seconds: float) -> None:
    """For the case that nobody is left to end this process, and its threads cannot."""
    spent = resource.getrusage(resource.RUSAGE_SELF)
    _limit_to(resource.RLIMIT_CPU, int(spent.ru_utime + spent.ru_stime + seconds) + 2)


def _limit_to(kind: int, most: int | None) -> None:
    """Set a limit of this process, within that of the system; None for no other."""
    _, hard = resource.getrlimit(kind)
    if most is None or (hard != resource.RLIM_INFINITY and hard < most):
        most = hard
    resource.setrlimit(kind, (most, hard))


def _described(
    function: Any, path: Path, request: Mapping[str, Any]
) -> tuple[dict[str, Any], bytes]:
    """The answer to a request: a recording, or what was raised instead."""
    where = request["where"]
    try:
        with decoding(where, request["format_name"]):
            return _read(function, path, request)
    except UserError as error:
        name = type(error).__name__
        message = str(error).replace(str(path), where)
        if path.suffix:  # other names may be words
            message = message.replace(path.name, where)
        kind = name if name in _ERRORS else BadRecording.__name__
        return {"error": kind, "message": message}, b""


def _read(function: Any, path: Path, request: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
    where = request["where"]
    most = np.inf if request["most"] is None else request["most"]
    try:
        recording = function(path, most, where, **request["arguments"])
        check_size(recording.samples.size, most, where)
        numbers = recording.samples.tobytes()
    except MemoryError:
        raise LargeRecording(
            f"{where} takes more than {request['megabytes']:g} MB of memory to read: use a shorter part "
            f"of it, or set {MEGABYTES[0]}"
        ) from None
    about = {
        "shape": recording.samples.shape,
        "dtype": recording.samples.dtype.str,
        "channels": recording.channels,
        "sampling_rate": recording.sampling_rate,
        "units": recording.units,
        "warnings": [asdict(notice) for notice in recording.warnings],
    }
    return about, numbers


if __name__ == "__main__":
    _serve(int(sys.argv[1]), Path(sys.argv[2]))
