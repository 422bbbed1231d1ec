"""Reading WFDB records in bulk, straight from a pack.

A record is a text header `NAME.hea` and the samples it describes, of all leads interleaved, in
one or more `.dat` files beside it. The formats are those of the WFDB manual, header(5) and
signal(5) (https://www.physionet.org/physiotools/wag/). The values are, bit for bit, those of
`wfdb.rdsamp`; formats 16 and 212, in which nearly all ECGs are stored, are read tens of times
sooner. Nearly all of its time goes into the header, of which the records of one data set repeat
all but the file names, the initial values and the checksums. Other formats are read by wfdb, in a
process of its own, from a header that was checked here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import DTypeLike

from beatline.common.errors import UserError, wording
from beatline.formats import isolated
from beatline.formats.units import power_of_ten


class Files(Protocol):
    """A source of records' files: a :class:`beatline.sources.pack.Pack`, or anything like it."""

    @property
    def path(self) -> Path | str: ...

    def __contains__(self, name: str, /) -> bool: ...

    def read(self, name: str, /) -> memoryview: ...


class BadRecord(UserError):
    """A record that is damaged, incomplete, not as expected, or in a layout we do not read."""


class OtherLayout(BadRecord):
    """A record in a layout that we do not read, and that the library wfdb may read."""


class _Problem(Exception):
    """A fault of a record, as the end of a sentence that begins with its header's name."""


class _Other(_Problem):
    """As a fault, a layout that is not read here."""


class LeadFormat(NamedTuple):
    """How a lead is stored: what the records of one data set have in common."""

    format: int  # of signal(5): 16 is 16-bit two's complement, low byte first
    byte_offset: int  # bytes of the file before the first sample
    gain: float  # digital units per physical unit
    baseline: int  # digital value of 0 physical units
    units: str  # physical unit, "mV" if the header names none
    name: str  # such as "AVR"; empty if the header names none


