"""The documents' examples, pasted into a shell and Python, in front of a server of small bundles."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from markdown_it import MarkdownIt

from beatline.common import sums
from beatline.serving import examples
from beatline.serving.app import create_app
from tests.paths import ROOT
from tests.serving import project

TABLE = "ecg_features/mlp"
KEYS = ["ptbxl/cnn", "ecg5000/autoencoder", "machine_sound/autoencoder", "mnist/cnn", TABLE]
ADDRESS = re.compile(r"(?:http://)?localhost:5000")
PAGES = ("README.md", "docs/serving.md")


def blocks() -> list[str]:
    """The code blocks of the documents that ask for an example."""
    tokens = [token for page in PAGES for token in MarkdownIt().parse((ROOT / page).read_text())]
    code = [token.content for token in tokens if token.type == "code_block"]
    return [content for content in code if "json=true" in content]


def recording(dataset: str) -> tuple[np.ndarray, dict[str, Any]]:
    """An example as the pipeline keeps it, and what it says of it."""
    about = project.DATASETS[dataset]
    samples, rate, unit = project.raw_recordings(dataset)[0], about["sampling_rate"], about["unit"]
    if dataset == "machine_sound":
        rng, known = np.random.default_rng(0), {"sampling_rate": 16000, "unit": "full scale"}
        return rng.uniform(-1, 1, (512 * 63, 1)).astype(np.float32), known
    if dataset == "mnist":
        samples = np.abs(samples) / np.abs(samples).max()
    return samples, {"sampling_rate": rate, "unit": unit}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        for name, about in project.MORE_DATASETS.items():
            patch.setitem(project.DATASETS, name, about)
        patch.setitem(project.TASKS, "mnist/cnn", "multiclass")  # as digits are
        for key in KEYS:
            project.save(folder / "data/models" / key, key)
            dataset = key.split("/")[0]
            kept = folder / examples.FOLDER / dataset
            kept.mkdir(parents=True)
            samples, known = recording(dataset)
            np.save(kept / "1.npy", np.asfortranarray(samples))  # an order that readers may leave
            entry = {"name": "1", "record": "1", "labels": [], **known}
            (kept / "examples.json").write_text(json.dumps({"examples": [entry]}))
            sums.seal(kept)
        app = create_app(project.limits(max_megabytes=16.0, max_values=4_000_000), folder, KEYS)
        with project.serving(app) as url, httpx.Client(base_url=url, timeout=30) as found:
            project.wait_until(lambda: "loading" not in found.get("/health").text)
            yield found


def expected(client: httpx.Client, key: str) -> dict[str, Any]:
    """A model's answer about its example as it is, with what the list says of it."""
    address = f"/models/{key}/examples"
    (listed,) = client.get(address).json()["examples"]
    headers = {"X-Unit": listed["unit"], "Content-Type": "application/x-npy"}
    if listed["sampling_rate"]:
        headers["X-Sampling-Rate"] = str(listed["sampling_rate"])
    content = client.get(f"{address}/1").content
    response = client.post(f"/models/{key}/predict", content=content, headers=headers)
    assert response.status_code == 200, response.text
    return response.json()


def numbers(answer: dict[str, Any]) -> list[float]:
    return (
        list(answer["probabilities"].values()) if "probabilities" in answer else [answer["score"]]
    )


def test_every_kind_of_model_is_shown() -> None:
    """In curl and in Python; what the tests below paste is all that there is."""
    text = "\n".join(blocks())
    for key in KEYS:
        assert f"models/{key}/examples/1?json=true" in text, key
        assert f'ask("{key}"' in text, key


@pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl")
@pytest.mark.parametrize(
    "block",
    [block for block in blocks() if block.startswith("curl")],
    ids=lambda text: text.split("'")[1],
)
def test_what_is_pasted_into_a_shell(client: httpx.Client, block: str, tmp_path: Path) -> None:
    """Every command works as it stands, and gives the answer to the test recording."""
    for commands in block.split("\n\n"):
        key = re.findall(r"models/(\w+/\w+)/examples", commands)[0]
        pasted = ADDRESS.sub(str(client.base_url).rstrip("/"), commands)
        command = ["bash", "-euc", pasted]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "detail" not in done.stdout, done.stdout
        answer, right = json.loads(done.stdout), expected(client, key)
        if key == TABLE:
            assert answer["class"] == right["class"]
            assert answer["probability"] == pytest.approx(max(numbers(right)), abs=1e-5)
        else:
            assert numbers(answer) == pytest.approx(numbers(right), rel=1e-4)


def test_what_is_pasted_into_python(client: httpx.Client, tmp_path: Path) -> None:
    (block,) = [block for block in blocks() if 'ask("' in block and block.startswith("import")]
    pasted = ADDRESS.sub(str(client.base_url).rstrip("/"), block)
    done = subprocess.run(
        [sys.executable, "-c", pasted], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    printed = done.stdout.splitlines()
    answers = [expected(client, key) for key in re.findall(r'ask\("([\w/]+)"', block)]
    assert len(printed) == len(answers) == len(KEYS)
    for line, answer in zip(printed, answers, strict=True):
        if "probabilities" in answer and line.startswith("{"):
            assert json.loads(line.replace("'", '"')) == pytest.approx(
                answer["probabilities"], rel=1e-4
            )
        elif "class" in answer:
            assert line == answer["class"]
        else:
            assert float(line) == pytest.approx(answer["score"], rel=1e-4)
