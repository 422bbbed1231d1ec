"""Tables of features: CSV and Parquet say the same, labels become tasks, mistakes are named."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_breast_cancer, load_iris

from beatline.common import sums
from beatline.common.errors import UserError
from beatline.datasets import Labels, Manifest, table
from beatline.features.tables import write_tables
from beatline.formats import tables
from beatline.preprocessing.arrays import write_split
from beatline.preprocessing.splitting import Split, assign
from beatline.sources.pack import Pack, PackWriter
from tests.damage import flipped, places

DOWNLOAD: dict[str, Any] = {
    "sha256": None,
    "label": "label",
    "features": [],
    "ignore": [],
    "record": None,
    "group": None,
    "fold": None,
}
LABELS = {"values": [], "normal": None, "duplicates": "error", "min_records": 1}


def downloaded(source: Path | str, workspace: Path, **changes: Any) -> tuple[Path, Manifest]:
    """The pack of a table and its manifest."""
    block = {**DOWNLOAD, "source": str(source), **changes}
    path = workspace / "raw.zip"
    with PackWriter(path) as pack:
        manifest = table.download(table.Download.model_validate(block), pack, workspace)
    return path, manifest


def labels_of(path: Path, **changes: Any) -> Labels:
    with Pack(path) as pack:
        return table.read_labels(pack, table.AggregateLabels.model_validate({**LABELS, **changes}))


def recordings_of(path: Path, records: list[str]) -> np.ndarray:
    with Pack(path) as pack:
        return np.concatenate(list(table.read_recordings(pack, records)))


def saved(folder: Path, content: str | bytes, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def labelled(folder: Path, content: str, *, download: Any = None, **changes: Any) -> Labels:
    """The labels of a CSV table."""
    return labels_of(downloaded(saved(folder, content), folder, **(download or {}))[0], **changes)


# ---------------------------------------------------------------- formats

numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-9, 9)
words = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=5).map(str.strip)


@settings(max_examples=80)
@given(
    rows=st.lists(st.tuples(numbers, numbers, words), min_size=1, max_size=8),
    separator=st.sampled_from(",;\t"),
    missing=st.sampled_from(["", "NA", "nan", "NULL", "None", "?"]),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_csv_and_parquet_say_the_same(
    rows: list[tuple[float | None, float | None, str]], separator: str, missing: str, end: str
) -> None:
    """Numbers to the last bit, missing ones as NaN, texts with separators, quotes and other scripts."""
    frame = pd.DataFrame(rows, columns=["a", "b 1", "label"])
    frame = frame.astype({"a": np.float64, "b 1": np.float64})
    written = frame.to_csv(index=False, sep=separator, na_rep=missing, lineterminator=end)
    packed = io.BytesIO()
    pyarrow.parquet.write_table(pa.Table.from_pandas(frame, preserve_index=False), packed)
    for content in (written.encode(), ("\ufeff" + written).encode(), packed.getvalue()):
        assert tables.names(content, "x") == ["a", "b 1", "label"]
        found = tables.read(content, "x", ["b 1", "a"], ["label"])
        np.testing.assert_array_equal(found.numbers, frame[["b 1", "a"]].to_numpy())
        assert found.texts["label"].to_list() == [tables.text(word) for _, _, word in rows]


def test_columns_of_many_types() -> None:
    """Integers with gaps, booleans, decimals, categories and numbers written as text are numbers."""
    content = io.BytesIO()
    columns = {
        "integers": pa.array([1, None, 3]),
        "booleans": pa.array([True, False, None]),
        "decimals": pa.array(["1.50", None, "2.25"]).cast(pa.decimal128(5, 2)),
        "categories": pa.array(["1", "2", "1"]).dictionary_encode(),
        "texts": pa.array(["+1", " 2.5 ", "NA"]),
        "nothing": pa.nulls(3),
        "half": pa.array(np.array([1, 2, 3], np.float16)),
    }
    pyarrow.parquet.write_table(pa.table(columns), content)
    found = tables.read(content.getvalue(), "x", list(columns), list(columns))
    nan = np.nan
    expected = [
        [1, nan, 3],
        [1, 0, nan],
        [1.5, nan, 2.25],
        [1, 2, 1],
        [1, 2.5, nan],
        [nan, nan, nan],
        [1, 2, 3],
    ]
    np.testing.assert_array_equal(found.numbers.T, expected)
    assert found.texts["integers"].to_list() == ["1", "", "3"]
    assert found.texts["half"].to_list() == ["1", "2", "3"]
    assert found.texts["booleans"].to_list() == ["True", "False", ""]
    assert found.texts["nothing"].to_list() == ["", "", ""]


def test_true_and_false_in_csv() -> None:
    """Truth values as pandas and R write them, beside a column of numbers that stays exact."""
    content = b"a,b,label\n0.1,True,x\n1e-300,false,y\nNA,,z\n"
    found = tables.read(content, "x", ["a", "b"], [])
    np.testing.assert_array_equal(found.numbers, [[0.1, 1], [1e-300, 0], [np.nan, np.nan]])


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1, "1"), (1.0, "1"), ("1.0", "1"), (" 1 ", "1"), ("3.0000e+00", "3"), ("001", "001"),
     (True, "True"), (1.5, "1.5"), ("NA", ""), (float("nan"), ""), ("none", "none"),
     ("1e400.0", "1e400.0"), ("v1.0", "v1.0"), ("?", ""), ("None", ""), ("#N/A N/A", ""),
     ("12345678901234567.0", "12345678901234567"), (12345678901234567, "12345678901234567"),
     (1e16, "10000000000000000"), ("\u0661.0", "\u0661.0")],
)  # fmt: skip
def test_labels_that_are_the_same(value: Any, expected: str) -> None:
    """Whole numbers are one label however they are written; codes with leading zeros are kept."""
    assert tables.text(value) == expected


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    "content",
    [
        "a;b, in mV;label\n0,5;-1,250;1,0\n;+,5;?\n",
        'a,"b, in mV",label\n"0,5","-1,250","1,0"\n,"+,5",None\n',
        "a\tb, in mV\tlabel\n 0.5\t-1.25\t1.0\nn/a\t+.5\t#NA\n",
        ' \n a , "b, in mV", label\n'.replace(', "', ',"') + "0.5,-1.250,1\n1.#QNAN,.5,-NaN\n",
    ],
)
def test_tables_of_other_programs(content: str, end: str) -> None:
    """Decimal commas, separators in names, blanks, line ends, and every mark of a missing value."""
    found = tables.read(content.replace("\n", end).encode(), "x", ["a", "b, in mV"], ["label"])
    np.testing.assert_array_equal(found.numbers, [[0.5, -1.25], [np.nan, 0.5]])
    assert found.texts["label"].to_list() == ["1", ""]


def test_names_in_parquet_are_exact() -> None:
    """A float that can no longer tell two names apart is refused; texts that an older writer stored as
    bytes are texts, and bytes that are none are refused."""
    for kind, large in ((pa.float32(), 2.0**25), (pa.float64(), 2.0**54)):
        content = io.BytesIO()
        pyarrow.parquet.write_table(pa.table({"id": pa.array([1, large], kind)}), content)
        with pytest.raises(UserError, match="x: column id holds names of more digits than"):
            tables.read(content.getvalue(), "x", [], ["id"])
        assert tables.read(content.getvalue(), "x", ["id"], []).numbers[1, 0] == large
    content = io.BytesIO()
    columns = {"a": pa.array([b"1.5", None]), "b": pa.array([b"x", b"\xff"])}
    pyarrow.parquet.write_table(pa.table(columns), content)
    found = tables.read(content.getvalue(), "x", ["a"], ["a"])
    assert found.texts["a"].to_list() == ["1.5", ""] and found.numbers[0, 0] == 1.5
    with pytest.raises(UserError, match="x: column b holds bytes"):
        tables.read(content.getvalue(), "x", [], ["b"])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a,b,label\n1,2,x\n\n1,2e,x\n", "line 4: column b holds '2e', which is no number"),
        ('a,b,label\n1,2,"x\ny"\n1,1_0,x\n', "line 4: column b holds '1_0'"),
        ("a;b;label\n1.5;2;x\n1;2,5;x\n", "line 3: column b holds '2,5'"),
        ("a;b;label\n1;2,5;x\n1;2,5,5;x\n", "line 3: column b holds '2,5,5'"),
        ("a;b;label\n1;2,500;x\n1;17,250;x\n", "line 2: 2,500 may be 2500 or"),
        ('a,b,label\n1,"2,500",x\n', "line 2: 2,500 may be 2500 or"),
        ("a;b;c,label\n1;2;3,5\n1;2;4,5\n", "by the separators"),
        ("a,b,label,\n1,2,x,\n", "column 4 has no name"),
        ("a,b,label\n1,2,x,\n", "line 2 has 4 values"),
        ("a,b,label\n1,0x1F,x\n", "line 2: column b holds '0x1F'"),
        ("a,b,label\n1,\u0663,x\n", "line 2: column b holds '\u0663'"),
        ("a,b,label\n1,2,x\n".encode("utf-16"), "is UTF-16"),
        ("a,b,label\n1,2,x\n1,x\n", "line 3 has 2 values, but there are 3 columns"),
        ("a,b,label\n1,2,x\n1,2,3,x\n", "line 3 has 4 values, but there are 3 columns"),
        ("a,b,label\n1,-inf,x\n", "line 2: column b is infinite"),
        ("a,b,label\n1,1e999,x\n", "line 2: column b is infinite"),
        ("\na,a,label\n1,2,x\n", "has several columns a"),
        (",a,label\n0,1,x\n", "column 1 has no name"),
        ("1,2,3\n4,5,6\n", "begins with numbers"),
        ("a,b,label\n", "has no rows"),
        ("\n \n", "is empty"),
        ('a,b,label\n1,2,x\n1,2,"x\n1,2,x\n', "line 3 has a double quote that is not closed"),
        (b"a,b,label\n1,2,\xe9\n", "is not UTF-8 text"),
        (b"\x89PNG\r\n\x1a\n\0\0", "is no CSV file"),
        (b"PAR1 and then nothing that is", "is no Parquet file, or is damaged"),
        ("b,label\n1,x\n", "table.csv has no column a, which features names; known: b, label"),
        ("A,b,lable\n1,1,x\n", "has no column label, which label names (did you mean lable?)"),
    ],
)  # fmt: skip
def test_mistakes_in_a_table(tmp_path: Path, content: str | bytes, expected: str) -> None:
    """One sentence names the file, the line and the column; no pack is left behind."""
    source = saved(tmp_path, content)
    with pytest.raises(UserError) as error:
        downloaded(source, tmp_path, features=["a", "b"])
    assert expected in str(error.value) and str(source) in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "raw.zip").exists()


def test_mistakes_in_parquet(tmp_path: Path) -> None:
    """A truncated file, a column of dates, and a number that is a text: each named."""
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": ["1", "x"], "label": ["u", "v"]})
    frame["day"] = pd.Timestamp("2020-01-01")
    frame.to_parquet(tmp_path / "t.parquet")
    with pytest.raises(UserError, match=r"t\.parquet, row 2: column b holds 'x'"):
        downloaded(tmp_path / "t.parquet", tmp_path)
    with pytest.raises(UserError, match=r"column day holds timestamp.* add it to `ignore`"):
        downloaded(tmp_path / "t.parquet", tmp_path, features=["a", "day"])
    whole = (tmp_path / "t.parquet").read_bytes()
    cut = saved(tmp_path, whole[:-30], "cut.parquet")
    with pytest.raises(UserError, match=r"cut\.parquet is no Parquet file, or is damaged"):
        downloaded(cut, tmp_path)


def test_index_of_pandas_is_no_feature(tmp_path: Path) -> None:
    """The row numbers that pandas stores with a filtered table would tell the order of the rows."""
    frame = pd.DataFrame({"a": [1.0, 2.0, 3.0], "label": [0, 1, 0]}, index=pd.Index([7, 8, 9]))
    frame.to_parquet(tmp_path / "t.parquet")
    assert downloaded(tmp_path / "t.parquet", tmp_path)[1].channels == ["a"]


# ---------------------------------------------------------------- which column is what


def test_features_are_what_is_left(tmp_path: Path) -> None:
    """All columns but the label, identifiers and those to ignore; or those that are named, in order."""
    source = saved(tmp_path, "id,who,a,b,c,label\nr1,p,1,2,3,x\nr2,p,4,5,6,y\n")
    named = {"record": "id", "group": "who", "ignore": ["b"]}
    path, manifest = downloaded(source, tmp_path, **named)
    assert manifest.channels == ["a", "c"]
    assert manifest.counts == {"rows": 2, "features": 2, "missing_values": 0}
    assert manifest.drawing == "features" and manifest.sampling_rate is None
    assert labels_of(path).table["group"].to_list() == ["p", "p"]
    path, manifest = downloaded(source, tmp_path, **named, features=["c", "a"])
    assert manifest.channels == ["c", "a"]
    assert recordings_of(path, ["r2", "r1"]).tolist() == [[[6, 4]], [[3, 1]]]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"features": ["a", "label"]}, "features: label is named twice, or is also the label"),
        ({"features": ["a", "a"]}, "features: a is named twice"),
        ({"features": ["a"], "ignore": ["a"]}, "features: a is named twice, or .* to be ignored"),
        ({"ignore": ["a", "b"]}, "has no feature left"),
        ({"ignore": ["z"]}, "has no column z, which ignore names"),
        ({"record": "nr"}, "has no column nr, which record names"),
        ({"sha256": "0" * 64}, "instead of 0000"),
        ({"source": "nowhere.csv"}, "nowhere.csv is missing"),
    ],
)
def test_mistakes_in_params(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    """Columns that are not there or mean two things, and files that are not there."""
    source = saved(tmp_path, "a,b,label\n1,2,x\n3,4,y\n")
    with pytest.raises(UserError, match=expected):
        downloaded(**{"source": source, "workspace": tmp_path, **changes})


def test_folder_with_one_table(tmp_path: Path) -> None:
    """A folder is searched for its only table; with two there is no telling which."""
    (tmp_path / "s").mkdir()
    saved(tmp_path / "s", "read me", "README.txt")
    saved(tmp_path / "s", "a,label\n1,x\n2,y\n", "one.csv")
    assert downloaded(tmp_path / "s", tmp_path)[1].title == "table one.csv"
    saved(tmp_path / "s", "a,label\n1,x\n", "two.tsv")
    with pytest.raises(UserError, match="holds 2 tables"):
        downloaded(tmp_path / "s", tmp_path)


def derived(folder: Path, **said: Any) -> Path:
    """A folder as extract_features leaves it."""
    folder.mkdir()
    frame = pd.DataFrame(
        {
            "record": ["a/1", "a/2", "a/3"],
            "group": [7, 7, 8],
            "normal": [1, 0, 0],
            "fold": ["train", "test", None],
            "NORM": [1, 0, 0],
            "MI": [0, 1, 1],
            "diagnosis": ["NORM", "MI", "several"],
            "heart_rate": [60.0, np.nan, 80.0],
            "age": [50, 60, 70],
        }
    )
    frame.to_parquet(folder / "features.parquet")
    description = {
        "title": "features of X",
        "source": "simulated",
        "simulated": True,
        "citation": "Someone 2003",
        "unit": "mixed",
        "channels": ["heart_rate"],
        **said,
    }
    saved(folder, json.dumps(description), "dataset.json")
    sums.seal(folder)
    return folder


def test_derived_table(tmp_path: Path) -> None:
    """Its description says what the features are and where they come from."""
    named = {"label": "diagnosis", "record": "record", "group": "group", "fold": "fold"}
    folder = derived(tmp_path / "features")
    path, manifest = downloaded(folder, tmp_path, **named)
    assert (manifest.title, manifest.source, manifest.simulated) == (
        "features of X",
        "simulated",
        True,
    )
    assert (manifest.channels, manifest.unit, manifest.citation) == (
        ["heart_rate"],
        "mixed",
        "Someone 2003",
    )
    assert manifest.counts["missing_values"] == 1
    labels = labels_of(path, values=["several", "NORM"])
    assert labels.table["fold"].to_list() == ["train", ""]
    assert labels.table["group"].to_list() == ["7", "8"]
    assert labels.counts["rows_of_other_labels"] == 1
    for name in ("features.parquet", "dataset.json"):
        for place in places(folder / name, 6):
            with flipped(folder / name, place), pytest.raises(UserError, match="beatline repair"):
                downloaded(folder, tmp_path, **named)
    missing = derived(tmp_path / "other", channels=["pulse"])
    with pytest.raises(UserError, match=r"no column pulse, which channels in its dataset\.json"):
        downloaded(missing, tmp_path, **named)


JOINED: dict[str, Any] = {
    "label": "anomaly",
    "record": "record",
    "group": "group",
    "fold": "fold",
    "section": "machine_id",
    "join": {"entity": "machine_id", "timestamp": "event_timestamp", "days": 1.0},
}
NORMAL: dict[str, Any] = {"target": "anomaly", "normal": 0}


def measured(folder: Path, **changes: list[Any]) -> Path:
    """A folder as extract_features leaves it of machine sound: features without labels, and recordings
    that networks learn from, of which it knows them."""
    events = pd.DataFrame(
        {
            "record": [f"clip {number}" for number in range(8)],
            "group": [f"clip {number}" for number in range(8)],
            "normal": [1, 1, 1, 0, 1, 1, 1, 0],
            "fold": ["train", "train", "test", "test"] * 2,
            "anomaly": [0, 0, 0, 1, 0, 0, 0, 1],
            "machine_id": ["001"] * 4 + ["NA 2"] * 4,
            "fault": ["", "", "", "leakage"] * 2,
            "event_timestamp": [f"2024-01-0{day}T00:00:00Z" for day in range(1, 9)],
            **changes,
        }
    )
    moments = pd.to_datetime(events["event_timestamp"], utc=True)
    numbers = pd.DataFrame({"rms": np.arange(8) / 7, "zcr": [0.5, 0.25, np.nan, 1, 2, 3, 4, 5]})
    rows = pd.concat(
        [events[["record", "machine_id"]].assign(event_timestamp=moments), numbers], axis=1
    )
    folder.mkdir()
    write_tables(folder, rows.iloc[[0, 1, 2, 3, 4, 5, 7]])
    write_split(folder / "recordings", [np.zeros((8, 3, 2), np.float32)], events)
    about = {"title": "X", "source": "simulated", "simulated": True, "citation": "Y", "unit": "dB"}
    saved(folder, json.dumps({**about, "channels": ["band 1", "band 2"]}), "dataset.json")
    sums.seal(folder)
    return folder


def test_labels_come_to_a_table_by_time(tmp_path: Path) -> None:
    """The table of a feature store has no labels. Each labelled recording has the latest features of its
    machine; one that has none is counted and left out, machines are sections called as they were, and
    what is not normal is for nobody to learn."""
    folder = measured(tmp_path / "features")
    join = {**JOINED["join"], "days": 0.5}
    path, manifest = downloaded(folder, tmp_path, **{**JOINED, "join": join})
    assert manifest.channels == ["rms", "zcr"] and manifest.simulated and manifest.unit != "dB"
    labels = labels_of(path, **NORMAL)
    assert (labels.task, labels.classes, labels.sections) == ("anomaly", ["anomaly"], "machine_id")
    assert labels.counts["rows_without_features"] == 1
    table = labels.table.set_index("record")
    assert "clip 6" not in table.index and len(table) == 7
    assert table["machine_id"].to_list() == ["001"] * 4 + ["NA 2"] * 3
    assert table["anomaly"].to_list() == [0, 0, 0, 1, 0, 0, 1]
    assert table["normal"].to_list() == [1, 1, 1, 0, 1, 1, 0]
    assert table["fold"].to_list() == ["train", "train", "test", "test", "train", "train", "test"]
    found = recordings_of(path, ["clip 7", "clip 2", "clip 0"])[:, 0]
    np.testing.assert_array_equal(found, [[1, 5], [round(2 / 7, 9), np.nan], [0, 0.5]])
    # Up to a day old: what was known of the machine the day before.
    (tmp_path / "a day").mkdir()
    path, _ = downloaded(folder, tmp_path / "a day", **JOINED)
    np.testing.assert_array_equal(
        recordings_of(path, ["clip 6", "clip 5"])[:, 0], [[round(5 / 7, 9), 3]] * 2
    )
    with pytest.raises(UserError, match=r"1 duplicates.*remove one of each"):
        labels_of(path, **NORMAL)  # two recordings of one row
    assert len(labels_of(path, **NORMAL, duplicates="together").table) == 8


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        (
            {"join": {**JOINED["join"], "entity": "machine"}},
            "no column machine, which .*join.entity",
        ),
        (
            {"join": {**JOINED["join"], "timestamp": "time"}},
            "no column time, which .*join.timestamp",
        ),
        ({"label": "broken"}, "no column broken, which label names"),
        ({"section": "machine"}, "no column machine, which section names"),
    ],
)
def test_mistakes_in_a_join(tmp_path: Path, named: dict[str, Any], expected: str) -> None:
    """Columns that are not there, by the parameter that names them."""
    with pytest.raises(UserError, match=expected):
        downloaded(measured(tmp_path / "features"), tmp_path, **{**JOINED, **named})


def test_what_cannot_be_joined(tmp_path: Path) -> None:
    """A table of one's own, or one with labels; a damaged file; recordings of one moment."""
    for source in (saved(tmp_path, "a,label\n1,x\n2,y\n"), derived(tmp_path / "ecgs")):
        with pytest.raises(UserError, match=r"download\.join: .* remove join"):
            downloaded(source, tmp_path, **JOINED)
    folder = measured(tmp_path / "features")
    for name in ("features.parquet", "dataset.json", "recordings/records.csv"):
        for place in places(folder / name, 4):
            with flipped(folder / name, place), pytest.raises(UserError, match="beatline repair"):
                downloaded(folder, tmp_path, **JOINED)
    same = measured(tmp_path / "same", event_timestamp=["2024-01-01T00:00:00Z"] * 8)
    with pytest.raises(UserError, match=r"machine_id 001 has different features at one moment"):
        downloaded(same, tmp_path, **JOINED)


