"""Features of machines, through the API and the real Feast in a real PostgreSQL: what a sound gives is
stored and read back, its age is said, and a store that fails harms no prediction."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psycopg
import pytest
import schemathesis
import soundfile

from beatline.common.files import rounded
from beatline.feature_store import definitions, store
from beatline.features import sound
from beatline.monitoring.answers import AnswerLog
from beatline.monitoring.settings import Monitoring
from beatline.serving import machines, registry
from beatline.serving.app import create_app
from tests import postgresql
from tests.feature_store import tables
from tests.serving import project
from tests.serving.test_api import problem
from tests.serving.test_schema import check_document

pytestmark = tables.needs_feast
SOUND, DETECTOR = "machine_sound/autoencoder", "machine_features/autoencoder"
OTHER = "other_features/autoencoder"  # has learned from the same features in another order
WANTED = [SOUND, DETECTOR, OTHER, "ptbxl/cnn"]
PREDICT = f"/models/{SOUND}/predict"
ROWS: dict[str, Any] = {
    "title": "features of sounds",
    "channels": list(sound.FEATURES),
    "sampling_rate": None,
    "unit": "of each feature its own",
    "drawing": "features",
    "length": 1,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with detectors of sounds and of rows, and tables of features."""
    made = tables.make(project.make(tmp_path_factory.mktemp("project")))
    other = {**ROWS, "channels": [*sound.FEATURES[1:], sound.FEATURES[0]]}
    more = {"machine_features": ROWS, "other_features": other}
    with pytest.MonkeyPatch.context() as patch:
        for name, about in (project.MORE_DATASETS | more).items():
            patch.setitem(project.DATASETS, name, about)
        for key in (SOUND, DETECTOR, OTHER):
            project.save(made / registry.FOLDER / key, key)
    return made


@pytest.fixture(scope="module")
def database(postgresql_server: str) -> Iterator[str]:
    with postgresql.database(postgresql_server) as url:
        yield url


@pytest.fixture(scope="module")
def feature_server(root: Path, database: str) -> Iterator[str]:
    """The URL of Feast's server, whose store is filled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(store.ONLINE_STORE, database)
        tables.fill(root)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        command, environment = store.server(root, "127.0.0.1", port)
    log = root / "feast.log"
    with log.open("w") as file:
        server = subprocess.Popen(
            command, env=environment, stdout=file, stderr=file, start_new_session=True
        )
    url = f"http://127.0.0.1:{port}"
    try:
        project.wait_until(lambda: answers(f"{url}/health") or server.poll() is not None, 60)
        assert server.poll() is None, log.read_text()
        yield url
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(20)


def answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.HTTPError:
        return False


@contextmanager
def serving(
    root: Path, url: str | None, monitoring: Monitoring | None = None, **changes: Any
) -> Iterator[httpx.Client]:
    limits = project.limits(**{"features": None, "machines": DETECTOR, **changes})
    app = create_app(limits, root, WANTED, feature_store=url, monitoring=monitoring)
    with project.serving(app) as address, httpx.Client(base_url=address, timeout=30) as client:
        project.wait_until(lambda: "loading" not in client.get("/health").text)
        yield client


@pytest.fixture(scope="module")
def client(root: Path, feature_server: str) -> Iterator[httpx.Client]:
    with serving(root, feature_server) as found:
        yield found


def wav(seed: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, tables.waveform(seed, 2.02), tables.RATE, "PCM_16", format="WAV")
    return file.getvalue()


def send(client: httpx.Client, machine: str, seed: int = 99) -> dict[str, Any]:
    headers = {"Content-Type": "audio/wav", "X-Machine-Id": machine}
    response = client.post(PREDICT, content=wav(seed), headers=headers)
    assert response.status_code == 200, response.text
    return response.json()


def codes(answer: dict[str, Any]) -> list[str]:
    return [warning["code"] for warning in answer["warnings"]]


def measured(seed: int) -> dict[str, float]:
    """The features of a sound, as the pipeline would write them into its table."""
    samples, _ = soundfile.read(io.BytesIO(wav(seed)), dtype="float32")
    how = {name: value for name, value in project.SOUND.items() if name != "kind"}
    (part,) = sound.extract([samples], tables.RATE, sound.ExtractFeatures(**how))
    return dict(zip(sound.FEATURES, rounded(part.features[0].tolist(), 9), strict=True))


def until(fetch: Callable[[], httpx.Response], status: int = 200) -> httpx.Response:
    """The first answer with a status, after the others that come while something is on its way."""
    project.wait_until(lambda: fetch().status_code == status)
    return fetch()


def test_a_sound_is_stored_and_read_back(client: httpx.Client) -> None:
    """What is read back is what the pipeline measures of the same sound, to the last of nine digits,
    dated by when it was sent; nothing of the answer about the sound changes."""
    before = datetime.now(UTC).timestamp()
    answer = send(client, "pump-1")
    assert "not_stored" not in codes(answer)
    found = until(lambda: client.get("/machines/pump-1/features")).json()
    assert found["features"] == measured(99) and list(found["features"]) == list(sound.FEATURES)
    assert before - 1 <= datetime.fromisoformat(found["event_timestamp"]).timestamp() <= before + 20
    assert 0 <= found["age_seconds"] < 20 and found["warnings"] == []
    assert (found["machine"], found["table"]) == ("pump-1", "machine_sound")
    headers = {"Content-Type": "audio/wav"}
    assert client.post(PREDICT, content=wav(99), headers=headers).json() == answer
    ages = re.findall(
        r'^beatline_features_age_seconds_bucket{le="(.*)",table="machine_sound"} (.*)$',
        client.get("/metrics").text,
        re.M,
    )
    assert float(dict(ages)["60.0"]) >= 1


def test_a_machine_is_judged_by_what_is_stored(client: httpx.Client, root: Path) -> None:
    """The score is the detector's own for those features, by nothing but its id."""
    send(client, "pump-2", seed=5)
    until(lambda: client.get("/machines/pump-2/features"))
    answer = client.post("/machines/pump-2/predict").json()
    from beatline import bundle

    row = np.array([[list(measured(5).values())]], np.float32)
    expected = bundle.load(root / registry.FOLDER / DETECTOR).predict(row)
    assert answer["score"] == pytest.approx(expected.values[0, 0], rel=1e-4)
    assert answer["anomaly"] == (answer["score"] >= answer["threshold"])
    assert (answer["machine"], answer["model"]["dataset"]) == ("pump-2", "machine_features")
    assert "too_old" not in codes(answer)


