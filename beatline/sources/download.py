"""Raw files from a URL.

What was downloaded once is not downloaded again, a download that broke goes on where it stopped,
even in a later run, and nothing gets its final name before its SHA-256 has been verified.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests
from tqdm import tqdm
from urllib3.exceptions import HTTPError, InvalidHeader, MaxRetryError
from urllib3.util import Retry

from beatline.common import files
from beatline.common.errors import UserError

_BLOCK = 1 << 18
_TRANSIENT = {408, 425, 429, 500, 502, 503, 504}
CONNECTIONS = 8  # to one server at a time
_LONGEST_PAUSE = 300  # seconds, also for a Retry-After that asks for more
_HEADERS = {"User-Agent": "beatline", "Accept-Encoding": "identity"}
USE_MIRROR = (
    "name a mirror where `urls:` stand, or set `source:` in params.yaml to files that you have"
)


class _BrokenError(Exception):
    """A failure that may pass, and the response in which the server may say how long to wait."""

    def __init__(self, reason: str, response: Any = None) -> None:
        super().__init__(reason)
        self.response = response


def download_file(
    url: str,
    destination: Path,
    sha256: str | None,
    attempts: int = 5,
    timeout: float = 60,
    session: requests.Session | None = None,
) -> None:
    """Download `url` (http or https) to the file `destination`, unless it is there and right.

    The bytes are collected in `destination` + `.partial`, from where a broken download goes on by
    HTTP range requests (RFC 9110, section 14), in this run or a later one. It is given up after
    `attempts` in a row that gained nothing; `timeout` is in seconds without an answer. With a
    `session`, which keeps its connection, the file is one of many, and progress is not shown. Raises
    UserError if the file cannot be had, or has another SHA-256 than `sha256`.
    """
    if not re.match(r"https?://[^/?#]", url, re.IGNORECASE):
        raise UserError(f"{url} is no http or https address: {USE_MIRROR}")
    if sha256 and destination.is_file() and files.sha256(destination) == sha256.lower():
        return
    destination.parent.mkdir(parents=True, exist_ok=True)
    partial = _Partial(url, destination, session)
    _persist(partial, attempts, timeout)
    if sha256 and (actual := files.sha256(partial.path)) != sha256.lower():
        partial.remove()
        raise UserError(
            f"{url} has the SHA-256 {actual} instead of {sha256}: if the publisher has changed it,"
            " correct `sha256:`, else run the command again"
        )
    partial.path.replace(destination)
    partial.remove()


def download_files(
    url: str,
    sums: Mapping[str, str],
    folder: Path,
    attempts: int = 5,
    timeout: float = 60,
) -> None:
    """Download files below `url`, a few at a time, into `folder`, each as :func:`download_file` does.

    `sums`: the SHA-256 of each by its name, a relative path with `/`. Raises the first UserError.
    """
    of_thread, failed = threading.local(), threading.Event()

    def begin() -> None:
        of_thread.session = requests.Session()

    def get(name: str) -> None:
        if not failed.is_set():
            where = folder / name
            download_file(
                url + quote(name), where, sums[name], attempts, timeout, of_thread.session
            )

    # Its threads are daemons: whoever interrupts does not wait for those that pause.
    with ThreadPool(CONNECTIONS, begin) as pool:
        done = pool.imap_unordered(get, sums)
        try:
            for _ in tqdm(done, folder.name, total=len(sums), mininterval=5, unit=" files"):
                pass
        except UserError:
            failed.set()
            pool.close()
            pool.join()  # what comes next may write to the same files
            raise


def speed(url: str, seconds: float = 2, timeout: float = 10) -> tuple[float, int] | None:
    """Return how many bytes of the file at `url` come in a second, measured for so many `seconds`, and
    how many it has; None if it does not come, or its size is not told."""
    begun = time.monotonic()
    try:
        with requests.get(url, headers=_HEADERS, timeout=timeout, stream=True) as response:
            total, got = int(response.headers.get("Content-Length", "")), 0
            while response.ok and time.monotonic() - begun < seconds:
                if not (block := response.raw.read1(_BLOCK, decode_content=False)):
                    break
                got += len(block)
    except (OSError, ValueError, HTTPError):
        return None
    return (got / (time.monotonic() - begun), total) if got else None


class _Partial:
    """The part of a file that is there, and a note of which version of the file it is part of."""

    def __init__(
        self, url: str, destination: Path, session: requests.Session | None = None
    ) -> None:
        self.url = url
        self.session = session
        self.name = destination.name
        self.path = destination.with_name(destination.name + ".partial")
        self._note = destination.with_name(destination.name + ".partial.json")
        if self.noted("url") != url:
            self.remove()

    def size(self) -> int:
        """Bytes that are there."""
        return self.path.stat().st_size if self.path.exists() else 0

    def noted(self, key: str) -> Any:
        """Return the note's `url`, `validator` (ETag or date) or `total` (bytes); None if it has none."""
        try:
            return json.loads(self._note.read_text()).get(key)
        except (OSError, ValueError, AttributeError):
            return None

    def agrees(self, **values: object) -> bool:
        """Whether the note says the same, as far as both say something."""
        return all(
            None in (v, self.noted(key)) or v == self.noted(key) for key, v in values.items()
        )

    def begin(self, **values: object) -> None:
        """Start from nothing, and note which version of the file this will be."""
        self.remove()
        self._note.write_text(json.dumps({"url": self.url, **values}))

    def remove(self) -> None:
        """Remove the part and the note."""
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)


