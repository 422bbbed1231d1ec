"""`beatline new dataset`: what is in a folder is found, written, and valid; nothing else changes."""

from __future__ import annotations

import difflib
import shutil
from pathlib import Path
from typing import Any

import edfio
import numpy as np
import pandas as pd
import pytest

from beatline import cli
from beatline.commands import validate
from beatline.common import params
from tests.own_recordings import real_ecgs, write_thirds
from tests.paths import ROOT

Printed = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the committed params.yaml."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def series(
    folder: Path,
    table: dict[str, list[Any]],
    *,
    steps: int = 40,
    file: str = "path",
    name: str = "index.csv",
) -> None:
    """Series of two channels in NPY files, as many as the table has rows."""
    folder.mkdir()
    draw = np.random.default_rng(1)
    rows = len(next(iter(table.values())))
    names = [f"s{number:03d}.npy" for number in range(rows)]
    for each in names:
        np.save(folder / each, draw.standard_normal((steps, 2)))
    pd.DataFrame({file: names, **table}).to_csv(folder / name, index=False)


def write_edf(file: Path, channels: list[str]) -> None:
    """Five seconds of 100 Hz."""
    draw = np.random.default_rng(1)
    signals = [
        edfio.EdfSignal(
            draw.uniform(-1, 1, 500),
            100,
            label=channel,
            physical_dimension="mV",
            physical_range=(-1, 1),
        )
        for channel in channels
    ]
    edfio.Edf(signals).write(file)


