"""What the service knows of machines: features that it sends to the feature store and reads back."""

from __future__ import annotations

import logging
import math
import queue
import re
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from beatline.common.errors import UserError, did_you_mean
from beatline.common.files import rounded
from beatline.feature_store.client import VARIABLE, Client, Row, StoreError
from beatline.feature_store.definitions import MOST_KNOWN, Table, read
from beatline.feature_store.store import APPLIED
from beatline.features.tables import DIGITS
from beatline.formats.recording import Notice, caution, note
from beatline.serving.model import Model
from beatline.serving.problems import unavailable, unfit, unknown
from beatline.serving.registry import Stamp, stamp
from beatline.serving.settings import MACHINE as HEADER
from beatline.serving.settings import Serve
from beatline.serving.telemetry import Telemetry

ID = r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}$"
ENTITY = "machine_id"
WAITING = 100  # rows to be sent, of each process; more are left out
MOST_REMEMBERED = 1000  # machines that have sent something
SECONDS_TO_END = 3.0  # in which rows that wait are still sent
AHEAD = 60.0  # seconds by which two clocks may differ
NOT_STORED = "not_stored"
log = logging.getLogger("beatline.serving")


def checked_id(text: str) -> str:
    """Return an id that may be a key. Raises Problem if it is none."""
    if not re.fullmatch(ID, text):
        raise unfit(
            "the id of a machine is 1 to 64 letters, digits and _.:-, and begins with a letter or a "
            "digit: send one like that"
        )
    return text


@dataclass(frozen=True)
class _Sent:
    table: Table
    machine: str
    row: Row