def _persist(partial: _Partial, attempts: int, timeout: float) -> None:
    """Try until the partial file is whole. Raises UserError if that does not come about."""
    retry = fresh = Retry(
        attempts - 1, backoff_factor=1, backoff_jitter=1, retry_after_max=_LONGEST_PAUSE
    )
    furthest = partial.size()
    while True:
        try:
            return _attempt(partial, timeout)
        except _BrokenError as error:
            if partial.size() > furthest:  # a server that ignores ranges starts again from 0
                retry, furthest = fresh, partial.size()
            try:
                retry = retry.increment("GET", partial.url, error=error)
            except MaxRetryError:
                raise UserError(
                    f"{partial.url} could not be downloaded ({error}, {attempts} times in a row):"
                    f" run the command again to go on from there, or {USE_MIRROR}"
                ) from None
            log(f"{partial.name}: {error}; trying again")
            _pause(retry, error.response)


def _pause(retry: Retry, response: Any) -> None:
    """Wait for as long as the server asks in Retry-After, or else longer each time."""
    try:
        retry.sleep(response)
    except InvalidHeader:
        retry.sleep()


def _attempt(partial: _Partial, timeout: float) -> None:
    """One request; return when the partial file is whole, raise _BrokenError if it is not."""
    offset = partial.size()
    headers = _HEADERS | ({"Range": f"bytes={offset}-"} if offset else {})
    if offset and partial.noted("validator"):
        headers["If-Range"] = partial.noted("validator")
    try:
        get = partial.session.get if partial.session else requests.get
        response = get(partial.url, headers=headers, timeout=timeout, stream=True)
    except (OSError, ValueError, HTTPError) as error:  # not all is a requests.RequestException
        raise _failure(partial.url, error) from None
    with response:
        status = f"the server answered {response.status_code} {response.reason}"
        if response.status_code in _TRANSIENT:
            raise _BrokenError(status, response.raw)
        if response.status_code == 416:
            if _content_range(response) == (None, offset):
                return  # nothing is left to get: an earlier run ended just before the renaming
            raise _changed(partial)
        if not response.ok:
            raise UserError(f"{partial.url}: {status}: check the address, or {USE_MIRROR}")
        _receive(response, partial, offset)


