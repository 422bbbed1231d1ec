"""Bodies that are made to become something large: refused, in memory that their size accounts for."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import httpx
import pytest

from beatline.serving import json_text
from tests.serving import project
from tests.serving.test_answer_log import settings
from tests.serving.test_api import problem

MEGABYTES = 4.0
SIZE = int(MEGABYTES * 1e6) - 100
MOST = 6 * SIZE  # bytes that a request may take: its body some times over
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
BODIES = {
    "rows and a long text": ("/predict", filled(ROWS + b'"', b"a", b'"]'), 413),
    "rows and a text of escapes": ("/predict", filled(ROWS + b'"', rb"\n", b'"]'), 413),
    "rows and a text without an end": ("/predict", filled(ROWS + b'"', rb"\"", b""), 413),
    "rows of short texts": ("/predict", filled(b"[", b'"" ,', b'""]'), 413),
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
    problem(response, status)
    assert highest < MOST


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
