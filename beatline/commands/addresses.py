"""Addresses on which servers of ours listen."""

from __future__ import annotations

import argparse
import errno
import socket
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import psutil

from beatline.common.errors import UserError, shown


def port(text: str) -> int:
    """The number of a port, of an argument. Raises ArgumentTypeError if it is none."""
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"a port is a number from 0 to 65535, not {text!r}")
    return int(text)


def listener(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raises UserError if the address cannot be had."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server((address[0], port), family=family, backlog=2048)
    except socket.gaierror:
        raise UserError(f"--host {host}: there is no such address") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UserError(
                f"port {port} of {host} is in use{_by_whom(port)}: end what answers there, or name "
                f"another by --port"
            ) from None
        raise UserError(f"port {port} of {host} cannot be opened: {error.strerror}") from None


def _by_whom(port: int) -> str:
    """Return the process that listens on a port, "" if the system does not say."""
    with suppress(psutil.Error, OSError):  # other users' processes are not for everybody to see
        pid = next(filter(None, _listeners(psutil.net_connections("tcp"), port)), None)
        if pid is not None:
            process = psutil.Process(pid)
            # A server's workers listen too, and one that is ended is replaced.
            while (parent := process.parent()) and _listeners(parent.net_connections("tcp"), port):
                process = parent
            return f" by process {process.pid} ({shown(' '.join(process.cmdline()), 80)})"
    return ""


def _listeners(connections: Iterable[Any], port: int) -> list[int | None]:
    """The processes, where the system says which, that listen on a port; psutil tells one of several
    that share a socket."""
    return [
        getattr(each, "pid", None)
        for each in connections
        if each.status == psutil.CONN_LISTEN and each.laddr[1:2] == (port,)
    ]