def _receive(response: requests.Response, partial: _Partial, offset: int) -> None:
    """Append the body of `response` to the partial file, or start it anew where it must be."""
    # A strong ETag tells one version of a file from another, or else its date.
    etag = response.headers.get("ETag", "W/")
    validator = response.headers.get("Last-Modified") if etag.startswith("W/") else etag
    if offset and response.status_code == 206:
        start, total = _content_range(response)
        if start != offset or not partial.agrees(validator=validator, total=total):
            raise _changed(partial)
    else:
        length = response.headers.get("Content-Length", "")
        total, offset = int(length) if length.isdecimal() else None, 0
        partial.begin(validator=validator, total=total)
    blocks = _blocks(response.raw)
    if not partial.session:
        blocks = _with_progress(blocks, partial.name, offset, total)
    with partial.path.open("ab") as file:
        for block in blocks:
            file.write(block)
    if total is not None and partial.size() != total:
        raise _BrokenError(f"the connection ended after {partial.size():,} of {total:,} bytes")


def _blocks(raw: Any) -> Iterator[bytes]:
    """Yield the body as it was sent, also what came before a break."""
    raw.enforce_content_length = False  # who knows the size of the file says how many are missing
    try:
        while block := raw.read1(_BLOCK, decode_content=False):
            yield block
    except (OSError, HTTPError) as error:
        raise _BrokenError(f"the connection broke: {words(_root(error))}") from None


def _changed(partial: _Partial) -> _BrokenError:
    partial.remove()
    return _BrokenError("the file has changed on the server")


def _content_range(response: requests.Response) -> tuple[int | None, int | None]:
    """First byte and total size from a Content-Range header, None where it does not say."""
    header = response.headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes\s+(?:(\d+)-\d+|\*)/(?:(\d+)|\*)", header.strip())
    start, total = match.groups() if match else (None, None)
    return (int(start) if start else None), (int(total) if total else None)


def _failure(url: str, error: Exception) -> Exception:
    """Turn the failure of a request into an error that may pass (tried again) or one that will not."""
    root = _root(error)
    if isinstance(root, socket.gaierror) and root.errno != socket.EAI_AGAIN:
        return UserError(f"{url}: its host is not known ({words(root)}): {USE_MIRROR}")
    if isinstance(root, ssl.SSLCertVerificationError):
        return UserError(
            f"{url} cannot be opened ({words(root)}): name the certificates of your network in the"
            f" environment variable REQUESTS_CA_BUNDLE, or {USE_MIRROR}"
        )
    # A ValueError is a refusal by requests itself: of the address, or of where it leads.
    lasting = isinstance(error, (ValueError, requests.TooManyRedirects))
    if lasting or re.search(r"Tunnel connection failed: 4\d\d", str(root)):
        return UserError(f"{url} cannot be opened ({words(root)}): {USE_MIRROR}")
    return _BrokenError(f"no answer: {words(root)}")


def _root(error: BaseException) -> BaseException:
    """The exception that requests and urllib3 have wrapped in others."""
    while True:
        inner = (*error.args, *vars(error).values(), error.__cause__)
        wrapped = next((each for each in inner if isinstance(each, BaseException)), None)
        if wrapped is None:
            return error
        error = wrapped


def words(error: object) -> str:
    """The first line of what an exception says."""
    words = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return words.splitlines()[0].rstrip(":")  # tarfile goes on with a line per compression


def _with_progress(
    blocks: Iterator[bytes], name: str, done: int, total: int | None
) -> Iterator[bytes]:
    """Yield `blocks` and show how many came: by a bar in a terminal, else by a line every 5 %, at
    most one a second and at least one in ten."""
    bar = tqdm(desc=name, initial=done, total=total, unit="B", unit_scale=True, disable=None)
    if bar.disable:
        size = f" of {total / 1e6:,.1f} MB" if total else ""
        log(f"{name}: downloading{size}" + (f" from {done / 1e6:,.1f} MB on" if done else ""))
    shown, then = done, time.monotonic()
    with bar:
        for block in blocks:
            yield block
            bar.update(len(block))
            done += len(block)
            waited = time.monotonic() - then
            far = total is not None and done - shown >= total / 20 and waited >= 1
            if bar.disable and (far or waited >= 10 or done == total):
                log(f"{name}: {done / 1e6:,.1f} MB" + (f" ({done / total:.0%})" if total else ""))
                shown, then = done, time.monotonic()


def log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
