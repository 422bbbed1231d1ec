"""WFDB records: a header `NAME.hea` and the signal files beside it, as the pipeline reads them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from beatline.common.errors import listed
from beatline.formats import wfdb_records
from beatline.formats.recording import Recording, caution
from beatline.serving.problems import malformed, unfit
from beatline.serving.settings import Serve
from beatline.serving.uploads.checks import refusing
from beatline.serving.uploads.upload import File

HEADER, SIGNAL = wfdb_records.HEADER, ".dat"


@dataclass(frozen=True)
class _Sent:
    """The files that were sent, as a source of records: names lead to nothing else. `read_so_far`: names
    of those that the record consists of."""

    files: dict[str, bytes]
    path: Path = Path("upload")
    read_so_far: set[str] = field(default_factory=set)

    def __contains__(self, name: str) -> bool:
        return name in self.files

    def read(self, name: str) -> memoryview:
        self.read_so_far.add(name)
        return memoryview(self.files[name])


def is_header(file: File) -> bool:
    return file.base_name.lower().endswith(HEADER)


def read(files: list[File], limits: Serve) -> Recording:
    """The record of the one header among `files`; its checksums are verified. Its warnings name files
    that it does not consist of, such as annotations or another recording.

    Raises Problem if there are several that are no segments of one record, or the record is incomplete,
    damaged, in a layout that is not read, or larger than `limits`.
    """
    header = _the_header(files)
    name = (header.base_name[: -len(HEADER)] or "record") + HEADER
    sent = _Sent({**{file.base_name: file.content for file in files}, name: header.content})
    with refusing():
        recording = wfdb_records.read(sent, name, header.where, limits.max_values)
    read_so_far = {header.base_name, *sent.read_so_far}
    others = [file.base_name for file in files if file.base_name not in read_so_far]
    if not others:
        return recording
    verb = "is no file" if len(others) == 1 else "are no files"
    message = f"{listed(others)} {verb} of the record {header.where}: not read"
    return replace(recording, warnings=[*recording.warnings, caution("unread", message)])


def _the_header(files: list[File]) -> File:
    headers = [file for file in files if is_header(file)]
    if not headers:
        raise malformed(f"{files[0].where} is sent without its header: send NAME.hea with it")
    of_segments = [file for file in headers if wfdb_records.has_segments(file.content)]
    if len(headers) > 1 and len(of_segments) != 1:
        raise unfit(f"there are {len(headers)} headers (.hea): send one record at a time")
    names = [file.base_name for file in files]
    twice = next((file for file in files if names.count(file.base_name) > 1), None)
    if twice:
        raise unfit(f"two files are called {twice.where}: send each once")
    return (of_segments or headers)[0]
