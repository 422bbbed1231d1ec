"""How much faster recordings are made and measured by several processes than by one, to the same bytes.

Run as `python -m benchmarks.preparation [processes]` (2, unless said otherwise) on a machine that has as
many cores to spare. It makes 2,400 ECGs of 10 s at 100 Hz and 500 sounds of 10 s at 16 kHz and extracts
their features, by one process and by several in turn, and exits with status 1 if an output differs, or
extraction is less than 1.7 times faster by two.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from beatline import datasets, features
from beatline.common import parallel, params
from beatline.common.files import sha256
from beatline.datasets import Labels
from beatline.features import Recorded
from beatline.sources.pack import Pack, PackWriter

RECORDS, MACHINES, CLIPS = 2400, 4, 125
REQUIRED = 1.7  # of two processes
ROUNDS = 2  # of each, of which the fastest counts
BLOCKS = {
    "ptbxl": {"simulated": {"records": RECORDS, "seed": 1}, "sampling_rate": 100},
    "machine_sound": {
        "simulated": {
            "machines": MACHINES,
            "train": CLIPS - 20,
            "test_normal": 10,
            "test_anomaly": 10,
            "seconds": 10.0,
            "sampling_rate": 16000,
            "snr": [-6.0, 0.0, 6.0],
            "seed": 1,
        }
    },
}


def download(content: dict[str, Any], name: str, folder: Path) -> None:
    """Make the raw recordings of a data set, in `folder`."""
    module = _module(content, name)
    block = {**content["datasets"][name]["download"], **BLOCKS[name]}
    parameters = params.validated(block, f"datasets.{name}.download", module.Download)
    with PackWriter(folder / "raw.zip") as pack:
        manifest = module.download(parameters, pack, folder)
        pack.add(datasets.MANIFEST, json.dumps(manifest.as_dict()).encode())


def read_labels(content: dict[str, Any], name: str, raw: Path) -> Labels:
    """The labels of the recordings in `raw`, which another stage reads."""
    module = _module(content, name)
    block = content["datasets"][name]["aggregate_labels"]
    schema = module.AggregateLabels
    with Pack(raw) as pack:
        return module.read_labels(
            pack, params.validated(block, f"datasets.{name}.aggregate_labels", schema)
        )


def extract(content: dict[str, Any], name: str, labels: Labels, raw: Path, folder: Path) -> None:
    """Extract the features of the recordings in `raw`."""
    module = _module(content, name)
    with Pack(raw) as pack:
        description = {**json.loads(pack.text(datasets.MANIFEST)), "classes": labels.classes}
        kind = features.module(content["extract_features"][name]["kind"])
        recorded = Recorded(module, pack, labels.table, description)
        kind.write(folder, recorded, features.parameters_of(content, name))


def _module(content: dict[str, Any], name: str) -> ModuleType:
    return datasets.module(content["datasets"][name]["module"])


def timed(work: Callable[[Path], None], processes: int) -> tuple[float, dict[str, str]]:
    """Seconds of the work by so many processes, and the sums of the files that it writes."""
    os.environ[parallel.WORKERS] = str(processes)
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        work(Path(folder))
        seconds = time.perf_counter() - begin
        files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        return seconds, {str(path.relative_to(folder)): sha256(path) for path in files}


def compare(what: str, work: Callable[[Path], None], processes: int) -> tuple[float, bool]:
    """Print and return how much faster several processes are, and whether they write the same."""
    seconds: dict[int, float] = {}
    sums: list[dict[str, str]] = []
    for number in (1, processes) * ROUNDS:
        took, files = timed(work, number)
        seconds[number] = min(took, seconds.get(number, took))
        sums.append(files)
    faster, equal = seconds[1] / seconds[processes], all(each == sums[0] for each in sums)
    print(
        f"{what:32}{seconds[1]:8.1f} s{seconds[processes]:8.1f} s{faster:6.2f} times faster, "
        f"{'same' if equal else 'OTHER'} bytes",
        flush=True,
    )
    return faster, equal


def main() -> int:
    """Print the table; return the exit status."""
    processes = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    content = params.load()
    print(f"{'':32}{1:>10}{processes:>10} processes")
    good = True
    with tempfile.TemporaryDirectory() as folder:
        for name in BLOCKS:
            _, equal = compare(f"simulate {name}", partial(download, content, name), processes)
            good &= equal
            raw = Path(folder, name)
            raw.mkdir()
            download(content, name, raw)
            labels = read_labels(content, name, raw / "raw.zip")
            work = partial(extract, content, name, labels, raw / "raw.zip")
            faster, equal = compare(f"extract the features of {name}", work, processes)
            good &= equal and (processes != 2 or faster >= REQUIRED)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
