"""Labels of PTB-XL: the totals of the publication, the tasks of the benchmark, and nothing of the table
is executed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beatline.common.errors import UserError
from beatline.datasets.ptbxl.labels import RecordsTable, Task, aggregated
from tests.paths import REAL_DATA

DATA = REAL_DATA
FULL, REAL = DATA / "ptbxl_superclass_labels_21799.csv", DATA / "ptbxl"
real = pytest.mark.skipif(
    not (FULL.is_file() and REAL.is_dir()), reason=f"{DATA} is not here: the tables of PTB-XL"
)
CLASSES = ["NORM", "MI", "STTC", "CD", "HYP"]
ONE_OF_EACH = {"NORM": "NORM", "MI": "IMI", "STTC": "NDT", "CD": "CRBBB", "HYP": "LVH"}
STATEMENTS = """,description,diagnostic,form,rhythm,diagnostic_class,diagnostic_subclass
NORM,normal ECG,1.0,,,NORM,NORM
IMI,inferior infarction,1.0,,,MI,IMI
AMI,anterior infarction,1.0,,,MI,AMI
NDT,non-diagnostic T,1.0,1.0,,STTC,STTC
LVOLT,low voltage,,1.0,,,
SR,sinus rhythm,,,1.0,,
ABQRS,abnormal QRS,0.0,1.0,,MI,
"""
HEADER = "ecg_id,patient_id,age,sex,scp_codes,strat_fold,filename_lr,filename_hr\n"


def superclasses(
    rows: pd.DataFrame, statements: str, classes: list[str], least: float
) -> pd.DataFrame:
    return aggregated(rows, statements, "superclass", classes, least)


def rows_of(*codes: str) -> pd.DataFrame:
    return pd.DataFrame({"ecg_id": range(1, len(codes) + 1), "scp_codes": codes})


def found(
    codes: str, classes: tuple[str, ...] = ("NORM", "MI", "STTC"), least: float = 0
) -> list[int]:
    table = superclasses(rows_of(codes), STATEMENTS, list(classes), least)
    return table[list(classes)].iloc[0].to_list()


def refused(codes: str) -> str:
    with pytest.raises(UserError) as error:
        superclasses(rows_of("{'SR': 0}", codes), STATEMENTS, ["NORM"], 0)
    assert "ptbxl_database.csv" in str(error.value) and "ecg_id 2" in str(error.value)
    return str(error.value)


def parse(*rows: str) -> pd.DataFrame:
    return RecordsTable.parse(HEADER + "\n".join(rows), "a/ptbxl_database.csv").rows


@real
def test_totals_as_published() -> None:
    """All 21,799 records of version 1.0.3: NORM 9514, MI 5469, STTC 5235, CD 4898, HYP 2649, and 411
    without a superclass."""
    full = pd.read_csv(FULL)
    codes = [
        repr({ONE_OF_EACH[name]: 100.0 for name, one in zip(CLASSES, row, strict=True) if one})
        for row in full[CLASSES].to_numpy()
    ]
    rows = pd.DataFrame({"ecg_id": full["ecg_id"], "scp_codes": codes})
    labels = superclasses(rows, (REAL / "scp_statements.csv").read_text(), CLASSES, 0)
    totals = {"NORM": 9514, "MI": 5469, "STTC": 5235, "CD": 4898, "HYP": 2649}
    assert labels[CLASSES].sum().to_dict() == totals
    number = labels[CLASSES].to_numpy().sum(axis=1)
    assert np.count_nonzero(number == 0) == 411
    assert (labels[CLASSES].to_numpy() == full[CLASSES].to_numpy()).all()
    assert np.array_equal(labels["normal"], (number == 1) & (full["NORM"].to_numpy() == 1))


@real
def test_real_records() -> None:
    """Real rows, with the codes that cardiologists gave them, agree with the published table:
    superclasses, file names and folds. Version 1.0.3 has withdrawn 7 of the first 400 records."""
    rows = RecordsTable.parse((REAL / "ptbxl_database.csv").read_text(), "x").rows
    published = pd.read_csv(FULL).set_index("ecg_id")
    assert len(rows) == 400
    rows = rows.loc[rows["ecg_id"].isin(published.index.to_list())].reset_index(drop=True)
    assert len(rows) == 393
    labels = superclasses(rows, (REAL / "scp_statements.csv").read_text(), CLASSES, 0)
    expected = published.loc[rows["ecg_id"]]
    assert (labels[CLASSES].to_numpy() == expected[CLASSES].to_numpy()).all()
    assert rows["filename_lr"].to_list() == expected["filename_lr"].to_list()
    assert rows["fold"].to_list() == expected["split"].replace("val", "validation").to_list()


TASKS: dict[Task, tuple[int, str]] = {  # statements of each, and what the benchmark calls it
    "superclass": (5, "superdiagnostic"),
    "subclass": (23, "subdiagnostic"),
    "diagnostic": (44, "diagnostic"),
    "form": (19, "form"),
    "rhythm": (12, "rhythm"),
    "all": (71, "all"),
}


def benchmark(codes: pd.Series, statements: pd.DataFrame, kind: str) -> pd.DataFrame:
    """0/1 columns, sorted, as Strodthoff et al. 2021 make them (compute_label_aggregations and
    select_data of helme/ecg_ptbxl_benchmarking): likelihoods are not looked at, no record is left out."""
    statements = statements.assign(superdiagnostic=statements["diagnostic_class"])
    statements = statements.assign(subdiagnostic=statements["diagnostic_subclass"])
    flag = "diagnostic" if kind.endswith("diagnostic") else kind
    inside = statements if kind == "all" else statements[statements[flag] == 1.0]
    names = inside[kind] if kind in ("superdiagnostic", "subdiagnostic") else inside.index
    of_code = {code: name for code, name in zip(inside.index, names, strict=True) if name == name}
    stated = codes.map(lambda text: {of_code[code] for code in json.loads(text) if code in of_code})
    return stated.str.join("|").str.get_dummies()


@real
@pytest.mark.parametrize("task", TASKS)
def test_tasks_of_the_benchmark(task: Task) -> None:
    """On real rows the labels are those of the benchmark, and each task has as many statements as it."""
    statements = REAL / "scp_statements.csv"
    rows = RecordsTable.parse((REAL / "ptbxl_database.csv").read_text(), "x").rows
    labels = aggregated(rows, statements.read_text(), task, [], 0)
    classes = [name for name in labels if name != "normal"]
    number, kind = TASKS[task]
    assert len(classes) == number and classes == sorted(classes)
    codes = rows["scp_codes"].str.replace("'", '"')
    expected = benchmark(codes, pd.read_csv(statements, index_col=0), kind)
    assert expected.shape[1] >= 0.4 * number  # of 400 records not all have one
    padded = expected.reindex(columns=classes, fill_value=0)
    assert padded.to_numpy().tolist() == labels[classes].to_numpy().tolist()
    assert set(expected) <= set(classes)


@real
@pytest.mark.parametrize("task", TASKS)
def test_normal_of_each_task(task: Task) -> None:
    """A detector learns of no statement but NORM and SR, whatever the task is, and of what it may learn
    for one task it may for the superclasses."""
    rows = RecordsTable.parse((REAL / "ptbxl_database.csv").read_text(), "x").rows
    statements = (REAL / "scp_statements.csv").read_text()
    labels = aggregated(rows, statements, task, [], 0)
    normal = labels[labels["normal"] == 1].drop(columns="normal")
    assert set(normal.columns[normal.any()]) <= {"NORM", "SR"}
    assert len(normal) > 50
    superclass = aggregated(rows, statements, "superclass", [], 0)["normal"]
    assert (superclass.to_numpy() >= labels["normal"].to_numpy()).all()
    if task in ("subclass", "diagnostic"):
        assert superclass.equals(labels["normal"])


def test_likelihoods_count_for_diagnoses_alone() -> None:
    """PTB-XL gives 0 to most statements of form and rhythm: `min_likelihood` would remove them all. A
    statement that is a diagnosis and a form is a form at any likelihood."""
    rows = rows_of("{'NDT': 15, 'LVOLT': 0, 'SR': 0, 'IMI': 35, 'NORM': 50}")
    expected = {
        "superclass": {"NORM"},
        "subclass": {"NORM"},
        "diagnostic": {"NORM"},
        "form": {"NDT", "LVOLT"},
        "rhythm": {"SR"},
        "all": {"NORM", "NDT", "LVOLT", "SR"},
    }
    for task in TASKS:
        labels = aggregated(rows, STATEMENTS, task, [], 50).drop(columns="normal")
        assert set(labels.columns[labels.iloc[0] == 1]) == expected[task]


def test_classes_of_another_task_are_an_error() -> None:
    """The task, and a class that it has."""
    with pytest.raises(UserError, match=r"aggregate_labels\.classes: 'MI' .*rhythm; known: SR"):
        aggregated(rows_of("{}"), STATEMENTS, "rhythm", ["MI"], 0)


def test_statements_become_classes() -> None:
    """Diagnostic statements count, form and rhythm do not; several classes may hold at once."""
    assert found("{'NORM': 100.0, 'LVOLT': 0.0, 'SR': 0.0}") == [1, 0, 0]
    assert found("{'IMI': 50.0, 'AMI': 35.0, 'NDT': 15.0}") == [0, 1, 1]
    assert found("{'SR': 0.0}") == [0, 0, 0]
    assert found("{'ABQRS': 100.0}") == [0, 0, 0]  # of a class, but no diagnosis
    assert found("{}") == [0, 0, 0]
    assert found("{'NDT': 100, 'NORM': 80}", ("STTC", "NORM")) == [1, 1]


@given(st.floats(0, 100), st.floats(0, 100))
def test_min_likelihood(likelihood: float, least: float) -> None:
    """A statement counts from `min_likelihood` on, that value included."""
    expected = int(likelihood >= least)
    assert found(f"{{'IMI': {likelihood!r}, 'SR': 100}}", ("MI",), least) == [expected]


def test_normal_is_nothing_but_normal() -> None:
    """A detector may learn from these alone: NORM and no other superclass, also of those left out."""
    rows = rows_of("{'NORM': 80}", "{'NORM': 80, 'IMI': 15}", "{'IMI': 100}", "{'SR': 0}")
    labels = superclasses(rows, STATEMENTS, ["NORM"], 0)
    assert labels["NORM"].to_list() == [1, 1, 0, 0]
    assert labels["normal"].to_list() == [1, 0, 0, 0]


def test_unknown_class_is_an_error() -> None:
    """A superclass that scp_statements.csv does not define: the key, and what there is."""
    with pytest.raises(
        UserError, match=r"aggregate_labels\.classes: 'HYPE' .* known: MI, NORM, STTC"
    ):
        superclasses(rows_of("{}"), STATEMENTS, ["NORM", "HYPE"], 0)


def test_unknown_statement_is_an_error() -> None:
    """A code outside the table of statements is named with its record."""
    assert "'XYZ'" in refused("{'NORM': 100, 'XYZ': 0}")


@pytest.mark.parametrize(
    "codes",
    [
        "",
        "NORM",
        "['NORM']",
        "{'NORM'}",
        "{'NORM': 'high'}",
        "{'NORM': None}",
        "{'NORM': [1]}",
        "{'NORM': 100",
        "{NORM: 100}",
        "11111",
        "(" * 500,
    ],
)
def test_malformed_codes_are_an_error(codes: str) -> None:
    """A value that is no dictionary of codes and numbers is named with its record."""
    assert "not a dictionary of codes and likelihoods" in refused(codes)


def test_missing_codes_are_an_error() -> None:
    """An empty cell is no dictionary."""
    rows = pd.DataFrame({"ecg_id": [7], "scp_codes": [float("nan")]})
    with pytest.raises(UserError, match="scp_codes of ecg_id 7"):
        superclasses(rows, STATEMENTS, ["NORM"], 0)


def test_codes_are_not_executed(tmp_path: Path) -> None:
    """A table from a stranger runs no code: what `eval` would do is a malformed dictionary."""
    victim = tmp_path / "victim"
    for code in (
        f"open({str(victim)!r}, 'w').close()",
        f"{{'NORM': open({str(victim)!r}, 'w').close() or 1}}",
        f"__import__('pathlib').Path({str(victim)!r}).touch()",
    ):
        refused(code)
    assert not victim.exists()


def test_statements_without_their_columns() -> None:
    """Another table in place of scp_statements.csv is refused by column."""
    with pytest.raises(UserError, match=r"scp_statements\.csv has no column diagnostic:"):
        superclasses(rows_of("{}"), ",diagnostic_class\nNORM,1\n", ["NORM"], 0)
    with pytest.raises(UserError, match=r"scp_statements\.csv is not a CSV table"):
        superclasses(rows_of("{}"), "", ["NORM"], 0)


def test_groups_folds_and_file_names() -> None:
    """Patients are texts without a decimal point, whoever is unknown is a group of one, folds are
    those recommended, and a file name that is not given is empty."""
    rows = parse(
        "1,15709.0,56,1,{},1,a,b",
        "2,,56,1,{},8,c,",
        "3,,56,1,{},9,d,",
        "4,15709.0,56,1,{},10,e,f",
    )
    assert rows["group"].to_list() == ["15709", "record 2", "record 3", "15709"]
    assert rows["fold"].to_list() == ["train", "train", "validation", "test"]
    assert rows["filename_hr"].to_list() == ["b", "", "", "f"]


def test_patients_with_names() -> None:
    """New recordings in the same layout may name patients as they like."""
    assert parse("1,P-01,56,1,{},1,a,b", "2,P-02,56,1,{},1,c,d")["group"].to_list() == [
        "P-01",
        "P-02",
    ]


@pytest.mark.parametrize("fold", ["0", "11", "", "2.5", "train"])
def test_bad_fold_is_an_error(fold: str) -> None:
    """strat_fold outside 1 to 10 is named with its record."""
    with pytest.raises(UserError, match=r"a/ptbxl_database\.csv: strat_fold of ecg_id 2 "):
        parse("1,1,56,1,{},1,a,b", f"2,1,56,1,{{}},{fold},c,d")


@pytest.mark.parametrize("column", HEADER.strip().split(","))
def test_missing_column_is_an_error(column: str) -> None:
    """The column that is missing is named."""
    text = HEADER.replace(column, "other") + "1,1,56,1,{},1,a,b\n"
    with pytest.raises(UserError, match=f"x has no column {column}"):
        RecordsTable.parse(text, "x")


def test_repeated_rows_are_an_error() -> None:
    """A record that stands there twice, by number or by file, would leak into two splits."""
    with pytest.raises(UserError, match="ecg_id 1 stands there twice"):
        parse("1,1,56,1,{},1,a,b", "1,2,56,1,{},9,c,d")
    with pytest.raises(UserError, match="filename_lr a stands there twice"):
        parse("1,1,56,1,{},1,a,b", "2,2,56,1,{},9,a,d")


def test_no_table_is_an_error() -> None:
    """An empty file, or one with ragged lines."""
    for text in ("", HEADER + "1,2,3,4,5,6,7,8,9,10,11\n1\n", 'a,"b\n'):
        with pytest.raises(UserError, match=r"^x(:| is not a CSV table| has no column)"):
            RecordsTable.parse(text, "x")
