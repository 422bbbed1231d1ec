"""The names under which the server may be asked for.

A page of somebody else's can give its own name this machine's address (DNS rebinding), and a browser then
lets it read what is answered here. The name stands in the header Host. An address cannot be rebound.
"""

from __future__ import annotations

import ipaddress
import os
import re
from http import HTTPStatus

from starlette.types import Scope

from beatline.common.errors import UserError, shown
from beatline.serving.problems import Problem, malformed

NAME = re.compile(r"[\w-]+(\.[\w-]+)*\.?")
VARIABLE = "BEATLINE_HOSTS"  # names in the environment, for the workers
LOOPBACK = "localhost"


def allowed() -> frozenset[str]:
    """The names in the environment, and that of the loopback interface. Raises UserError if one is no
    name, such as an address with its scheme or port, which no request would ever bear."""
    given = os.environ.get(VARIABLE, "").split()
    for name in given:
        if not NAME.fullmatch(name) and not _is_address(name):
            raise UserError(
                f"--allow-host or {VARIABLE}: {shown(name, 60)!r} is no name of a host: give it without "
                f"scheme and port, such as ecg.example"
            )
    return frozenset({LOOPBACK, *(name.rstrip(".").casefold() for name in given)})


def check(scope: Scope, names: frozenset[str]) -> None:
    """Raise Problem: 400 unless there is one Host, 421 if it is neither an address nor one of `names`."""
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    if len(hosts) != 1:
        if not hosts and scope.get("http_version") == "1.0":
            return
        raise malformed("a request has one header Host")
    text = hosts[0].decode("latin-1").strip()
    name = text[1:].partition("]")[0] if text.startswith("[") else text.partition(":")[0]
    name = name.rstrip(".").casefold()
    if name not in names and not _is_address(name):
        raise Problem(
            HTTPStatus.MISDIRECTED_REQUEST,
            f"this server is not called {shown(name)!r}: start it with --allow-host {shown(name)}, or "
            f"ask for it by its address",
        )


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
