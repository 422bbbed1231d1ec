"""The parts of the OpenAPI document that FastAPI cannot derive: bodies in many formats, which the
readers of uploads check, problem documents, and what depends on the models of this server."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from fastapi import FastAPI

from beatline.serving import answer_log, examples, feedback, machines
from beatline.serving.problems import MEDIA_TYPE
from beatline.serving.requests import MAX_FILES, MULTIPART
from beatline.serving.responses import ANSWER_ID, ProblemDocument
from beatline.serving.settings import Serve
from beatline.serving.tokens import OPEN, Tokens
from beatline.serving.uploads.raw_float32 import SHAPE

if TYPE_CHECKING:
    from beatline.serving.model import Model
    from beatline.serving.registry import Registry

Schema = dict[str, Any]

DESCRIPTION = """Recordings in, answers of trained models out. **No medical device.**

Mistakes are told as problem documents (RFC 9457), the same from every operation: their `detail` says what
is wrong and what to do.

A recording is brought to what the model was trained on: channels are put in order by name, units and
sampling rates converted. What does not fit is refused with the reason; what is doubtful is answered, with
`warnings`: a `caution` where the answer may be wrong, a `note` of what was done without harm.

Every answer has the header `X-Request-ID`: the one that the request came with, or a new one. By
`X-Source`, requests are counted apart for the sources that the operator has named.

