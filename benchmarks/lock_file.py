"""How long `beatline repro` and DVC's own `dvc repro` take to write dvc.lock after a stage.

Run with `python -m benchmarks.lock_file` in the project's folder. Writes a copy of the committed dvc.lock
as often as it has stages, both ways, and exits 1 if `beatline repro` is not twice as fast.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dvc.fs import localfs
from dvc.utils.serialize import load_yaml, modify_yaml

from beatline.commands.patched_dvc import FastLock
from beatline.lineage.lock import DVC_LOCK

AT_LEAST = 2.0


def main() -> int:
    """Print both; return the exit status."""
    stages = list(load_yaml(DVC_LOCK)["stages"])
    fast = FastLock()
    ways: dict[str, tuple[Callable[..., Any], Callable[[], object]]] = {
        "DVC": (modify_yaml, lambda: None),
        "beatline": (fast.modify_yaml, fast.finish),
    }
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / DVC_LOCK.name
        for name, (modify, finish) in ways.items():
            shutil.copy(DVC_LOCK, path)
            began = time.perf_counter()
            for stage in stages:
                with modify(str(path), fs=localfs) as content:
                    content["stages"][stage]["cmd"] = stage
            finish()
            seconds[name] = time.perf_counter() - began
            print(f"{name:10}{seconds[name]:6.1f} s for {len(stages)} stages", flush=True)
    return int(seconds["beatline"] * AT_LEAST > seconds["DVC"])


if __name__ == "__main__":
    sys.exit(main())
