"""PTB-XL: 12-lead ECGs of 10 s with SCP-ECG statements, several of which may hold at once: diagnoses,
also summed up to five superclasses, form and rhythm.

Wagner et al. 2020, PTB-XL, a large publicly available electrocardiography dataset, Scientific Data
7:154; version 1.0.3 on PhysioNet (Goldberger et al. 2000), CC BY 4.0. Where the archive is not at
hand, a simulator writes records in the same layout, and everything downstream says so.
"""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field
from tqdm import tqdm

from beatline import datasets
from beatline.common.errors import UserError, warn
from beatline.common.params import Parameters
from beatline.datasets import (
    COLUMNS,
    Labels,
    Manifest,
    check_bad_records,
    count_unknown_groups,
    large_classes,
    some,
    warn_of_bad_records,
)
from beatline.datasets.ptbxl.labels import (
    STATEMENTS,
    RecordsTable,
    Task,
    aggregated,
    snapshot_statements,
)
from beatline.formats.leads import LEADS
from beatline.formats.wfdb import check_records, read_records
from beatline.sources import incoming
from beatline.sources.archives import Source, open_source
from beatline.sources.incoming import Case
from beatline.sources.pack import Pack, PackWriter

DATABASE, CHECKSUMS = "ptbxl_database.csv", "SHA256SUMS.txt"
SECONDS = 10
FILENAME = {100: "filename_lr", 500: "filename_hr"}
FOLDER = {100: "records100/", 500: "records500/"}
SUFFIX = {100: "_lr", 500: "_hr"}
CITATION = "Wagner et al. 2020, PTB-XL, Scientific Data 7:154; PhysioNet version 1.0.3, CC BY 4.0"
SIMULATION = "simulated after McSharry et al. 2003 and Sameni et al. 2007, in the layout of PTB-XL"


class Simulated(Parameters):
    """How many records the simulator makes, and its seed."""

    records: int = Field(ge=20)
    seed: int = Field(ge=0)


class Download(datasets.Download):
    """`source`: ``beatline/simulators/ecg``, ``physionet.yaml`` here, or a folder or archive in the
    official layout, complete or not; the SHA-256 of single files that come with it are verified in any
    case."""

    SIMULATOR: ClassVar[str] = "ecg"
    sampling_rate: Literal[100, 500]
    simulated: Simulated


class AggregateLabels(Parameters):
    """`task`: what is learned of the statements, as the published benchmark divides them. `classes`:
    those of the task to keep, in the order of the outputs; none named: all. `min_likelihood`: of a
    diagnostic statement, in percent. `max_bad_records`: so many unreadable records are skipped; more are
    an error."""

    task: Task = "superclass"
    classes: list[str]
    min_likelihood: float = Field(ge=0, le=100)
    min_records: int = Field(ge=1)
    unlabelled: Literal["drop", "keep"]
    max_bad_records: int = Field(ge=0)


def download(parameters: Download, pack: PackWriter, workspace: Path) -> Manifest:
    """Add the two tables and the records of one sampling rate, in the official layout, to the pack.

    Rows of the table without files and files without a row are left out, counted and reported.
    """
    with ExitStack() as stack:
        if parameters.is_simulated:
            # Not above: who reads records needs none of what it takes a second to import.
            from beatline.simulators.ecg import simulator

            path = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=workspace)))
            simulator.simulate(
                path,
                records=parameters.simulated.records,
                seed=parameters.simulated.seed,
                sampling_rate=parameters.sampling_rate,
            )
        else:
            path = parameters.path(workspace, sampling_rate=parameters.sampling_rate)
        counts = _add(stack.enter_context(open_source(path, DATABASE)), parameters, pack)
        for snapshot in incoming.added(parameters.incoming, pack):
            _add_snapshot(snapshot, parameters.sampling_rate, pack)
    simulated = parameters.is_simulated
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
    """Labels of the records that can be read; raises UserError if too many cannot."""
    table, rate = _table(pack), _rate(pack)
    names = table.rows[FILENAME[rate]].to_list()
    present = [name for name in names if f"{name}.hea" in pack]
    bad = check_records(
        pack, present, leads=LEADS, sampling_rate=rate, samples=rate * SECONDS, unit="mV"
    )
    warn_of_bad_records(bad)
    other = "for recordings with other leads, use a data set of module recordings (docs/data.md)"
    check_bad_records(bad, parameters.max_bad_records, f"; {other}")
    good = set(present) - bad.keys()
    records = _record_names(names, rate)
    rows = table.rows.assign(record=records).loc[[name in good for name in names]]
    rows = rows.reset_index(drop=True)
    task = parameters.task
    labels = aggregated(
        rows, _statements(pack, task), task, parameters.classes, parameters.min_likelihood
    )
    classes = [name for name in labels if name != "normal"]
    kept = large_classes(labels, classes, parameters.min_records)
    described = rows.loc[:, ["record", "group", "fold", "age", "sex"]]
    full = pd.concat([described, labels], axis=1)
    without = labels[kept].to_numpy().sum(axis=1) == 0
    if parameters.unlabelled == "drop":
        full = full.loc[~without].reset_index(drop=True)
    fate = "dropped" if parameters.unlabelled == "drop" else "kept"
    counts = {"bad_records": len(bad), f"without_class_{fate}": int(without.sum())}
    counts |= count_unknown_groups(rows["patient_id"].to_list())
    table_of_labels = full.loc[:, [*COLUMNS, *kept, "age", "sex"]]
    return Labels(table=table_of_labels, classes=kept, task="multilabel", counts=counts)


