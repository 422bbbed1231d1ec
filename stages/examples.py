"""examples: a few test recordings as they were recorded, to try a served model with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from beatline import datasets
from beatline.common import params, sums
from beatline.common.errors import run_stage
from beatline.common.files import read_json, replacing, write_json
from beatline.sources.pack import Pack


def main(name: str) -> None:
    module = datasets.module(params.block_of(params.load(), f"datasets.{name}.module"))
    labels = Path(f"data/labels/{name}")
    description = read_json(sums.verified(labels / "dataset.json"))
    classes, sections = description["classes"], description["sections"]
    table, split = datasets.labels_and_split(name, ("normal", *classes), sections)
    chosen = choose(table.loc[split == "test"], classes, sections)

    about = {key: description[key] for key in ("sampling_rate", "unit", "simulated")}
    described = []
    folder = Path(f"data/examples/{name}")
    with Pack(Path(f"data/raw/{name}.zip")) as pack, replacing(folder) as beside:
        beside.mkdir()
        for number, (record, labels) in enumerate(chosen.items(), 1):
            recording = next(iter(module.read_recordings(pack, [record])))[0]
            # As the table has it: its columns may have large offsets.
            kind = "<f8" if recording.dtype == np.float64 else "<f4"
            samples = np.ascontiguousarray(recording, kind)
            np.save(beside / f"{number}.npy", samples, allow_pickle=False)
            described.append({"name": str(number), "record": record, "labels": labels, **about})
        write_json(beside / "examples.json", {"examples": described})
        sums.seal(beside)
    print(f"{len(described)} examples: {folder}")


def choose(table: pd.DataFrame, classes: list[str], sections: str | None) -> dict[str, list[str]]:
    """The first record that is normal, and the first of each class that is of no other, in each of the
    `sections` (a column) if there are any: its name, and what it is."""
    chosen: dict[tuple[str, ...], str] = {}
    for row in table.to_dict("records"):
        positives = [name for name in classes if row[name]]
        section = [str(row[sections])] if sections else []
        if len(positives) == 1 or (row["normal"] and not positives):
            chosen.setdefault((*(positives or ["normal"]), *section), row["record"])
    return {record: list(labels) for labels, record in sorted(chosen.items())}


if __name__ == "__main__":
    run_stage(main)
