"""The block `serve` of params.yaml."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from beatline.common.params import AtLeastOne, Parameters

PROCESSES = "BEATLINE_PROCESSES"  # in the environment: how many answer side by side
MACHINE = "X-Machine-Id"  # the header that says whose a sound is, and has what was measured stored
Positive = Annotated[float, Field(gt=0)]
Key = Annotated[str, Field(pattern=r"^[\w-]+/[\w-]+$")]  # <data set>/<model>


class Serve(Parameters):
    """`features`: the bundle (`<data set>/<model>`) that answers ``POST /predict``, `machines`: the one
    that answers ``POST /machines/{id}/predict``, None if nothing does. `max_age_hours`: the age from
    which on a machine's features are warned of.
    `max_megabytes`: of a request's body, and of what it unpacks to; `max_values`: samples times channels
    of a recording; `max_rows`: of one ``POST /predict``. `seconds_to_send`, `seconds_to_answer`: what
    takes longer is given up. `poll_seconds`: how often bundles are looked at for changes.
    `token`: what asks for a token, see :mod:`beatline.serving.tokens`. `requests_per_second`: of each
    client's address, None as many as it likes."""

    features: Key | None
    machines: Key | None = None
    max_age_hours: Positive = 24.0
    max_megabytes: Positive
    max_values: AtLeastOne
    max_rows: AtLeastOne
    seconds_to_send: Positive
    seconds_to_answer: Positive
    poll_seconds: Positive
    token: Literal["costly", "everything"] | None = None
    requests_per_second: Positive | None = None

    @property
    def max_bytes(self) -> int:
        """`max_megabytes`, of a million bytes each."""
        return int(self.max_megabytes * 1_000_000)

    @property
    def max_age_seconds(self) -> float:
        return self.max_age_hours * 3600