class Machines:
    """The feature store at `url`, as the definitions of the project in `root` say what is in it. Rows are
    sent by a thread of its own, so that no prediction waits for the store. Raises UserError if the URL
    is none."""

    def __init__(self, root: Path, url: str, limits: Serve, telemetry: Telemetry) -> None:
        self._path = root / APPLIED
        self._client = Client(url)
        self._limits = limits
        self._telemetry = telemetry
        self._read: tuple[Stamp, dict[str, Table]] | None = None
        self._waiting: queue.Queue[_Sent | None] = queue.Queue(WAITING)
        self._failure: str | None = None  # of the last row that was sent
        self._remembered: dict[str, None] = {}
        self._deadline = math.inf
        self._thread = threading.Thread(target=self._send_all, name="feature store", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Return when what waits was sent, or in some seconds without."""
        self._deadline = time.monotonic() + SECONDS_TO_END
        with suppress(queue.Full):
            self._waiting.put(None, timeout=SECONDS_TO_END)
        self._thread.join(2 * SECONDS_TO_END)

    def send(self, model: Model, machine: str, features: Sequence[float]) -> list[Notice]:
        """Have features that were measured just now stored; return what their sender should know. Never
        waits."""
        try:
            table = self._tables().get(model.dataset)
        except UserError as error:
            return [self._not_sent("failed", self._public(error))]
        if table is None or table.entity != ENTITY:
            return [self._not_sent("failed", f"the store has no table {model.dataset}")]
        if table.representation != model.model_info["dataset"]["representation"]:
            reason = f"{model.dataset}/{model.name} measures in another way than the store's {table.name}"
            return [self._not_sent("failed", f"{reason}: run `make features`, or train it again")]
        values = rounded(list(map(float, features)), DIGITS)  # as in the pipeline's tables
        row = Row(dict(zip(table.features, values, strict=True)), datetime.now(UTC))
        try:
            self._waiting.put_nowait(_Sent(table, machine, row))
        except queue.Full:
            return [self._not_sent("dropped", f"{WAITING} wait already to be stored")]
        if failure := self._failure:
            return [
                note(
                    NOT_STORED,
                    f"the machine's features may not be stored, as those before: {failure}",
                )
            ]
        return []

    def newest(self, machine: str) -> tuple[Table, Row, float, list[Notice]]:
        """Return the machine's newest features with their table, their age in seconds and what is odd
        about that.

        Raises Problem: 404 for a machine that nobody knows, 503 if the store gives no answer.
        """
        table = self._table()
        try:
            row = self._client.newest(table, machine)
        except StoreError as error:
            raise unavailable(str(error)) from None
        if row is None:
            raise self._unknown(machine, table)
        age = (datetime.now(UTC) - row.moment).total_seconds()
        self._telemetry.features_read(table.name, age)
        return table, row, age, self._about(age)

    def check_fits(self, model: Model, table: Table) -> None:
        """Raise Problem if the model has learned from other features than the table's, or in another
        order."""
        learned = model.model_info["dataset"]["channels"]
        if learned == table.features:
            return
        pairs = zip([*learned, None], [*table.features, None], strict=False)
        number, (own, other) = next((n, p) for n, p in enumerate(pairs, 1) if p[0] != p[1])
        raise unavailable(
            f"{model.dataset}/{model.name} has learned from other features than those of {table.name} "
            f"in the store (number {number} is {own} there and {other} here): name another by "
            f"serve.machines, or run `make repro features`"
        )

    def _tables(self) -> dict[str, Table]:
        """Return the tables of the store, read again when their file changes. Raises UserError."""
        now = stamp(self._path)
        if self._read is None or self._read[0] != now:
            self._read = now, read(self._path)
        return self._read[1]

    def _table(self) -> Table:
        """Return the table of machines, the first of several. Raises Problem if there is none."""
        try:
            tables = self._tables()
        except UserError as error:
            raise unavailable(self._public(error)) from None
        for table in tables.values():
            if table.entity == ENTITY:
                return table
        raise unavailable(
            "the store has no table of machines: measure sounds, then `make features`"
        )

    def _public(self, error: UserError) -> str:
        """Return an error's words without where the project is on this machine."""
        return str(error).replace(str(self._path), str(APPLIED))

    def _unknown(self, machine: str, table: Table) -> Exception:
        known = list(dict.fromkeys([*table.known, *self._remembered]))
        more = max(table.known_in_all, len(known)) - MOST_KNOWN
        listed = ", ".join(known[:MOST_KNOWN]) + (f" and {more} more" if more > 0 else "")
        return unknown(
            f"nothing is known of a machine {machine!r}{did_you_mean(machine, known)}; known: "
            f"{listed or 'none'}: send a sound of it with the header {HEADER}"
        )

    def _about(self, age: float) -> list[Notice]:
        most = self._limits.max_age_seconds
        if age > most:
            return [
                caution(
                    "too_old",
                    f"the features were measured {_duration(age)} ago, more than {_duration(most)}: the "
                    f"machine may be otherwise by now; send a sound of it",
                )
            ]
        if age < -AHEAD:
            means = "one of two clocks is wrong, so that their age is not known"
            return [caution("future", f"the features are dated {_duration(-age)} ahead: {means}")]
        return []

    def _not_sent(self, outcome: Literal["failed", "dropped"], reason: str) -> Notice:
        self._telemetry.stored(outcome)
        return note(NOT_STORED, f"the machine's features are not stored: {reason}")

    def _send_all(self) -> None:
        while (sent := self._waiting.get()) and time.monotonic() < self._deadline:
            try:
                self._client.push(sent.table, sent.machine, sent.row)
            except StoreError as error:
                self._telemetry.stored("failed")
                if self._failure is None:  # once, and not for each row
                    log.warning("features of machines are not stored: %s", error)
                self._failure = str(error)
            except Exception:  # whatever it is, the next rows are sent
                self._telemetry.stored("failed")
                log.exception("features of a machine could not be sent")
            else:
                self._telemetry.stored("stored")
                if self._failure is not None:
                    log.warning("features of machines are stored again")
                self._failure = None
                if len(self._remembered) < MOST_REMEMBERED:
                    self._remembered = {**self._remembered, sent.machine: None}


def described(machine: str, table: Table, row: Row, age: float) -> dict[str, Any]:
    """Return what answers say of a row."""
    moment = row.moment.astimezone(UTC).isoformat()
    return {
        "machine": machine,
        "table": table.name,
        "event_timestamp": moment,
        "age_seconds": round(age, 3),
    }


def without_store() -> Notice:
    """Return what the sender of features should know where there is no store."""
    return note(NOT_STORED, f"the machine's features are not stored: the server has no {VARIABLE}")


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} seconds"
