"""The answers of the API as its documentation describes them.

Answers are built as plain dictionaries and written by orjson, since validating them takes as long as
computing them; a test holds them to these models.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import orjson
from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

Absent = SkipJsonSchema[None]  # a key that is there on request only
Count = Annotated[int, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
Probabilities = dict[str, Probability]
Samples = list[list[float | None]]
Parts = Annotated[list[float], Field(max_length=250)]
Unit = Literal["s", "step"]
Measures = Literal["error", "distance"]
"""What an anomaly score is: the error of a reconstruction or the distance from normal recordings."""
Task = Literal["multilabel", "binary", "multiclass", "reconstruction", "neighbours"]
Class = Annotated[str, Field(alias="class")]
ANSWER_ID = "^[0-9a-f]{32}$"
AnswerId = Annotated[str, Field(pattern=ANSWER_ID)]


def as_json(content: object) -> bytes:
    """Write an answer, with arrays in any order of memory."""
    return orjson.dumps(content, np.ascontiguousarray, orjson.OPT_SERIALIZE_NUMPY)


class Object(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class ProblemDocument(Object):
    type: Literal["about:blank"]
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: str
    """The problem, and what to do about it."""


class Warning(Object):
    grade: Literal["caution", "note"]
    """`caution`: the answer may be wrong; look at the recording. `note`: something was done or assumed
    that does no harm. Cautions come first."""
    code: str
    """For programs."""
    message: str


class Registered(Object):
    """A version in the registry of models."""

    version: str
    alias: str
    """Whose version this was when it was loaded."""


class Identity(Object):
    dataset: str
    name: str
    task: Task
    simulated: bool
    """Trained on simulated recordings."""
    weights: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """SHA-256."""
    revision: str | None
    """The code that trained it, in Git."""
    registered: Registered | None
    """null: the model of this project, not one of the registry."""


class Explanation(Object):
    method: str
    unit: Unit
    start: list[float]
    end: list[float]
    channels: list[list[str]]
    importance: dict[str, list[list[float]]]
    """By how much a class, or the score, falls without each part in time of each group of channels."""


class Recording(Object):
    channels: list[str]
    sampling_rate: float | None
    unit: str
    drawing: str
    samples: Samples
    reconstruction: Samples | None
    cut: bool
    """Only the first part is given."""


class Answer(Object):
    model: Identity
    warnings: list[Warning]
    answer: AnswerId | Absent = None
    """By which experts' feedback finds it; there is none without a log of answers."""
    logged: bool | Absent = None
    """Whether it is in the log for certain; on request by `X-Wait-For-Log: 1`."""


class RecordingAnswer(Answer):
    explanation: Explanation | Absent = None
    recording: Recording | Absent = None


class LabelsAnswer(RecordingAnswer):
    probabilities: Probabilities
    thresholds: dict[str, float]
    decisions: dict[str, bool]


class ClassAnswer(RecordingAnswer):
    probabilities: Probabilities
    predicted_class: Count
    class_: Class
    probability: Probability


class Highest(Object):
    start: float
    end: float
    channels: list[str]


class Error(Object):
    measures: Measures
    unit: Unit
    over_time: dict[Literal["start", "end", "value"], Parts]
    over_channels: dict[str, float] | None
    highest: Highest


class AnomalyAnswer(RecordingAnswer):
    score: float
    threshold: float
    anomaly: bool
    error: Error


class RowAnswer(Answer):
    predicted_class: Count
    class_: Class
    probability: Probability


class MachineFeatures(Object):
    machine: str
    table: str
    event_timestamp: str
    """When they were measured, in UTC."""
    age_seconds: float
    features: dict[str, float | None]
    warnings: list[Warning]


class MachineAnswer(Answer):
    machine: str
    table: str
    event_timestamp: str
    """When the features were measured, in UTC."""
    age_seconds: float
    score: float
    threshold: float
    anomaly: bool


class Feedback(Object):
    answer: AnswerId
    labels: list[str]
    moment: str
    """When it was said, in UTC."""


class DetectorOfMachine(Object):
    dataset: str
    model: str
    moment: str
    """Of its newest answer, in UTC."""
    age_seconds: float
    score: float
    threshold: float | None
    """null: unknown."""
    anomaly: bool
    anomalies: Count
    """Of its last `answers`."""
    answers: Count
    alarm: bool
    """Whether an alarm is open: there are so many anomalies among its last answers."""


class Machine(Object):
    machine: str
    age_seconds: float
    """Of its newest answer."""
    open_alarms: Count
    detectors: list[DetectorOfMachine]
    features: dict[str, float | None] | None
    """Measured last; null: of its newest answers, none is of a sound or a row."""
    features_age_seconds: float | None


class Machines(Object):
    machines: list[Machine]
    """Those with an open alarm first."""
    left_out: Count
    """Further machines."""
    alarm: dict[Literal["anomalies", "answers"], Count]
    """An alarm is open while there are so many anomalies among the last answers."""


class Series(Object):
    """What a detector said of a machine, from the oldest to the newest."""

    dataset: str
    model: str
    moment: list[str]
    score: list[float]
    threshold: list[float | None]
    """That of the time."""
    anomaly: list[bool]
    answer: list[AnswerId]


class History(Object):
    machine: str
    series: list[Series]


class Input(Object):
    shape: tuple[Count, Count]
    shortest: Count
    whole: bool
    """Only recordings of one length are taken."""
    channels: list[str]
    sampling_rate: float | None
    unit: str | None
    drawing: str
    sound: dict[Literal["sampling_rate"], float] | None


class Available(Object):
    dataset: str
    name: str
    available: Literal[True]
    outdated: str | None
    """Why a newer bundle is not loaded."""
    title: str
    citation: str | None
    task: Task
    measures: Measures | None
    """null: no detector of anomalies."""
    classes: list[str]
    simulated: bool
    input: Input
    thresholds: dict[str, float] | None
    far_from: float | None
    """The distance to the training recordings beyond which an answer warns; null: it never does."""
    metrics: dict[str, dict[Literal["value", "low", "high"], float | None]] | None
    parameters: Count | None
    identity: dict[Literal["revision", "clean", "data", "code", "weights"], str | bool | None]
    registered: Registered | None


class Unavailable(Object):
    dataset: str
    name: str
    available: Literal[False]
    reason: str


class Example(Object):
    name: str
    record: str
    labels: list[str]
    sampling_rate: float | None
    unit: str | None
