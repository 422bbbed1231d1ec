"""Client mistakes as problem documents (RFC 9457), and their wording."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """A refusal: `status` of HTTP, what is wrong and what to do in one sentence, and `headers` that say
    more."""

    def __init__(
        self, status: HTTPStatus, detail: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        later = {"Retry-After": "5"} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
        self.headers = headers or later

    def response(self) -> Response:
        """The document; `type` about:blank says that `title` is the phrase of the status (RFC 9457,
        4.2.1)."""
        document = {
            "type": "about:blank",
            "title": self.status.phrase,
            "status": int(self.status),
            "detail": self.detail,
        }
        from starlette.responses import Response  # which a prediction without a server needs not

        content = orjson.dumps(document)
        return Response(content, self.status, self.headers, media_type=MEDIA_TYPE)


malformed = partial(Problem, HTTPStatus.BAD_REQUEST)  # a file that is not what it claims to be
unknown = partial(Problem, HTTPStatus.NOT_FOUND)
too_large = partial(Problem, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
unsupported = partial(Problem, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
unfit = partial(Problem, HTTPStatus.UNPROCESSABLE_ENTITY)  # it can be read, and cannot be used
unavailable = partial(Problem, HTTPStatus.SERVICE_UNAVAILABLE)
