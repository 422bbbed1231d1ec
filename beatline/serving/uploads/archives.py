"""ZIP archives that bring the files of one recording; unpacked in memory, and no further than allowed."""

from __future__ import annotations

import io
import zipfile

from beatline.serving.problems import Problem, malformed, too_large, unfit
from beatline.serving.settings import Serve
from beatline.serving.uploads.checks import decoding
from beatline.serving.uploads.upload import File

MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
MOST_MEMBERS = 64
_WORKBOOK = "xl/"  # the folder that every .xlsx has (ECMA-376, part 2)
_IN_DIRECTORY = b"PK\x01\x02"
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others may unpack megabytes in one step
_ENCRYPTED = 0x1
_PART = 1 << 16  # bytes unpacked at a time


def unpacked(content: bytes, where: str, limits: Serve) -> list[File]:
    """The files at the top level of an archive; those in folders are not looked at.

    Raises Problem if it is damaged, encrypted, compressed by other means than deflate, holds more
    than 64 files, or more bytes than a request may have: announced, or really unpacked.
    """
    if content.count(_IN_DIRECTORY) > MOST_MEMBERS:
        raise _too_many(where)
    with decoding(where, "ZIP archive"), zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
        if len(members) > MOST_MEMBERS:
            raise _too_many(where)
        if any(member.filename.startswith(_WORKBOOK) for member in members):
            raise unfit(f"{where} is a workbook of Excel: save its sheet as CSV")
        members = [member for member in members if _is_plain(member)]
        if not members:
            raise unfit(f"{where} holds no file at its top level: pack the files without a folder")
        left = limits.max_bytes
        if sum(member.file_size for member in members) > left:
            raise _too_much(where, limits)
        files = []
        for member in members:
            file = File(member.filename, _content(archive, member, left, where, limits))
            left -= len(file.content)
            files.append(file)
        return files


def _is_plain(member: zipfile.ZipInfo) -> bool:
    name = member.filename
    return (
        bool(name) and not any(part in name for part in ("/", "\\", "\0")) and name[0] not in ".~"
    )


def _content(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, most: int, where: str, limits: Serve
) -> bytes:
    if member.flag_bits & _ENCRYPTED:
        raise unfit(f"{where} is encrypted: pack the files without a password")
    if member.compress_type not in _METHODS:
        raise malformed(f"{where} is compressed in a rare way: pack the files as usual (deflate)")
    parts: list[bytes] = []
    with archive.open(member) as file:
        while part := file.read(_PART):
            most -= len(part)
            if most < 0:
                raise _too_much(where, limits)
            parts.append(part)
    return b"".join(parts)


def _too_many(where: str) -> Problem:
    return too_large(f"{where} holds more than {MOST_MEMBERS} files: pack those of one recording")


def _too_much(where: str, limits: Serve) -> Problem:
    return too_large(
        f"{where} unpacks to more than {limits.max_megabytes:g} MB: send a shorter recording"
    )
