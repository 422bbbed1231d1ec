"""Raw files from a folder or an archive of one's own, in the layout in which they are published."""

from __future__ import annotations

import os
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from lzma import LZMAError
from pathlib import Path
from typing import Any

from beatline.common import files
from beatline.common.errors import UserError
from beatline.sources.download import USE_MIRROR, words

_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,  # also UnicodeDecodeError
    RuntimeError,  # also NotImplementedError, for a compression that Python lacks
    KeyError,
    OverflowError,
    struct.error,
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    LZMAError,
)


class Source(ABC):
    """Raw files in their published layout, in a folder or an archive; a context manager.

    Names are relative to the root of the layout, with `/`. Nothing is extracted to disk.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._members: dict[str, Any] = {}

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Close what is open."""

    @abstractmethod
    def _content(self, member: Any) -> bytes: ...

    def names(self) -> list[str]:
        """The names of all files, sorted."""
        return sorted(self._members)

    def exists(self, name: str) -> bool:
        """Whether there is a file `name`."""
        return name in self._members

    def read(self, name: str) -> bytes:
        """The content of the file `name`. Raises UserError if it is missing or damaged."""
        if name not in self._members:
            raise UserError(f"{self.path} holds no {name}: complete it, or {USE_MIRROR}")
        try:
            return self._content(self._members[name])
        except _UNREADABLE as error:
            raise UserError(
                f"{self.path}: {name} cannot be read ({words(error)}): get the file again"
            ) from None

    def items(self, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Name and content of each of `names`, in the order that is quickest to read."""
        for name in names:
            yield name, self.read(name)

    def _keep_below_root(self, marker: str | None) -> None:
        """Make names relative to the shallowest folder that holds `marker`."""
        if marker is None:
            return
        roots = [
            name[: -len(marker)] for name in self._members if f"/{name}".endswith(f"/{marker}")
        ]
        roots.sort(key=lambda root: (root.count("/"), root))
        if not roots:
            raise UserError(
                f"{self.path} holds no {marker}: set `source:` in params.yaml to the folder or"
                " archive that holds it"
            )
        if len(roots) > 1 and roots[0].count("/") == roots[1].count("/"):
            raise UserError(
                f"{self.path} holds {marker} in {roots[0]} and in {roots[1]}: set `source:` in"
                " params.yaml to one of them"
            )
        root = roots[0]
        self._members = {
            name[len(root) :]: member
            for name, member in self._members.items()
            if name.startswith(root)
        }

    def _add(self, name: str, member: Any) -> None:
        """Add a member of an archive, under a name that stays inside of it."""
        parts = [part for part in name.split("/") if part not in ("", ".")]
        inside = not re.match(r"/|[A-Za-z]:", name) and ".." not in parts
        if not inside or not parts or "\\" in name or "\0" in name:
            raise self._refused(name, "whose name leads out of the archive")
        if "/".join(parts) in self._members:
            raise self._refused(name, "which is in it twice")
        self._members["/".join(parts)] = member

    def _refused(self, name: str, why: str) -> UserError:
        return UserError(
            f"{self.path} holds {name!r}, {why}: make the archive again without it, or {USE_MIRROR}"
        )


class _Folder(Source):
    def __init__(self, path: Path, root_marker: str | None) -> None:
        super().__init__(path)
        for folder, _, names in os.walk(path):
            inner = Path(folder).relative_to(path)
            self._members |= {(inner / name).as_posix(): Path(folder) / name for name in names}
        self._keep_below_root(root_marker)

    def close(self) -> None:
        """Nothing is open: each file is opened for its reading."""

    def _content(self, member: Path) -> bytes:
        return member.read_bytes()


class _Zip(Source):
    def __init__(self, path: Path, root_marker: str | None) -> None:
        super().__init__(path)
        self._zip = zipfile.ZipFile(path)
        for member in self._zip.infolist():
            if stat.S_ISLNK(member.external_attr >> 16):
                raise self._refused(member.filename, "a link")
            if member.flag_bits & 1:
                raise self._refused(member.filename, "which is encrypted")
            if not member.is_dir():
                self._add(member.orig_filename, member)
        self._keep_below_root(root_marker)

    def close(self) -> None:
        self._zip.close()

    def _content(self, member: zipfile.ZipInfo) -> bytes:
        return self._zip.read(member)


class _Tar(Source):
    def __init__(self, path: Path, root_marker: str | None) -> None:
        super().__init__(path)
        self._tar = tarfile.open(path)  # noqa: SIM115 - closed by `close`
        for member in self._tar.getmembers():
            if not member.isdir() and not member.isreg():
                raise self._refused(member.name, "a link or a device")
            if member.isreg():
                self._add(member.name, member)
        self._keep_below_root(root_marker)

    def close(self) -> None:
        self._tar.close()

    def _content(self, member: tarfile.TarInfo) -> bytes:
        file = self._tar.extractfile(member)
        assert file is not None  # only regular files are members
        return file.read()

    def items(self, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """In the archive's order: to go back in a compressed stream is to begin it again."""
        known = {name: number for number, name in enumerate(self._members)}
        yield from super().items(sorted(names, key=lambda name: known.get(name, -1)))


def own(path: Path, sha256: str | None) -> Path:
    """`path`, a folder or archive of one's own. Raises UserError if it has not that SHA-256."""
    if sha256 and path.is_dir():
        raise UserError(f"{path} is a folder, which has no SHA-256: set `sha256: null`")
    if sha256 and path.is_file() and (found := files.sha256(path)) != sha256.lower():
        raise UserError(
            f"{path} has the SHA-256 {found} instead of {sha256}: get it again, or correct `sha256:`"
            " in params.yaml"
        )
    return path


def open_source(path: Path, root_marker: str | None = None) -> Source:
    """Open a folder, or a ZIP or tar archive (also compressed), in its published layout.

    Names are relative to the shallowest folder that holds the file `root_marker`, so an archive
    may have a folder on top. Raises UserError if `path` is missing, is neither, is damaged, holds
    no such file, or, as an archive, holds a link, an encrypted member, or a name that leads out.
    """
    if not path.exists():
        raise UserError(f"{path} is missing: correct `source:` in params.yaml")
    if path.is_dir():
        return _Folder(path, root_marker)
    try:
        if zipfile.is_zipfile(path):
            return _Zip(path, root_marker)
        return _Tar(path, root_marker)
    except _UNREADABLE as error:
        raise UserError(
            f"{path} is no ZIP or tar archive, or is damaged ({words(error)}): get it again, or"
            f" {USE_MIRROR}"
        ) from None
