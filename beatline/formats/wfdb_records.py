"""A single WFDB record as a recording, in every layout that wfdb reads; records in bulk are read by
:mod:`beatline.formats.wfdb`."""

from __future__ import annotations

from pathlib import Path

from beatline.common.errors import shown, wording
from beatline.formats import isolated
from beatline.formats.recording import BadRecording, LargeRecording, Recording, check_size, decoding
from beatline.formats.wfdb import (
    BadRecord,
    Files,
    Header,
    OtherLayout,
    parse_header,
    read_records,
)

HEADER = ".hea"
MOST_LEADS = 1024
LONGEST_LINE = 512  # characters, of a lead in the header
_LARGEST_HEADER = 200_000  # bytes
_LIBRARY = "beatline.formats.wfdb_library:read"


def read(files: Files, name: str, where: str, most: float) -> Recording:
    """The record whose header is the file `name`, with the samples in files beside it, float32; its
    checksums are verified.

    Raises BadRecording if it is incomplete, damaged or in a layout that is not read, and LargeRecording
    if it holds more than `most` values, which is checked before a sample is read.
    """
    lines = _lines(bytes(files.read(name)), where)
    try:
        with decoding(where, "WFDB header"):
            header = parse_header("\n".join(lines), where)
    except OtherLayout:
        return _by_library(files, name, where, most)
    except BadRecord as error:
        raise _bad(error, where, where) from None
    _check_size(header, files, name, where, most)
    try:
        with decoding(where, "WFDB record"):
            (samples,) = next(read_records(files, [name[: -len(HEADER)]], batch=1))
    except BadRecord as error:
        raise _bad(error, f"{files.path}: {name}", where) from None
    leads = [lead.format for lead in header.leads]
    return Recording(
        samples,
        channels=[lead.name for lead in leads] if any(lead.name for lead in leads) else None,
        sampling_rate=header.sampling_rate,
        units=[lead.units for lead in leads],
    )


def has_segments(content: bytes) -> bool:
    """Whether a header is that of a record of several segments, which have headers of their own."""
    lines = (line.split() for line in content.splitlines() if not line.lstrip().startswith(b"#"))
    return b"/" in next((words[0] for words in lines if words), b"")


def _lines(content: bytes, where: str) -> list[str]:
    """The lines of a header, without comments. Raises LargeRecording if it is far too long for one."""
    if len(content) > _LARGEST_HEADER:
        raise LargeRecording(
            f"{where} has {len(content):,} bytes, too many for the header of a record: use its own header"
        )
    text = str(content, "utf-8-sig", "replace")
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and line[0] != "#"]
    if len(lines) > MOST_LEADS + 1 or max(map(len, lines), default=0) > LONGEST_LINE:
        raise LargeRecording(
            f"{where} has more than {MOST_LEADS} leads, or a line of more than {LONGEST_LINE} "
            f"characters: use fewer leads"
        )
    return lines


def _by_library(files: Files, name: str, where: str, most: float) -> Recording:
    """A record of several segments, with several samples per frame, or with skewed leads."""
    folder = name[: name.rfind("/") + 1]
    record = {Path(name).name: bytes(files.read(name))}
    lines = _lines(record[Path(name).name], where)
    fields = [*lines[0].split(), "0", "0", "0"]
    with decoding(where, "WFDB header"):
        check_size(int(fields[1]) * int(fields[3]), most, where)
    waiting = [(where, lines)]
    while waiting:
        header, lines = waiting.pop()
        segments = "/" in lines[0].split()[0]
        for part in {line.split()[0] for line in lines[1:]} - {"~"}:
            part += HEADER if segments else ""
            if part in record:
                continue
            if "/" in part or "\\" in part or folder + part not in files:
                raise BadRecording(
                    f"{header} names {shown(part)}, which is not beside it: use a record with all of its "
                    f"files"
                )
            record[part] = bytes(files.read(folder + part))
            if segments:
                waiting.append((part, _lines(record[part], part)))
    return isolated.read(_LIBRARY, record, where, most, "WFDB record")


def _check_size(header: Header, files: Files, name: str, where: str, most: float) -> None:
    """Check a record's size by its header or, if the header leaves it open, by the files' length."""
    if header.n_samples is not None:
        check_size(header.n_samples * header.n_leads, most, where)
        return
    # A sample takes 8 bits at least, and the leads of all files are as long as those of the first.
    first = header.leads[0].file_name
    beside = sum(lead.file_name == first for lead in header.leads)
    path = name[: name.rfind("/") + 1] + first
    n_samples = len(files.read(path)) // beside if path in files else 0
    check_size(n_samples * header.n_leads, most, where)


def _bad(error: BadRecord, prefix: str, where: str) -> BadRecording:
    """An error about a record without its advice for a data set."""
    reason = wording(error).removeprefix(prefix).rpartition(": ")[0]
    return BadRecording(f"{where}{reason}: use an undamaged record with all of its files")
