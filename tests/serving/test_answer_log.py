"""What the service answers is in its log, with what it rests on, and a log that fails costs no answer."""

from __future__ import annotations

import io
import re
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import schemathesis
import soundfile

from beatline.features import sound
from beatline.monitoring.answers import Answer, AnswerLog
from beatline.monitoring.settings import KeepRecordings, Monitoring
from beatline.prediction import familiarity
from beatline.serving import registry
from beatline.serving.model import load
from tests.serving import project
from tests.serving.test_api import npy, problem
from tests.serving.test_schema import check_document

ECG, DETECTOR, SOUND = "ptbxl/cnn", "ecg5000/autoencoder", "machine_sound/autoencoder"
NPY = {"Content-Type": "application/x-npy"}
WAIT = {"X-Wait-For-Log": "1"}


def settings(folder: Path, **changes: Any) -> Monitoring:
    log = str(folder / "answers.db")
    return Monitoring(**{"log": log, "keep_days": 30, "max_megabytes": 100} | changes)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = project.make(tmp_path_factory.mktemp("project"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(project.DATASETS, "machine_sound", project.MORE_DATASETS["machine_sound"])
        patch.setattr(project, "WANTED", [*project.WANTED, SOUND])
        project.save(folder / registry.FOLDER / SOUND, SOUND)
        yield folder


@pytest.fixture(scope="module")
def client(root: Path) -> Iterator[httpx.Client]:
    with project.client(root, settings(root)) as client:
        yield client


def logged(root: Path, answer: dict[str, Any]) -> Answer:
    """An answer as it stands in the log."""
    with AnswerLog(str(root / "answers.db")) as log:
        return log.answers([answer["answer"]])[answer["answer"]]


def ask(client: httpx.Client, key: str = ECG, number: int = 0, **headers: str) -> dict[str, Any]:
    recording = project.raw_recordings(key.split("/")[0])[number]
    headers = NPY | WAIT | {name.replace("_", "-"): value for name, value in headers.items()}
    response = client.post(f"/models/{key}/predict", content=npy(recording), headers=headers)
    assert response.status_code == 200, response.text
    return response.json()


def ask_about_sound(client: httpx.Client, **headers: str) -> dict[str, Any]:
    file = io.BytesIO()
    noise = np.random.default_rng(3).standard_normal(32_320) / 10
    soundfile.write(file, noise, 16_000, "FLOAT", format="WAV")
    headers = {"Content-Type": "audio/wav"} | WAIT | headers
    response = client.post(f"/models/{SOUND}/predict", content=file.getvalue(), headers=headers)
    assert response.status_code == 200, response.text
    return response.json()


def test_an_answer_is_logged(client: httpx.Client, root: Path) -> None:
    """With what its client was told, and what the model saw of the recording."""
    answer = ask(client, X_Entity_Id="patient-7")
    assert answer["logged"] is True
    row = logged(root, answer)
    assert (row.dataset, row.model, row.weights) == ("ptbxl", "cnn", answer["model"]["weights"])
    assert (row.entity, row.role, row.version) == ("patient-7", "champion", None)
    assert row.scores.tolist() == pytest.approx(list(answer["probabilities"].values()))
    assert row.decisions.tolist() == list(answer["decisions"].values())
    assert row.warnings == [warning["code"] for warning in answer["warnings"]]
    assert row.thresholds is not None
    assert row.thresholds.tolist() == pytest.approx(list(answer["thresholds"].values()))
    assert 0 < row.seconds < 5 and row.features is None
    model = load(root / registry.FOLDER / ECG)
    signal = model.normalized(project.raw_recordings("ptbxl")[0])
    expected = familiarity.features(signal, model.model_info["dataset"])
    np.testing.assert_allclose(row.embedding, expected, rtol=1e-6)  # pyright: ignore


def test_a_detectors_answer(client: httpx.Client, root: Path) -> None:
    answer = ask(client, DETECTOR)
    row = logged(root, answer)
    assert row.scores.tolist() == pytest.approx([answer["score"]])
    assert row.decisions.tolist() == [answer["anomaly"]]


def test_sound(client: httpx.Client, root: Path) -> None:
    """With the features that were measured of it, and the machine that it is of."""
    row = logged(root, ask_about_sound(client, **{"X-Machine-Id": "pump-1"}))
    assert row.entity == "pump-1" and row.features is not None
    assert [*row.features] == list(sound.FEATURES)
    assert "not_stored" not in row.warnings, "the log is where it is kept"


def test_rows(client: httpx.Client, root: Path) -> None:
    """Each is an answer of its own, found again by its own id."""
    rows = [
        dict(zip(project.FEATURES, values, strict=True))
        for values in ([71, 150, 90], [60, None, 80])
    ]
    answers = client.post("/predict", json=rows, headers=WAIT).json()
    assert [answer["logged"] for answer in answers] == [True, True]
    read = [logged(root, answer) for answer in answers]
    assert [row.features for row in read] == rows
    for row, answer in zip(read, answers, strict=True):
        assert row.decisions.argmax() == answer["predicted_class"] and row.decisions.sum() == 1
        assert row.scores.max() == pytest.approx(answer["probability"])


def test_clients_need_not_wait(client: httpx.Client, root: Path) -> None:
    """Their answers are logged all the same, a little later."""
    answer = ask(client, X_Wait_For_Log="0")
    assert "logged" not in answer
    with AnswerLog(str(root / "answers.db")) as log:
        project.wait_until(lambda: answer["answer"] in log.answers([answer["answer"]]))


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("X-Entity-Id", "Jane Doe"),
        ("X-Entity-Id", "a" * 65),
        ("X-Entity-Id", ""),
        ("X-Wait-For-Log", "yes"),
    ],
)
def test_headers_that_are_wrong(client: httpx.Client, header: str, value: str) -> None:
    """They are refused, whatever is asked."""
    recording = npy(project.raw_recordings("ptbxl")[0])
    headers = NPY | {header: value}
    problem(client.post(f"/models/{ECG}/predict", content=recording, headers=headers), 422, header)
    problem(client.post("/predict", json=[1, 2, 3], headers={header: value}), 422, header)


