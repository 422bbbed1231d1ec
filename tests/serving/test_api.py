"""The API over HTTP: answers are those of the bundles, mistakes are told in problem documents."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
import socket
import threading
import time
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any
from urllib.parse import urljoin

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beatline import bundle
from beatline.common.errors import UserError
from beatline.serving import answers, registry, requests
from beatline.serving.app import PAGE, create_app
from beatline.serving.requests import MAX_FILES
from beatline.serving.routes import WAITING
from tests.damage import flipped, places
from tests.serving import project

CNN, AUTOENCODER = "/models/ptbxl/cnn/predict", "/models/ecg5000/autoencoder/predict"
RAW = {"Content-Type": "application/octet-stream", "X-Shape": "120,3"}
ECG = project.raw_recordings("ptbxl")[0]
ROW = {"heart_rate": 0.5, "pr_interval": -0.25, "qrs_duration": 1.5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return project.make(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[httpx.Client]:
    with project.client(folder) as found:
        yield found


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def problem(response: httpx.Response, status: int, pattern: str = "") -> str:
    """The detail of a problem document, which is all that there is besides the status."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    content = response.json()
    assert content == {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": content["detail"],
    }
    assert re.search(pattern, content["detail"]), content["detail"]
    return content["detail"]


# Answers


@pytest.mark.parametrize("form", ["raw", "json", "npy", "multipart"])
def test_answers_are_those_of_the_bundle(client: httpx.Client, folder: Path, form: str) -> None:
    """Whatever the form, the probabilities and decisions of the network in torch, and who gave them."""
    content: dict[str, dict[str, Any]] = {
        "raw": {"content": ECG.tobytes(), "headers": RAW},
        "json": {"json": {"signal": ECG.tolist(), "unit": "mV", "sampling_rate": 100}},
        "npy": {"content": npy(ECG), "headers": {"Content-Type": "application/x-npy"}},
        "multipart": {"files": {"anything": ("a.npy", npy(ECG))}},
    }
    answer = client.post(CNN, **content[form]).json()
    expected = bundle.load(folder / registry.FOLDER / "ptbxl/cnn").predict(ECG[None])
    assert list(answer["probabilities"]) == expected.classes
    np.testing.assert_allclose(
        list(answer["probabilities"].values()), expected.values[0], atol=1e-5
    )
    assert list(answer["decisions"].values()) == expected.decisions[0].astype(bool).tolist()
    assert answer["model"] == {
        "dataset": "ptbxl",
        "name": "cnn",
        "task": "multilabel",
        "simulated": True,
        "weights": project.weights(folder, "ptbxl/cnn"),
        "revision": project.REVISION,
        "registered": None,
    }
    assert {"explanation", "recording"}.isdisjoint(answer)


def test_detectors_tell_a_score(client: httpx.Client, folder: Path) -> None:
    """The score comes with its threshold, and is the same as in torch."""
    beat = project.raw_recordings("ecg5000")[0]
    answer = client.post(AUTOENCODER, json=beat[:, 0].tolist()).json()
    expected = bundle.load(folder / registry.FOLDER / "ecg5000/autoencoder").predict(beat[None])
    assert answer["score"] == pytest.approx(expected.values[0, 0], abs=1e-5)
    assert answer["anomaly"] == bool(expected.decisions[0, 0])


def test_options(client: httpx.Client) -> None:
    """More is told if it is asked for, through threads, with the same probabilities."""
    plain = client.post(CNN, content=ECG.tobytes(), headers=RAW).json()
    address = f"{CNN}?explain=true&recording=true"
    full = client.post(address, content=ECG.tobytes(), headers=RAW).json()
    assert full["probabilities"] == plain["probabilities"]
    assert np.shape(full["recording"]["samples"]) == ECG.shape
    assert list(full["explanation"]["importance"]) == project.CLASSES
    assert client.post(f"{CNN}?explain=false", content=ECG.tobytes(), headers=RAW).json() == plain


