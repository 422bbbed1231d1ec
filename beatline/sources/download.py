"""Raw files from a URL.

What was downloaded once is not downloaded again, a download that broke goes on where it stopped,
even in a later run, and nothing gets its final name before its SHA-256 has been verified.
"""

from __future__ import annotations

import email.utils
import http.client
import json
import random
import re
import socket
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from beatline.common import files
from beatline.common.errors import UserError

_BLOCK = 1 << 18
_TRANSIENT = {408, 425, 429, 500, 502, 503, 504}
_LONGEST_PAUSE = 300.0  # seconds, also for a Retry-After that asks for more
USE_MIRROR = "set `source:` in params.yaml to a mirror, or to a folder or archive that you have"


class _BrokenError(Exception):
    """A failure that may pass, and how many seconds the server asks to wait."""

    def __init__(self, reason: str, pause: float | None = None) -> None:
        super().__init__(reason)
        self.pause = pause


def download_file(
    url: str,
    destination: Path,
    sha256: str | None,
    attempts: int = 5,
    timeout: float = 60,
) -> None:
    """Download `url` (http or https) to the file `destination`, unless it is there and right.

    The bytes are collected in `destination` + `.partial`, from where a broken download goes on by
    HTTP range requests (RFC 9110, section 14), in this run or a later one. It is given up after
    `attempts` in a row that gained nothing; `timeout` is in seconds without an answer. Raises
    UserError if the file cannot be had, or has another SHA-256 than `sha256`.
    """
    if not re.match(r"https?://[^/?#]", url, re.IGNORECASE):
        raise UserError(f"{url} is no http or https address: {USE_MIRROR}")
    if sha256 and destination.is_file() and files.sha256(destination) == sha256.lower():
        return
    destination.parent.mkdir(parents=True, exist_ok=True)
    partial = _Partial(url, destination)
    _persist(partial, attempts, timeout)
    _verify(partial, sha256)
    partial.path.replace(destination)
    partial.remove()


class _Partial:
    """The part of a file that is there, and a note of which version of the file it is part of."""

    def __init__(self, url: str, destination: Path) -> None:
        self.url = url
        self.name = destination.name
        self.path = destination.with_name(destination.name + ".partial")
        self._note = destination.with_name(destination.name + ".partial.json")
        if self.noted("url") != url:
            self.remove()

    def size(self) -> int:
        """Bytes that are there."""
        return self.path.stat().st_size if self.path.exists() else 0

    def noted(self, key: str) -> Any:
        """What the note says of `url`, `validator` (ETag or date), and `total` (bytes), or None."""
        try:
            return json.loads(self._note.read_text()).get(key)
        except (OSError, ValueError, AttributeError):
            return None

    def begin(self, validator: str | None, total: int | None) -> None:
        """Start from nothing, and note which version of the file this will be."""
        self.remove()
        note = {"url": self.url, "validator": validator, "total": total}
        self._note.write_text(json.dumps(note))

    def remove(self) -> None:
        """Remove the part and the note."""
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)


def _persist(partial: _Partial, attempts: int, timeout: float) -> None:
    """Try until the partial file is whole. Raises UserError if that does not come about."""
    furthest, failures = partial.size(), 0
    while True:
        try:
            return _attempt(partial, timeout)
        except _BrokenError as error:
            # A server that ignores ranges starts again from 0: only new ground counts.
            failures = 1 if partial.size() > furthest else failures + 1
            furthest = max(furthest, partial.size())
            if failures >= attempts:
                raise UserError(
                    f"{partial.url} could not be downloaded ({error}, {failures} times in a row):"
                    f" run the command again to go on from there, or {USE_MIRROR}"
                ) from None
            pause = min(2.0**failures, 60) * random.uniform(0.5, 1)
            pause = min(pause if error.pause is None else error.pause, _LONGEST_PAUSE)
            log(f"{partial.name}: {error}; trying again in {pause:.0f} s")
            time.sleep(pause)


def _attempt(partial: _Partial, timeout: float) -> None:
    """One request; return when the partial file is whole, raise _BrokenError if it is not."""
    offset = partial.size()
    try:
        response = _opener().open(_request(partial, offset), timeout=timeout)
    except urllib.error.HTTPError as error:
        with error:
            if error.code != 416:
                raise _refusal(partial.url, error) from None
            if _content_range(error.headers) == (None, offset):
                return  # nothing is left to get: an earlier run ended just before the renaming
        partial.remove()
        raise _BrokenError("the file has changed on the server") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise _failure(partial.url, error) from None
    with response:
        _receive(response, partial, offset)


