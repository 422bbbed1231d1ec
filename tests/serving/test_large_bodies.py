"""Bodies that are made to become something large: refused, in memory that their size accounts for."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import httpx
import pytest

from beatline.serving import json_text
from tests.serving import project
from tests.serving.test_answer_log import settings

MEGABYTES = 4.0
SIZE = int(MEGABYTES * 1e6) - 100
# Bytes that a request may take: its body some times over. The parser sets aside twelve times its size, of
# which it touches what it needs.
MOST = 16 * SIZE
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    root = project.make(tmp_path_factory.mktemp("project"))
    limits = {"max_megabytes": MEGABYTES, "max_values": 1_000_000, "max_rows": 1000}
    with project.client(root, settings(root), **limits) as client:
        yield client


def filled(start: bytes, part: bytes, end: bytes) -> bytes:
    """A body of the largest size, of as many parts as fit."""
    return start + part * ((SIZE - len(start) - len(end)) // len(part)) + end


ROWS = b"[" + b"1," * 10_000  # more than a request may have
CNN, INFER = "/models/ecg5000/autoencoder/predict", "/v2/models/ptbxl.cnn/infer"
BODIES = {
    "rows and a long text": ("/predict", filled(ROWS + b'"', b"a", b'"]'), 413),
    "rows and a text of escapes": ("/predict", filled(ROWS + b'"', rb"\n", b'"]'), 413),
    "rows and a text without an end": ("/predict", filled(ROWS + b'"', rb"\"", b""), 413),
    "rows of short texts": ("/predict", filled(b"[", b'"" ,', b'""]'), 413),
    "empty lists of feedback": ("/feedback", filled(b"[", b"[],", b"[]]"), 413),
    "labels": ("/feedback", filled(b'{"answer": "0", "labels": [', b'"",', b'""]}'), 413),
    "a long key of feedback": ("/feedback", filled(b'{"', b"abc", b'": 1}'), 422),
    "a long key of a row": ("/predict", filled(b'{"', b"abc", b'": 1}'), 422),
    "a long key beside a signal": (CNN, filled(b'{"', b"abc", b'": 1}'), 422),
    "a value in each list": (CNN, filled(b"[", b"[1],", b"[1]]"), 413),
    "empty objects": (CNN, filled(b"[", b"{},", b"{}]"), 413),
    "names without a signal": (CNN, filled(b'{"channels": [', b'"",', b'""]}'), 413),
    "texts as a signal": (CNN, filled(b"[", b'"",', b'""]'), 413),
    "channels by name": (
        CNN,
        b'{"signal": {%s}}' % b",".join(b'"%x": [1]' % number for number in range(250_000)),
        413,
    ),
    "lists in a tensor": (INFER, filled(b'{"inputs": [{"data": [', b"[1],", b"[1]]}]}"), 413),
    "inputs": (INFER, filled(b'{"inputs": [', b"{},", b"{}]}"), 413),
}


@pytest.mark.parametrize("body", BODIES)
def test_memory(client: httpx.Client, body: str) -> None:
    """No more than a body and some copies of it: no object for each of its bytes."""
    path, content, status = BODIES[body]
    tracemalloc.start()
    try:
        response = client.post(path, content=content, headers=JSON)
        _, highest = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert response.status_code == status, response.text
    assert highest < MOST


@pytest.mark.parametrize("path", [CNN, INFER])
def test_a_recording_of_many_lists(client: httpx.Client, path: str) -> None:
    """Is told how it can be sent, as what takes less."""
    _, content, _ = BODIES["a value in each list" if path == CNN else "lists in a tensor"]
    assert "one list" in client.post(path, content=content, headers=JSON).text


@pytest.mark.parametrize(
    ("text", "separators"),
    [
        (b"1", 0),
        (b"[]", 1),
        (b'[1, {"a": [2]}]', 4),
        (rb'["a,[{\"", "\\", ",\\\","]', 3),
        (rb'{"\\\"[": "]", "b": "[\\"}', 2),
        (b'["a,,,,', 1),
    ],
)
def test_what_strings_hold_does_not_count(text: bytes, separators: int) -> None:
    assert not json_text.has_more(text, separators)
    assert json_text.has_more(text, separators - 1)
