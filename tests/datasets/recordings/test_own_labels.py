"""From a table of one's own to classes: every way in which tables say them, and what cannot be meant."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from beatline.common.errors import UserError
from beatline.datasets import Labels
from beatline.datasets.recordings.labels import AggregateLabels, aggregated, later_labels
from beatline.datasets.recordings.quality import FLAGS


def rows(*labels: list[str], **columns: list[str]) -> pd.DataFrame:
    """Records r0, r1, … with one column of labels or several, as a pack holds them."""
    records = [f"r{number}" for number in range(len(labels[0]))]
    table = pd.DataFrame({"record": records, "alike": records, "classes": "", "rejected": 0})
    table = table.assign(**{f"label {number}": column for number, column in enumerate(labels)})
    return table.assign(**dict.fromkeys(FLAGS, "")).assign(**columns)


def labelled(
    table: pd.DataFrame, columns: list[str], separator: str | None = None, **block: Any
) -> Labels:
    parameters = AggregateLabels.model_validate({"min_records": 1, **block})
    return aggregated(table, columns, separator, parameters)


def test_one_column_with_classes() -> None:
    """Two classes are a binary task, whose class is the one that is not normal; more are multiclass."""
    labels = labelled(rows(["AF", "SR", "AF", ""]), ["y"], normal="SR")
    assert (labels.task, labels.classes) == ("binary", ["AF"])
    assert labels.table["AF"].to_list() == [1, 0, 1]
    assert labels.table["normal"].to_list() == [0, 1, 0]
    assert labels.counts["records_without_label"] == 1
    labels = labelled(rows(["10", "9", "x", "9"]), ["y"])
    assert (labels.task, labels.classes) == ("multiclass", ["9", "10", "x"])
    assert labels.table[labels.classes].to_numpy().tolist() == [
        [0, 1, 0],
        [1, 0, 0],
        [0, 0, 1],
        [1, 0, 0],
    ]


def test_lists_without_their_separator_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Otherwise just the records with several labels vanish, and the rest is no fair part of them."""
    table = rows(["AF", "MI", "AF;MI", "AF", "MI"])
    labelled(table, ["y"], separator=";", classes=["AF", "MI"], task="multilabel")
    assert "download.separator" not in capsys.readouterr().out
    labelled(table, ["y"], classes=["AF", "MI"], task="multilabel")
    said = capsys.readouterr().out
    assert "1 records" in said and "AF;MI" in said and "download.separator" in said


def test_a_normal_label_that_there_is_not_is_refused_in_every_task() -> None:
    for task in ("multilabel", "multiclass"):
        with pytest.raises(UserError, match=r"normal.*'norm'.*NORM"):
            labelled(rows(["NORM", "MI", "CD"]), ["y"], task=task, normal="norm")


def test_several_columns_with_0_and_1() -> None:
    """As numbers or words; what is empty counts as 0 and is counted, and anything else is an error that
    names column and record. Who has 0 in all is an example of none."""
    table = rows(["1", "0", "True", "0"], ["0", "1", "yes", ""])
    labels = labelled(table, ["AF", "MI"])
    assert (labels.task, labels.classes) == ("multilabel", ["AF", "MI"])
    assert labels.table[["AF", "MI"]].to_numpy().tolist() == [[1, 0], [0, 1], [1, 1], [0, 0]]
    assert labels.counts["empty_label_cells"] == 1
    assert labels.counts["without_class_kept"] == 1
    some = labelled(table, ["AF", "MI"], classes=["AF"])
    assert some.table["AF"].to_list() == [1, 1, 0]  # r1 has another label
    assert some.counts["without_class_dropped"] == some.counts["without_class_kept"] == 1
    assert len(labelled(table, ["AF", "MI"], unlabelled="drop").table) == 3
    with pytest.raises(UserError, match=r"MI.*r1"):
        labelled(rows(["1", "0"], ["0", "maybe"]), ["AF", "MI"])


