"""Pages of other servers that a browser may let read what is answered here; none unless named (CORS)."""

from __future__ import annotations

import os
import re

from beatline.common.errors import UserError

VARIABLE = (
    "BEATLINE_ORIGINS"  # in the environment: https://ward.example, several separated by spaces
)
ORIGIN = re.compile(r"https?://[\w.-]+(:\d{1,5})?|https?://\[[0-9a-fA-F:]+\](:\d{1,5})?")


def allowed() -> list[str]:
    """Return the origins in the environment. Raises UserError if one is none, `*` included: it would let
    every page in the world ask through whoever looks at it."""
    given = os.environ.get(VARIABLE, "").split()
    for origin in given:
        if not ORIGIN.fullmatch(origin):
            raise UserError(
                f"{VARIABLE}: {origin[:60]!r} is no origin: name each page's server, such as "
                f"https://ward.example, without a path"
            )
    return [origin.lower() for origin in given]