def read_recordings(pack: Pack, records: Sequence[str]) -> Iterator[np.ndarray]:
    """The records as batches `[B, T, 12]` in mV, leads as in LEADS, NaN where a sample is missing."""
    rate = _rate(pack)
    names = _table(pack).rows[FILENAME[rate]].to_list()
    file_of = dict(zip(_record_names(names, rate), names, strict=True))
    files = [file_of.get(record, record) for record in records]
    yield from read_records(
        pack, files, leads=LEADS, sampling_rate=rate, samples=rate * SECONDS, unit="mV"
    )


def write(folder: Path, date: str, cases: Sequence[Case], blocks: Mapping[str, Any]) -> list[str]:
    """Lay ECGs out in `folder` as PTB-XL is; the names of their records. What is known of them is the
    classes of one task, each of which is a statement of that name here."""
    import wfdb  # which takes a second, that only this needs

    task = blocks["aggregate_labels"].get("task", "superclass")
    rate = blocks["download"]["sampling_rate"]
    (folder / FOLDER[rate]).mkdir(parents=True)
    rows = []
    for number, case in enumerate(cases, 1):
        if case.sampling_rate != rate or case.samples.shape != (rate * SECONDS, len(LEADS)):
            raise UserError(
                f"recording {case.answer} is none of {SECONDS} s in 12 leads at {rate} Hz"
            )
        name = f"{case.answer}{SUFFIX[rate]}"
        wfdb.wrsamp(
            name,
            fs=rate,
            units=["mV"] * len(LEADS),
            sig_name=list(LEADS),
            p_signal=case.samples.astype(np.float64),
            fmt=["16"] * len(LEADS),
            write_dir=str(folder / FOLDER[rate]),
        )
        files = dict.fromkeys(FILENAME.values(), "") | {FILENAME[rate]: f"{FOLDER[rate]}{name}"}
        rows.append(
            {
                "ecg_id": number,
                "patient_id": case.group,
                "age": None,
                "sex": None,
                "scp_codes": str(dict.fromkeys(case.labels, 100.0)),
                "strat_fold": {"train": 1, "validation": 9, "test": 10}[case.fold],
                **files,
            }
        )
    pd.DataFrame(rows).to_csv(folder / DATABASE, index=False, lineterminator="\n")
    classes = sorted({label for case in cases for label in case.labels})
    snapshot_statements(task, classes).to_csv(folder / STATEMENTS, lineterminator="\n")
    return [incoming.packed(date, f"{FOLDER[rate]}{case.answer}{SUFFIX[rate]}") for case in cases]


def record_name(file: str, rate: int) -> str:
    """Return the name of a record: `records100/00000/00003_lr` and `records500/00000/00003_hr` are the
    same ECG, `00000/00003`, so that models at both rates can be compared record by record. A file that is
    not named by this convention keeps its name."""
    folder, suffix = FOLDER[rate], SUFFIX[rate]
    if file.startswith(folder) and file.endswith(suffix):
        return file.removeprefix(folder).removesuffix(suffix)
    return file


