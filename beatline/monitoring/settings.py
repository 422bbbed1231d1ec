"""The block `monitoring` of params.yaml."""

from __future__ import annotations

import os
from typing import Annotated, Self

from pydantic import Field, model_validator

from beatline.common.errors import UserError
from beatline.common.params import AtLeastOne, Parameters

VARIABLE = (
    "BEATLINE_LOG"  # of the environment: goes before `monitoring.log`, for URLs with a password
)
LEAST_LEVEL = 0.001  # of drift: permutations are too few for smaller p-values
Positive = Annotated[float, Field(gt=0)]


class KeepRecordings(Parameters):
    """For how many `days`, and in how many `max_megabytes`, recordings themselves are kept."""

    days: Positive
    max_megabytes: Positive


class Alarm(Parameters):
    """When the alarm of a machine is open: at least so many `anomalies` among its last `answers`."""

    anomalies: AtLeastOne
    answers: AtLeastOne

    @model_validator(mode="after")
    def _can_open(self) -> Self:
        if self.anomalies > self.answers:
            raise ValueError(
                f"anomalies ({self.anomalies}) cannot be more than answers ({self.answers})"
            )
        return self


class Drift(Parameters):
    """`level`: how often drift may be told of a window that has none. Of fewer `records` nothing is
    told."""

    level: float = Field(default=0.05, ge=LEAST_LEVEL, lt=1)
    records: int = Field(default=50, ge=2)


class Retrain(Parameters):
    """`records`: how many recordings experts must have labelled for a new challenger."""

    records: AtLeastOne


class Shadow(Parameters):
    """`share`: of answers that a model's challenger makes too; `processors`: how much of one, in each
    of the server's processes, it may take."""

    share: Annotated[float, Field(gt=0, le=1)]
    processors: Annotated[float, Field(gt=0, le=1)]


class Monitoring(Parameters):
    """`log`: where the service keeps what was asked and answered, a file of SQLite's or the URL of a
    PostgreSQL database; None if it keeps nothing. What is older than `keep_days`, or beyond
    `max_megabytes`, is forgotten. `keep_recordings`: None if none is kept; `alarm`: when there is one
    about a machine; `shadow`: None if no challenger answers."""

    log: str | None
    keep_days: Positive
    max_megabytes: Positive
    keep_recordings: KeepRecordings | None = None
    alarm: Alarm = Alarm(anomalies=3, answers=5)
    drift: Drift = Drift()
    retrain: Retrain = Retrain(records=50)
    shadow: Shadow | None = None

    @model_validator(mode="after")
    def _shadows_are_logged(self) -> Monitoring:
        if self.shadow and not self.where:
            raise ValueError("shadow needs a log to answer into: name one by log")
        return self

    @model_validator(mode="after")
    def _recordings_go_with_answers(self) -> Monitoring:
        if self.keep_recordings and self.keep_recordings.days > self.keep_days:
            raise ValueError(
                f"keep_recordings.days ({self.keep_recordings.days:g}) cannot be more than keep_days "
                f"({self.keep_days:g}): recordings go with their answers"
            )
        return self

    def place(self, otherwise: str = "") -> str:
        """Return where the log is. Raises UserError if nothing is kept; `otherwise`: another way."""
        if self.where is None:
            raise UserError(
                f"params.yaml: monitoring.log names no log of answers: name a file or the URL of a "
                f"PostgreSQL there, or by {VARIABLE}{otherwise}"
            )
        return self.where

    @property
    def where(self) -> str | None:
        """The place of the log: what the environment says, or else `log`; None if nothing is kept."""
        return os.environ.get(VARIABLE, self.log) or None