class Lead(NamedTuple):
    """One lead of a record: where it is, and what is particular to this record."""

    file_name: str
    initial_value: int
    checksum: int | None  # sum of the digital samples modulo 2^16; None if the header has none
    format: LeadFormat


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a single-segment record."""

    record_name: str
    sampling_rate: float  # Hz
    n_samples: int | None  # per lead; None if the header leaves it to the length of the file
    leads: tuple[Lead, ...]

    @property
    def n_leads(self) -> int:
        """The number of leads."""
        return len(self.leads)


_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_INTEGER = re.compile(r"[+-]?\d{1,12}", re.ASCII)
_RATE = re.compile(rf"({_NUMBER})(?:/{_NUMBER}(?:\({_NUMBER}\))?)?", re.ASCII)
_FORMAT = re.compile(r"(\d{1,4})(?:x(\d{1,6}))?(?::(\d{1,9}))?(?:\+(\d{1,9}))?", re.ASCII)
_GAIN = re.compile(rf"({_NUMBER})(?:\((-?\d{{1,12}})\))?(?:/(\S+))?", re.ASCII)
_N_LEAD_FIELDS = 9
_BY_WFDB = "beatline.formats.wfdb_library:digital"
_CURE = "put an undamaged copy into the source, or take the record out of its table"


def parse_header(text: str, name: str) -> Header:
    """Parse the text of a WFDB header; `name` is the file's, for messages.

    What a header may leave out gets the default of header(5): 250 Hz, a gain of 200, the ADC's
    zero as baseline, mV. Raises BadRecord for a header that is malformed, or that names a signal
    file in a folder above its own, and OtherLayout for one that describes what we do not read:
    several segments, several samples per frame, or skewed leads.
    """
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and line[0] != "#"]
    try:
        return _parse_lines(lines)
    except _Problem as error:
        kind = OtherLayout if isinstance(error, _Other) else BadRecord
        raise kind(f"{name} {error}: {_CURE}") from None


def _parse_lines(lines: list[str]) -> Header:
    if not lines:
        raise _Problem("is an empty header")
    record_name, *rest = lines[0].split(None, 1)
    n_leads, sampling_rate, n_samples = _record_fields(rest[0] if rest else "")
    if re.search(r"/\d+$", record_name):
        raise _Other("has several segments, of which only single records are read")
    if n_leads != len(lines) - 1 or not n_leads:
        raise _Problem(f"announces {n_leads} leads and describes {len(lines) - 1}")
    return Header(record_name, sampling_rate, n_samples, tuple(map(_lead, lines[1:])))


@lru_cache(maxsize=256)
def _record_fields(line: str) -> tuple[int, float, int | None]:
    """Number of leads, sampling rate in Hz, and number of samples from a record line."""
    fields = line.split()
    if not fields:
        raise _Problem("does not say how many leads it has")
    n_leads = _integer(fields[0], "number of leads")
    rate = _RATE.fullmatch(fields[1]) if len(fields) > 1 else None
    if len(fields) > 1 and not rate:
        raise _Problem(f"has an unreadable sampling rate ({_shown(fields[1])})")
    sampling_rate = float(rate[1]) if rate else 250.0
    if not 0 < sampling_rate < math.inf:
        raise _Problem(f"has an impossible sampling rate ({sampling_rate} Hz)")
    n_samples = _integer(fields[2], "number of samples") if len(fields) > 2 else 0
    if n_samples < 0:
        raise _Problem(f"has an impossible number of samples ({n_samples})")
    return n_leads, sampling_rate, n_samples or None


def _lead(line: str) -> Lead:
    fields = line.split(None, _N_LEAD_FIELDS - 1)
    fields += [""] * (_N_LEAD_FIELDS - len(fields))
    file_name, storage, gain, _, zero, initial_value, checksum, _, name = fields
    if "\\" in file_name or re.match(r"/|~|(.*/)?\.\.", file_name):
        raise _Problem(f"names {_shown(file_name)}, which is no file in its own folder")
    try:
        own = int(initial_value or 0), int(checksum) if checksum else None
    except ValueError:
        fields = _shown(f"{initial_value} {checksum}")
        raise _Problem(f"has an unreadable initial value or checksum ({fields})") from None
    return Lead(file_name, *own, _lead_format(storage, gain, zero, name))


@lru_cache(maxsize=4096)
def _lead_format(storage: str, gain: str, zero: str, name: str) -> LeadFormat:
    format_, byte_offset = _storage(storage)
    adc_zero = _integer(zero or "0", "ADC zero")
    scale = _GAIN.fullmatch(gain or "0")
    if not scale:
        raise _Problem(f"has an unreadable gain ({_shown(gain)})")
    per_unit = float(scale[1]) or 200.0
    if not 1e-20 < abs(per_unit) < 1e20:  # beyond, float32 overflows
        raise _Problem(f"has an impossible gain ({_shown(gain)})")
    return LeadFormat(
        format=format_,
        byte_offset=byte_offset,
        gain=per_unit,
        baseline=adc_zero if scale[2] is None else int(scale[2]),
        units=scale[3] or "mV",
        name=name,
    )


def _storage(field: str) -> tuple[int, int]:
    """Format and byte offset from the second field of a lead, such as `16x1:0+24`."""
    match = _FORMAT.fullmatch(field)
    if not match:
        raise _Problem(f"has an unreadable format ({_shown(field)})")
    format_, per_frame, skew, byte_offset = (int(group or 0) for group in match.groups())
    if format_ not in _FORMATS:
        raise _Problem(f"uses format {format_}, of which only {_SUPPORTED} are read")
    if per_frame > 1:
        raise _Other(f"has {per_frame} samples per frame, of which only 1 is read")
    if skew:
        raise _Other(f"has a lead skewed by {skew} samples, which is not read")
    return format_, byte_offset


def _integer(field: str, name: str) -> int:
    if not _INTEGER.fullmatch(field):
        raise _Problem(f"has an unreadable {name} ({_shown(field)})")
    return int(field)


def _shown(field: str) -> str:
    """`field` as it can stand in one line of a message."""
    return repr(field if len(field) <= 40 else field[:40] + "…")


class _Format(NamedTuple):
    bits: float  # per sample in the file; 0 where it is compressed
    missing: int  # the digital value that marks a missing sample
    digital: type[np.signedinteger] = np.int32  # what holds every sample


# In format 8, of differences, no value is set aside for a missing sample, and this one is not reached.
_FORMATS = {
    8: _Format(8, -(2**31)),
    16: _Format(16, -(2**15), np.int16),
    24: _Format(24, -(2**23)),
    32: _Format(32, -(2**31)),
    61: _Format(16, -(2**15)),
    80: _Format(8, -(2**7)),
    160: _Format(16, -(2**15)),
    212: _Format(12, -(2**11), np.int16),
    310: _Format(32 / 3, -(2**9)),
    311: _Format(32 / 3, -(2**9)),
    508: _Format(0, -(2**7)),
    516: _Format(0, -(2**15)),
    524: _Format(0, -(2**23)),
}
_SUPPORTED = ", ".join(map(str, _FORMATS))


class _File(NamedTuple):
    """A signal file of a record: which leads it holds, and how."""

    columns: list[int]  # numbers of its leads in the header
    format: int
    byte_offset: int

    def n_bytes(self, n_samples: int) -> int:
        """Bytes that `n_samples` of each lead take, at least."""
        return math.ceil(n_samples * len(self.columns) * _FORMATS[self.format].bits / 8)

    def n_samples(self, n_bytes: int) -> int:
        """Samples of each lead that `n_bytes` hold; 0 if only decoding would tell."""
        bits = _FORMATS[self.format].bits * len(self.columns)
        return int(n_bytes * 8 // bits) if bits else 0

    def samples(self, content: memoryview, header: Header, n_samples: int) -> np.ndarray:
        """Digital samples `[T, leads of this file]`."""
        if self.format not in (16, 212):
            return self._by_wfdb(content, header, n_samples)
        stored_type = np.dtype("<i2" if self.format == 16 else "u1")
        count = self.n_bytes(n_samples) // stored_type.itemsize
        stored = np.frombuffer(content, stored_type, count, self.byte_offset)
        flat = stored if self.format == 16 else _pairs_of_12_bits(stored)
        return flat[: n_samples * len(self.columns)].reshape(n_samples, len(self.columns))

    def _by_wfdb(self, content: memoryview, header: Header, n_samples: int) -> np.ndarray:
        """The same by wfdb, from a header of our own that names this file alone."""
        lines = [f"1 {len(self.columns)} 1 {n_samples}"]
        for column in self.columns:
            first = header.leads[column].initial_value
            lines.append(f"1.dat {self.format}+{self.byte_offset} 1(0)/mV 0 0 {first} 0 0")
        files = {"1.hea": ("\n".join(lines) + "\n").encode(), "1.dat": content}
        file_name = header.leads[self.columns[0]].file_name
        try:
            digital = isolated.read(_BY_WFDB, files, file_name, math.inf, "signal file")
        except UserError as error:
            reason = wording(error).replace("1.dat", file_name)
            raise _Problem(f"names {file_name}, which cannot be read ({reason})") from None
        return digital.samples


def _pairs_of_12_bits(stored: np.ndarray) -> np.ndarray:
    """Two samples from three bytes: 8 low bits, two times 4 high bits, 8 low bits."""
    triplets = np.zeros((-(-len(stored) // 3), 3), np.int16)
    triplets.reshape(-1)[: len(stored)] = stored
    samples = np.empty((len(triplets), 2), np.int16)
    samples[:, 0] = triplets[:, 0] | (triplets[:, 1] & 0x0F) << 8
    samples[:, 1] = triplets[:, 2] | (triplets[:, 1] & 0xF0) << 4
    return (samples << 4 >> 4).reshape(-1)  # the last shift copies the sign


def _file_numbers(header: Header) -> list[int]:
    """For each lead the number of the first lead that is in the same file."""
    files = [lead.file_name for lead in header.leads]
    return [files.index(file) for file in files]


def _files(header: Header) -> list[_File]:
    numbers, files = _file_numbers(header), []
    for number in sorted(set(numbers)):
        columns = [column for column, other in enumerate(numbers) if other == number]
        storages = {header.leads[column].format[:2] for column in columns}
        if len(storages) > 1:
            raise _Problem(f"stores {header.leads[number].file_name} in two formats")
        files.append(_File(columns, *storages.pop()))
    return files


def _gain(lead: LeadFormat, unit: str | None) -> float:
    """Digital units per `unit`, or per the lead's own if that is None."""
    power = power_of_ten(lead.units, unit) if unit else 0
    if power is None:
        raise _Problem(f"has lead {lead.name} in {_shown(lead.units)}, which is no {unit}")
    return lead.gain / 10**power if power > 0 else lead.gain * 10**-power


