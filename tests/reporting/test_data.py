"""The sections on data sets: what was found, how it is divided and normalized, how it looks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from beatline.reporting import data, results
from beatline.reporting.document import Document
from tests.reporting import project
from tests.reporting.reading import section, table


def test_what_was_found_skipped_and_shared_is_told(document: Document) -> None:
    text = section(document, "hearts: data")
    assert "(simulated data, source `beatline/simulators/ecg`)" in text
    assert "120 samples at 100 Hz, 12 channels (I, II, III, aVR" in text
    assert table(text, "found and skipped")["files without rows"] == {
        "found and skipped": "files without rows",
        "number": "3",
    }
    counts = table(text, "class")
    assert list(counts["records"].values())[1:] == ["12", "6", "24"]
    assert list(counts["patients"].values())[1:] == ["6", "3", "12"]
    assert list(counts[r"M\|I\_x"].values())[1:] == ["4", "2", "8"]
    assert "Patients with records in more than one split: **2**. Scores are flattered" in text
    assert "more than one split" not in section(document, "beats: data")


def test_records_without_a_class_are_counted_as_what_they_are(document: Document) -> None:
    assert "none of these" in table(section(document, "hearts: data"), "class")
    assert table(section(document, "beats: data"), "class")["normal"]["test"] == "16"
    assert not {"normal", "none of these"} & set(table(section(document, "digits: data"), "class"))


def test_records_of_each_machine_are_counted(document: Document) -> None:
    text = section(document, "machines: data")
    counts = table(text, "class")
    assert counts["records of machine 00"]["validation"] == "4"
    assert counts["records of machine 01"]["validation"] == "2"
    assert counts["anomaly"] == {
        "class": "anomaly",
        "train": "0",
        "validation": "0",
        "test": "8",
    }
    assert "sound, with bands 10" in text


def test_how_it_is_normalized_is_told(document: Document) -> None:
    """Many channels are summed up by the smallest, median and largest value."""
    hearts, digits, rows = (section(document, f"{name}: data") for name in _NORMALIZED)
    assert "Each channel is normalized" in hearts
    assert "Constant channels: I." in hearts
    assert "samples, set to the mean of the training records: 7." in hearts
    assert table(hearts, "channel")["V6"]["standard deviation"] == "0.500"
    assert "All columns are normalized" in digits
    assert list(table(digits, "column")) == ["all columns"]
    assert "set to the median of the training records: 7." in rows
    assert list(table(rows, "of 20 features")) == ["smallest", "median", "largest"]


_NORMALIZED = ("hearts", "digits", "rows")


def test_examples_come_from_train_and_have_their_class_alone(document: Document) -> None:
    """NORM is every second record, the other class every third: the first alone are 2 and 3."""
    text = section(document, "hearts: data")
    for record, label in (("files/train\\_2", "NORM"), ("files/train\\_3", r"M\|I\_x")):
        assert f"A simulated recording labelled {label} ({record}), the first of the" in text
    assert text.count("training split with this label alone") == 2
    assert "real recording labelled normal (files/train\\_1)" in section(document, "beats: data")


def test_small_examples_of_all_classes_stand_on_one_sheet(document: Document) -> None:
    """Digits, and rows of a table: one figure each, of training records."""
    assert "the training split: train\\_0, train\\_1, train\\_2." in section(
        document, "digits: data"
    )
    assert "the training split: train\\_1, train\\_0. A bar is" in section(document, "rows: data")
    for name in ("digits", "rows"):
        examples = [path for path in document.figures if path.startswith(f"figures/{name}/example")]
        assert examples == [f"figures/{name}/examples.png"]


def test_of_each_machine_a_normal_and_an_anomalous_spectrogram_is_shown(document: Document) -> None:
    """Examples are test records, as there is no anomaly elsewhere; other faults at other machines."""
    text = section(document, "machines: data")
    assert (
        "Simulated recordings, of the test split: test\\_1, test\\_0, test\\_2, test\\_3." in text
    )


def test_of_many_classes_the_most_frequent_are_drawn(root: Path) -> None:
    """Not seventy pages of ECGs, and it is said of how many classes they are."""
    hearts = results.read(project.CONTENT, "hearts", root)
    names = [f"class {number}" for number in range(30)]
    train = hearts.splits["train"]
    records = len(train.table)
    labels = {
        name: [int(row <= number) for row in range(records)] for number, name in enumerate(names)
    }
    table = train.table.assign(normal=0, **labels)
    hearts = replace(
        hearts,
        dataset_info={**hearts.dataset_info, "classes": names},
        splits={**hearts.splits, "train": replace(train, table=table)},
    )
    document = Document()
    data._add_examples(document, hearts)
    drawn = [int(name.rsplit("_", 1)[1].removesuffix(".png")) for name in document.figures]
    totals = table[names].sum()
    assert len(drawn) == 12 and totals[[f"class {n}" for n in drawn]].min() == records
    assert "30" in document.blocks[0]
