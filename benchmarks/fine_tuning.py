"""What it is worth to start from a model of simulated ECGs, where real ones are few.

The committed cnn learns the real ECGs of a folder in PTB-XL's layout twice, with the project's own
stages and parameters: from nothing, and from the weights of ``data/models/ptbxl/cnn``, its first layer
at a tenth of the learning rate. Each time with five seeds, on half of the patients; a seventh chooses
the epoch, the others are tested. The interval is of patients that are drawn again, in pairs; the recipe
was not chosen by these records.

Run as ``python -m benchmarks.fine_tuning FOLDER`` in a project whose cnn of ptbxl is trained (some
minutes). It judges nothing: the difference is what it is.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from beatline import bundle, metrics
from beatline.common import params
from beatline.common.errors import reporting_mistakes
from beatline.common.files import read_csv
from beatline.evaluation import bootstrap
from beatline.preprocessing import arrays

ROOT = Path(__file__).resolve().parent.parent
PARENT, NAME = Path("data/models/ptbxl/cnn"), "real"
SEEDS, INITIAL_RATE = 5, 0.1
SPLIT = {"method": "stratified", "by": "patient", "train": 0.5, "validation": 0.15, "test": 0.35}
STAGES = ("download", "aggregate_labels", "split", "normalize")
RESAMPLES, SEED = 2000, 1
PLACES = ("from nothing", "from simulated")


def project(folder: Path, source: Path, parent: Path) -> None:
    """Write a params.yaml of the real ECGs in `folder`, as `python -m stages.train` reads it."""
    content: dict[str, Any] = params.load(ROOT / params.PATH)
    dataset = content["datasets"]["ptbxl"]
    dataset["download"]["source"] = str(source.resolve())
    dataset["aggregate_labels"]["min_records"] = 1
    dataset["split"] = {**SPLIT, "seed": SEED}
    dataset["normalize"]["recordings"] = f"data/raw/{NAME}.zip"
    content["datasets"], content["extract_features"] = {NAME: dataset}, {}
    recipe = {**content["train"]["cnn"]["ptbxl"], "seeds": SEEDS}
    weights = bundle.load(parent).description[bundle.WEIGHTS_SHA256]
    if parent != PARENT:
        recipe |= {"initial": f"{parent}@{weights[:12]}", "initial_rate": INITIAL_RATE}
    content["train"] = {"cnn": {NAME: recipe}}
    (folder / params.PATH).write_text(yaml.safe_dump(content))


def run(folder: Path, *command: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", *command], cwd=folder, env=environment, check=True)


def aucs(folder: Path, weights: np.ndarray) -> np.ndarray:
    """Macro AUC `[R, seeds]` of the networks that were trained in a folder."""
    test = arrays.load_split(folder / f"data/normalized/{NAME}/test")
    trained = folder / f"data/models/{NAME}/cnn"
    columns = []
    for place in (trained, *bundle.other_seeds(trained)):
        model = bundle.load(place)
        targets = test.targets(model.classes)
        values = model.answer(test.signals).values
        by_class = bootstrap.resampled(metrics.roc_auc, targets, values, weights=weights)
        columns.append(bootstrap.macro_mean(by_class))
    return np.stack(columns, axis=1)


def main() -> int:
    """Print both sides and their difference; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("source", type=Path, help="real ECGs in PTB-XL's layout")
    source = parser.parse_args().source
    parent = PARENT.resolve()
    bundle.load(parent)
    found = []
    for start in (PARENT, parent):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            project(folder, source, start)
            for stage in STAGES:
                run(folder, f"stages.{stage}", NAME)
            run(folder, "stages.train", "cnn", NAME)
            records = read_csv(folder / f"data/labels/{NAME}/labels.csv", ("record", "group"))
            test = arrays.load_split(folder / f"data/normalized/{NAME}/test").table
            groups = records.set_index("record")["group"].loc[test["record"]]
            weights = bootstrap.once_and_resampled(groups.to_numpy(), RESAMPLES, SEED)
            found.append(aucs(folder, weights))
    print(f"macro AUC on {len(test)} test records, {SEEDS} seeds")
    for place, values in zip(PLACES, found, strict=True):
        each = ", ".join(f"{value:.4f}" for value in values[0])
        print(f"{place:15} {values[0].mean():.4f} ± {values[0].std(ddof=1):.4f}  ({each})")
    differences = (found[1] - found[0]).mean(axis=1)
    low, high = bootstrap.percentile_interval(differences[1:])
    print(f"difference of the means {differences[0]:+.4f} [{low:+.4f}, {high:+.4f}]")
    return 0


if __name__ == "__main__":
    with reporting_mistakes():
        sys.exit(main())