class _Layout:
    """The layout that successive records share: their files, and how samples become physical units.

    Gain, baseline and missing value are spread over `[T, C]`: numpy is several times faster on
    operands of one shape than on a last axis of twelve.
    """

    def __init__(
        self,
        header: Header,
        files: list[_File],
        n_samples: int,
        order: list[int],
        unit: str | None,
        dtype: DTypeLike,
    ) -> None:
        self.files = files
        self.n_samples = n_samples
        self.numbers = _file_numbers(header)
        self.formats = [lead.format for lead in header.leads]
        self.order = order if order != list(range(header.n_leads)) else None
        kinds = [_FORMATS[lead.format] for lead in self.formats]
        self.integer = np.result_type(*(kind.digital for kind in kinds))
        gain = np.array([_gain(lead, unit) for lead in self.formats])
        baseline = np.array([lead.baseline for lead in self.formats], np.float64)
        narrow = np.dtype(dtype) == np.float32 and self._narrow(gain, baseline)
        self.float = np.dtype(np.float32 if narrow else np.float64)
        shape = (n_samples, header.n_leads)
        self.gain = np.broadcast_to(gain.astype(self.float), shape).copy()
        self.baseline = np.broadcast_to(baseline.astype(self.float), shape).copy()
        missing = np.array([kind.missing for kind in kinds], self.integer)
        self.missing = np.broadcast_to(missing, shape).copy()

    def _narrow(self, gain: np.ndarray, baseline: np.ndarray) -> bool:
        """Whether dividing in float32 gives the float64 quotient rounded to float32.

        It does where both operands are exact in float32: 53 bits exceed 2 * 24 + 1, so rounding
        twice is harmless (Figueroa, When is double rounding innocuous?, 1995).
        """
        exact = gain.astype(np.float32) == gain
        small = np.abs(baseline) < 2**22
        return self.integer == np.int16 and bool((exact & small).all())

    def fits(self, header: Header) -> bool:
        """Whether `header` describes a record of this layout."""
        return (
            self.n_samples == header.n_samples
            and self.formats == [lead.format for lead in header.leads]
            and self.numbers == _file_numbers(header)
        )

    def digital(self, header: Header, contents: list[memoryview]) -> np.ndarray:
        """Digital samples `[T, leads]` of a record in the order of its header."""
        parts = [
            file.samples(content, header, self.n_samples)
            for file, content in zip(self.files, contents, strict=True)
        ]
        if len(parts) == 1:
            return parts[0]
        digital = np.empty((self.n_samples, len(self.formats)), self.integer)
        for file, part in zip(self.files, parts, strict=True):
            digital[:, file.columns] = part
        return digital

    def physical(self, digital: np.ndarray) -> np.ndarray:
        """Physical units `[T, C]` of digital samples `[T, leads]`, NaN where one is missing."""
        values = digital.astype(self.float)
        values -= self.baseline
        values /= self.gain
        missing = digital == self.missing
        if missing.any():
            values[missing] = np.nan
        return values if self.order is None else values[:, self.order]


