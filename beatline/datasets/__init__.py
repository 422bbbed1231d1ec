"""The interface of a data set: a module with five functions and two parameter blocks.

``beatline/datasets/<module>/__init__.py`` holds

- ``Download``, ``AggregateLabels``: the parameters of its two own stages (subclasses of
  :class:`Download` below and of :class:`beatline.common.params.Parameters`), read from
  ``datasets.<name>.download`` and ``datasets.<name>.aggregate_labels``;
- ``download(parameters, pack, workspace) -> dict``: gets or makes the raw files and adds them to
  the pack (:class:`beatline.sources.pack.PackWriter`); returns the :func:`manifest`. `workspace`
  is a folder that survives the stage, for what a broken download must not lose;
- ``read_labels(pack, parameters) -> Labels``;
- ``read_recordings(pack, records) -> Iterator[np.ndarray]``: the recordings in the order asked for,
  as float32 batches `[B, T, C]` in physical units, NaN where a sample is invalid;
- ``write(folder, date, cases, blocks) -> list[str]``: lays recordings out in the folder as the data
  set's sources are, and returns what later stages will call them (:mod:`beatline.sources.incoming`);
  ``download`` adds such snapshots to the pack.

Everything after that is the same code for all data sets. A UserError names parameters by their keys
within ``datasets.<name>``, which the stages put before it. What the cards say of a data set stands beside
its module, in ``card.yaml`` (:mod:`beatline.datasets.cards`).
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from beatline.common import sums
from beatline.common.errors import UserError, warn
from beatline.common.files import read_csv
from beatline.common.params import Parameters
from beatline.sources import published
from beatline.sources.archives import own
from beatline.sources.incoming import Snapshot

Task = Literal["multilabel", "binary", "multiclass", "anomaly"]
Drawing = Literal["twelve_leads", "trace", "image", "features", "spectrogram"]
MANIFEST = "manifest.json"  # the pack's own description of itself
NAMED = 5  # so many records are named in a message about many
COLUMNS = ("record", "group", "normal", "fold")  # of a table of labels, besides its classes
DESCRIBED = (
    "age",
    "sex",
    "event_timestamp",
    "quality",
    "quality_details",
)  # there, if they are known
# As which no class is called: what tables of labels, splits and predictions have besides.
RESERVED = (*COLUMNS, *DESCRIBED, "label", "alike", "split", "snapshot", "machine_id", "wrong")
CLASS = "class "  # before a label that would be called as one of these


class Download(Parameters):
    """The parameters that all blocks ``datasets.<name>.download`` have.

    `source`: the path of what the stage starts from, which DVC watches: the folder of a simulator, the
    description of published files (:mod:`beatline.sources.published`), what another stage made, or a
    folder, archive or file of one's own. `sha256`: of an archive or a file, if it shall be held to one.
    `incoming`: snapshots of recordings whose outcome became known in production.
    """

    source: str = Field(pattern=r"^[^:]+$|^[A-Za-z]:[^:]*$", min_length=1)
    sha256: str | None = Field(pattern=r"^[0-9a-f]{64}$")
    incoming: list[Snapshot] = Field(default_factory=list)
    SIMULATOR: ClassVar[str] = ""
    """The folder in ``beatline/simulators`` of the one that makes such data, if any does."""

    @property
    def is_simulated(self) -> bool:
        """Whether the source is the simulator."""
        return Path(self.source).parts[-3:] == ("beatline", "simulators", self.SIMULATOR)

    def path(self, workspace: Path, **values: object) -> Path:
        """Return the path of the raw files; published ones are fetched into `workspace` if need be, with
        `values` filled in."""
        path = Path(self.source)
        if published.is_description(path):
            return published.fetch(path, workspace, values, self.sha256)
        return own(path, self.sha256)


@dataclass(frozen=True)
class Manifest:
    """The description of a raw pack, kept beside it.

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
    class, and any further columns that describe a record (age, sex, …). Where records are equal,
    `alike` is the name of the first of them, in one group with it: no split parts them, not even one
    by record. No class is called as one of RESERVED. `sections`: the column that tells apart
    what no metric may pool (machines), if any.
    """

    table: pd.DataFrame
    classes: list[str]
    task: Task
    counts: dict[str, int]
    sections: str | None = None


def module(name: str) -> ModuleType:
    """The data set module called `name` (`datasets.<data set>.module` in params.yaml)."""
    return importlib.import_module(f"beatline.datasets.{name}")


def labels_and_split(
    name: str, columns: Collection[str], sections: str | None
) -> tuple[pd.DataFrame, pd.Series]:
    """The table of labels of the data set `name`, and the split of each of its records.

    Raises UserError if a file is missing or damaged or has not all of `columns`, or if the two are not of
    the same records.
    """
    path = Path(f"data/splits/{name}.csv")
    labels = sums.verified(Path(f"data/labels/{name}/labels.csv"))
    table = read_csv(labels, ("record", *columns), sections)
    split = read_csv(sums.verified_alone(path), ("record", "split"))
    if list(split["record"]) != list(table["record"]):
        raise UserError(f"{path} is of other records: run `dvc repro`")
    return table, split.loc[:, "split"]


# ---------------------------------------------------------------- steps of several data sets


def description_of(source: str, module: str) -> str | None:
    """The name of the description in the package of a data set's `module` that is the source, such as
    `physionet`; None for any other source."""
    path = Path(source)
    shipped = path.parts[-4:-1] == ("beatline", "datasets", module)
    return path.stem if shipped and path.suffix in published.EXTENSIONS else None


def numbered(parts: Mapping[str, Sequence[Any]], folds: Mapping[str, str]) -> pd.DataFrame:
    """The records of files that hold a label each and no name: `record` (part and number), `label`,
    `fold` by part ("" of one without), and `group`, of which each record is one of its own."""
    frames = [
        pd.DataFrame(
            {
                "record": [f"{part}_{number:05d}" for number in range(len(labels))],
                "label": labels,
                "fold": folds.get(part, ""),
            }
        )
        for part, labels in parts.items()
    ]
    table = pd.concat(frames, ignore_index=True)
    return table.assign(group=table["record"])


def exclusive(
    table: pd.DataFrame,
    classes: Mapping[str, Any],
    min_records: int,
    cure: str = "lower aggregate_labels.min_records, or check the source",
) -> Labels:
    """Labels of which each record has one. `table` has the columns record, group, normal, fold and
    `label`; `classes`: the value of `label` by the name of its class. Records of classes with fewer than
    `min_records` are left out and counted. Raises UserError, with the `cure`, if one class is left."""
    table = table.assign(**{name: (table["label"] == label) * 1 for name, label in classes.items()})
    kept = large_classes(table, list(classes), min_records)
    if len(kept) == 1:
        raise one_class(kept[0], cure)
    inside = table[kept].to_numpy().any(axis=1)
    return Labels(
        table=table.loc[inside, [*COLUMNS, *kept]].reset_index(drop=True),
        classes=kept,
        task="multiclass",
        counts={"records_of_small_classes": int(np.count_nonzero(~inside))},
    )


def one_class(name: str, cure: str) -> UserError:
    return UserError(
        f"every record that is left is of class {name}: there is nothing to tell apart, {cure}"
    )


def large_classes(table: pd.DataFrame, classes: list[str], min_records: int) -> list[str]:
    """The classes that have at least `min_records` records; a warning names the others.

    Raises UserError if none is left.
    """
    totals = dict(zip(classes, table[classes].to_numpy().sum(axis=0).tolist(), strict=True))
    kept = [name for name in classes if totals[name] >= min_records]
    if not kept:
        counts = ", ".join(f"{name} {total}" for name, total in totals.items())
        raise UserError(
            f"no class has {min_records} records ({counts}): lower aggregate_labels.min_records, name "
            f"other classes, or check that the source holds labelled records"
        )
    small = [name for name in classes if name not in kept]
    if len(small) > NAMED:
        counts = ", ".join(f"{name} {totals[name]}" for name in small)
        warn(f"{len(small)} classes have fewer than min_records records and are left out: {counts}")
        return kept
    for name in small:
        warn(f"class {name} has {totals[name]} records, fewer than min_records: it is left out")
    return kept


def class_name(label: str) -> str:
    """A label as the name of a column, which may be called as no other one is; two labels never have
    one name."""
    return f"{CLASS}{label}" if _is_reserved(label) else label


def label_of(name: str) -> str:
    """The label of which :func:`class_name` has made `name`."""
    return name.removeprefix(CLASS) if _is_reserved(name) else name


def _is_reserved(label: str) -> bool:
    while label.startswith(CLASS):
        label = label.removeprefix(CLASS)
    return label in RESERVED


def by_number(label: str) -> tuple[float, str]:
    """By which labels are sorted: numbers as numbers, before words."""
    try:
        return float(label), ""
    except ValueError:
        return float("inf"), label


UNKNOWN_GROUPS = "records_without_group"  # in counts


def count_unknown_groups(groups: Sequence[Any], kind: str = "patient") -> dict[str, int]:
    """Count the records whose patient, or group of another `kind`, is missing or empty, if there are
    any, and warn of them."""
    unknown = sum(bool(pd.isna(group)) or group == "" for group in groups)
    if not unknown:
        return {}
    warn(
        f"{unknown} of {len(groups)} records name no {kind}: each counts as one of its own, so that what "
        f"belongs together may be in two splits"
    )
    return {UNKNOWN_GROUPS: unknown}


def warn_of_bad_records(bad: Mapping[str, str]) -> None:
    """Warn of records that are skipped since they cannot be read: `bad` has a sentence by record."""
    for sentence in list(bad.values())[:NAMED]:
        warn(f"skipped: {sentence}")


def check_bad_records(bad: Collection[str], most: int, more: str = "") -> None:
    """Raise UserError if more than `most` records, `aggregate_labels.max_bad_records`, are bad; `more` is
    said besides."""
    if len(bad) > most:
        raise UserError(
            f"{len(bad)} records cannot be read ({some(bad)}), more than "
            f"aggregate_labels.max_bad_records = {most}: repair the source, or allow more{more}"
        )


def some(records: Collection[str]) -> str:
    """The first few of many records, for a message."""
    more = len(records) - NAMED
    return ", ".join(list(records)[:NAMED]) + (f" and {more} more" if more > 0 else "")


def padded(recordings: Iterable[np.ndarray], length: int, size: int) -> Iterator[np.ndarray]:
    """Recordings `[T, C]` as batches `[B, length, C]` of `size`, NaN from their ends on."""
    batch: list[np.ndarray] = []
    for recording in recordings:
        missing = length - len(recording)
        batch.append(np.pad(recording, ((0, missing), (0, 0)), constant_values=np.nan))
        if len(batch) == size:
            yield np.stack(batch)
            batch = []
    if batch:
        yield np.stack(batch)


def joined(groups: pd.Series, alike: pd.Series) -> pd.Series:
    """Groups that are connected by rows which are alike, each called as the first of them."""
    # Not above: labels of few data sets need it.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    codes, names = pd.factorize(groups)
    others = pd.Index(names).get_indexer(pd.Index(alike))
    edges = coo_array((np.ones(len(codes)), (codes, others)), shape=(len(names), len(names)))
    _, component = connected_components(edges, directed=False)
    called = pd.Series(names).groupby(component).first()
    return pd.Series(called.to_numpy()[component[codes]], groups.index)
