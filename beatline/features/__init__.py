"""Features, measured from recordings: a package per kind of recording, with

- ``ExtractFeatures``, its parameters (:class:`beatline.common.params.Parameters`), read from
  ``extract_features.<data set>`` less `module` and `kind`;
- ``write(folder, recorded, parameters) -> dict``: writes `features.parquet` and `features.csv`, a row
  per record of :class:`Recorded`, into the folder, and, if a network shall learn something else
  than the samples themselves, `recordings/` (:func:`beatline.preprocessing.arrays.write_split`);
  returns what `dataset.json` is to say besides what it says of the data set.

:mod:`beatline.features.tables` writes the tables.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pandas as pd

from beatline.common import params
from beatline.common.params import Parameters
from beatline.sources.pack import Pack


@dataclass(frozen=True)
class Recorded:
    """The recordings of a data set: its `module`, its raw `pack`, the `table` of its labels and its
    `description` (dataset.json of aggregate_labels)."""

    module: ModuleType
    pack: Pack
    table: pd.DataFrame
    description: dict[str, Any]


def module(kind: str) -> ModuleType:
    """The package that measures recordings of a kind, such as ecg."""
    return importlib.import_module(f"beatline.features.{kind}")


def parameters_of(content: dict[str, Any], dataset: str) -> Parameters:
    """The block `extract_features.<data set>` of params.yaml, less what names modules."""
    key = f"extract_features.{dataset}"
    block = params.block_of(content, key)
    rest = {name: value for name, value in block.items() if name not in ("module", "kind")}
    return params.validated(rest, key, module(block["kind"]).ExtractFeatures)