def test_anomalies_and_sections(tmp_path: Path) -> None:
    """Whatever is not normal is one class, however many labels there are, and stays with its section;
    without a normal label, or with a row of no section, nobody could say."""
    content = "a,label,unit\n1,ok,u\n2,ok,v\n3,leak,u\n4,crack,v\n"
    labels = labelled(
        tmp_path, content, download={"section": "unit"}, target="anomaly", normal="ok"
    )
    assert labels.table[["anomaly", "unit"]].to_numpy().tolist() == [
        [0, "u"],
        [0, "v"],
        [1, "u"],
        [1, "v"],
    ]
    assert (labels.task, labels.sections) == ("anomaly", "unit")
    classes = labelled(tmp_path, content, download={"section": "unit"})
    assert classes.task == "multiclass" and classes.table["unit"].to_list() == ["u", "v"] * 2
    with pytest.raises(UserError, match=r"target is anomaly, but normal is null"):
        labelled(tmp_path, content, download={"ignore": ["unit"]}, target="anomaly")
    with pytest.raises(UserError, match=r"column unit is empty for row_2"):
        labelled(tmp_path, content.replace("2,ok,v", "2,ok,"), download={"section": "unit"})
    for name in ("group", "leak", "alike", "anomaly"):
        with pytest.raises(UserError, match=rf"section: no section can be called {name}"):
            text = content.replace("unit", name)
            labelled(tmp_path, text, download={"section": name})