def new(*arguments: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run the command; the blocks of the data set and of its training, of a file that is valid."""
    before = (ROOT / "params.yaml").read_text().splitlines()
    status = cli.main(["new", "dataset", *arguments])
    assert status == 0
    after = Path("params.yaml").read_text().splitlines()
    changes = [line for line in difflib.ndiff(before, after) if line[:1] in "+-?"]
    assert changes and {line[:1] for line in changes} == {"+"}
    content = params.load()
    validate.validate(content)
    (name,) = content["datasets"].keys() - params.load(ROOT / "params.yaml")["datasets"].keys()
    (model,) = (model for model, on in content["train"].items() if name in on)
    return content["datasets"][name], {"model": model, **content["train"][model][name]}


def refused(*arguments: str) -> str:
    """The message of a refusal, which leaves params.yaml as it is."""
    before = Path("params.yaml").read_bytes()
    with pytest.raises(SystemExit) as error:
        cli.main(["new", "dataset", *arguments])
    assert Path("params.yaml").read_bytes() == before
    assert not list(Path().glob(".*"))
    return str(error.value)


@real_ecgs
def test_real_ecgs_in_three_formats(project: Path, capsys: Printed) -> None:
    """Table, columns, leads, rate, length, classes and patients of a stranger's ECGs are found, and what
    is to be run is said."""
    write_thirds(project / "my ECGs", 60)
    block, training = new("my ECGs")
    download = block["download"]
    assert download["source"] == "my ECGs"
    assert download["table"] == "my_ecgs.csv"
    assert {
        key: download[key] for key in ("file", "labels", "patient", "age", "sex", "rate", "unit")
    } == {
        "file": "recording",
        "labels": "diagnosis",
        "patient": "patient",
        "age": "age",
        "sex": "sex",
        "rate": "sampling_rate",
        "unit": "unit",
    }
    assert (download["sampling_rate"], download["seconds"], len(download["leads"])) == (100, 10, 12)
    assert block["aggregate_labels"]["classes"] == ["abnormal", "normal"]
    assert block["aggregate_labels"]["normal"] == "normal"
    assert block["aggregate_labels"]["task"] == "binary"
    assert block["split"]["by"] == "patient"
    assert training["windows"] == {"length": 250}
    assert training["model"] == "cnn"
    printed = capsys.readouterr().out
    assert "make repro ONLY=my_ecgs" in printed
    comments = Path("params.yaml").read_text()
    for fact in ("60 rows, 60 of", "wfdb (20)", "csv (20)", "edf (20)", "100 Hz", "10 s", "mV"):
        assert fact in comments


def test_guesses_are_called_so(project: Path) -> None:
    """No rate, no names of channels, no patients, and a label that is not called so."""
    series(project / "motors", {"colour": ["red", "blue"] * 10})
    block, training = new("motors", "--name", "m")
    assert block["download"]["labels"] == "colour"
    assert block["download"]["sampling_rate"] is None and block["download"]["seconds"] is None
    assert block["download"]["leads"] == []
    assert block["split"]["by"] == "record"
    assert "windows" not in training
    comments = [line for line in Path("params.yaml").read_text().splitlines() if "NOT SURE" in line]
    for about in ("sampling rate", "channels", "patients", "colour"):
        assert any(about in line for line in comments), about


@pytest.mark.parametrize(
    ("table", "labels", "separator", "task"),
    [
        ({"AF": [0, 1] * 10, "MI": [1, 1, 0, 0] * 5}, ["AF", "MI"], None, "multilabel"),
        ({"diagnoses": ["AF;MI", "MI", "AF", "SR"] * 5}, "diagnoses", ";", "multilabel"),
        (
            {"rhythm": list("abcd") * 5, "note": [f"n{n}" for n in range(20)]},
            "rhythm",
            None,
            "multiclass",
        ),
        ({"fault": [0, 1] * 10}, "fault", None, "binary"),
    ],
)
def test_labels_are_found_in_each_form(
    project: Path, table: dict[str, list[Any]], labels: Any, separator: str | None, task: str
) -> None:
    series(project / "mine", table)
    block, _ = new("mine")
    assert block["download"]["labels"] == labels
    assert block["download"]["separator"] == separator
    assert block["aggregate_labels"]["task"] == task


def test_records_that_have_none_of_the_labels_are_examples(project: Path) -> None:
    """Columns with 0 and 1 say what healthy machines have: nothing of all that."""
    series(project / "mine", {"bearing": [0, 1, 0, 0] * 5, "gear": [0, 0, 1, 0] * 5})
    block, _ = new("mine")
    assert block["aggregate_labels"]["unlabelled"] == "keep"
    assert "NOT SURE: 10 rows have 0 in all" in Path("params.yaml").read_text()


def test_what_is_added_otherwise_is_said(project: Path) -> None:
    """A table of features, and the layout of PTB-XL, unless its labels are to be others."""
    (project / "rows.csv").write_text("a,b,label\n1,2,x\n")
    assert "docs/data.md" in refused("rows.csv")
    series(project / "mine", {"label": ["a", "b"] * 10})
    (project / "mine/index.csv").rename(project / "mine/ptbxl_database.csv")
    assert "datasets.ptbxl.download.source" in refused("mine")
    block, _ = new("mine", "--labels", "label")
    assert block["download"]["table"] == "ptbxl_database.csv"


def test_other_tables_are_told_of(project: Path) -> None:
    series(project / "mine", {"label": ["a", "b"] * 10})
    lines = (project / "mine/index.csv").read_text().splitlines()
    (project / "mine/few.csv").write_text("\n".join([*lines[:5], ""]))
    block, _ = new("mine")
    assert block["download"]["table"] == "index.csv"
    assert "few.csv" in Path("params.yaml").read_text()


def test_dates_of_patients_are_not_taken_along(project: Path) -> None:
    """Nor is a column that is named as the label something else as well."""
    days = [f"2020-01-{day:02d}" for day in range(1, 21)]
    series(project / "mine", {"date": days, "sex": ["m", "f"] * 10})
    block, _ = new("mine", "--labels", "sex")
    assert block["download"]["labels"] == "sex"
    assert not {"time", "sex"} & block["download"].keys()


def test_an_archive_is_looked_at_as_a_folder(project: Path) -> None:
    series(project / "mine", {"label": ["a", "b"] * 10})
    shutil.make_archive("packed", "gztar", "mine")
    block, _ = new("packed.tar.gz")
    assert block["download"]["source"] == "packed.tar.gz"
    assert block["normalize"]["recordings"] == "data/raw/packed.zip"


def test_folds_and_features(project: Path) -> None:
    """The publishers' split is kept; recordings of one step are rows of a table, for a model of such."""
    folds = ["train"] * 12 + ["validation"] * 4 + ["test"] * 4
    series(project / "mine", {"label": ["a", "b"] * 10, "split": folds}, steps=1, name="t.tsv.csv")
    block, training = new("mine")
    assert block["split"]["method"] == "official"
    assert block["normalize"]["invalid"] == "median"
    assert training["model"] == "mlp"


def test_anomaly_detection(project: Path) -> None:
    """What is normal is named, and a model that learns nothing else."""
    series(project / "mine", {"state": ["good", "bad", "worse", "good"] * 5})
    block, training = new("mine", "--anomaly", "good")
    assert block["aggregate_labels"]["task"] == "anomaly"
    assert block["aggregate_labels"]["normal"] == "good"
    assert training["model"] == "autoencoder"
    shutil.copy(ROOT / "params.yaml", project)
    assert "bda" in refused("mine", "--anomaly", "bda")


def test_recordings_that_are_tables_are_not_taken_for_the_table(project: Path) -> None:
    """A hundred CSV files of samples beside the one that lists them."""
    folder = project / "mine"
    folder.mkdir()
    draw = np.random.default_rng(1)
    for number in range(100):
        samples = pd.DataFrame(draw.standard_normal((20, 2)), columns=["I", "II"])
        samples.to_csv(folder / f"{number}.csv", index=False)
    rows = {"record": list(range(100)), "kind": ["x", "y"] * 50, "fs": [250] * 100}
    pd.DataFrame(rows).to_csv(folder / "zz.csv", index=False)
    block, _ = new("mine")
    download = block["download"]
    assert (download["table"], download["file"], download["labels"]) == ("zz.csv", "record", "kind")
    assert (download["rate"], download["sampling_rate"], download["leads"]) == (
        "fs",
        250,
        ["I", "II"],
    )


def test_nothing_is_overwritten(project: Path) -> None:
    """A name that is taken, or none that a data set can have."""
    series(project / "ptbxl", {"label": ["a", "b"] * 5})
    assert "ptbxl" in refused("ptbxl")
    assert "a b" in refused("ptbxl", "--name", "a b")


def test_what_cannot_be_found_is_said(project: Path) -> None:
    """No such folder, no table, a column that there is not with the nearest, no label."""
    assert "nowhere" in refused("nowhere")
    (project / "empty").mkdir()
    assert "empty" in refused("empty")
    series(project / "mine", {"remark": [f"n{number}" for number in range(10)]})
    assert "--labels" in refused("mine")
    assert "remark" in refused("mine", "--labels", "remarks")
    assert "index.csv" in refused("mine", "--table", "idnex.csv")


def test_blocks_that_are_not_written_in_lines_are_refused(project: Path) -> None:
    series(project / "mine", {"label": ["a", "b"] * 5})
    text = Path("params.yaml").read_text()
    start, end = text.index("  cnn:\n"), text.index("  lstm:\n")
    Path("params.yaml").write_text(text[:start] + "  cnn: {}\n\n" + text[end:])
    assert "train.cnn" in refused("mine")
    Path("params.yaml").write_text(text[:start] + text[end:])
    assert cli.main(["new", "dataset", "mine"]) == 0
    assert list(params.load()["train"]["cnn"]) == ["mine"]


COLUMNS: dict[str, list[Any]] = {"label": ["a", "b"] * 10}


@pytest.mark.parametrize(
    "column", ["heart_rate", "ventricular rate", "atrialRate", "resp_rate", "hr", "lowpass_hz"]
)
def test_rates_of_something_else_are_not_sampling_rates(project: Path, column: str) -> None:
    """Each recording would be stretched by its own heart rate."""
    series(project / "mine", COLUMNS | {column: [60 + n for n in range(20)]})
    block, _ = new("mine")
    assert "rate" not in block["download"]
    assert block["download"]["sampling_rate"] is None


@pytest.mark.parametrize("column", ["fs", "Hz", "sampling_rate", "sampleFrequency", "ecg_fs_hz"])
def test_sampling_rates_are_found_before_a_rate(project: Path, column: str) -> None:
    """A column that can only be the sampling rate comes before one that may be, wherever it stands."""
    series(project / "mine", COLUMNS | {"rate": [70] * 20, column: [250] * 20})
    block, _ = new("mine")
    assert block["download"]["rate"] == column
    assert (f"NOT SURE: the column {column}" in Path("params.yaml").read_text()) == (column == "Hz")


def test_a_rate_that_is_no_number_is_not_taken(project: Path) -> None:
    """What is written would be refused when it is downloaded."""
    series(project / "mine", COLUMNS | {"fs": ["250 Hz"] + ["250"] * 19})
    assert "rate" not in new("mine")[0]["download"]


@pytest.mark.parametrize(("column", "value"), [("rate", 70), ("unit", "kg")])
def test_columns_that_files_contradict_are_left_out(project: Path, column: str, value: Any) -> None:
    """Files that say their own rate and unit, and a table that says others: all files can be read."""
    folder = project / "mine"
    folder.mkdir()
    for number in range(10):
        write_edf(folder / f"{number}.edf", ["I"])
    rows = {"file": range(10), "label": ["a", "b"] * 5, column: [value] * 10}
    pd.DataFrame(rows).to_csv(folder / "table.csv", index=False)
    block, _ = new("mine")
    assert column not in block["download"]
    assert block["download"]["sampling_rate"] == 100
    comments = Path("params.yaml").read_text()
    assert f"NOT SURE: the column {column}" in comments
    assert "10 files cannot be read" not in comments


@pytest.mark.parametrize("column", ["care_unit", "unit"])
def test_units_of_hospitals_and_machines_are_no_units(project: Path, column: str) -> None:
    values = ["icu", "er"] * 10 if column == "care_unit" else list(range(1, 21))
    series(project / "mine", COLUMNS | {column: values})
    assert "unit" not in new("mine")[0]["download"]


def test_what_is_said_of_patients_is_not_who_they_are(project: Path) -> None:
    """Age and sex before the patients: a split by age parts nobody's records rightly."""
    about = {"patient_age": list(range(40, 60)), "patient_sex": ["m", "f"] * 10}
    about |= {"patient_group_date": [f"d{n}" for n in range(20)]}
    series(project / "mine", COLUMNS | about)
    block, _ = new("mine")
    download = block["download"]
    assert (download["age"], download["sex"]) == ("patient_age", "patient_sex")
    assert "patient" not in download
    assert block["split"]["by"] == "record"


NAMES = [f"Hans {letter}" for letter in "abcdefghij"] * 2


def test_patients_are_their_numbers_and_not_their_names(project: Path) -> None:
    """Names of people would be in data/; where there is nothing else, what is left out is said."""
    identifiers = {"patient_id": list(range(10)) * 2}
    series(project / "mine", COLUMNS | {"patient_name": NAMES} | identifiers)
    assert new("mine")[0]["download"]["patient"] == "patient_id"
    assert "patient_name" not in Path("params.yaml").read_text()
    shutil.copy(ROOT / "params.yaml", project)
    series(project / "names", COLUMNS | {"patient_name": NAMES})
    assert "patient" not in new("names")[0]["download"]
    comments = [line for line in Path("params.yaml").read_text().splitlines() if "NOT SURE" in line]
    assert any("patient_name" in line for line in comments)


@pytest.mark.parametrize("column", ["patient_name", "surname", "birth_date", "subject"])
def test_names_of_people_are_not_guessed_to_be_labels(project: Path, column: str) -> None:
    series(project / "mine", {column: ["Hans", "Eva"] * 10})
    assert "--labels" in refused("mine")


def test_nothing_of_patients_that_files_hold_is_written(project: Path, capsys: Printed) -> None:
    """params.yaml is in Git. Devices write names and dates into channels, and errors quote files."""
    folder = project / "mine"
    folder.mkdir()
    for number in range(8):
        write_edf(folder / f"{number}.edf", ["I", "P.: Anna Muster", "b 1962-03-05"])
    (folder / "8.hea").write_text("Erna Kaputt 12 100\n")
    rows = {"file": range(9), "label": ["a", "b", "a"] * 3}
    pd.DataFrame(rows).to_csv(folder / "table.csv", index=False)
    block, _ = new("mine")
    assert block["download"]["leads"] == []
    written = Path("params.yaml").read_text()
    for personal in ("Muster", "1962", "Kaputt"):
        assert personal not in written, personal
    assert "I and 2 not shown" in written
    assert "such as 8.hea" in written
    assert "8.hea: " in capsys.readouterr().out


def test_control_characters_in_labels(project: Path) -> None:
    """They are as they are in the list of classes, seen in comments, and refused where YAML would make
    another label of them."""
    series(project / "mine", {"label": ["a\x07b", "c"] * 10})
    assert new("mine")[0]["aggregate_labels"]["classes"] == ["a\x07b", "c"]
    shutil.copy(ROOT / "params.yaml", project)
    series(project / "lines", {"label": ["a\u2028b", "c"] * 10})
    assert r"a\u2028b" in refused("lines")


@pytest.mark.parametrize("labels", [["--labels", "label"], []])
def test_one_class_is_for_anomaly_detection_alone(project: Path, labels: list[str]) -> None:
    """It is said how, and that works; no other column is taken in its place."""
    series(project / "mine", {"label": ["all fine"] * 20, "colour": ["red", "blue"] * 10})
    assert "--labels label --anomaly 'all fine'" in refused("mine", *labels)
    block, _ = new("mine", "--labels", "label", "--anomaly", "all fine")
    assert block["aggregate_labels"]["task"] == "anomaly"


@pytest.mark.parametrize("table", [{"a": [0, 1] * 10, "b": [0] * 20}, {"a": [""] * 20}])
def test_columns_with_fewer_than_two_classes_are_refused(
    project: Path, table: dict[str, list[Any]]
) -> None:
    series(project / "mine", table)
    assert "--labels" in refused("mine", "--labels", ",".join(table))


def test_paths_of_another_machine(project: Path) -> None:
    """The table, the first path that leads nowhere, and a file are named."""
    series(project / "mine", {"label": ["a", "b"] * 10})
    table = pd.read_csv(project / "mine" / "index.csv")
    table["path"] = [f"/mnt/ward/x{number}.npy" for number in range(20)]
    table.to_csv(project / "mine" / "index.csv", index=False)
    pd.DataFrame({"remark": ["n/a"]}).to_csv(project / "mine" / "a.csv", index=False)
    message = refused("mine")
    for named in ("index.csv", "/mnt/ward/x0.npy", "s000.npy"):
        assert named in message


@pytest.mark.parametrize("times", [2, 5])
def test_several_rows_for_a_file_are_refused(project: Path, times: int) -> None:
    """As the download would refuse them."""
    series(project / "mine", {"label": ["a", "b"] * 5})
    table = pd.read_csv(project / "mine" / "index.csv")
    pd.concat([table] * times).to_csv(project / "mine" / "index.csv", index=False)
    message = refused("mine")
    assert "index.csv" in message and "s000.npy" in message


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        ({"label": ["o. B.", "krank"] * 10}, "aggregate_labels.normal"),
        ({"label": ["ok", "ill", "Ill", "ok"] * 5}, "aggregate_labels.map"),
        ({"label": ["ok", "ill"] * 10, "strat_fold": [*range(1, 11)] * 2}, "strat_fold"),
        ({"label": ["AF", "MI", "AF/MI", "MI"] * 5}, "download.separator to '/'"),
        (
            {"label": ["['AF']", "['AF', 'MI']", "['MI', 'LVH']", "['LVH']"] * 5},
            "download.separator",
        ),
        ({"label": ["ok", "ill"] * 10, "sampling_rate": ["100,5"] * 20}, "sampling_rate"),
    ],
)
def test_what_may_be_meant_otherwise_is_told(
    project: Path, columns: dict[str, Any], named: str
) -> None:
    """Which of two labels is looked for, labels that differ in case, and a split in other words."""
    series(project / "mine", COLUMNS | columns)
    new("mine")
    comments = [line for line in Path("params.yaml").read_text().splitlines() if "NOT SURE" in line]
    assert any(named in line for line in comments)


def test_names_of_two_words_are_no_lists(project: Path) -> None:
    series(project / "mine", COLUMNS | {"label": ["sinus rhythm", "sinus bradycardia"] * 10})
    new("mine")
    assert "download.separator" not in Path("params.yaml").read_text()


def test_ages_with_a_decimal_comma_are_ages(project: Path) -> None:
    series(project / "mine", COLUMNS | {"age": ["40,5"] * 20})
    assert new("mine")[0]["download"]["age"] == "age"


def test_why_the_one_table_cannot_be_read_is_told(project: Path) -> None:
    """In another encoding than UTF-8, as spreadsheets save it: not that there is none."""
    series(project / "mine", COLUMNS)
    (found,) = (project / "mine").glob("*.csv")
    found.write_bytes(found.read_text().replace("label", "läbel").encode("latin-1"))
    with pytest.raises(SystemExit, match="UTF-8"):
        cli.main(["new", "dataset", "mine"])
    with pytest.raises(SystemExit, match="nowhere is missing"):
        cli.main(["new", "dataset", "nowhere"])
