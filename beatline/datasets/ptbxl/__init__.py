"""PTB-XL: 12-lead ECGs of 10 s with five diagnostic superclasses, several of which may hold at once.

Wagner et al. 2020, PTB-XL, a large publicly available electrocardiography dataset, Scientific Data
7:154; version 1.0.3 on PhysioNet (Goldberger et al. 2000), CC BY 4.0. Where the archive is not at
hand, a simulator writes records in the same layout, and everything downstream says so.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field
from tqdm import tqdm

from beatline import datasets
from beatline.common.errors import UserError, warn
from beatline.common.params import Parameters
from beatline.datasets import COLUMNS, Labels, Manifest, large_classes, published
from beatline.datasets.ptbxl.labels import RecordsTable, superclasses
from beatline.formats.leads import LEADS
from beatline.formats.wfdb import check_records, read_records
from beatline.sources.archives import Source, open_source, own
from beatline.sources.pack import Pack, PackWriter

ARCHIVE = "ptb-xl-a-large-publicly-available-electrocardiography-dataset-1.0.3.zip"
ARCHIVE_URL = f"https://physionet.org/static/published-projects/ptb-xl/{ARCHIVE}"
DATABASE, STATEMENTS, CHECKSUMS = "ptbxl_database.csv", "scp_statements.csv", "SHA256SUMS.txt"
SECONDS = 10
FILENAME = {100: "filename_lr", 500: "filename_hr"}
FOLDER = {100: "records100/", 500: "records500/"}
SUFFIX = {100: "_lr", 500: "_hr"}
NAMED = 5  # so many records are named in a message about many
CITATION = "Wagner et al. 2020, PTB-XL, Scientific Data 7:154; PhysioNet version 1.0.3, CC BY 4.0"
SIMULATION = "simulated after McSharry et al. 2003 and Sameni et al. 2007, in the layout of PTB-XL"


class Simulated(Parameters):
    """How many records the simulator makes, and its seed."""

    records: int = Field(ge=20)
    seed: int = Field(ge=0)


class Download(datasets.Download):
    """`source`: simulated, physionet, or a folder or archive in the official layout, complete or
    not; the SHA-256 of single files that come with it are verified in any case."""

    sampling_rate: Literal[100, 500]
    simulated: Simulated


class AggregateLabels(Parameters):
    """`classes`: superclasses to keep, in the order of the outputs. `min_likelihood`: of a statement,
    in percent. `max_bad_records`: so many unreadable records are skipped; more are an error."""

    classes: list[str] = Field(min_length=1)
    min_likelihood: float = Field(ge=0, le=100)
    min_records: int = Field(ge=1)
    unlabelled: Literal["drop", "keep"]
    max_bad_records: int = Field(ge=0)


def download(parameters: Download, pack: PackWriter, workspace: Path) -> Manifest:
    """Add the two tables and the records of one sampling rate, in the official layout, to the pack.

    Rows of the table without files and files without a row are left out, counted and reported.
    """
    with ExitStack() as stack:
        if parameters.source == "simulated":
            # Not above: who reads records needs none of what it takes a second to import.
            from beatline.simulators.ecg import simulator

            path = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=workspace)))
            simulator.simulate(
                path,
                records=parameters.simulated.records,
                seed=parameters.simulated.seed,
                sampling_rate=parameters.sampling_rate,
            )
        elif parameters.source == "physionet":
            path = published(ARCHIVE_URL, workspace / ARCHIVE, parameters.sha256)
        else:
            path = own(Path(parameters.source), parameters.sha256)
        counts = _add(stack.enter_context(open_source(path, DATABASE)), parameters, pack)
    simulated = parameters.source == "simulated"
    return Manifest(
        title="simulated 12-lead ECGs (PTB-XL layout)" if simulated else "PTB-XL",
        source=parameters.source,
        simulated=simulated,
        channels=list(LEADS),
        sampling_rate=parameters.sampling_rate,
        unit="mV",
        drawing="twelve_leads",
        citation=SIMULATION if simulated else CITATION,
        counts=counts,
    )


def read_labels(pack: Pack, parameters: AggregateLabels) -> Labels:
    """Superclasses of the records that can be read; raises UserError if too many cannot."""
    table = RecordsTable.parse(pack.text(DATABASE), DATABASE)
    rate = _rate(pack)
    names = table.rows[FILENAME[rate]].to_list()
    present = [name for name in names if f"{name}.hea" in pack]
    bad = _bad_records(pack, present, rate, parameters.max_bad_records)
    good = set(present) - bad.keys()
    records = [record_name(name, rate) for name in names]
    rows = table.rows.assign(record=records).loc[[name in good for name in names]]
    rows = rows.reset_index(drop=True)
    labels = superclasses(
        rows, pack.text(STATEMENTS), parameters.classes, parameters.min_likelihood
    )
    kept = large_classes(labels, parameters.classes, parameters.min_records)
    described = rows.loc[:, ["record", "group", "fold", "age", "sex"]]
    full = pd.concat([described, labels], axis=1)
    without = labels[kept].to_numpy().sum(axis=1) == 0
    if parameters.unlabelled == "drop":
        full = full.loc[~without].reset_index(drop=True)
    fate = "dropped" if parameters.unlabelled == "drop" else "kept"
    counts = {"bad_records": len(bad), f"without_class_{fate}": int(without.sum())}
    table_of_labels = full.loc[:, [*COLUMNS, *kept, "age", "sex"]]
    return Labels(table=table_of_labels, classes=kept, task="multilabel", counts=counts)


def read_recordings(pack: Pack, records: Sequence[str]) -> Iterator[np.ndarray]:
    """The records as batches `[B, T, 12]` in mV, leads as in LEADS, NaN where a sample is missing."""
    rate = _rate(pack)
    files = [_file_name(record, rate, pack) for record in records]
    yield from read_records(
        pack, files, leads=LEADS, sampling_rate=rate, samples=rate * SECONDS, unit="mV"
    )


def record_name(file: str, rate: int) -> str:
    """Return the name of a record: `records100/00000/00003_lr` and `records500/00000/00003_hr` are the
    same ECG, `00000/00003`, so that models at both rates can be compared record by record. A file that is
    not named by this convention keeps its name."""
    folder, suffix = FOLDER[rate], SUFFIX[rate]
    if file.startswith(folder) and file.endswith(suffix):
        return file.removeprefix(folder).removesuffix(suffix)
    return file


def _file_name(record: str, rate: int, pack: Pack) -> str:
    """The file, less its extension, that :func:`record_name` made the name of a record from."""
    by_convention = f"{FOLDER[rate]}{record}{SUFFIX[rate]}"
    return by_convention if f"{by_convention}.hea" in pack else record


def _rate(pack: Pack) -> int:
    return 100 if any(name.startswith(FOLDER[100]) for name in pack.names()) else 500


def _add(source: Source, parameters: Download, pack: PackWriter) -> dict[str, int]:
    """Pack the tables and every record that has both a row and files; count the others."""
    sums = _checksums(source)
    for name in (DATABASE, STATEMENTS):
        if not source.exists(name):
            raise UserError(f"{source.path} holds no {name}: give the official PTB-XL layout")
        pack.add(name, _verified(source, name, source.read(name), sums))
    text = _text(source, DATABASE)
    rows = RecordsTable.parse(text, f"{source.path}: {DATABASE}").rows
    rate = parameters.sampling_rate
    named = set(rows[FILENAME[rate]]) - {""}
    stems = {name[:-4] for name in source.names() if name.startswith(FOLDER[rate])}
    # As PTB-XL is published, or as in PhysioNet's challenges.
    signals = {
        name: name + extension
        for extension in (".mat", ".dat")
        for name in named
        if source.exists(name + extension)
    }
    complete = sorted(name for name in signals if source.exists(f"{name}.hea"))
    counts = {
        "rows": len(rows),
        "rows_without_files": len(rows) - len(complete),
        "files_without_rows": len(stems - named),
    }
    for reason, names in (
        ("rows without files", sorted(named - set(complete))),
        ("files without a row", sorted(stems - named)),
    ):
        if names:
            warn(f"{len(names)} {reason} are skipped: {_some(names)}")
    if not complete:
        raise UserError(
            f"{parameters.source} holds none of the records of {DATABASE} at {rate} Hz "
            f"({FOLDER[rate]}…): check download.source and download.sampling_rate"
        )
    files = [file for name in complete for file in (f"{name}.hea", signals[name])]
    items = tqdm(source.items(files), "pack", len(files), mininterval=10, unit=" files")
    for name, content in items:
        pack.add(name, _verified(source, name, content, sums))
    return counts


def _checksums(source: Source) -> dict[str, str]:
    """SHA-256 by file name, from the list that PhysioNet publishes beside the files."""
    if not source.exists(CHECKSUMS):
        return {}
    lines = [line.split(maxsplit=1) for line in _text(source, CHECKSUMS).splitlines()]
    return {line[1].strip(): line[0] for line in lines if len(line) == 2}


def _text(source: Source, name: str) -> str:
    try:
        return source.read(name).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{source.path}: {name} is no UTF-8 text: get the file again") from None


def _verified(source: Source, name: str, content: bytes, sums: dict[str, str]) -> bytes:
    expected = sums.get(name)
    if expected and (got := hashlib.sha256(content).hexdigest()) != expected:
        raise UserError(
            f"{source.path}: {name} has SHA-256 {got}, {CHECKSUMS} says {expected}: the archive is "
            f"damaged; remove it and download it again"
        )
    return content


def _bad_records(pack: Pack, names: list[str], rate: int, most: int) -> dict[str, str]:
    bad = check_records(
        pack, names, leads=LEADS, sampling_rate=rate, samples=rate * SECONDS, unit="mV"
    )
    for sentence in list(bad.values())[:NAMED]:
        warn(f"skipped: {sentence}")
    if len(bad) > most:
        raise UserError(
            f"{len(bad)} records cannot be read ({_some(list(bad))}), more than "
            f"aggregate_labels.max_bad_records = {most}: repair the source, or allow more"
        )
    return bad


def _some(names: list[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
