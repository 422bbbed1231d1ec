"""A request's body and options, read within limits of size and time, and nothing written to disk."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import AsyncGenerator, Sequence
from http import HTTPStatus

from python_multipart.exceptions import FormParserError
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from beatline.serving.problems import Problem
from beatline.serving.settings import Serve
from beatline.serving.uploads import File, Upload
from beatline.serving.uploads.checks import shown
from beatline.serving.uploads.raw_float32 import SHAPE_PATTERN

MULTIPART = "multipart/form-data"
MAX_FILES = 8  # of one recording: a header and its signal files


def flags(request: Request, names: Sequence[str] = ()) -> dict[str, bool]:
    """The query parameters `names`, each true or false, false if absent.

    Raises Problem if another parameter, another value or one twice is given.
    """
    found = dict.fromkeys(names, False)
    if not request.scope["query_string"]:
        return found
    given = request.query_params.multi_items()
    for name, value in given:
        if name not in found:
            word = shown(name)
            close = difflib.get_close_matches(word, names, n=1) or names
            known = f" (did you mean {' or '.join(close)}?)" if close else ""
            raise Problem(
                HTTPStatus.UNPROCESSABLE_ENTITY, f"unknown query parameter {word!r}{known}"
            )
        if value not in ("true", "false"):
            raise Problem(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                f"query parameter {name} must be true or false, not {shown(value)!r}",
            )
        found[name] = value == "true"
    if len(given) > len(dict(given)):
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "a query parameter is given twice")
    return found


def content_type(request: Request) -> str:
    """The media type without its parameters, in lower case; "" if there is none."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_body(request: Request, limits: Serve) -> bytes:
    """The whole body. Raises Problem if it is compressed, too large or too slow; what does not say how
    long it is is read no further than to the limit."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"Content-Encoding {encoding!r} is not understood: send the body as it is",
        )
    most = limits.max_bytes
    announced = request.headers.get("content-length", "0")
    if not (announced.isascii() and announced.isdigit()):
        raise Problem(HTTPStatus.BAD_REQUEST, "Content-Length is not a number")
    if int(announced) > most:
        raise _too_large(limits)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(limits.seconds_to_send):
            async for part in request.stream():
                parts.append(part)
                size += len(part)
                if size > most:
                    raise _too_large(limits)
    except TimeoutError:
        raise Problem(
            HTTPStatus.REQUEST_TIMEOUT,
            f"the body did not arrive within {limits.seconds_to_send:g} seconds: send it faster, or less",
        ) from None
    return b"".join(parts)


def ends_soon(request: Request, limits: Serve) -> bool:
    """Whether the rest of a body that is not read is so little that the client may finish sending it,
    as most do before they look at the answer: a connection closed on them hides it."""
    announced = request.headers.get("content-length", "")
    return announced.isdigit() and int(announced) <= 8 * limits.max_bytes


def _too_large(limits: Serve) -> Problem:
    return Problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"the body is larger than {limits.max_megabytes:g} MB: send a shorter recording",
    )


def check_shape(headers: Headers) -> None:
    """Raises Problem if X-Shape is no shape, also where the format tells its own: who sends it means
    something by it."""
    shape = headers.get("x-shape")
    if shape is not None and not SHAPE_PATTERN.fullmatch(shape):
        raise Problem(
            HTTPStatus.BAD_REQUEST,
            "the header X-Shape cannot be read: say time steps and channels, such as 1000,12",
        )


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
    except MultiPartException as error:
        message = error.message.rstrip(".")
        raise Problem(
            HTTPStatus.BAD_REQUEST, f"the multipart body cannot be read: {message}"
        ) from None
    except (ValueError, LookupError, FormParserError) as error:  # charsets and headers of all kinds
        raise Problem(
            HTTPStatus.BAD_REQUEST, f"the multipart body cannot be read: {error}"
        ) from None
    try:
        return [await _file(name, value) for name, value in form.multi_items()]
    finally:
        await form.close()


async def _file(field: str, value: UploadFile | str) -> File:
    if isinstance(value, str):
        raise Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            f"the field {field!r} holds a text: send files only, and what describes them in headers",
        )
    return File(value.filename or "", await value.read())
