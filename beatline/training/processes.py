"""Several processes, on one machine or several, that share the shards of one training.

The stage starts the processes itself, or joins those that torchrun, Slurm's srun or an Indexed Job of
Kubernetes has started. They meet in a store that process 0 keeps, compare what they are about to train,
and exchange gradients with gloo between CPUs and NCCL between GPUs. Each tells the store every few
seconds that it lives: a process or a network that is gone ends the others.
"""

from __future__ import annotations

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import IO, Any, TypeVar

import torch
from torch import nn

from beatline.common.errors import UserError, warn
from beatline.prediction import device_data
from beatline.training.checkpoint import InterruptedTrainingError

JOIN_SECONDS = 300  # for all processes to come: images are pulled, libraries imported
BEAT_SECONDS, SILENT_SECONDS = 2, 20
TORCHRUN = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
MAY_DIFFER = ("environment.machine.cores",)  # a process computes with one thread
LOOPBACK = "127.0.0.1"
AGAIN = "run the stage again, and it goes on after the last completed epoch"

Value = TypeVar("Value")


@dataclass(frozen=True)
class Place:
    """Which of `size` processes this is, and the how manieth on its machine. `joins`: whether something
    else has started it."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    joins: bool = False


def place(shards: int | None) -> Place:
    """Return this process's place in a training of so many shards; None of what process 0 alone trains.

    Raises UserError if what started the processes, or BEATLINE_PROCESSES, asks for what cannot be.
    """
    joined = _joined()
    asked = os.environ.get("BEATLINE_PROCESSES", "")
    if asked and not (asked.isdecimal() and int(asked)):
        raise UserError(
            f"the environment variable BEATLINE_PROCESSES is {asked!r}: set it to a number of processes"
        )
    if shards is None:
        return Place(joined.rank)
    if joined.size > shards:
        raise UserError(
            f"{joined.size} processes were started, and training.shards is {shards}: start at most "
            f"{shards}, or set training.shards to {joined.size} (other shards train another network)"
        )
    devices = torch.cuda.device_count()
    size = min(int(asked or max(devices, 1)), shards)
    if joined.size == 1 and int(asked or 1) > 1 and shards == 1:
        warn(f"BEATLINE_PROCESSES is {asked}, but training.shards is 1, so that one process trains")
    if joined.size == 1 and devices and size > devices:
        raise UserError(
            f"BEATLINE_PROCESSES asks for {asked} processes, each of which needs a GPU, and there are "
            f"{devices}: set it to {devices} at most"
        )
    return joined if joined.size > 1 else Place(size=size)


def prepare(place: Place, shards: int | None) -> None:
    """Make this process compute shards as every other does: with one thread, since the number of threads
    changes the last bits of a gradient; on a GPU of its own, if there are any."""
    if shards and shards > 1:
        torch.set_num_threads(1)
    if not place.joins:
        os.environ[device_data.ON_THIS_MACHINE] = str(place.size)
    if torch.cuda.is_available():
        torch.cuda.set_device(place.local_rank % torch.cuda.device_count())


class Group:
    """The processes of a training, seen from one of them; by itself the only one."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def rows(self, shards: int) -> int:
        """The number of shards for each process; the last ones may have fewer."""
        return -(-shards // self.size)

    def own(self, shards: int) -> range:
        """The numbers of the shards that this process computes."""
        rows = self.rows(shards)
        return range(min(self.rank * rows, shards), min((self.rank + 1) * rows, shards))

    def gathered(self, rows: torch.Tensor) -> torch.Tensor:
        """The rows of all processes, in their order."""
        return rows

    def from_first(self, compute: Callable[[], Value]) -> Value:
        """What `compute` returns in process 0, or the UserError that it raises there, in all of them."""
        return compute()

    def agree(self, network: nn.Module, epoch: int) -> None:
        """Raise UserError unless the weights are the same in all processes."""


ALONE = Group()


class _Joined(Group):
    """Processes that have met; `lost` makes an error of what happens when one of them is gone."""

    def __init__(self, place: Place, lost: Callable[[object], UserError]) -> None:
        super().__init__(place.rank, place.size)
        self._lost = lost

    def gathered(self, rows: torch.Tensor) -> torch.Tensor:
        from torch import distributed

        everything = rows.new_empty(self.size * len(rows), *rows.shape[1:])
        with self._telling():
            distributed.all_gather_single(everything, rows)
        return everything

    def from_first(self, compute: Callable[[], Value]) -> Value:
        from torch import distributed

        result: list[Any] = [None, None]
        if self.is_first:
            try:
                result = [compute(), None]
            except UserError as error:
                result = [None, str(error)]
        with self._telling():
            distributed.broadcast_object_list(result, device=torch.device("cpu"))
        if result[1] is not None:
            raise UserError(result[1])
        return result[0]

    def agree(self, network: nn.Module, epoch: int) -> None:
        # Bits as whole numbers: their sum does not depend on its order.
        bits = [each.detach().view(torch.int32).sum() for each in network.parameters()]
        sums = self.gathered(torch.stack(bits)[None])
        for rank, other in enumerate(sums):
            if not torch.equal(other, sums[0]):
                raise InterruptedTrainingError(
                    f"process {rank} of {self.size} has other weights than process 0 after epoch "
                    f"{epoch}, from the same gradients: use machines with processors of one kind"
                )

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise self._lost(error) from None


@contextmanager
def joined(place: Place, going_in: Mapping[str, Any], command: Sequence[str]) -> Iterator[Group]:
    """Give the group of processes that train what `going_in` says, whose values must be equal in all.

    `command`: arguments of Python by which process 0 starts the others, unless something else has. What
    the others print is left out. Raises UserError if processes do not come or train something else.
    """
    if place.size == 1:
        yield ALONE
        return
    meeting = _Meeting(place)
    try:
        meeting.begin(going_in, command)
        with redirect_stdout(io.StringIO()) if place.rank else nullcontext():
            yield _Joined(place, meeting.lost)
        meeting.end()
    finally:
        meeting.leave()


@dataclass
class _Child:
    rank: int
    process: subprocess.Popen[bytes]
    errors: IO[bytes]

    def ended(self) -> str | None:
        """Return how it ended; None if it has not, or ended well."""
        code = self.process.poll()
        if not code:
            return None
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), f"exit status {code}")
        reason = last.removeprefix("error: ")
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended: {reason}"


