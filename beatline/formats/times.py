"""Columns of the samples' times or numbers, which are no channels: by their names or their values."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import date

import numpy as np

from beatline.common.errors import shown
from beatline.formats.leads import POSITION
from beatline.formats.recording import Notice, Recording, UnfitRecording, caution, check_size, note

_WORDS = frozenset(
    ["abs", "absolute", "clock", "date", "datetime", "elapsed", "epoch", "from", "hh", "hms", "local",
     "mm", "mmm", "of", "passed", "rel", "relative", "since", "ss", "stamp", "start", "t", "temps",
     "tiempo", "time", "times", "timestamp", "timestamps", "unix", "utc", "zeit"]
)  # fmt: skip
# Words for units, and how many of them are a second.
_UNITS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds", "sekunden"), 1),
    **dict.fromkeys(("ms", "msec", "msecs", "millis", "millisecond", "milliseconds"), 1e3),
    **dict.fromkeys(("us", "usec", "usecs", "micros", "microsecond", "microseconds"), 1e6),
    **dict.fromkeys(("ns", "nsec", "nanos", "nanosecond", "nanoseconds"), 1e9),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), 1 / 60),
}
_NAMES = {
    1: "seconds",
    1e3: "milliseconds",
    1e6: "microseconds",
    1e9: "nanoseconds",
    1 / 60: "minutes",
}
_NOT_ALONE = ("s", "min", "from", "of", "mm", "start")  # as the whole name of a column
_NUMBERING = re.compile(
    r"|(unnamed: 0|index|n|no\.?|nr\.?|#|row|frame|samples?)( ?(#|index|n|no\.?|nr\.?|numbers?))?",
    re.I,
)
_EPOCH = (6e8, 5e9)  # s since 1970, for times of day
_LOWEST_RATE = 50  # Hz of times that name no unit and are taken as seconds without a word
# Steps of times that name no unit: up to which they are taken as what, None if that is a guess. Rates are
# between 50 Hz and 50 kHz then, and of two units one is far likelier.
_STEPS = ((1, 1), (20, 1e3), (1000, None), (20_000, 1e6), (1e6, None), (2e7, 1e9))
_LEAST_ROWS = 16  # that rise by one step, of what is no channel by its values alone
_NEAR = 1e-3  # share of a rate by which times that were rounded may be off
_AGREES = 0.01  # share of the usual step by which another one may be off
_MULTIPLE = 0.1  # as much where samples were lost, to a multiple of it
_MOST_DIGITS = 7  # after the point, of times in seconds
_USUAL = 0.9  # of all steps at least
DAY = 86_400.0  # s
CLOCK = "clock (s)"  # the name of a column of times of day, as seconds
_CLOCK = re.compile(
    r"\[?(?:(\d{4})[-/](\d\d?)[-/](\d\d?)[T ]+)?(?:(\d+):)?(\d\d?):(\d\d?(?:[.,]\d+)?)"
    r" ?(?:Z|UTC|[-+]\d\d:?\d\d)?\]?"
)


def clock(cell: str) -> float | None:
    """Return the seconds of a cell such as 00:00:00.002, 0:00.002 or 2024-01-01T00:00:00.002Z.

    None if it is none, also for 10:30, which may be minutes as well as hours.
    """
    match = _CLOCK.fullmatch(cell.strip(" \"'"))
    if match is None:
        return None
    year, month, day, hours, minutes, seconds = match.groups()
    if hours is None and (year or seconds.isdecimal()):
        return None
    try:
        days = date(int(year), int(month), int(day)).toordinal() if year else 0
    except ValueError:
        return None
    return (
        days * DAY + int(hours or 0) * 3600 + int(minutes) * 60 + float(seconds.replace(",", "."))
    )


def without_times(
    recording: Recording,
    where: str,
    most: float,
    *,
    rate: float | None = None,
    by_values: bool = True,
) -> Recording:
    """The recording without its column of times, whose rate it has, and without one of numbers.

    Samples that were lost by either are NaN. `rate`: in Hz, by the request, which tells the unit of times
    that name none. `by_values`: also a column that does not say so, with a notice.

    Raises BadRecording if times are not regular, or their unit can only be guessed.
    """
    if recording.samples.shape[1] < 2 or not len(recording.samples):
        return recording
    if (numbered := _numbered(recording, by_values)) is not None:
        recording = _unnumbered(recording, where, most, named=numbered)
    if recording.samples.shape[1] == 1 or len(recording.samples) < 2:
        column = _named(recording.channels)
        alone = recording.samples.shape[1] == 1
        return recording if alone or column is None else _dropped(recording, column)
    if (column := _named(recording.channels)) is not None:
        return _timed(recording, column, where, most, rate, said=True)
    if by_values and _rises(recording, 0):
        return _timed(recording, 0, where, most, rate, said=False)
    return recording


# ---------------------------------------------------------------- which column


def _words(name: str) -> list[str]:
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).replace("µ", "u").replace("μ", "u")
    return re.findall(r"[^\W\d_]+", name.casefold())


def _unit(name: str) -> float | None:
    """Return how many of the unit in a column's name are a second, None if it names none or several."""
    units = {_UNITS[word] for word in _words(name) if word in _UNITS}
    return units.pop() if len(units) == 1 else None


