"""Recordings cut into what a network looks at, and put together again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field

from beatline.common.errors import warn
from beatline.common.params import Parameters


class Windows(Parameters):
    """How a recording is cut. Training draws one random crop of `length` samples per recording and
    epoch (0: the whole recording); a prediction is aggregated over windows of `length` every `stride`
    samples (None: one begins where the one before ends), the last one at the recording's end."""

    length: int = Field(default=0, ge=0)
    stride: int | None = Field(default=None, ge=1)
    aggregate: Literal["mean", "max"] = "mean"

    def steps(self, recording_length: int) -> int:
        """How many time steps of recordings of that length the network looks at."""
        return min(self.length or recording_length, recording_length)

    def completed(self, recording_length: int, key: str) -> Windows:
        """The same windows over recordings of that length, with their stride in numbers; the whole
        recording, if they are longer, of which a warning names the `key` where they stand."""
        if self.length > recording_length:
            warn(
                f"{key}.length is {self.length}, and recordings have {recording_length} time steps: the "
                f"network looks at whole recordings"
            )
            return self.model_copy(update={"length": 0, "stride": recording_length})
        return self.model_copy(update={"stride": self.stride or self.length or recording_length})


def starts(recording_length: int, windows: Windows) -> list[int]:
    """First samples of the windows over a recording."""
    steps = windows.steps(recording_length)
    last = recording_length - steps
    regular = range(0, last + 1, windows.stride or steps)
    return [*regular] if regular[-1] == last else [*regular, last]


def aggregated(values: Any, windows: Windows) -> Any:
    """The predictions `[..., K]` of recordings from those of their windows `[..., W, K]`.

    Arrays of NumPy or tensors of torch, and the same is returned: the two add up in another order, so
    that their means differ in the last bit.
    """
    if windows.aggregate == "mean":
        return values.mean(-2)
    return values.max(-2) if isinstance(values, np.ndarray) else values.amax(-2)


def averaged(parts: Sequence[np.ndarray], first: Sequence[int], length: int) -> np.ndarray:
    """Recordings `[..., T, C]` of T = `length` from windows `[..., L, C]` whose first samples are
    `first`: their mean where they overlap, NaN where there is none."""
    *recordings, _, channels = parts[0].shape
    total, times = np.zeros((*recordings, length, channels)), np.zeros((length, 1))
    for start, part in zip(first, parts, strict=True):
        inside = slice(start, start + part.shape[-2])
        total[..., inside, :] += part
        times[inside] += 1
    times[times == 0] = np.nan
    return total / times
