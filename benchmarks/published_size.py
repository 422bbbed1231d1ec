"""PTB-XL's size: every stage of its branch, for as many simulated ECGs as PTB-XL has real ones.

The committed parameters of `ptbxl`, and of `ecg_features`, which stands on its features, with 21,799
records instead of 2,400. A line for each stage: minutes, and the most memory that its largest process
held. Run by ``python -m benchmarks.published_size [records]``; the default needs 4 GB of disk.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from beatline.common import params
from beatline.common.files import write_json
from benchmarks.memory import measured

PTBXL, TABLE, RECORDS = "ptbxl", "ecg_features", 21_799
ROOT = Path(__file__).parents[1]


def prepare(root: Path, records: int) -> dict[str, Any]:
    """Write a project of the two data sets alone into `root`, and return its parameters."""
    for folder in ("beatline", "stages"):
        (root / folder).symlink_to(ROOT / folder)
    content = params.load(ROOT / params.PATH)
    content["datasets"] = {name: content["datasets"][name] for name in (PTBXL, TABLE)}
    content["extract_features"] = {PTBXL: content["extract_features"][PTBXL]}
    content["datasets"][PTBXL]["download"]["simulated"]["records"] = records
    content["train"] = {
        model: {name: block for name, block in blocks.items() if name in content["datasets"]}
        for model, blocks in content["train"].items()
    }
    write_json(root / params.PATH, content)  # which is YAML too
    return content


def commands(content: dict[str, Any]) -> Iterator[list[str]]:
    """Yield the stages with their arguments, in running order."""
    for name in (PTBXL, TABLE):
        yield ["download", name]
        yield ["aggregate_labels", name]
        if name in content["extract_features"]:
            yield ["extract_features", name]
        yield from (["split", name], ["examples", name], ["normalize", name])
        models = [model for model, blocks in content["train"].items() if name in blocks]
        yield from (["train", model, name] for model in models)
        yield from (["evaluate", model, name] for model in models)
    yield ["report"]


def main(records: int) -> None:
    total = 0.0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for stage in commands(prepare(root, records)):
            seconds, _, megabytes = measured(root, [f"stages.{stage[0]}", *stage[1:]])
            minutes = seconds / 60
            total += minutes
            print(f"{' '.join(stage):40s} {minutes:6.1f} min {megabytes:6.0f} MB", flush=True)
        print(f"{'all':40s} {total:6.1f} min")


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else RECORDS)
