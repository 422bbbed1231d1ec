"""Folders and archives of one's own: equal names and bytes in every form, and nothing hostile in."""

from __future__ import annotations

import io
import os
import re
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from beatline.common.errors import UserError
from beatline.sources.archives import open_source

LAYOUT = {"table.csv": b"id\n", "records/1.hea": b"1 12\n", "records/1.dat": bytes(2000)}


def tree(root: Path, files: Mapping[str, bytes] = LAYOUT) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def zipped(
    path: Path,
    top: str = "",
    method: int = zipfile.ZIP_DEFLATED,
    files: Mapping[str, bytes] = LAYOUT,
) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr(top or "folder/", b"")
        for name, content in files.items():
            archive.writestr(top + name, content)
    return path


def tarred(
    path: Path, top: str = "", mode: str = "gz", files: Mapping[str, bytes] = LAYOUT
) -> Path:
    with tarfile.open(str(path), f"w:{mode}") as archive:  # pyright: ignore[reportCallIssue, reportArgumentType]
        for name, content in files.items():
            member = tarfile.TarInfo(top + name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: tree(folder / "raw"),
        lambda folder: tree(folder / "raw" / "ptb-xl-1.0.3").parent,
        lambda folder: zipped(folder / "raw.zip"),
        lambda folder: zipped(folder / "raw.zip", "ptb-xl-1.0.3/"),
        lambda folder: zipped(folder / "raw.zip", "a/b/", zipfile.ZIP_LZMA),
        lambda folder: tarred(folder / "raw.tar.gz"),
        lambda folder: tarred(folder / "raw.tgz", "./ptb-xl-1.0.3/"),
        lambda folder: tarred(folder / "raw.tar", mode=""),
        lambda folder: tarred(folder / "raw.tar.xz", mode="xz"),
    ],
)
def test_every_form_of_source_reads_alike(make, tmp_path: Path) -> None:
    """A folder, a ZIP and a tar, with or without a folder on top, give equal names and bytes."""
    with open_source(make(tmp_path), "table.csv") as source:
        assert source.names() == sorted(LAYOUT)
        assert {name: source.read(name) for name in source.names()} == LAYOUT
        assert source.exists("records/1.hea") and not source.exists("1.hea")
        with pytest.raises(UserError, match=r"holds no \.\./secret"):
            source.read("../secret")


def test_a_tar_is_read_forwards(tmp_path: Path) -> None:
    """Going back in a compressed tar costs decompressing it from the start."""
    with open_source(tarred(tmp_path / "raw.tar.gz")) as source:
        assert source.in_order(source.names()) == list(LAYOUT)


def test_linked_folders_are_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder of links to where the files lie reads like a folder of files; a link to a folder
    above itself ends there."""
    raw = tree(tmp_path / "raw")
    (raw / "again").symlink_to(tree(tmp_path / "elsewhere"))
    (raw / "records" / "loop").symlink_to(raw)
    with open_source(raw, "table.csv") as source:
        assert source.names() == sorted([*LAYOUT, *(f"again/{name}" for name in LAYOUT)])
        assert source.read("again/table.csv") == LAYOUT["table.csv"]
    warned = capsys.readouterr().out.splitlines()  # DVC would not see what changes behind it
    assert len(warned) == 1 and f"{raw / 'again'} is a link" in warned[0]


def test_what_is_no_file_is_left_out_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A link to nowhere, and a pipe, from which reading would wait for ever."""
    raw = tree(tmp_path / "raw")
    (raw / "records/2.dat").symlink_to("nowhere")
    os.mkfifo(raw / "records/3.dat")
    with open_source(raw) as source:
        assert source.names() == sorted(LAYOUT)
    warned = capsys.readouterr().out
    assert "records/2.dat" in warned and "records/3.dat" in warned


@pytest.mark.parametrize("make", [tree, zipped, tarred])
def test_what_macos_adds_is_no_recording(make, tmp_path: Path) -> None:
    """Its archives hold, beside each file, one of the same ending that holds attributes."""
    files = {"__MACOSX/records/._1.dat": b"x", "records/._1.dat": b"x", **LAYOUT}
    with open_source(make(tmp_path / "raw", files=files)) as source:
        assert source.names() == sorted(LAYOUT)


def test_a_zip_with_backslashes(tmp_path: Path) -> None:
    """Some programs for Windows write them where the format asks for a slash."""
    with zipfile.ZipFile(tmp_path / "raw.zip", "w") as archive:
        archive.writestr("ptb-xl\\records\\", b"")
        for name, content in LAYOUT.items():
            archive.writestr("ptb-xl\\" + name.replace("/", "\\"), content)
    with open_source(tmp_path / "raw.zip", "table.csv") as source:
        assert {name: source.read(name) for name in source.names()} == LAYOUT


