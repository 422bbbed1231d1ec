"""The OpenAPI document is true: requests made from it, and against it, are answered as it says."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import schemathesis

from tests.serving import project

EXAMPLES = 15  # requests of each operation and phase, besides those at the edges of its schemas
# One of the models is not trained, which is a 503. The shape that a model takes is not in the document,
# so what fits that may be refused. Too many rows are refused as what is too large.
CONFIGURATION = """
[checks.not_a_server_error]
expected-statuses = ["2xx", "4xx", "503"]
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "400", "404", "413", "415", "422", "503"]
[checks.negative_data_rejection]
expected-statuses = ["400", "404", "413", "415", "422"]
"""
HOOKS = """
from pathlib import Path
import schemathesis
from hypothesis import strategies

files = [path.read_bytes() for path in sorted(Path("files").iterdir())]
for name in {names}:
    schemathesis.openapi.media_type(
        name, strategies.sampled_from(files) | strategies.binary(max_size=50)
    )
"""
RECORDING = "/models/{dataset}/{model}/predict"
RAW = {"Content-Type": "application/octet-stream"}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with project.client(project.make(tmp_path_factory.mktemp("project"))) as found:
        yield found


def test_the_document_is_true(client: httpx.Client, tmp_path: Path) -> None:
    """Of all operations."""
    check_document(client, tmp_path, 7)


def check_document(client: httpx.Client, tmp_path: Path, operations: int) -> None:
    """All checks of schemathesis in all its phases: every answer has a status, a media type, headers and
    a body that the document names; what breaks its schemas is refused; nothing is an error of ours."""
    recording = project.raw_recordings("ptbxl")[0]
    (tmp_path / "files").mkdir()
    np.save(tmp_path / "files/recording.npy", recording)
    (tmp_path / "files/recording.f32").write_bytes(recording.tobytes())
    (tmp_path / "files/recording.csv").write_text("I,II,V1\n" + "0.1,0.2,0.3\n" * 120)
    content = document(client)["paths"][RECORDING]["post"]["requestBody"]["content"]
    names = [name for name in content if name not in ("application/json", "multipart/form-data")]
    (tmp_path / "hooks.py").write_text(HOOKS.format(names=names))
    (tmp_path / "schemathesis.toml").write_text(CONFIGURATION)
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{client.base_url}/openapi.json"]
    options = ["--checks=all", f"--max-examples={EXAMPLES}", "--seed=1", "--no-color"]
    done = subprocess.run(
        [*command, *options],
        cwd=tmp_path,
        env={"SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": ".", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Operations:       {operations} selected / {operations} total" in done.stdout


def document(client: httpx.Client) -> dict[str, Any]:
    return client.get("/openapi.json").json()


@pytest.mark.parametrize("options", ["", "?explain=true&recording=true"])
@pytest.mark.parametrize("key", ["ptbxl/cnn", "ecg5000/autoencoder", "ecg_features/mlp"])
def test_answers_are_as_documented(client: httpx.Client, key: str, options: str) -> None:
    """Answers about recordings that fit, which no schema can make: from each kind of model, with and
    without explanation and recording."""
    samples = project.raw_recordings(key.split("/")[0])[0]
    shape = ",".join(map(str, samples.shape))
    response = client.post(
        f"/models/{key}/predict{options}",
        content=samples.tobytes(),
        headers=RAW | {"X-Shape": shape},
    )
    assert response.status_code == 200
    assert ("explanation" in response.json()) == bool(options)
    schema = schemathesis.openapi.from_dict(document(client))
    schema[RECORDING]["POST"].validate_response(response)


def test_the_document_names_what_is_served(client: httpx.Client) -> None:
    """Data sets, models and features are those of this server, so that they can be chosen from."""
    found = document(client)
    dataset, model, *_ = found["paths"][RECORDING]["post"]["parameters"]
    assert dataset["schema"]["enum"] == ["ptbxl", "ecg5000", "ecg_features"]
    assert model["schema"]["enum"] == ["cnn", "autoencoder", "mlp", "lstm"]
    content = found["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
    assert list(content["example"]) == project.FEATURES
    assert client.post("/predict", json=content["example"]).status_code == 200


def test_the_documented_recording_is_real(client: httpx.Client) -> None:
    """What /docs fills in, the model, the data set and the body, is answered without a caution: a test
    recording of the shortest kind that there is."""
    operation = document(client)["paths"][RECORDING]["post"]
    key = {each["name"]: each["example"] for each in operation["parameters"] if "example" in each}
    example = operation["requestBody"]["content"]["application/json"]["example"]
    np.testing.assert_allclose(example["signal"], project.raw_recordings("ptbxl")[0], rtol=1e-3)
    response = client.post("/models/{dataset}/{model}/predict".format(**key), json=example)
    assert response.status_code == 200
    assert not [w for w in response.json()["warnings"] if w["grade"] == "caution"]


def test_each_problem_is_described_once(client: httpx.Client) -> None:
    """Operations point at it; none is described that no operation has."""
    found = document(client)
    used = {
        response["$ref"].rpartition("/")[2]: status
        for path in found["paths"].values()
        for operation in path.values()
        for status, response in operation["responses"].items()
        if int(status) >= 400
    }
    described = found["components"]["responses"]
    assert used.keys() == described.keys() and len(set(used.values())) == len(used)
    assert len({response["description"] for response in described.values()}) == len(described)


def test_the_document_of_an_open_server(client: httpx.Client) -> None:
    """Names neither."""
    found = document(client)
    assert "securitySchemes" not in found["components"]
    for path in found["paths"].values():
        for operation in path.values():
            assert "security" not in operation and not {"401", "429"} & set(operation["responses"])
