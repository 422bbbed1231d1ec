"""Write the block of params.yaml for recordings of one's own, from a look at them.

`beatline new dataset FOLDER` looks at a folder (or a ZIP or tar archive) with recordings and a table that
labels them: formats, channels, sampling rates, lengths, classes, patients. It adds a data set of module
`recordings` and the training of a model to params.yaml, says in comments what it found and what it only
guessed, and changes no other line.
"""

from __future__ import annotations

import argparse
import re
import shlex
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from beatline.commands import validate
from beatline.common import params
from beatline.common.errors import UserError, listed, names_there_are, shown
from beatline.common.files import replacing
from beatline.datasets import by_number
from beatline.datasets.recordings import files
from beatline.datasets.recordings.files import Found
from beatline.datasets.recordings.labels import FALSE, FOLDS, TRUE
from beatline.formats import tables
from beatline.formats.leads import lead_name
from beatline.formats.recordings import EXTENSIONS
from beatline.sources.archives import Source, open_source

Rows = dict[str, list[str]]  # the texts of a table, by column
LOOKED_AT = 200  # files that are read
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
WINDOW = 2.5  # s of a recording that a network looks at, as for PTB-XL
LONGEST = 500  # steps that it looks at as a whole
LONGEST_COMMENT, LONGEST_UNIT = 1000, 8  # characters
SHORT = re.compile(r"[\w -]{1,20}")  # a name of a channel that tells of nobody
DATE = re.compile(r"\d[\d _-]{4,}\d|(19|20)\d\d")
PASSES = 40_000  # recordings that a training sees about, so that it takes minutes


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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the folder, and what cannot be guessed."""
    parser.add_argument("what", choices=["dataset"])
    parser.add_argument("source", metavar="FOLDER", help="a folder or an archive with recordings")
    parser.add_argument("--name", help="of the data set (default: that of the folder)")
    parser.add_argument("--table", help="the path in FOLDER of the table, if it is not found")
    parser.add_argument("--labels", help="the column with labels, or several with 0 and 1: a,b,c")
    parser.add_argument(
        "--anomaly", metavar="NORMAL", help="learn only records with this label, to find all others"
    )


def run(options: argparse.Namespace) -> int:
    """Write the block; say what was found and what to run. Raises UserError if it cannot be told."""
    text = params.PATH.read_text() if params.PATH.exists() else ""
    content = params.load()
    path = Path(options.source)
    if not path.exists():
        raise UserError(f"{path} is missing: name a folder or an archive with recordings")
    name = (
        options.name or re.sub(r"[^A-Za-z0-9_-]+", "_", path.name.split(".")[0]).strip("_").lower()
    )
    if not re.fullmatch(params.NAME, name):
        raise UserError(
            f"{name!r} is no name of a data set: give letters, digits, _ and - by --name"
        )
    if name in content["datasets"] or any(name in (on or {}) for on in content["train"].values()):
        raise UserError(f"{params.PATH} has a data set {name} already: give another --name")
    with open_source(path) as source:
        seen = look(source, options.table, options.labels and options.labels.split(","))
    normal: str | None = options.anomaly
    normal = normal or next((c for c in seen.classes if c.lower() in NORMAL), None)
    if len(seen.classes) == 2 and not (normal or seen.several):
        seen.unsure.append(
            f"{max(seen.classes)} is taken for what is to be found, as no label is known as normal: if "
            f"it is the normal one, set aggregate_labels.normal to it"
        )
    if normal and normal not in seen.classes:
        raise UserError(
            f"--anomaly {normal}: no record has that label{names_there_are(normal, seen.classes)}"
        )
    if not options.anomaly and sum(times > 0 for times in seen.classes.values()) < 2:
        raise _too_few_classes(seen.table, seen.labels, seen.classes)
    _check_writable([*seen.classes, *seen.labels, *seen.columns.values(), seen.table])
    source_path = path if not path.is_absolute() else path.resolve()
    model = "autoencoder" if options.anomaly else "mlp" if seen.most(_steps) == 1 else "cnn"
    data = dataset_block(name, source_path, seen, normal, anomaly=bool(options.anomaly))
    training = training_block(name, model, seen)
    changed = inserted(text, ["datasets"], data)
    changed = inserted(changed, ["train", model], training)
    validate.validate(checked(changed))
    with replacing(params.PATH) as beside:
        beside.write_text(changed)
    print("\n".join(line.strip().removeprefix("# ") for line in _found(name, seen)))
    if seen.bad:
        print(f"such as: {shown(seen.bad[0].problem, LONGEST_COMMENT)}")
    print(f"\nwritten into {params.PATH}: datasets.{name} and train.{model}.{name}")
    print("Look at the comments there, then run")
    print(f"  make repro ONLY={name}    # or: beatline repro --glob '*@{name}'")
    print("  make repro && make serve   # with the report of all data sets, and the served model")
    return 0


# ---------------------------------------------------------------- what there is


def look(source: Source, table: str | None = None, labels: list[str] | None = None) -> Look:
    """Look at a source. Raises UserError if it has no table that names its files, once each, or none of
    its columns looks like labels."""
    name, frame, column = _table(source, table)
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
    classes = _classes(rows, labels, separator)
    read = _read(source, paths, rows, columns, unsure)
    if all(each.problem for each in read):
        raise UserError(f"{source.path}: no file can be read: {read[0].problem}")
    folds = {FOLDS[value.lower()] for value in rows.get(columns.get("fold", ""), [])}
    if not any(each.rate for each in read):
        unsure.append("no file says its sampling rate: set download.sampling_rate if you know it")
    elif any(each.rate is None for each in read if not each.problem):
        unsure.append("some files say no sampling rate: that of the others is taken for granted")
    if hidden := {n for each in read if each.named for n in each.channels if not _is_plain(n)}:
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
        patients=len(set(rows.get(columns.get("patient", ""), []))),
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


def _table(source: Source, chosen: str | None) -> tuple[str, Rows, str]:
    """The table of a source whose columns name most files, as texts, and the column that does. Raises
    UserError if none does."""
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
            f"files: write one with a row for each file and the columns file and label"
        )
    return best[2:]


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
        return any(numbers)
    if role == "rate":  # and no heart_rate, nor the frequency of a filter
        meant = words == {"rate"} or words & (SURE_OF_RATE | {"hz"})
        return bool(meant and others <= SIGNAL and numbers) and all(
            number is not None and 0 < number < float("inf") for number in numbers
        )
    if role == "unit":  # and no care_unit, nor the number of a machine
        return others <= SIGNAL | {"voltage", "amplitude"} and not any(numbers)
    if role == "patient":
        taken = {word for key, each in ROLES.items() if key != role for word in each}
        return not others & (taken | PEOPLE | set(LABELS))
    return True


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
            raise _too_few_classes(table, [name], classes)
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


def _too_few_classes(table: str, labels: list[str], classes: Counter[str]) -> UserError:
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


def _classes(rows: Rows, labels: list[str], separator: str | None) -> Counter[str]:
    counted: Counter[str] = Counter()
    if len(labels) > 1:
        return Counter({n: sum(value.lower() in TRUE for value in rows[n]) for n in labels})
    for value in rows[labels[0]]:
        counted.update(tables.text(p) for p in (value.split(separator) if separator else [value]))
    del counted[""]
    return Counter(dict(counted.most_common()))


def _is_plain(channel: str) -> bool:
    """Whether the name of a channel is one, and not what a device writes of a patient in its place."""
    short = SHORT.fullmatch(channel) and not DATE.search(channel)
    return bool(short) or (len(channel) <= 30 and lead_name(channel) is not None)


def _unit(unit: str) -> str:
    """A unit, if it can be one."""
    return unit if len(unit) <= LONGEST_UNIT and not DATE.search(unit) else "unknown"


def _check_writable(texts: Collection[str]) -> None:
    """Raise UserError for a label or name that would not be the same in YAML."""
    for text in texts:
        if text.isprintable():
            continue
        if YAML(typ="safe", pure=True).load("\n".join(_yaml({"text": text}, {})))["text"] != text:
            raise UserError(
                f"{text!r} holds a control character that {params.PATH} cannot hold: take it out of the "
                f"table"
            )


def _steps(each: Found) -> int:
    return each.steps


# ---------------------------------------------------------------- what is written


def _found(name: str, seen: Look) -> list[str]:
    """Lines of comments on what there is; params.yaml is in Git, so that they tell of nobody."""
    good = [each for each in seen.files if not each.problem]

    def counted(values: list[Any]) -> str:
        common = Counter(values).most_common(4)
        more = f" and {len(set(values)) - 4} others" if len(set(values)) > 4 else ""
        if len(common) == 1:
            return str(common[0][0])
        return ", ".join(f"{value} ({times})" for value, times in common) + more

    lengths = [
        f"{each.steps / each.rate:g} s" if each.rate else f"{each.steps} samples" for each in good
    ]
    channels = [
        listed(plain := list(filter(_is_plain, each.channels)))
        + (f" and {more} not shown" if (more := len(each.channels) - len(plain)) else "")
        for each in good
    ]
    units = [
        ", ".join(sorted(set(map(_unit, each.units)))) if each.units else "not said"
        for each in good
    ]
    flags = Counter(flag for each in good for flag in each.flags or {})
    classes = ", ".join(f"{label} {times}" for label, times in seen.classes.most_common(12))
    lines = [
        f"{name}: what `beatline new dataset` found, to be checked",
        f"table: {seen.rows} rows, {seen.matched} of which name one of {seen.candidates} files",
        f"formats: {counted([each.kind for each in good])}, of {len(seen.files)} files that were read",
        f"channels: {counted(channels)}",
        f"sampling rate: {counted([f'{each.rate:g} Hz' if each.rate else 'not said' for each in good])}",
        f"length: {counted(lengths)}",
        f"unit: {counted(units)}",
        f"classes: {classes}"
        + (f" and {len(seen.classes) - 12} more" if len(seen.classes) > 12 else ""),
        f"patients: {seen.patients or 'not known'}",
    ]
    if flags:
        lines.append("quality: " + ", ".join(f"{n} {flag}" for flag, n in flags.items()))
    if seen.bad:
        lines.append(f"{len(seen.bad)} files cannot be read, such as {seen.bad[0].name}")
    lines += [f"NOT SURE: {sentence}" for sentence in seen.unsure]
    return [f"# {shown(' '.join(line.split()), LONGEST_COMMENT)}" for line in lines]


def dataset_block(
    name: str, source: Path, seen: Look, normal: str | None, *, anomaly: bool
) -> list[str]:
    """The lines of `datasets.<name>`."""
    rate = seen.most(lambda each: each.rate)
    steps, channels = seen.most(_steps), seen.most(lambda e: e.channels if e.named else None)
    download: dict[str, Any] = {
        "source": source.as_posix(),
        "sha256": None,
        "table": seen.table,
        "file": seen.columns["file"],
        "labels": seen.labels if len(seen.labels) > 1 else seen.labels[0],
        "separator": seen.separator,
        **seen.columns,
        "leads": list(channels) if channels and all(map(_is_plain, channels)) else [],
        "sampling_rate": rate,
        "seconds": steps / rate if rate else None,
        "shorter": "pad",
        "longer": "crop",
        "max_bad_files": max(20, seen.matched // 100),
    }
    labels: dict[str, Any] = {
        "map": {},
        "classes": sorted(seen.classes, key=by_number),
        "drop": [],
        "normal": normal,
    }
    if anomaly:
        labels |= {"task": "anomaly"}
    elif seen.several:
        labels |= {"task": "multilabel", "unlabelled": "drop"}
    else:
        labels |= {"task": "binary" if len(seen.classes) == 2 else "multiclass"}
    labels |= {"min_records": 10 if seen.matched >= 500 else 3, "quality": {"drop": []}}
    block = {
        "module": "recordings",
        "download": download,
        "aggregate_labels": labels,
        "split": {
            "method": "official" if seen.official else "stratified",
            "by": "patient" if "patient" in seen.columns else "record",
            "train": 0.7,
            "validation": 0.15,
            "test": 0.15,
            "seed": 1,
        },
        "normalize": {
            "recordings": f"data/raw/{name}.zip",
            "per": "channel",
            "invalid": "median" if steps == 1 else "mean",
        },
    }
    comments = {
        "sampling_rate": "Hz; others are resampled to it",
        "seconds": "the length; what is shorter",
        "shorter": "is filled up: pad | reject",
        "longer": "is cut: crop | reject",
        "max_bad_files": "so many are skipped; more are an error",
        "task": "multilabel | multiclass | binary | anomaly",
        "normal": "the label of what is normal, if any",
        "min_records": "a class with fewer is left out",
    }
    return ["", *_found(name, seen), *_yaml({name: block}, comments)]


def training_block(name: str, model: str, seen: Look) -> list[str]:
    """The lines of `train.<model>.<name>`: a small network, for minutes on two cores."""
    rate, steps = seen.most(lambda each: each.rate), seen.most(_steps)
    epochs = min(30, max(5, PASSES // max(1, seen.matched)))
    optimizer = {"name": "adamw", "learning_rate": 0.01, "weight_decay": 0.01}
    block: dict[str, Any]
    if model == "mlp":
        block = {
            "architecture": {"dense": [128, 64], "batch_norm": True, "dropout": 0.3},
            "augment": {"noise": 0.1},
            "optimizer": {"name": "adamw", "learning_rate": 0.003, "weight_decay": 0.05},
        }
    elif model == "autoencoder":
        block = {
            "architecture": {"dimensions": 1, "filters": [16, 32, 64, 64, 8], "kernel": 5},
            "optimizer": {"name": "adamw", "learning_rate": 0.003, "weight_decay": 0.0},
        }
    else:
        block = {
            "architecture": {
                "dimensions": 1,
                "blocks": "residual",
                "stem_kernel": 7,
                "filters": [32, 32, 64],
                "kernels": [5, 3],
                "strides": [2, 2, 2] if steps >= 64 else [1, 1, 2],
                "pooling": "average_max",
                "dropout": 0.3,
            },
            "optimizer": optimizer,
        }
    if model != "mlp" and steps > LONGEST:
        window = round(WINDOW * rate) if rate and rate >= 50 else LONGEST // 2
        block["windows"] = {"length": min(steps, max(64, window))}
    multiclass = model == "cnn" and not seen.several and len(seen.classes) > 2
    monitor = "loss" if model != "cnn" else "accuracy" if multiclass else "auc"
    block |= {"epochs": epochs, "batch_size": 64 if seen.matched >= 500 else 16, "monitor": monitor}
    return _yaml({name: block}, {})


def _yaml(content: dict[str, Any], comments: dict[str, str]) -> list[str]:
    """Lines of YAML; lists in blocks and without a comment beside them, since DVC moves such comments."""
    stream = StringIO()
    yaml = YAML()
    yaml.width = 1000
    yaml.representer.add_representer(
        type(None), lambda r, _: r.represent_scalar("tag:yaml.org,2002:null", "")
    )
    yaml.dump(content, stream)
    lines = []
    for line in stream.getvalue().splitlines():
        line = line.rstrip()
        key = re.match(r" *([a-z_]+):", line)
        comment = comments.get(key[1]) if key else None
        lines.append(f"{line:<30} # {comment}" if comment else line)
    return lines


def inserted(text: str, place: Sequence[str], lines: Sequence[str]) -> str:
    """The text of params.yaml with `lines` at the end of the block at `place`, indented as what is there;
    all lines that are there stay. Raises UserError if that block is not written in lines."""
    content = YAML().load(text)
    own = text.splitlines()
    block, start, end, indent = content, 0, len(own), ""
    for depth, key in enumerate(place):
        if key not in block:  # such as a model that nothing is trained by yet
            lines = [f"{key}:", *(f"  {line}" if line else "" for line in lines)]
            break
        keys = list(block)
        after = keys[keys.index(key) + 1 :]
        start = block.lc.key(key)[0]
        end = block.lc.key(after[0])[0] if after else end
        block = block[key]
        if not isinstance(block, CommentedMap) or not block or block.fa.flow_style():
            raise UserError(
                f"{params.PATH}: {'.'.join(place[: depth + 1])} is empty or written in braces: write "
                f"it in lines, an entry below the other"
            )
        indent = " " * block.lc.key(next(iter(block)))[1]
    else:
        indent = " " * block.lc.key(next(iter(block)))[1]
    while end > start + 1 and (not own[end - 1].strip() or _is_outer_comment(own[end - 1], indent)):
        end -= 1
    added = [f"{indent}{line}" if line else "" for line in lines]
    return "\n".join([*own[:end], *added, *own[end:]]) + "\n"


def _is_outer_comment(line: str, indent: str) -> bool:
    """Whether a line is a comment on what comes behind the block."""
    return line.lstrip().startswith("#") and len(line) - len(line.lstrip()) < len(indent)


def checked(text: str) -> dict[str, Any]:
    """The content of params.yaml as it would be. Raises UserError if it is not valid."""
    beside = params.PATH.with_name(".params.new.yaml")
    try:
        beside.write_text(text)
        return params.load(beside)
    finally:
        beside.unlink(missing_ok=True)
