"""The block `report` of params.yaml."""

from __future__ import annotations

from pydantic import Field

from beatline.common.params import Parameters


class Report(Parameters):
    """The block `report`. `mistakes`: so many of each model's most confident mistakes are drawn, two
    beside each other; of recordings that are drawn smaller, as many as fill the same rows."""

    mistakes: int = Field(ge=0, le=20)
