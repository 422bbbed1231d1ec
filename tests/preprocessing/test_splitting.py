"""Splitting: disjoint, complete, stratified, the same for the same seed, and no patient in two splits."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beatline.common.errors import UserError
from beatline.preprocessing.splitting import (
    SPLITS,
    Split,
    assign,
    check_classes,
    class_counts,
    shared_groups,
)
from tests.paths import REAL_DATA

FULL = REAL_DATA / "ptbxl_superclass_labels_21799.csv"
SUPERCLASSES = ["NORM", "MI", "STTC", "CD", "HYP"]
SHARES = {"train": 0.7, "validation": 0.15, "test": 0.15}


def split(method: str = "stratified", by: str = "patient", seed: int = 1, **shares: float) -> Split:
    return Split.model_validate({"method": method, "by": by, "seed": seed, **SHARES, **shares})


def random_table(
    seed: int, patients: int, classes: int, per_patient: int
) -> tuple[pd.DataFrame, list[str]]:
    """Patients with 1 to `per_patient` records each; labels that co-occur, some records without."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(patients), rng.integers(1, per_patient + 1, patients))
    names = [f"class {number}" for number in range(classes)]
    labels = rng.random((len(group), classes)) < rng.uniform(0.2, 0.6, classes)
    table = pd.DataFrame(labels.astype(int), columns=names)
    table.insert(0, "record", [f"record {number}" for number in range(len(group))])
    table.insert(1, "group", group.astype(str))
    return table.assign(fold=""), names


tables = st.builds(
    random_table,
    seed=st.integers(0, 10**6),
    patients=st.integers(60, 200),
    classes=st.integers(1, 5),
    per_patient=st.integers(1, 4),
)


@settings(max_examples=40)
@given(tables, st.sampled_from(["patient", "record"]), st.integers(0, 1000))
def test_every_record_is_in_exactly_one_split(
    drawn: tuple[pd.DataFrame, list[str]], by: str, seed: int
) -> None:
    """Splits are disjoint and complete, for every label table."""
    table, classes = drawn
    found = assign(table, classes, split(by=by, seed=seed))
    assert list(found.index) == list(table.index)
    assert set(found) == set(SPLITS)
    counts = class_counts(table, classes, found)
    assert counts.loc[counts["class"] == "all", "records"].sum() == len(table)


@settings(max_examples=40)
@given(tables, st.integers(0, 1000))
def test_no_patient_is_in_two_splits(drawn: tuple[pd.DataFrame, list[str]], seed: int) -> None:
    """By patient, no group is shared, told by counting in plain Python."""
    table, classes = drawn
    found = assign(table, classes, split(seed=seed))
    where: dict[str, set[str]] = {}
    for group, part in zip(table["group"], found, strict=True):
        where.setdefault(group, set()).add(part)
    assert all(len(parts) == 1 for parts in where.values())
    assert shared_groups(table.loc[:, "group"], found) == 0


def test_by_record_shares_patients() -> None:
    """By record, patients do leak, and the metric counts each of them once."""
    table, classes = random_table(seed=0, patients=100, classes=3, per_patient=4)
    found = assign(table, classes, split(by="record"))
    parts = pd.DataFrame({"group": table["group"], "split": found}).drop_duplicates()
    assert (
        shared_groups(table.loc[:, "group"], found)
        == (parts["group"].value_counts() > 1).sum()
        > 10
    )


@settings(max_examples=40)
@given(tables, st.sampled_from(["patient", "record"]))
def test_shares_are_kept(drawn: tuple[pd.DataFrame, list[str]], by: str) -> None:
    """Records, and records of each class, are divided as asked for, as far as whole units allow."""
    table, classes = drawn
    found = assign(table, classes, split(by=by))
    counts = class_counts(table, classes, found)
    largest = 1 if by == "record" else table["group"].value_counts().iloc[0]
    rows = list(zip(counts["split"], counts["class"], counts["records"], strict=True))
    for name in [*classes, "all"]:
        total = sum(records for _, other, records in rows if other == name)
        tolerance = 0.05 * total + 3 * largest + len(classes)
        for part, other, records in rows:
            if other == name:
                assert abs(records - SHARES[part] * total) <= tolerance, (name, part)


def test_the_seed_alone_decides() -> None:
    """Equal seeds give equal splits, another seed gives another."""
    table, classes = random_table(seed=3, patients=120, classes=3, per_patient=3)
    first = assign(table, classes, split(seed=5))
    assert first.equals(assign(table, classes, split(seed=5)))
    assert not first.equals(assign(table, classes, split(seed=6)))