def _named(names: list[str] | None) -> int | None:
    """Return the column whose name says that it holds times; one called t only if it is the first."""
    for number, name in enumerate(names or []):
        words = _words(name)
        if not words or not all(word in _WORDS or word in _UNITS for word in words):
            continue
        if len(words) > 1 or (words[0] not in _NOT_ALONE and (words[0] != "t" or number == 0)):
            return number
    return None


def _rises(recording: Recording, column: int) -> bool:
    """Whether a column can be times by its values alone: it rises by one step, and no other does by the
    same, as all do in an array that counts on."""
    samples = recording.samples
    names = recording.channels
    if len(samples) < _LEAST_ROWS or (names and names[column].strip().upper() in POSITION):
        return False
    first = samples[:_LEAST_ROWS, column]
    if not (first[1:] > first[:-1]).all():
        return False
    with np.errstate(all="ignore"):
        steps = np.diff(samples, axis=0)
        usual = np.median(steps, axis=0)
        alike = np.abs(usual - usual[column]) <= _AGREES * abs(usual[column])
    return (
        bool((steps[:, column] > 0).all())
        and not any(
            (steps[:, other] > 0).all() for other in np.flatnonzero(alike) if other != column
        )
        and _places(samples[:, column]) is not None
    )


def _numbered(recording: Recording, by_values: bool) -> bool | None:
    """Whether the name of the first column says that it counts the samples; None if it does not count."""
    names, numbers = recording.channels, recording.samples[:, 0]
    if names and _NUMBERING.fullmatch(names[0].strip()):
        return True if _whole(numbers) else None
    if names and _named(names) == 0:
        return None
    counts = (
        by_values
        and _rises(recording, 0)
        and _whole(numbers)
        and bool((np.diff(numbers) == 1).all())
    )
    return False if counts else None


def _whole(numbers: np.ndarray) -> bool:
    with np.errstate(all="ignore"):
        return bool((numbers == np.round(numbers)).all() and (np.diff(numbers) > 0).all())


# ---------------------------------------------------------------- what it says


def _dropped(recording: Recording, column: int) -> Recording:
    names = recording.channels
    return replace(
        recording,
        samples=np.delete(recording.samples, column, axis=1),
        channels=names and [*names[:column], *names[column + 1 :]],
        units=recording.units and [*recording.units[:column], *recording.units[column + 1 :]],
    )


def _noticed(
    recording: Recording, message: str, grade: Callable[[str, str], Notice] = caution
) -> Recording:
    return replace(recording, warnings=[*recording.warnings, grade("times", message)])


def _called(recording: Recording, column: int) -> str:
    names = recording.channels
    return f"column {shown(names[column], 30)!r}" if names else f"column {column + 1}"


def _unnumbered(recording: Recording, where: str, most: float, *, named: bool) -> Recording:
    """The recording without a first column of the samples' numbers, by which some may be lost."""
    called, numbers = _called(recording, 0), recording.samples[:, 0].astype(np.float64)
    rest = _dropped(recording, 0)
    if not named:
        rest = _noticed(rest, f"{called} counts the samples, and is not used as a channel", note)
    if len(numbers) < 2:
        return rest
    if (places := _places(numbers)) is None:
        return _noticed(rest, f"the numbers in {called} are not regular: they are not used")
    return _on_grid(rest, places, where, most)