Under `v2` the same models answer by the
[Open Inference Protocol](https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol),
which has a document of its own."""
REASONS = {
    400: ("Malformed", "The body is malformed."),
    401: ("Unauthorized", "A token is needed, and none or another was sent."),
    404: ("Unknown", "There is no such model, example, machine or answer."),
    408: ("TooSlow", "The body arrived too slowly."),
    413: ("TooLarge", "The body, or what it unpacks to, is too large."),
    415: ("UnknownFormat", "The format is not known."),
    422: ("Unfit", "What was sent does not fit the model, or a parameter is wrong."),
    429: ("TooMany", "Too many requests come from the client's address."),
    503: ("Unavailable", "The model is not loaded yet, or the server is too busy."),
}
BEARER = "token"  # the name of the scheme
# What is beyond is no measurement.
SAMPLE: Schema = {"type": ["number", "null"], "minimum": -1e12, "maximum": 1e12}
RATE: Schema = {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1e9}  # Hz
UNIT: Schema = {"type": "string", "minLength": 1, "maxLength": 32}
TEXT: Schema = {"type": "string", "minLength": 1}
FILE: Schema = {"type": "string", "contentMediaType": "application/octet-stream"}
FORMATS = {
    "application/octet-stream": "With X-Shape: float32, little-endian, channels of a time step side by "
    "side. Without: any of the other formats, told by its first bytes.",
    "application/x-npy": "An array of numbers [time steps, channels] as NumPy saves it.",
    "text/csv": "A line per time step, with or without a line of channel names.",
    "application/dicom": "An ECG as a DICOM waveform.",
    "application/xml": "An ECG as HL7 aECG, or in the XML of GE MUSE, Philips or Mortara.",
    "application/edf": "EDF, EDF+, BDF or BDF+, without interruptions.",
    "application/x-matlab-data": "A matrix `val` of a row per channel.",
    "application/zip": "A WFDB record: its header and its signal files; or one file of another format.",
    **{f"audio/{name}": "Sound, for models of sound." for name in ("wav", "flac", "ogg", "mpeg")},
    **{f"image/{name}": "A drawn digit, for models of digits." for name in ("png", "jpeg")},
}
EXAMPLE: Schema = {
    "description": "The recording.",
    "content": {"application/json": {"schema": {"type": "object"}}},
}
HEADERS: dict[str, tuple[str, Schema]] = {
    "X-Shape": (
        "Of raw float32: 1000,12 (time steps, channels)",
        {"type": "string", "pattern": SHAPE},
    ),
    "X-Sampling-Rate": ("In Hz: 500", RATE),
    "X-Unit": ("Of all channels: uV", UNIT),
    machines.HEADER: (
        "Of sound: whose it is. Its features go to the feature store, if there is one",
        {"type": "string", "pattern": machines.ID},
    ),
    "X-Channels": ("Names in the order of the body: I,II,III", TEXT),
}
LOG_HEADERS: list[Schema] = [
    {
        "name": answer_log.ENTITY,
        "in": "header",
        "description": "Whose it is, by a pseudonym: never a name. It stands in the log of answers, if "
        "there is one, and all of an entity can be erased there",
        "schema": {"type": "string", "pattern": machines.ID},
    },
    {
        "name": answer_log.WAIT,
        "in": "header",
        "description": "1: answer when that is in the log for certain (`logged` true), or not known to "
        "be within a second (false)",
        "schema": {"type": "string", "enum": ["0", "1"]},
    },
]


def problems(*statuses: int) -> dict[int | str, Schema]:
    """The responses of these statuses, which :func:`document` describes once for all operations."""
    return {status: {"description": REASONS[status][1]} for status in statuses}


def _problem_responses(statuses: Collection[int]) -> Schema:
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}}
    retry = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}}
    challenge = {"WWW-Authenticate": {"schema": {"type": "string"}}}
    headers = {401: challenge, 429: retry, 503: retry}
    return {
        name: {"description": reason, "content": content, "headers": headers.get(status, {})}
        for status, (name, reason) in REASONS.items()
        if status in statuses
    }


def _guard(paths: Schema, limits: Serve, tokens: Tokens) -> bool:
    """Say of operations where they need a token and may be asked for too often; whether any needs one."""
    guarded = False
    for path, (operation,) in ((path, methods.values()) for path, methods in paths.items()):
        if OPEN.fullmatch(path):
            continue
        responses = operation["responses"]
        if limits.requests_per_second is not None:
            responses |= problems(429)
        names = {parameter["name"] for parameter in operation.get("parameters", [])}
        if (needed := tokens.needed_for(path, names)) is not None:
            responses |= problems(401)
            operation["security"] = [{BEARER: []}] if needed else [{}, {BEARER: []}]
            guarded = True
    return guarded


def recording_body(limits: Serve) -> Schema:
    """The body of a recording in all its formats, and the headers that describe it."""
    series = _list(SAMPLE)
    signal = {
        "anyOf": [series, _list(series), _by_name(series)],
        "description": "Time steps of one channel, time steps of lists of channels, or channels by "
        "name. null is a missing sample.",
    }
    known = {"sampling_rate": RATE, "unit": UNIT, "channels": _list({"type": "string"})}
    optional = {name: {"anyOf": [schema, {"type": "null"}]} for name, schema in known.items()}
    described = _object({"signal": signal, **optional}, ["signal"])
    files = _object({"files": _list(FILE, maxItems=MAX_FILES)}, ["files"])
    bodies: Schema = {
        "application/json": {
            "schema": {"anyOf": [series, _list(series), described]},
        },
        **{name: {"schema": FILE | {"description": text}} for name, text in FORMATS.items()},
        MULTIPART: {
            "schema": files
            | {"description": "One recording's files: a WFDB header and its signals."}
        },
    }
    return {
        "description": f"The body is one recording of at most {limits.max_megabytes:g} MB and "
        f"{limits.max_values:,} values. Where its file does not hold them, the sampling rate, the unit "
        "and the names of the channels are told by headers; without these, unit and order of channels "
        "are taken to be those of the training. So is the sampling rate if the recording is as long as "
        "those of the training; otherwise, and for sound, it must be said.",
        "requestBody": {"required": True, "content": bodies},
        "parameters": [
            {"name": name, "in": "header", "description": description, "schema": schema}
            for name, (description, schema) in HEADERS.items()
        ]
        + LOG_HEADERS,
    }


def rows_body(
    limits: Serve, features: Model | None = None, real: Mapping[str, Any] | None = None
) -> Schema:
    """The body of a row of features or of several, with their names if a model is loaded, and a `real`
    row if there is one."""
    row, example = [_by_name(SAMPLE), _list(SAMPLE)], {"heart_rate": 71.5}
    if features is not None:
        names = features.model_info["dataset"]["channels"]
        means = features.model_info["normalization"]["mean"]
        in_order = _list(SAMPLE, minItems=len(names), maxItems=len(names))
        row = [_object(dict.fromkeys(names, SAMPLE), names), in_order]
        example = _plain(real or dict(zip(names, means, strict=True)))
    schema = {"anyOf": [*row, _list({"anyOf": row}, maxItems=limits.max_rows)]}
    return {
        "description": f"Answered by the model {limits.features}. A row is an object by feature name or "
        "a list in the order of the features; null is a missing value. A list of rows is answered by a "
        "list.",
        "parameters": LOG_HEADERS,
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": schema, "example": example}},
        },
    }


def feedback_body() -> Schema:
    """The body of feedback on an answer, or on several."""
    names = {"type": "array", "items": {"type": "string"}, "uniqueItems": True}
    answer = {"type": "string", "pattern": ANSWER_ID}
    entry = _object({"answer": answer, "labels": names}, feedback.KEYS)
    schema = {"anyOf": [entry, _list(entry, maxItems=feedback.MOST)]}
    example = {"answer": "0123456789abcdef0123456789abcdef", "labels": ["NORM"]}
    return {
        "description": "`answer` is the id that the answer came with, `labels` the names of the classes "
        "that are true: one of exclusive classes, `anomaly` or `normal` for a detector. Of a list all is "
        "written or nothing.",
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": schema, "example": example}},
        },
    }


def document(app: FastAPI, limits: Serve, registry: Registry, root: Path, tokens: Tokens) -> Schema:
    """FastAPI's own document, with the data sets and models that can be chosen from, the features of the
    model of a table if it is loaded, the project's own recordings as examples, and what the server is
    guarded by."""
    with warnings.catch_warnings(action="ignore"):  # HEAD has the operation id of its GET
        schema = FastAPI.openapi(app)
    schema["components"]["schemas"]["ProblemDocument"] = ProblemDocument.model_json_schema()
    key, example = _shortest_example(registry, root)
    chosen = dict(zip(("dataset", "model"), key.split("/"), strict=True))
    datasets, models = zip(*(key.split("/") for key in registry.wanted), strict=True)
    for path in schema["paths"].values():
        path.pop("head", None)  # which goes without saying
    if _guard(schema["paths"], limits, tokens):
        scheme = {"type": "http", "scheme": "bearer", "description": "The operator has the token."}
        schema["components"]["securitySchemes"] = {BEARER: scheme}
    used = set[int]()
    for path in schema["paths"].values():
        (operation,) = path.values()
        for parameter in operation.get("parameters", []):
            if names := {"dataset": datasets, "model": models}.get(parameter["name"]):
                parameter["schema"]["enum"] = list(dict.fromkeys(names))
                parameter["example"] = chosen[parameter["name"]]
        for status in REASONS.keys() & map(int, operation["responses"]):
            used.add(status)
            name, _ = REASONS[status]
            operation["responses"].pop(status, None)
            operation["responses"][str(status)] = {"$ref": f"#/components/responses/{name}"}
    schema["components"]["responses"] = _problem_responses(used)
    if example:
        operation = schema["paths"]["/models/{dataset}/{model}/predict"]["post"]
        operation["requestBody"]["content"]["application/json"]["example"] = example
    if limits.features and (features := registry.loaded(limits.features)):
        names = features.model_info["dataset"]["channels"]
        row = examples.first_body(root, features.dataset, names)
        schema["paths"]["/predict"]["post"] |= rows_body(limits, features, row)
    return schema


def _shortest_example(registry: Registry, root: Path) -> tuple[str, Schema | None]:
    """Return the model whose recordings are the shortest of those that can be asked, with one of them as
    a body in JSON; the first model and None while there is none. Sound is too long for a reader."""
    sizes = {}
    for key in registry.wanted:
        about = model.model_info["dataset"] if (model := registry.loaded(key)) else None
        if about and about["drawing"] != "features" and not about["representation"]:
            sizes[key] = about["length"] * len(about["channels"])
    for key in sorted(sizes, key=sizes.__getitem__):
        if example := examples.first_body(root, key.split("/")[0]):
            return key, _plain(example)
    return registry.wanted[0], None


def _plain(value: Any) -> Any:
    """Return an example as JSON has it, numbers to four digits; a recording of one channel as a list."""
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, np.ndarray):
        return [_plain(part[0] if value.shape[1:] == (1,) else part) for part in value]
    if isinstance(value, float | np.floating):
        return None if np.isnan(value) else float(f"{value:.4g}")
    return value


def _list(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items, "minItems": 1, **more}


def _by_name(values: Schema) -> Schema:
    return {"type": "object", "additionalProperties": values, "minProperties": 1}


def _object(properties: Schema, required: Sequence[str]) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }
