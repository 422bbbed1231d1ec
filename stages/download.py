"""download: get or make the raw recordings of a data set and pack them into one file."""

from __future__ import annotations

import json
from pathlib import Path

from beatline import datasets
from beatline.common import params
from beatline.common.errors import concerning, run_stage
from beatline.sources.pack import PackWriter

WORKSPACE = Path("data/downloads")  # survives the stage: a broken download goes on from there


def main(name: str) -> None:
    content = params.load()
    dataset = datasets.module(params.block_of(content, f"datasets.{name}.module"))
    parameters = params.block(content, f"datasets.{name}.download", dataset.Download)
    WORKSPACE.mkdir(parents=True, exist_ok=True)
    with PackWriter(Path(f"data/raw/{name}.zip")) as pack:
        with concerning(f"datasets.{name}"):
            manifest = dataset.download(parameters, pack, WORKSPACE)
        pack.add(datasets.MANIFEST, json.dumps(manifest.as_dict(), indent=2).encode())
    counts = ", ".join(
        f"{key.replace('_', ' ')}: {value}" for key, value in manifest.counts.items()
    )
    print(f"{manifest.title}: {counts}")


if __name__ == "__main__":
    run_stage(main)
