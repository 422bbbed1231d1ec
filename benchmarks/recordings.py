"""How reading and packing recordings of one's own grows with their number: time a file, and memory.

Run as `python -m benchmarks.recordings [files]` (5,000 by default). It writes ECGs of 12 leads, 10 s at
100 Hz, in turn as WFDB records and NPY files, and packs them as `download` does, in as many processes as
there are cores. It exits with status 1 if a file of the last tenth takes more than SLOWER times as much
of the processors as one of the second, or the most memory of the packing process grows by more than
MEMORY bytes a file.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil

from beatline.datasets import recordings
from beatline.formats.leads import LEADS
from beatline.sources.pack import PackWriter
from benchmarks.read_records import header

FILES, STEPS, DISTINCT = 5_000, 1_000, 50
FOLDER = 1_000  # files in one
SLOWER, MEMORY = 1.5, 10_000
EVERY = 20  # members of the pack between two looks at the clock


def write(folder: Path, files: int) -> None:
    """Write the files and their table."""
    draw = np.random.default_rng(0)
    walks = draw.integers(-9, 10, (DISTINCT, STEPS, len(LEADS)), np.int16).cumsum(
        axis=1, dtype=np.int16
    )
    names = []
    for number in range(files):
        digital = walks[number % DISTINCT] + np.int16(number // DISTINCT)
        names.append(f"{number // FOLDER:03d}/{number:06d}" + (".hea", ".npy")[number % 2])
        path = folder / names[-1]
        path.parent.mkdir(parents=True, exist_ok=True)
        if number % 2:
            np.save(path, digital / np.float32(1000))
        else:
            path.write_text(header(path.stem, digital))
            path.with_suffix(".dat").write_bytes(digital.astype("<i2").tobytes())
    labels = [("normal", "abnormal")[number % 2] for number in range(files)]
    rates, units = [100] * files, ["mV"] * files
    table = pd.DataFrame({"file": names, "label": labels, "rate": rates, "unit": units})
    table.to_csv(folder / "table.csv", index=False)


class Timed(PackWriter):
    """A pack that notes, every :data:`EVERY` members, processor time (s) and memory (bytes).

    Processor time, of this process and those that it has started: what else a machine does
    lengthens no file of it.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.members, self.process = 0, psutil.Process()
        self.spent: list[float] = []
        self.memory: list[int] = []

    def add(self, name: str, content: bytes) -> None:
        super().add(name, content)
        self.members += 1
        if self.members % EVERY == 0:
            times = [each.cpu_times() for each in [self.process, *self.process.children(True)]]
            self.spent.append(sum(each.user + each.system for each in times))
            self.memory.append(self.process.memory_info().rss)


def main() -> int:
    """Print the table; return the exit status."""
    files = int(sys.argv[1]) if len(sys.argv) > 1 else FILES
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "source")
        write(folder, files)
        parameters = recordings.Download.model_validate(
            {"source": str(folder), "sha256": None, "table": "table.csv", "max_bad_files": 0}
            | {"file": "file", "labels": "label", "rate": "rate", "unit": "unit"}
            | {"leads": list(LEADS)}
        )
        begin = time.perf_counter()
        pack = Timed(Path(temporary, "raw.zip"))
        with pack:
            manifest = recordings.download(parameters, pack, Path(temporary))
        seconds = time.perf_counter() - begin
        size = Path(temporary, "raw.zip").stat().st_size
    spent, memory = np.diff(pack.spent) / EVERY, np.array(pack.memory)
    tenth = len(spent) // 10
    # In the first tenth processes start.
    first, last = spent[tenth : 2 * tenth].mean(), spent[-tenth:].mean()
    growth = (memory.max() - memory[tenth]) / (files - tenth * EVERY)
    print(f"{files:,} files, {size / 1e6:,.0f} MB packed in {seconds:.1f} s: {manifest.counts}")
    print(
        f"of processors, a file of the second tenth {first * 1e3:.2f} ms, of the last {last * 1e3:.2f} ms"
    )
    print(f"memory at the most {memory.max() / 1e6:.0f} MB, {growth:.0f} bytes more a file")
    return 0 if last <= SLOWER * first and growth <= MEMORY else 1


if __name__ == "__main__":
    sys.exit(main())