def test_a_sound_of_two_entities(client: httpx.Client) -> None:
    """It is refused: it would be erased with one of them, or not."""
    headers = NPY | {"X-Machine-Id": "pump-1", "X-Entity-Id": "pump-2"}
    response = client.post(f"/models/{SOUND}/predict", content=b"", headers=headers)
    problem(response, 422, "X-Entity-Id")


def test_nothing_is_logged_without_a_log(root: Path) -> None:
    """Answers have no id then, and who asks is told that they are not logged."""
    with project.client(root) as client:
        answer = ask(client)
        assert "answer" not in answer and answer["logged"] is False
        assert "logged" not in ask(client, X_Wait_For_Log="0")


def test_recordings_are_kept_where_that_is_asked(root: Path, tmp_path: Path) -> None:
    """In the data set's unit and before normalization; of sound the waveform."""
    keep = KeepRecordings(days=30, max_megabytes=10)
    with project.client(root, settings(tmp_path, keep_recordings=keep)) as client:
        ecg, heard = ask(client), ask_about_sound(client)
        row = client.post("/predict", json=[71, 150, 90], headers=WAIT).json()
    with AnswerLog(str(tmp_path / "answers.db")) as log:
        kept = log.recordings([ecg["answer"], heard["answer"], row["answer"]])
    assert row["answer"] not in kept
    np.testing.assert_array_equal(kept[ecg["answer"]].samples, project.raw_recordings("ptbxl")[0])
    assert kept[ecg["answer"]].channels == ["I", "II", "V1"]
    assert (kept[ecg["answer"]].sampling_rate, kept[ecg["answer"]].unit) == (100, "mV")
    assert kept[heard["answer"]].samples.shape == (32_320, 1)
    assert kept[heard["answer"]].sampling_rate == 16_000


def test_recordings_are_not_kept_otherwise(client: httpx.Client, root: Path) -> None:
    answer = ask(client)
    with AnswerLog(str(root / "answers.db")) as log:
        assert not log.recordings([answer["answer"]])


def test_a_log_that_cannot_be_written(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers are given all the same; who waits is told in time that it is not logged."""
    monkeypatch.setattr("beatline.serving.answer_log.SECONDS_TO_WAIT", 0.2)
    monkeypatch.setattr("beatline.monitoring.writer.SECONDS_TO_END", 0.2)
    with project.client(root, settings(tmp_path)) as client:
        assert ask(client)["logged"] is True
        with closing(sqlite3.connect(tmp_path / "answers.db", isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            assert ask(client)["logged"] is False
            assert client.get("/health").status_code == 200
            ask(client, X_Wait_For_Log="0")


def test_what_is_logged_is_counted(client: httpx.Client) -> None:
    ask(client)
    assert re.search(
        r'^beatline_answer_log_rows_total{outcome="written"} [1-9]',
        client.get("/metrics").text,
        re.MULTILINE,
    )


def test_many_clients_at_once(client: httpx.Client, root: Path) -> None:
    """Every answer has an id of its own, and what was acknowledged is there."""
    answers: list[dict[str, Any]] = []

    def several() -> None:
        with httpx.Client(base_url=client.base_url, timeout=30) as own:
            answers.extend(ask(own, number=number % 8) for number in range(20))

    threads = [threading.Thread(target=several) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ids = {answer["answer"] for answer in answers}
    assert len(ids) == 80 and all(answer["logged"] for answer in answers)
    with AnswerLog(str(root / "answers.db")) as log:
        assert log.answers(ids).keys() == ids


def test_machines(client: httpx.Client) -> None:
    """What a detector of sounds said of each is told, and what was measured; of no patient."""
    answers = [ask_about_sound(client, **{"X-Machine-Id": "fan-1"}) for _ in range(3)]
    ask(client, X_Entity_Id="patient-8")
    ask_about_sound(client, **{"X-Entity-Id": "patient-8"})  # of a heart, say
    response = client.get("/machines")
    machines = {machine["machine"]: machine for machine in response.json()["machines"]}
    assert "patient-8" not in machines
    fan = machines["fan-1"]
    assert [*fan["features"]] == list(sound.FEATURES) and 0 <= fan["age_seconds"] < 60
    (detector,) = fan["detectors"]
    assert (detector["dataset"], detector["model"]) == ("machine_sound", "autoencoder")
    assert detector["score"] == pytest.approx(answers[-1]["score"])
    assert detector["threshold"] == pytest.approx(answers[-1]["threshold"])
    assert detector["answers"] == 3 and detector["alarm"] == answers[-1]["anomaly"]
    history = client.get("/machines/fan-1/history")
    (series,) = history.json()["series"]
    assert series["answer"] == [answer["answer"] for answer in answers]
    problem(client.get("/machines/fan-2/history"), 404, "fan-1")
    problem(client.get("/machines/patient-8/history"), 404)
    schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
    schema["/machines"]["GET"].validate_response(response)
    schema["/machines/{machine_id}/history"]["GET"].validate_response(history)


def test_machines_before_anything_was_asked(root: Path, tmp_path: Path) -> None:
    """There are none, which is no error."""
    with project.client(root, settings(tmp_path)) as client:
        assert client.get("/machines").json()["machines"] == []


def test_the_document_is_true(client: httpx.Client, tmp_path: Path) -> None:
    """Whatever is asked of a server with a log."""
    check_document(client, tmp_path, 10)