def test_equal_sources_make_equal_packs(tmp_path: Path) -> None:
    """The pack is the same bytes each time, which DVC takes for the same data."""
    source = saved(tmp_path, "a,label\n1,x\n2,y\n")
    folder = measured(tmp_path / "features")
    for number, (path, named) in enumerate([(source, {}), (folder, JOINED)] * 2):
        (tmp_path / f"{number}").mkdir()
        downloaded(path, tmp_path / f"{number}", **named)
    packs = [(tmp_path / f"{number}/raw.zip").read_bytes() for number in range(4)]
    assert packs[:2] == packs[2:]


# ---------------------------------------------------------------- labels


def test_two_labels_are_binary(tmp_path: Path) -> None:
    """One class, the label that is not normal; without a normal one, the second in order."""
    content = "a,label\n1,0\n2,1.0\n3,1\n4,\n5,NA\n"
    labels = labelled(tmp_path, content, normal=1)
    assert labels.task == "binary" and labels.classes == ["0"]
    assert labels.table["0"].to_list() == [1, 0, 0]
    assert labels.table["normal"].to_list() == [0, 1, 1]
    assert labels.table["record"].to_list() == ["row_1", "row_2", "row_3"]
    assert labels.counts["rows_without_label"] == 2
    labels = labelled(tmp_path, content)
    assert labels.classes == ["1"] and labels.table["normal"].to_list() == [0, 0, 0]
    assert labelled(tmp_path, content, values=[1, 0]).classes == ["0"]


