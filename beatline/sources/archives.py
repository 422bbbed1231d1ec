"""Raw files from a folder or an archive of one's own, in the layout in which they are published."""

from __future__ import annotations

import os
import re
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from beatline.common import files
from beatline.common.errors import UserError, warn
from beatline.sources.download import USE_MIRROR, words
from beatline.sources.pack import UNREADABLE
from beatline.sources.timestamps import iso

_UNREADABLE = (*UNREADABLE, tarfile.TarError)


class _File(NamedTuple):
    """A file of a source: its content, and when it was last changed."""

    read: Callable[[], bytes]
    changed: Callable[[], datetime]


class Source:
    """Raw files in their published layout, in a folder or an archive; a context manager.

    Names are relative to the root of the layout, with `/`. Nothing is extracted to disk.
    """

    def __init__(self, path: Path, opened: ExitStack, members: dict[str, _File]) -> None:
        self.path = path
        self._opened = opened
        self._members = members

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def names(self) -> list[str]:
        """The names of all files, sorted."""
        return sorted(self._members)

    def exists(self, name: str) -> bool:
        """Whether there is a file `name`."""
        return name in self._members

    def changed(self, name: str) -> str:
        """When the file `name` was last changed, in ISO 8601: the nearest thing to when it was
        recorded. A ZIP archive holds local times without a zone, which are taken for UTC."""
        return iso(self._members[name].changed())

    def read(self, name: str) -> bytes:
        """The content of the file `name`. Raises UserError if it is missing or damaged."""
        if name not in self._members:
            raise UserError(f"{self.path} holds no {name}: complete it, or {USE_MIRROR}")
        try:
            return self._members[name].read()
        except _UNREADABLE as error:
            raise UserError(
                f"{self.path}: {name} cannot be read ({words(error)}): get the file again"
            ) from None

    def in_order(self, names: Iterable[str]) -> list[str]:
        """Return `names` in the order in which to read them, of a tar its own: to go back in a compressed
        stream is to begin it again."""
        if not self.path.is_file() or zipfile.is_zipfile(self.path):
            return list(names)
        numbers = {name: number for number, name in enumerate(self._members)}
        return sorted(names, key=lambda name: numbers.get(name, -1))


def open_source(path: Path, root_marker: str | None = None) -> Source:
    """Open a folder, or a ZIP or tar archive (also compressed), in its published layout.

    Names are relative to the shallowest folder that holds the file `root_marker`, so an archive
    may have a folder on top. Raises UserError if `path` is missing, is neither, is damaged, holds
    no such file, or, as an archive, holds a link, an encrypted member, or a name that leads out.
    """
    if not path.exists():
        raise UserError(f"{path} is missing: correct `source:` in params.yaml")
    with ExitStack() as opened:
        try:
            if path.is_dir():
                members = _without_attributes(dict(_folder(path)))
            elif zipfile.is_zipfile(path):
                members = _by_name(path, _zip(path, opened.enter_context(zipfile.ZipFile(path))))
            else:
                members = _by_name(path, _tar(path, opened.enter_context(tarfile.open(path))))
        except _UNREADABLE as error:
            raise UserError(
                f"{path} is no folder, ZIP or tar archive that can be read ({words(error)}): get it"
                f" again, or {USE_MIRROR}"
            ) from None
        if root_marker:
            members = _below_root(path, members, root_marker)
        return Source(path, opened.pop_all(), members)


def _folder(
    path: Path, prefix: str = "", above: tuple[str, ...] = ()
) -> Iterator[tuple[str, _File]]:
    """The files below a folder; links are followed, but not one to a folder `above` itself."""
    here = os.path.realpath(path)
    if here in above:
        return
    for entry in os.scandir(path):
        file = Path(entry)
        if entry.is_dir():
            if entry.is_symlink() and not file.resolve().is_relative_to((*above, here)[0]):
                warn(
                    f"{file} is a link to a folder outside of the source, where DVC sees no change: "
                    f"copy its files here, or run `dvc repro --force` when they have changed"
                )
            yield from _folder(file, f"{prefix}{entry.name}/", (*above, here))
        elif entry.is_file():
            yield prefix + entry.name, _File(file.read_bytes, lambda file=file: _file_time(file))
        else:
            warn(f"{file} is neither a file nor a folder, or a link to nowhere: it is left out")


def _zip(path: Path, archive: zipfile.ZipFile) -> Iterator[tuple[str, _File]]:
    for member in archive.infolist():
        if stat.S_ISLNK(member.external_attr >> 16):
            raise _refused(path, member.filename, "a link")
        if member.flag_bits & 1:
            raise _refused(path, member.filename, "which is encrypted")
        yield (
            member.orig_filename.replace("\\", "/"),  # as some programs for Windows write it
            _File(
                lambda member=member: archive.read(member), lambda member=member: _zip_time(member)
            ),
        )


