"""Damaged and hostile bundles: each is refused in words when it is loaded, or answers."""

from __future__ import annotations

import copy
import hashlib
import json
import random
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from beatline.bundle.model_info import DESCRIPTION, GRAPH, GRAPH_SHA256
from beatline.common import sums
from beatline.common.errors import UserError
from beatline.export import limits
from beatline.formats.recording import Recording
from beatline.serving import answers
from beatline.serving import model as models
from beatline.serving.problems import Problem
from tests.fuzz import CASES
from tests.serving import project

KEYS = project.TRAINED
DEEP = "<deep>"  # replaced in the text: no such list can be made
VALUES: list[Any] = [
    None, True, "", "0", "nan", "x" * 100_000, "\ud800", "\0", 0, 1, -1, 2, 0.5, 1e-320, 1e-200, 1e200,
    10**18, 10**30, -(10**400), float("nan"), float("inf"), [], [[]], [None], ["a"], [1.5], {}, {"a": {}},
    [0.0] * 3, [1e-200] * 3, [1e149] * 3, [10**20] * 3, DEEP,
]  # fmt: skip


def places(content: Any) -> list[tuple[Any, Any]]:
    """All containers of a JSON document with each of their keys."""
    keys = list(content) if isinstance(content, dict) else list(range(len(content)))
    inside = [content[key] for key in keys if isinstance(content[key], (dict, list))]
    return [
        *((content, key) for key in keys),
        *(place for part in inside for place in places(part)),
    ]


def mutated(content: dict[str, Any], draw: random.Random) -> str:
    """The text of model.json with one to three changes."""
    content = json.loads(json.dumps(content))
    for _ in range(draw.choice((1, 1, 2, 3))):
        container, key = draw.choice(places(content))
        how = draw.randrange(6)
        if how == 0:
            del container[key]
        elif how == 1 and isinstance(container[key], (int, float)):
            container[key] *= draw.choice((-1, 0, 3, 10**9))
        elif how == 2 and isinstance(container[key], list):
            container[key] = container[key] * draw.choice((0, 2, 100))
        elif how == 3:
            other, name = draw.choice(places(content))
            container[key] = copy.deepcopy(other[name])
        else:
            container[key] = copy.deepcopy(draw.choice(VALUES))
    return json.dumps(content).replace(json.dumps(DEEP), "[" * 5_000 + "]" * 5_000)


def outcome(folder: Path, recording: np.ndarray) -> str:
    """Load a bundle and let it answer, as a client gets it; any other exception than those with which the
    service refuses is a 500."""
    try:
        model = models.load(folder)
    except UserError as error:
        assert len(str(error)) < 1_500
        return "refused"
    orjson.dumps(models.summary(model, folder / "none.json"))
    rate = model.model_info["dataset"]["sampling_rate"]
    try:
        answer = answers.respond(
            model,
            Recording(recording, sampling_rate=rate),
            explain=True,
            with_recording=True,
            limits=project.limits(),
        )
    except Problem:
        return "problem"
    orjson.dumps(answer)
    return "answered"


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of numbers near the largest that there are
@pytest.mark.parametrize("key", KEYS)
def test_damaged_descriptions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """Values of other types, of other sizes, not finite, missing, anywhere: never an error of ours."""
    monkeypatch.setattr(models, "open_session", cache(models.open_session))  # the graph stays
    monkeypatch.setattr(limits, "check", cache(limits.check))
    folder = project.make(tmp_path) / "data/models" / key
    content = json.loads((folder / DESCRIPTION).read_text())
    recording = project.raw_recordings(key.split("/")[0])[0]
    assert outcome(folder, recording) == "answered"
    draw, outcomes = random.Random(key), Counter[str]()
    for _ in range(CASES // len(KEYS)):
        (folder / DESCRIPTION).write_text(mutated(content, draw))
        sums.seal(folder)
        outcomes[outcome(folder, recording)] += 1
    print(key, dict(outcomes))
    assert min(outcomes["refused"], outcomes["answered"]) > CASES // len(KEYS) / 50, outcomes


def flipped(graph: bytes, draw: random.Random) -> bytes:
    """A graph with some bits flipped, cut, or with a piece twice."""
    how, place = draw.randrange(4), draw.randrange(len(graph))
    if how == 0:
        return graph[:place]
    if how == 1:
        end = place + draw.randrange(1, 50)
        return graph[:end] + graph[place:]
    damaged, ends = bytearray(graph), min(2_000, len(graph))
    # Weights are most of it, names and numbers at its beginning and its end tell what is done.
    for _ in range(draw.choice((1, 1, 2, 5))):
        nearby = draw.choice((len(graph), ends, -ends))
        damaged[draw.randrange(*sorted((0, nearby)))] ^= 1 << draw.randrange(8)
    return bytes(damaged)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("key", KEYS)
def test_damaged_graphs(tmp_path: Path, key: str) -> None:
    """Graphs whose sum is right, so that nothing but their inspection stands before ONNX Runtime: no
    process ends, and no other exception than those with which the service refuses."""
    folder = project.make(tmp_path) / "data/models" / key
    content, graph = json.loads((folder / DESCRIPTION).read_text()), (folder / GRAPH).read_bytes()
    recording = project.raw_recordings(key.split("/")[0])[0]
    draw, outcomes = random.Random(key), Counter[str]()
    for _ in range(CASES // 5 // len(KEYS)):
        damaged = flipped(graph, draw)
        (folder / GRAPH).write_bytes(damaged)
        content[GRAPH_SHA256] = hashlib.sha256(damaged).hexdigest()
        (folder / DESCRIPTION).write_text(json.dumps(content))
        sums.seal(folder)
        outcomes[outcome(folder, recording)] += 1
    print(key, dict(outcomes))
    assert min(outcomes["refused"], outcomes["answered"]) > 0, outcomes
