"""Recordings of one's own: a folder or archive of files in any format, and a table that labels them.

What the files hold is brought together by rules that are parameters (leads, sampling rate, length), and
everything that was done is counted. The pack holds samples, and of the table the columns that are named:
files of devices hold names and dates of patients, which go nowhere.
"""

from __future__ import annotations

import io
import json
import math
import re
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from beatline import datasets
from beatline.common.errors import UserError, listed, names_there_are, warn
from beatline.datasets import NAMED, Labels, Manifest, padded, some
from beatline.datasets.recordings import files
from beatline.datasets.recordings.labels import AggregateLabels, aggregated, later_labels
from beatline.datasets.recordings.quality import FLAGS
from beatline.formats import leads, npy, tables
from beatline.formats.resampling import MOST_RESAMPLED, interpolated, resampled
from beatline.sources import incoming
from beatline.sources.archives import Source, open_source
from beatline.sources.incoming import Case
from beatline.sources.pack import Pack, PackWriter

__all__ = [
    "AggregateLabels",
    "Download",
    "download",
    "read_labels",
    "read_recordings",
    "write",
]
RECORDS, RULES = "records.csv", "rules.json"  # members of a pack
TABLE = "table.csv"  # of a snapshot
ROLES = ("patient", "fold", "age", "sex", "time")  # columns of which a record keeps the text
BATCH_SAMPLES = 4_000_000  # of read_recordings, 16 MB
# Median range of ECGs in mV, below and above which their unit is another: of 400 records of PTB-XL it is
# between 0.5 and 4.
PLAUSIBLE = (0.02, 50.0)
PERSON = re.compile(r"\b[A-ZÀ-ÖØ-Þ][^\W\d_]+,? [A-ZÀ-ÖØ-Þ][^\W\d_]+")


class Download(datasets.Download):
    """`source`: a folder or an archive. `table`: the path in it of a CSV, TSV or Parquet file with a
    row for each recording, and these columns: `file`, its path in the source or from the table's
    folder, with its ending or without (of an absolute path the end counts); `labels`, one column with a
    class, or several with 0 and 1, or one with a list in which `separator` stands between classes;
    `patient`, which no split parts; `fold`: train, validation or test; `age` in years; `sex`; `time` of
    the recording; `rate` (Hz) and `unit`, for files that do not say.

    `leads`: channels in the order in which models see them; none named: those of most files. Missing
    limb leads are derived from two others; a file that lacks another one cannot be used, nor one that
    names none and has not as many. Files' names, which may be people's, are kept as those of records.
    `sampling_rate` in Hz, to which others are resampled, and which is taken for granted where nobody
    says one; null: that of most files. `seconds`: the length (null: that of most files), to which what
    is `shorter` is padded with invalid samples or rejected, and what is `longer` is cropped at its end
    or rejected. `max_bad_files`: so many files that cannot be read or used are skipped; more are an
    error."""

    table: str = Field(min_length=1)
    file: str
    labels: str | list[str]
    separator: str | None = None
    patient: str | None = None
    fold: str | None = None
    age: str | None = None
    sex: str | None = None
    time: str | None = None
    rate: str | None = None
    unit: str | None = None
    leads: list[str] = Field(default_factory=list)
    sampling_rate: float | None = Field(default=None, gt=0)
    seconds: float | None = Field(default=None, gt=0)
    shorter: Literal["pad", "reject"] = "pad"
    longer: Literal["crop", "reject"] = "crop"
    max_bad_files: int = Field(ge=0)

    @property
    def label_columns(self) -> list[str]:
        return [self.labels] if isinstance(self.labels, str) else self.labels

    @property
    def columns(self) -> dict[str, list[str]]:
        """The names of columns by the parameter that names them."""
        single = {key: getattr(self, key) for key in ("file", *ROLES, "rate", "unit")}
        return {"labels": self.label_columns} | {k: [v] for k, v in single.items() if v is not None}


@dataclass(frozen=True)
class Rules:
    """What all recordings of a pack are brought to: `channels` in this order, `rate` in Hz (None: there
    is no time in seconds), `steps` in time, in `unit`. `labels` and `separator` are those of
    :class:`Download`."""

    channels: list[str]
    rate: float | None
    steps: int
    unit: str
    labels: list[str]
    separator: str | None


