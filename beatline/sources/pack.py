"""The raw pack: all raw files of a data set in one ZIP, stored and not compressed.

Tens of thousands of small files make every DVC command slow; one file does not. A stored ZIP is
opened by any tool, and because its members are plain slices of the file they are read from the
memory map without a copy. Equal content gives equal bytes: no times, no owners, the order given.
"""

from __future__ import annotations

import mmap
import struct
import zipfile
import zlib
from contextlib import ExitStack
from lzma import LZMAError
from pathlib import Path
from types import TracebackType

from beatline.common.errors import UserError
from beatline.common.files import replacing

_LOCAL_HEADER = 30  # bytes before a member's name (PKWARE's APPNOTE.TXT 6.3.9, section 4.3.7)
_ENCRYPTED = 0x1
UNREADABLE = (  # what zipfile raises for a damaged file
    OSError,
    EOFError,
    ValueError,  # also UnicodeDecodeError
    RuntimeError,  # also NotImplementedError, for a compression that Python lacks
    KeyError,
    OverflowError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
    LZMAError,
)


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


class Pack:
    """A pack opened for reading, memory-mapped; opening costs about 10 µs a member.

    Raises UserError, naming the file and the cure, if it is missing, cut short, damaged, or not a
    pack (a ZIP with compressed or encrypted members). The content of a member is checked against
    its CRC-32 when it is first read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._sound: set[str] = set()  # members whose CRC-32 was compared
        try:
            with zipfile.ZipFile(path) as archive, path.open("rb") as file:
                self._members = _stored(archive)
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            raise UserError(f"{path} is missing: run `dvc repro` to make it") from None
        except UNREADABLE as error:
            raise self._damaged(str(error)) from None

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
        return list(self._members)

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def __len__(self) -> int:
        return len(self._members)

    def read(self, name: str) -> memoryview:
        """The bytes of the member `name`, read-only and not copied."""
        member = self._members.get(name)
        if member is None:
            raise UserError(f"{self.path} holds no {name}: add it to the source of the data set")
        header = self._map[member.header_offset : member.header_offset + _LOCAL_HEADER]
        if header[:4] != b"PK\x03\x04":
            raise self._damaged(f"no header for {name}")
        start = member.header_offset + _LOCAL_HEADER + sum(struct.unpack_from("<2H", header, 26))
        content = memoryview(self._map)[start : start + member.file_size]
        if name not in self._sound:
            if zlib.crc32(content) != member.CRC:
                raise self._damaged(f"the CRC-32 of {name} is wrong")
            self._sound.add(name)
        return content

    def text(self, name: str) -> str:
        """The member `name` as UTF-8 text. Raises UserError if it is damaged or not text."""
        try:
            return str(self.read(name), "utf-8-sig")
        except UnicodeDecodeError:
            raise UserError(
                f"{self.path}: {name} is not UTF-8 text: save it as UTF-8 in the source"
            ) from None

    def _damaged(self, detail: str) -> UserError:
        return UserError(
            f"{self.path} is damaged or is no pack ({detail}): run `beatline repair {self.path}`"
        )


def _stored(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The members by name. Raises ValueError if one is not a plain slice of the file."""
    for member in archive.filelist:
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & _ENCRYPTED:
            raise ValueError(f"{member.filename} is compressed or encrypted")
        end = member.header_offset + _LOCAL_HEADER + member.file_size
        if member.compress_size != member.file_size or end > archive.start_dir:
            raise ValueError(f"{member.filename} is cut short")
    if len(archive.NameToInfo) != len(archive.filelist):
        raise ValueError("its directory is inconsistent")
    return archive.NameToInfo
