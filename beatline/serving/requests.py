"""A request's body and options, read within limits of size and time, and nothing written to disk."""

from __future__ import annotations

import asyncio
from codecs import BOM_UTF8
from collections.abc import AsyncGenerator, Sequence
from http import HTTPStatus

import orjson
from python_multipart.exceptions import FormParserError
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from beatline.common.errors import names_there_are, shown
from beatline.serving import json_text
from beatline.serving.problems import (
    Problem,
    malformed,
    too_large,
    unfit,
    unsupported,
)
from beatline.serving.settings import Serve
from beatline.serving.uploads import File, Upload
from beatline.serving.work import Take

MULTIPART = "multipart/form-data"
MAX_FILES = 8  # of one recording: a header and its signal files


def flags(request: Request, names: Sequence[str]) -> dict[str, bool]:
    """The query parameters `names`, false where one is absent. Raises Problem if another is given, one
    that is neither true nor false, or one twice."""
    chosen = dict.fromkeys(names, False)
    if not request.scope["query_string"]:
        return chosen
    given = request.query_params.multi_items()
    for name, value in given:
        if name not in chosen:
            word = shown(name)
            raise unfit(f"unknown query parameter {word!r}{names_there_are(word, names)}")
        if value not in ("true", "false"):
            raise unfit(f"query parameter {name} must be true or false, not {shown(value)!r}")
        chosen[name] = value == "true"
    if len(given) > len(dict(given)):
        raise unfit("a query parameter is given twice")
    return chosen


def content_type(request: Request) -> str:
    """The media type without its parameters, in lower case; "" if there is none."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_body(
    request: Request, limits: Serve, small: int, take_small: Take, take_large: Take
) -> bytes:
    """The whole body. Memory for it is taken as it comes, by `take_small` up to `small` bytes, and beyond
    by `take_large`.

    Raises Problem if it is compressed, too large or too slow, or there is no memory for it; what does not
    say how long it is is read no further than to the limit.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise unsupported(
            f"Content-Encoding {encoding!r} is not understood: send the body as it is"
        )
    excess = too_large(
        f"the body is larger than {limits.max_megabytes:g} MB: send a shorter recording"
    )
    announced = request.headers.get("content-length", "0")
    if not (announced.isascii() and announced.isdigit()):
        raise malformed("Content-Length is not a number")
    if int(announced) > limits.max_bytes:
        raise excess
    if int(announced) > small:
        take_large(0, expected=int(announced))  # rather than in the middle
    body = bytearray()
    try:
        async with asyncio.timeout(limits.seconds_to_send):
            async for part in request.stream():
                take = take_small if len(body) + len(part) <= small else take_large
                take(len(part))
                body += part
                if len(body) > limits.max_bytes:
                    raise excess
    except TimeoutError:
        raise Problem(
            HTTPStatus.REQUEST_TIMEOUT,
            f"the body did not arrive within {limits.seconds_to_send:g} seconds: send it faster, or less",
        ) from None
    return bytes(body)


def ends_soon(request: Request, limits: Serve) -> bool:
    """Whether the rest of a body that is not read is so little that the client may finish sending it,
    as most do before they look at the answer: a connection closed on them hides it."""
    announced = request.headers.get("content-length", "0")
    return announced.isdigit() and int(announced) <= 8 * limits.max_bytes


def rows(body: bytes, limits: Serve, features: Sequence[str]) -> object:
    """The content of a body in JSON that holds rows of `features`. Raises Problem if it is none, or has
    far more values than the rows of one request can have."""
    most = 2 * limits.max_rows * (len(features) + 1)  # what is little more is told how much it is
    if json_text.has_more(body, most):
        raise too_large(
            f"the body has more values than {limits.max_rows} rows of {len(features)} features: send "
            f"them in parts"
        )
    try:
        return orjson.loads(body.removeprefix(BOM_UTF8))
    except ValueError as error:
        raise malformed(f"the body is not JSON: {error}") from None


def upload_of(headers: Headers, kind: str, body: bytes) -> Upload:
    """The file or files that a body of the media type `kind` holds. Raises Problem if a multipart body
    is malformed or holds other things than files."""
    if kind != MULTIPART:
        return Upload(kind, headers, [File("", body)])
    return Upload(kind, headers, asyncio.run(_files(headers, body)))


async def _files(headers: Headers, body: bytes) -> list[File]:
    async def stream() -> AsyncGenerator[bytes]:
        yield body

    parser = MultiPartParser(headers, stream(), max_files=MAX_FILES, max_fields=MAX_FILES)
    parser.spool_max_size = len(body) + 1  # so that no file is written to disk
    try:
        form = await parser.parse()
    # The latter ones are of charsets and headers of all kinds.
    except (MultiPartException, FormParserError, ValueError, LookupError) as error:
        reason = str(error).rstrip(".")
        raise malformed(f"the multipart body cannot be read: {reason}") from None
    return [await _file(name, value) for name, value in form.multi_items()]


async def _file(field: str, value: UploadFile | str) -> File:
    if isinstance(value, str):
        raise unfit(
            f"the field {field!r} holds a text: send files only, and what describes them in headers"
        )
    return File(value.filename or "", await value.read())