def test_class_counts() -> None:
    """The table of counts says per split: each class, records without a class, all records."""
    table = pd.DataFrame({"a": [1, 0, 1, 0], "b": [1, 0, 0, 0]})
    parts = pd.Series(["train", "train", "validation", "test"])
    counts = class_counts(table, ["a", "b"], parts).to_numpy().tolist()
    assert counts == [
        ["train", "a", 1],
        ["train", "b", 1],
        ["train", "no class", 1],
        ["train", "all", 2],
        ["validation", "a", 1],
        ["validation", "b", 0],
        ["validation", "no class", 0],
        ["validation", "all", 1],
        ["test", "a", 0],
        ["test", "b", 0],
        ["test", "no class", 1],
        ["test", "all", 1],
    ]


def official_table() -> tuple[pd.DataFrame, list[str]]:
    table, classes = random_table(seed=4, patients=200, classes=2, per_patient=3)
    number = table["group"].astype(int) % 10
    return table.assign(
        fold=np.select([number == 8, number == 9], ["validation", "test"], "train")
    ), classes


def test_official_folds_are_taken_as_they_are() -> None:
    """`official` is what the publishers recommend, record by record."""
    table, classes = official_table()
    assert list(assign(table, classes, split(method="official"))) == list(table["fold"])


@pytest.mark.parametrize("by", ["patient", "record"])
def test_validation_is_taken_from_train(by: str) -> None:
    """Publishers without a validation fold keep their test; validation has its share of train, and
    by patient no patient of it stays in train."""
    table, classes = official_table()
    table["fold"] = table["fold"].replace("validation", "train")
    found = assign(table, classes, split(method="official", by=by))
    assert ((found == "test") == (table["fold"] == "test")).all()
    train = (table["fold"] == "train").sum()
    assert (found == "validation").sum() == pytest.approx(train * 0.15 / 0.85, rel=0.1)
    assert (shared_groups(table.loc[:, "group"], found) == 0) == (by == "patient")


def test_official_folds_that_part_equal_records_are_an_error() -> None:
    """Labels say that equal records are kept together: folds that part them are refused by name."""
    table, classes = official_table()
    rows = np.flatnonzero(table["fold"] == "train")[:1].tolist()
    alike = table["record"].to_list()
    alike[int(np.flatnonzero(table["fold"] == "test")[0])] = alike[rows[0]]
    table["alike"] = alike
    with pytest.raises(UserError, match=rf"split\.method .*{alike[rows[0]]} .*stratified"):
        assign(table, classes, split(method="official"))
    found = assign(table, classes, split(by="record"))
    assert shared_groups(table.loc[:, "alike"], found) == 0


def test_class_of_one_record_and_its_copies_is_an_error() -> None:
    """By record it is different records that count, not copies."""
    table, classes = random_table(seed=0, patients=60, classes=2, per_patient=1)
    table["rare"] = [1] * 9 + [0] * (len(table) - 9)
    table["alike"] = [*["record 0"] * 9, *table["record"][9:]]
    with pytest.raises(UserError, match="class rare has 1 different record, too few"):
        assign(table, [*classes, "rare"], split(by="record"))


def test_official_without_folds_is_an_error() -> None:
    """Data without published folds says which parameter to change."""
    table, classes = random_table(seed=0, patients=60, classes=2, per_patient=1)
    with pytest.raises(UserError, match=r"split\.method is official.*stratified"):
        assign(table.assign(fold=np.nan), classes, split(method="official"))


def test_official_without_test_is_an_error() -> None:
    """A split that stays empty is named."""
    table, classes = random_table(seed=0, patients=60, classes=2, per_patient=1)
    table["fold"] = "train"
    with pytest.raises(UserError, match="the test split is empty"):
        assign(table, classes, split(method="official"))


def test_class_that_train_lacks_is_an_error() -> None:
    """Nothing can be learned of a class that is not in train: that is for those to say who want to
    learn it, and the split itself is none the worse."""
    table, classes = official_table()
    table.loc[table["fold"] == "train", classes[1]] = 0
    found = assign(table, classes, split(method="official"))
    assert list(found) == list(table["fold"])
    with pytest.raises(UserError, match=f"{classes[1]} has no record in the train split"):
        check_classes(table, classes, found)


