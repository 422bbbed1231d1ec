"""How a recording is cut into what a network looks at."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from beatline.common.params import Parameters


class Windows(Parameters):
    """How a recording is cut. Training draws one random crop of `length` samples per recording and
    epoch (0: the whole recording); an answer is aggregated over windows of `length` every `stride`
    samples, the last one at the recording's end."""

    length: int = Field(ge=0)
    stride: int = Field(ge=1)
    aggregate: Literal["mean", "max"]


def starts(recording_length: int, windows: Windows) -> list[int]:
    """First samples of the windows over a recording."""
    length = windows.length or recording_length
    if length >= recording_length:
        return [0]
    regular = range(0, recording_length - length + 1, windows.stride)
    last = recording_length - length
    return [*regular] if regular[-1] == last else [*regular, last]