def _record_names(files: list[str], rate: int) -> list[str]:
    """The names of the records in `files`: those of :func:`record_name`, or the files' own where two
    would be called the same."""
    names = [record_name(file, rate) for file in files]
    return names if len(set(names)) == len(set(files)) else files


@lru_cache(maxsize=1)  # normalize reads the same table once per split
def _table(pack: Pack) -> RecordsTable:
    tables = [RecordsTable.parse(pack.text(DATABASE), DATABASE)]
    for name in _of_snapshots(pack, DATABASE):
        table, folder = RecordsTable.parse(pack.text(name), name), name.removesuffix(DATABASE)
        files = {
            column: [file and folder + file for file in table.rows[column]]
            for column in FILENAME.values()
        }
        tables.append(RecordsTable(table.rows.assign(**files)))
    if len(tables) == 1:
        return tables[0]
    return RecordsTable(pd.concat([table.rows for table in tables], ignore_index=True))


def _statements(pack: Pack, task: Task) -> str:
    """The table of statements, with those by which snapshots name classes of the `task`. Raises UserError
    for a snapshot of which experts said what another task asks: nobody knows more of it."""
    names = _of_snapshots(pack, STATEMENTS)
    if not names:
        return pack.text(STATEMENTS)
    tables = [
        pd.read_csv(io.StringIO(pack.text(name)), index_col=0) for name in [STATEMENTS, *names]
    ]
    for name, table in zip(names, tables[1:], strict=True):
        # Those made before there were tasks do not say which.
        tasks = set(table["task"]) if "task" in table else {"superclass"}
        for other in tasks - {task}:
            raise UserError(
                f"download.incoming: the snapshot of {name.split('/')[1]} is labelled for the task "
                f"{other}: remove it from the list, or set aggregate_labels.task to {other}"
            )
    merged = pd.concat(tables)
    return merged[~merged.index.duplicated()].to_csv()


def _of_snapshots(pack: Pack, name: str) -> list[str]:
    return [member for member in pack.names() if member.endswith(f"/{name}")]


def _rate(pack: Pack) -> int:
    """The sampling rate in Hz that the pack was made for."""
    return json.loads(pack.text(datasets.MANIFEST))["sampling_rate"]


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
    at_any_rate = {name for column in FILENAME.values() for name in rows[column]}
    headers = {name[:-4] for name in source.names() if name.endswith(".hea")}
    without_rows = sorted(headers - at_any_rate)
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
        "files_without_rows": len(without_rows),
    }
    for reason, names in (
        ("rows without files", sorted(named - set(complete))),
        ("files without a row", without_rows),
    ):
        if names:
            warn(f"{len(names)} {reason} are skipped: {some(names)}")
    if not complete:
        raise UserError(
            f"{parameters.source} holds none of the records of {DATABASE} at {rate} Hz "
            f"({FILENAME[rate]}: {some(sorted(named)) or 'empty'}): check download.source and "
            f"download.sampling_rate"
        )
    files = [file for name in complete for file in (f"{name}.hea", signals[name])]
    for name in tqdm(source.in_order(files), "pack", mininterval=10, unit=" files"):
        pack.add(name, _verified(source, name, source.read(name), sums))
    return counts


def _add_snapshot(snapshot: incoming.Opened, rate: int, pack: PackWriter) -> None:
    """Pack the tables and the records of a snapshot, whose sums have been compared."""
    names = snapshot.source.names()
    records = [name for name in names if name.startswith(FOLDER[rate])]
    if not records:
        raise UserError(
            f"{snapshot.source.path} holds no record at {rate} Hz: set download.sampling_rate to the "
            f"other, or remove it from download.incoming"
        )
    for name in [DATABASE, STATEMENTS, *records]:
        pack.add(incoming.packed(snapshot.date, name), snapshot.source.read(name))


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
        cure = f"get that file again, or, if it was changed on purpose, remove its line from {CHECKSUMS}"
        if source.path.is_file():
            cure = (
                f"remove the archive and get it again, or, if the file was changed on purpose, make the "
                f"archive without its line in {CHECKSUMS}"
            )
        raise UserError(
            f"{source.path}: {name} has SHA-256 {got}, {CHECKSUMS} says {expected}: {cure}"
        )
    return content
