"""Files: never half of one, whatever goes wrong, and equal bytes for equal content."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beatline import bundle
from beatline.common.errors import UserError, reporting_mistakes
from beatline.common.files import (
    read_csv,
    read_json,
    replacing,
    rounded,
    sha256,
    write_csv,
    write_json,
)
from beatline.preprocessing import arrays
from beatline.sources.pack import PackWriter
from tests.bundle.bundles import made


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_a_file_appears_whole(tmp_path: Path) -> None:
    """Until the block ends the old content stands; then the new; nothing else is left."""
    path = tmp_path / "a" / "b.txt"
    with replacing(path) as beside:
        beside.write_text("first")
        assert not path.exists()
    with replacing(path) as beside:
        beside.write_text("second")
        assert path.read_text() == "first"
    assert path.read_text() == "second"
    assert names(tmp_path) == ["a", "a/b.txt"]


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    """A folder takes the place of the old one: files that it no longer has do not stay."""
    for content in ("old", "new"):
        with replacing(tmp_path / "f") as beside:
            beside.mkdir()
            (beside / content).write_text(content)
    assert names(tmp_path) == ["f", "f/new"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError])
def test_an_error_leaves_what_was_there(tmp_path: Path, error: type[BaseException]) -> None:
    """Also when the user interrupts: the old file stays, what was begun goes."""
    path = tmp_path / "b.txt"
    path.write_text("old")
    with pytest.raises(error), replacing(path) as beside:
        beside.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert names(tmp_path) == ["b.txt"]


def test_links_into_a_cache_are_not_written_through(tmp_path: Path) -> None:
    """DVC may hard-link its cache into the workspace: the cached file keeps its bytes."""
    cached, path = tmp_path / "cached", tmp_path / "b.json"
    cached.write_text("cached")
    os.link(cached, path)
    write_json(path, {"new": 1})
    assert cached.read_text() == "cached"


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A disk without space: every file that is opened for writing is /dev/full."""
    if not Path("/dev/full").exists():
        pytest.skip("/dev/full, which refuses every byte, is not here")
    real_open = Path.open

    def full_open(self: Path, mode: str = "r", *arguments: object, **named: object) -> object:
        if "w" in mode:
            self.touch()
            return real_open(Path("/dev/full"), mode, *arguments, **named)  # type: ignore[arg-type]
        return real_open(self, mode, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "open", full_open)
    yield


@pytest.mark.usefixtures("full_disk")
def test_full_disk(tmp_path: Path) -> None:
    """Arrays, tables of values and model weights: one sentence that names the file, no half file, and
    no memory map through which a full disk would kill the process."""
    values = np.zeros((2, 3, 1), dtype=np.float32)
    table = pd.DataFrame({"record": ["a", "b"]})
    network, description = made()
    writers = {
        "s": lambda path: arrays.write_split(path, [values], table),
        "j.json": lambda path: write_json(path, {"a": 1}),
        "m": lambda path: bundle.save(path, network, description, table),
    }
    for name, write in writers.items():
        path = tmp_path / name
        with pytest.raises(SystemExit) as exit_, reporting_mistakes():
            write(path)
        said = f"error: the disk is full while writing {path}: free some space and"
        assert str(exit_.value).startswith(said)
        assert names(tmp_path) == []


def test_full_disk_under_a_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pack that does not fit leaves nothing, though a zip writes once more when it is closed."""

    def write(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "raw.zip"
    with pytest.raises(SystemExit, match=f"^error: the disk is full while writing {path}: "):  # noqa: SIM117
        with reporting_mistakes(), PackWriter(path) as pack:
            monkeypatch.setattr(pack._zip.fp, "write", write)
            pack.add("a", b"1")
    assert names(tmp_path) == []


def test_full_disk_under_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table that does not fit leaves nothing."""

    def to_csv(_: pd.DataFrame, path: Path, **__: object) -> None:
        path.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", to_csv)
    with pytest.raises(SystemExit, match="disk is full while writing"), reporting_mistakes():
        write_csv(tmp_path / "t.csv", pd.DataFrame({"a": [1]}))
    assert names(tmp_path) == []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(json_values)
