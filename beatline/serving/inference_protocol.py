"""The Open Inference Protocol v2, which KServe and its clients speak, with its binary tensors.

https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol. A model is called
``ptbxl.cnn``. Its one input is a recording `[T, C]`, several of one length `[N, T, C]`, or rows of
features `[N, F]`; each goes the way that ``POST …/predict`` goes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import orjson
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from beatline.common.errors import names_there_are, shown
from beatline.formats.npy import float_for
from beatline.formats.recording import Recording
from beatline.serving import requests, uploads
from beatline.serving.model import Model
from beatline.serving.problems import (
    Problem,
    malformed,
    too_large,
    unavailable,
    unfit,
    unknown,
    unsupported,
)
from beatline.serving.responses import as_json
from beatline.serving.settings import Serve
from beatline.serving.uploads import json_arrays, metadata
from beatline.serving.uploads.checks import check_size

if TYPE_CHECKING:
    from beatline.serving.routes import Service

PREFIX = "/v2"
LIVE, READY = f"{PREFIX}/health/live", f"{PREFIX}/health/ready"
MODEL = f"{PREFIX}/models/{{model}}"
HEADER = "Inference-Header-Content-Length"
JSON, BINARY = "application/json", "application/octet-stream"
INPUT = "recording"
SHORT = 12  # digits of the weights' sum, as the version of a model that is not from the registry
DIMENSIONS = 8  # of a shape, at most: numpy's own limit is a larger one
# Little-endian types of input tensors.
TYPES = {
    **{f"INT{8 * size}": f"<i{size}" for size in (1, 2, 4, 8)},
    **{f"UINT{8 * size}": f"<u{size}" for size in (1, 2, 4, 8)},
    **{f"FP{8 * size}": f"<f{size}" for size in (2, 4, 8)},
}
# Output tensors by name: their type, and their values for one recording, from the answer of `predict`.
OUTPUTS: dict[str, tuple[str, Callable[[Mapping[str, Any]], list[Any]]]] = {
    "probabilities": ("FP32", lambda answer: [*answer["probabilities"].values()]),
    "decisions": ("BOOL", lambda answer: [*answer["decisions"].values()]),
    "predicted_class": ("INT64", lambda answer: [answer["predicted_class"]]),
    "class": ("BYTES", lambda answer: [answer["class"]]),
    "score": ("FP64", lambda answer: [answer["score"]]),
    "threshold": ("FP64", lambda answer: [answer["threshold"]]),
    "anomaly": ("BOOL", lambda answer: [answer["anomaly"]]),
}
OUTPUT_TYPES = {"FP32": "<f4", "FP64": "<f8", "INT64": "<i8", "BOOL": "?"}
BY_CLASS = ("probabilities", "decisions")  # outputs with a column for each class


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class InputParameters(_Strict):
    """Of the input: what describes a recording is checked as that of all formats is."""

    binary_data_size: Annotated[int, Field(ge=0)] | None = None
    sampling_rate: Any = None
    unit: Any = None
    channels: Any = None
    content_type: Any = None  # of MLServer's clients: what it says, the type of the tensor says too


class InputTensor(_Strict):
    name: str
    shape: Annotated[
        list[Annotated[int, Field(ge=0, lt=2**63)]], Field(min_length=1, max_length=DIMENSIONS)
    ]
    datatype: str
    parameters: InputParameters | None = None
    data: Any = None


class OutputParameters(_Strict):
    binary_data: bool | None = None
    content_type: Any = None


class RequestedOutput(_Strict):
    name: str
    parameters: OutputParameters | None = None


class RequestParameters(_Strict):
    """Of a request. What is of no use here does no harm: a server without batches has no priorities, and
    what takes too long ends by the server's own limits."""

    binary_data_output: bool = False
    priority: Any = None
    timeout: Any = None
    sequence_id: Any = None
    sequence_start: Any = None
    sequence_end: Any = None
    content_type: Any = None


class InferenceRequest(BaseModel):
    model_config = ConfigDict(strict=True)  # KServe's client adds keys of its own

    id: str | None = None
    parameters: RequestParameters | None = None
    inputs: Annotated[list[InputTensor], Field(min_length=1, max_length=1)]
    outputs: Annotated[list[RequestedOutput], Field(max_length=len(OUTPUTS))] | None = None