@dataclass
class _Reader:
    """Reads one record after the other and remembers what they have in common; what is None of
    `leads`, `sampling_rate` and `samples` is settled by the first good record."""

    pack: Files
    leads: Sequence[str] | None
    sampling_rate: float | None
    samples: int | None
    unit: str | None  # None: that of each header
    verify: bool
    dtype: DTypeLike = np.float32
    layout: _Layout | None = None

    def digital(self, name: str) -> tuple[np.ndarray, _Layout]:
        """Digital samples `[T, leads]` of record `name` as stored, and how to scale them."""
        header = self._header(name)
        try:
            if self.sampling_rate and self.sampling_rate != header.sampling_rate:
                raise _Problem(
                    f"has {header.sampling_rate:g} Hz instead of {self.sampling_rate:g} Hz"
                )
            layout, contents = self._open(header, name[: name.rfind("/") + 1])
            digital = layout.digital(header, contents)
            if self.verify:
                _verify(header, digital)
        except _Problem as error:
            raise BadRecord(f"{self.pack.path}: {name}.hea {error}: {_CURE}") from None
        self.leads = self.leads or [lead.format.name for lead in header.leads]
        self.sampling_rate = self.sampling_rate or header.sampling_rate
        self.samples = self.samples or layout.n_samples
        return digital, layout

    def _header(self, name: str) -> Header:
        file = f"{name}.hea"
        if file not in self.pack:
            raise BadRecord(f"{self.pack.path}: {file} is missing: {_CURE}")
        text = str(self.pack.read(file), "utf-8-sig", "replace")
        return parse_header(text, f"{self.pack.path}: {file}")

    def _open(self, header: Header, folder: str) -> tuple[_Layout, list[memoryview]]:
        """The layout of a record, and its files, which are long enough for it."""
        layout = self.layout
        if layout and layout.fits(header):
            return layout, self._contents(header, folder, layout.files, layout.n_samples)
        files, order = _files(header), self._order(header)
        n_samples = header.n_samples or self._n_samples(header, folder, files[0])
        if self.samples and n_samples != self.samples:
            raise _Problem(f"has {n_samples} samples instead of {self.samples}")
        contents = self._contents(header, folder, files, n_samples)
        self.layout = _Layout(header, files, n_samples, order, self.unit, self.dtype)
        return self.layout, contents

    def _order(self, header: Header) -> list[int]:
        """Which lead of the header is the first, second … of the expected ones."""
        present = [lead.format.name.casefold() for lead in header.leads]
        expected = [name.casefold() for name in self.leads or present]
        if expected == present:
            return list(range(len(present)))
        missing = [name for name in expected if name not in present]
        if missing:
            raise _Problem(f"has no lead {', '.join(missing)} among {', '.join(present)}")
        if any(present.count(name) > 1 for name in expected):
            raise _Problem(f"has two leads of one name among {', '.join(present)}")
        return [present.index(name) for name in expected]

    def _n_samples(self, header: Header, folder: str, file: _File) -> int:
        content = self._content(folder, header.leads[file.columns[0]].file_name)
        n_samples = file.n_samples(len(content) - file.byte_offset)
        if n_samples < 1:
            raise _Problem("announces no samples, and its file does not tell of any")
        return n_samples

    def _contents(
        self, header: Header, folder: str, files: list[_File], n_samples: int
    ) -> list[memoryview]:
        contents = []
        for file in files:
            file_name = header.leads[file.columns[0]].file_name
            content = self._content(folder, file_name)
            n_bytes = file.byte_offset + file.n_bytes(n_samples)
            if len(content) < n_bytes:
                fault = f"is cut short to {len(content)} bytes"
                raise _Problem(f"needs {n_bytes} bytes of {file_name}, which {fault}")
            contents.append(content)
        return contents

    def _content(self, folder: str, file_name: str) -> memoryview:
        # A header that was written elsewhere names its neighbour by the way to it from there.
        for name in (folder + file_name, folder + file_name.rpartition("/")[2]):
            if name in self.pack:
                return self.pack.read(name)
        raise _Problem(f"names {folder}{file_name}, which is missing")


