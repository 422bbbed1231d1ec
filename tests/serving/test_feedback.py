"""What experts say of answers is kept beside them, or refused with the reason."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis

from beatline.monitoring.answers import AnswerLog
from tests.serving import project
from tests.serving.test_answer_log import DETECTOR, WAIT, ask, settings
from tests.serving.test_api import problem


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return project.make(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def client(root: Path) -> Iterator[httpx.Client]:
    with project.client(root, settings(root)) as client:
        yield client


@pytest.fixture(scope="module")
def answers(client: httpx.Client) -> dict[str, str]:
    """Ids of an answer of each kind of model."""
    row = client.post("/predict", json=[71, 150, 90], headers=WAIT).json()
    ids = {"labels": ask(client), "detector": ask(client, DETECTOR), "row": row}
    return {kind: answer["answer"] for kind, answer in ids.items()}


def labels(root: Path) -> dict[str, list[str]]:
    """What the log says of each answer."""
    with AnswerLog(str(root / "answers.db")) as log:
        return {said.answer.id: said.labels for said in log.feedback()}


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("labels", ["MI", "CD"]),
        ("labels", []),
        ("detector", ["normal"]),
        ("detector", ["anomaly"]),
        ("row", ["MI"]),
    ],
)
def test_what_is_said_is_kept(
    client: httpx.Client, root: Path, answers: dict[str, str], kind: str, said: list[str]
) -> None:
    """It is in the log when that is answered, in place of what was there."""
    sent = {"answer": answers[kind], "labels": said}
    response = client.post("/feedback", json=sent)
    assert response.status_code == 200, response.text
    assert response.json() == sent | {"moment": response.json()["moment"]}
    assert labels(root)[answers[kind]] == said


def test_several_at_once(client: httpx.Client, root: Path, answers: dict[str, str]) -> None:
    """All of them are written, or, if one is wrong, none."""
    said = {"labels": ["NORM"], "detector": ["anomaly"], "row": ["CD"]}
    sent = [{"answer": answers[kind], "labels": names} for kind, names in said.items()]
    assert len(client.post("/feedback", json=sent).json()) == 3
    before = labels(root)
    assert before == {answers[kind]: names for kind, names in said.items()}
    wrong = [{"answer": answers["labels"], "labels": ["MI"]}, sent[1] | {"labels": ["MI"]}]
    problem(client.post("/feedback", json=wrong), 422, "normal")
    assert labels(root) == before


@pytest.mark.parametrize(
    ("kind", "changes", "status", "cause"),
    [
        ("labels", {"labels": ["NORMS"]}, 422, "did you mean NORM"),
        ("labels", {"labels": ["MI", "MI"]}, 422, "twice"),
        ("labels", {"labels": "MI"}, 422, "labels"),
        ("labels", {"labels": [1]}, 422, "labels"),
        ("labels", {"answer": "1"}, 422, "answer"),
        ("labels", {"answer": "0" * 32}, 404, "0000"),
        ("labels", {"anwser": 1}, 422, "did you mean answer"),
        ("detector", {"labels": []}, 422, "normal, anomaly"),
        ("detector", {"labels": ["normal", "anomaly"]}, 422, "normal, anomaly"),
        ("row", {"labels": ["MI", "CD"]}, 422, "NORM, MI, CD"),
    ],
)
def test_mistakes(
    client: httpx.Client,
    answers: dict[str, str],
    kind: str,
    changes: dict[str, Any],
    status: int,
    cause: str,
) -> None:
    sent = {"answer": answers[kind], "labels": ["MI"]} | changes
    problem(client.post("/feedback", json=sent), status, cause)


@pytest.mark.parametrize(
    ("body", "status", "cause"),
    [
        (b"{", 400, "JSON"),
        (b"[]", 422, "1 to 1000"),
        (b"[1]", 422, "entry 1"),
        (b'[{"answer": "%s"}]' % (b"0" * 32), 422, "lacks labels"),
        (b"[" + b",".join([b"1"] * 1001) + b"]", 413, "1 to 1000"),
        (
            b'[{"answer": "%s", "labels": []}, {"answer": "%s", "labels": []}]'
            % ((b"0" * 32,) * 2),
            422,
            "twice",
        ),
    ],
)
def test_bodies_that_say_nothing(
    client: httpx.Client, body: bytes, status: int, cause: str
) -> None:
    sent = client.post("/feedback", content=body, headers={"Content-Type": "application/json"})
    problem(sent, status, cause)


def test_a_log_that_cannot_be_written(
    client: httpx.Client, root: Path, answers: dict[str, str]
) -> None:
    """It is told, without where the log is, and nothing is lost when it is said again."""
    sent = {"answer": answers["labels"], "labels": ["CD"]}
    with closing(sqlite3.connect(root / "answers.db", isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        detail = problem(client.post("/feedback", json=sent), 503, "try again")
        assert str(root) not in detail
    assert client.post("/feedback", json=sent).status_code == 200
    assert labels(root)[answers["labels"]] == ["CD"]


def test_without_a_log(root: Path) -> None:
    """There is no such address."""
    with project.client(root) as client:
        problem(client.post("/feedback", json={}), 404)


def test_it_is_as_documented(client: httpx.Client, answers: dict[str, str]) -> None:
    schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
    for answer in (answers["labels"], "0" * 32):
        sent = {"answer": answer, "labels": ["MI"]}
        for body in (sent, [sent]):
            schema["/feedback"]["POST"].validate_response(client.post("/feedback", json=body))
