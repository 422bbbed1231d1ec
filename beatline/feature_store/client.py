"""A client of Feast's server: an entity's newest features, and new ones pushed."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import orjson
import urllib3
from urllib3.exceptions import HTTPError, NewConnectionError, ProtocolError, TimeoutError

from beatline.common.errors import UserError
from beatline.feature_store.definitions import Table

VARIABLE = "BEATLINE_FEATURE_STORE"  # of the environment: the server's URL
SECONDS_TO_CONNECT, SECONDS_TO_ANSWER = 0.5, 2.0
CONNECTIONS = 4
LONGEST = 200  # characters of what the server says
PRESENT = "PRESENT"
log = logging.getLogger(__name__)
# Without its URL, which clients of the service need not know.
AWAY = f"the feature server is away: start it by `make feature-server`, or correct {VARIABLE}"


class StoreError(Exception):
    """The store gives no answer, or one that cannot be used: one sentence with the cure."""


@dataclass(frozen=True)
class Row:
    """An entity's newest features by name, None where one is missing, and when they were measured."""

    features: dict[str, float | None]
    moment: datetime


class Client:
    """Asks the server at `url`, in connections that are kept; threads may share it. No call lasts longer
    than SECONDS_TO_CONNECT and SECONDS_TO_ANSWER. Raises UserError if the URL is none."""

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            usable = False
        if not usable:
            raise UserError(
                f"{VARIABLE} must be the URL of the feature server, such as http://127.0.0.1:6566, not "
                f"{url[:LONGEST]!r}"
            )
        self._pool = urllib3.connection_from_url(
            url,
            maxsize=CONNECTIONS,
            timeout=urllib3.Timeout(connect=SECONDS_TO_CONNECT, read=SECONDS_TO_ANSWER),
            retries=False,
        )

    def newest(self, table: Table, entity: str) -> Row | None:
        """Return the newest row of an entity, however old; None if there is none. Raises StoreError."""
        # By name: a feature service's come in an order of the server's own, and cost more.
        names = [f"{table.name}:{name}" for name in table.features]
        body = {"features": names, "entities": {table.entity: [entity]}}
        content = self._post("/get-online-features", body)
        try:
            answered = orjson.loads(content)
            returned = answered["metadata"]["feature_names"]
            columns = dict(zip(returned, answered["results"], strict=True))
            return _row([columns[name] for name in table.features], table.features)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            raise StoreError(
                f"the feature server gave something else than the features of {table.name}: run "
                f"`make features`, and start it again"
            ) from None

    def push(self, table: Table, entity: str, row: Row) -> None:
        """Have a row stored, unless there is a newer one. Raises StoreError."""
        values = {table.entity: entity, table.timestamp: row.moment.isoformat(), **row.features}
        columns = {name: [value] for name, value in values.items()}
        # Feast's /push does the same, and reads the definitions of all tables for it.
        self._post("/write-to-online-store", {"feature_view_name": table.name, "df": columns})

    def _post(self, path: str, body: dict[str, Any]) -> bytes:
        try:
            try:
                response = self._request(path, body)
            except ProtocolError:  # the server had closed a connection that was kept
                response = self._request(path, body)
        except TimeoutError as error:
            if isinstance(error, NewConnectionError):  # refused, which counts as one of these
                raise StoreError(AWAY) from None
            raise StoreError(
                "the feature server does not answer: look what keeps it, or its database, busy"
            ) from None
        except HTTPError:
            raise StoreError(AWAY) from None
        if response.status != 200:
            # Its words may name hosts and users, which a client of the service need not know.
            words = " ".join(response.data.decode(errors="replace").split())[:LONGEST]
            log.warning("the feature server says to %s: %d: %s", path, response.status, words)
            raise StoreError(
                f"the feature server failed ({response.status}): look into the log; run `make features` "
                f"if its tables are old, and start it again"
            )
        return response.data

    def _request(self, path: str, body: dict[str, Any]) -> urllib3.BaseHTTPResponse:
        headers = {"Content-Type": "application/json"}
        return self._pool.request("POST", path, body=orjson.dumps(body), headers=headers)


def _row(columns: Sequence[dict[str, Any]], names: Sequence[str]) -> Row | None:
    """Return the row that the server's columns of one value hold; None if they are empty."""
    if not any(column["statuses"][0] == PRESENT for column in columns):
        return None
    values = [column["values"][0] for column in columns]
    if any(value is not None and not math.isfinite(value) for value in values):
        raise ValueError("no number")
    moments = {
        datetime.fromisoformat(column["event_timestamps"][0])
        for column in columns
        if column["statuses"][0] == PRESENT
    }
    return Row(dict(zip(names, values, strict=True)), min(moments))
