"""The cost of a source that is a folder of as many files as PTB-XL has, at each `dvc repro`.

`python -m benchmarks.source_folder` takes about a minute. DVC watches the folder, and keeps the hashes of
files by their times: the first run reads all of them, and the next ones only look. Beside it, in the same
project, a stage of one small file is timed; the difference is the folder's.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.no_op_repro import dvc, repository

RECORDS = 21_799  # of two files each
SAMPLES = 24_000  # bytes of twelve leads, 10 s at 100 Hz
RUNS = 5
STAGES = """
stages:
  folder: {cmd: touch folder.out, deps: [../records], outs: [folder.out]}
  file: {cmd: touch file.out, deps: [file.in], outs: [file.out]}
"""


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="source-") as scratch:
        for number in range(RECORDS):
            path = Path(scratch, "records", f"{number // 1000:02d}000", f"{number:05d}_lr.dat")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(os.urandom(SAMPLES))
            path.with_suffix(".hea").write_text(f"{path.stem} 12 100 1000\n")
        project = Path(scratch, "project")
        project.mkdir()
        repository(project)
        (project / "file.in").write_text("1\n")
        (project / "dvc.yaml").write_text(STAGES)
        first = {stage: seconds(project, stage) for stage in ("folder", "file")}
        print(f"{2 * RECORDS:,} files, `dvc repro` of one stage, median of {RUNS}:")
        for stage, took in first.items():
            again = statistics.median(seconds(project, stage) for _ in range(RUNS))
            print(f"  {stage:7} {again:6.2f} s, and {took:.2f} s when it ran")


def seconds(project: Path, stage: str) -> float:
    """Run `dvc repro` of a stage and return how long it took."""
    began = time.perf_counter()
    dvc(project, "repro", stage)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