class InferenceProtocol:
    """The operations of the protocol, which a service answers."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def add_to(self, app: FastAPI) -> None:
        """Add the operations. They are not in the document of the API: the protocol has its own."""
        app.add_route(PREFIX, self.server)
        app.add_route(LIVE, self.live)
        app.add_route(READY, self.ready)
        # Requests are counted by the last of the routes to an operation.
        for model in (f"{MODEL}/versions/{{version}}", MODEL):
            app.add_route(model, self.model)
            app.add_route(f"{model}/ready", self.model_ready)
            app.add_route(f"{model}/infer", self.infer, methods=["POST"])

    async def server(self, _: Request) -> Response:
        """The server's metadata."""
        return _json(
            {"name": "beatline", "version": _version(), "extensions": ["binary_tensor_data"]}
        )

    async def live(self, _: Request) -> Response:
        """Whether the server answers, whatever it has loaded."""
        return _json({"live": True})

    async def ready(self, _: Request) -> Response:
        """Whether models can answer, as ``/health`` says it."""
        if reason := self._service.registry.why_not_ready():
            raise unavailable(reason)
        return _json({"ready": True})

    async def model(self, request: Request) -> Response:
        """A model's metadata: its tensors."""
        return _json(described(*self._model(request)))

    async def model_ready(self, request: Request) -> Response:
        """Whether a model can answer."""
        name, _ = self._model(request)
        return _json({"name": name, "ready": True})

    async def infer(self, request: Request) -> Response:
        """A model's answer about the recording or the recordings in a tensor."""
        name, loaded = self._model(request)
        kind = requests.content_type(request)
        if kind not in ("", JSON, BINARY):  # Triton's client says nothing
            raise unsupported(f"Content-Type {shown(kind)!r} is not understood: send {JSON}")
        asked = InferenceRequest.model_construct()

        def read(body: bytes) -> list[Recording]:
            nonlocal asked
            asked, recordings = decoded(
                body, request.headers.get(HEADER), loaded, self._service.limits
            )
            return recordings

        return await self._service.answered(
            request,
            loaded,
            read,
            lambda contents: encoded(name, loaded, asked, contents),
            plain=True,
        )

    def _model(self, request: Request) -> tuple[str, Model]:
        """The name and the model that a path names. Raises Problem: 404 if there is no such model or
        version, 503 if it is not there yet."""
        name, version = request.path_params["model"], request.path_params.get("version")
        names = {key.replace("/", "."): key for key in self._service.registry.wanted}
        if name not in names:
            word = shown(name)
            raise unknown(f"there is no model {word!r}{names_there_are(word, names)}")
        model = self._service.registry.model(*names[name].split("/"))
        if version not in (None, version_of(model)):
            raise unknown(
                f"{name} has no version {shown(version)!r} here: ask for {version_of(model)}, or for none"
            )
        return name, model


def version_of(model: Model) -> str:
    """Return a model's version in the registry, or else the first digits of its weights' sum."""
    return (model.registered or {}).get("version") or model.identity["weights"][:SHORT]


def described(name: str, model: Model) -> dict[str, Any]:
    """Return a model's metadata as the protocol has it. The input's type is the usual one of several."""
    dataset = model.model_info["dataset"]
    channels = 1 if dataset["representation"] else len(dataset["channels"])
    length = dataset["length"] if model.looks_at_whole else -1
    shape = [-1, channels] if _is_table(model) else [-1, length, channels]
    return {
        "name": name,
        "versions": [version_of(model)],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": INPUT, "datatype": "FP32", "shape": shape}],
        "outputs": [
            {
                "name": output,
                "datatype": OUTPUTS[output][0],
                "shape": [-1, len(model.classes) if output in BY_CLASS else 1],
            }
            for output in outputs_of(model)
        ],
    }


def outputs_of(model: Model) -> tuple[str, ...]:
    """Return the names of a model's output tensors."""
    if model.detects:
        return "score", "threshold", "anomaly"
    if model.task == "multiclass":
        return "probabilities", "predicted_class", "class"
    return "probabilities", "decisions"


