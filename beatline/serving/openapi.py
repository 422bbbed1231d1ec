"""The OpenAPI document of the API: what it takes and gives, as JSON Schema.

It is written out rather than derived from handlers, since bodies are read by the readers of many formats.
A test drives the API with data made from it and holds every answer against it.
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from beatline.serving.problems import MEDIA_TYPE
from beatline.serving.requests import MAX_FILES, MULTIPART
from beatline.serving.settings import Serve
from beatline.serving.uploads.raw_float32 import SHAPE

if TYPE_CHECKING:
    from beatline.serving.model import Model

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
NUMBER: Schema = {"type": "number"}
COUNT: Schema = {"type": "integer", "minimum": 0}
PROBABILITY: Schema = {"type": "number", "minimum": 0, "maximum": 1}
BYTES: Schema = {"type": "string", "contentMediaType": "application/octet-stream"}
# What is beyond is no measurement.
SAMPLE: Schema = {"type": ["number", "null"], "minimum": -1e12, "maximum": 1e12}
RATE: Schema = {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1e9}  # Hz

SHAPES: Schema = {"type": "string", "pattern": SHAPE}
UNIT_NAME: Schema = {"type": "string", "minLength": 1, "maxLength": 32}
NAMES: Schema = {"type": "string", "minLength": 1}
RECORDINGS, ROWS, MODELS, SERVER = "Recordings", "Rows of features", "Models", "Server"  # tags

DESCRIPTION = """Recordings in, answers of trained models out. **No medical device.**

Mistakes are told as problem documents (RFC 9457): their `detail` says what is wrong and what to do.

