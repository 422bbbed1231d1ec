"""Client mistakes as problem documents (RFC 9457)."""

from __future__ import annotations

from http import HTTPStatus

import orjson
from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """A refusal: `status` of HTTP, and what is wrong and what to do in one sentence."""

    def __init__(self, status: HTTPStatus, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail

    def response(self) -> Response:
        """The document; `type` about:blank says that `title` is the phrase of the status (RFC 9457,
        4.2.1)."""
        document = {
            "type": "about:blank",
            "title": self.status.phrase,
            "status": int(self.status),
            "detail": self.detail,
        }
        later = self.status == HTTPStatus.SERVICE_UNAVAILABLE
        headers = {"Retry-After": "5"} if later else None
        return Response(orjson.dumps(document), self.status, headers, media_type=MEDIA_TYPE)


def malformed(detail: str) -> Problem:
    """A file that is not what it claims to be."""
    return Problem(HTTPStatus.BAD_REQUEST, detail)


def unknown(detail: str) -> Problem:
    """Something that is not there."""
    return Problem(HTTPStatus.NOT_FOUND, detail)


def too_large(detail: str) -> Problem:
    """A file of more bytes or values than one request may hold."""
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)


def unsupported(detail: str) -> Problem:
    """A file in a format that is not read."""
    return Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail)


def unfit(detail: str) -> Problem:
    """A file that can be read, and whose content cannot be used."""
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail)


def unavailable(detail: str) -> Problem:
    """An answer that there may be later."""
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail)
