"""The Open Inference Protocol v2: what it answers is what `predict` answers, asked by an independent
client, in JSON and in binary tensors; what is no request of it is refused in its own words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from beatline.monitoring.answers import AnswerLog
from beatline.serving import inference_protocol as protocol
from beatline.serving import model as models
from beatline.serving import registry
from beatline.serving.problems import Problem
from tests.serving import project
from tests.serving.test_answer_log import WAIT, settings

CNN = "ptbxl.cnn"
ECG = project.raw_recordings("ptbxl")
LIMITS = project.limits()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return project.make(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[httpx.Client]:
    with project.client(folder) as found:
        yield found


@pytest.fixture(scope="module")
def cnn(folder: Path) -> models.Model:
    return models.load(folder / registry.FOLDER / "ptbxl/cnn")


def predicted(client: httpx.Client, key: str, samples: np.ndarray, **headers: str) -> Any:
    """What `predict` answers."""
    shape = {"X-Shape": ",".join(map(str, samples.shape))}
    sent = samples.astype("<f4").tobytes()
    headers = {"Content-Type": "application/octet-stream"} | shape | headers
    response = client.post(f"/models/{key}/predict", content=sent, headers=headers)
    return response.raise_for_status().json()


def tensor(samples: np.ndarray, **more: Any) -> dict[str, Any]:
    values = {"name": "recording", "shape": list(samples.shape), "datatype": "FP32"}
    return {**values, "data": samples.ravel().tolist(), **more}


def infer(client: httpx.Client, model: str, request: Any, **headers: str) -> httpx.Response:
    return client.post(f"/v2/models/{model}/infer", json=request, headers=headers)


def outputs(response: httpx.Response) -> dict[str, Any]:
    """Values of the output tensors by name, in their shapes."""
    content = response.raise_for_status().json()
    return {
        each["name"]: np.array(each["data"]).reshape(each["shape"]) for each in content["outputs"]
    }


def warnings(content: dict[str, Any]) -> Any:
    return json.loads(content["parameters"]["warnings"])


# ---------------------------------------------------------------- an independent client


@pytest.fixture
def triton(client: httpx.Client) -> Iterator[Any]:
    http = pytest.importorskip("tritonclient.http", reason="tritonclient is not installed")
    address = f"{client.base_url.host}:{client.base_url.port}"
    with http.InferenceServerClient(address) as made:
        yield made


def given_to_triton(samples: np.ndarray, binary: bool) -> list[Any]:
    http = pytest.importorskip("tritonclient.http")
    sent = http.InferInput("recording", list(samples.shape), "FP32")
    sent.set_data_from_numpy(samples.astype(np.float32), binary_data=binary)
    return [sent]


def test_an_independent_client_finds_its_way(triton: Any, client: httpx.Client) -> None:
    """Health, metadata and versions as Triton's client, which is not ours, asks for them."""
    assert triton.is_server_live() and triton.is_server_ready()
    assert triton.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    about = triton.get_model_metadata(CNN)
    (version,) = about["versions"]
    weights = predicted(client, "ptbxl/cnn", ECG[0])["model"]["weights"]
    assert weights.startswith(version)
    assert triton.is_model_ready(CNN) and triton.is_model_ready(CNN, version)
    assert not triton.is_model_ready(CNN, "1") and not triton.is_model_ready("ptbxl.lstm")
    assert about["inputs"] == [{"name": "recording", "datatype": "FP32", "shape": [-1, -1, 3]}]


@pytest.mark.parametrize("sent", [True, False], ids=["binary", "JSON"])
@pytest.mark.parametrize("received", [True, False], ids=["binary back", "JSON back"])
@pytest.mark.parametrize("key", project.TRAINED)
def test_an_independent_client_gets_what_predict_answers(
    triton: Any, client: httpx.Client, key: str, sent: bool, received: bool
) -> None:
    """Of each kind of model, each output to the last bit, and the warnings."""
    http = pytest.importorskip("tritonclient.http")
    samples = project.raw_recordings(key.split("/")[0])[0]
    name = key.replace("/", ".")
    described = {each["name"]: each for each in triton.get_model_metadata(name)["outputs"]}
    wanted = [http.InferRequestedOutput(each, binary_data=received) for each in described]
    result = triton.infer(name, given_to_triton(samples, sent), outputs=wanted, request_id="7")
    expected = predicted(client, key, samples)
    for output, about in described.items():
        values = result.as_numpy(output)
        assert values.shape == (1, about["shape"][1])
        answer = expected[output]
        if values.dtype == object:  # texts, bytes in binary
            assert [getattr(text, "decode", lambda t=text: t)() for text in values[0]] == [answer]
        else:
            answer = [*answer.values()] if isinstance(answer, dict) else [answer]
            np.testing.assert_array_equal(values[0], np.array(answer, values.dtype))
    assert result.get_response()["id"] == "7"
    assert warnings(result.get_response()) == [expected["warnings"]]