def test_rows(client: httpx.Client, folder: Path) -> None:
    """POST /predict: by name or in order, one or several; a list is answered by a list."""
    one = client.post("/predict", json=ROW).json()
    assert {"predicted_class", "probability"} <= one.keys()
    row = np.array(list(ROW.values()), np.float32)
    expected = bundle.load(folder / registry.FOLDER / "ecg_features/mlp").predict(row[None, None])
    assert one["predicted_class"] == int(expected.values.argmax())
    assert type(one["predicted_class"]) is int
    assert one["probability"] == pytest.approx(float(expected.values.max()), abs=1e-5)
    assert one["class"] == project.CLASSES[one["predicted_class"]]
    assert one["model"]["weights"] == project.weights(folder, "ecg_features/mlp")
    assert client.post("/predict", json=list(ROW.values())).json() == one
    assert client.post("/predict", json=[ROW, list(ROW.values())]).json() == [one, one]
    assert client.post("/predict", json=[ROW]).json() == [one]


def test_models_are_listed(client: httpx.Client, folder: Path) -> None:
    """All that params.yaml trains, those that cannot answer with the reason."""
    listed = {
        f"{each['dataset']}/{each['name']}": each for each in client.get("/models").json()["models"]
    }
    assert list(listed) == project.WANTED
    assert [key for key in listed if listed[key]["available"]] == project.TRAINED
    assert listed["ptbxl/cnn"]["metrics"]["auc"] == {"value": 0.75, "low": 0.5, "high": 0.875}
    assert listed["ptbxl/cnn"]["identity"]["weights"] == project.weights(folder, "ptbxl/cnn")
    assert "dvc repro" in listed[project.MISSING]["reason"]


def test_examples_can_be_sent_back(client: httpx.Client) -> None:
    """The model takes the documented example."""
    address = "/models/ptbxl/cnn/examples"
    (example,) = client.get(address).json()["examples"]
    file = client.get(f"{address}/{example['name']}")
    assert np.array_equal(np.load(io.BytesIO(file.content)), ECG)
    headers = {"Content-Type": file.headers["content-type"], "X-Sampling-Rate": "100"}
    assert client.post(CNN, content=file.content, headers=headers).status_code == 200
    assert client.get("/models/ecg5000/autoencoder/examples").json() == {"examples": []}


def test_examples_that_are_being_replaced(tmp_path: Path) -> None:
    """DVC deletes a stage's outputs and writes them anew: until then there are none, and no error."""
    listed = project.make(tmp_path) / "data/examples/ptbxl/examples.json"
    address = "/models/ptbxl/cnn/examples"
    with project.client(tmp_path) as client:
        (listed.parent / "1.npy").unlink()
        problem(client.get(f"{address}/1"), 404, "no example '1'")
        for half in ('{"examples": [', "[]", '{"other": 1}', '{"examples": 1}'):
            listed.write_text(half)
            assert client.get(address).json() == {"examples": []}
            problem(client.get(f"{address}/1"), 404)
        listed.unlink()
        assert client.get(address).json() == {"examples": []}


def test_damaged_examples(tmp_path: Path) -> None:
    """A damaged list names no example; a damaged recording is not sent, with the reason."""
    examples = project.make(tmp_path) / "data/examples/ptbxl"
    address = "/models/ptbxl/cnn/examples"
    with project.client(tmp_path) as client:
        for name in ("1.npy", "examples.json", "SHA256SUMS"):
            for place in places(examples / name, 5):
                with flipped(examples / name, place):
                    status = 503 if name == "1.npy" else 404
                    problem(client.get(f"{address}/1"), status, r"1\.npy is damaged|no example '1'")
        assert client.get(f"{address}/1").status_code == 200


def test_the_document_says_no_address(client: httpx.Client) -> None:
    """Behind a proxy's path prefix the API is where its document is, not at the root of the host."""
    (server,) = client.get("/openapi.json").json()["servers"]
    address = urljoin("https://ecg.example/under/beatline/openapi.json", server["url"])
    assert address.rstrip("/") == "https://ecg.example/under/beatline"


@pytest.mark.parametrize("name", ["2", "..%2Fptbxl%2F1", "%2e%2e", "1.npy", "%00"])
def test_no_path_is_made_of_a_request(client: httpx.Client, name: str) -> None:
    """Only names in the list of examples are found, and files of the page inside its folder."""
    problem(client.get(f"/models/ptbxl/cnn/examples/{name}"), 404)
    problem(client.get(f"/page/{name}"), 404)
    problem(client.get(f"/docs/{name}"), 404)


