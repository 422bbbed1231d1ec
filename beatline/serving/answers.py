"""The answers: probabilities and decisions, or a score and where the error lies; and warnings."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from beatline.common.errors import listed, names_there_are, shown
from beatline.features.sound import FEATURES
from beatline.formats.recording import Notice, Recording, caution
from beatline.prediction import familiarity
from beatline.prediction.windows import averaged
from beatline.preprocessing.normalization import Normalization
from beatline.serving import explanation, preparation
from beatline.serving import model as models
from beatline.serving.explanation import METHOD, parts
from beatline.serving.model import Check, Model, Outputs, go_on
from beatline.serving.problems import too_large, unavailable, unfit
from beatline.serving.recording import Prepared
from beatline.serving.settings import Serve
from beatline.serving.uploads.checks import LARGEST

ERROR_PARTS = 250  # of the time, at most, with an error each
NAMED = 3  # channels, where the error is highest
SHOWN = 200_000  # samples times channels that are given back at most
ROWS_OF = ("binary", "multiclass")  # tasks of a table model


@dataclass(frozen=True)
class Observed:
    """What an answer rests on: `scores`, `decisions` `[K]`; the `embedding` `[D]` of the normalized
    recording; the `prepared` recording, None of a row; `features` measured of a sound, or of a row."""

    scores: np.ndarray
    decisions: np.ndarray
    embedding: np.ndarray
    features: dict[str, float | None] | None
    prepared: Prepared | None = None


Observe = Callable[[dict[str, Any], Observed], None]
"""Is called with an answer and what it rests on."""


def respond(
    model: Model,
    recording: Recording,
    *,
    explain: bool,
    with_recording: bool,
    limits: Serve,
    check: Check = go_on,
    see: Callable[[Prepared], Sequence[Notice]] = lambda _: (),
    observe: Observe | None = None,
) -> dict[str, Any]:
    """A model's answer about a recording. Raises Problem if it does not fit the model.

    `explain`: with which parts of the recording moved it; `with_recording`: with the recording as the
    model has seen it; `check`: called between the parts of the work, which ends if it raises; `see`:
    called with the prepared recording, and returns what else its sender should know; `observe`: called
    in the end.
    """
    dataset = model.model_info["dataset"]
    prepared = preparation.prepare(
        recording, dataset, shortest=model.length, whole=model.looks_at_whole, limits=limits
    )
    seen = see(prepared)
    signal = model.normalized(prepared.samples)
    outputs = model.outputs(signal, check)
    embedding = _embedding(model, signal, always=observe is not None)
    far = _far(model, signal, embedding)
    length = prepared.length  # beyond it a sound is repeated, which no answer covers
    answer = {
        "model": model.identity,
        **_decided(model, outputs, signal, length),
        "warnings": told([*prepared.notices, *([far] if far else []), *seen]),
    }
    if observe and embedding is not None:
        decisions = model.decide(outputs.values[None])[0]
        features = _features(model, prepared)
        observe(answer, Observed(outputs.values, decisions, embedding, features, prepared))
    if explain:
        answer["explanation"] = _explanation(model, signal, outputs, length, check)
    if with_recording:
        answer["recording"] = _recording(model, prepared.samples, signal, outputs, length)
    return answer


def _features(model: Model, prepared: Prepared) -> dict[str, float | None] | None:
    """Return what was measured of a sound, or the row that a recording is."""
    dataset = model.model_info["dataset"]
    if prepared.features is not None:
        return named(FEATURES, prepared.features)
    return named(dataset["channels"], prepared.samples[0]) if dataset["length"] == 1 else None


def named(names: Sequence[str], values: np.ndarray) -> dict[str, float | None]:
    """Return values by name, None for NaN."""
    pairs = zip(names, values.tolist(), strict=True)
    return {name: None if math.isnan(value) else value for name, value in pairs}


def respond_rows(
    model: Model, rows: object, limits: Serve, observe: Observe | None = None
) -> dict[str, Any] | list[Any]:
    """A model's answer about a row of features, or about each of several: parsed JSON, an object by
    feature name or a list of numbers in order, or a list of those; null is a missing value. `observe` is
    called for each row.

    Raises Problem if features are missing, unknown or no numbers, or rows are too many.
    """
    if model.task not in ROWS_OF or model.model_info["dataset"]["length"] != 1:
        raise unavailable(
            f"{model.dataset}/{model.name} is no classifier of rows: serve.features of params.yaml "
            f"must name one"
        )
    several = isinstance(rows, list) and bool(rows) and isinstance(rows[0], (list, dict))
    asked: Sequence[object] = rows if several and isinstance(rows, list) else [rows]
    if len(asked) > limits.max_rows:
        raise too_large(
            f"{len(asked)} rows are more than the {limits.max_rows} of one request: send them in parts"
        )
    names = model.model_info["dataset"]["channels"]
    table = np.array(
        [
            _row(row, names, f"row {number}" if several else "the body")
            for number, row in enumerate(asked, 1)
        ]
    )
    signals = model.normalization.apply(table[:, None, :])
    values, _ = model.run(signals)  # a row is one window
    answers = [
        _row_answer(model, *parts, observe)
        for parts in zip(values, model.decide(values), table, signals, strict=True)
    ]
    return answers if several else answers[0]


def _row(row: object, names: list[str], where: str) -> list[float]:
    """The features in order, NaN where one is missing."""
    if isinstance(row, dict):
        if unknown := [name for name in row if name not in names]:
            word = shown(unknown[0])
            raise unfit(f"{where} has an unknown feature {word!r}{names_there_are(word, names)}")
        if missing := [name for name in names if name not in row]:
            raise unfit(
                f"{where} lacks {listed(missing, NAMED)}: give null where a value is not known"
            )
        values = [row[name] for name in names]
    elif isinstance(row, list):
        if len(row) != len(names):
            raise unfit(f"{where} has {len(row)} values instead of the {len(names)} features")
        values = row
    else:
        raise unfit(f"{where} is neither an object by feature name nor a list of numbers")
    for name, value in zip(names, values, strict=True):
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if value is not None and not (number and abs(value) <= LARGEST):
            raise unfit(
                f"{where}: {name} is no number between -{LARGEST:g} and {LARGEST:g}, nor null"
            )
    if all(value is None for value in values):
        raise unfit(f"{where} has no value at all: give those that are known")
    return [float("nan") if value is None else float(value) for value in values]


def _row_answer(
    model: Model,
    values: np.ndarray,
    decisions: np.ndarray,
    row: np.ndarray,
    signal: np.ndarray,
    observe: Observe | None,
) -> dict[str, Any]:
    if model.task == "binary":
        predicted = int(decisions[0])
        probability = float(values[0]) if predicted else 1 - float(values[0])
        name = model.classes[0] if predicted else f"not {model.classes[0]}"
    else:
        predicted = int(decisions.argmax())
        probability, name = float(values[predicted]), model.classes[predicted]
    answer = {
        "predicted_class": predicted,
        "probability": probability,
        "class": name,
        "model": model.identity,
    }
    return _told_of_row(model, answer, values, decisions, row, signal, (), observe)


def respond_measured(
    model: Model,
    features: Mapping[str, float | None],
    notices: Sequence[Notice],
    observe: Observe | None = None,
) -> dict[str, Any]:
    """A detector's answer about a row of the features that it has learned from, None for a missing value;
    `notices` are told with its own. Raises Problem if the model is no detector of rows."""
    if not model.detects or model.model_info["dataset"]["length"] != 1:
        raise unavailable(
            f"{model.dataset}/{model.name} is no detector of rows: serve.machines of params.yaml must "
            f"name one"
        )
    names = model.model_info["dataset"]["channels"]
    row = np.array([features[name] for name in names], np.float64)  # None becomes NaN
    signal = model.normalized(row[None])
    values, _ = model.run(signal[None])
    decisions = model.decide(values)
    answer = {
        "score": float(values[0, 0]),
        "threshold": model.model_info["thresholds"][0],
        "anomaly": bool(decisions[0, 0]),
        "model": model.identity,
    }
    return _told_of_row(model, answer, values[0], decisions[0], row, signal, notices, observe)


def _told_of_row(
    model: Model,
    answer: dict[str, Any],
    values: np.ndarray,
    decisions: np.ndarray,
    row: np.ndarray,
    signal: np.ndarray,
    notices: Sequence[Notice],
    observe: Observe | None,
) -> dict[str, Any]:
    """Return the answer about a row `[C]`, normalized `[1, C]`, with what is odd about it."""
    embedding = _embedding(model, signal, always=observe is not None)
    answer["warnings"] = told([*notices, *_about_row(model, row, signal, embedding)])
    if observe and embedding is not None:
        features = named(model.model_info["dataset"]["channels"], row)
        observe(answer, Observed(values, decisions.astype(bool), embedding, features))
    return answer


def _about_row(
    model: Model, row: np.ndarray, signal: np.ndarray, embedding: np.ndarray | None
) -> list[Notice]:
    """Return what is odd about a row `[C]`, normalized `[1, C]`."""
    notices = []
    names = model.model_info["dataset"]["channels"]
    if unknown := [names[number] for number in np.flatnonzero(np.isnan(row))]:
        means = f"{listed(unknown, NAMED)}: what training rows have in the middle stands in"
        notices.append(caution("missing", f"without a value: {means}"))
    if far := _far(model, signal, embedding):
        notices.append(far)
    return notices


def _embedding(model: Model, signal: np.ndarray, *, always: bool) -> np.ndarray | None:
    """Return the features `[D]` that the distance of a normalized recording `[T, C]` is taken of; None
    if the model takes none, unless they are `always` wanted."""
    if model.familiarity is None and not always:
        return None
    return familiarity.features(signal, model.model_info["dataset"])


def _far(model: Model, signal: np.ndarray, embedding: np.ndarray | None) -> Notice | None:
    """A notice if a normalized recording `[T, C]` is far from those of the training: in amplitude, or
    in its embedding."""
    if notice := preparation.far(signal, model.model_info["dataset"]["typical"]):
        return notice
    known = model.familiarity
    if known is None or embedding is None:
        return None
    distance = float(known.distances(embedding))
    if not distance > known.threshold:
        return None
    means = "the answer may mean nothing"
    if model.detects:
        means = "it may be of another kind, and no anomaly"
    return caution(
        "unfamiliar",
        f"the recording is far from the training recordings (distance {distance:.3g}; "
        f"{familiarity.SHARE:.1%} of recordings like them are below {known.threshold:.3g}): {means}",
    )


def told(notices: Sequence[Notice]) -> list[dict[str, str]]:
    """Return notices as answers give them, cautions before notes."""
    return list(map(vars, sorted(notices, key=lambda notice: notice.grade != "caution")))


def _decided(model: Model, outputs: Outputs, signal: np.ndarray, length: int) -> dict[str, Any]:
    values = outputs.values.tolist()
    decisions = model.decide(outputs.values[None])[0]
    if model.detects:
        return {
            "score": values[0],
            "threshold": model.model_info["thresholds"][0],
            "anomaly": bool(decisions[0]),
            "error": _error(model, outputs, signal, length),
        }
    answer: dict[str, Any] = {"probabilities": dict(zip(model.classes, values, strict=True))}
    if model.task == "multiclass":
        predicted = int(decisions.argmax())
        return answer | {
            "predicted_class": predicted,
            "class": model.classes[predicted],
            "probability": values[predicted],
        }
    return answer | {
        "thresholds": models.thresholds(model),
        "decisions": dict(zip(model.classes, map(bool, decisions), strict=True)),
    }


def _error(model: Model, outputs: Outputs, signal: np.ndarray, length: int) -> dict[str, Any]:
    """Tell where in the first `length` steps a detector's score comes from: in time and channel if it is
    the error of a reconstruction, by window if it is a distance."""
    names = model.model_info["dataset"]["channels"]
    if outputs.reconstruction is None:
        begins = [start for start in outputs.starts if start < length]
        steps = [(start, min(start + model.length, length)) for start in begins]
        over_time = outputs.by_window[: len(begins), 0]
        highest_in: list[str] = []
        over_channels = None
    else:
        squared = np.square(_whole(outputs, signal) - signal)[:length]
        steps = parts(length, ERROR_PARTS)
        over_time = np.array([squared[begin:end].mean() for begin, end in steps])
        over_channels = dict(zip(names, squared.mean(axis=0).tolist(), strict=True))
        begin, end = steps[int(over_time.argmax())]
        order = squared[begin:end].mean(axis=0).argsort()[::-1]
        highest_in = [names[number] for number in order[:NAMED]]
    unit, start, end = _in_time(model, steps)
    highest = int(over_time.argmax())
    return {
        "measures": model.measures,
        "unit": unit,
        "over_time": {"start": start, "end": end, "value": over_time.tolist()},
        "over_channels": over_channels,
        "highest": {"start": start[highest], "end": end[highest], "channels": highest_in},
    }


def _whole(outputs: Outputs, signal: np.ndarray) -> np.ndarray:
    """The reconstruction `[T, C]` of a normalized recording from those of its windows: their mean where
    they overlap, the recording itself where none of them has looked."""
    assert outputs.reconstruction is not None
    whole = averaged(list(outputs.reconstruction), outputs.starts, len(signal))
    return np.where(np.isnan(whole), signal, whole)


def _in_time(model: Model, steps: list[tuple[int, int]]) -> tuple[str, list[float], list[float]]:
    """The unit of time, and where parts begin and end in it."""
    rate = model.model_info["dataset"]["sampling_rate"]
    begin, end = ([round(part[side] / (rate or 1), 6) for part in steps] for side in (0, 1))
    return "s" if rate else "step", begin, end


def _explanation(
    model: Model, signal: np.ndarray, outputs: Outputs, length: int, check: Check
) -> dict[str, Any]:
    explained = explanation.explain(model, signal, outputs, length, check)
    unit, start, end = _in_time(model, explained.steps)
    keys = ["score"] if model.detects else model.classes
    return {
        "method": METHOD,
        "unit": unit,
        "start": start,
        "end": end,
        "channels": explained.channels,
        "importance": {
            key: np.round(values, 6).tolist()
            for key, values in zip(keys, explained.importance, strict=True)
        },
    }


def _recording(
    model: Model, samples: np.ndarray, signal: np.ndarray, outputs: Outputs, length: int
) -> dict[str, Any]:
    """The first `length` steps as the model has seen them, in the data set's unit; of a very long
    recording the first part. `signal`: the normalized `samples`."""
    dataset = model.model_info["dataset"]
    steps = min(max(SHOWN // samples.shape[1], 1), length)
    reconstruction = None
    if outputs.reconstruction is not None:
        whole = _whole(outputs, signal)
        reconstruction = _numbers(model.normalization.undo(whole[:steps]), model.normalization)
    return {
        "channels": dataset["channels"],
        "sampling_rate": dataset["sampling_rate"],
        "unit": dataset["unit"],
        "drawing": dataset["drawing"],
        "samples": _numbers(samples[:steps], model.normalization),
        "reconstruction": reconstruction,
        "cut": length > steps,
    }


def _numbers(samples: np.ndarray, normalization: Normalization) -> list[list[float | None]]:
    """Round to what a drawing shows, 5 decimals and 4 of a channel's deviation at least; None where a
    sample is invalid."""
    rounded = samples.astype(object)
    for channel, deviation in enumerate(normalization.standard_deviation):
        decimals = max(5, 4 - math.floor(math.log10(deviation)))
        rounded[:, channel] = samples[:, channel].astype(np.float64).round(decimals)
    rounded[np.isnan(samples)] = None
    return rounded.tolist()
