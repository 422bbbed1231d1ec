"""Oddities of a signal: a channel that never changes or is clipped, leads that contradict."""

from __future__ import annotations

import numpy as np

from beatline.common.errors import listed
from beatline.formats.recording import Notice, caution

# A plateau: two samples or more at a channel's highest or lowest value, entered or left by a step that
# a signal near its peak does not take. Natural peaks that a coarse scale makes flat have no such step.
STEEP = 0.05  # of the channel's range
PLATEAUS = 2  # of one clipped channel at least
# Or the extreme value lasts: a signal that wandered out of its amplifier's range.
LASTING = (20, 0.1)  # samples, share of the recording, at least
# Of lead II: how far Einthoven's law, II = I + III, may be missed. Of 420 real records none misses it
# by more than 0.01; in reverse order all do by 0.4 and more.
EINTHOVEN = 0.2


def oddities(samples: np.ndarray, channels: list[str]) -> list[Notice]:
    """Notices of channels of `[T, C]`, without NaN, that never change or are clipped."""
    flat, cut = ([channels[i] for i in np.flatnonzero(w)] for w in flat_and_clipped(samples))
    notices = []
    if flat and len(samples) > 1:
        verb = "never changes" if len(flat) == 1 else "never change"
        notices.append(caution("flat", f"{listed(flat)} {verb}: is everything connected?"))
    if cut:
        verb = "is" if len(cut) == 1 else "are"
        plateau = "the highest or lowest value recurs as a plateau"
        notices.append(caution("clipped", f"{listed(cut)} {verb} clipped: {plateau}"))
    return notices


def flat_and_clipped(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether each channel of `[T, C]`, without NaN, never changes, and whether it is clipped."""
    high, low = samples.max(axis=0), samples.min(axis=0)
    constant = high == low
    clipped = _is_clipped(samples, high, high - low) | _is_clipped(samples, low, high - low)
    return constant, clipped & ~constant


def by_einthoven(
    samples: np.ndarray, missing: np.ndarray | None, channels: list[str]
) -> list[Notice]:
    """A notice if leads I, II and III of `[T, C]`, without NaN, miss II = I + III at the moments at which
    none is `missing` (Einthoven, Fahr and de Waart, Pflügers Archiv 150, 1913).

    Offsets of amplifiers do not count. Exchanged electrodes are not found: the law holds for any three.
    """
    if not {"I", "II", "III"} <= set(channels):
        return []
    limbs = [channels.index(name) for name in ("I", "II", "III")]
    valid = slice(None) if missing is None else ~missing[:, limbs].any(axis=1)
    first, second, third = samples[valid][:, limbs].astype(np.float64).T
    if not len(second) or second.max() == second.min():
        return []
    if np.std(first + third - second) <= EINTHOVEN * np.std(second):
        return []
    message = (
        "leads I, II and III do not belong together (I and III should add up to II): are the leads in "
        "the right order, and free of noise?"
    )
    return [caution("leads", message)]


def _is_clipped(samples: np.ndarray, extreme: np.ndarray, span: np.ndarray) -> np.ndarray:
    """Whether each channel of `[T, C]` stays at its `extreme` `[C]` as a clipped one does."""
    at = samples == extreme
    if not (at[1:] & at[:-1]).any():
        return np.zeros(at.shape[1], dtype=bool)
    steep = np.abs(np.diff(samples, axis=0)) >= STEEP * span
    entered = at[2:] & at[1:-1] & ~at[:-2] & steep[:-1]
    left = at[:-2] & at[1:-1] & ~at[2:] & steep[1:]
    plateaus = np.maximum(entered.sum(axis=0), left.sum(axis=0))
    lasting = max(LASTING[0], int(LASTING[1] * len(samples)))
    return (plateaus >= PLATEAUS) | (_longest_run(at) >= lasting)


def _longest_run(at: np.ndarray) -> np.ndarray:
    """The longest stretch of True in each column of `[T, C]` booleans."""
    longest = np.zeros(at.shape[1], dtype=int)
    for column in np.flatnonzero(at.sum(axis=0) >= LASTING[0]):
        edges = np.flatnonzero(np.diff(at[:, column], prepend=False, append=False))
        longest[column] = (edges[1::2] - edges[::2]).max()
    return longest
