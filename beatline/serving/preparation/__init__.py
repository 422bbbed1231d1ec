"""Prepare a recording that was sent for a model: the channels in the order, the unit and the sampling
rate that it was trained on; or say why the recording does not fit.

What the pipeline does to a recording is done by the pipeline's own code. What it need not do, since
the recordings of a data set are alike, is done here, and each time a :class:`Notice` says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np

from beatline.formats.recording import Notice, Recording, caution
from beatline.serving.preparation import images, signals, sound
from beatline.serving.problems import unfit
from beatline.serving.recording import Prepared
from beatline.serving.settings import Serve
from beatline.serving.uploads.checks import LARGEST

BEYOND = 1.5  # times the range of root mean squares in training


def prepare(
    recording: Recording,
    dataset: Mapping[str, Any],
    shortest: int,
    *,
    limits: Serve,
    whole: bool = False,
) -> Prepared:
    """The recording as those of `dataset`, the entry of that name in a bundle's model.json.

    `shortest`: the fewest samples that the model looks at; `whole`: it looks at whole recordings of
    one length only. Raises Problem if the recording does not fit, which says why.
    """
    prepared = _kind(dataset).prepare(recording, dataset, limits)
    notices, samples, usual = prepared.notices, prepared.samples, dataset["length"]
    has = _length(len(samples), dataset)
    if whole and len(samples) != usual:
        raise unfit(
            f"the recording has {has}, and the model looks at recordings of exactly "
            f"{_length(usual, dataset)}: send one of these"
        )
    if len(samples) < shortest:
        raise unfit(
            f"the recording has {has}, and the model looks at no less than "
            f"{_length(shortest, dataset)}: send a longer one"
        )
    if len(samples) < usual:
        expected = f"those of the training ({_length(usual, dataset)})"
        notices.append(caution("short", f"the recording is shorter ({has}) than {expected}"))
    if np.abs(samples).max(initial=0, where=np.isfinite(samples)) > LARGEST:
        raise unfit(
            f"the recording has samples beyond {LARGEST:g} {dataset['unit']}: check its unit"
        )
    return replace(prepared, notices=[*recording.warnings, *notices])


def resampled_values(recording: Recording, dataset: Mapping[str, Any]) -> int:
    """Return how many values :func:`prepare` will give, to a step; compute and refuse nothing.

    Steps times channels, of sound frames times bands. A sampling rate that is too far from that of the
    training, which will be refused, counts as the farthest that is not.
    """
    return _kind(dataset).steps(recording, dataset) * len(dataset["channels"])


def far(normalized: np.ndarray, typical: Mapping[str, Any] | None) -> Notice | None:
    """A notice if the root mean square of a normalized recording `[T, C]` is far from those of the
    training; `typical`: their range, ``{"rms": [low, high]}``, None if it is not known."""
    if typical is None:
        return None
    low, high = typical["rms"]
    # Without a copy of the squares in float64.
    squares = np.einsum("tc,tc->", normalized, normalized, dtype=np.float64)
    rms = float(np.sqrt(squares / normalized.size))
    if low / BEYOND <= rms <= high * BEYOND:
        return None
    word = "larger" if rms > high else "smaller"
    return caution(
        "far",
        f"the recording is far from the training recordings: its deviations are {word} "
        f"({rms:.3g} standard deviations; there {low:.3g} to {high:.3g}), so that the answer may "
        f"mean nothing",
    )


def _kind(dataset: Mapping[str, Any]) -> ModuleType:
    if dataset["representation"] is not None:
        return sound
    return images if dataset["drawing"] == "image" else signals


def _length(samples: int, dataset: Mapping[str, Any]) -> str:
    rate = dataset["sampling_rate"]
    return f"{samples} steps" + (f", {samples / rate:.4g} s" if rate else "")