def test_more_labels_are_exclusive_classes(tmp_path: Path) -> None:
    """One column each, in numerical order; names of columns are changed."""
    content = "a,label\n1,10\n2,9\n3,normal\n4,9\n"
    labels = labelled(tmp_path, content, normal="normal")
    assert labels.task == "multiclass" and labels.classes == ["9", "10", "class normal"]
    assert labels.table[labels.classes].to_numpy().sum(axis=1).tolist() == [1, 1, 1, 1]
    assert labels.table["normal"].to_list() == [0, 0, 1, 0]
    assert labels.table.columns.is_unique


def test_small_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They are left out with their rows; when two are left the task is binary, also if the normal one
    is not among them."""
    content = "a,label\n1,u\n2,u\n3,v\n4,v\n5,w\n"
    for normal, positive in ((None, "v"), ("v", "u"), ("w", "v")):
        labels = labelled(tmp_path, content, normal=normal, min_records=2)
        assert labels.task == "binary" and labels.classes == [positive]
        assert labels.counts["records_of_small_classes"] == 1 and len(labels.table) == 4
    assert "class w has 1 records, fewer than min_records" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "changes", "expected"),
    [
        ("a,label\n1,x\n2,x\n", {}, r"class x.*min_records"),
        ("a,label\n1,x\n2,y\n3,y\n", {"min_records": 2}, r"class y.*min_records"),
        ("a,label\n1,\n2,NA\n", {}, "column label holds no label"),
        ("a,label\n1,x\n2,y\n", {"values": ["x", "z"]}, r"values: 'z' is not among .* \(x, y\)"),
        ("a,label\n1,x\n2,y\n", {"normal": "N"}, r"normal: 'N' is not among .* \(x, y\)"),
        (
            "a,label\n1,x\n2,y\n3,z\n",
            {"values": ["x", "y"], "normal": "z"},
            r"normal: 'z' is not among",
        ),
        ("a,label\n1,x\n2,y\n", {"min_records": 9}, r"aggregate_labels\.min_records"),
        (
            "a,label\n" + "".join(f"{row},{row / 7}\n" for row in range(50)),
            {},
            "50 different labels in 50 rows",
        ),
    ],
)
def test_labels_that_cannot_be_learned(
    tmp_path: Path, content: str, changes: dict[str, Any], expected: str
) -> None:
    """A constant label, none, unknown ones, measurements: each with what to change."""
    with pytest.raises(UserError, match=expected):
        labelled(tmp_path, content, **changes)


def test_rows_without_features_are_left_out(tmp_path: Path) -> None:
    """Nothing was measured, so there is nothing to learn from; they are counted and no duplicates."""
    labels = labelled(tmp_path, "a,b,label\n1,2,x\nNA,,x\n,,y\n,3,y\n")
    assert labels.counts["rows_without_features"] == 2
    assert labels.table["record"].to_list() == ["row_1", "row_4"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("id,a,label\nr,1,x\nr,2,y\n", "line 3: column id holds r again"),
        ("id,a,label\nr,1,x\n,2,y\n", "line 3: column id holds no name"),
    ],
)
def test_names_of_rows(tmp_path: Path, content: str, expected: str) -> None:
    """Predictions are found by them: they are there and unique."""
    with pytest.raises(UserError, match=expected):
        labelled(tmp_path, content, download={"record": "id"})


# ---------------------------------------------------------------- duplicates

COPIES = "who,a,b,label\np,1,0.0,x\nq,2,NA,x\nr,1,-0.0,y\ns,5,6,y\nq,2,,y\nt,2,NA,y\n"


def test_duplicates_are_an_error(tmp_path: Path) -> None:
    """The same features in two rows that a split may part: both lines are named. 0 is -0, a missing
    value is a missing value."""
    with pytest.raises(UserError, match=r"holds 3 duplicates: line 2 and line 4,") as error:
        labelled(tmp_path, COPIES, download={"ignore": ["who"]})
    assert "duplicates to together" in str(error.value)


def test_duplicates_within_a_group(tmp_path: Path) -> None:
    """Rows of one patient are no error; which are equal is said, since a split by record parts them."""
    with pytest.raises(UserError, match=r"holds 2 duplicates: line 2 and line 4,"):
        labelled(tmp_path, COPIES, download={"group": "who"})
    kept = "".join(line for line in COPIES.splitlines(True) if line[0] not in "rt")
    found = labelled(tmp_path, kept, download={"group": "who"}).table
    assert found["alike"].to_list() == ["row_1", "row_2", "row_3", "row_2"]
    unequal = labelled(tmp_path, kept.replace("q,2,,y", "q,2,3,y"), download={"group": "who"})
    assert "alike" not in unequal.table


def test_duplicates_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Groups with rows alike become one, and each row names the first that is equal."""
    labels = labelled(tmp_path, COPIES, download={"group": "who"}, duplicates="together")
    assert labels.table["group"].to_list() == ["p", "q", "p", "s", "q", "q"]
    expected = ["row_1", "row_2", "row_1", "row_4", "row_2", "row_2"]
    assert labels.table["alike"].to_list() == expected
    assert "2 rows have the features of another one" in capsys.readouterr().out