def test_all_outputs_in_binary_without_naming_them(triton: Any, client: httpx.Client) -> None:
    """The default of the client."""
    result = triton.infer(CNN, given_to_triton(ECG[:1], True))
    expected = predicted(client, "ptbxl/cnn", ECG[0])
    np.testing.assert_array_equal(
        result.as_numpy("probabilities")[0],
        np.array([*expected["probabilities"].values()], np.float32),
    )
    classes = json.loads(result.get_output("probabilities")["parameters"]["classes"])
    assert classes == [*expected["probabilities"]]


# ---------------------------------------------------------------- requests


def test_several_recordings(client: httpx.Client) -> None:
    """Each is answered as it is alone, with warnings of its own; a refusal says of which it is."""
    three = np.stack([ECG[0], 100 * ECG[1], ECG[2]])
    response = infer(client, CNN, {"inputs": [tensor(three)]})
    answered = [predicted(client, "ptbxl/cnn", each) for each in three]
    expected = [[*answer["probabilities"].values()] for answer in answered]
    np.testing.assert_allclose(outputs(response)["probabilities"], expected, rtol=1e-6)
    assert warnings(response.json()) == [answer["warnings"] for answer in answered]
    assert len({len(each) for each in warnings(response.json())}) > 1, "of the second alone"
    spoilt = tensor(three)
    spoilt["data"][ECG[0].size :] = [None] * (2 * ECG[0].size)
    assert "recording 2" in infer(client, CNN, {"inputs": [spoilt]}).json()["error"]
    many = np.zeros((LIMITS.max_rows + 1, 1, 3))
    assert infer(client, CNN, {"inputs": [tensor(many)]}).status_code == 413


def test_several_recordings_that_grow(client: httpx.Client) -> None:
    """Together they have the values that one recording may have, at the sampling rate of the training:
    what is logged of them is held until all are answered."""
    slow = np.repeat(ECG[:1], 10, axis=0)
    said = {"sampling_rate": 100 * slow.size / (LIMITS.max_values + 1)}
    refused = infer(client, CNN, {"inputs": [tensor(slow, parameters=said)]})
    assert refused.status_code == 413 and "values" in refused.json()["error"]
    alone = infer(client, CNN, {"inputs": [tensor(slow[:1], parameters=said)]})
    assert alone.status_code == 200, alone.text


def test_rows_of_a_table(client: httpx.Client) -> None:
    """As `POST /predict` answers them; a value that is missing is NaN in binary, null in JSON."""
    rows = [[71.5, 0.16, 0.09], [50.0, None, 0.1]]
    expected = client.post("/predict", json=rows).raise_for_status().json()
    values = np.array(rows, np.float64)
    in_json = {**tensor(values, datatype="FP64"), "data": rows}
    answer = infer(client, "ecg_features.mlp", {"inputs": [in_json]})
    text = json.dumps({"inputs": [binary_tensor(values.astype("<f8"), "FP64")]}).encode()
    address = "/v2/models/ecg_features.mlp/infer"
    headers = {protocol.HEADER: str(len(text))}
    other = client.post(address, content=text + values.astype("<f8").tobytes(), headers=headers)
    for response in (answer, other):
        found = outputs(response)
        assert found["predicted_class"].ravel().tolist() == [
            row["predicted_class"] for row in expected
        ]
        assert found["class"].ravel().tolist() == [row["class"] for row in expected]
        most = found["probabilities"].max(axis=1)
        np.testing.assert_allclose(most, [row["probability"] for row in expected], rtol=1e-6)
        codes = [[each["code"] for each in row] for row in warnings(response.json())]
        assert "missing" in codes[1] and "missing" not in codes[0]


def binary_tensor(values: np.ndarray, datatype: str) -> dict[str, Any]:
    described = {"name": "recording", "shape": list(values.shape), "datatype": datatype}
    return described | {"parameters": {"binary_data_size": values.nbytes}}