@dataclass
class _Meeting:
    """The store where processes meet, the processes that were started, and the watch over all."""

    place: Place
    children: list[_Child] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    store: Any = None

    def begin(self, going_in: Mapping[str, Any], command: Sequence[str]) -> None:
        from torch import distributed

        address = self._open_store(command)
        self._compare(going_in)
        self._watch()
        if address == LOOPBACK or "GLOO_SOCKET_IFNAME" not in os.environ:
            os.environ["GLOO_SOCKET_IFNAME"] = _interface(address)
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        try:
            distributed.init_process_group(
                backend,
                store=self.store,
                rank=self.place.rank,
                world_size=self.place.size,
                timeout=timedelta(days=7),  # of process 0's validation; the watch sees who is gone
            )
        except RuntimeError as error:
            raise self.lost(error) from None

    def end(self) -> None:
        """Leave together, when all is done."""
        from torch import distributed

        try:
            distributed.barrier()
        except RuntimeError as error:
            raise self.lost(error) from None
        self.over.set()
        distributed.destroy_process_group()
        for child in self.children:  # of which nothing more is needed: who hangs is killed
            with suppress(subprocess.TimeoutExpired):
                child.process.wait(SILENT_SECONDS)

    def leave(self) -> None:
        self.over.set()
        for child in self.children:
            child.process.kill()
            child.process.wait()
            child.errors.close()

    def lost(self, error: object) -> UserError:
        """Return the error that says which process is gone, as far as that is known."""
        until = time.monotonic() + 3  # a connection is closed before its process has ended
        while self.children and time.monotonic() < until:
            for child in self.children:
                if how := child.ended():
                    return self._gone(child.rank, how)
            time.sleep(0.1)
        peer = re.search(r"\[([\da-fA-F.:]+)\]:\d+", str(error))
        who = f" at {peer[1]}" if peer else ""
        return InterruptedTrainingError(
            f"the connection to another of the {self.place.size} processes{who} is lost: see why it "
            f"ended, then {AGAIN}"
        )

    def _gone(self, rank: int, how: str) -> UserError:
        return InterruptedTrainingError(
            f"process {rank} of {self.place.size} {how}; mend that, then {AGAIN}"
        )

    def _open_store(self, command: Sequence[str]) -> str:
        """Open the store, and return the address of process 0."""
        from torch._C._distributed_c10d import PrefixStore, TCPStore

        if not self.place.joins:
            # torch's own socket would listen on all addresses of the machine.
            with socket.socket() as listening:
                listening.bind((LOOPBACK, 0))
                port = listening.getsockname()[1]
                self.store = TCPStore(
                    LOOPBACK, port, is_master=True, master_listen_fd=listening.detach()
                )
            for rank in range(1, self.place.size):
                self._start(rank, port, command)
            return LOOPBACK
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        by_agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        keeps_store = self.place.rank == 0 and not by_agent
        try:
            if not keeps_store:
                _wait_for(address, port)
            self.store = TCPStore(address, port, is_master=keeps_store, wait_for_workers=False)
            if by_agent:  # torchrun's outlives an attempt, whose answers are not those of the next
                attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
                self.store = PrefixStore(f"beatline/{attempt}", self.store)
        except (OSError, RuntimeError, ValueError) as error:
            raise InterruptedTrainingError(
                f"process {self.place.rank} of {self.place.size} cannot meet the others at MASTER_ADDR "
                f"{address}, MASTER_PORT {port} ({_first_line(error)}): check both, that process 0 runs "
                f"there, and that no firewall is between"
            ) from None
        return address

    def _start(self, rank: int, port: int, command: Sequence[str]) -> None:
        errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        environment = {
            **{name: value for name, value in os.environ.items() if "TORCHELASTIC" not in name},
            **dict(
                zip(TORCHRUN, (str(rank), str(self.place.size), LOOPBACK, str(port)), strict=True)
            ),
            "LOCAL_RANK": str(rank),
            device_data.ON_THIS_MACHINE: str(self.place.size),
        }
        process = subprocess.Popen(
            [sys.executable, *command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
        self.children.append(_Child(rank, process, errors))

    def _compare(self, going_in: Mapping[str, Any]) -> None:
        """Raise UserError, in all processes, unless all are about to train the same."""
        rank, size = self.place.rank, self.place.size
        self.store.set(f"beat/{rank}", "0")
        self.store.set(f"going in/{rank}", json.dumps([socket.gethostname(), _flat(going_in)]))
        if rank == 0:
            host, mine = json.loads(self._awaited("going in/0", 0))
            verdict = ""
            for other in range(1, size):
                other_host, others = json.loads(self._awaited(f"going in/{other}", other))
                differing = [
                    name
                    for name in mine | others
                    if name not in MAY_DIFFER and mine.get(name) != others.get(name)
                ]
                for name in differing[:1]:
                    verdict = (
                        f"process {other} on {other_host} has another {name} ({others.get(name)}) than "
                        f"process 0 on {host} ({mine.get(name)}): give all of them the same code, "
                        f"packages, params.yaml, data and kind of machine"
                    )
            self.store.set("verdict", verdict)
        verdict = self._awaited("verdict", 0).decode()
        self.store.set(f"read/{rank}", "")
        if verdict:
            if rank == 0:  # whose store ends with it
                with suppress(RuntimeError):
                    names = [f"read/{other}" for other in range(size)]
                    self.store.wait(names, timedelta(seconds=5))
            raise InterruptedTrainingError(verdict)

    def _awaited(self, key: str, writer: int) -> bytes:
        """What process `writer` puts into the store, once it has."""
        until = time.monotonic() + JOIN_SECONDS
        try:
            while not self.store.check([key]):
                for child in self.children:
                    if how := child.ended():
                        raise self._gone(child.rank, how)
                if time.monotonic() > until:
                    raise InterruptedTrainingError(
                        f"process {writer} of {self.place.size} has not come within {JOIN_SECONDS} s: "
                        f"see why it has not started, then start all of them again"
                    )
                time.sleep(0.1)
            return self.store.get(key)
        except RuntimeError as error:
            raise self.lost(error) from None

    def _watch(self) -> None:
        """Begin to tell the others that this process lives, and to end it if they do not."""
        peers = [0] if self.place.rank else list(range(1, self.place.size))
        heard = {peer: ("", time.monotonic()) for peer in peers}
        store = self.store.clone()  # a wait elsewhere would hold up this one's

        def beat() -> None:
            count = 0
            while not self.over.wait(BEAT_SECONDS):
                count += 1
                with suppress(RuntimeError):  # silence is what counts
                    store.set(f"beat/{self.place.rank}", str(count))
                    for peer in peers:
                        value = store.get(f"beat/{peer}").decode()
                        if value != heard[peer][0]:
                            heard[peer] = (value, time.monotonic())

        def look() -> None:
            while not self.over.wait(1):
                for peer, (_, since) in heard.items():
                    if time.monotonic() - since > SILENT_SECONDS and not self.over.is_set():
                        self._end_at_once(peer)

        for task in (beat, look):
            threading.Thread(target=task, daemon=True).start()

    def _end_at_once(self, peer: int) -> None:
        """End this process, whose main thread waits for one that no longer answers."""
        error = self._gone(peer, f"or its network has been silent for {SILENT_SECONDS} s")
        for child in self.children:
            child.process.kill()
        sys.stdout.flush()
        print(f"error: {error}", file=sys.stderr, flush=True)
        os._exit(1)


def _joined() -> Place:
    """The place that torchrun, srun or an Indexed Job gives this process; of one process without."""
    environment = os.environ
    # srun's alone: the script of sbatch has SLURM_PROCID too, and is no process of a step.
    by_srun = "WORLD_SIZE" not in environment and "SLURM_STEP_NUM_TASKS" in environment
    if by_srun:  # 4(x2),3: four on the first two machines, three on the next
        tasks = re.match(r"\d+", environment.get("SLURM_STEP_TASKS_PER_NODE", ""))
        os.environ.setdefault(device_data.ON_THIS_MACHINE, tasks[0] if tasks else "1")
    names = (
        ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")
        if by_srun
        else ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    )
    values = {"RANK": environment.get("JOB_COMPLETION_INDEX"), "LOCAL_RANK": "0", **environment}
    if values.get(names[1], "1") == "1":
        return Place()
    numbers = {name: values.get(name) or "" for name in (*names, "MASTER_PORT")}
    wrong = [name for name, value in numbers.items() if not value.isdecimal()]
    wrong += [] if values.get("MASTER_ADDR") else ["MASTER_ADDR"]
    rank, size, local = (int(numbers[name]) if not wrong else 0 for name in names)
    if wrong or rank >= size:
        raise UserError(
            f"{names[1]} is {numbers[names[1]]}, so that this is one of several processes, but "
            f"{', '.join(wrong or [names[0]])} does not say where they meet and which this is: set it, "
            f"or start the stage by torchrun or deploy/slurm/train.sbatch"
        )
    return Place(rank, size, local, joins=True)


def _wait_for(address: str, port: int) -> None:
    """Return when somebody listens there; torch would tell of each try. OSError if nobody does."""
    # Who was started by process 0 finds it at once, or never.
    until = time.monotonic() + (SILENT_SECONDS if address == LOOPBACK else JOIN_SECONDS)
    while True:
        try:
            with socket.create_connection((address, port), timeout=BEAT_SECONDS):
                return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


def _interface(address: str) -> str:
    """The name of the network interface from which `address` is reached: gloo takes that of the host's
    name, which may be known to this machine alone."""
    import psutil

    family, _, _, _, target = socket.getaddrinfo(address, 9, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect(target)  # sends nothing
        own = probe.getsockname()[0]
    for name, addresses in psutil.net_if_addrs().items():
        if own in {each.address.partition("%")[0] for each in addresses}:
            return name
    raise InterruptedTrainingError(
        f"no network interface has the address {own}, from which MASTER_ADDR {address} is reached: set "
        f"GLOO_SOCKET_IFNAME to the name of the interface"
    )


def _flat(content: Mapping[str, Any], before: str = "") -> dict[str, str]:
    """The values of nested mappings by their path; long sums by their beginning."""
    flat: dict[str, str] = {}
    for name, value in content.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{before}{name}.")
        else:
            flat[f"{before}{name}"] = str(value)
    return flat


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0].rstrip(".")
