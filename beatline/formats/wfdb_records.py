"""A single WFDB record as a recording; records in bulk are read by :mod:`beatline.formats.wfdb`."""

from __future__ import annotations

from beatline.common.errors import wording
from beatline.formats.recording import BadRecording, LargeRecording, Recording, check_size, decoding
from beatline.formats.wfdb import BadRecord, Files, Header, parse_header, read_records

HEADER = ".hea"
MOST_LEADS = 1024
LONGEST_LINE = 512  # characters, of a lead in the header
_LARGEST_HEADER = 200_000  # bytes


def read(files: Files, name: str, where: str, most: float) -> Recording:
    """The record whose header is the file `name`, with the samples in files beside it, float32; its
    checksums are verified.

    Raises BadRecording if it is incomplete, damaged or in a layout that is not read, and LargeRecording
    if it holds more than `most` values, which is checked before a sample is read.
    """
    header = _parsed(bytes(files.read(name)), where)
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


def _parsed(content: bytes, where: str) -> Header:
    if len(content) > _LARGEST_HEADER:
        raise LargeRecording(
            f"{where} has {len(content):,} bytes, too many for the header of a record: use its own header"
        )
    text = str(content, "utf-8-sig", "replace")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    if len(lines) > MOST_LEADS + 1 or max(map(len, lines), default=0) > LONGEST_LINE:
        raise LargeRecording(
            f"{where} has more than {MOST_LEADS} leads, or a line of more than {LONGEST_LINE} "
            f"characters: use fewer leads"
        )
    try:
        with decoding(where, "WFDB header"):
            return parse_header("\n".join(lines), where)
    except BadRecord as error:
        raise _bad(error, where, where) from None


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
