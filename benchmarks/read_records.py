"""How fast, and with how much memory, ECG records are read: ours against `wfdb.rdsamp`.

Run as `python -m benchmarks.read_records`. It writes 2,000 records in the layout of PTB-XL (12
leads, 10 s at 100 Hz, format 16) to a temporary folder, reads them both ways in one process, and
exits with status 1 if the values differ or ours is less than 30 times faster.
"""

from __future__ import annotations

import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import wfdb

from beatline.formats.leads import LEADS
from beatline.formats.wfdb import read_records
from beatline.sources.pack import Pack, PackWriter

N_RECORDS, N_SAMPLES, N_REPEATS = 2_000, 1_000, 7
REQUIRED = 30


def write_records(folder: Path) -> list[str]:
    """Write random walks as records in the layout of PTB-XL; return their names."""
    rng = np.random.default_rng(0)
    names = []
    for number in range(1, N_RECORDS + 1):
        name = f"{number:05d}_lr"
        names.append(f"records100/{number // 1000 * 1000:05d}/{name}")
        steps = rng.integers(-9, 10, (N_SAMPLES, len(LEADS)), np.int16)
        samples = steps.cumsum(axis=0, dtype=np.int16)
        path = folder / names[-1]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".dat").write_bytes(samples.astype("<i2").tobytes())
        path.with_suffix(".hea").write_text(header(name, samples))
    return names


def header(name: str, samples: np.ndarray) -> str:
    """The text of a header as PTB-XL has it, for digital samples `[T, C]`."""
    lines = [f"{name} {len(LEADS)} 100 {len(samples)}"]
    for lead, values in zip(LEADS, samples.T, strict=True):
        checksum = int(values.sum(dtype=np.int64)) % 65536
        lines.append(f"{name}.dat 16 1000.0(0)/mV 16 0 {values[0]} {checksum} 0 {lead}")
    return "\n".join(lines) + "\n"


def pack_records(folder: Path, names: list[str], path: Path) -> None:
    """Pack the files of the records."""
    with PackWriter(path) as pack:
        for name in names:
            for ending in (".hea", ".dat"):
                pack.add(name + ending, (folder / (name + ending)).read_bytes())


def median_time(run: Callable[[], object], repeats: int = N_REPEATS) -> float:
    """The median of the seconds that `run` takes."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def read(path: Path, names: list[str], verify: bool) -> None:
    """Open the pack and read all records, keeping none."""
    with Pack(path) as pack:
        for _ in read_records(pack, names, verify=verify):
            pass


def peak_memory(path: Path, names: list[str]) -> float:
    """The most MB that are allocated at a time while the records are read."""
    tracemalloc.start()
    read(path, names, verify=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def values_are_equal(folder: Path, path: Path, names: list[str]) -> bool:
    """Whether both ways give the same bytes."""
    with Pack(path) as pack:
        ours = np.concatenate(list(read_records(pack, names)))
    theirs = (np.float32(wfdb.rdsamp(str(folder / name))[0]) for name in names)
    return all(one.tobytes() == two.tobytes() for one, two in zip(ours, theirs, strict=True))


def main() -> int:
    """Print the table; return the exit status."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        path = folder / "raw.zip"
        names = write_records(folder)
        pack_records(folder, names, path)
        equal = values_are_equal(folder, path, names[:100])
        theirs = median_time(lambda: [wfdb.rdsamp(str(folder / name)) for name in names], 1)
        unverified = median_time(lambda: read(path, names, verify=False))
        verified = median_time(lambda: read(path, names, verify=True))
        peaks = {n: peak_memory(path, (names * 4)[:n]) for n in (500, 2_000, 8_000)}
    print(f"{N_RECORDS:,} records of {len(LEADS)} x {N_SAMPLES:,}; values equal: {equal}")
    print(f"{'':28}{'ms a record':>12}{'ratio':>8}")
    for way, seconds in (
        ("wfdb.rdsamp", theirs),
        ("ours, checksums verified", verified),
        ("ours, not verified", unverified),
    ):
        print(f"{way:28}{seconds / N_RECORDS * 1e3:12.3f}{theirs / seconds:8.1f}")
    print("peak memory: " + ", ".join(f"{n:,} records {mb:.1f} MB" for n, mb in peaks.items()))
    return 0 if equal and theirs / verified >= REQUIRED else 1


if __name__ == "__main__":
    sys.exit(main())
