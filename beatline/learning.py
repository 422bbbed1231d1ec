"""What every way of learning shares: its examples, and the parameters that outlast it in a bundle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import Field

from beatline.params import Parameters
from beatline.recordings import Recordings
from beatline.windows import Windows


class Learning(Parameters):
    """Of each block `train.<model>.<data set>`.

    `threshold_percentile`: of the validation normals' anomaly scores, for detectors. `seeds`: so many
    networks are trained, from `seed`, `seed` + 1 and so on, to see what luck is worth; the first is
    the model.
    """

    windows: Windows
    threshold_percentile: float = Field(gt=0, lt=100)
    seed: int = Field(ge=0)
    seeds: int = Field(ge=1)


@dataclass(frozen=True)
class Examples:
    """What is learned from or validated on: recordings and 0/1 targets `[N, K]`."""

    recordings: Recordings
    targets: np.ndarray
