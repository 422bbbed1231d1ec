"""WFDB records: a header `NAME.hea` and the signal files beside it, as the pipeline reads them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from beatline.common.errors import wording
from beatline.formats.recording import Recording
from beatline.formats.wfdb import BadRecord, Header, parse_header, read_records
from beatline.serving.problems import Problem, malformed, too_large, unfit
from beatline.serving.settings import Serve
from beatline.serving.uploads.checks import check_size, decoding
from beatline.serving.uploads.upload import File

HEADER, SIGNAL = ".hea", ".dat"
MOST_LEADS = 1024
LONGEST_LINE = 512  # characters, of a lead in the header
_LARGEST_HEADER = 200_000  # bytes


@dataclass(frozen=True)
class _Sent:
    """The files that were sent, as an archive for :func:`read_records`: names lead to nothing else."""

    files: dict[str, bytes]
    path: Path = Path("upload")

    def __contains__(self, name: str) -> bool:
        return name in self.files

    def read(self, name: str) -> memoryview:
        return memoryview(self.files[name])


def is_header(file: File) -> bool:
    return file.base_name.lower().endswith(HEADER)


def read(files: list[File], limits: Serve) -> Recording:
    """The record of the one header among `files`; its checksums are verified.

    Raises Problem if there are several, or the record is incomplete, damaged, in a layout that is
    not read, or larger than `limits`, which is checked before a sample is read.
    """
    header_file = _the_header(files)
    where = header_file.where
    header = _parsed(header_file)
    sent = {file.base_name: file.content for file in files}
    _check_size(header, sent, where, limits)
    name = header_file.base_name[: -len(HEADER)] or "record"
    archive = _Sent({**sent, name + HEADER: header_file.content})
    try:
        with decoding(where, "WFDB record"):
            (samples,) = next(read_records(archive, [name], batch=1, dtype=np.float32))
    except BadRecord as error:
        raise _problem(error, f"{archive.path}: ") from None
    leads = [lead.format for lead in header.leads]
    return Recording(
        samples,
        channels=[lead.name for lead in leads] if any(lead.name for lead in leads) else None,
        sampling_rate=header.sampling_rate,
        units=[lead.units for lead in leads],
    )


def _the_header(files: list[File]) -> File:
    headers = [file for file in files if is_header(file)]
    if not headers:
        raise malformed(f"{files[0].where} is sent without its header: send NAME.hea with it")
    if len(headers) > 1:
        raise unfit(f"there are {len(headers)} headers (.hea): send one record at a time")
    names = [file.base_name for file in files]
    twice = next((file for file in files if names.count(file.base_name) > 1), None)
    if twice:
        raise unfit(f"two files are called {twice.where}: send each once")
    return headers[0]


def _parsed(file: File) -> Header:
    where = file.where
    if len(file.content) > _LARGEST_HEADER:
        raise too_large(f"{where} has {len(file.content):,} bytes: it is no header of a record")
    text = str(file.content, "utf-8-sig", "replace")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    if len(lines) > MOST_LEADS + 1 or max(map(len, lines), default=0) > LONGEST_LINE:
        raise too_large(
            f"{where} has more than {MOST_LEADS} leads, or a line of more than {LONGEST_LINE} "
            f"characters: send fewer leads"
        )
    try:
        with decoding(where, "WFDB header"):
            return parse_header("\n".join(lines), where)
    except BadRecord as error:
        raise _problem(error) from None


def _check_size(header: Header, sent: dict[str, bytes], where: str, limits: Serve) -> None:
    """Check a record's size by its header or, if the header leaves it open, by the files' length."""
    if header.n_samples is not None:
        check_size(header.n_samples * header.n_leads, limits, where)
        return
    # A sample takes 8 bits at least, and the leads of all files are as long as those of the first.
    first = header.leads[0].file_name
    beside = sum(lead.file_name == first for lead in header.leads)
    n_samples = len(sent.get(first, b"")) // beside
    check_size(n_samples * header.n_leads, limits, where)


def _problem(error: BadRecord, prefix: str = "") -> Problem:
    """Turn the pipeline's error about a record into a Problem, without its advice for a data set."""
    reason = wording(error).removeprefix(prefix).rpartition(": ")[0]
    return malformed(f"{reason}: send an undamaged record with all of its files")