def test_health_before_and_after() -> None:
    """Not healthy before models are loaded, and told how far it is."""

    async def ask() -> httpx.Response:
        app = create_app(project.limits(), Path("nowhere"), project.WANTED)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as found:
            return await found.get("/health")

    response = asyncio.run(ask())
    problem(response, 503, "^loading: 0 of 4 models$")
    assert response.headers["retry-after"]


def test_nothing_trained_yet(tmp_path: Path) -> None:
    """The server answers, and says what to do."""
    with project.client(tmp_path) as client:
        problem(client.get("/health"), 503, "^no trained model in data/models yet: run `dvc repro`")
        problem(client.post(CNN, content=ECG.tobytes(), headers=RAW), 503, "no trained model")
        problem(client.post("/predict", json=ROW), 503, "no trained model")
        problem(client.get("/models/ptbxl/cnn/examples/1"), 404)
        assert client.get("/openapi.json").status_code == 200


def test_without_a_model_of_a_table(folder: Path) -> None:
    """POST /predict is not there if params.yaml names no model for it, nor in the documentation."""
    with project.client(folder, features=None) as client:
        problem(client.post("/predict", json=ROW), 404)
        assert "/predict" not in client.get("/openapi.json").json()["paths"]


def test_healthy(client: httpx.Client) -> None:
    """Exactly what the issue says, also to HEAD."""
    response = client.get("/health")
    assert (response.status_code, response.json()) == (200, {"status": "healthy"})
    head = client.head("/health")
    assert (head.status_code, head.content) == (200, b"")


def test_a_model_of_a_table_that_is_not_trained() -> None:
    """A typing error in params.yaml is told at the start."""
    limits = project.limits(features="ecg_features/mlpp")
    with pytest.raises(UserError, match=r"mlpp is not trained \(did you mean ecg_features/mlp\?\)"):
        create_app(limits, Path(), project.WANTED)


# Mistakes

JSON = {"Content-Type": "application/json"}
NPY = {"Content-Type": "application/x-npy"}
CSV = {"Content-Type": "text/csv"}
FORM = {"Content-Type": "multipart/form-data; boundary=x"}
PART = b'--x\r\nContent-Disposition: form-data; name="a"; filename="b"\r\n\r\nc\r\n'


def _objects() -> bytes:
    """An NPY file that numpy would unpickle."""
    file = io.BytesIO()
    np.save(file, np.array([{}], dtype=object), allow_pickle=True)
    return file.getvalue()


