"""The block `monitoring` of params.yaml."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from beatline.common.params import Parameters

Positive = Annotated[float, Field(gt=0)]


class Monitoring(Parameters):
    """`log`: where the service keeps what was asked and answered, a file of SQLite's or the URL of a
    PostgreSQL database; None if it keeps nothing. What is older than `keep_days`, or beyond
    `max_megabytes`, is forgotten."""

    log: str | None
    keep_days: Positive
    max_megabytes: Positive