def test_lists_with_a_separator() -> None:
    labels = labelled(rows(["AF; MI", "MI", "", "SR;"]), ["y"], ";")
    assert labels.classes == ["AF", "MI", "SR"]
    assert labels.table["record"].to_list() == ["r0", "r1", "r3"]
    assert labels.table[labels.classes].to_numpy().tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]


def test_labels_are_mapped_chosen_and_dropped() -> None:
    """Two labels may become one class; those that are dropped or not chosen are left out and counted."""
    table = rows(["AF", "AFL", "SR", "noise", "PVC", "PVC"])
    labels = labelled(
        table, ["y"], map={"AF": "arrhythmia", "AFL": "arrhythmia"}, drop=["noise"], min_records=2
    )  # fmt: skip
    assert labels.classes == ["PVC", "arrhythmia"]
    assert labels.table["record"].to_list() == ["r0", "r1", "r4", "r5"]
    assert labels.counts["records_of_dropped_labels"] == 1
    assert labels.counts["records_of_small_classes"] == 1
    chosen = labelled(table, ["y"], classes=["SR", "AF"], task="multiclass")
    assert chosen.classes == ["SR", "AF"]
    assert chosen.counts["records_of_other_labels"] == 4


@pytest.mark.parametrize("task", ["multilabel", "multiclass", "binary", "anomaly"])
def test_a_record_with_a_dropped_label_is_left_out(task: str) -> None:
    """Whatever the task, and whatever else the record has: it is an example of nothing."""
    table = rows(["a", "c", "a;b", "b", "c;b", "a"])
    labels = labelled(table, ["y"], ";", task=task, drop=["b"], normal="a")
    assert labels.table["record"].to_list() == ["r0", "r1", "r5"]
    assert labels.table["normal"].to_list() == [1, 0, 1]
    assert labels.counts["records_of_dropped_labels"] == 3
    with pytest.raises(UserError, match=r"aggregate_labels\.drop"):
        labelled(table, ["y"], ";", task=task, drop=["a", "b", "c"])