MISTAKES: dict[str, tuple[str, bytes, dict[str, str], int, str]] = {
    "no body": (CNN, b"", JSON, 400, "empty"),
    "no JSON": (CNN, b"[1, 2", JSON, 400, "JSON"),
    "NaN in JSON": (CNN, b"[NaN]", JSON, 400, "JSON"),
    "words": (CNN, b'[["a", "b", "c"]]', JSON, 422, "text"),
    "an unknown key": (CNN, b'{"signals": []}', JSON, 422, "signal"),
    "a row of features": (CNN, b'{"heart_rate": 60}', JSON, 422, "/predict"),
    "names that are no list": (
        CNN,
        b'{"signal": [1], "channels": 5}',
        JSON,
        422,
        "channels is '5'",
    ),
    "no samples": (CNN, b"[]", JSON, 422, ""),
    "two leads": (CNN, np.zeros((120, 2), "<f4").tobytes(), RAW | {"X-Shape": "120,2"}, 422, ""),
    "too short": (CNN, ECG[:5].tobytes(), RAW | {"X-Shape": "5,3"}, 422, ""),
    "infinite": (CNN, np.full((120, 3), np.inf, "<f4").tobytes(), RAW, 422, ""),
    "another shape": (CNN, ECG.tobytes(), RAW | {"X-Shape": "121,3"}, 400, "bytes"),
    "no shape": (CNN, ECG.tobytes(), RAW | {"X-Shape": "many"}, 400, "X-Shape"),
    "a shape beside JSON": (CNN, b"[1]", JSON | {"X-Shape": "-1"}, 400, "X-Shape"),
    "a large shape": (CNN, b"", RAW | {"X-Shape": "999999999,999999999"}, 400, ""),
    "a sampling rate": (CNN, ECG.tobytes(), RAW | {"X-Sampling-Rate": "0"}, 422, "Rate"),
    "objects": (CNN, _objects(), NPY, 422, ""),
    "half an NPY": (CNN, npy(ECG)[:-7], NPY, 400, ""),
    "an empty table": (CNN, b"\n\n", CSV, 422, ""),
    "an unknown format": (CNN, b"abc", {"Content-Type": "text/html"}, 415, "send JSON"),
    "no format": (CNN, b"\x00\x01", {}, 415, "send JSON"),
    "compressed": (CNN, b"x", JSON | {"Content-Encoding": "gzip"}, 415, "gzip"),
    "too many values": (CNN, b"[" + b"1," * 150_000 + b"1]", JSON, 413, ""),
    "no boundary": (CNN, b"x", {"Content-Type": "multipart/form-data"}, 400, "boundary"),
    "no multipart": (CNN, b"nothing", FORM, 400, "multipart"),
    "a strange charset": (
        CNN,
        PART + b"--x--",
        {"Content-Type": "multipart/form-data; boundary=x; charset=undefined"},
        400,
        "multipart",
    ),
    "many files": (CNN, PART * (MAX_FILES + 1) + b"--x--\r\n", FORM, 400, "Too many files"),
    "a text field": (
        CNN,
        b'--x\r\nContent-Disposition: form-data; name="rate"\r\n\r\n5\r\n--x--\r\n',
        FORM,
        422,
        "'rate' holds a text",
    ),
    "an unknown model": (
        "/models/ptbxl/cn/predict",
        b"",
        {},
        404,
        "ptbxl/cnn.*ecg5000/autoencoder",
    ),
    "a strange model": ("/models/%2e%2e/%0a/predict", b"", {}, 404, "no model"),
    "not trained": ("/models/ptbxl/lstm/predict", b"", {}, 503, "dvc repro"),
    "an unknown option": (f"{CNN}?explian=true", b"", {}, 422, "did you mean explain"),
    "an odd option": (f"{CNN}?explain=1", b"", {}, 422, "true or false, not '1'"),
    "an option twice": (f"{CNN}?explain=true&explain=false", b"", {}, 422, "twice"),
    "rows of no JSON": ("/predict", b"{", JSON, 400, "JSON"),
    "rows as CSV": ("/predict", b"1,2,3", CSV, 415, "application/json"),
    "a feature is missing": ("/predict", b'{"heart_rate": 1}', JSON, 422, "pr_interval"),
    "an unknown feature": (
        "/predict",
        json.dumps(ROW | {"heart_rat": 1}).encode(),
        JSON,
        422,
        "did you mean heart_rate",
    ),
    "a misspelt feature": (
        "/predict",
        b'{"heart_rat": 1, "pr_interval": 1, "qrs_duration": 1}',
        JSON,
        422,
        "did you mean heart_rate",
    ),
    "a feature of a very long name": (
        "/predict",
        json.dumps(ROW | {"heart_rat" * 50_000: 1}).encode(),
        JSON,
        422,
        r"unknown feature 'heart_rat[a-z_]{20,80}\u2026'",
    ),
    "a feature in words": ("/predict", b'[1, 2, "3"]', JSON, 422, "qrs_duration"),
    "too few features": ("/predict", b"[1, 2]", JSON, 422, "3 features"),
    "no rows": ("/predict", b"[]", JSON, 422, ""),
    "too many rows": ("/predict", json.dumps([[1, 2, 3]] * 21).encode(), JSON, 413, "20"),
    "true as a feature": ("/predict", b"[1, 2, true]", JSON, 422, ""),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(client: httpx.Client, mistake: str) -> None:
    """Each is a problem document of its status, which says what is wrong."""
    address, body, headers, status, pattern = MISTAKES[mistake]
    problem(client.post(address, content=body, headers=headers), status, pattern)


def test_unknown_paths_and_methods(client: httpx.Client) -> None:
    """Also what the framework refuses is a problem document, and 405 says what is allowed."""
    for path in ("/nothing", "/models/ptbxl", "/page/nothing.js", "/page/../app.py", "/docs/x"):
        problem(client.get(path), 404)
    for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"):
        response = client.request(method, CNN)
        problem(response, 405, method)
        assert response.headers["allow"] == "POST"
    response = client.post("/health")
    problem(response, 405)
    assert set(response.headers["allow"].split(", ")) == {"GET", "HEAD"}
    assert client.head("/nothing").status_code == 404
    assert client.get("/health?x=1").status_code == 422


KINDS = (
    *("application/json", "application/x-npy", "text/csv", "multipart/form-data; boundary=x"),
    *("application/zip", "audio/wav", "image/png", "application/octet-stream", "", "x"),
)
STARTS = (
    *(b"", b"PK\x03\x04", b"RIFF", b"fLaC", b"OggS", b"\x89PNG\r\n\x1a\n", PART, npy(ECG)),
    *(json.dumps(ROW).encode(), json.dumps(ECG.tolist()).encode(), ECG.tobytes()),
)


@settings(max_examples=120, suppress_health_check=[HealthCheck.too_slow])
@given(
    address=st.sampled_from([CNN, AUTOENCODER, "/predict"]),
    kind=st.sampled_from(KINDS),
    start=st.sampled_from(STARTS),
    cut=st.integers(0, 400),
    rest=st.binary(max_size=60) | st.text('[]{},:."0123456789e-\n', max_size=60).map(str.encode),
    headers=st.dictionaries(
        st.sampled_from(["X-Shape", "X-Sampling-Rate", "X-Unit", "X-Channels", "Content-Encoding"]),
        st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12)
        | st.sampled_from(["120,3", "1", "100"]),
        max_size=2,
    ),
)
def test_no_body_is_an_error_of_ours(
    client: httpx.Client,
    address: str,
    kind: str,
    start: bytes,
    cut: int,
    rest: bytes,
    headers: dict[str, str],
) -> None:
    """Whatever is sent as whatever: an answer, or a problem document that puts it down to the client."""
    body = start[: len(start) - cut] + rest
    headers = {name: value.strip() for name, value in headers.items()}
    response = client.post(address, content=body, headers={"Content-Type": kind, **headers})
    assert response.status_code < 500, response.text
    if response.status_code != 200:
        problem(response, response.status_code, ".")