def download(parameters: Download, pack: PackWriter, workspace: Path) -> Manifest:
    """Add the samples of each file that has a row, as they were read, and what their rows say to the
    pack.

    Files that cannot be read or used are skipped, counted and named, as are rows without files and
    files without a row. Raises UserError if there are too many of the former, no file can be used, or
    the table is wrong."""
    with open_source(parameters.path(workspace), parameters.table) as source:
        table, counts = _rows(source, parameters)
        found, bad = _read(source, table, parameters, pack)
    rules = _rules(found, parameters, bad, counts)
    rows = _described(table, found, rules, parameters, bad, counts)
    for snapshot in incoming.added(parameters.incoming, pack):
        rows = pd.concat([rows, _add_snapshot(snapshot, rules, pack)], ignore_index=True)
    pack.add(RECORDS, rows.to_csv(index=False, lineterminator="\n").encode())
    pack.add(RULES, json.dumps(asdict(rules), indent=2).encode())
    ecg = set(rules.channels) == set(leads.LEADS) and rules.rate and rules.unit == files.VOLTAGE
    return Manifest(
        title=f"recordings of {Path(parameters.source).name}",
        source=parameters.source,
        simulated=False,
        channels=rules.channels,
        sampling_rate=rules.rate,
        unit=rules.unit,
        drawing="twelve_leads" if ecg else "features" if rules.steps == 1 else "trace",
        citation="",
        counts=counts,
    )


def read_labels(pack: Pack, parameters: AggregateLabels) -> Labels:
    """The classes of the records that can be used; see :mod:`beatline.datasets.recordings.labels`."""
    rules = _packed_rules(pack)
    return aggregated(_packed(pack), rules.labels, rules.separator, parameters)