def test_rounding_is_stable(value: object) -> None:
    """A number that was rounded once stays; the result is JSON that every reader takes."""
    once = rounded(value)
    assert rounded(once) == once
    assert json.loads(json.dumps(once, allow_nan=False)) == once


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_digits(value: float) -> None:
    """Six significant digits by default, nine tell float32 apart, seventeen any two numbers."""
    assert rounded(value) == pytest.approx(value, rel=1e-5, abs=0)
    assert rounded(value, 17) == value
    if abs(value) < 1e38:
        narrow = np.float32(value)
        assert np.float32(rounded(float(narrow), 9)) == narrow


def test_numpy_becomes_plain() -> None:
    """Arrays and numpy numbers of any kind, also as keys; NaN and infinities are null."""
    value = {1: np.float32(0.1), "a": np.array([[1, 2]]), "b": (np.int64(3), np.bool_(True))}
    assert rounded(value) == {"1": 0.1, "a": [[1, 2]], "b": [3, True]}
    assert rounded([math.nan, math.inf, np.float32(-np.inf)]) == [None, None, None]


def test_json_bytes(tmp_path: Path) -> None:
    """The order of the keys is the writer's, floats are short, the file ends with a line end."""
    write_json(tmp_path / "a.json", {"b": 1 / 3, "a": [1.0, 2]})
    expected = '{\n  "b": 0.333333,\n  "a": [\n    1.0,\n    2\n  ]\n}\n'
    assert (tmp_path / "a.json").read_bytes() == expected.encode()
    assert read_json(tmp_path / "a.json") == {"b": 0.333333, "a": [1.0, 2]}


def test_csv_bytes(tmp_path: Path) -> None:
    """No index, line feeds on every system, floats of so many digits, integers whole."""
    table = pd.DataFrame({"a": [1234567, 2], "b": [1 / 3, 1e-9], "c": ["x", "y,z"]})
    write_csv(tmp_path / "a.csv", table)
    expected = 'a,b,c\n1234567,0.333333,x\n2,1e-09,"y,z"\n'
    assert (tmp_path / "a.csv").read_bytes() == expected.encode()


def test_names_stay_texts(tmp_path: Path) -> None:
    """Records and patients that look like numbers are read as they were written."""
    table = pd.DataFrame({"record": ["007", "1e3"], "group": ["1.0", "01"], "normal": [0, 1]})
    write_csv(tmp_path / "a.csv", table)
    pd.testing.assert_frame_equal(
        read_csv(tmp_path / "a.csv", ("record",)).astype({"record": object, "group": object}),
        table.astype({"record": object, "group": object}),
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "is missing: run `dvc repro`"),
        ("", "is not a CSV table"),
        ('a,"b\n1,2', "is not a CSV table|has no column"),
        ("record\n1\n", "has no column split: run `beatline repair"),
    ],
)
def test_damaged_tables(tmp_path: Path, content: str | None, expected: str) -> None:
    """A table that is missing, empty or without a column that is needed: the file and the cure."""
    path = tmp_path / "a.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=expected) as error:
        read_csv(path, ("record", "split"))
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


def test_texts_stay_what_they_are(tmp_path: Path) -> None:
    """Names that look like numbers, or like what pandas takes for a missing value, are names: of records,
    of groups, and of whatever tells sections apart. A number that is missing is missing."""
    names = ["NA", "null", "None", "nan", "007", "7", "1e3"]
    table = pd.DataFrame(
        {"record": names, "group": names, "site": names, "age": [np.nan, *range(6)]}
    )
    write_csv(tmp_path / "a.csv", table)
    read = read_csv(tmp_path / "a.csv", sections="site")
    for name in ("record", "group", "site"):
        assert read[name].to_list() == names
    np.testing.assert_array_equal(read["age"], table["age"])


def test_damaged_json(tmp_path: Path) -> None:
    """JSON that is missing or cut short: the file and the cure."""
    path = tmp_path / "a.json"
    with pytest.raises(UserError, match=r"a\.json is missing: run `dvc repro`"):
        read_json(path)
    for content in (b'{"a": ', b"\xff"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"a\.json is not valid JSON .*beatline repair"):
            read_json(path)


@given(st.binary(max_size=3 << 18))
def test_sha256(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """The sum of a file that is read in parts is that of its content."""
    path = tmp_path_factory.mktemp("x") / "x"
    path.write_bytes(content)
    assert sha256(path) == hashlib.sha256(content).hexdigest()


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    """A half-written file of a run that was killed does not stay for ever, nor get into the output."""
    left = tmp_path / ".a.txt.partial"
    left.write_text("half")
    with replacing(tmp_path / "a.txt") as beside:
        beside.write_text("whole")
    assert names(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "whole"
