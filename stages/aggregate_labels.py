"""aggregate_labels: one row of 0/1 labels per usable record."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from beatline import datasets
from beatline.common import params, sums
from beatline.common.errors import UserError, concerning, run_stage
from beatline.common.files import replacing, write_csv, write_json
from beatline.sources import incoming
from beatline.sources.pack import Pack


def main(name: str) -> None:
    content = params.load()
    dataset = datasets.module(params.block_of(content, f"datasets.{name}.module"))
    parameters = params.block(content, f"datasets.{name}.aggregate_labels", dataset.AggregateLabels)
    with Pack(Path(f"data/raw/{name}.zip")) as pack, concerning(f"datasets.{name}"):
        manifest = json.loads(pack.text(datasets.MANIFEST))
        labels = dataset.read_labels(pack, parameters)
        labels = replace(labels, table=incoming.annotated(pack, labels.table))
        if labels.table.empty:
            raise UserError("no record is left after labelling: check source and classes")
    totals = {label: int(labels.table[label].sum()) for label in labels.classes}
    description = {
        **manifest,
        "task": labels.task,
        "sections": labels.sections,
        "representation": None,  # of recordings as they are; extract_features makes others
        "classes": labels.classes,
        "counts": {**manifest["counts"], **labels.counts, "records": len(labels.table)},
        "class_totals": totals,
    }
    with replacing(Path(f"data/labels/{name}")) as folder:
        folder.mkdir()
        write_csv(folder / "labels.csv", labels.table)
        write_json(folder / "dataset.json", description)
        sums.seal(folder)
    print(f"{len(labels.table)} records: " + ", ".join(f"{k} {v}" for k, v in totals.items()))


if __name__ == "__main__":
    run_stage(main)
