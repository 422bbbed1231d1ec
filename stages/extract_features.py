"""extract_features: what can be measured of each recording, as a table and as what networks learn."""

from __future__ import annotations

from pathlib import Path

from beatline import datasets, features
from beatline.common import params, sums
from beatline.common.errors import concerning, run_stage
from beatline.common.files import read_csv, read_json, replacing, write_json
from beatline.features import Recorded
from beatline.sources.pack import Pack


def main(name: str) -> None:
    content = params.load()
    key = f"extract_features.{name}"
    kind = features.module(params.block_of(content, f"{key}.kind"))
    dataset = datasets.module(params.block_of(content, f"{key}.module"))
    parameters = features.parameters_of(content, name)
    labels = Path(f"data/labels/{name}")
    description = read_json(sums.verified(labels / "dataset.json"))
    columns = ("record", "group", "normal", *description["classes"])
    table = read_csv(sums.verified(labels / "labels.csv"), columns, description["sections"])

    with (
        Pack(Path(f"data/raw/{name}.zip")) as pack,
        replacing(Path(f"data/features/{name}")) as folder,
    ):
        folder.mkdir()
        with concerning(key):
            features_info = kind.write(
                folder, Recorded(dataset, pack, table, description), parameters
            )
        write_json(folder / "dataset.json", {**description, **features_info}, digits=17)
        sums.seal(folder)


if __name__ == "__main__":
    run_stage(main)
