"""The token that a client shows (``Authorization: Bearer …``), of which the server keeps the hash alone.

Tokens stand in the environment, never in params.yaml or a log. `serve.token` says what asks for one: what
changes something or costs much (`costly`, also where it says nothing), or `everything` but the page's own
files and whether the server is healthy. Without a token nothing asks for one.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Collection
from http import HTTPStatus
from typing import Literal
from urllib.parse import parse_qsl

from starlette.datastructures import Headers
from starlette.types import Scope

from beatline.common.errors import UserError
from beatline.serving.problems import Problem
from beatline.serving.settings import MACHINE

VARIABLE, HASHES = "BEATLINE_TOKEN", "BEATLINE_TOKEN_SHA256"  # the latter may be several
EXPLAIN = "explain"  # the query parameter that asks for much
SHORTEST = 20  # characters: a hash of fewer could be guessed back
CHANGES = re.compile(r"/feedback(/|$)")  # paths of what changes something
# What a browser loads before somebody can type a token into it, and what says that the server is healthy.
OPEN = re.compile(
    r"/(docs|machines\.html|favicon\.ico|health|v2/health/(live|ready)|(page|swagger)/.*)?"
)
UNAUTHORIZED = (
    "send the header Authorization: Bearer, and the token that the operator has given you"
)


def settle() -> str:
    """Replace the token in the environment by its hash, for processes that are started from now on, and
    return one for this server's own questions. Raises UserError if a token or a hash is none."""
    hashes = os.environ.get(HASHES, "").lower().split()
    if wrong := [each for each in hashes if not re.fullmatch("[0-9a-f]{64}", each)]:
        raise UserError(
            f"{HASHES}: {len(wrong)} of {len(hashes)} are no SHA-256, which has 64 digits from 0 to f: "
            f"make one by `printf %s TOKEN | sha256sum`, and separate several by spaces"
        )
    if token := os.environ.pop(VARIABLE, ""):
        if len(token) < SHORTEST or not token.isascii() or not token.isprintable() or " " in token:
            raise UserError(
                f"{VARIABLE} must have {SHORTEST} letters, digits and signs or more, without spaces: "
                f"make one by `openssl rand -hex 24`"
            )
        hashes.append(_hash(token))
    own = secrets.token_urlsafe()
    if hashes:
        os.environ[HASHES] = " ".join([*hashes, _hash(own)])
    return own


class Tokens:
    """What asks for a token, and the hashes of those in the environment. Raises UserError if there are
    none and `asks` says that something does."""

    def __init__(self, asks: Literal["costly", "everything"] | None) -> None:
        self._hashes = os.environ.get(HASHES, "").split()
        if token := os.environ.get(VARIABLE):
            self._hashes.append(_hash(token))
        if asks and not self._hashes:
            raise UserError(
                f"params.yaml: serve.token is {asks}, and the environment has neither {VARIABLE} nor "
                f"{HASHES}: set one, or leave serve.token out"
            )
        self._everything = asks == "everything"

    def check(self, scope: Scope) -> None:
        """Raise Problem 401 if a request needs a token and has none of these."""
        if not self._hashes or not self._needed(scope):
            return
        scheme, _, token = Headers(scope=scope).get("Authorization", "").partition(" ")
        given = _hash(token.strip())
        right = [secrets.compare_digest(given, each) for each in self._hashes]
        if scheme.lower() == "bearer" and any(right):
            return
        detail = "the token is not known here" if token else "this needs a token"
        challenge = {"WWW-Authenticate": 'Bearer realm="Beatline"'}
        raise Problem(HTTPStatus.UNAUTHORIZED, f"{detail}: {UNAUTHORIZED}", challenge)

    def needed_for(self, path: str, names: Collection[str]) -> bool | None:
        """Whether an operation always needs a token (true), by what is asked of it by parameters of these
        `names` (false), or never (None)."""
        if not self._hashes:
            return None
        if self._everything or CHANGES.match(path):
            return True
        return False if EXPLAIN in names or MACHINE in names else None

    def _needed(self, scope: Scope) -> bool:
        if self._everything:
            return not OPEN.fullmatch(scope["path"])
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        explains = any(name == EXPLAIN and value != "false" for name, value in query)
        stores = MACHINE in Headers(scope=scope)
        return explains or stores or bool(CHANGES.match(scope["path"]))


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("latin-1", "replace")).hexdigest()
