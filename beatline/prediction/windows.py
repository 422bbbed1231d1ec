"""How a recording is cut into what a network looks at."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from beatline.common.params import Parameters


class Windows(Parameters):
    """How a recording is cut. Training draws one random crop of `length` samples per recording and
    epoch (0: the whole recording); a prediction is aggregated over windows of `length` every `stride`
    samples (None: one begins where the one before ends), the last one at the recording's end."""

    length: int = Field(default=0, ge=0)
    stride: int | None = Field(default=None, ge=1)
    aggregate: Literal["mean", "max"] = "mean"

    def completed(self, recording_length: int) -> Windows:
        """The same windows over recordings of that length, with their stride in numbers."""
        return self.model_copy(update={"stride": self.stride or self.length or recording_length})


def starts(recording_length: int, windows: Windows) -> list[int]:
    """First samples of the windows over a recording."""
    length = windows.length or recording_length
    if length >= recording_length:
        return [0]
    regular = range(0, recording_length - length + 1, windows.stride or length)
    last = recording_length - length
    return [*regular] if regular[-1] == last else [*regular, last]
