"""How many requests a client may send: a token bucket for each address, shared by all workers.

The buckets are a table of fixed size in memory that the processes share. A client's place in it is a
keyed hash of its address, so that nobody can aim at another's; two that meet there are not mistaken for
each other, and the newer one takes the place over. Nothing is locked: two processes that count at the
same moment may count once.
"""

from __future__ import annotations

import hashlib
import ipaddress
import math
import os
import secrets
import time
from http import HTTPStatus
from pathlib import Path

import numpy as np

from beatline.serving.problems import Problem

VARIABLE = "BEATLINE_RATES"  # in the environment: the file that the workers share
PLACES = 1 << 16
BUCKET = np.dtype([("client", "<u8"), ("left", "<f8"), ("moment", "<f8")])
SECONDS_SAVED_UP = 5.0  # of requests that were not sent, which may come at once


def share(path: Path) -> None:
    """Make the file of the buckets for this server's processes, a key and empty buckets."""
    with path.open("wb") as file:
        file.write(secrets.token_bytes(16))
        file.truncate(16 + PLACES * BUCKET.itemsize)
    os.environ[VARIABLE] = str(path)


class Rates:
    """Buckets that fill by `per_second` requests, and hold those of some seconds; None limits nothing."""

    def __init__(self, per_second: float | None) -> None:
        self._per_second = per_second
        self._most = max((per_second or 0) * SECONDS_SAVED_UP, 1.0)
        if path := os.environ.get(VARIABLE):
            self._key = np.fromfile(path, np.uint8, 16).tobytes()
            self._buckets = np.memmap(path, BUCKET, "r+", offset=16)
        else:
            self._key = secrets.token_bytes(16)
            self._buckets = np.zeros(PLACES, BUCKET)

    def check(self, address: str) -> None:
        """Count a request. Raises Problem 429, with the seconds to wait, if there are too many."""
        if self._per_second is None:
            return
        name = client_of(address).encode()
        client = int.from_bytes(hashlib.blake2b(name, digest_size=8, key=self._key).digest())
        bucket, now = self._buckets[client % PLACES], time.monotonic()
        left = self._most
        if bucket["client"] == client:
            gained = max(now - bucket["moment"], 0.0) * self._per_second
            left = min(float(bucket["left"]) + gained, self._most)
        refused = left < 1
        self._buckets[client % PLACES] = client, left if refused else left - 1, now
        if refused:
            seconds = max(math.ceil((1 - left) / self._per_second), 1)
            raise Problem(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"more than {self._per_second:g} requests per second come from your address: wait "
                f"{seconds} s, then send fewer",
                {"Retry-After": str(seconds)},
            )


def client_of(address: str) -> str:
    """Return whom an address belongs to: itself, or of IPv6 the network that one client has (/64)."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:  # a proxy's word, or the socket of a test
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((int(parsed), 64), strict=False))