@pytest.mark.parametrize("part", ["validation", "test"])
def test_class_that_test_lacks_is_a_warning(part: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A class without test records has no score: that is said, not hidden."""
    table, classes = official_table()
    table.loc[table["fold"] == part, classes[0]] = 0
    found = assign(table, classes, split(method="official"))
    check_classes(table, classes, found)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"warning: class {classes[0]} has no record in {part}")


def test_class_of_all_test_records_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    """With nothing to tell it from, it has no AUC, by which an epoch may be chosen."""
    table, classes = official_table()
    table.loc[table["fold"] == "validation", classes[0]] = 1
    check_classes(table, classes, assign(table, classes, split(method="official")))
    (line,) = capsys.readouterr().out.splitlines()
    assert "validation" in line and classes[0] in line and "AUC" in line


def test_nothing_is_said_of_classes_that_are_everywhere(capsys: pytest.CaptureFixture[str]) -> None:
    """A good split passes in silence."""
    table, classes = official_table()
    check_classes(table, classes, assign(table, classes, split()))
    assert capsys.readouterr().out == ""


def machine_table(seed: int, sizes: list[int], anomalies: int, fold: bool) -> pd.DataFrame:
    """Recordings of machines that differ in number, in the order in which folders list them; as
    published (`fold`), train holds normal ones alone and test all anomalies."""
    rng = np.random.default_rng(seed)
    rows = []
    for number, size in enumerate(sizes):
        of_train = rng.random(size) < 0.7 if fold else np.zeros(size, dtype=bool)
        # At least five of each machine are in train, and two in test.
        of_train[:5], of_train[5:7] = fold, False
        anomaly = ~of_train & (rng.random(size) < anomalies / 10)
        anomaly[5:8] = not fold  # no split can do with fewer in all
        rows.append(
            pd.DataFrame(
                {
                    "machine_id": number,
                    "anomaly": anomaly.astype(int),
                    "fold": np.where(of_train, "train", "test") if fold else "",
                }
            )
        )
    table = pd.concat(rows, ignore_index=True)
    names = [f"recording {number}" for number in range(len(table))]
    return table.assign(record=names, group=names)


machines = st.builds(
    machine_table,
    seed=st.integers(0, 10**6),
    sizes=st.lists(st.integers(20, 60), min_size=1, max_size=6),
    anomalies=st.integers(2, 6),
    fold=st.just(False),
)


@settings(max_examples=40)
@given(machines, st.integers(0, 1000))
def test_every_machine_is_in_every_split(table: pd.DataFrame, seed: int) -> None:
    """Sections that no metric pools are stratified by: none is missing anywhere, and each has its
    share."""
    found = assign(table, ["anomaly"], split(by="record", seed=seed), sections="machine_id")
    counts = pd.crosstab(table["machine_id"], found)
    assert (counts[list(SPLITS)].to_numpy() > 0).all()
    for part in SPLITS:
        expected = counts.sum(axis=1) * SHARES[part]
        assert (np.abs(counts[part] - expected) <= 3 + 0.05 * expected).all()


@settings(max_examples=40)
@given(
    st.builds(
        machine_table,
        seed=st.integers(0, 10**6),
        sizes=st.lists(st.integers(40, 90), min_size=1, max_size=6),
        anomalies=st.integers(0, 6),
        fold=st.just(True),
    ),
    st.integers(0, 1000),
)
def test_official_split_of_machines(table: pd.DataFrame, seed: int) -> None:
    """The publishers' test stays as it is, so that train and validation hold no anomaly; validation is
    taken from train, of each machine its share."""
    parameters = split("official", "record", seed)
    found = assign(table, ["anomaly"], parameters, sections="machine_id")
    assert ((found == "test") == (table["fold"] == "test")).all()
    assert not table.loc[found != "test", "anomaly"].any()
    counts = pd.crosstab(table["machine_id"], found)
    assert (counts[list(SPLITS)].to_numpy() > 0).all()
    of_train = counts["train"] + counts["validation"]
    assert (np.abs(counts["validation"] - of_train * 0.15 / 0.85) <= 2).all()


def test_machine_that_official_folds_leave_out(capsys: pytest.CaptureFixture[str]) -> None:
    """A machine with one recording to learn from is in train or in validation: it is said which lacks
    it; one that train lacks cannot be told from an anomaly."""
    table = machine_table(0, [40, 40], 3, fold=True)
    table.loc[(table["machine_id"] == 1) & (table["fold"] == "train"), "fold"] = "test"
    with pytest.raises(UserError, match="machine_id_1 has no record in the train split"):
        assign(table, ["anomaly"], split("official", "record"), sections="machine_id")
    table.loc[[41, 42], "fold"] = ["train", "validation"]
    table.loc[table["machine_id"] == 0, "fold"] = ["train", "test"] * 20
    assign(table, ["anomaly"], split("official", "record"), sections="machine_id")
    assert "machine_id_0 has no record in validation" in capsys.readouterr().out


def test_machines_need_not_be_named_to_be_split() -> None:
    """Without sections machines are as any other column: only the labels are stratified."""
    table = machine_table(0, [30, 30], 3, fold=False)
    assert set(assign(table, ["anomaly"], split(by="record"))) == set(SPLITS)


def test_section_with_too_few_records_is_an_error() -> None:
    """A machine with two recordings cannot be in three splits: it is named as such."""
    table = machine_table(0, [30, 30], 3, fold=False)
    table.loc[[4, 40], "machine_id"] = 7
    with pytest.raises(UserError, match="machine_id_7 has 2 records, too few"):
        assign(table, ["anomaly"], split(by="record"), sections="machine_id")


def test_by_machine_is_by_group() -> None:
    """`machine` is what a machine's data set calls its group, as `patient` is for hearts."""
    table, classes = random_table(seed=3, patients=120, classes=3, per_patient=3)
    by_machine = assign(table, classes, split(by="machine"))
    assert by_machine.equals(assign(table, classes, split(by="patient")))


@pytest.mark.parametrize("records", [0, 1, 2])
def test_class_with_too_few_records_is_an_error(records: int) -> None:
    """A class with one record cannot be in three splits: the sentence names class and cure."""
    table, classes = random_table(seed=0, patients=60, classes=2, per_patient=1)
    table["rare"] = [1] * records + [0] * (len(table) - records)
    with pytest.raises(UserError, match=rf"class rare has {records} patients?, .*min_records"):
        assign(table, [*classes, "rare"], split())


def test_class_of_one_patient_is_an_error() -> None:
    """By patient it is patients that count, not records."""
    table, classes = random_table(seed=0, patients=60, classes=2, per_patient=4)
    table["rare"] = (table["group"] == table["group"].value_counts().index[0]).astype(int)
    assert np.count_nonzero(table["rare"]) >= 3
    with pytest.raises(UserError, match="class rare has 1 patient, too few"):
        assign(table, [*classes, "rare"], split())


def test_too_few_records_is_an_error() -> None:
    """A handful of records is refused with a sentence, whatever iterative stratification makes of it."""
    for records in (1, 2, 3, 4):
        table = pd.DataFrame(
            {"record": range(records), "group": range(records), "fold": "", "a": 1}
        )
        try:
            found = assign(table, ["a"], split(train=0.98, validation=0.01, test=0.01))
        except UserError:
            continue
        assert set(found) == set(SPLITS)


@pytest.mark.parametrize(
    "wrong", [{"train": 0.8}, {"test": 0.0}, {"validation": -0.1}, {"train": 1.0}, {"seed": -1}]
)
def test_impossible_shares_are_refused(wrong: dict[str, float]) -> None:
    """Shares are positive and make a whole; seeds are natural numbers."""
    with pytest.raises(ValueError, match=r"must be 1|greater than|less than"):
        Split.model_validate({"method": "stratified", "by": "record", "seed": 1, **SHARES, **wrong})


@pytest.fixture(scope="module")
def full() -> pd.DataFrame:
    """All 21,799 records; the table names no patients, so 18,869 are made up, as many as there are."""
    if not FULL.is_file():
        pytest.skip(f"{FULL} is not here: the full label table of PTB-XL")
    table = pd.read_csv(FULL)
    rng = np.random.default_rng(0)
    returning = rng.integers(0, 18869, len(table) - 18869)
    table["group"] = np.concatenate([np.arange(18869), returning]).astype(str)
    table["record"] = table["filename_lr"]
    table["fold"] = table["split"].replace("val", "validation")
    return table


def test_full_scale_by_patient(full: pd.DataFrame) -> None:
    """At PTB-XL's size: quick, no patient in two splits, every share within half a percent point."""
    began = time.perf_counter()
    found = assign(full, SUPERCLASSES, split())
    assert time.perf_counter() - began < 20
    assert shared_groups(full.loc[:, "group"], found) == 0
    counts = class_counts(full, SUPERCLASSES, found).pivot(
        index="class", columns="split", values="records"
    )
    shares = counts.div(counts.sum(axis=1), axis=0)
    for part in SPLITS:
        assert np.abs(shares[part] - SHARES[part]).max() < 0.005


def test_full_scale_official(full: pd.DataFrame) -> None:
    """The official split of version 1.0.3: 17,418 / 2,183 / 2,198 records."""
    found = assign(full, SUPERCLASSES, split(method="official"))
    assert found.value_counts().to_dict() == {"train": 17418, "validation": 2183, "test": 2198}
    assert (found == full["fold"]).all()
