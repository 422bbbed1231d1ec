"""12-lead ECGs as cardiologists expect them: true-to-scale paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from beatline.drawings.figures import INK
from beatline.drawings.shown import Dataset, Shown
from beatline.formats.leads import PRINTED as LEADS

MM_PER_INCH = 25.4
PIXELS_PER_MM = 4  # whole pixels, so that every line of the grid is equally sharp
# Electrocardiographs worldwide print 25 mm per second and 10 mm per mV on paper ruled at 1 and 5 mm
# (Kligfield et al. 2007, AHA/ACC/HRS recommendations for the standardization and interpretation of
# the electrocardiogram, Circulation 115:1306).
MM_PER_SECOND, MM_PER_MV = 25.0, 10.0
LAYOUT = tuple(
    LEADS[row::3] for row in range(3)
)  # I, aVR, V1, V4; II, aVL, V2, V5; III, aVF, V3, V6
RHYTHM_LEAD = "II"
SECONDS, COLUMN_SECONDS = 10.0, 2.5
PAPER_WIDTH, PAPER_HEIGHT, HEADER = 270.0, 130.0, 10.0  # in mm, as all that follow
SIGNAL_LEFT, ROW_HEIGHT, TOP_BASELINE = 15.0, 30.0, 110.0
PULSE_LEFT, PULSE_WIDTH = 5.0, 5.0  # a calibration pulse of 1 mV, 0.2 s wide
MONITOR_LEADS, STRIP_ROW = ("II", "V1", "V5"), 25.0  # of a small strip
MINOR, MAJOR = "#f9d9dd", "#eda7b1"


def sheet(
    recording: np.ndarray,
    sampling_rate: float,
    title: str,
    leads: Sequence[str] = LEADS,
) -> Figure:
    """A 12-lead ECG as cardiologists expect it: true-to-scale paper, 25 mm/s and 10 mm/mV.

    `recording` `[T, 12]` in mV, its columns in the order of `leads`; `sampling_rate` in Hz. Three
    rows of four leads show 2.5 s each, one after the other; below runs lead II for 10 s. What is
    shorter leaves the paper blank, what lies beyond 10 s is not drawn. Raises ValueError for another
    shape or other leads.
    """
    if recording.ndim != 2 or recording.shape[1] != len(LEADS):
        raise ValueError(f"a 12-lead ECG is [T, 12], not {list(recording.shape)}")
    column_of = _columns(leads, LEADS)
    figure = Figure(
        figsize=(PAPER_WIDTH / MM_PER_INCH, (PAPER_HEIGHT + HEADER) / MM_PER_INCH),
        dpi=PIXELS_PER_MM * MM_PER_INCH,
    )
    axes = figure.add_axes((0, 0, 1, PAPER_HEIGHT / (PAPER_HEIGHT + HEADER)))
    axes.set(xlim=(0, PAPER_WIDTH), ylim=(0, PAPER_HEIGHT))
    axes.set_axis_off()
    _paper(axes, PAPER_WIDTH, PAPER_HEIGHT, {1: MINOR, 5: MAJOR})
    for row, names in enumerate(LAYOUT):
        baseline = TOP_BASELINE - row * ROW_HEIGHT
        _pulse(axes, baseline)
        for column, name in enumerate(names):
            start = column * COLUMN_SECONDS
            part = _part(recording[:, column_of[name]], sampling_rate, start, COLUMN_SECONDS)
            _lead(axes, part, sampling_rate, start, baseline, name)
    baseline = TOP_BASELINE - len(LAYOUT) * ROW_HEIGHT
    _pulse(axes, baseline)
    rhythm = _part(recording[:, column_of[RHYTHM_LEAD]], sampling_rate, 0, SECONDS)
    _lead(axes, rhythm, sampling_rate, 0, baseline, RHYTHM_LEAD)
    _header(figure, title, f"25 mm/s   10 mm/mV   {sampling_rate:g} Hz")
    return figure


def _columns(leads: Sequence[str], expected: Sequence[str]) -> dict[str, int]:
    """Return the column of each expected lead; `AVR` and `aVR` are the same lead."""
    places = {name.upper(): number for number, name in enumerate(leads)}
    if missing := [name for name in expected if name.upper() not in places]:
        raise ValueError(f"there is no lead {missing[0]} among {', '.join(leads)}")
    return {name: places[name.upper()] for name in expected}


def _paper(axes: Axes, width: float, height: float, rulings: Mapping[int, str]) -> None:
    """Ruled paper from (0, 0), in mm; `rulings`: colour by distance of the lines."""
    for step, colour in rulings.items():
        across = [[(x, 0), (x, height)] for x in np.arange(0, width + 0.1, step)]
        up = [[(0, y), (width, y)] for y in np.arange(0, height + 0.1, step)]
        # Without antialiasing all lines are equally dark, and the file is a third as large.
        axes.add_collection(
            LineCollection(
                [*across, *up], colors=colour, linewidths=0.5, antialiaseds=False, zorder=0
            ),
            autolim=False,
        )


def _header(figure: Figure, title: str, scale: str) -> None:
    height = 1 - HEADER / 2 / (PAPER_HEIGHT + HEADER)
    style: dict[str, Any] = {"va": "center_baseline", "color": INK}
    figure.text(0.008, height, title, size=10, weight="bold", **style)
    figure.text(0.992, height, scale, size=9, ha="right", **style)


def _part(lead: np.ndarray, sampling_rate: float, start: float, seconds: float) -> np.ndarray:
    """The samples from `start` for `seconds`, and the one after, so that neighbours join."""
    return lead[round(start * sampling_rate) : round((start + seconds) * sampling_rate) + 1]


def _lead(
    axes: Axes, part: np.ndarray, sampling_rate: float, start: float, baseline: float, name: str
) -> None:
    seconds = start + np.arange(len(part)) / sampling_rate
    left = SIGNAL_LEFT + start * MM_PER_SECOND
    axes.plot(
        SIGNAL_LEFT + seconds * MM_PER_SECOND,
        baseline + part * MM_PER_MV,
        color=INK,
        linewidth=0.9,
        solid_joinstyle="round",
        gid=f"lead {name}",
    )
    if start:
        axes.plot([left, left], [baseline - 4, baseline + 4], color=INK, linewidth=0.9)
    axes.text(left + 1.5, baseline + 11, name, size=9, weight="bold", color=INK)


def _pulse(axes: Axes, baseline: float) -> None:
    x = PULSE_LEFT + np.array([-1.5, 0, 0, PULSE_WIDTH, PULSE_WIDTH, PULSE_WIDTH + 1.5])
    y = baseline + MM_PER_MV * np.array([0, 0, 1, 1, 0, 0])
    axes.plot(x, y, color=INK, linewidth=0.9, gid="calibration")


def strip(axes: Axes, shown: Shown, dataset: Dataset, colour: str) -> None:
    """Leads II, V1 and V5 below each other on paper of the same proportions, reduced."""
    width, height = SECONDS * MM_PER_SECOND, len(MONITOR_LEADS) * STRIP_ROW
    column_of = _columns(dataset["channels"], MONITOR_LEADS)
    _paper(axes, width, height, {5: MINOR})
    for row, name in enumerate(MONITOR_LEADS):
        baseline = height - (row + 0.58) * STRIP_ROW
        for signal, line in ((shown.recording, INK), (shown.reconstruction, colour)):
            if signal is not None:
                part = _part(signal[:, column_of[name]], dataset["sampling_rate"], 0, SECONDS)
                x = np.arange(len(part)) / dataset["sampling_rate"] * MM_PER_SECOND
                axes.plot(x, baseline + part * MM_PER_MV, color=line, linewidth=0.8)
        axes.text(2, baseline + 7, name, size=7, weight="bold", color=INK)
    axes.set(xlim=(0, width), ylim=(0, height), aspect="equal", anchor="NW")
    axes.set_axis_off()