@pytest.mark.parametrize("channels", ["V1,I,II", ["V1", "I", "II"]])
def test_what_describes_a_recording(client: httpx.Client, channels: Any) -> None:
    """Parameters of the input do what headers do beside a body."""
    samples = np.round(1000 * ECG[0][::2])
    said = {"sampling_rate": 50, "unit": "uV", "channels": channels}
    sent = tensor(samples, datatype="INT16", parameters=said)
    sent["data"] = list(map(int, sent["data"]))
    response = infer(client, CNN, {"inputs": [sent]})
    headers = {"X-Sampling-Rate": "50", "X-Unit": "uV", "X-Channels": "V1,I,II"}
    expected = predicted(client, "ptbxl/cnn", samples, **headers)
    values = [*expected["probabilities"].values()]
    np.testing.assert_allclose(outputs(response)["probabilities"][0], values, rtol=1e-5)
    assert warnings(response.json()) == [expected["warnings"]] != [[]]


def test_a_warning_is_not_lost_with_outputs_that_are_not_asked_for(client: httpx.Client) -> None:
    request = {"inputs": [tensor(100 * ECG[0])], "outputs": [{"name": "decisions"}]}
    response = infer(client, CNN, request)
    assert [*outputs(response)] == ["decisions"]
    assert any(each["grade"] == "caution" for each in warnings(response.json())[0])


def test_a_version_of_the_registry_is_the_version(cnn: models.Model) -> None:
    registered = replace(cnn, registered={"version": "3", "alias": "champion"})
    assert protocol.described(CNN, registered)["versions"] == ["3"]


def test_it_is_counted_as_predict_is(client: httpx.Client) -> None:
    """By class, and by route: no path that a client makes up is one."""

    def counted() -> float:
        lines = client.get("/metrics").text.splitlines()
        name = 'beatline_predictions_total{dataset="ptbxl",model="cnn"'
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))

    before = counted()
    infer(client, CNN, {"inputs": [tensor(ECG[:2])]}).raise_for_status()
    assert counted() >= before + 2
    route = 'beatline_requests_total{method="POST",route="/v2/models/{model}/infer",status="200"}'
    assert route in client.get("/metrics").text


def test_answers_are_logged_as_those_of_predict_are(tmp_path: Path) -> None:
    """Under an id each, by which experts can say what was true; of several recordings of which one is
    refused, none."""
    with project.client(project.make(tmp_path), settings(tmp_path)) as client:
        response = infer(client, CNN, {"inputs": [tensor(ECG[:2])]}, **WAIT)
        parameters = response.raise_for_status().json()["parameters"]
        assert json.loads(parameters["logged"]) == [True, True]
        ids = json.loads(parameters["answer"])
        said = client.post("/feedback", json={"answer": ids[1], "labels": ["MI"]})
        assert said.status_code == 200, said.text
        spoilt = tensor(ECG[:2])
        spoilt["data"][ECG[0].size :] = [None] * ECG[0].size
        assert infer(client, CNN, {"inputs": [spoilt]}, **WAIT).status_code == 422
    with AnswerLog(str(tmp_path / "answers.db")) as log:
        rows = log.window("ptbxl", "cnn")
    assert sorted(rows.ids) == sorted(ids)
    np.testing.assert_allclose(
        rows.scores[[*rows.ids].index(ids[0])], outputs(response)["probabilities"][0], rtol=1e-6
    )


# ---------------------------------------------------------------- refusals


def changed(**changes: Any) -> dict[str, Any]:
    return {"inputs": [{**tensor(ECG[0]), **changes}]}


