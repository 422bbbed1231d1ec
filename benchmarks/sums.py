"""What SHA-256 sums cost: the part of each stage's time that is spent on them.

``python -m benchmarks.sums`` runs the stages of some data sets of small.yaml in a copy of the checkout,
each stage as a process of its own, some of them several times (about two minutes), and prints the median.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from beatline.commands import small_run

LIMIT = 5.0  # percent of a stage
REPEATS = 3
STAGES = {  # how often each is run
    "download machine_sound": 1,
    "aggregate_labels machine_sound": 1,
    "extract_features machine_sound": REPEATS,
    "split machine_sound": REPEATS,
    "normalize machine_sound": REPEATS,
    "train embedding machine_sound": REPEATS,
    "evaluate embedding machine_sound": REPEATS,
}
MEASURE = """
import time
began = time.perf_counter()
import runpy, sys
from beatline.common import sums
spent = 0.0
def timed(function):
    def run(*arguments):
        global spent
        start = time.perf_counter()
        try:
            return function(*arguments)
        finally:
            spent += time.perf_counter() - start
    return run
# What seal, verified and check consist of: the sums, the list of a folder's files, and the manifest.
for name in ("sha256", "_below", "_read"):
    setattr(sums, name, timed(getattr(sums, name)))
del sys.argv[0]
runpy.run_module("stages." + sys.argv[0], run_name="__main__")
print("sums", spent, time.perf_counter() - began)
"""


def measured(root: Path, stage: str) -> tuple[float, float]:
    """Seconds that sums took, and those of the whole stage."""
    command = [sys.executable, "-c", MEASURE, *stage.split()]
    done = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, text=True, check=True)
    spent, total = done.stdout.splitlines()[-1].split()[1:]
    return float(spent), float(total)


def main() -> int:
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "copy"
        small_run.copy_project(root)
        small_run.shrink(root, small_run.read(small_run.DEFAULT), small_run.DEFAULT)
        highest = 0.0
        for stage, repeats in STAGES.items():
            times = [measured(root, stage) for _ in range(repeats)]
            spent, total = map(statistics.median, zip(*times, strict=True))
            highest = max(highest, 100 * spent / total)
            print(
                f"{stage:34s} {1000 * spent:7.1f} ms of {total:6.2f} s: {100 * spent / total:.2f} %"
            )
    print(f"at most {highest:.2f} % of a stage; limit {LIMIT:.0f} %")
    return int(highest > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