def test_who_asks_again_measures_nothing(root: Path, feature_server: str, tmp_path: Path) -> None:
    """The log has each answer, and when what it is about was measured: it counts once."""
    where = tmp_path / "answers.db"
    monitoring = Monitoring(log=str(where), keep_days=1, max_megabytes=10)
    with serving(root, feature_server, monitoring) as client:
        send(client, "pump-3", seed=6)
        until(lambda: client.get("/machines/pump-3/features"))
        path, headers = "/machines/pump-3/predict", {"X-Wait-For-Log": "1"}
        answer = [client.post(path, headers=headers).json() for _ in range(4)][-1]
        (machine,) = client.get("/machines").json()["machines"]
        detectors = {each["dataset"]: each["answers"] for each in machine["detectors"]}
        assert detectors == {"machine_features": 1, "machine_sound": 1}
        (series, _) = client.get("/machines/pump-3/history").json()["series"]
        assert len(series["score"]) == 4
    with AnswerLog(str(where)) as log:
        moment = log.answers([answer["answer"]])[answer["answer"]].measured
        assert moment == datetime.fromisoformat(answer["event_timestamp"])


def test_features_that_are_too_old(client: httpx.Client, root: Path) -> None:
    """Feast serves them as if they were of now. Their age is told, and that they are too old."""
    own = tables.parquet(root, "machine_sound").groupby("machine_id").last().loc["id_01"]
    found = client.get("/machines/id_01/features").json()
    assert found["features"] == own[list(sound.FEATURES)].to_dict()
    age = (datetime.now(UTC) - own["event_timestamp"]).total_seconds()
    assert found["age_seconds"] == pytest.approx(age, abs=30)
    assert codes(found) == ["too_old"]
    assert codes(client.post("/machines/id_01/predict").json())[0] == "too_old"


def test_features_of_the_future(client: httpx.Client, database: str) -> None:
    """Of two clocks that differ, it is told that the age is not known, rather than called young."""
    send(client, "clock")
    until(lambda: client.get("/machines/clock/features"))
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "UPDATE beatline_machine_sound SET event_ts = event_ts + interval '1 day' "
            "WHERE event_ts > now() - interval '1 hour'"
        )
    found = client.get("/machines/clock/features").json()
    assert codes(found) == ["future"] and found["age_seconds"] < 0


