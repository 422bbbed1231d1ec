"""Recordings from production join a data set: they come out as they went in, and nobody else's split
changes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from beatline import datasets
from beatline.common import params, sums
from beatline.common.errors import UserError
from beatline.common.files import sha256
from beatline.datasets import Labels
from beatline.formats.mnist import idx
from beatline.preprocessing import splitting
from beatline.simulators.ecg import simulator
from beatline.sources import incoming
from beatline.sources.incoming import Case
from beatline.sources.pack import Pack, PackWriter
from tests import parameters

DATE = "2026-03-01"
SHARES = {"train": 0.7, "validation": 0.15, "test": 0.15}


@dataclass(frozen=True)
class Kind:
    """A data set's module with a source of its own, the shape and rate of a recording, the resolution of
    the files it is kept in, and labels that experts give."""

    module: str
    block: dict[str, Any]
    make: Callable[[Path], Path]
    shape: tuple[int, int]
    rate: float | None
    resolution: float
    labels: tuple[str, str]


def ecgs(folder: Path) -> Path:
    simulator.simulate(folder, records=60, seed=1, sampling_rate=100)
    return folder


def series(folder: Path) -> Path:
    values = np.random.default_rng(1).normal(size=(60, 12)).round(3)
    lines = ["\t".join(map(str, [1 + number % 3, *row])) for number, row in enumerate(values)]
    for part, rows in (("TRAIN", lines[:40]), ("TEST", lines[40:])):
        (folder / f"ECG5000_{part}.tsv").write_text("\n".join(rows))
    return folder


def digits(folder: Path) -> Path:
    random = np.random.default_rng(1)
    for part, count in (("train", 60), ("t10k", 30)):
        images = random.integers(0, 256, (count, 28, 28))
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(np.arange(count) % 3))
    return folder


def rows(folder: Path, kinds: Sequence[str] = ("ill", "well", "well")) -> Path:
    table = pd.DataFrame(np.random.default_rng(1).normal(size=(60, 4)), columns=[*"abcd"])
    table.insert(0, "kind", [*kinds] * 20)
    table.insert(1, "patient", [f"p{number // 2}" for number in range(60)])
    table.insert(2, "name", [f"n{number}" for number in range(60)])
    table.to_csv(folder / "table.csv", index=False)
    return folder / "table.csv"


def block(name: str, **download: Any) -> dict[str, Any]:
    content = parameters.content()["datasets"][name]
    return {**content, "download": content["download"] | download}


TABLE = {
    "module": "table",
    "download": {
        "sha256": None,
        "label": "kind",
        "features": [],
        "ignore": [],
        "record": "name",
        "group": "patient",
        "fold": None,
    },
    "aggregate_labels": {
        "values": [],
        "normal": "well",
        "duplicates": "error",
        "min_records": 3,
    },
    "split": {"method": "stratified", "by": "patient", **SHARES, "seed": 1},
}


def detection(**chosen: Any) -> Kind:
    """A table with 0 for normal rows, for a detector: experts say `normal` and `anomaly`."""
    labels = TABLE["aggregate_labels"] | {"target": "anomaly", "normal": 0} | chosen
    content = TABLE | {"aggregate_labels": labels}
    make = partial(rows, kinds=("1", "0", "0"))
    return Kind("table", content, make, (1, 4), None, 0, ("normal", "anomaly"))


def named_like_columns() -> Kind:
    """A table with labels that are also the names of columns, so that classes are called otherwise."""
    content = TABLE | {"aggregate_labels": TABLE["aggregate_labels"] | {"normal": None}}
    make = partial(rows, kinds=("normal", "class normal", "snapshot"))
    labels = ("class normal", "class class normal")
    return Kind("table", content, make, (1, 4), None, 0, labels)


MNIST = {
    "module": "mnist",
    "download": {"sha256": None},
    "aggregate_labels": {"min_records": 3},
    "split": {"method": "official", "by": "record", **SHARES, "seed": 1},
}
CLASSES = block("ecg5000")
CLASSES["aggregate_labels"] = CLASSES["aggregate_labels"] | {"target": "classes"}


def ecg_task(task: str, *labels: str) -> Kind:
    content = block("ptbxl")
    changes = {"task": task, "classes": [], "min_records": 3}
    content["aggregate_labels"] = content["aggregate_labels"] | changes
    return Kind("ptbxl", content, ecgs, (1000, 12), 100, 1e-3, (labels[0], labels[1]))


KINDS = {
    "subclass": ecg_task("subclass", "NORM", "IMI"),
    "rhythm": ecg_task("rhythm", "SR", "AFIB"),
    "all": ecg_task("all", "SR", "NDT"),
    "ptbxl": Kind("ptbxl", block("ptbxl"), ecgs, (1000, 12), 100, 1e-3, ("NORM", "MI")),
    "ecg5000": Kind("ucr", block("ecg5000"), series, (12, 1), None, 0, ("", "anomaly")),
    "classes": Kind("ucr", CLASSES, series, (12, 1), None, 0, ("1", "2")),
    "mnist": Kind("mnist", MNIST, digits, (28, 28), None, 0.5 / 255, ("0", "2")),
    "table": Kind("table", TABLE, rows, (1, 4), None, 0, ("", "ill")),
    "detection": detection(),
    "detection of values": detection(values=[0, 1]),
    "named like columns": named_like_columns(),
}


def cases_of(kind: Kind, count: int = 6) -> list[Case]:
    """Recordings of three patients, two each, with either label in turn."""
    random = np.random.default_rng(5)
    values = random.uniform(0, 1, (count, *kind.shape)).astype(np.float32)
    units = [f"someone {number // 2}" for number in range(count)]
    return [
        Case(
            answer=f"{number:032x}",
            moment=f"2026-03-01T0{number}:00:00+00:00",
            entity=units[number],
            group=units[number],
            labels=[each for each in [kind.labels[number % 2]] if each],
            samples=values[number],
            sampling_rate=kind.rate,
            fold=incoming.fold_of(units[number], SHARES),
        )
        for number in range(count)
    ]


def snapshot(kind: Kind, cases: list[Case], folder: Path) -> dict[str, Any]:
    """A snapshot of the cases, as params.yaml names it."""
    folder.mkdir(parents=True)
    module = datasets.module(kind.module)
    blocks = {**kind.block, "channels": [*"abcd"]}
    blocks["download"] = {"source": "table.csv", **blocks["download"]}
    incoming.write_cases(folder, module.write(folder, folder.name, cases, blocks), cases)
    return {"folder": str(folder), "sha256": sha256(folder / "SHA256SUMS")}


def packed(
    kind: Kind, source: Path, named: list[dict[str, Any]], folder: Path
) -> tuple[Path, Labels]:
    """The pack of a source with snapshots, and its labels as the stages make them."""
    module, path = datasets.module(kind.module), folder / f"{len(named)}.zip"
    download = {**kind.block["download"], "source": str(source), "incoming": named}
    with PackWriter(path) as pack:
        manifest = module.download(
            params.validated(download, "download", module.Download), pack, folder
        )
        pack.add(datasets.MANIFEST, json.dumps(manifest.as_dict()).encode())
    chosen = params.validated(kind.block["aggregate_labels"], "labels", module.AggregateLabels)
    with Pack(path) as pack:
        labels = module.read_labels(pack, chosen)
        return path, replace(labels, table=incoming.annotated(pack, labels.table))


def split_of(kind: Kind, labels: Labels) -> pd.Series:
    how = params.validated(kind.block["split"], "split", splitting.Split)
    assigned = splitting.assign(labels.table, labels.classes, how, sections=labels.sections)
    return pd.Series(assigned.to_numpy(), labels.table["record"])


@pytest.mark.parametrize("name", KINDS)
def test_recordings_come_out_as_they_went_in(name: str, tmp_path: Path) -> None:
    """A challenger learns what was recorded, with the label that was given, beside the very same records
    in the very same splits as before."""
    kind = KINDS[name]
    (tmp_path / "own").mkdir()
    source, cases = kind.make(tmp_path / "own"), cases_of(kind)
    named = snapshot(kind, cases, tmp_path / DATE)
    _, before = packed(kind, source, [], tmp_path)
    path, after = packed(kind, source, [named], tmp_path)

    table = after.table.set_index("record")
    later = table.loc[table["snapshot"] == DATE]
    assert len(later) == len(cases)
    own = table.loc[table["snapshot"] == ""].drop(columns="snapshot").reset_index()
    pd.testing.assert_frame_equal(own[list(before.table)], before.table, check_dtype=False)
    with Pack(path) as pack:
        module = datasets.module(kind.module)
        read = np.concatenate([*module.read_recordings(pack, later.index.to_list())])
        cases_by_record = pd.read_csv(tmp_path / DATE / "cases.csv", dtype=str).set_index("record")
    answers = {case.answer: case for case in cases}
    for record, recording in zip(later.index, read, strict=True):
        case = answers[str(cases_by_record.loc[record, "answer"])]
        np.testing.assert_allclose(recording, case.samples, rtol=1e-6, atol=kind.resolution)
        assert later.loc[record, "group"] == case.group
        said = [each for each in after.classes if later.loc[record, each]]
        positive = set(case.labels) & set(after.classes)
        assert set(said) == positive

    splits = split_of(kind, after)
    pd.testing.assert_series_equal(
        splits.loc[before.table["record"].to_list()], split_of(kind, before)
    )
    assert dict(splits[later.index]) == dict(later["fold"])
    assert splitting.shared_groups(after.table.loc[:, "group"], splits) == 0


def test_experts_know_what_they_were_asked(tmp_path: Path) -> None:
    """Whoever named a rhythm has not said that there is no infarction: the snapshot is refused where
    another task is learned, by its date and the key to change; one made before there were tasks is of the
    superclasses."""
    (tmp_path / "own").mkdir()
    source = ecgs(tmp_path / "own")
    rhythm, superclass = KINDS["rhythm"], KINDS["ptbxl"]
    named = snapshot(rhythm, cases_of(rhythm), tmp_path / DATE)
    with pytest.raises(UserError, match=rf"{DATE} .*rhythm.*aggregate_labels\.task"):
        packed(superclass, source, [named], tmp_path)
    older = tmp_path / "2026-02-01"
    snapshot(superclass, cases_of(superclass), older)
    statements = pd.read_csv(older / "scp_statements.csv", index_col=0).drop(columns="task")
    statements.to_csv(older / "scp_statements.csv")
    sums.seal(older)
    named = {"folder": str(older), "sha256": sha256(older / "SHA256SUMS")}
    _, labels = packed(superclass, source, [named], tmp_path)
    assert labels.table["snapshot"].to_list().count(older.name) == 6
    with pytest.raises(UserError, match=r"2026-02-01 .*superclass"):
        packed(rhythm, source, [named], tmp_path)


def test_a_known_patient_stays_where_he_is(tmp_path: Path) -> None:
    """Whoever is in the test records is not learned from a later recording."""
    kind = KINDS["ptbxl"]
    (tmp_path / "own").mkdir()
    source = kind.make(tmp_path / "own")
    _, before = packed(kind, source, [], tmp_path)
    groups = before.table.set_index("record")["group"]
    splits = split_of(kind, before)
    of_split = dict(zip(splits, groups[splits.index], strict=True))
    patients = [of_split[split] for split in ("test", "validation", "train")]
    cases = [
        replace(case, group=patient, fold="train" if number else "validation")
        for number, (case, patient) in enumerate(zip(cases_of(kind, 3), patients, strict=True))
    ]
    _, after = packed(kind, source, [snapshot(kind, cases, tmp_path / DATE)], tmp_path)
    later = after.table.loc[after.table["snapshot"] == DATE, "record"]
    assert [*split_of(kind, after)[later]] == ["test", "validation", "train"]


def test_a_later_snapshot_moves_nobody(tmp_path: Path) -> None:
    """Two snapshots are as the first, and then the second."""
    kind = KINDS["ecg5000"]
    (tmp_path / "own").mkdir()
    source, cases = kind.make(tmp_path / "own"), cases_of(kind)
    first = snapshot(kind, cases[:4], tmp_path / DATE)
    second = snapshot(kind, cases[4:], tmp_path / f"{DATE}.2")
    _, once = packed(kind, source, [first], tmp_path)
    _, twice = packed(kind, source, [first, second], tmp_path)
    splits = split_of(kind, once)
    pd.testing.assert_series_equal(split_of(kind, twice).loc[splits.index.to_list()], splits)
    assert len(twice.table) == len(once.table) + 2


def test_shares_of_folds() -> None:
    """About as many patients as wished are in each split, each by its name alone."""
    folds = [incoming.fold_of(f"patient {number}", SHARES) for number in range(20_000)]
    for split, share in SHARES.items():
        assert folds.count(split) / len(folds) == pytest.approx(share, abs=0.01)


def test_a_snapshot_is_the_one_that_is_named(tmp_path: Path) -> None:
    """A changed, a missing and another snapshot are refused, each with a cure."""
    kind = KINDS["ecg5000"]
    (tmp_path / "own").mkdir()
    source, cases = kind.make(tmp_path / "own"), cases_of(kind)
    named = snapshot(kind, cases, tmp_path / DATE)
    other = {**named, "sha256": "0" * 64}
    missing = {**named, "folder": str(tmp_path / "2026-03-02")}
    for wrong, cure in ((other, "dvc checkout"), (missing, "dvc pull")):
        with pytest.raises(UserError, match=r"download\.incoming.*" + cure):
            packed(kind, source, [wrong], tmp_path)
    file = tmp_path / DATE / "INCOMING.ts"
    file.write_text(file.read_text() + "1,2:1\n")
    with pytest.raises(UserError, match="damaged"):
        packed(kind, source, [named], tmp_path)


def test_sounds_by_machine(tmp_path: Path) -> None:
    """Sounds keep their machine, even if a snapshot has one alone; anomalies are for test."""
    content = parameters.content()["datasets"]["machine_sound"]
    kind = Kind("sound", content, lambda path: path, (4000, 1), 8000, 0, ("normal", "anomaly"))
    cases = [
        replace(
            case, entity="id_00", group=None, fold="test" if "anomaly" in case.labels else "train"
        )
        for case in cases_of(kind, 4)
    ]
    named = snapshot(kind, cases, tmp_path / DATE)
    path, labels = packed(kind, Path("beatline/simulators/machines"), [named], tmp_path)
    later = labels.table.loc[labels.table["snapshot"] == DATE]
    assert set(later["machine_id"]) == {"id_00"}
    assert [*later["anomaly"]] == [int(fold == "test") for fold in later["fold"]]
    assert set(later["event_timestamp"]) == {case.moment for case in cases}
    with Pack(path) as pack:
        read = datasets.module("sound").read_waveforms(pack, [*later["record"]], 8000, "mean")
        by_answer = {case.answer: case.samples[:, 0] for case in cases}
        for record, waveform in zip(later["record"], read, strict=True):
            np.testing.assert_array_equal(waveform, by_answer[Path(record).stem.split("_")[1]])
    with pytest.raises(UserError, match="anomaly"):
        wrong = [replace(cases[1], labels=["anomaly"], fold="train")]
        snapshot(kind, wrong, tmp_path / "2026-03-04")
    with pytest.raises(UserError, match="machine called 'normal'"):
        snapshot(kind, [replace(cases[0], entity="normal")], tmp_path / "2026-03-05")