@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("by", ["record", "patient"])
@pytest.mark.parametrize("method", ["stratified", "official"])
def test_no_split_parts_duplicates(tmp_path: Path, grouped: bool, by: str, method: str) -> None:
    """Oversampled rows are in one split with their originals, whatever split's parameters say: also
    when validation is taken from the publishers' train."""
    rng = np.random.default_rng(1)
    drawn = np.concatenate([np.arange(90), rng.integers(0, 90, 40)])
    frame = pd.DataFrame({"a": rng.normal(size=90), "b": 1.0, "label": np.arange(90) % 2})
    frame["who"] = [f"p{number // 2}" for number in range(90)]
    frame["fold"] = np.where(np.arange(90) < 70, "train", "test")
    table_file = saved(tmp_path, frame.iloc[drawn].to_csv(index=False))
    named = {"group": "who"} if grouped else {"ignore": ["who"]}
    path, _ = downloaded(table_file, tmp_path, fold="fold", **named)
    labels = labels_of(path, duplicates="error" if grouped else "together")
    block = {"train": 0.6, "validation": 0.2, "test": 0.2, "seed": 1, "method": method, "by": by}
    split = assign(labels.table, labels.classes, Split.model_validate(block))
    assert len(pd.DataFrame({"row": drawn, "split": split}).drop_duplicates()) == len(set(drawn))
    assert set(split) == {"train", "validation", "test"}