def test_a_machine_that_nobody_knows(client: httpx.Client) -> None:
    """It is told with the nearest and those that there are, twenty at most; also those that have sent."""
    send(client, "fan-of-hall-7")
    until(lambda: client.get("/machines/fan-of-hall-7/features"))
    for response in (
        client.get("/machines/fan-of-hall-8/features"),
        client.post("/machines/fan-of-hall-8/predict"),
    ):
        detail = problem(response, 404, "X-Machine-Id")
        assert re.search(r"did you mean fan-of-hall-7.*known: .*id_00", detail)


def test_twenty_known_machines_at_most(
    client: httpx.Client, root: Path, feature_server: str
) -> None:
    """However many there are."""
    path = root / store.APPLIED
    content = path.read_text()
    try:
        changed = json.loads(content)
        for table in changed["tables"]:
            table["known"] = [f"m{number}" for number in range(20)]
            table["known_in_all"] = 5000
        path.write_text(json.dumps(changed))
        detail = problem(client.get("/machines/x/features"), 404)
        listed = detail.partition("known: ")[2].partition(" and ")[0].split(", ")
        assert listed == [f"m{number}" for number in range(20)] and "4980 more" in detail
    finally:
        path.write_text(content)


@pytest.mark.parametrize("machine", ["a b", "-x", "x" * 65, "é", "a%2Fb", "'; DROP TABLE x", "a\n"])
def test_ids_that_are_none(client: httpx.Client, machine: str) -> None:
    """They are keys and names in logs: what they may be is bounded, in addresses and in headers."""
    address = httpx.URL("/machines/x/features").copy_with(
        raw_path=f"/machines/{machine}/features".encode()
        if machine.isascii() and machine.isprintable() and " " not in machine
        else (
            "/machines/" + "".join(f"%{byte:02X}" for byte in machine.encode()) + "/features"
        ).encode()
    )
    assert client.get(address).status_code in (404, 422)
    if machine.isprintable():
        headers = {"Content-Type": "audio/wav", "X-Machine-Id": machine.encode()}
        response = client.post(PREDICT, content=wav(1), headers=headers)
        problem(response, 422, "letters, digits")


def test_only_sound_is_of_a_machine(client: httpx.Client) -> None:
    """An id with an ECG is a mistake, and told."""
    recording = project.raw_recordings("ptbxl")[0]
    headers = {"Content-Type": "application/octet-stream", "X-Shape": "120,3", "X-Machine-Id": "x"}
    response = client.post(
        "/models/ptbxl/cnn/predict", content=recording.tobytes(), headers=headers
    )
    problem(response, 422, "X-Machine-Id")


def test_a_detector_of_other_features(root: Path, feature_server: str) -> None:
    """The same features in another order are refused with the first that differs: their values would be
    taken for each other's."""
    with serving(root, feature_server, machines=OTHER) as client:
        response = client.post("/machines/id_00/predict")
        problem(response, 503, r"number 1 is rms_std there and rms_mean here.*serve\.machines")


def test_no_detector_of_rows(root: Path, feature_server: str) -> None:
    """A model of sounds cannot judge a row of features."""
    with serving(root, feature_server, machines=SOUND) as client:
        problem(client.post("/machines/id_00/predict"), 503, r"serve\.machines")


def test_a_model_that_measures_in_another_way(client: httpx.Client, root: Path) -> None:
    """What was measured with other parameters is not stored among the others, and that is said."""
    path = root / store.APPLIED
    content = path.read_text()
    try:
        path.write_text(content.replace('"hop": 512', '"hop": 256'))
        assert "not_stored" in codes(send(client, "elsewhere"))
    finally:
        path.write_text(content)
    problem(client.get("/machines/elsewhere/features"), 404)


def test_without_definitions(client: httpx.Client, root: Path) -> None:
    """A store that is not filled is told, with how to fill it; a prediction is given all the same."""
    path = root / store.APPLIED
    content = path.read_text()
    try:
        path.unlink()
        problem(client.get("/machines/id_00/features"), 503, "make features")
        assert "not_stored" in codes(send(client, "pump-1"))
    finally:
        path.write_text(content)


def test_without_a_store(root: Path) -> None:
    """There is nothing at the addresses of machines; who sends a machine's sound is told that nothing is
    stored."""
    with serving(root, None) as client:
        problem(client.get("/machines/id_00/features"), 404)
        assert codes(send(client, "pump-1"))[-1:] == ["not_stored"]