def _verify(header: Header, digital: np.ndarray) -> None:
    for lead, checksum in zip(header.leads, _checksums(digital), strict=True):
        if lead.checksum is not None and lead.checksum & 0xFFFF != checksum:
            expected = lead.checksum & 0xFFFF
            raise _Problem(
                f"does not fit {lead.file_name}: the checksum of lead {lead.format.name} is {checksum}"
                f" instead of {expected}"
            )


def _checksums(digital: np.ndarray) -> list[int]:
    """The sum of the samples of each lead modulo 2^16, of header(5), from `[T, leads]`.

    Frames are added up 40 at a time first: numpy adds long rows several times faster than rows of
    twelve. 16 bits that overflow are the modulo.
    """
    words = digital.astype(np.uint16) if digital.dtype != np.int16 else digital.view(np.uint16)
    n_samples, n_leads = words.shape
    folded = n_samples // 40 * 40
    sums = words[folded:].sum(axis=0, dtype=np.uint16)
    long_rows = words[:folded].reshape(-1, 40 * n_leads).sum(axis=0, dtype=np.uint16)
    return (sums + long_rows.reshape(40, n_leads).sum(axis=0, dtype=np.uint16)).tolist()


def read_records(
    pack: Files,
    names: Sequence[str],
    *,
    leads: Sequence[str] | None = None,
    sampling_rate: float | None = None,
    samples: int | None = None,
    unit: str | None = None,
    verify: bool = True,
    batch: int = 256,
    dtype: DTypeLike = np.float32,
) -> Iterator[np.ndarray]:
    """Yield the records `names` in order, as arrays `[B, T, C]` of at most `batch` records.

    The values are equal to those of `wfdb.rdsamp` (float64) converted to `dtype`, in the physical
    units of the header, or in `unit`, a voltage; a missing sample is NaN. A name is a path in the
    pack without ending, as in the table of PTB-XL. The leads come in the order of `leads`, whatever
    their case; what is not given, of `leads`, `sampling_rate` in Hz, and `samples` per lead, is that
    of the first record. With `verify` the checksums of the headers are verified.

    Raises BadRecord at the first record that is missing, damaged, or not like that.
    """
    reader = _Reader(pack, leads, sampling_rate, samples, unit, verify, dtype)
    for start in range(0, len(names), batch):
        yield _batch(reader, names[start : start + batch], dtype)


def _batch(reader: _Reader, names: Sequence[str], dtype: DTypeLike) -> np.ndarray:
    values = None
    for row, name in enumerate(names):
        digital, layout = reader.digital(name)
        physical = layout.physical(digital)
        if values is None:
            values = np.empty((len(names), *physical.shape), dtype)
        values[row] = physical
    assert values is not None  # a batch has at least one name
    return values


def check_records(
    pack: Files,
    names: Sequence[str],
    *,
    leads: Sequence[str] | None = None,
    sampling_rate: float | None = None,
    samples: int | None = None,
    unit: str | None = None,
    verify: bool = True,
) -> dict[str, str]:
    """Describe the fault of each of the records `names` that `read_records` would refuse.

    The arguments are those of `read_records`; what is not given is settled by the first record
    that is good. Returns one sentence for each bad record, and an empty dictionary if all are good.
    """
    reader = _Reader(pack, leads, sampling_rate, samples, unit, verify)
    problems = {}
    for name in names:
        try:
            reader.digital(name)
        except BadRecord as error:
            problems[name] = str(error)
    return problems