@settings(max_examples=60)
@given(
    rows=st.lists(
        st.tuples(st.sampled_from("ABCDE"), st.integers(0, 3), st.sampled_from([0.0, 1.0, None])),
        min_size=1,
        max_size=12,
    )
)
def test_groups_of_duplicates(rows: list[tuple[str, int, float | None]]) -> None:
    """Two rows share a group exactly if a chain of equal features and equal groups joins them."""
    values = np.array([[first, np.nan if second is None else second] for _, first, second in rows])
    groups = pd.Series([group for group, _, _ in rows])
    read = tables.Table(values, {}, str)
    first = table._first_alike(values)
    found = table._together(groups, first, read, "together").to_list()

    joined = list(range(len(rows)))
    for _ in rows:
        for one, (group, *features) in enumerate(rows):
            for other, (other_group, *others) in enumerate(rows):
                if group == other_group or features == others:
                    joined[one] = joined[other] = min(joined[one], joined[other])
    for one in range(len(rows)):
        for other in range(len(rows)):
            assert (found[one] == found[other]) == (joined[one] == joined[other])


# ---------------------------------------------------------------- real tables


@pytest.fixture(scope="module", params=["csv", "parquet"])
def breast_cancer(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, pd.DataFrame]]:
    """The Wisconsin diagnostic table: 569 rows, 30 features, with a column of names."""
    loaded: Any = load_breast_cancer(as_frame=True)
    frame = loaded.frame.rename(columns={"target": "label"})
    frame["label"] = frame["label"].map({0: "malignant", 1: "benign"})
    frame.insert(0, "id", [f"{number:05d}" for number in range(len(frame))])
    path = tmp_path_factory.mktemp("real") / f"breast.{request.param}"
    if request.param == "csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path)
    yield path, frame