def test_a_database_that_drops_its_connections(client: httpx.Client, database: str) -> None:
    """As when it is started anew: the next questions and rows are served by new connections."""
    others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(f"SELECT pg_terminate_backend(pid) {others}")
        # They end when they see it, and not before.
        project.wait_until(lambda: connection.execute(f"SELECT 1 {others}").fetchone() is None)
    assert client.get("/machines/id_00/features").status_code == 200
    send(client, "after-restart")
    until(lambda: client.get("/machines/after-restart/features"))


def test_readers_and_writers_at_once(client: httpx.Client) -> None:
    """None fails while others write."""
    statuses: list[int] = []

    def read() -> None:
        with httpx.Client(base_url=client.base_url, timeout=30) as own:
            statuses.extend(own.get("/machines/id_00/features").status_code for _ in range(30))

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for number in range(5):
        send(client, f"busy-{number}")
    for reader in readers:
        reader.join()
    assert set(statuses) == {200} and len(statuses) == 90
    until(lambda: client.get("/machines/busy-4/features"))


def test_metrics_name_no_machine(client: httpx.Client) -> None:
    """There is no end of machines: what came of their rows is counted, and not whose they are."""
    send(client, "never-in-metrics")
    until(lambda: client.get("/machines/never-in-metrics/features"))
    text = client.get("/metrics").text
    assert "never-in-metrics" not in text
    assert re.search(
        r'^beatline_machine_features_total{outcome="stored"} [1-9]', text, re.MULTILINE
    )
    assert 'route="/machines/{machine_id}/features"' in text


def test_answers_are_as_documented(client: httpx.Client) -> None:
    """The addresses of machines are in the document, and what they answer is as it says."""
    schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
    for method, address in (("GET", "features"), ("POST", "predict")):
        for machine in ("id_00", "nobody"):
            response = client.request(method, f"/machines/{machine}/{address}")
            schema[f"/machines/{{machine_id}}/{address}"][method].validate_response(response)


def test_the_document_is_true(client: httpx.Client, tmp_path: Path) -> None:
    """Also of the addresses of machines, whatever is asked of them."""
    check_document(client, tmp_path, 8)


def test_a_table_that_is_gone(client: httpx.Client, database: str) -> None:
    """As in a database of another version: it is told without what the database says, and once the table
    is there again, so are features."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(b"ALTER TABLE beatline_machine_sound RENAME TO elsewhere")
        try:
            detail = problem(client.get("/machines/id_00/features"), 503, "make features")
            assert "beatline_machine_sound" not in detail
        finally:
            connection.execute(b"ALTER TABLE elsewhere RENAME TO beatline_machine_sound")
    assert client.get("/machines/id_00/features").status_code == 200


def test_a_store_that_is_away(root: Path) -> None:
    """Predictions go on at their own pace, told at most once in the log; who asks for features is told at
    once, and what was not stored is counted."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with serving(root, url) as client:
        send(client, "pump-1")
        project.wait_until(lambda: 'outcome="failed"} 1' in client.get("/metrics").text)
        assert "not_stored" in codes(send(client, "pump-1"))
        problem(client.get("/machines/pump-1/features"), 503, "make feature-server")
        problem(client.post("/machines/pump-1/predict"), 503, "make feature-server")


def test_a_store_that_hangs(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No prediction waits for it, and neither does the end of the server; who asks for features waits as
    long as a client may."""
    monkeypatch.setattr("beatline.feature_store.client.SECONDS_TO_ANSWER", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        with serving(root, f"http://127.0.0.1:{hanging.getsockname()[1]}") as client:
            send(client, "pump-1")
            began = time.monotonic()
            for _ in range(3):
                send(client, "pump-1")
            assert time.monotonic() - began < 5
            problem(client.get("/machines/pump-1/features"), 503, "does not answer")
            ending = time.monotonic()
        assert time.monotonic() - ending < 8


def test_the_end_of_a_server_whose_queue_is_full(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits is sent or given up, and the thread that sends it ends with the server."""
    folder = shutil.copytree(root, tmp_path / "project", symlinks=True)
    (folder / store.FOLDER).mkdir(parents=True, exist_ok=True)
    (folder / store.APPLIED).write_text(definitions.as_json(tables.tables(folder)))
    before = {thread.ident for thread in threading.enumerate()}
    monkeypatch.setattr("beatline.feature_store.client.SECONDS_TO_ANSWER", 0.5)
    monkeypatch.setattr(machines, "WAITING", 2)
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        with serving(folder, f"http://127.0.0.1:{hanging.getsockname()[1]}") as client:
            project.wait_until(lambda: "not_stored" in codes(send(client, "pump-1")))
        left = [each.name for each in threading.enumerate() if each.ident not in before]
        assert "feature store" not in left
