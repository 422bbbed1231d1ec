"""The raw pack: equal bytes for equal content, reading without a copy, and refusal of damage."""

from __future__ import annotations

import time
import zipfile
from pathlib import Path

import pytest

from beatline.common.errors import UserError
from beatline.sources.pack import Pack, PackWriter
from tests.damage import flipped

CONTENT = {"b/2.hea": "ÄV Ω\n".encode(), "a/1.dat": bytes(range(256)), "empty": b""}


def write(path: Path, content: dict[str, bytes] = CONTENT) -> Path:
    with PackWriter(path) as pack:
        for name, data in content.items():
            pack.add(name, data)
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Names keep their order, bytes their value, and text its encoding."""
    with Pack(write(tmp_path / "raw.zip")) as pack:
        assert pack.names() == list(CONTENT)
        assert {name: bytes(pack.read(name)) for name in pack.names()} == CONTENT
        assert pack.text("b/2.hea") == "ÄV Ω\n"
        assert "empty" in pack and "b" not in pack
        assert len(pack) == 3


def test_equal_content_is_equal_bytes(tmp_path: Path) -> None:
    """DVC sees a change of content and nothing else: no times, no permissions, no paths."""
    first = write(tmp_path / "1.zip").read_bytes()
    assert write(tmp_path / "2.zip").read_bytes() == first


def test_any_tool_can_open_it(tmp_path: Path) -> None:
    """The pack is an ordinary ZIP whose checksums are right."""
    with zipfile.ZipFile(write(tmp_path / "raw.zip")) as archive:
        assert archive.testzip() is None
        assert archive.read("a/1.dat") == CONTENT["a/1.dat"]


def test_zip64(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packs beyond 4 GB and 65,535 members are read; the limits are lowered to have them small."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
    with Pack(write(tmp_path / "raw.zip")) as pack:
        assert {name: bytes(pack.read(name)) for name in pack.names()} == CONTENT


def test_many_members_open_quickly(tmp_path: Path) -> None:
    """PTB-XL has 44,000 files at 100 Hz: opening its pack must not be felt."""
    path = write(tmp_path / "raw.zip", {f"records100/{n:05d}_lr.dat": b"" for n in range(44_000)})
    start = time.process_time()
    with Pack(path) as pack:
        assert len(pack) == 44_000
    assert time.process_time() - start < 2


def test_views_outlive_the_pack(tmp_path: Path) -> None:
    """Closing while a view is held neither fails nor invalidates it."""
    with Pack(write(tmp_path / "raw.zip")) as pack:
        view = pack.read("a/1.dat")
    assert bytes(view) == CONTENT["a/1.dat"]


def test_a_failure_leaves_the_old_pack(tmp_path: Path) -> None:
    """A pack is replaced as a whole or not at all, and nothing is left beside it."""
    path = write(tmp_path / "raw.zip")
    before = path.read_bytes()
    with pytest.raises(RuntimeError), PackWriter(path) as pack:
        pack.add("new", b"new")
        raise RuntimeError
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_twice(tmp_path: Path) -> None:
    """Two members of one name would make it a matter of luck which is read."""
    with (
        pytest.raises(UserError, match=r"a/1\.dat is added twice"),
        PackWriter(tmp_path / "raw.zip") as pack,
    ):
        pack.add("a/1.dat", b"")
        pack.add("a/1.dat", b"")


def test_missing_pack_and_member(tmp_path: Path) -> None:
    """Both say what is missing and what to do."""
    with pytest.raises(UserError, match=r"raw\.zip is missing: run `dvc repro`"):
        Pack(tmp_path / "raw.zip")
    with (
        Pack(write(tmp_path / "raw.zip")) as pack,
        pytest.raises(UserError, match=r"raw\.zip holds no nothing"),
    ):
        pack.read("nothing")


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    """A pack that was cut short anywhere is refused when it is opened."""
    content = write(tmp_path / "raw.zip").read_bytes()
    cut = tmp_path / "cut.zip"
    for length in range(len(content)):
        cut.write_bytes(content[:length])
        with pytest.raises(UserError, match=r"cut\.zip .*: run `beatline repair .*cut\.zip`"):
            Pack(cut)


def test_a_flipped_byte_never_crashes(tmp_path: Path) -> None:
    """Whatever byte is damaged, the outcome is UserError, or another name, size or content."""
    content = bytearray(write(tmp_path / "raw.zip").read_bytes())
    path = tmp_path / "flipped.zip"
    for position in range(len(content)):
        content[position] ^= 0xFF
        path.write_bytes(content)
        try:
            with Pack(path) as pack:
                for name in pack.names():
                    pack.text(name)
        except UserError:
            pass
        content[position] ^= 0xFF


@pytest.mark.parametrize("name", ["b/2.hea", "a/1.dat"])
def test_any_flipped_byte_of_a_recording_is_refused(tmp_path: Path, name: str) -> None:
    """By its CRC-32, when it is read: a sample that changed would be learned from."""
    path = write(tmp_path / "x.zip")
    content = path.read_bytes()
    start = content.index(CONTENT[name])
    for place in range(start, start + len(CONTENT[name])):
        with (
            flipped(path, place),
            Pack(path) as pack,
            pytest.raises(UserError, match=rf"CRC-32 of {name} is wrong.*beatline repair"),
        ):
            pack.read(name)


def test_damaged_text(tmp_path: Path) -> None:
    """A header or table whose bytes changed is noticed by its CRC-32."""
    path = write(tmp_path / "raw.zip", {"1.hea": b"1 12 100 1000"})
    path.write_bytes(path.read_bytes().replace(b" 100 ", b" 500 "))
    with Pack(path) as pack, pytest.raises(UserError, match=r"CRC-32 of 1\.hea is wrong"):
        pack.text("1.hea")


def test_a_compressed_zip_is_no_pack(tmp_path: Path) -> None:
    """A ZIP made by another tool cannot be mapped, and says so."""
    with zipfile.ZipFile(tmp_path / "raw.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", b"a" * 100)
    with pytest.raises(UserError, match="a is compressed or encrypted"):
        Pack(tmp_path / "raw.zip")