def _opener() -> urllib.request.OpenerDirector:
    """Opens http and https and nothing else, even where it is redirected to."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    return opener


def _request(partial: _Partial, offset: int) -> urllib.request.Request:
    headers = {"User-Agent": "beatline", "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
        if partial.noted("validator"):
            headers["If-Range"] = partial.noted("validator")
    return urllib.request.Request(partial.url, headers=headers)


def _receive(response: http.client.HTTPResponse, partial: _Partial, offset: int) -> None:
    """Append the body of `response` to the partial file, or start it anew where it must be."""
    length = response.headers.get("Content-Length", "")
    if offset and response.status == 206:
        start, total = _content_range(response.headers)
        if (
            start != offset
            or _differs(partial, "total", total)
            or _differs(partial, "validator", _validator(response.headers))
        ):
            partial.remove()
            raise _BrokenError("the file has changed on the server")
    else:
        total, offset = int(length) if length.isdecimal() else None, 0
        partial.begin(_validator(response.headers), total)
    with partial.path.open("ab") as file, _progress(partial.name, offset, total) as update:
        for block in _blocks(response):
            file.write(block)
            update(len(block))
    if total is not None and partial.size() != total:
        raise _BrokenError(f"the connection ended after {partial.size():,} of {total:,} bytes")


def _differs(partial: _Partial, key: str, value: object) -> bool:
    return None not in (value, partial.noted(key)) and value != partial.noted(key)


def _blocks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    while True:
        try:
            block = response.read1(_BLOCK)  # `read` would lose what came before a break
        except (OSError, http.client.HTTPException) as error:
            raise _BrokenError(f"the connection broke: {words(error)}") from None
        if not block:
            return
        yield block


def _validator(headers: http.client.HTTPMessage) -> str | None:
    """What tells one version of a file from another: a strong ETag, or else its date."""
    etag = headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")


def _content_range(headers: Any) -> tuple[int | None, int | None]:
    """First byte and total size from a Content-Range header, None where it does not say."""
    header = headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes\s+(?:(\d+)-\d+|\*)/(?:(\d+)|\*)", header.strip())
    start, total = match.groups() if match else (None, None)
    return (int(start) if start else None), (int(total) if total else None)


def _refusal(url: str, error: urllib.error.HTTPError) -> Exception:
    answer = f"{error.code} {error.reason}"
    if error.code in _TRANSIENT:
        return _BrokenError(f"the server answered {answer}", _retry_after(error.headers))
    return UserError(f"{url}: the server answered {answer}: check the address, or {USE_MIRROR}")


def _retry_after(headers: Any) -> float | None:
    """Seconds to wait from a Retry-After header, which holds seconds or a date."""
    header = headers.get("Retry-After", "").strip()
    if header.isdecimal():
        return float(header)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def _failure(url: str, error: Exception) -> Exception:
    """What a request that got no answer comes to: an error that may pass, or one that will not."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, socket.gaierror) and reason.errno != socket.EAI_AGAIN:
        return UserError(f"{url}: its host is not known ({words(reason)}): {USE_MIRROR}")
    # A str is urllib's own refusal (no host, unknown scheme), a ValueError that of http.client.
    lasting = (str, ValueError, http.client.InvalidURL, ssl.SSLCertVerificationError)
    if isinstance(reason, lasting) or re.search(r"Tunnel connection failed: 4\d\d", str(reason)):
        return UserError(f"{url} cannot be opened ({words(reason)}): {USE_MIRROR}")
    return _BrokenError(f"no answer: {words(reason)}")


def words(error: object) -> str:
    words = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return words.splitlines()[0].rstrip(":")  # tarfile goes on with a line per compression


def _verify(partial: _Partial, sha256: str | None) -> None:
    found = files.sha256(partial.path) if sha256 else None
    if sha256 and found != sha256.lower():
        partial.remove()
        raise UserError(
            f"{partial.name} from {partial.url} has the SHA-256 {found} instead of {sha256}: if the"
            " publisher has changed it, set the new hash in params.yaml, else run the command again"
        )


@contextmanager
def _progress(name: str, offset: int, total: int | None) -> Iterator[Callable[[int], object]]:
    """Give a function to call with each number of bytes that arrived."""
    if sys.stderr.isatty():
        with tqdm(desc=name, initial=offset, total=total, unit="B", unit_scale=True) as bar:
            yield bar.update
    else:
        yield _LogLines(name, offset, total).update


class _LogLines:
    """Progress for a log: a line every 5 %, at most one a second and at least one in ten."""

    def __init__(self, name: str, offset: int, total: int | None) -> None:
        self.name, self.done, self.total = name, offset, total
        self.shown, self.time = offset, time.monotonic()
        of = f" of {total / 1e6:,.1f} MB" if total else ""
        log(f"{name}: downloading{of}" + (f" from {offset / 1e6:,.1f} MB on" if offset else ""))

    def update(self, n_bytes: int) -> None:
        self.done += n_bytes
        waited = time.monotonic() - self.time
        far = self.total is not None and self.done - self.shown >= self.total / 20
        if (far and waited >= 1) or waited >= 10 or self.done == self.total:
            share = f" ({self.done / self.total:.0%})" if self.total else ""
            log(f"{self.name}: {self.done / 1e6:,.1f} MB{share}")
            self.shown, self.time = self.done, time.monotonic()


def log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
