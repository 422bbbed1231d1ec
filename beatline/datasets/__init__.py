"""What a data set is to the pipeline: a module with four functions and two parameter blocks.

``beatline/datasets/<module>/__init__.py`` holds

- ``Download``, ``AggregateLabels``: the parameters of its two own stages (subclasses of
  :class:`Download` below and of :class:`beatline.common.params.Parameters`), read from
  ``datasets.<name>.download`` and ``datasets.<name>.aggregate_labels``;
- ``download(parameters, pack, workspace) -> dict``: gets or makes the raw files and adds them to
  the pack (:class:`beatline.sources.pack.PackWriter`); returns the :func:`manifest`. `workspace`
  is a folder that survives the stage, for what a broken download must not lose;
- ``read_labels(pack, parameters) -> Labels``;
- ``read_recordings(pack, records) -> Iterator[np.ndarray]``: the recordings in the order asked for,
  as float32 batches `[B, T, C]` in physical units, NaN where a sample is invalid.

Everything after that is the same code for all data sets.
"""

from __future__ import annotations

import importlib
from dataclasses import asdict, dataclass, field
from types import ModuleType
from typing import Any, Literal

import pandas as pd

from beatline.common.errors import UserError
from beatline.common.params import Parameters

Task = Literal["multilabel", "binary", "multiclass", "anomaly"]
Drawing = Literal["twelve_leads", "trace", "image", "features", "spectrogram"]
MANIFEST = "manifest.json"  # the pack's own description of itself
COLUMNS = ("record", "group", "normal", "fold")  # of a table of labels, besides its classes


class Download(Parameters):
    """What all blocks ``datasets.<name>.download`` hold.

    `needs`: what the stage starts from, which DVC watches: the data set's own module, or what another
    stage made, for a data set that is derived from another.
    """

    needs: str


@dataclass(frozen=True)
class Manifest:
    """What a raw pack says of itself.

    `channels`: names in the order of the last axis. `sampling_rate`: in Hz, None if there is no time
    axis in seconds. `unit`: of the samples. `drawing`: how its readers know a recording.
    `counts`: what was found, skipped and why, for the report.
    """

    title: str
    source: str
    simulated: bool
    channels: list[str]
    sampling_rate: float | None
    unit: str
    drawing: Drawing
    citation: str
    counts: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Labels:
    """One row per record that later stages may use.

    `table` has the columns `record` (its name in the pack), `group` (the patient or machine that may
    never be in two splits), `normal` (1 if an anomaly detector may learn it as normal), `fold` (the
    split of the publishers: train, validation, test; empty where there is none), one 0/1 column per
    class, and any further columns that describe a record (age, sex, …). No class is called as one
    of COLUMNS. `sections`: the column that tells apart what no metric may pool (machines), if any.
    """

    table: pd.DataFrame
    classes: list[str]
    task: Task
    counts: dict[str, int]
    sections: str | None = None


def module(name: str) -> ModuleType:
    """The data set module called `name` (`datasets.<data set>.module` in params.yaml)."""
    return importlib.import_module(f"beatline.datasets.{name}")


def leave_out_small_classes(
    table: pd.DataFrame, classes: list[str], min_records: int, key: str
) -> tuple[list[str], dict[str, int]]:
    """The classes that have at least `min_records` records, and those left out with their counts.

    Raises UserError, naming `key` of params.yaml, if none is left.
    """
    totals = dict(zip(classes, table[classes].to_numpy().sum(axis=0).tolist(), strict=True))
    kept = [name for name in classes if totals[name] >= min_records]
    if not kept:
        counts = ", ".join(f"{name} {total}" for name, total in totals.items())
        raise UserError(
            f"no class has {min_records} records ({counts}): lower {key}.min_records, name other "
            f"classes, or check that the source holds labelled records"
        )
    return kept, {name: total for name, total in totals.items() if name not in kept}