A recording is brought to what the model was trained on: channels are put in order by name, units and
sampling rates converted. What does not fit is refused with the reason; what is doubtful is answered, with
`warnings`."""


def _list(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items, **more}


def _map(values: Schema, **more: Any) -> Schema:
    """By a name, such as that of a class."""
    return {"type": "object", "additionalProperties": values, **more}


def _object(properties: dict[str, Schema], optional: tuple[str, ...] = ()) -> Schema:
    """With these keys and no other."""
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _one_of(*values: str | bool) -> Schema:
    return {"type": "boolean" if isinstance(values[0], bool) else "string", "enum": list(values)}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


SERIES = _list(SAMPLE, minItems=1)
UNIT = _one_of("s", "step")
ANSWER: dict[str, Schema] = {  # what all answers have
    "model": _ref("Identity"),
    "warnings": _list(_ref("Warning")),
    "explanation": _ref("Explanation"),
    "recording": _ref("Recording"),
}
ON_REQUEST = ("explanation", "recording")
SCHEMAS: dict[str, Schema] = {
    "Problem": _object(
        {
            "type": _one_of("about:blank"),
            "title": TEXT,
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "detail": TEXT | {"description": "What is wrong, and what to do."},
        }
    ),
    "Health": _object({"status": _one_of("healthy")}),
    "Warning": _object({"code": TEXT | {"description": "For programs."}, "message": TEXT}),
    "Identity": _object(
        {
            "dataset": TEXT,
            "name": TEXT,
            "task": _ref("Task"),
            "simulated": FLAG | {"description": "Trained on simulated recordings."},
            "weights": TEXT | {"pattern": "^[0-9a-f]{64}$", "description": "SHA-256."},
            "revision": _or_null(TEXT | {"description": "Of the code that trained it, in Git."}),
        }
    ),
    "Task": _one_of("multilabel", "binary", "multiclass", "reconstruction", "neighbours"),
    "Explanation": _object(
        {
            "method": TEXT,
            "unit": UNIT,
            "start": _list(NUMBER),
            "end": _list(NUMBER),
            "channels": _list(_list(TEXT)),
            "importance": _map(_list(_list(NUMBER)))
            | {
                "description": "Of each part in time and group of channels, by class, or of the "
                "score: by how much the answer falls without it."
            },
        }
    ),
    "Recording": _object(
        {
            "channels": _list(TEXT),
            "sampling_rate": _or_null(NUMBER),
            "unit": TEXT,
            "drawing": TEXT,
            "samples": _list(_list(_or_null(NUMBER))),
            "reconstruction": _or_null(_list(_list(_or_null(NUMBER)))),
            "cut": FLAG | {"description": "Only the first part is given."},
        }
    ),
    "LabelsAnswer": _object(
        {
            **ANSWER,
            "probabilities": _map(PROBABILITY),
            "thresholds": _map(NUMBER),
            "decisions": _map(FLAG),
        },
        ON_REQUEST,
    ),
    "ClassAnswer": _object(
        {
            **ANSWER,
            "probabilities": _map(PROBABILITY),
            "predicted_class": COUNT,
            "class": TEXT,
            "probability": PROBABILITY,
        },
        ON_REQUEST,
    ),
    "AnomalyAnswer": _object(
        {**ANSWER, "score": NUMBER, "threshold": NUMBER, "anomaly": FLAG, "error": _ref("Error")},
        ON_REQUEST,
    ),
    "Error": _object(
        {
            "unit": UNIT,
            "over_time": _object(
                dict.fromkeys(("start", "end", "value"), _list(NUMBER, maxItems=250))
            ),
            "over_channels": _or_null(_map(NUMBER)),
            "highest": _object({"start": NUMBER, "end": NUMBER, "channels": _list(TEXT)}),
        }
    ),
    "RowAnswer": _object(
        {
            "predicted_class": COUNT,
            "probability": PROBABILITY,
            "class": TEXT,
            "model": _ref("Identity"),
            "warnings": _list(_ref("Warning")),
        }
    ),
    "Signal": _object(
        {
            "signal": {
                "anyOf": [SERIES, _list(SERIES, minItems=1), _map(SERIES, minProperties=1)],
                "description": "Time steps of one channel, time steps of lists of channels, or "
                "channels by name. null is a missing sample.",
            },
            "sampling_rate": _or_null(RATE),
            "unit": _or_null(UNIT_NAME),
            "channels": _or_null(_list(TEXT, minItems=1)),
        },
        ("sampling_rate", "unit", "channels"),
    ),
    "Available": _object(
        {
            "dataset": TEXT,
            "name": TEXT,
            "available": _one_of(True),
            "outdated": _or_null(TEXT) | {"description": "Why a newer bundle is not loaded."},
            "title": TEXT,
            "citation": TEXT,
            "task": _ref("Task"),
            "classes": _list(TEXT),
            "simulated": FLAG,
            "input": _object(
                {
                    "shape": _list(COUNT, minItems=2, maxItems=2),
                    "shortest": COUNT,
                    "whole": FLAG | {"description": "Only recordings of one length are taken."},
                    "channels": _list(TEXT),
                    "sampling_rate": _or_null(NUMBER),
                    "unit": _or_null(TEXT),
                    "drawing": TEXT,
                    "sound": _or_null(_object({"sampling_rate": NUMBER})),
                }
            ),
            "thresholds": _or_null(_map(NUMBER)),
            "metrics": _or_null(
                _map(_object(dict.fromkeys(("value", "low", "high"), _or_null(NUMBER))))
            ),
            "parameters": COUNT,
            "identity": _object(
                {
                    "revision": _or_null(TEXT),
                    "clean": _or_null(FLAG),
                    "data": TEXT,
                    "code": TEXT,
                    "weights": TEXT,
                }
            ),
        }
    ),
    "Unavailable": _object(
        {"dataset": TEXT, "name": TEXT, "available": _one_of(False), "reason": TEXT}
    ),
    "Models": _object(
        {"models": _list({"anyOf": [_ref("Available"), _ref("Unavailable")]})},
    ),
    "Examples": _object(
        {
            "examples": _list(
                _object(
                    {
                        "name": TEXT,
                        "record": TEXT,
                        "labels": _list(TEXT),
                        "sampling_rate": _or_null(NUMBER),
                        "unit": _or_null(TEXT),
                    }
                )
            )
        }
    ),
}
REASONS = {
    HTTPStatus.BAD_REQUEST: "The body is malformed.",
    HTTPStatus.NOT_FOUND: "There is no such model, or no such example.",
    HTTPStatus.REQUEST_TIMEOUT: "The body arrived too slowly.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body, or what it unpacks to, is too large.",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "The format is not known.",
    HTTPStatus.UNPROCESSABLE_ENTITY: "What was sent does not fit the model, or a parameter is wrong.",
    HTTPStatus.SERVICE_UNAVAILABLE: "The model is not loaded yet, or the server is too busy.",
}
OF_BODIES = (400, 408, 413, 415)


def document(limits: Serve, wanted: Sequence[str], features: Model | None) -> dict[str, Any]:
    """The document for the models `wanted` (``<data set>/<model>``). `features`: the model of a table
    that is loaded, whose features are named."""
    predict, examples = "/models/{dataset}/{model}/predict", "/models/{dataset}/{model}/examples"
    model = _model_parameters(wanted)
    paths: Schema = {
        predict: {"post": _predict_recording(limits, model)},
        "/models": {"get": _get(MODELS, "List the models.", "Models", (422,))},
        examples: {
            "parameters": model,
            "get": _get(
                MODELS, "List test recordings to try a model on.", "Examples", (404, 422, 503)
            ),
        },
        f"{examples}/{{name}}": {
            "parameters": [*model, _path("name", TEXT | {"minLength": 1}, "1")],
            "get": _get(
                MODELS,
                "A test recording as an NPY file, ready to be sent to its model.",
                {"application/x-npy": {}},
                (404, 422, 503),
            ),
        },
        "/health": {"get": _get(SERVER, "Can models answer?", "Health", (422, 503))},
        "/metrics": {
            "get": _get(
                SERVER, "Metrics for Prometheus.", {"text/plain": {"schema": TEXT}}, (422, 503)
            )
        },
    }
    if limits.features:
        paths["/predict"] = {"post": _predict_rows(limits, features)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Beatline", "version": "1", "description": DESCRIPTION},
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "responses": {str(int(status)): _problem(status) for status in REASONS},
        },
    }


def _model_parameters(wanted: Sequence[str]) -> list[Schema]:
    """The names of a data set and a model. Not each of the models is there for each data set."""
    datasets, models = zip(*(key.split("/") for key in wanted), strict=True)
    return [
        _path("dataset", _one_of(*dict.fromkeys(datasets)), datasets[0]),
        _path("model", _one_of(*dict.fromkeys(models)), models[0]),
    ]


def _path(name: str, schema: Schema, example: str) -> Schema:
    return {"name": name, "in": "path", "required": True, "schema": schema, "example": example}


def _problem(status: HTTPStatus) -> Schema:
    content = {MEDIA_TYPE: {"schema": _ref("Problem")}}
    found: Schema = {"description": REASONS[status], "content": content}
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        found["headers"] = {"Retry-After": {"schema": COUNT, "description": "Seconds."}}
    return found


def _get(tag: str, summary: str, answer: str | Schema, problems: tuple[int, ...]) -> Schema:
    return {"tags": [tag], "summary": summary, "responses": _responses(answer, problems)}


def _responses(answer: str | Schema, problems: tuple[int, ...]) -> Schema:
    """`answer`: the name of a schema, or content by media type."""
    if isinstance(answer, str):
        answer = {"application/json": {"schema": _ref(answer)}}
    responses: Schema = {"200": {"description": "The answer.", "content": answer}}
    for status in problems:
        responses[str(status)] = {"$ref": f"#/components/responses/{status}"}
    return responses


def _predict_recording(limits: Serve, model: list[Schema]) -> Schema:
    answers = ("LabelsAnswer", "ClassAnswer", "AnomalyAnswer")
    answer = {"application/json": {"schema": {"anyOf": list(map(_ref, answers))}}}
    return {
        "summary": "A model's answer about a recording.",
        "tags": [RECORDINGS],
        "description": f"The body is one recording of at most {limits.max_megabytes:g} MB and "
        f"{limits.max_values:,} values. Where its file does not hold them, the sampling rate, the unit "
        "and the names of the channels are told by headers; without these, unit and order of channels "
        "are taken to be those of the training. So is the sampling rate if the recording is as long as "
        "those of the training; otherwise, and for sound, it must be said.",
        "parameters": [
            *model,
            _flag("explain", "Also tell which parts of the recording moved the answer (slower)."),
            _flag("recording", "Also give the recording as the model looked at it."),
            _header("X-Shape", "Of raw float32: 1000,12 (time steps, channels)", SHAPES),
            _header("X-Sampling-Rate", "In Hz: 500", RATE),
            _header("X-Unit", "Of all channels: uV", UNIT_NAME),
            _header("X-Channels", "Names in the order of the body: I,II,III", NAMES),
        ],
        "requestBody": {"required": True, "content": _formats()},
        "responses": _responses(answer, (404, *OF_BODIES, 422, 503)),
    }


def _flag(name: str, description: str) -> Schema:
    schema = FLAG | {"default": False}
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _header(name: str, description: str, schema: Schema) -> Schema:
    return {"name": name, "in": "header", "description": description, "schema": schema}


def _formats() -> Schema:
    """Content of a recording, by media type."""
    samples = {
        "anyOf": [SERIES, _list(SERIES, minItems=1), _ref("Signal")],
        "description": "Time steps of one channel, time steps of lists of channels, or an object.",
    }
    names = {
        "application/octet-stream": "With X-Shape: float32, little-endian, channels of a time step side "
        "by side. Without: any of the other formats, told by its first bytes.",
        "application/x-npy": "An array of numbers [time steps, channels] as NumPy saves it.",
        "text/csv": "A line per time step, with or without a line of channel names.",
        "application/zip": "A WFDB record: its header and its signal files.",
        "audio/wav": "Sound, for models of sound.",
        "audio/flac": "Sound, for models of sound.",
        "audio/ogg": "Sound, for models of sound.",
        "audio/mpeg": "Sound, for models of sound.",
        "image/png": "A drawn digit, for models of digits.",
        "image/jpeg": "A drawn digit, for models of digits.",
    }
    files = _object({"files": _list(BYTES, minItems=1, maxItems=MAX_FILES)})
    return {
        "application/json": {
            "schema": samples,
            "example": {"signal": [[0.1, 0.2], [0.3, None]], "sampling_rate": 100, "unit": "mV"},
        },
        **{name: {"schema": BYTES | {"description": told}} for name, told in names.items()},
        MULTIPART: {
            "schema": files
            | {"description": "The files of one recording, such as a WFDB header and its signals."}
        },
    }


def _predict_rows(limits: Serve, features: Model | None) -> Schema:
    row, example = _row(features)
    rows = _list({"anyOf": row}, minItems=1, maxItems=limits.max_rows)
    answer = {
        "anyOf": [_ref("RowAnswer"), _list(_ref("RowAnswer"), minItems=1)],
        "description": "A list if several rows were sent.",
    }
    return {
        "summary": "The class of a row of features, or of several.",
        "tags": [ROWS],
        "description": f"Answered by the model {limits.features}. A row is an object by feature name or "
        "a list in the order of the features; null is a missing value.",
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": {"anyOf": [*row, rows]}, "example": example}
            },
        },
        "responses": _responses({"application/json": {"schema": answer}}, (*OF_BODIES, 422, 503)),
    }


def _row(features: Model | None) -> tuple[list[Schema], Any]:
    """Schemas of a row by names and in order, and an example."""
    if features is None:
        return [_map(SAMPLE, minProperties=1), SERIES], {"heart_rate": 71.5}
    names = features.description["dataset"]["channels"]
    means = features.description["normalization"]["mean"]
    by_name = _object(dict.fromkeys(names, SAMPLE))
    in_order = _list(SAMPLE, minItems=len(names), maxItems=len(names))
    return [by_name, in_order], dict(
        zip(names, (float(f"{mean:.4g}") for mean in means), strict=True)
    )