def decoded(
    body: bytes, header: str | None, model: Model, limits: Serve
) -> tuple[InferenceRequest, list[Recording]]:
    """Return a request, and the recordings in its tensor. `header`: the length of its JSON, if binary
    data follow. Raises Problem for what is no request, or holds no recordings of its kind."""
    text, binary = _parts(body, header)
    json_arrays.check_numbers_fit(text, limits, "the body")
    try:
        request = InferenceRequest.model_validate(_object(text))
    except ValidationError as error:
        mistake = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, mistake["loc"])) or "the body"
        raise malformed(
            f"{shown(where)}: {shown(mistake['msg'], 200)}: send a request of the Open Inference "
            f"Protocol v2 with one input"
        ) from None
    _check_outputs([output.name for output in request.outputs or []], outputs_of(model))
    tensor = request.inputs[0]
    if tensor.name != INPUT:
        raise unfit(f"there is no input {shown(tensor.name)!r}: call it {INPUT}")
    return request, _recordings(_values(tensor, binary, limits), tensor, model, limits)


def _check_outputs(names: Sequence[str], known: Sequence[str]) -> None:
    """Raise Problem unless each of the names is one of those that are known, and there once: what is
    asked for a thousand times would be answered as often."""
    for number, name in enumerate(names):
        if name not in known:
            word = shown(name)
            raise unfit(f"there is no output {word!r}{names_there_are(word, known)}")
        if name in names[:number]:
            raise unfit(f"the output {name} is asked for twice: name each once")


def encoded(
    name: str, model: Model, request: InferenceRequest, contents: Sequence[Mapping[str, Any]]
) -> Response:
    """Return the response to a request: the answers of `predict`, one for each recording, as tensors.
    Their warnings are a parameter, which comes with whatever outputs are asked for."""
    parameters = request.parameters or RequestParameters()
    asked = request.outputs or [RequestedOutput(name=output) for output in outputs_of(model)]
    outputs, parts = [], []
    for each in asked:
        output, part = _output(model, each.name, contents)
        binary = each.parameters.binary_data if each.parameters else None
        if parameters.binary_data_output if binary is None else binary:
            parts.append(b"".join(part) if isinstance(part, list) else part.tobytes())
            output.setdefault("parameters", {})["binary_data_size"] = len(parts[-1])
        else:
            output["data"] = _in_json(part)
        outputs.append(output)
    # Under which ids they are logged, and whether, if the client waits for that.
    logged = [key for key in ("answer", "logged") if key in contents[0]]
    content = {
        "model_name": name,
        "model_version": version_of(model),
        **({} if request.id is None else {"id": request.id}),
        "parameters": {
            "weights": model.identity["weights"],
            "simulated": model.identity["simulated"],
            **{key: _as_text(contents, key) for key in ("warnings", *logged)},
        },
        "outputs": outputs,
    }
    if not parts:
        return _json(content)
    text = as_json(content)
    return Response(b"".join([text, *parts]), headers={HEADER: str(len(text))}, media_type=BINARY)


def error(problem: Problem) -> Response:
    """Return a refusal as the protocol has it, with the headers that it has elsewhere."""
    response = _json({"error": problem.detail}, problem.status)
    response.headers.update(problem.headers)
    return response


def _as_text(contents: Sequence[Mapping[str, Any]], key: str) -> str:
    """What answers have under a key, as JSON: a parameter of the protocol is no list."""
    return orjson.dumps([answer[key] for answer in contents]).decode()


def _json(content: object, status: HTTPStatus = HTTPStatus.OK) -> Response:
    return Response(as_json(content), status, media_type=JSON)


def _version() -> str:
    try:
        return version("beatline")
    except PackageNotFoundError:  # a container has the files alone
        return "unknown"


def _is_table(model: Model) -> bool:
    return model.model_info["dataset"]["length"] == 1


def _parts(body: bytes, header: str | None) -> tuple[bytes, memoryview]:
    """The JSON of a body, and the binary data behind it."""
    if header is None:
        return body, memoryview(b"")
    if not (header.isascii() and header.isdigit() and len(header) < 20):
        raise malformed(
            f"the header {HEADER} is {shown(header)!r}: say how many bytes the JSON has"
        )
    length = int(header)
    if not 0 < length <= len(body):
        raise malformed(
            f"the header {HEADER} says that the JSON has {length} bytes, and the body has {len(body)}: "
            f"send both, with the length of the JSON alone"
        )
    return body[:length], memoryview(body)[length:]


