"""What the log of answers holds, and how it stands in the rows of its tables."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import numpy as np
import orjson
from sqlalchemy import Row

Role = Literal["champion", "shadow"]
NORMAL, ANOMALY = "normal", "anomaly"  # what experts call what a detector has heard
FLOAT, BOOL = "<f4", "?"
EPOCH = datetime.fromtimestamp(0, UTC)
ROW_BYTES = (
    450  # about what a row and its entries in indexes take beside the arrays and texts in it
)
LEVEL = 1  # of compression: samples are noise for the most part


@dataclass(frozen=True)
class Answer:
    """An answer, a row of the table `answers`.

    `weights`: SHA-256 of the bundle's; `version`: of the registry, if it was served from there; `role`:
    ``shadow`` if another model's answer was given, and this one was to be compared; `scores` and
    `decisions` `[K]`: probabilities, or an anomaly score, and what was decided; `thresholds` `[K]`, None
    if the most probable class is decided; `warnings`: their codes; `seconds`: from the request to its
    answer; `embedding` `[D]`: :func:`beatline.prediction.familiarity.features` of the normalized
    recording; `features`: measured of a sound, or a row of a table; `entity`: a machine, or the pseudonym
    of a person; `beside`: of a shadow, the id of the answer that was given; `measured`: when the machine
    was that it is about, None if it is about none: who asks again what is stored measures nothing.
    """

    id: str
    moment: datetime
    dataset: str
    model: str
    weights: str
    version: str | None
    role: Role
    scores: np.ndarray
    decisions: np.ndarray
    warnings: list[str]
    seconds: float
    embedding: np.ndarray | None = None
    features: dict[str, float | None] | None = None
    entity: str | None = None
    thresholds: np.ndarray | None = None
    beside: str | None = None
    measured: datetime | None = None

    @property
    def subject(self) -> object:
        """What it is about: the same of several about what was measured once."""
        return self.id if self.measured is None else (self.entity, self.measured)


@dataclass(frozen=True)
class Feedback:
    """What experts say about an `answer`: the names of its classes that are true, for a detector
    ANOMALY or NORMAL."""

    answer: Answer
    moment: datetime
    labels: list[str]


@dataclass(frozen=True)
class Pair:
    """What a champion has said of a recording, what its challenger has said beside it, and what experts
    say, None if they have said nothing."""

    champion: Answer
    challenger: Answer
    labels: list[str] | None

    @property
    def weights(self) -> tuple[str, str]:
        return self.champion.weights, self.challenger.weights


@dataclass(frozen=True)
class KeptRecording:
    """`samples` `[T, C]` float32 in the data set's unit, before normalization; of a sound the waveform
    `[T, 1]` in full scale."""

    answer: str
    samples: np.ndarray
    channels: list[str]
    sampling_rate: float | None
    unit: str | None


def values(answer: Answer) -> dict[str, Any]:
    """Return an answer's row."""
    embedding, thresholds = answer.embedding, answer.thresholds
    row: dict[str, Any] = {
        "id": answer.id,
        "moment": microseconds(answer.moment),
        "dataset": answer.dataset,
        "model": answer.model,
        "weights": answer.weights,
        "version": answer.version,
        "role": answer.role,
        "scores": np.asarray(answer.scores, FLOAT).tobytes(),
        "decisions": np.asarray(answer.decisions, BOOL).tobytes(),
        "thresholds": None if thresholds is None else np.asarray(thresholds, FLOAT).tobytes(),
        "warnings": " ".join(answer.warnings),
        "seconds": answer.seconds,
        "embedding": None if embedding is None else np.asarray(embedding, FLOAT).tobytes(),
        "features": None if answer.features is None else orjson.dumps(answer.features).decode(),
        "entity": answer.entity,
        "beside": answer.beside,
        "measured": None if answer.measured is None else microseconds(answer.measured),
    }
    parts = (row[name] for name in ("scores", "embedding", "features"))
    return row | {"size": ROW_BYTES + sum(len(part) for part in parts if part is not None)}


def answer(row: Any) -> Answer:
    """Return the answer that a row holds."""
    return Answer(
        id=row.id,
        moment=moment(row.moment),
        dataset=row.dataset,
        model=row.model,
        weights=row.weights,
        version=row.version,
        role=row.role,
        scores=np.frombuffer(row.scores, FLOAT),
        decisions=np.frombuffer(row.decisions, BOOL),
        warnings=row.warnings.split(),
        seconds=row.seconds,
        embedding=None if row.embedding is None else np.frombuffer(row.embedding, FLOAT),
        features=None if row.features is None else orjson.loads(row.features),
        entity=row.entity,
        thresholds=None if row.thresholds is None else np.frombuffer(row.thresholds, FLOAT),
        beside=row.beside,
        measured=None if row.measured is None else moment(row.measured),
    )


def recording_values(kept: KeptRecording, moment: datetime) -> dict[str, Any]:
    """Return the row of a recording whose answer is of this moment."""
    samples = zlib.compress(np.asarray(kept.samples, FLOAT).tobytes(), LEVEL)
    return {
        "answer": kept.answer,
        "moment": microseconds(moment),
        "samples": samples,
        "channels": orjson.dumps(kept.channels).decode(),
        "sampling_rate": kept.sampling_rate,
        "unit": kept.unit,
        "size": ROW_BYTES + len(samples),
    }


def recording(row: Row[Any]) -> KeptRecording:
    """Return the recording that a row holds."""
    channels = orjson.loads(row.channels)
    samples = np.frombuffer(zlib.decompress(row.samples), FLOAT).reshape(-1, len(channels))
    return KeptRecording(row.answer, samples, channels, row.sampling_rate, row.unit)


def microseconds(moment: datetime) -> int:
    """Return a moment as tables hold it: since 1970-01-01 UTC. One without a time zone is of UTC."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - EPOCH) // timedelta(microseconds=1)


def moment(number: int) -> datetime:
    """Return the moment, in UTC, of so many microseconds since 1970-01-01."""
    return EPOCH + timedelta(microseconds=number)
