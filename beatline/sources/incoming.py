"""Recordings whose outcome became known in production: snapshots that join a data set's own source.

A snapshot is a folder ``data/incoming/<data set>/<date>``, which DVC tracks. It is laid out as its data
set's sources are, with a row for each recording in ``cases.csv`` beside: `record`, what later stages
call it; `answer` and `moment`, of the prediction that was right or wrong; `entity`, the patient or
machine; `group`, what no split parts; `labels`; `fold`. The folder is sealed
(:mod:`beatline.common.sums`), and params.yaml names it in ``datasets.<data set>.download.incoming`` with
the sum of its list of sums: what it names cannot change.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import Field

from beatline.common import sums
from beatline.common.errors import UserError
from beatline.common.files import sha256
from beatline.common.params import Parameters
from beatline.sources.archives import Source, open_source
from beatline.sources.pack import Pack, PackWriter

FOLDER = Path("data/incoming")
CASES = "cases.csv"
COLUMN = (
    "snapshot"  # of a table of labels: the date, empty for records of the data set's own source
)
_PACKED = "incoming/{date}/{name}"


class Snapshot(Parameters):
    """`folder`: a snapshot; `sha256`: the sum of its SHA256SUMS."""

    folder: str = Field(pattern=r"^[^:]+/\d{4}-\d\d-\d\d(\.\d+)?$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")

    @property
    def date(self) -> str:
        return Path(self.folder).name


@dataclass(frozen=True)
class Case:
    """A recording and what experts say of it. `answer`: the id of the model's answer; `moment`: its time,
    ISO 8601; `entity`: the patient or machine, None if nobody knows; `group`: what no split parts, None
    if that is the recording alone; `labels`: the classes that hold, of a detector `normal` or `anomaly`;
    `samples` `[T, C]` in the data set's unit, of a sound its waveform; `sampling_rate` in Hz."""

    answer: str
    moment: str
    entity: str | None
    group: str | None
    labels: Sequence[str]
    samples: np.ndarray
    sampling_rate: float | None
    fold: str


@dataclass(frozen=True)
class Opened:
    """A snapshot that is read: its `source`, and its `cases`, by record."""

    date: str
    source: Source
    cases: pd.DataFrame


def packed(date: str, name: str) -> str:
    """Return the name in a data set's pack of a file in the snapshot of a date."""
    return _PACKED.format(date=date, name=name)


def fold_of(unit: str, shares: Mapping[str, float]) -> str:
    """Return the split of a patient, a machine or a record, by its name alone, so that no later snapshot
    changes it. `shares`: of the splits, in order."""
    drawn = (
        int.from_bytes(hashlib.sha256(unit.encode()).digest()[:8]) / 2**64 * sum(shares.values())
    )
    below = 0.0
    for split, share in shares.items():
        below += share
        if drawn < below:
            return split
    return list(shares)[-1]


def write_cases(folder: Path, records: Sequence[str], cases: Sequence[Case]) -> None:
    """Add the table of `cases`, called `records`, to a snapshot that is complete, and seal it."""
    table = pd.DataFrame(
        {
            "record": records,
            "answer": [case.answer for case in cases],
            "moment": [case.moment for case in cases],
            "entity": [case.entity or "" for case in cases],
            "group": [case.group or "" for case in cases],
            "labels": [";".join(case.labels) for case in cases],
            "fold": [case.fold for case in cases],
        }
    )
    table.to_csv(folder / CASES, index=False, lineterminator="\n")
    sums.seal(folder)


def added(snapshots: Sequence[Snapshot], pack: PackWriter) -> Iterator[Opened]:
    """Open each snapshot; its table of cases goes into the pack, and what else does is for the caller to
    say. Raises UserError if one is missing, damaged, or another than params.yaml names."""
    for snapshot in snapshots:
        folder = Path(snapshot.folder)
        key = f"download.incoming: {folder}"
        if not folder.is_dir():
            raise UserError(
                f"{key} is missing: run `dvc pull {folder}.dvc` or `dvc checkout {folder}.dvc`"
            )
        sums.check(folder)
        if sha256(folder / sums.SUMS) != snapshot.sha256:
            raise UserError(
                f"{key} is another than the one with the sum that stands there: run `dvc checkout "
                f"{folder}.dvc`, or remove it from the list"
            )
        with open_source(folder) as source:
            content = source.read(CASES)
            pack.add(packed(snapshot.date, CASES), content)
            yield Opened(snapshot.date, source, _read(content).set_index("record", drop=False))


def annotated(pack: Pack, table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of labels with group, fold and, in COLUMN, the date of records from snapshots; as it
    is if there are none in the pack. A record without a group is one by itself."""
    places = (name.split("/") for name in pack.names())
    dates = sorted(parts[1] for parts in places if parts[::2] == ["incoming", CASES])
    if not dates:
        return table
    table = table.assign(**{COLUMN: ""})
    for date in dates:
        cases = _read(pack.text(packed(date, CASES)).encode()).set_index("record")
        inside = table["record"].isin(cases.index.to_list())
        rows = cases.loc[table.loc[inside, "record"]]
        records = table.loc[inside, "record"]
        groups = [group or record for group, record in zip(rows["group"], records, strict=True)]
        table.loc[inside, "group"] = groups
        table.loc[inside, "fold"] = rows["fold"].to_list()
        table.loc[inside, COLUMN] = date
    return table


def _read(content: bytes) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False)