def read_recordings(pack: Pack, records: Sequence[str]) -> Iterator[np.ndarray]:
    """The recordings as batches `[B, T, C]`, brought to the rules of the pack: its channels, rate,
    length and unit, NaN where a sample is missing."""
    rules, rows = _packed_rules(pack), _packed(pack).set_index("record", drop=False)
    rows = rows.loc[list(records)]
    brought = (_brought(pack, row, rules) for row in rows.to_dict("records"))
    size = max(1, BATCH_SAMPLES // (rules.steps * len(rules.channels)))
    yield from padded(brought, rules.steps, size)


def write(folder: Path, date: str, cases: Sequence[Case], blocks: Mapping[str, Any]) -> list[str]:
    """Lay recordings out in `folder` as NPY files and a table of their classes; the names of their
    records. Raises UserError if nothing says what records are called that are not of the one class."""
    rows = []
    for case in cases:
        said = later_labels(case.labels, blocks["aggregate_labels"])
        np.save(folder / f"{case.answer}.npy", case.samples.astype("<f4"), allow_pickle=False)
        row = {"file": f"{case.answer}.npy", "labels": json.dumps(said)}
        rows.append({**row, "rate": case.sampling_rate})
    pd.DataFrame(rows).to_csv(folder / TABLE, index=False, lineterminator="\n")
    return [incoming.packed(date, case.answer) for case in cases]


# ---------------------------------------------------------------- the table and its files


def _rows(source: Source, parameters: Download) -> tuple[pd.DataFrame, dict[str, int]]:
    """The rows whose files there are, with columns called by use, `path` of the file, `rate` and
    `unit`; and how many rows and files have no counterpart."""
    where = f"{source.path}: {parameters.table}"
    content = source.read(parameters.table)
    names = tables.names(content, where)
    for key, columns in parameters.columns.items():
        for name in columns:
            if name not in names:
                raise UserError(
                    f"{where} has no column {name}, which download.{key} names"
                    f"{names_there_are(name, names)}"
                )
    texts = list(dict.fromkeys(name for names in parameters.columns.values() for name in names))
    read = tables.read(content, where, [], texts)
    table = pd.DataFrame(
        {
            key: read.texts[columns[0]]
            for key, columns in parameters.columns.items()
            if key != "labels"
        }
    )
    for number, name in enumerate(parameters.label_columns):
        table[f"label {number}"] = read.texts[name]
    present = files.candidates(source, parameters.table)
    folder = parameters.table[: parameters.table.rfind("/") + 1]
    table["path"] = pd.Series(files.matched(table["file"].to_list(), present, folder), dtype=object)
    absent = table.loc[table["path"].isna(), "file"].to_list()
    moved = [
        row
        for row, path in zip(table["file"], table["path"], strict=True)
        if isinstance(path, str) and files.elsewhere(row)
    ]
    unnamed = sorted(set(present) - set(table["path"].dropna()))
    counts = {
        "rows": len(table),
        "rows_without_files": len(absent),
        "files_without_rows": len(unnamed),
    }
    if moved:
        counts["rows_with_paths_elsewhere"] = len(moved)
        warn(
            f"{len(moved)} rows name files by the way to them on another machine: the end of it is what "
            f"counts ({some(moved)})"
        )
    for reason, names in (("rows without files", absent), ("files without a row", unnamed)):
        if names:
            warn(f"{len(names)} {reason} are skipped: {some(names)}")
    table = table.dropna(subset=["path"])
    if table.empty:
        raise UserError(
            f"{where}: none of its {len(absent)} rows names a file that there is (download.file is the "
            f"column {parameters.file}, with {some(absent)}; files: {some(unnamed) or 'none'}): correct "
            f"download.file or the source"
        )
    if table["path"].duplicated().any():
        twice = table.loc[table["path"].duplicated(), "path"].iloc[0]
        raise UserError(f"{where}: {twice} has several rows: leave one of them")
    table["asked_rate"] = [
        _number(value, where, parameters.rate, name)
        for value, name in zip(_column(table, "rate"), table["path"], strict=True)
    ]
    table["asked_unit"] = _column(table, "unit")
    return table.reset_index(drop=True), counts


def _column(table: pd.DataFrame, name: str) -> list[str]:
    return table[name].to_list() if name in table else [""] * len(table)


def _number(value: str, where: str, column: str | None, name: str) -> float | None:
    try:
        number = float(value) if value else None
    except ValueError:
        number = 0.0
    if number is not None and not 0 < number < float("inf"):
        raise UserError(f"{where}: column {column} holds {value!r} for {name}: give a number of Hz")
    return number


def _read(
    source: Source, table: pd.DataFrame, parameters: Download, pack: PackWriter
) -> tuple[dict[str, files.Found], dict[str, str]]:
    """Read the files and add their samples to the pack; what was found of each without them, and why
    others cannot be used."""
    names = files.record_names(table["path"].to_list())
    found: dict[str, files.Found] = {}
    bad: dict[str, str] = {}
    known: dict[Any, Any] = {}
    asked = list(zip(table["path"], table["asked_rate"], table["asked_unit"], strict=True))
    for each in files.read(source, asked, tuple(_leads(parameters))):
        if each.problem:
            _skip(bad, each.name, each.problem, parameters)
            continue
        pack.add(_member(names[each.name]), each.npy)
        # Of thousands of files with the same channels, one tuple is kept.
        channels, units = (known.setdefault(names, names) for names in (each.channels, each.units))
        found[each.name] = replace(each, npy=b"", channels=channels, units=units)
    return found, bad


def _skip(bad: dict[str, str], name: str, reason: str, parameters: Download) -> None:
    """Add a file to those that are skipped. Raises UserError if these are too many."""
    bad[name] = reason
    if len(bad) <= NAMED:
        warn(f"skipped: {reason}")
    if len(bad) > parameters.max_bad_files:
        raise UserError(
            f"{len(bad)} files cannot be read or used ({some(bad)}), more than download.max_bad_files = "
            f"{parameters.max_bad_files}: {reason}; repair the source, or allow more"
        )


def _member(record: str) -> str:
    return f"recordings/{record}.npy"


# ---------------------------------------------------------------- the rules, and what is done by them


def _rules(
    found: dict[str, files.Found],
    parameters: Download,
    bad: dict[str, str],
    counts: dict[str, int],
) -> Rules:
    """What all files are brought to; those that cannot be are taken out of `found` and skipped."""
    if not found:
        raise UserError(
            f"no file of {parameters.source} can be used ({next(iter(bad.values()), 'there is none')}): "
            f"correct the source"
        )
    channels = _leads(parameters) or list(_most(each.channels for each in found.values()))
    rate = parameters.sampling_rate or _most(each.rate for each in found.values())
    voltage = _unit(found, channels)
    for name, each in list(found.items()):
        found[name] = each = _named(each, channels)
        if problem := _misfit(each, channels, rate, parameters.sampling_rate, voltage):
            del found[name]
            _skip(bad, name, f"{name}: {problem}", parameters)
    counts["files_skipped"] = len(bad)
    if not found:
        raise UserError(
            f"no file of {parameters.source} can be used ({next(iter(bad.values()))}): correct the "
            f"source, or download.leads"
        )
    _count_guesses(found, rate, voltage, counts, asked=bool(parameters.leads))
    lengths = [_steps(each, rate) for each in found.values()]
    if parameters.seconds is None:
        steps, times = Counter(lengths).most_common(1)[0]
        if times <= len(lengths) / 2:
            steps = int(np.median(lengths))
            warn(
                f"no length is that of most files: the median is taken, {steps} samples, unless "
                f"download.seconds says another"
            )
    elif rate is None:
        raise UserError(
            "download.seconds: no file says its sampling rate, so that seconds mean nothing: name a "
            "column as download.rate, or set download.sampling_rate"
        )
    else:
        steps = round(parameters.seconds * rate)
        if steps < 2:
            raise UserError(
                f"download.seconds: {parameters.seconds:g} s at {rate:g} Hz leave {steps} of a "
                f"recording's samples: make it longer"
            )
    label_columns = parameters.label_columns
    return Rules(channels, rate, steps, voltage or "as given", label_columns, parameters.separator)


def _leads(parameters: Download) -> list[str]:
    """The channels that are asked for, leads of ECGs as readers call them. Raises UserError for one that
    is asked for twice."""
    names = [leads.lead_name(name) or name for name in parameters.leads]
    if twice := next((name for name, times in Counter(names).items() if times > 1), None):
        raise UserError(f"download.leads names {twice} more than once: keep one of them")
    return names


def _named(each: files.Found, channels: list[str]) -> files.Found:
    """A file that names no channels with those of the data set, if it has as many; else as it is."""
    if each.named or len(each.channels) != len(channels):
        return each
    return replace(each, channels=tuple(channels))


def _most(values: Iterator[Any]) -> Any:
    """The most common value, None of several only if there is no other; of equally common ones the
    first."""
    counted = Counter(values)
    said = [(value, times) for value, times in counted.most_common() if value is not None]
    return said[0][0] if said else None


def _steps(each: files.Found, rate: float | None) -> int:
    """How many steps in time a file has at `rate`, as soxr counts them."""
    own = each.rate or rate
    if own == rate or not own or not rate:
        return each.steps
    return math.floor(each.steps * rate / own + 0.5)


def _unit(found: dict[str, files.Found], channels: list[str]) -> str | None:
    """The unit of most files that say one, of the first channel that each has of those wanted."""
    return _most(next(iter(_units(each, channels).values()), None) for each in found.values())


def _units(each: files.Found, channels: list[str]) -> dict[str, str]:
    """What a file says of the units of the channels, by name, and of the limb leads that others are
    derived from."""
    if set(channels) & set(leads.DERIVABLE) - set(each.channels):
        channels = [*channels, *leads.LIMBS]
    own = dict(zip(each.channels, each.units, strict=True)) if each.units else {}
    return {name: own[name] for name in channels if name in own}


def _misfit(
    each: files.Found,
    channels: list[str],
    rate: float | None,
    granted: float | None,
    unit: str | None,
) -> str | None:
    """Why a file cannot be brought to the rules; None if it can."""
    if not each.named and len(each.channels) != len(channels):
        return (
            f"it names no channels and has {len(each.channels)}, not {len(channels)}: use a file that "
            f"names them, or take its row out"
        )
    available = _available(each.channels, channels)
    if missing := [name for name in channels if name not in available]:
        there = listed(list(each.channels))
        return f"it has no {listed(missing)} among its channels ({there}): correct download.leads"
    other = {name: each for name, each in _units(each, channels).items() if each != unit}
    if unit and other:
        name = next(iter(other))
        return (
            f"its channel {name} is in {other[name]!r}, and a data set in one unit, that of most files "
            f"{unit!r}: convert it, or leave it out of download.leads"
        )
    if each.rate is None and rate is not None and granted is None:
        return (
            "nobody says its sampling rate, as others do: name a column as download.rate, or set "
            "download.sampling_rate, which is then taken for granted"
        )
    if each.rate and rate and not 1 / MOST_RESAMPLED <= rate / each.rate <= MOST_RESAMPLED:
        return f"its sampling rate of {each.rate:g} Hz is too far from {rate:g} Hz"
    return None


def _available(own: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """The channels of a file, and those that can be derived from them."""
    return leads.derived(np.zeros((1, len(own)), np.float32), own, wanted)[1]


def _count_guesses(
    found: dict[str, files.Found],
    rate: float | None,
    unit: str | None,
    counts: dict[str, int],
    *,
    asked: bool,
) -> None:
    """Count and warn of files of which something is taken for granted. Raises UserError where a unit
    cannot be what it is taken for."""
    doubtful = {name: each.cautions[0] for name, each in found.items() if each.cautions}
    if doubtful:
        counts["files_read_with_caution"] = len(doubtful)
        for name, caution in list(doubtful.items())[:NAMED]:
            warn(f"{name}: {caution}")
    unnamed = [name for name, each in found.items() if not each.named]
    if unnamed and (len(unnamed) < len(found) or asked):
        counts["channels_taken_for_granted"] = len(unnamed)
        warn(
            f"{len(unnamed)} files name no channels: those of the data set are taken for granted in its "
            f"order ({some(unnamed)})"
        )
    elif unnamed and min(len(each.channels) / each.steps for each in found.values()) > 1:
        shape = f"{found[unnamed[0]].steps} x {len(found[unnamed[0]].channels)}"
        if found[unnamed[0]].steps > 1:
            warn(
                f"files hold arrays of {shape}, taken for samples x channels: if they are channels x "
                f"samples, name the channels as download.leads"
            )
    unsaid = [name for name, each in found.items() if each.rate is None and rate]
    if unsaid:
        counts["sampling_rate_taken_for_granted"] = len(unsaid)
        warn(f"{len(unsaid)} files say no sampling rate: {rate:g} Hz is taken for granted")
    without = {name: each for name, each in found.items() if each.units is None}
    middle = np.median([each.range for each in without.values() if each.range] or [0])
    far = [n for n, e in without.items() if e.range and abs(np.log10(e.range / middle)) >= 2]
    if far:
        counts["ranges_far_from_others"] = len(far)
        warn(
            f"{len(far)} files that say no unit span 100 times more or less than the others, as if they "
            f"were in another one ({some(far)}): name a column with units, such as uV, as download.unit"
        )
    if unit is None:
        return
    if without:
        counts["unit_taken_for_granted"] = len(without)
        warn(f"{len(without)} files say no unit: {unit} is taken for granted ({some(without)})")
    odd = {n: e for n, e in without.items() if not PLAUSIBLE[0] <= e.range <= PLAUSIBLE[1]}
    if unit == files.VOLTAGE and odd:
        name, each = next(iter(odd.items()))
        raise UserError(
            f"{len(odd)} files say no unit, and their samples cannot be {unit}: those of {name} span "
            f"{each.range:g}: name a column with units, such as uV, as download.unit"
        )


def _described(
    table: pd.DataFrame,
    found: dict[str, files.Found],
    rules: Rules,
    parameters: Download,
    bad: dict[str, str],
    counts: dict[str, int],
) -> pd.DataFrame:
    """The table of records: names, what rows say, how to read them, and their quality; what was done is
    added to `counts`."""
    names = files.record_names(table["path"].to_list())
    table = table.loc[[path in found for path in table["path"]]].reset_index(drop=True)
    each = [found[path] for path in table["path"]]
    steps = np.array([_steps(one, rules.rate) for one in each])
    short, long = steps < rules.steps, steps > rules.steps
    reject_short = short & (parameters.shorter == "reject")
    rejected = reject_short | (long & (parameters.longer == "reject"))
    derived = [sum(name not in one.channels for name in rules.channels) for one in each]
    kept_columns = [key for key in ROLES if key in table] + [
        name for name in table if str(name).startswith("label ")
    ]
    records = [names[path] for path in table["path"]]
    first_of: dict[str, str] = {}
    alike = [
        first_of.setdefault(one.sum, record) for one, record in zip(each, records, strict=True)
    ]
    people = [record for record in records if PERSON.search(record)]
    if people:
        print(
            f"{len(people)} files are called as if by people: the names of files are kept as those of "
            f"records, so rename them if nobody may see these"
        )
    rows = pd.DataFrame({"record": records}).join(table.loc[:, kept_columns])
    rows["classes"] = ""  # of snapshots
    rows["channels"] = ["\t".join(one.channels) for one in each]
    rows["rate"] = [one.rate or rules.rate or 0.0 for one in each]
    rows["alike"] = alike
    rows["rejected"] = rejected.astype(int)
    for flag in FLAGS[:4]:
        rows[flag] = [_flagged(one, flag, rules.channels) for one in each]
    rows["duplicate"] = [a if a != r else "" for a, r in zip(alike, records, strict=True)]
    rows["short"] = [f"{s} of {rules.steps} samples" if s < rules.steps else "" for s in steps]
    if not len(rows) - rejected.sum():
        raise UserError(
            f"all {len(rows)} files are shorter or longer than download.seconds says ({rules.steps} "
            f"samples): change it, or set download.shorter to pad and download.longer to crop"
        )
    kinds = Counter(one.kind for one in each)
    counts |= {f"files_{kind}": kinds[kind] for kind in sorted(kinds)}
    counts |= {
        "resampled": sum(bool(one.rate and rules.rate and one.rate != rules.rate) for one in each),
        "files_with_derived_leads": sum(map(bool, derived)),
        "padded": int((short & ~rejected).sum()),
        "cropped": int((long & ~rejected).sum()),
        "rejected_too_short": int(reject_short.sum()),
        "rejected_too_long": int((rejected & long).sum()),
        "duplicates": sum(a != r for a, r in zip(alike, records, strict=True)),
    }
    return rows


def _flagged(each: files.Found, flag: str, channels: list[str]) -> str:
    """The channels of the data set in which a file is flat, clipped and so on, as text."""
    names = [each.channels[number] for number in (each.flags or {}).get(flag, [])]
    return ", ".join(name for name in names if name in channels)


def _add_snapshot(snapshot: incoming.Opened, rules: Rules, pack: PackWriter) -> pd.DataFrame:
    """Add the arrays of a snapshot, which are as models saw them; the rows of their records."""
    table = pd.read_csv(io.BytesIO(snapshot.source.read(TABLE)), dtype=str, keep_default_na=False)
    records = []
    for name in table["file"]:
        records.append(incoming.packed(snapshot.date, name.removesuffix(".npy")))
        pack.add(_member(records[-1]), snapshot.source.read(name))
    return pd.DataFrame(
        {
            "record": records,
            "classes": table["labels"],
            "channels": "\t".join(rules.channels),
            "rate": [float(rate or rules.rate or 0) for rate in table["rate"]],
            "alike": records,
            "rejected": 0,
        }
    )


def _brought(pack: Pack, row: Mapping[Hashable, Any], rules: Rules) -> np.ndarray:
    """The samples `[T, C]` of a record by the rules, T at most their number of steps."""
    record, rate, channels = row["record"], row["rate"], row["channels"].split("\t")
    samples = npy.read(bytes(pack.read(_member(record))), record, files.MOST).samples
    samples, channels = leads.derived(samples, channels, rules.channels)
    samples = samples[:, [channels.index(name) for name in rules.channels]]
    if rules.rate and rate != rules.rate:
        samples = resampled(*interpolated(samples), rate, rules.rate)
    return samples[: rules.steps].astype(np.float32, copy=False)


def _packed_rules(pack: Pack) -> Rules:
    return Rules(**json.loads(pack.text(RULES)))


@lru_cache(maxsize=1)  # normalize reads the same table once per split
def _packed(pack: Pack) -> pd.DataFrame:
    text = io.StringIO(pack.text(RECORDS))
    table = pd.read_csv(text, dtype=str, keep_default_na=False)
    return table.astype({"rate": float, "rejected": int})
