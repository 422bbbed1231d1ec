"""The block `monitoring` of params.yaml."""

from __future__ import annotations

import os
from typing import Annotated

from pydantic import Field

from beatline.common.params import Parameters

VARIABLE = (
    "BEATLINE_LOG"  # of the environment: goes before `monitoring.log`, for URLs with a password
)
Positive = Annotated[float, Field(gt=0)]


class KeepRecordings(Parameters):
    """For how many `days`, and in how many `max_megabytes`, recordings themselves are kept."""

    days: Positive
    max_megabytes: Positive


class Monitoring(Parameters):
    """`log`: where the service keeps what was asked and answered, a file of SQLite's or the URL of a
    PostgreSQL database; None if it keeps nothing. What is older than `keep_days`, or beyond
    `max_megabytes`, is forgotten. `keep_recordings`: None if none is kept."""

    log: str | None
    keep_days: Positive
    max_megabytes: Positive
    keep_recordings: KeepRecordings | None = None

    @property
    def where(self) -> str | None:
        """The place of the log: what the environment says, or else `log`; None if nothing is kept."""
        return os.environ.get(VARIABLE, self.log) or None