def test_a_shape_beside_files(client: httpx.Client) -> None:
    """X-Shape is of raw bytes: it does not decide how a file in a form is read."""
    files = {"file": ("x.npy", npy(ECG))}
    alone = client.post(CNN, files=files).json()
    assert client.post(CNN, files=files, headers={"X-Shape": "120,3"}).json() == alone


def test_much_from_few_bytes(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording that resampling makes large is answered by a thread, however small it came."""
    threads: set[str] = set()
    respond = answers.respond

    def noted(*arguments: Any, **options: Any) -> dict[str, Any]:
        threads.add(threading.current_thread().name)
        return respond(*arguments, **options)

    monkeypatch.setattr(answers, "respond", noted)
    slow = {"Content-Type": NPY["Content-Type"], "X-Sampling-Rate": "3"}
    file = io.BytesIO()
    np.save(file, np.tile(np.array([[1, 2, 3], [4, 6, 5]], np.int8), (260, 1)))
    assert client.post(CNN, content=file.getvalue(), headers=slow).status_code == 200
    assert all(name.startswith(("quick", "slow")) for name in threads) and threads


# Limits


def test_more_rows_than_there_may_be(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Are counted before a parser makes objects of them; what only looks like many is read."""
    url = f"{client.base_url}/predict"
    json_type = {"Content-Type": "application/json"}
    with monkeypatch.context() as context:
        context.setattr(requests.orjson, "loads", None)  # would be called
        for body in (b"[" + b"[]," * 100_000 + b"[]]", b"[" + b"1," * 100_000 + b"1]"):
            problem(httpx.post(url, content=body, headers=json_type), 413, "20 rows of 3 features")
        body = b"{" + b",".join(b'"a%d":1' % number for number in range(10_000)) + b"}"
        problem(httpx.post(url, content=body, headers=json_type), 413)
    rows = [ROW | {"heart_rate": number} for number in range(20)]
    assert len(client.post("/predict", json=rows).json()) == 20
    problem(client.post("/predict", json=[*rows, ROW]), 413, "21 rows are more than the 20")
    odd = ROW | {"[" * 5000 + '\\"' + "," * 5000: 1}
    problem(client.post("/predict", json=odd), 422, "unknown feature")


def test_rows_say_what_they_are(client: httpx.Client) -> None:
    """A page of somebody else's may send texts and forms without asking, and JSON only with leave."""
    body = json.dumps(ROW).encode()
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        problem(client.post("/predict", content=body, headers={"Content-Type": kind}), 415)
    problem(client.post("/predict", content=body), 415, "send application/json")


def test_too_large(client: httpx.Client) -> None:
    """By what is announced, before it is read, and by what arrives if nothing is announced."""
    body = bytes(1_100_000)
    problem(client.post(CNN, content=body, headers=RAW), 413, "larger than 1 MB")
    problem(client.post(CNN, content=iter([body[:600_000]] * 2), headers=RAW), 413)
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n"
    for more, status in ((b"Content-Type: application/json\r\n", b"413"), (b"", b"415")):
        answer = exchange(client, head + more + b"\r\n")
        assert answer.startswith(b"HTTP/1.1 %s " % status)
        assert b"connection: close" in answer.lower()


def exchange(client: httpx.Client, sent: bytes, seconds: float = 10) -> bytes:
    """Return the server's reply to some bytes until it closes the connection."""
    address = (client.base_url.host, client.base_url.port or 80)
    received = b""
    with socket.create_connection(address, timeout=seconds) as connection:
        connection.sendall(sent)
        while part := connection.recv(65536):
            received += part
    return received


def test_too_slow(folder: Path) -> None:
    """A body that does not arrive is not waited for longer than it may take."""
    with project.client(folder, seconds_to_send=0.2) as client:
        head = f"POST {CNN} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1440\r\n\r\n".encode()
        start = time.monotonic()
        answer = exchange(client, head + b"ab")
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"did not arrive within 0.2 seconds" in answer
        assert 0.2 <= time.monotonic() - start < 5


def test_a_client_that_leaves(client: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    """In the middle of its body: nothing is logged, and the next one is answered."""
    address = (client.base_url.host, client.base_url.port or 80)
    before = gone(client)
    with socket.create_connection(address) as connection:
        head = f"POST {CNN} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1440\r\n\r\n".encode()
        connection.sendall(head + b"ab")
        time.sleep(0.1)
    project.wait_until(lambda: gone(client) == before + 1)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def gone(client: httpx.Client) -> float:
    """Count the requests whose clients had gone before they could be answered."""
    found = re.findall(r'requests_total\{.*status="none"\} (.*)', client.get("/metrics").text)
    return sum(map(float, found))


def test_nothing_is_written_to_disk(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of a form stay in memory, however large."""
    monkeypatch.setattr(SpooledTemporaryFile, "rollover", None)  # would be called to write
    large = npy(np.zeros((10_000, 12), np.float64))
    response = client.post(CNN, files=[("a", ("a.npy", large))])
    problem(response, 413, "values")  # so it has been read


def test_long_work_lets_others_through(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While some wait for explanations, /health and small requests are answered at once; beyond those
    that may wait, one is told to come back."""
    respond, release = answers.respond, threading.Event()

    def slow(*arguments: Any, explain: bool, **options: Any) -> dict[str, Any]:
        if explain:
            assert release.wait(20)
        return respond(*arguments, explain=False, **options)

    monkeypatch.setattr(answers, "respond", slow)
    statuses: list[int] = []

    def ask() -> None:
        address = f"{client.base_url}{CNN}?explain=true"
        response = httpx.post(address, content=ECG.tobytes(), headers=RAW, timeout=30)
        statuses.append(response.status_code)

    askers = [threading.Thread(target=ask) for _ in range(WAITING + 3)]
    for asker in askers:
        asker.start()
    project.wait_until(lambda: statuses == [503] * 2)
    for _ in range(3):
        start = time.monotonic()
        assert client.get("/health").status_code == 200
        assert client.post(CNN, content=ECG.tobytes(), headers=RAW).status_code == 200
        # What the server does matters most when it does much.
        assert client.get("/metrics").status_code == 200
        assert len(client.get("/models/ptbxl/cnn/examples").json()["examples"]) == 1
        assert time.monotonic() - start < 2
    release.set()
    for asker in askers:
        asker.join()
    assert sorted(statuses) == [200] * (WAITING + 1) + [503] * 2


def test_an_answer_that_would_take_too_long(folder: Path) -> None:
    """Is refused before it is begun, with the number and what to do."""
    with project.client(folder, seconds_to_answer=1e-5) as client:
        for query, cure in (("", "shorter part$"), ("?explain=true", "for an explanation$")):
            response = client.post(f"{CNN}{query}", content=ECG.tobytes(), headers=RAW)
            problem(response, 413, rf"about [\d.e-]+ seconds, .*1e-05.*{cure}")


def test_an_answer_that_takes_too_long(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is given up, with the reason."""
    release = threading.Event()
    monkeypatch.setattr(answers, "respond", lambda *_, **__: release.wait(20))
    with project.client(folder, seconds_to_answer=0.2) as client:
        response = client.post(f"{CNN}?explain=true", content=ECG.tobytes(), headers=RAW)
        problem(response, 503, "took longer than 0.2 seconds")
        release.set()


def test_an_error_of_ours(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Tells nothing of itself to the client, and everything to the log."""

    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("a secret")

    monkeypatch.setattr(answers, "respond", broken)
    for address in (CNN, f"{CNN}?explain=true"):
        response = client.post(address, content=ECG.tobytes(), headers=RAW)
        assert problem(response, 500) == "an error of ours"
        assert "ZeroDivisionError: a secret" in caplog.text
        caplog.clear()


def test_what_is_given_up_when_the_server_ends(folder: Path) -> None:
    """A request whose task is cancelled, as it is when shutting down takes too long, is told so."""

    async def ask() -> list[Any]:
        app = create_app(project.limits(), folder, project.WANTED)
        app.state.service.registry.look()
        sent: list[Any] = []

        async def never() -> Any:
            await asyncio.Event().wait()

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": CNN,
            "query_string": b"",
            "headers": [(b"host", b"localhost")],
        }
        task = asyncio.create_task(app(scope, never, send))
        await asyncio.sleep(0.05)
        task.cancel()
        await task
        return sent

    start, body = asyncio.run(ask())
    assert start["status"] == 503
    assert json.loads(body["body"])["detail"].startswith("the server ends")


# Pages


def test_every_answer_says_what_a_browser_may_do(client: httpx.Client) -> None:
    """No sniffing, no referrer, no frames, nothing from elsewhere; of pages, files, answers, errors."""
    for path in ("/", "/docs", "/health", "/nothing", "/page/icon.svg", "/page/docs.js"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        policy = dict(
            part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";")
        )
        assert policy["default-src"] == "'self'" and policy["frame-ancestors"] == "'none'"
        assert "script-src" not in policy


def test_pages_need_no_network(client: httpx.Client) -> None:
    """The documentation's page names only files that this server has, none with a script inside."""
    page = client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    named = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(named) == 4
    for address in named:
        assert client.get(f"/{address}").status_code == 200
    assert not re.search(r"<script>|https?://", page.text)
    kinds = ("image/svg+xml", "text/css", "text/javascript", "text/javascript")
    for address, kind in zip(named, kinds, strict=True):
        assert client.get(f"/{address}").headers["content-type"].startswith(kind)
    assert client.get("/").text == (PAGE / "index.html").read_text()
    assert client.get("/favicon.ico").status_code == 204


@pytest.mark.parametrize(
    ("address", "named"),
    [
        ("/feedback", "monitoring.log"),
        ("/machines", "monitoring.log"),
        ("/machines/pump-7/history", "monitoring.log"),
        ("/machines/pump-7/features", "BEATLINE_FEATURE_STORE"),
        ("/machines/pump-7/else", "/docs"),
    ],
)
def test_what_is_switched_off_says_how_to_have_it(
    client: httpx.Client, address: str, named: str
) -> None:
    """Without a log and a feature store; what is nowhere is not promised."""
    answer = client.get(address)
    assert answer.status_code == 404 and named in answer.json()["detail"]
