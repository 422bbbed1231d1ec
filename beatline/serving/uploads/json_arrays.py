"""JSON: a bare array `[T][C]`, `[C][T]` or `[T]`, or an object with the signal and what is known of it.

``{"signal": [[...], ...] or {"I": [...], "II": [...]}, "sampling_rate": 500, "unit": "mV",
"channels": ["I", "II"]}``, of which only `signal` must be there. ``null`` marks a missing sample.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from itertools import chain
from typing import Any

import numpy as np
import orjson

from beatline.common.errors import listed, names_there_are, shown
from beatline.formats.recording import Recording
from beatline.serving.problems import malformed, too_large, unfit
from beatline.serving.settings import Serve
from beatline.serving.uploads.checks import check_size, two_dimensional
from beatline.serving.uploads.metadata import described, validated

KEYS = ("signal", "sampling_rate", "unit", "channels")
MOST_CHANNELS = 10_000  # with names
_NUMBERS = (int, float, type(None))
_KINDS = {str: "text", bool: "true or false", dict: "an object"}
_NAMES = 10_000  # commas, brackets and quotes that do not belong to the signal
_LITTLE = 100_000  # bytes that become little, whatever they are
_IN_A_LIST = 8  # values, at least, where there are many: a list takes the memory of as many


def read(content: bytes, where: str, limits: Serve) -> Recording:
    """The recording, float64, NaN where the signal is null.

    Raises Problem for what is no JSON, has unknown keys, is ragged, or holds anything but numbers.
    """
    check_numbers_fit(content, limits, where)
    document = _parsed(content, where)
    if isinstance(document, list):
        return Recording(_array(document, _only_numbers(content, 0), where))
    if not isinstance(document, dict):
        raise unfit(f"{where} is a single value: send an array of time steps x channels")
    _check_keys(document, where)
    signal, channels = document["signal"], document.get("channels")
    if isinstance(signal, dict):
        if channels is not None:
            raise unfit(f"{where} names its channels twice: leave out the key channels")
        samples = _by_name(signal, where)
        names = list(signal)
    else:
        strings = len(document) + ("unit" in document)
        strings += len(channels) if isinstance(channels, list) else 0
        samples = _array(signal, _only_numbers(content, 2 * strings), where)
        names = channels
    values = {name: document.get(name) for name in KEYS[1:]} | {"channels": names}
    metadata = validated(values, {name: f"{where}: {name}" for name in values})
    return described(Recording(samples), metadata, where)


def check_numbers_fit(content: bytes, limits: Serve, where: str) -> None:
    """Raise Problem if a text in JSON has more values, lists or names than one recording may have: before
    the parser makes objects of them, which take ten times the memory of the text and more."""
    if len(content) <= _LITTLE:
        return
    lists, most = content.count(b"["), limits.max_values // _IN_A_LIST + _NAMES
    check_size(max(content.count(b","), lists) - _NAMES, limits, where)
    if lists > most:
        raise too_large(
            f"{where} has {lists:,} lists, more than {most:,}: send the samples of a channel in one list"
        )
    if max(content.count(b'"') // 2, content.count(b"{")) > MOST_CHANNELS + _NAMES:
        raise too_large(
            f"{where} has more texts or objects than a recording of {MOST_CHANNELS:,} channels can "
            f"have: send fewer"
        )


def _parsed(content: bytes, where: str) -> Any:
    try:
        return orjson.loads(content.removeprefix(BOM_UTF8))
    except orjson.JSONDecodeError as error:
        raise malformed(
            f"{where} is no JSON ({shown(str(error), 120)}): a missing sample is null, NaN is not "
            f"allowed"
        ) from None


def _check_keys(document: dict[str, Any], where: str) -> None:
    unknown = [shown(key) for key in document if key not in KEYS]
    if unknown:
        there = names_there_are(unknown[0], KEYS)
        row = (
            "" if "signal" in document else " (a row of features goes to /predict, not to a model)"
        )
        raise unfit(f"{where} has the unknown key {unknown[0]!r}{there}{row}")
    if "signal" not in document:
        raise unfit(f"{where} has no key signal: put the array of samples there")


def _by_name(signal: dict[str, Any], where: str) -> np.ndarray:
    """`[T, C]` of an object with a list of samples per channel."""
    if len(signal) > MOST_CHANNELS:
        raise too_large(f"{where}: signal has more than {MOST_CHANNELS:,} channels: send fewer")
    odd = [name for name, samples in signal.items() if not isinstance(samples, list)]
    if odd or not signal:
        raise unfit(
            f"{where}: signal: {listed(odd) or 'the object'} holds no list of samples: send one "
            f"for each channel"
        )
    lengths = {len(samples) for samples in signal.values()}
    if len(lengths) > 1:
        raise unfit(
            f"{where}: signal: the channels have {min(lengths)} to {max(lengths)} samples: send as "
            f"many of each"
        )
    if any(isinstance(value, list) for samples in signal.values() for value in samples[:1]):
        raise unfit(f"{where}: signal: a channel is no list of numbers: send one for each channel")
    return _array(list(signal.values()), False, where).T


def _only_numbers(content: bytes, quotes: int) -> bool:
    """Whether nothing in the signal can be text, true or false: all `quotes` are around what is
    known. Looking at the bytes costs a tenth of looking at the objects."""
    return content.count(b'"') == quotes and b"true" not in content and b"false" not in content


def _array(nested: Any, only_numbers: bool, where: str) -> np.ndarray:
    """`[T, C]` float64 of nested lists. `only_numbers`: what is no list is known to be a number,
    null or an object.

    Raises Problem if the lists are ragged or hold anything but numbers and null.
    """
    if not isinstance(nested, list):
        raise unfit(f"{where}: signal is no array: send time steps x channels")
    return two_dimensional(numbers(nested, where, only_numbers), where)


def numbers(nested: list[Any], where: str, only_numbers: bool = False) -> np.ndarray:
    """Return nested lists of numbers and null as an array of float64. Raises Problem if they are ragged
    or hold anything else, which they do not if there are `only_numbers`."""
    if not only_numbers:
        _check_numbers(nested, where)
    try:
        return np.array(nested, dtype=np.float64)
    except (ValueError, TypeError, OverflowError):
        _check_numbers(nested, where)
        raise unfit(
            f"{where}: the rows of the array are not equally long: send as many values in each"
        ) from None


def _check_numbers(nested: list[Any], where: str) -> None:
    level = nested
    while level:
        for kind in set(map(type, level)) - {list}:
            if kind not in _NUMBERS:
                raise unfit(
                    f"{where}: the array holds {_KINDS.get(kind, kind.__name__)}: send numbers, and "
                    f"null for a missing sample"
                )
        level = list(chain.from_iterable(part for part in level if type(part) is list))