def test_a_record_that_nobody_labelled_is_not_the_other_class(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of a binary task with one class; but columns with 0 and 1 say of each record what it is not, and
    where a table has a single class there is nothing else that can be meant, which a warning says."""
    binary: dict[str, Any] = {"task": "binary", "classes": ["1"]}
    labels = labelled(rows(["1", "0", "", "1"]), ["y"], **binary)
    assert labels.table["record"].to_list() == ["r0", "r1", "r3"]
    assert labels.table["1"].to_list() == [1, 0, 1]
    columns = labelled(rows(["1", "0"], ["0", ""]), ["AF", "MI"], task="binary", classes=["AF"])
    assert columns.table["AF"].to_list() == [1, 0]
    assert "2 records" not in capsys.readouterr().out
    single = labelled(rows(["AF", "", ""]), ["y"], task="binary")
    assert single.table["AF"].to_list() == [1, 0, 0]
    assert "2 records" in capsys.readouterr().out


@pytest.mark.parametrize("key", ["map", "classes", "drop", "normal"])
def test_a_label_that_there_is_not_is_named(key: str) -> None:
    """With the nearest that there is."""
    value = {"map": {"FA": "x"}, "normal": "FA"}.get(key, ["FA"])
    with pytest.raises(UserError, match=rf"aggregate_labels\.{key}.*FA.*AF"):
        labelled(rows(["AF", "SR", "SR"]), ["y"], **{key: value})


def test_anomalies_are_what_is_not_normal() -> None:
    labels = labelled(rows(["ok", "bad", "ok", "worse"]), ["y"], task="anomaly", normal="ok")
    assert (labels.task, labels.classes) == ("anomaly", ["anomaly"])
    assert labels.table["anomaly"].to_list() == [0, 1, 0, 1]
    assert labels.table["normal"].to_list() == [1, 0, 1, 0]
    with pytest.raises(UserError, match="normal"):
        labelled(rows(["ok", "bad"]), ["y"], task="anomaly")


def test_records_of_several_labels_are_no_example_of_one() -> None:
    labels = labelled(rows(["a;b", "a", "b", "c"]), ["y"], ";", task="multiclass")
    assert labels.table["record"].to_list() == ["r1", "r2", "r3"]
    assert labels.counts["records_of_several_labels"] == 1


def test_a_binary_task_has_two_classes() -> None:
    with pytest.raises(UserError, match=r"aggregate_labels\.task"):
        labelled(rows(["a", "b", "c"]), ["y"], task="binary")


@pytest.mark.parametrize("block", [{}, {"task": "multiclass"}, {"task": "binary"}])
def test_one_class_is_nothing_to_learn(block: dict[str, Any]) -> None:
    """Whether the table has no other, or no other is left."""
    for labels, more in (
        (["a", "a"], {}),
        (["a", "a", "b", ""], {"drop": ["b"]}),
        (["a", "a", "b"], {"min_records": 2, "task": block.get("task", "multiclass")}),
    ):
        with pytest.raises(UserError):
            labelled(rows(labels), ["y"], **{**block, **more})


def test_a_patient_in_two_folds_is_an_error() -> None:
    """He is named, with the folds."""
    table = rows(["a", "b", "a"], patient=["p1", "p2", "p1"], fold=["train", "val", "Test"])
    with pytest.raises(UserError, match=r"p1 in test and train"):
        labelled(table, ["y"])
    labels = labelled(table.assign(fold=["train", "val", "training"]), ["y"])
    assert labels.table["fold"].to_list() == ["train", "validation", "train"]
    assert labels.table["group"].to_list() == ["p1", "p2", "p1"]
    with pytest.raises(UserError, match=r"r1.*'7'"):
        labelled(table.assign(fold=["train", "7", "train"]), ["y"])


def test_equal_records_are_never_parted() -> None:
    """Those of two patients become one group, with whatever else is in it."""
    table = rows(["a", "b", "a", "b"], patient=["p", "q", "q", "s"], alike=["r0", "r1", "r2", "r0"])
    labels = labelled(table.assign(duplicate=["", "", "", "r0"]), ["y"])
    assert labels.table["group"].to_list() == ["p", "q", "q", "p"]
    assert labels.table["alike"].to_list() == ["r0", "r1", "r2", "r0"]
    dropped = labelled(
        table.assign(duplicate=["", "", "", "r0"]), ["y"], quality={"drop": ["duplicate"]}
    )
    assert "alike" not in dropped.table
    assert dropped.table["record"].to_list() == ["r0", "r1", "r2"]
    assert dropped.counts["left_out_for_quality"] == 1


def test_of_equal_records_one_with_a_label_stays(capsys: pytest.CaptureFixture[str]) -> None:
    """The first has none, or a dropped one, so that it is left out: its twin is not. Equal records of
    different classes are told and counted, as one of them must be wrong."""
    table = rows(
        ["", "a", "x", "b", "a", "b"],
        alike=["r0", "r0", "r2", "r2", "r2", "r5"],
        duplicate=["", "r0", "", "r2", "r2", ""],
    )
    block: dict[str, Any] = {"task": "multiclass", "drop": ["x"]}
    labels = labelled(table, ["y"], **block, quality={"drop": ["duplicate"]})
    assert labels.table["record"].to_list() == ["r1", "r3", "r5"]
    assert labels.counts["left_out_for_quality"] == 2
    assert labels.counts["equal_with_other_labels"] == 2
    assert "2 records are equal" in capsys.readouterr().out
    assert labelled(table.iloc[:2], ["y"], task="multilabel").counts["equal_with_other_labels"] == 0


def test_equal_records_that_are_and_are_not_of_a_class_are_told() -> None:
    """Of a binary task with one class its absence is a label too, in a column as in several."""
    alike = ["r0", "r0", "r2"]
    binary: dict[str, Any] = {"task": "binary"}
    one = labelled(rows(["1", "0", "0"], alike=alike), ["y"], **binary, classes=["1"])
    several = rows(["1", "0", "0"], ["0", "0", "1"], alike=alike)
    two = labelled(several, ["AF", "MI"], **binary, classes=["AF"])
    assert [labels.counts["equal_with_other_labels"] for labels in (one, two)] == [2, 2]


def test_quality_is_told_and_dropped_on_demand(capsys: pytest.CaptureFixture[str]) -> None:
    """By default nothing is left out, and what was seen is named."""
    table = rows(["a", "b", "a"], flat=["", "V1, V2", ""], noisy=["I", "V1", ""])
    labels = labelled(table, ["y"])
    assert labels.table["quality"].to_list() == ["noisy", "flat;noisy", ""]
    assert labels.table["quality_details"].to_list()[1] == "flat: V1, V2; noisy: V1"
    assert (labels.counts["quality_flat"], labels.counts["quality_noisy"]) == (1, 2)
    assert "r1" in capsys.readouterr().out
    kept = labelled(table, ["y"], quality={"drop": ["flat"]}, task="multilabel")
    assert kept.table["record"].to_list() == ["r0", "r2"]
    with pytest.raises(UserError, match=r"quality\.drop"):
        labelled(table.assign(noisy="I"), ["y"], quality={"drop": ["noisy"]})


def test_sexes_and_ages(capsys: pytest.CaptureFixture[str]) -> None:
    """Words, or numbers by the code that they can only be of, with a warning."""
    words = rows(["a", "b", "a"], sex=["Male", "f", ""], age=["50", "", "-3"])
    labels = labelled(words, ["y"])
    assert labels.table["sex"].fillna(-1).to_list() == [0, 1, -1]
    assert labels.table["age"].fillna(-1).to_list() == [50, -1, -1]
    assert "1 records have an age" in capsys.readouterr().out
    of_a_table = rows(["a", "b", "a"], age=["67,5", "15709", "NA"], patient=["x", "", ""])
    found = labelled(of_a_table, ["y"], task="multiclass").table
    assert found["age"].fillna(-1).to_list() == [67.5, -1, -1]
    said = capsys.readouterr().out
    assert "15709" in said and "2 of 3 records name no patient" in said
    months = labelled(rows(["a", "b", "a"], age=["8 months", "300", "90"]), ["y"]).table
    assert months["age"].fillna(-1).to_list() == [-1, 300, 90]
    assert "sex" not in capsys.readouterr().out
    iso = labelled(rows(["a", "b", "a"], sex=["1", "2", "0"]), ["y"])
    assert iso.table["sex"].fillna(-1).to_list() == [0, 1, -1]
    assert "sex" in capsys.readouterr().out
    assert labelled(rows(["a", "b"], sex=["0", "1"]), ["y"]).table["sex"].to_list() == [0, 1]
    given = ["Mujer", "Hombre", "missing", "Mrs", "männlich", "H", "W"]
    capsys.readouterr()
    others = labelled(rows(["a", "b", *"ababa"], sex=given), ["y"])
    assert others.table["sex"].fillna(-1).to_list() == [1, 0, -1, -1, 0, -1, 1]
    assert "3 records" in capsys.readouterr().out


def test_what_experts_told_of_later_recordings_becomes_a_label() -> None:
    """The classes, what is normal where there is none, and for a detector normal or anomaly; it is an
    error if nothing says what no class is called."""
    binary: dict[str, Any] = {"task": "binary", "min_records": 1, "normal": "SR"}
    assert later_labels(["AF"], binary) == ["AF"]
    assert later_labels(["class age"], binary) == ["age"]
    assert later_labels([], binary) == ["SR"]
    with pytest.raises(UserError, match=r"aggregate_labels\.normal"):
        later_labels([], binary | {"normal": None})
    assert later_labels([], binary | {"task": "multilabel"}) == []
    detector = binary | {"task": "anomaly"}
    assert later_labels(["normal"], detector) == ["SR"]
    assert later_labels(["anomaly"], detector) == ["anomaly"]


def test_a_class_is_called_as_no_other_column() -> None:
    labels = labelled(rows(["age", "fold", "age"], age=["1", "2", "3"]), ["y"], task="multiclass")
    assert labels.classes == ["class age", "class fold"]
    assert labels.table["age"].to_list() == [1, 2, 3]
