"""What recordings of an unknown layout, and the table that labels them, seem to be."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from beatline.common.errors import UserError, listed, names_there_are, shown
from beatline.datasets.recordings import files
from beatline.datasets.recordings.files import Found
from beatline.datasets.recordings.labels import FALSE, FOLDS, TRUE
from beatline.formats import cells, tables
from beatline.formats.leads import lead_name
from beatline.formats.recordings import EXTENSIONS
from beatline.sources.archives import Source

Rows = dict[str, list[str]]  # the texts of a table, by column
LOOKED_AT = 200  # files that are read
PTBXL = "ptbxl_database.csv"
TABLES = 50  # tables that are looked at, where recordings are tables themselves
MOST_CLASSES = 50
NORMAL = ("norm", "normal", "healthy", "control", "sinus", "sr", "nsr", "n", "negative", "ok", "0")
ROLES = {  # words in the names of columns; what a patient_age is comes before what patients are
    "age": ("age",),
    "sex": ("sex", "gender"),
    "time": ("time", "date", "datetime", "timestamp", "recorded"),
    "rate": ("rate", "fs", "hz", "frequency", "samplerate"),
    "unit": ("unit", "units"),
    "fold": ("fold", "split", "set", "subset", "partition"),
    "patient": ("patient", "subject", "participant", "person", "pid"),
}
SIGNAL = {"ecg", "signal", "audio", "sample", "sampling"}  # whose rates and units are meant
SURE_OF_RATE = {"fs", "sample", "sampling", "samplerate"}
IDENTIFIERS = {"id", "number", "no", "nr", "code", "pid"}
PEOPLE = {"name", "names", "vorname", "nachname", "surname", "firstname", "lastname",
          "first", "last"}  # fmt: skip
LABELS = ("label", "labels", "class", "classes", "diagnosis", "diagnoses", "dx", "target", "category",
          "rhythm", "finding", "findings", "condition", "annotation", "statement", "statements", "kind",
          "fault", "state", "y")  # fmt: skip
SEPARATORS = (";", "|", ",")
AROUND = "[]()'\" "  # what stands around lists and their labels
LONGEST_COMMENT, LONGEST_UNIT = 1000, 8  # characters
SHORT = re.compile(r"[\w -]{1,20}")  # a name of a channel that tells of nobody
DATE = re.compile(r"\d[\d _-]{4,}\d|(19|20)\d\d")


@dataclass
class Look:
    """What was seen of a source. `columns`: by the parameters of :class:`recordings.Download`; `labels`,
    `separator`: as there; `classes`: how many records have each; `unsure`: sentences on what was only
    guessed; `files`: those that were read; `rows` of the table, and how many of them name a file."""

    table: str
    columns: dict[str, str]
    labels: list[str]
    separator: str | None
    classes: Counter[str]
    several: bool
    rows: int
    matched: int
    candidates: int
    patients: int
    official: bool
    files: list[Found]
    unsure: list[str] = field(default_factory=list)

    @property
    def bad(self) -> list[Found]:
        """The files that cannot be read."""
        return [each for each in self.files if each.problem]

    def most(self, value: Callable[[Found], Any]) -> Any:
        """What most files that can be read have; None if none says."""
        counted = Counter(value(each) for each in self.files if not each.problem)
        counted.pop(None, None)
        return counted.most_common(1)[0][0] if counted else None

    @property
    def steps(self) -> int:
        """The time steps of most recordings."""
        return self.most(lambda each: each.steps)


def look(source: Source, table: str | None = None, labels: list[str] | None = None) -> Look:
    """Look at a source. Raises UserError if it has no table that names its files, once each, or none of
    its columns looks like labels."""
    if not (table or labels) and any(name.endswith(PTBXL) for name in source.names()):
        raise UserError(
            f"{source.path} is in PTB-XL's layout, which needs no block of its own: set "
            f"datasets.ptbxl.download.source to it (docs/data.md), or name a --table and --labels"
        )
    name, frame, column, others = _table(source, table)
    present = files.candidates(source, name)
    folder = name[: name.rfind("/") + 1]
    matched = files.matched(frame[column], present, folder)
    rows = {
        name: [value for value, path in zip(values, matched, strict=True) if path]
        for name, values in frame.items()
    }
    paths = list(filter(None, matched))
    if twice := [path for path, times in Counter(paths).items() if times > 1]:
        raise UserError(
            f"{source.path}: {name} has several rows for {len(twice)} files, such as {twice[0]}: leave "
            f"one row for each, with several labels as a;b"
        )
    unsure: list[str] = []
    if others:
        unsure.append(f"{listed(others)} name files too: one of them may be meant by --table")
    # Dates of patients are taken along by who names the column, and not by default.
    roles = _roles(_without(rows, [column, *(labels or [])]), unsure)
    dates = roles.pop("time", "")
    columns = {"file": column} | roles
    if labels:
        for label in labels:
            if label not in frame:
                raise UserError(
                    f"{name} has no column {label}{names_there_are(label, list(frame))}"
                )
    else:
        labels = _label_columns(_without(rows, [*columns.values(), dates]), name, unsure)
    separator = _separator(rows[labels[0]]) if len(labels) == 1 else None
    if len(labels) > 1:
        cells = zip(*(rows[label] for label in labels), strict=True)
        if of_none := sum(all(cell.lower() in FALSE for cell in each) for each in cells):
            unsure.append(
                f"{of_none} rows have 0 in all columns of labels: they are kept as examples of none; if "
                f"nobody has looked, set aggregate_labels.unlabelled to drop"
            )
    classes = _classes(rows, labels, separator)
    read = _read(source, paths, rows, columns, unsure)
    if all(each.problem for each in read):
        raise UserError(f"{source.path}: no file can be read: {read[0].problem}")
    folds = {FOLDS[value.lower()] for value in rows.get(columns.get("fold", ""), [])}
    if not any(each.rate for each in read):
        unsure.append("no file says its sampling rate: set download.sampling_rate if you know it")
    elif any(each.rate is None for each in read if not each.problem):
        unsure.append("some files say no sampling rate: that of the others is taken for granted")
    if hidden := {n for each in read if each.named for n in each.channels if not is_plain(n)}:
        unsure.append(
            f"{len(hidden)} names of channels are not written here, as they may tell of somebody: look "
            f"at the files, and correct download.leads if it is empty"
        )
    if not any(each.named for each in read):
        unsure.append("no file names its channels, which are numbered")
    for each in rows:
        if {*_words(each)} & {"fold", "split"} and each not in {*columns.values(), *labels}:
            unsure.append(
                f"the column {each} is not taken for a split, since it holds others than train, "
                f"validation and test: bring it to these, and name it as download.fold"
            )
    spelled = {}
    for label in classes:
        if (other := spelled.setdefault(" ".join(label.casefold().split()), label)) != label:
            unsure.append(
                f"the labels {other!r} and {label!r} differ in case or blanks alone: bring them together "
                f"by aggregate_labels.map"
            )
            break
    if not separator and len(labels) == 1 and (listing := _list_of_labels(classes)):
        unsure.append(
            f"labels such as {listing[0]!r} may be lists of several: if so, take brackets and quotes "
            f"away, and set download.separator to {listing[1]!r}, aggregate_labels.task to multilabel, "
            f"and the classes to those in the lists"
        )
    for role, key in (("age", "years"), ("rate", "Hz")):
        for each in rows:
            called = each not in labels and _is_called(role, each)
            if called and not _fits(role, each, rows[each]):
                unsure.append(
                    f"the column {each} is not taken as download.{role}, since not all that it holds are "
                    f"numbers of {key}: correct it, and name it there"
                )
    if "patient" not in columns:
        unsure.append("no column looks like patients: records of one could be in train and in test")
    return Look(
        table=name,
        columns=columns,
        labels=labels,
        separator=separator,
        classes=classes,
        several=bool(separator) or len(labels) > 1,
        rows=len(matched),
        matched=len(paths),
        candidates=len(present),
        patients=len({*rows.get(columns.get("patient", ""), ())} - {""}),
        official={"train", "test"} <= folds,
        files=read,
        unsure=unsure,
    )


def _read(
    source: Source, paths: list[str], rows: Rows, columns: dict[str, str], unsure: list[str]
) -> list[Found]:
    """What some files hold. A column of rates or units that most files contradict which say their own is
    taken out of `columns`, and `unsure` says so."""
    chosen = range(0, len(paths), max(1, len(paths) // LOOKED_AT))[:LOOKED_AT]
    asked: dict[str, list[Any]] = {"path": [paths[row] for row in chosen]}
    asked |= {"rate": [None] * len(chosen), "unit": [""] * len(chosen)}

    def read() -> list[Found]:
        return list(files.read(source, list(zip(*asked.values(), strict=True))))

    found = read()
    for key in ("rate", "unit"):
        if key not in columns:
            continue
        without, values = asked[key], rows[columns[key]]
        asked[key] = [_rate(values[row]) if key == "rate" else values[row] for row in chosen]
        again = read()
        pairs = [pair for pair in zip(found, again, strict=True) if not pair[0].problem]
        against = sum(bool(new.problem) for _, new in pairs)
        agreeing = sum(
            not new.problem and bool(old.rate if key == "rate" else old.units) for old, new in pairs
        )
        if against and against >= agreeing:
            asked[key] = without
            unsure.append(
                f"the column {columns.pop(key)} is left out as download.{key}: {against} of "
                f"{against + agreeing} files that say their {key} say another"
            )
        else:
            found = again
    return found


def _without(rows: Rows, names: Collection[str]) -> Rows:
    return {name: values for name, values in rows.items() if name not in names}


def _rate(value: str) -> float | None:
    try:
        return float(value) or None
    except ValueError:
        return None


def _table(source: Source, chosen: str | None) -> tuple[str, Rows, str, list[str]]:
    """The table of a source whose columns name most files, as texts, the column that does, and other
    tables that name some. Raises UserError if none does."""
    names = [name for name in source.names() if name.lower().endswith(tables.EXTENSIONS)]
    if chosen and chosen not in names:
        raise UserError(f"{source.path} holds no table {chosen}{names_there_are(chosen, names)}")
    # Of many tables, those with names of their own come before those that are numbered recordings.
    stems = Counter(re.sub(r"\d+", "0", name) for name in names)
    names.sort(key=lambda name: (stems[re.sub(r"\d+", "0", name)] > 3, name.count("/"), name))
    best: tuple[bool, int, str, Rows, str] | None = None
    lost: tuple[int, str, str, str] | None = None  # a table with paths that lead nowhere
    present: list[str] = []
    unread: list[UserError] = []
    naming: list[str] = []
    for name in islice([chosen] if chosen else names, TABLES):
        present = files.candidates(source, name)
        try:
            content, where = source.read(name), f"{source.path}: {name}"
            columns = tables.names(content, where)
            texts = tables.read(content, where, [], columns).texts
        except UserError as error:
            if chosen:
                raise
            unread.append(error)  # it may be a recording
            continue
        frame = {column: values.to_list() for column, values in texts.items()}
        folder = name[: name.rfind("/") + 1]
        for column in columns:
            values = frame[column]
            named = len(set(files.matched(values, present, folder)) - {None})
            unique = len(set(values)) >= len(values) / 2
            # Files with several rows each are told from labels that are called as some file.
            if not unique and named <= len(present) / 2:
                named = 0
            if named and name not in naming:
                naming.append(name)
            if named and (best is None or (unique, named) > best[:2]):
                best = unique, named, name, frame, column
            paths = list(filter(_looks_like_path, values))
            if paths and (lost is None or len(paths) > lost[0]):
                lost = len(paths), name, column, paths[0]
    if best is None and lost and present:
        example = next((name for name in present if name not in names), present[0])
        raise UserError(
            f"{source.path}: the column {lost[2]} of {lost[1]} holds {lost[0]} paths, none of which "
            f"leads to a file in it (the first is {shown(lost[3], 200)}, and a file that there is "
            f"{example}): write paths from {source.path} or from the table's folder"
        )
    if best is None and len(unread) == 1:
        raise unread[0]
    if best is None:
        raise UserError(
            f"{source.path} holds no table ({', '.join(tables.EXTENSIONS)}) with a column that names its "
            f"files: write one with a row for each file and the columns file and label (what has the "
            f"layout of DCASE's sounds or of the UCR archive needs none: docs/data.md)"
        )
    return *best[2:], [name for name in naming if name != best[2]]


def _looks_like_path(value: str) -> bool:
    parts = bool(re.search(r"[/\\]", value) and re.search("[a-z]", value, re.I))  # and no date
    return parts or value.lower().endswith(EXTENSIONS)


def _roles(rows: Rows, unsure: list[str]) -> dict[str, str]:
    """The columns that say more of a record, by the parameter that names them; what is guessed, or left
    out since it names people, is added to `unsure`."""
    found: dict[str, str] = {}
    for role in ROLES:
        fitting = [
            name
            for name, values in rows.items()
            if name not in found.values() and _fits(role, name, values)
        ]
        if fitting:
            found[role] = min(fitting, key=lambda name: _order(role, name))
    patient, rate = found.get("patient", ""), found.get("rate", "")
    if len(_words(patient)) > 1 and not set(_words(patient)) & IDENTIFIERS:
        unsure.append(f"the column {patient} is taken for patients")
    if rate and not set(_words(rate)) & SURE_OF_RATE:
        unsure.append(f"the column {rate} is taken for the sampling rate")
    people = [n for n in rows if {*_words(n)} & PEOPLE and {*_words(n)} & {*ROLES["patient"]}]
    if people and not patient:
        unsure.append(
            f"the column {people[0]} is left out as download.patient, since names of people would be "
            f"in data/: add a column with a number for each"
        )
    return found


def _fits(role: str, name: str, values: list[str]) -> bool:
    """Whether a column may be that of a role, by its name and values."""
    words, own = set(_words(name)), set(ROLES[role])
    if not words & own or (role in ("time", "unit", "age", "sex") and len(words) > 2):
        return False
    others, numbers = words - own, [_rate(value) for value in values if value]
    if role == "fold":
        return set(map(str.lower, values)) <= set(FOLDS)
    if role == "age":
        years = (cells.number(value, "," if "," in value else ".") for value in values)
        return any(age and age > 0 for age in years)
    if role == "rate":
        return (
            _is_called(role, name)
            and bool(numbers)
            and all(number is not None and 0 < number < float("inf") for number in numbers)
        )
    if role == "unit":  # and no care_unit, nor the number of a machine
        return others <= SIGNAL | {"voltage", "amplitude"} and not any(numbers)
    if role == "patient":
        taken = {word for key, each in ROLES.items() if key != role for word in each}
        return not others & (taken | PEOPLE | set(LABELS))
    return True


def _is_called(role: str, name: str) -> bool:
    """Whether a column has the name of ages, or of sampling rates: and no heart_rate, nor the
    frequency of a filter."""
    words = set(_words(name))
    if role == "age":
        return bool(words & set(ROLES[role])) and len(words) <= 2
    meant = words == {"rate"} or words & (SURE_OF_RATE | {"hz"})
    return bool(meant) and words - set(ROLES[role]) <= SIGNAL


def _order(role: str, name: str) -> tuple[bool, int]:
    """What the columns that fit a role are sorted by, the best first."""
    best = {"patient": IDENTIFIERS, "rate": SURE_OF_RATE | {"hz"}}.get(role, set())
    words = _words(name)
    return not best & set(words), len(words)


def _words(name: str) -> list[str]:
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return re.findall(r"[^\W\d_]+", name.lower())


def _label_columns(rows: Rows, table: str, unsure: list[str]) -> list[str]:
    """The column that holds labels, or those with 0 and 1; what is guessed is added to `unsure`."""
    bits = {*TRUE[:2], *FALSE[:2], ""}
    flags = [name for name, values in rows.items() if set(map(str.lower, values)) <= bits]
    flags = [name for name in flags if len(set(rows[name])) > 1]
    called = [name for name in rows if set(_words(name)) & set(LABELS)]
    for name in called:
        classes = _classes(rows, [name], _separator(rows[name]))
        if name not in flags and 1 < len(classes) <= MOST_CLASSES:
            return [name]
    if len(flags) > 1:
        unsure.append(f"the columns {listed(flags)} hold 0 and 1 and are taken for classes")
        return flags
    if len(flags) == 1 and (flags[0] in called or not called):
        if flags[0] not in called:
            unsure.append(f"the column {flags[0]} is taken for the label, as the one with 0 and 1")
        return flags
    personal = PEOPLE | {*ROLES["patient"], *ROLES["time"], "birth"}
    for name in called:
        if len(classes := _classes(rows, [name], None)) == 1:
            raise too_few_classes(table, [name], classes)
    few = [
        name
        for name, values in _without(rows, [n for n in rows if {*_words(n)} & personal]).items()
        if 1 < len(set(values)) <= min(20, len(values) / 3)
    ]
    if few:
        unsure.append(f"the column {few[0]} is taken for the label, though it is not called so")
        return few[:1]
    raise UserError(
        f"none of the columns of {table} looks like labels (columns: {listed(list(rows))}): name it by "
        f"--labels"
    )


def too_few_classes(table: str, labels: list[str], classes: Counter[str]) -> UserError:
    there_are = [label for label, times in classes.items() if times]
    if not there_are or len(labels) > 1:
        return UserError(
            f"{table}: {listed(labels)} hold {listed(there_are) or 'no label'}, and two classes are "
            f"needed: name other columns by --labels"
        )
    name, label = (shlex.quote(shown(word)) for word in (labels[0], there_are[0]))
    return UserError(
        f"{table}: all labels in the column {name} are {label}, and two classes are needed: use "
        f"`--labels {name} --anomaly {label}` to find what is unlike them, or name another column by "
        f"--labels"
    )


def _separator(values: list[str]) -> str | None:
    """What stands between the labels of a column with lists, if it holds any."""
    single = len(set(values) - {""})
    for separator in SEPARATORS:
        if any(separator in value for value in values):
            parts = {part.strip() for value in values for part in value.split(separator)} - {""}
            return separator if len(parts) < max(single, 3) else None
    return None


def _list_of_labels(classes: Collection[str]) -> tuple[str, str] | None:
    """A label that looks like a list of others, and what separates them; None if there is none."""
    alone = {label.strip(AROUND) for label in classes}
    for separator in (*SEPARATORS, "/", "+", "&", " "):
        lists = {
            label: [part.strip(AROUND) for part in label.split(separator)]
            for label in classes
            if separator in label
        }
        times = Counter(part for parts in lists.values() for part in {*parts})
        for label, parts in lists.items():
            # Two words that stand in several labels may be those of names, as in `sinus rhythm`.
            if all(part in alone or (times[part] > 1 and separator != " ") for part in parts):
                return label, separator
    return None


def _classes(rows: Rows, labels: list[str], separator: str | None) -> Counter[str]:
    counted: Counter[str] = Counter()
    if len(labels) > 1:
        return Counter({n: sum(value.lower() in TRUE for value in rows[n]) for n in labels})
    for value in rows[labels[0]]:
        counted.update(tables.text(p) for p in (value.split(separator) if separator else [value]))
    del counted[""]
    return Counter(dict(counted.most_common()))


def is_plain(channel: str) -> bool:
    """Whether the name of a channel is one, and not what a device writes of a patient in its place."""
    short = SHORT.fullmatch(channel) and not DATE.search(channel)
    return bool(short) or (len(channel) <= 30 and lead_name(channel) is not None)


def plausible_unit(unit: str) -> str:
    """A unit, if it can be one."""
    return unit if len(unit) <= LONGEST_UNIT and not DATE.search(unit) else "unknown"