def _tar(path: Path, archive: tarfile.TarFile) -> Iterator[tuple[str, _File]]:
    for member in archive.getmembers():
        if not member.isdir() and not member.isreg():
            raise _refused(path, member.name, "a link or a device")
        yield (
            member.name + "/" * member.isdir(),
            _File(
                lambda member=member: _content(archive, member),
                lambda member=member: datetime.fromtimestamp(member.mtime, UTC),
            ),
        )


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    assert file is not None  # only regular files are members
    return file.read()


def _by_name(path: Path, members: Iterable[tuple[str, _File]]) -> dict[str, _File]:
    """The files of an archive, each under a name that stays inside of it."""
    result: dict[str, _File] = {}
    for name, file in members:
        if name.endswith("/"):
            continue
        parts = [part for part in name.split("/") if part not in ("", ".")]
        inside = not re.match(r"/|[A-Za-z]:", name) and ".." not in parts
        if not inside or not parts or "\\" in name or "\0" in name:
            raise _refused(path, name, "whose name leads out of the archive")
        if "/".join(parts) in result:
            raise _refused(path, name, "which is in it twice")
        result["/".join(parts)] = file
    return _without_attributes(result)


def _without_attributes(members: dict[str, _File]) -> dict[str, _File]:
    """The files, less those in which macOS keeps attributes of others, under the endings of others."""
    return {
        name: file
        for name, file in members.items()
        if not name.startswith("__MACOSX/") and not name.rpartition("/")[2].startswith("._")
    }


def _below_root(path: Path, members: dict[str, _File], marker: str) -> dict[str, _File]:
    """The files in the shallowest folder that holds `marker`, named relative to it."""
    roots = [name[: -len(marker)] for name in members if f"/{name}".endswith(f"/{marker}")]
    roots.sort(key=lambda root: (root.count("/"), root))
    if not roots:
        raise UserError(
            f"{path} holds no {marker}: set `source:` in params.yaml to the folder or archive that"
            " holds it"
        )
    if len(roots) > 1 and roots[0].count("/") == roots[1].count("/"):
        raise UserError(
            f"{path} holds {marker} in {roots[0]} and in {roots[1]}: leave one of them out, or set"
            " `source:` in params.yaml to a folder with the other alone"
        )
    root = roots[0]
    return {name[len(root) :]: file for name, file in members.items() if name.startswith(root)}


def _refused(path: Path, name: str, why: str) -> UserError:
    return UserError(
        f"{path} holds {name!r}, {why}: make the archive again without it, or {USE_MIRROR}"
    )


def one_of_each(
    source: Source,
    candidates: Mapping[str, Sequence[str]],
    content: Callable[[str], Any] | None = None,
) -> dict[str, str]:
    """Return a file for each key of `candidates`: those in the shallowest folder that holds one for all
    keys, if any does, and else each the shallowest.

    `candidates`: at least one file for a key; of those in one folder the first counts. Raises UserError
    if the files in other folders are no copies, by their `content`, the bytes if it is not given.
    """
    by_folder = [
        {PurePosixPath(name).parent: name for name in reversed(names)}
        for names in candidates.values()
    ]
    whole = set.intersection(*map(set, by_folder))
    chosen = {}
    for key, copies in zip(candidates, by_folder, strict=True):
        folders = sorted(whole or copies, key=lambda folder: (len(folder.parts), folder))
        first, *others = (copies[folder] for folder in folders)
        read = content or source.read
        for other in others:
            if read(other) != read(first):
                raise UserError(
                    f"{source.path} holds {first} and {other}, which differ: leave one of them out, or "
                    f"set `source:` in params.yaml to a folder with the other alone"
                )
        chosen[key] = first
    return chosen


def _file_time(file: Path) -> datetime:
    return datetime.fromtimestamp(file.stat().st_mtime, UTC)


def _zip_time(member: zipfile.ZipInfo) -> datetime:
    try:
        return datetime(*member.date_time, tzinfo=UTC)
    except ValueError:  # month 0, or a 31st of June: written by a tool that keeps no time
        return datetime(1980, 1, 1, tzinfo=UTC)


def own(path: Path, sha256: str | None) -> Path:
    """`path`, a folder or archive of one's own. Raises UserError if it has not that SHA-256."""
    if sha256 and path.is_dir():
        raise UserError(f"{path} is a folder, which has no SHA-256: set `sha256: null`")
    if sha256 and path.is_file() and (actual := files.sha256(path)) != sha256.lower():
        raise UserError(
            f"{path} has the SHA-256 {actual} instead of {sha256}: get it again, or correct `sha256:`"
            " in params.yaml"
        )
    return path