def test_real_table(breast_cancer: tuple[Path, pd.DataFrame], tmp_path: Path) -> None:
    """357 benign and 212 malignant; every value to the last bit, in the order asked for."""
    source, frame = breast_cancer
    path, manifest = downloaded(source, tmp_path, record="id")
    assert len(manifest.channels) == 30
    labels = labels_of(path, normal="benign")
    assert labels.task == "binary" and labels.classes == ["malignant"]
    assert labels.table[["malignant", "normal"]].to_numpy().sum(axis=0).tolist() == [212, 357]
    records = labels.table["record"].to_list()[::-1]
    assert records[0] == "00568"
    found = recordings_of(path, records)
    assert found.shape == (569, 1, 30)
    np.testing.assert_array_equal(found[::-1, 0], frame[manifest.channels].to_numpy())


def test_real_duplicates(tmp_path: Path) -> None:
    """Fisher's irises hold one flower twice (rows 102 and 143), which is found."""
    loaded: Any = load_iris(as_frame=True)
    loaded.frame.to_csv(tmp_path / "iris.csv", index=False)
    path, _ = downloaded(tmp_path / "iris.csv", tmp_path, label="target")
    with pytest.raises(UserError, match="holds 1 duplicates: line 103 and line 144"):
        labels_of(path)
    together = labels_of(path, duplicates="together").table
    assert len(set(together["group"])) == 149