REFUSED: dict[str, tuple[int, Any, str]] = {
    "no object": (400, [], "body"),
    "no input": (400, {"inputs": []}, "inputs"),
    "two inputs": (400, {"inputs": [tensor(ECG[0])] * 2}, "inputs"),
    "another name": (422, changed(name="x"), "recording"),
    "no shape": (400, changed(shape=[]), "shape"),
    "negative": (400, changed(shape=[-120, -3]), "shape"),
    "fraction": (400, changed(shape=[120.5, 3]), "shape"),
    "truth": (400, changed(shape=[True, 360]), "shape"),
    "huge": (413, changed(shape=[2**62, 2**62]), "values"),
    "empty": (422, changed(shape=[0, 120, 3], data=[]), "shape"),
    "empty and huge": (422, changed(shape=[0, 2**62, 3], data=[]), "shape"),
    "other shape": (400, changed(shape=[120, 4]), "shape"),
    "dimensions": (422, changed(shape=[1, 1, 120, 3]), "120"),
    "type": (422, changed(datatype="BYTES"), "datatype"),
    "text": (422, changed(data=["a"] * 360), "data"),
    "ragged": (422, changed(data=[[1, 2], [3]]), "data"),
    "no data": (400, changed(data=None), "data"),
    "too large for its type": (422, changed(datatype="INT8", data=[300] * 360), "data"),
    "fractions as integers": (422, changed(datatype="INT32", data=[0.5] * 360), "data"),
    "infinite": (422, changed(data=[1e39] * 360), "infinite"),
    "parameter": (400, changed(parameters={"samplingrate": 5}), "samplingrate"),
    "rate": (422, changed(parameters={"sampling_rate": "x"}), "sampling_rate"),
    "channels": (422, changed(parameters={"channels": "I"}), "names"),
    "shared memory": (400, changed(parameters={"shared_memory_region": "x"}), "shared_memory"),
    "output": (422, {**changed(), "outputs": [{"name": "logits"}]}, "probabilities"),
    "output twice": (422, {**changed(), "outputs": [{"name": "decisions"}] * 2}, "decisions"),
    "many outputs": (400, {**changed(), "outputs": [{"name": "decisions"}] * 1000}, "outputs"),
    "classification": (
        400,
        {**changed(), "outputs": [{"name": "probabilities", "parameters": {"classification": 1}}]},
        "classification",
    ),
    "size without data": (400, changed(parameters={"binary_data_size": 1440}), "binary_data_size"),
}


@pytest.mark.parametrize(("status", "request_", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(client: httpx.Client, status: int, request_: Any, words: str) -> None:
    """In the protocol's own form, with what it is about."""
    response = infer(client, CNN, request_)
    assert response.status_code == status, response.text
    assert [*response.json()] == ["error"] and words in response.json()["error"]


def test_what_is_not_there(client: httpx.Client) -> None:
    """The nearest name is told, a model that is not trained is not ready, and no path is otherwise."""
    assert CNN in client.get("/v2/models/ptbxl.cnnn").json()["error"]
    assert client.get("/v2/models/ptbxl.lstm/ready").status_code == 503
    for path in (f"/v2/models/{CNN}/versions/9/infer", "/v2/models/ptbxl/cnn/infer", "/v2/x"):
        response = client.post(path, json={})
        assert response.status_code == 404 and response.json()["error"]
    assert client.delete("/v2").json()["error"] and client.delete("/v2").status_code == 405


def test_ready_is_not_live(tmp_path: Path) -> None:
    """A server without a model lives, and is not ready; each as a probe understands it."""
    with project.serving(project.app(tmp_path)) as url:
        assert httpx.get(url + protocol.LIVE).json() == {"live": True}
        response = httpx.get(url + protocol.READY)
        assert response.status_code == 503 and response.json()["error"]


anything = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | some.text(max_size=5),
    lambda inner: some.lists(inner, max_size=4) | some.dictionaries(some.text(max_size=9), inner),
    max_leaves=8,
)
bodies = some.fixed_dictionaries(
    {"inputs": some.lists(some.fixed_dictionaries(
        {"name": some.just("recording") | anything},
        optional={
            "shape": some.lists(some.integers(-2, 2**70) | some.integers(0, 130), max_size=4) | anything,
            "datatype": some.sampled_from([*protocol.TYPES, "BOOL"]) | anything,
            "data": some.lists(some.floats(width=16) | anything, max_size=9) | anything,
            "parameters": some.dictionaries(
                some.sampled_from(["binary_data_size", "sampling_rate", "unit", "channels", "x"]),
                some.integers(-1, 99) | anything,
            ),
        },
    ), max_size=2)},
    optional={"outputs": anything, "parameters": anything, "id": anything},
)  # fmt: skip


@given(
    body=bodies | anything,
    binary=some.binary(max_size=99),
    header=some.text(max_size=5) | some.none(),
)
def test_whatever_comes_is_a_recording_or_a_refusal(
    cnn: models.Model, body: Any, binary: bytes, header: str | None
) -> None:
    """Never an error of ours: wrong lengths, huge and negative sizes, and types of all kinds."""
    text = json.dumps(body).encode()
    for length in (header, str(len(text)), str(len(text) + len(binary) + 1)):
        try:
            _, recordings = protocol.decoded(text + binary, length, cnn, LIMITS)
        except Problem as problem:
            assert 400 <= problem.status < 500
        else:
            assert all(each.samples.ndim == 2 for each in recordings)
