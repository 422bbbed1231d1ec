"""What was written is what is read: damage, loss and foreign files are told, with a cure."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beatline.common import sums
from beatline.common.errors import UserError
from tests.damage import flip


def write(folder: Path) -> Path:
    """A folder as stages write them: files, one of them empty, one deeper."""
    for name, content in {"b.csv": b"x,y\n1,2\n", "a.npy": b"\0" * 40, "seeds/2/c": b""}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    sums.seal(folder)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "x")


def test_coreutils_reads_it(folder: Path) -> None:
    """A person needs no program of ours."""
    for place, manifest in ((folder, sums.SUMS), (folder, "b.csv.sha256")):
        if manifest != sums.SUMS:
            sums.seal(folder / "b.csv")
        command = ["sha256sum", "--check", "--strict", "--quiet", manifest]
        subprocess.run(command, cwd=place, check=True)
        (place / "b.csv").write_bytes(b"x,y\n1,3\n")
        assert subprocess.run(command, cwd=place, capture_output=True).returncode == 1
        (place / "b.csv").write_bytes(b"x,y\n1,2\n")


def test_sound_files_are_read(folder: Path) -> None:
    """The path comes back, and all sums by name; sealing twice gives the same bytes."""
    assert sums.verified(folder / "b.csv") == folder / "b.csv"
    assert list(sums.check(folder)) == ["a.npy", "b.csv", "seeds/2/c"]
    before = (folder / sums.SUMS).read_bytes()
    sums.seal(folder)
    assert (folder / sums.SUMS).read_bytes() == before


@pytest.mark.parametrize("name", ["a\u2028b.wav", "a\x0cb.wav", " a  b.wav"])
def test_names_that_only_look_like_several_lines(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"1")
    sums.seal(tmp_path)
    assert list(sums.check(tmp_path)) == [name]


FILES = ["a.npy", "b.csv", sums.SUMS]


@settings(max_examples=300)
@given(st.sampled_from(FILES), st.integers(0, 10**6), st.integers(1, 255))
def test_any_changed_byte_is_told(
    tmp_path_factory: pytest.TempPathFactory, name: str, place: int, change: int
) -> None:
    """Of a file or of the sums, at the same size and time: which file, and the cure."""
    folder = write(tmp_path_factory.mktemp("x"))
    flip(folder / name, place, change)
    with pytest.raises(UserError, match=f"{name} is damaged.*beatline repair .*{name}"):
        sums.check(folder)
    sums.seal(folder / "b.csv")
    alone = "b.csv.sha256" if name == sums.SUMS else "b.csv"
    flip(folder / alone, place, change)
    with pytest.raises(UserError, match=f"{alone} is damaged.*beatline repair .*{alone}"):
        sums.verified_alone(folder / "b.csv")


@settings(max_examples=300)
@given(st.integers(0, 10**6), st.integers(1, 255))
def test_any_changed_byte_of_a_sealed_object_is_told(
    tmp_path_factory: pytest.TempPathFactory, place: int, change: int
) -> None:
    """And so is any part of it; as it was written, it is read back as JSON that anybody can read."""
    path = tmp_path_factory.mktemp("x") / "a.json"
    content = {"a": [1, 2.5, None], "b": {"c": "x\n}"}}
    sums.write_sealed_json(path, content)
    assert sums.read_sealed_json(path) == content
    assert {**json.loads(path.read_text()), sums.KEY: None} == {**content, sums.KEY: None}
    whole = path.read_bytes()
    flip(path, place, change)
    with pytest.raises(UserError, match=r"a\.json is damaged.*beatline repair .*a\.json"):
        sums.read_sealed_json(path)
    path.write_bytes(whole[: place % len(whole)])
    with pytest.raises(UserError, match=r"a\.json is damaged"):
        sums.read_sealed_json(path)


@pytest.mark.parametrize("name", [*FILES, "seeds/2/c"])
def test_a_lost_or_cut_file_is_told(folder: Path, name: str) -> None:
    """Whichever is read, since a reader may count them; a line that is cut off makes no file foreign."""
    whole = (folder / name).read_bytes()
    (folder / name).unlink()
    with pytest.raises(UserError, match=r"beatline repair"):
        sums.verified(folder / "b.csv")
    for cut in range(len(whole)):
        (folder / name).write_bytes(whole[:cut])
        with pytest.raises(UserError, match=f"{name} is damaged.*beatline repair"):
            sums.check(folder)


@pytest.mark.parametrize("name", ["d", ".b.csv.partial", "seeds/3/c", "seeds/2/SHA256SUMS"])
def test_a_foreign_file_is_told(folder: Path, name: str) -> None:
    """A reader that takes what it finds would take it; the cure works."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"")
    with pytest.raises(UserError, match=f"x/{name} .*move it"):
        sums.verified(folder / "b.csv")
    (folder / name).unlink()
    sums.verified(folder / "b.csv")


@pytest.mark.parametrize(
    ("remove", "expected"),
    [
        (lambda folder: shutil.rmtree(folder), r"x/b\.csv is missing: run `dvc repro`"),
        (lambda folder: (folder / sums.SUMS).unlink(), r"x has no SHA256SUMS.*dvc repro"),
    ],
)
def test_what_was_never_made(folder: Path, remove: Callable[[Path], object], expected: str) -> None:
    """No folder; a folder of an older version."""
    remove(folder)
    with pytest.raises(UserError, match=expected):
        sums.verified(folder / "b.csv")