def _object(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except ValueError as reason:
        raise malformed(
            f"the body is no JSON ({shown(str(reason), 120)}): if binary data follow it, say its length "
            f"by the header {HEADER}"
        ) from None


def _values(tensor: InputTensor, binary: memoryview, limits: Serve) -> np.ndarray:
    """The values of a tensor in its shape."""
    if tensor.datatype not in TYPES:
        word = shown(tensor.datatype)
        raise unfit(
            f"inputs.0.datatype: {word!r} is no type of numbers{names_there_are(word, TYPES)}"
        )
    dtype, count = np.dtype(TYPES[tensor.datatype]), math.prod(tensor.shape)
    if not count:  # of other sizes as large as one likes
        raise unfit(f"the shape {tensor.shape} holds no recording: send one that has some samples")
    check_size(count, limits, "the tensor")
    size = tensor.parameters and tensor.parameters.binary_data_size
    if size is None:
        if binary:
            raise malformed("binary data follow the JSON, and no input has a binary_data_size")
        values = _from_json(tensor.data, dtype)
        if values.size != count:
            raise malformed(f"{_mismatch(tensor, count)}, and data has {values.size}")
        return values.reshape(tensor.shape)
    if tensor.data is not None:
        raise malformed("the input has both data and a binary_data_size: leave one of them out")
    if size != len(binary) or size != count * dtype.itemsize:
        raise malformed(
            f"{_mismatch(tensor, count)}, {count * dtype.itemsize} bytes; binary_data_size says {size}, "
            f"and {len(binary)} bytes follow the JSON: send as many as the shape has"
        )
    values = np.frombuffer(binary, dtype).reshape(tensor.shape)
    return values.astype(float_for(dtype), copy=False)


def _mismatch(tensor: InputTensor, count: int) -> str:
    return f"the shape {tensor.shape} of {tensor.datatype} has {count} values"


def _from_json(data: Any, dtype: np.dtype) -> np.ndarray:
    """Numbers in JSON, in a list or in lists of them, as their type holds them; NaN where one is null."""
    if not isinstance(data, list):
        raise malformed("the input has no data: send a list of numbers, or a binary_data_size")
    values = json_arrays.numbers(data, "inputs.0.data")
    if dtype.kind == "f":
        with np.errstate(over="ignore"):  # what becomes infinite is refused
            return values.astype(dtype).astype(float_for(dtype), copy=False)
    bounds = np.iinfo(dtype)
    if not ((values == np.round(values)) & (values >= bounds.min) & (values <= bounds.max)).all():
        raise unfit(
            f"inputs.0.data has values that are no whole numbers from {bounds.min} to {bounds.max}: send "
            f"them as FP32"
        )
    return values


def _recordings(
    values: np.ndarray, tensor: InputTensor, model: Model, limits: Serve
) -> list[Recording]:
    several = (
        list(values) if values.ndim == 3 or (values.ndim == 2 and _is_table(model)) else [values]
    )
    if len(several) > limits.max_rows:
        raise too_large(
            f"{len(several)} recordings are more than the {limits.max_rows} of one request: send them in "
            f"parts"
        )
    said = _metadata(tensor.parameters or InputParameters())
    return [
        uploads.of_array(
            np.atleast_2d(each) if _is_table(model) else each,
            said,
            f"recording {number}" if len(several) > 1 else "the recording",
            limits,
        )
        for number, each in enumerate(several, 1)
    ]


def _metadata(parameters: InputParameters) -> metadata.Metadata:
    values = {name: getattr(parameters, name) for name in metadata.HEADERS}
    if isinstance(values["channels"], str):  # a parameter that the protocol knows is no list
        values["channels"] = values["channels"].split(",")
    return metadata.validated(values, {name: f"inputs.0.parameters.{name}" for name in values})


def _output(
    model: Model, name: str, contents: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, Any], np.ndarray | list[bytes]]:
    """An output tensor without its values, and these: of texts, each with its length before it."""
    datatype, values = OUTPUTS[name]
    rows = [values(answer) for answer in contents]
    output: dict[str, Any] = {
        "name": name,
        "datatype": datatype,
        "shape": [len(rows), len(rows[0])],
    }
    if name in BY_CLASS:
        output["parameters"] = {"classes": orjson.dumps(model.classes).decode()}
    if datatype == "BYTES":
        texts = [text.encode() for row in rows for text in row]
        return output, [len(text).to_bytes(4, "little") + text for text in texts]
    return output, np.array(rows, OUTPUT_TYPES[datatype])


def _in_json(part: np.ndarray | list[bytes]) -> np.ndarray | list[str]:
    return [text[4:].decode() for text in part] if isinstance(part, list) else part.ravel()