@pytest.mark.parametrize("make", [zipped, tarred])
def test_when_a_file_was_last_changed(make, tmp_path: Path) -> None:
    """Folders and archives say it alike; a ZIP may hold no time at all."""
    with open_source(make(tmp_path / "raw", "top/"), "table.csv") as source:
        assert re.fullmatch(r"\d{4}(-\d\d){2}T(\d\d:){2}\d\dZ", source.changed("table.csv"))
    os.utime(tree(tmp_path / "folder") / "table.csv", (86400, 86400))
    with open_source(tmp_path / "folder") as source:
        assert source.changed("table.csv") == "1970-01-02T00:00:00Z"
    with zipfile.ZipFile(tmp_path / "timeless.zip", "w") as archive:
        member = zipfile.ZipInfo("a")
        member.date_time = (1980, 0, 0, 0, 0, 0)
        archive.writestr(member, b"")
    with open_source(tmp_path / "timeless.zip") as source:
        assert source.changed("a") == "1980-01-01T00:00:00Z"


def test_the_marker_decides_the_root(tmp_path: Path) -> None:
    """The shallowest folder counts; none, or two at one depth, is told."""
    tree(tmp_path / "raw")
    tree(tmp_path / "raw" / "old" / "copy")
    assert open_source(tmp_path / "raw", "table.csv").exists("old/copy/table.csv")
    with pytest.raises(UserError, match=r"raw holds no other\.csv"):
        open_source(tmp_path / "raw", "other.csv")
    tree(tmp_path / "two" / "a")
    tree(tmp_path / "two" / "b")
    with pytest.raises(UserError, match="in a/ and in b/"):
        open_source(tmp_path / "two", "table.csv")


HOSTILE = [
    "../up",
    "a/../../up",
    "/etc/passwd",
    "C:/boot.ini",
    "c:boot",
    "a\\..\\up",
    "\\\\host\\a",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_that_lead_out(name: str, tmp_path: Path) -> None:
    """No member of an archive can name a file outside of it."""
    with zipfile.ZipFile(tmp_path / "raw.zip", "w") as archive:
        archive.writestr(name, b"")
    with tarfile.open(tmp_path / "raw.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo(name))
    for path in (tmp_path / "raw.zip", tmp_path / "raw.tar.gz"):
        with pytest.raises(UserError, match=rf"{path.name} holds .*leads out of the archive"):
            open_source(path)


def test_links_and_encryption(tmp_path: Path) -> None:
    """Links, devices and encrypted members are refused by name."""
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        archive.writestr(link, b"/etc/passwd")
    content = bytearray(zipped(tmp_path / "raw.zip", method=zipfile.ZIP_STORED).read_bytes())
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "encrypted.zip").write_bytes(content)
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
        member = tarfile.TarInfo("link")
        member.type, member.linkname = kind, "/etc/passwd"
        with tarfile.open(tmp_path / "link.tar", "w") as archive:
            archive.addfile(member)
        with pytest.raises(UserError, match=r"link\.tar holds 'link', a link or a device"):
            open_source(tmp_path / "link.tar")
    with pytest.raises(UserError, match=r"link\.zip holds 'link', a link"):
        open_source(tmp_path / "link.zip")
    with pytest.raises(UserError, match=r"holds 'records/1\.dat', which is encrypted"):
        open_source(tmp_path / "encrypted.zip")


def test_a_damaged_member(tmp_path: Path) -> None:
    """Changed bytes are noticed when they are read, with the names of archive and member."""
    path = zipped(tmp_path / "raw.zip", method=zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes().replace(b"1 12\n", b"1 15\n"))
    with open_source(path) as source, pytest.raises(UserError, match=r"raw\.zip: records/1\.hea"):
        source.read("records/1.hea")


@pytest.mark.parametrize("make", [zipped, tarred])
def test_damage_is_a_user_error(make, tmp_path: Path) -> None:
    """However an archive is cut or damaged, it is told in a sentence and never a traceback."""
    content = make(tmp_path / "whole").read_bytes()
    path = tmp_path / "damaged"
    for position in range(len(content)):
        flipped = bytes([content[position] ^ 0xFF])
        for damaged in (
            content[:position],
            content[:position] + flipped + content[position + 1 :],
        ):
            path.write_bytes(damaged)
            try:
                with open_source(path) as source:
                    [source.read(name) for name in source.names()]
            except UserError as error:
                assert str(path) in str(error)


def test_a_missing_source(tmp_path: Path) -> None:
    """A wrong path is told with the key to correct."""
    with pytest.raises(UserError, match=r"raw\.zip is missing: correct `source:`"):
        open_source(tmp_path / "raw.zip")
