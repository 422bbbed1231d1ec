"""What a client did wrong, as a problem document (RFC 9457)."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """An answer that is none: `status` of HTTP, and what is wrong and what to do in one sentence."""

    def __init__(self, status: HTTPStatus, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail

    def document(self) -> dict[str, Any]:
        """`type` about:blank says that `title` is the phrase of the status (RFC 9457, 4.2.1)."""
        return {
            "type": "about:blank",
            "title": self.status.phrase,
            "status": int(self.status),
            "detail": self.detail,
        }
