"""The raw pack: all raw files of a data set in one ZIP, stored and not compressed.

Tens of thousands of small files make every DVC command slow; one file does not. A stored ZIP is
opened by any tool, and because its members are plain slices of the file they are read from the
memory map without a copy. Equal content gives equal bytes: no times, no owners, the order given.

The layout is that of PKWARE's APPNOTE.TXT 6.3.9, sections 4.3.7 (local header), 4.3.12 (central
directory), 4.3.14 to 4.3.16 (its ends) and 4.5.3 (ZIP64).
"""

from __future__ import annotations

import mmap
import struct
import zipfile
import zlib
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from beatline.common.errors import UserError
from beatline.common.files import replacing

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END_64_LOCATOR = struct.Struct("<4sIQI")
_END_64 = struct.Struct("<4sQ2H2I4Q")
_FULL_32 = 0xFFFFFFFF  # the value is in the ZIP64 record
_ENCRYPTED = 0x1


class PackWriter:
    """Writes a pack beside `path` and renames it into place when the `with` block ends well.

    Members keep the order in which they are added, so that equal calls give equal bytes. Raises
    UserError for a name that is added twice.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stack = ExitStack()

    def __enter__(self) -> PackWriter:
        with ExitStack() as stack:
            beside = stack.enter_context(replacing(self.path))
            self._zip = stack.enter_context(zipfile.ZipFile(beside, "w", zipfile.ZIP_STORED))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def add(self, name: str, content: bytes) -> None:
        """Add `content` as the member `name`, a relative path with `/`."""
        self._zip.writestr(self._member(name), content)

    def _member(self, name: str) -> zipfile.ZipInfo:
        if name in self._zip.NameToInfo:
            raise UserError(f"{self.path}: {name} is added twice: remove one from the source")
        member = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
        member.create_system = 3  # Unix on every system: the permissions below, equal bytes
        member.external_attr = 0o100644 << 16
        return member


class _Entry(NamedTuple):
    header: int  # offset of the member's local header in bytes
    size: int  # bytes
    crc: int


class Pack:
    """A pack opened for reading, memory-mapped; opening costs about 2 µs a member.

    Raises UserError, naming the file and the cure, if it is missing, cut short, damaged, or not a
    pack (a ZIP with compressed or encrypted members). The content of a member is checked against
    its CRC-32 by `text` and not by `read`, where it would cost more than the reading.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._map = self._mapped()
        try:
            self._entries = self._central_directory()
        except (struct.error, UnicodeDecodeError, ValueError) as error:
            self.close()
            raise self._damaged(str(error)) from None
        except UserError:
            self.close()
            raise

    def __enter__(self) -> Pack:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. Views that were read and are still held stay valid."""
        try:
            self._map.close()
        except BufferError:
            return  # a view is still in use: the map goes with the last one

    def names(self) -> list[str]:
        """The names of the members, in the order in which they were added."""
        return list(self._entries)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def read(self, name: str) -> memoryview:
        """The bytes of the member `name`, read-only and not copied."""
        entry = self._entry(name)
        start = entry.header + _LOCAL.size
        if self._map[entry.header : entry.header + 4] != b"PK\x03\x04":
            raise self._damaged(f"no header for {name}")
        name_length, extra_length = struct.unpack_from("<2H", self._map, start - 4)
        start += name_length + extra_length
        return memoryview(self._map)[start : start + entry.size]

    def text(self, name: str) -> str:
        """The member `name` as UTF-8 text. Raises UserError if it is damaged or not text."""
        content = self.read(name)
        if zlib.crc32(content) != self._entries[name].crc:
            raise self._damaged(f"the CRC-32 of {name} is wrong")
        try:
            return str(content, "utf-8")
        except UnicodeDecodeError:
            raise UserError(
                f"{self.path}: {name} is not UTF-8 text: save it as UTF-8 in the source"
            ) from None

    def _entry(self, name: str) -> _Entry:
        entry = self._entries.get(name)
        if entry is None:
            raise UserError(f"{self.path} holds no {name}: add it to the source of the data set")
        return entry

    def _damaged(self, detail: str) -> UserError:
        return UserError(
            f"{self.path} is damaged or is no pack ({detail}): remove it and run `dvc repro`"
        )

    def _mapped(self) -> mmap.mmap:
        try:
            with self.path.open("rb") as file:
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            raise UserError(f"{self.path} is missing: run `dvc repro` to make it") from None
        except ValueError:  # an empty file cannot be mapped
            raise self._damaged("it is empty") from None

    def _central_directory(self) -> dict[str, _Entry]:
        count, position, end = self._directory_place()
        limit, entries = position, {}
        for _ in range(count):
            name, entry, position = self._directory_entry(position)
            if entry.header + _LOCAL.size + entry.size > limit:
                raise ValueError(f"{name} is cut short")
            entries[name] = entry
        if position != end or len(entries) != count:
            raise ValueError("its directory is inconsistent")
        return entries

    def _directory_place(self) -> tuple[int, int, int]:
        """The number of members and the first and last byte of the central directory."""
        end = len(self._map) - _END.size
        if end < 0:
            raise ValueError("it is cut short")
        signature, _, _, _, count, size, start, _ = _END.unpack_from(self._map, end)
        if signature != b"PK\x05\x06":
            raise ValueError("it is cut short")
        if start + size != end:  # the records of ZIP64 stand between, with the wide values
            signature, _, end, _ = _END_64_LOCATOR.unpack_from(
                self._map, end - _END_64_LOCATOR.size
            )
            if signature != b"PK\x06\x07":
                raise ValueError("it is cut short")
            *_, count, size, start = _END_64.unpack_from(self._map, end)
        if start + size != end:
            raise ValueError("it is cut short")
        return count, start, end

    def _directory_entry(self, position: int) -> tuple[str, _Entry, int]:
        fields = _CENTRAL.unpack_from(self._map, position)
        signature, _, _, flags, method, _, _, crc, stored, size = fields[:10]
        name_length, extra_length, comment_length, *_, header = fields[10:]
        if signature != b"PK\x01\x02":
            raise ValueError("its directory is inconsistent")
        position += _CENTRAL.size + name_length
        name = str(self._map[position - name_length : position], "utf-8")
        if _FULL_32 in (stored, size, header):
            extra = self._map[position : position + extra_length]
            size, stored, header = _zip64(extra, size, stored, header)
        if method != zipfile.ZIP_STORED or flags & _ENCRYPTED or stored != size:
            raise ValueError(f"{name} is compressed or encrypted")
        return name, _Entry(header, size, crc), position + extra_length + comment_length


def _zip64(extra: bytes, *values: int) -> list[int]:
    """`values` with each that is 0xFFFFFFFF replaced by the next one of the ZIP64 extra field."""
    position = 0
    while position < len(extra):
        kind, length = struct.unpack_from("<2H", extra, position)
        position += 4
        if kind == 1:
            wide = iter(struct.unpack_from(f"<{length // 8}Q", extra, position))
            return [next(wide, value) if value == _FULL_32 else value for value in values]
        position += length
    return list(values)