def _timed(
    recording: Recording,
    column: int,
    where: str,
    most: float,
    rate: float | None,
    *,
    said: bool,
) -> Recording:
    """The recording without a column of times, at their rate. `said`: by its name it holds them."""
    called, times = _called(recording, column), recording.samples[:, column].astype(np.float64)
    unit = _unit(recording.channels[column] if recording.channels else "")
    rest = _dropped(recording, column)
    scale = max(unit or 1, 1)
    with np.errstate(all="ignore"):
        slack = 2 * float(np.spacing(np.abs(recording.samples[:, column]).max())) / scale
    places = _places(times / scale, slack)
    if places is None:
        raise UnfitRecording(
            f"{where}: the times in {called} are not regular: resample the recording, or leave them out "
            f"and say its sampling rate (in a request by the header X-Sampling-Rate)"
        )
    step = (times[-1] - times[0]) / places[-1]
    if unit is None and (start := abs(times[0])) > _EPOCH[0]:
        unit = next((unit for unit in _NAMES if _EPOCH[0] <= start / unit <= _EPOCH[1]), None)
    guessed = unit is None
    if unit is None and rate is not None:
        unit = next((unit for unit in _NAMES if abs(unit / step - rate) <= _AGREES * rate), None)
        guessed = unit is None
    if guessed and rate is not None and not said:
        return _noticed(
            recording, f"{called} rises, but not at {rate:g} Hz: it is used as a channel"
        )
    rest = _on_grid(rest, places, where, most)
    if unit is None and step == 1 and _whole(times):
        return _noticed(
            rest, f"{called} counts 0, 1, 2 … and names no unit: it tells no sampling rate"
        )
    if unit is None:
        unit = next((unit for longest, unit in _STEPS if step < longest), None)
    if unit is None:
        if not said:
            message = f"{called} rises as times do, in no likely unit: it is used as a channel"
            return _noticed(recording, message)
        if rate is not None:
            raise UnfitRecording(
                f"{where}: the times in {called} have steps of {step:g}, which is {rate:g} Hz in no "
                f"unit: leave one of them out"
            )
        raise UnfitRecording(
            f"{where}: the times in {called} have steps of {step:g} and name no unit: call it time (ms), "
            f"for example, or say its sampling rate (in a request by the header X-Sampling-Rate)"
        )
    found = unit / step
    whole = round(found)
    found = float(whole if abs(found - whole) <= _NEAR * whole else found)
    if rate is not None and abs(found - rate) > _NEAR * rate:
        raise UnfitRecording(
            f"{where} says {found:g} Hz by the times in {called}, and {rate:g} Hz is said beside them: "
            f"leave one of them out"
        )
    found = found if rate is None else rate
    if not said or (guessed and (unit != 1 or found < _LOWEST_RATE)):
        why = "rises as times do" if not said else "names no unit"
        message = f"{called} {why}: it is taken as times in {_NAMES[unit]}, at {found:g} Hz"
        rest = _noticed(rest, message, caution if guessed else note)
    return replace(rest, sampling_rate=found)


# ---------------------------------------------------------------- a regular grid


def _places(times: np.ndarray, slack: float = 0) -> np.ndarray | None:
    """Return each time's (s) step of a regular grid, as floats from 0; None if they are on no grid.

    Nine of ten steps in time or more are the usual one, and others are multiples of it: there samples
    were lost. Or else the times of a regular grid were rounded, such as those of 360 Hz to milliseconds,
    or to single precision, by `slack`.
    """
    with np.errstate(all="ignore"):  # what overflows or is NaN is on no grid
        steps = np.diff(times)
        usual = np.median(steps)
        multiples = steps / usual
        duration = times[-1] - times[0]
    if not (usual > 0 and 0 < duration < np.inf):
        return None
    nearest = np.round(multiples)
    same = np.abs(multiples - 1) <= _AGREES
    lost = (nearest >= 1) & (np.abs(multiples - nearest) <= _MULTIPLE)
    if same.mean() >= _USUAL and (same | lost).all():
        return np.append(0, np.cumsum(nearest))
    places, step = np.arange(len(times), dtype=np.float64), duration / (len(times) - 1)
    off = np.abs(times - times[0] - places * step).max()
    rounding = max((1 + _AGREES) * _last_digit(times), slack)
    return places if off <= rounding and off < 0.5 * step else None


def _last_digit(times: np.ndarray) -> float:
    """Return the power of ten that times were rounded to, a second at most; 0 if they were not."""
    precision = 4 * np.spacing(np.abs(times).max())
    return next(
        (
            10.0**-digits
            for digits in range(_MOST_DIGITS)
            if np.abs(times - times.round(digits)).max() <= precision
        ),
        0.0,
    )


def _on_grid(recording: Recording, places: np.ndarray, where: str, most: float) -> Recording:
    """Put each row of samples at its step of the grid, and NaN at the steps between."""
    samples = recording.samples
    if places[-1] == len(samples) - 1:
        return recording
    length = int(places[-1]) + 1
    check_size(length * samples.shape[1], most, f"{where}, with the gaps in its times,")
    grid = np.full((length, samples.shape[1]), np.nan, samples.dtype)
    grid[places.astype(np.int64)] = samples
    message = (
        f"by the times of the recording {length - len(samples)} of {length} samples were lost: they "
        f"are missing"
    )
    return replace(
        recording, samples=grid, warnings=[*recording.warnings, caution("irregular", message)]
    )
