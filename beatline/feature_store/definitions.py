"""What the feature store holds: a table of features per block of extract_features in params.yaml.

Its names are those that :mod:`beatline.features` declares and its rows those of the Parquet file that DVC
owns. ECGs carry no time there: their features hold whenever they are asked for, so a copy of the table
dates them at the beginning of all clocks, 1970-01-01.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from beatline import features
from beatline.common import params
from beatline.common.errors import UserError
from beatline.common.files import read_json, replacing
from beatline.common.sums import verified
from beatline.features.tables import PARQUET

FOLDER = Path("data/feature_store")
FEATURES = Path("data/features")
TIMESTAMP = "event_timestamp"
ALWAYS = datetime(1970, 1, 1, tzinfo=UTC)
PATIENT = "patient"
MOST_KNOWN = 20  # ids in a sentence
NUMBER, TEXT = "number", "text"


@dataclass(frozen=True)
class Table:
    """A table of the store: its rows are of an `entity`, dated by `timestamp`, with `fields` (their kinds
    by name) of which `features` are those measured. `source`: its Parquet file, as seen from FOLDER.
    `ttl_seconds`: how old a row may be, 0 for any age. `pushed`: whether rows are sent to it.
    `definition`: a sum of how its features are measured; `representation`: of sound, what dataset.json
    says of that. `known`: the first of the entities in the file, `known_in_all`: how many there are."""

    name: str
    entity: str
    timestamp: str
    fields: dict[str, str]
    features: list[str]
    source: str
    ttl_seconds: float
    pushed: bool
    definition: str
    representation: dict[str, Any] | None
    known: list[str]
    known_in_all: int


def tables(content: dict[str, Any], root: Path, max_age_seconds: float) -> list[Table]:
    """Return the tables of a project, whose files are made where Feast cannot read the pipeline's own.

    `content`: of params.yaml; `max_age_seconds`: how old a machine's features may be. Raises UserError if
    a table is missing, damaged or not of the features that its kind declares.
    """
    made = {"sound": _of_sound, "ecg": _of_ecgs}
    found = []
    for dataset, block in content["extract_features"].items():
        if block["kind"] not in made:
            raise UserError(
                f"params.yaml: extract_features.{dataset}.kind: the feature store knows "
                f"{', '.join(made)}, not {block['kind']}: add it to beatline/feature_store/definitions.py"
            )
        found.append(made[block["kind"]](content, root, dataset, max_age_seconds))
    return found


def _of_sound(content: dict[str, Any], root: Path, dataset: str, max_age: float) -> Table:
    names = list(features.module("sound").FEATURES)
    table = _read(root, dataset, ["machine_id", TIMESTAMP, *names])
    return Table(
        name=dataset,
        entity="machine_id",
        fields=dict.fromkeys(names, NUMBER),
        features=names,
        source=f"../features/{dataset}/{PARQUET}",
        ttl_seconds=max_age,
        pushed=True,
        **_about(content, root, dataset, table["machine_id"]),
    )


def _of_ecgs(content: dict[str, Any], root: Path, dataset: str, _: float) -> Table:
    names = list(features.module("ecg").FEATURES)
    table = _read(root, dataset, ["record", "group", *names])
    dates = pa.repeat(pa.scalar(ALWAYS, pa.timestamp("us", "UTC")), len(table))
    dated = table.rename_columns(["record", PATIENT, *names]).append_column(TIMESTAMP, dates)
    name = _learned_from(content, dataset)
    with replacing(root / FOLDER / f"{name}.parquet") as beside:
        pyarrow.parquet.write_table(dated, beside)
    return Table(
        name=name,
        entity="record",
        fields={PATIENT: TEXT, **dict.fromkeys(names, NUMBER)},
        features=names,
        source=f"{name}.parquet",
        ttl_seconds=0,
        pushed=False,
        **_about(content, root, dataset, table["record"]),
    )


def _read(root: Path, dataset: str, columns: Sequence[str]) -> pa.Table:
    path = verified(root / FEATURES / dataset / PARQUET)
    table = pyarrow.parquet.read_table(path)
    if missing := [name for name in columns if name not in table.column_names]:
        raise UserError(f"{path} has no column {missing[0]}: run `dvc repro` to measure anew")
    return table.select(columns)


def _about(
    content: dict[str, Any], root: Path, dataset: str, entities: pa.ChunkedArray
) -> dict[str, Any]:
    """Return what all tables say of themselves alike."""
    known = sorted(entities.unique().to_pylist())
    representation = read_json(verified(root / FEATURES / dataset / "dataset.json")).get(
        "representation"
    )
    block = content["extract_features"][dataset]
    measured = json.dumps(
        [block, representation, list(features.module(block["kind"]).FEATURES)], sort_keys=True
    )
    return {
        "timestamp": TIMESTAMP,
        "definition": hashlib.sha256(measured.encode()).hexdigest()[:16],
        "representation": representation,
        "known": known[:MOST_KNOWN],
        "known_in_all": len(known),
    }


def _learned_from(content: dict[str, Any], dataset: str) -> str:
    """Return the name of the data set that is made of a table of features, which is the table's own."""
    source = str(FEATURES / dataset)
    for name, blocks in content["datasets"].items():
        if params.block_of(blocks, "download").get("source") == source:
            return name
    return f"{dataset}_features"


def as_json(found: Sequence[Table]) -> str:
    """Return tables as Feast's definitions.py, and the service, read them."""
    return json.dumps({"tables": [asdict(table) for table in found]}, indent=2) + "\n"


def read(path: Path) -> dict[str, Table]:
    """Return the tables that :func:`as_json` wrote, by name. Raises UserError if they cannot be read."""
    try:
        content = json.loads(path.read_text())
        return {table["name"]: Table(**table) for table in content["tables"]}
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run `make features`, which fills the store") from None
    except (ValueError, TypeError, KeyError, OSError):
        raise UserError(f"{path} is damaged: run `make features`, which writes it anew") from None
