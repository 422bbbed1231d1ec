"""Files in the forms in which people hold recordings, read from a request into one form.

A module per format, beside those that the pipeline reads too. None writes a file, follows a name outside
the request, or unpickles; each checks what a file announces before it takes memory for it, or reads it in
a process with a limit of memory.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import PurePosixPath

import numpy as np

from beatline.common.errors import shown
from beatline.formats import recordings, times
from beatline.formats.recording import Recording
from beatline.serving.problems import malformed, too_large, unfit, unsupported
from beatline.serving.settings import Serve
from beatline.serving.uploads import (
    archives,
    images,
    json_arrays,
    metadata,
    raw_float32,
    wfdb_records,
)
from beatline.serving.uploads.checks import checked, refusing, two_dimensional
from beatline.serving.uploads.upload import File, Upload

__all__ = ["File", "Upload", "of_array", "read"]

RAW = "application/octet-stream"
READ = (
    "send JSON, CSV, NPY, MAT, EDF, a WFDB record (.hea with .dat), an ECG as DICOM, SCP-ECG, ISHNE, "
    "MFER or XML (HL7 aECG, GE MUSE, Philips, Mortara), WAV, FLAC, Ogg, MP3, PNG, JPEG, or raw float32 "
    "(application/octet-stream) with its shape in the header X-Shape"
)
_TYPES = {
    "json": ("application/json", "text/json"),
    "csv": ("text/csv", "text/tab-separated-values"),
    "npy": ("application/x-npy", "application/npy"),
    "edf": ("application/edf", "application/x-edf"),
    "mat": ("application/x-matlab-data",),
    "dicom": ("application/dicom",),
    "image": ("image/png", "image/jpeg"),
    "zip": ("application/zip", "application/x-zip-compressed"),
}
_SUFFIXES = {
    "json": (".json",),
    "image": (".png", ".jpg", ".jpeg"),
    "zip": (".zip",),
    "wfdb": (wfdb_records.SIGNAL,),
}
_MAGIC = {"zip": archives.MAGIC, "image": images.MAGIC}
_IN_JSON = "kardia"  # a format of the pipeline's

_TIMED = ("csv", "json", "npy", "raw")  # kinds whose columns may be times

_READERS: dict[str, Callable[[bytes, str, Serve], Recording]] = {  # of what the service alone reads
    "json": json_arrays.read,
    "image": images.read,
}


def read(upload: Upload, limits: Serve) -> Recording:
    """The recording of a request, with samples that are numbers below 1e12 or NaN.

    Raises Problem: 400 for a damaged file, 413 for one that is or would become too large, 415 for an
    unknown format, 422 for content that is no recording.
    """
    headers = {name.lower(): value for name, value in upload.headers.items()}
    if "x-shape" in headers:
        raw_float32.check_shape(headers["x-shape"])
    files = [file for file in upload.files if file.content]
    if not files:
        raise malformed("the request holds no file, or an empty one: send a recording")
    if sum(len(file.content) for file in files) > limits.max_bytes:
        raise too_large(
            f"the request is larger than {limits.max_megabytes:g} MB: send a shorter recording"
        )
    files, kind = _recognized(upload.content_type, files, headers, limits)
    where = files[0].where
    recording = _read_kind(kind, files, headers, limits)
    return _complete(recording, metadata.from_headers(headers), where, limits, kind in _TIMED)


def of_array(values: np.ndarray, said: metadata.Metadata, where: str, limits: Serve) -> Recording:
    """The recording of an array of numbers that has been read already, as :func:`read` makes it of one in
    a file. Raises Problem if it is none, or not as it is `said` to be."""
    return _complete(Recording(two_dimensional(values, where)), said, where, limits, True)


def _complete(
    recording: Recording, said: metadata.Metadata, where: str, limits: Serve, timed: bool
) -> Recording:
    if timed:
        recording, said = _without_times(recording, said, where, limits)
    return checked(metadata.described(recording, said, where), limits, where)


def _without_times(
    recording: Recording, said: metadata.Metadata, where: str, limits: Serve
) -> tuple[Recording, metadata.Metadata]:
    """The recording without its column of times, and what is still to be said of it. Who names each
    column says which of them are times."""
    all_named = recording.channels is None and said.channels is not None
    all_named = all_named and len(said.channels or []) == recording.samples.shape[1]
    if all_named:
        recording = replace(recording, channels=said.channels)
        said = said.model_copy(update={"channels": None})
    rate = recording.sampling_rate or said.sampling_rate
    with refusing():
        recording = times.without_times(
            recording, where, limits.max_values, rate=rate, by_values=not all_named
        )
    return recording, said


def _recognized(
    content_type: str, files: list[File], headers: Mapping[str, str], limits: Serve
) -> tuple[list[File], str]:
    """The files of one recording, unpacked if need be, and what they are."""
    if len(files) == 1:
        kind = _kind(content_type, files[0], headers)
        if kind != "zip":
            return files, kind
        where = files[0].where
        files = [
            file for file in archives.unpacked(files[0].content, where, limits) if file.content
        ]
    if any(map(wfdb_records.is_header, files)):
        return files, "wfdb"
    if len(files) == 1 and (kind := _kind("", files[0], headers)) != "zip":
        return files, kind
    if len(files) == 1:
        raise unfit(f"{files[0].where} is an archive in an archive: pack the files themselves")
    raise unfit(
        f"there are {len(files)} files that are no WFDB record, which has a header (.hea): send one "
        f"recording at a time"
    )


def _kind(content_type: str, file: File, headers: Mapping[str, str]) -> str:
    """Return a file's kind: by its content type, else by its first bytes, else by its name."""
    if content_type == RAW and "x-shape" in headers:
        return "raw"
    suffix, head = PurePosixPath(file.base_name).suffix.lower(), file.content[: recordings.HEAD]
    if (by_content := recordings.by_content(head)) == _IN_JSON:
        return _IN_JSON
    kind = (
        next((kind for kind, types in _TYPES.items() if content_type in types), None)
        or ("audio" if content_type.startswith("audio/") else None)
        or next((kind for kind, magic in _MAGIC.items() if file.content.startswith(magic)), None)
        or by_content
        or next((kind for kind, suffixes in _SUFFIXES.items() if suffix in suffixes), None)
        or recordings.kind(file.base_name, head)
        or ("json" if file.content.removeprefix(BOM_UTF8).lstrip()[:1] in (b"[", b"{") else None)
        or ("raw" if "x-shape" in headers else None)
    )
    if kind is None:
        label = f" ({shown(content_type)})" if content_type else ""
        raise unsupported(f"{file.where}{label} is in no known format: {READ}")
    return kind


def _read_kind(
    kind: str, files: list[File], headers: Mapping[str, str], limits: Serve
) -> Recording:
    file = files[0]
    if kind == "wfdb":
        return wfdb_records.read(files, limits)
    if kind == "raw":
        return raw_float32.read(file.content, headers["x-shape"], file.where, limits)
    if kind in _READERS:
        return _READERS[kind](file.content, file.where, limits)
    with refusing():
        return recordings.READERS[kind](file.content, file.where, limits.max_values)
