"""Challengers answer beside champions, into the log alone, within their budget; and what came of it can
be compared."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from beatline.bundle.model_info import WEIGHTS_SHA256, read_model_info
from beatline.common import sums
from beatline.common.errors import UserError
from beatline.evaluation.estimates import Evaluate
from beatline.formats.recording import Recording
from beatline.monitoring import shadows
from beatline.monitoring.answers import AnswerLog, Pair
from beatline.monitoring.settings import Monitoring, Shadow
from beatline.serving import answers, registry, shadow, telemetry
from beatline.serving import model as models
from beatline.serving.answer_log import Asked, Logbook
from beatline.tracking import copies, names
from tests.monitoring.logs import BEGINNING, answer
from tests.serving import project
from tests.tracking.project import COMPARE, EVALUATE

KEYS = ("ptbxl/cnn", "ecg_features/mlp")
BUDGET = {"share": 1.0, "processors": 1.0}


def put(folder: Path, key: str, alias: str, version: str, seed: int, validation: int = 0) -> Path:
    """A copy of a version, as the server's parent process makes it."""
    new, place = folder / "new", folder / copies.place_of(key, alias)
    project.save(new, key, seed, validation)
    shutil.copytree(folder / registry.PREDICTIONS / key, new / names.PREDICTIONS)
    (new / copies.VERSION).write_text(json.dumps({"version": version, "alias": alias}))
    sums.seal(new)
    place.parent.mkdir(parents=True, exist_ok=True)
    new.rename(place)
    return place


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose models come from the registry, with champions and challengers."""
    monkeypatch.setenv(registry.MODELS, registry.FROM_REGISTRY)
    folder = project.make(tmp_path / "project")
    for key in KEYS:
        put(folder, key, names.CHAMPION, "1", seed=1)
        put(folder, key, names.CHALLENGER, "2", seed=2)
    return folder


def monitoring(root: Path, **changes: Any) -> Monitoring:
    given: dict[str, Any] = {"log": str(root / "answers.db"), "keep_days": 30}
    given |= {"max_megabytes": 100, "shadow": BUDGET}
    return Monitoring(**given | changes)


def pairs(root: Path, key: str) -> list[Pair]:
    with AnswerLog(str(root / "answers.db")) as log:
        try:
            dataset, model = key.split("/")
            return log.pairs(dataset, model)
        except UserError:  # nothing is there yet
            return []


def ask(client: httpx.Client, recording: np.ndarray, key: str = "ptbxl/cnn") -> dict[str, Any]:
    headers = {"X-Wait-For-Log": "1", "X-Entity-Id": "somebody"}
    answer = client.post(f"/models/{key}/predict", json=recording.tolist(), headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_challenger_says_what_it_would_have_said(root: Path) -> None:
    """Beside each answer, with the id of that: the very scores that it gives as a champion."""
    recordings = project.raw_recordings("ptbxl")[:4]
    with project.client(root, monitoring=monitoring(root)) as client:
        wait_for_challenger(client, lambda: ask(client, recordings[0]), root)
        given = [ask(client, recording) for recording in recordings]
        project.wait_until(lambda: len(pairs(root, "ptbxl/cnn")) >= len(given))
    said = {pair.champion.id: pair.challenger for pair in pairs(root, "ptbxl/cnn")}
    shutil.rmtree(root / copies.place_of("ptbxl/cnn"))
    put(root, "ptbxl/cnn", names.CHAMPION, "2", seed=2)
    with project.client(root) as client:
        for answer, recording in zip(given, recordings, strict=True):
            promoted = client.post("/models/ptbxl/cnn/predict", json=recording.tolist()).json()
            row = said[answer["answer"]]
            expected = [*promoted["probabilities"].values()]
            np.testing.assert_allclose(row.scores, expected, rtol=1e-5)
            assert (row.role, row.version, row.entity) == ("shadow", "2", "somebody")
            assert answer["model"]["registered"]["version"] == "1"


def test_a_challenger_hears_what_the_champion_heard(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was trained at another sampling rate, in another unit and order of channels answers about
    the recording that was sent, and not about its numbers."""
    recording = project.raw_recordings("ptbxl")[0]
    other = {"sampling_rate": 200, "length": 240, "unit": "uV", "channels": ["V1", "II", "I"]}
    shutil.rmtree(root / copies.place_of("ptbxl/cnn", names.CHALLENGER))
    monkeypatch.setitem(project.DATASETS, "ptbxl", project.DATASETS["ptbxl"] | other)
    put(root, "ptbxl/cnn", names.CHALLENGER, "2", seed=2)
    with project.client(root, monitoring=monitoring(root)) as client:
        wait_for_challenger(client, lambda: ask(client, recording), root)
    shutil.rmtree(root / copies.place_of("ptbxl/cnn"))
    put(root, "ptbxl/cnn", names.CHAMPION, "2", seed=2)
    about = {"X-Sampling-Rate": "100", "X-Unit": "mV", "X-Channels": "I,II,V1"}
    with project.client(root) as client:
        promoted = client.post("/models/ptbxl/cnn/predict", json=recording.tolist(), headers=about)
    assert promoted.status_code == 200, promoted.text
    expected = [*promoted.json()["probabilities"].values()]
    scores = pairs(root, "ptbxl/cnn")[0].challenger.scores
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


def wait_for_challenger(client: httpx.Client, again: Callable[[], object], root: Path) -> None:
    """It is loaded a moment after its champion."""

    def is_there() -> bool:
        again()
        return bool(pairs(root, "ptbxl/cnn"))

    project.wait_until(is_there)


def test_rows_too(root: Path) -> None:
    """A row of features, which has no recording, is answered about as well."""
    row = project.raw_recordings("ecg_features")[0, 0].tolist()
    with project.client(root, monitoring=monitoring(root), features="ecg_features/mlp") as client:

        def is_there() -> bool:
            assert client.post("/predict", json=row).status_code == 200
            return bool(pairs(root, "ecg_features/mlp"))

        project.wait_until(is_there)


def test_what_is_beyond_the_budget_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """It earns its share of a processor, saves a little, and waits when it has spent more."""
    now = 0.0
    monkeypatch.setattr(shadow.time, "monotonic", lambda: now)
    budget, spent = shadow.Budget(0.1), 0.0
    for _ in range(10_000):
        now += 0.01
        if budget.has_some():
            budget.spend(0.03)
            spent += 0.03
    assert spent == pytest.approx(0.1 * now, rel=0.1)
    now += 1000
    rest = 0.0
    while budget.has_some():
        budget.spend(0.03)
        rest += 0.03
    assert rest <= 0.1 * shadow.SAVED + 0.03


def test_a_challenger_that_is_none_any_more_is_silent(root: Path) -> None:
    """Once it is promoted, or its copy is gone, nothing more is answered beside."""
    recording = project.raw_recordings("ptbxl")[0]
    with project.client(root, monitoring=monitoring(root)) as client:
        wait_for_challenger(client, lambda: ask(client, recording), root)
        place = root / copies.place_of("ptbxl/cnn", names.CHALLENGER)
        place.rename(root / "gone")

        def is_silent() -> bool:
            before = len(pairs(root, "ptbxl/cnn"))
            for _ in range(5):
                ask(client, recording)
            return len(pairs(root, "ptbxl/cnn")) == before

        project.wait_until(is_silent)


def test_the_end_does_not_wait_for_those_that_wait(root: Path) -> None:
    """Also where as many recordings wait for a challenger as may, its thread ends after the answer that
    it is making."""
    limits = project.limits(seconds_to_answer=5.0)
    counting = telemetry.Telemetry(limits, root)
    shadows = shadow.Shadows(Shadow(**BUDGET), root, ["ptbxl/cnn"], limits, counting)
    logbook = Logbook(monitoring(root), counting)
    champion = models.load(root / copies.place_of("ptbxl/cnn", names.CHAMPION))
    long = Recording(np.tile(project.raw_recordings("ptbxl")[0], (250, 1)), sampling_rate=100.0)
    seen: list[Any] = []
    options: dict[str, Any] = {"explain": False, "with_recording": False}
    answers.respond(
        champion, long, **options, limits=limits, observe=lambda *each: seen.append(each[1])
    )
    shadows.start()

    def fill() -> None:
        for _ in range(2 * shadow.WAITING):
            shadows.offer(champion, seen[0], Asked(None, False), "0" * 32, logbook)

    def was_full() -> bool:
        fill()
        return b'beatline_shadow_answers_total{outcome="left out"} 0.0' not in counting.exposition()

    project.wait_until(was_full)
    fill()
    shadows.stop()
    assert "shadow" not in [thread.name for thread in threading.enumerate()]


def test_both_are_compared_where_experts_have_spoken(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the same test as two revisions, on the recordings that have feedback; without any, how often
    they decide otherwise is told."""
    monkeypatch.chdir(root)
    own = project.raw_recordings("ptbxl")
    recordings = [(1 + number / 200) * own[number % len(own)] for number in range(40)]
    how = Evaluate(**EVALUATE)
    with AnswerLog(str(root / "answers.db")) as log:
        with project.client(root, monitoring=monitoring(root)) as client:
            wait_for_challenger(client, lambda: ask(client, recordings[0]), root)
            with pytest.raises(UserError, match="ecg_features/mlp"):
                shadows.told(log, "ecg_features/mlp", how, COMPARE)
            for recording in recordings:
                headers = {"X-Wait-For-Log": "1"}
                body = recording.tolist()
                client.post("/models/ptbxl/cnn/predict", json=body, headers=headers)
                time.sleep(0.01)  # more than a few at once are left out
            project.wait_until(lambda: len(pairs(root, "ptbxl/cnn")) > len(recordings) / 2)
            found = pairs(root, "ptbxl/cnn")
            classes = client.get("/models").json()["models"][0]["classes"]
            labels = [
                {"answer": pair.champion.id, "labels": [classes[number % len(classes)]]}
                for number, pair in enumerate(found)
            ]
            assert "labelled 0" in shadows.told(log, "ptbxl/cnn", how, COMPARE)
            assert client.post("/feedback", json=labels).status_code == 200
        text = shadows.told(log, "ptbxl/cnn", how, COMPARE)
    other = np.mean(
        [(pair.champion.decisions != pair.challenger.decisions).any() for pair in found]
    )
    assert f"otherwise on {other:.1%}" in text and f"labelled {len(found)}" in text
    assert "compared record by record" in text


def logged(
    root: Path, champion: str, challenger: str, classes: tuple[int, int] = (3, 3)
) -> AnswerLog:
    """A log of 25 pairs that experts have labelled, of two bundles by their weights."""
    log = AnswerLog(str(root / "answers.db"))
    scores = [np.linspace(0, 1, count, dtype=np.float32) for count in classes]
    given = [
        answer(number, weights=champion, scores=scores[0], decisions=scores[0] > 0.5)
        for number in range(25)
    ]
    changes = {"weights": challenger, "role": "shadow", "scores": scores[1]}
    changes |= {"decisions": scores[1] > 0.5}
    beside = [answer(number, beside=row.id, **changes) for number, row in enumerate(given)]
    log.write([*given, *beside])
    log.say({row.id: [project.CLASSES[0]] for row in given}, BEGINNING)
    return log


def weights(folder: Path) -> str:
    return read_model_info(folder)[WEIGHTS_SHA256]


def test_bundles_of_other_classes_are_not_compared(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By their number, or by their names where both bundles are here: a column is of one class."""
    monkeypatch.chdir(root)
    with logged(root, "a" * 64, "b" * 64, (3, 4)) as log, pytest.raises(UserError, match="classes"):
        shadows.told(log, "ptbxl/cnn", Evaluate(**EVALUATE), COMPARE)
    place = root / copies.place_of("ptbxl/cnn", names.CHALLENGER)
    shutil.rmtree(place)
    monkeypatch.setattr(project, "CLASSES", project.CLASSES[::-1])
    put(root, "ptbxl/cnn", names.CHALLENGER, "2", seed=2)
    (root / "answers.db").unlink()
    sides = weights(root / copies.place_of("ptbxl/cnn")), weights(place)
    with logged(root, *sides) as log, pytest.raises(UserError, match="classes"):
        shadows.told(log, "ptbxl/cnn", Evaluate(**EVALUATE), COMPARE)


def test_metrics_are_of_the_bundles_that_answered(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A challenger that has become the champion is one of them; where neither is here, nobody guesses at
    what another bundle's classes and thresholds are."""
    monkeypatch.chdir(root)
    promoted = weights(root / copies.place_of("ptbxl/cnn"))
    with logged(root, "a" * 64, promoted) as log:
        assert "labelled 25" in shadows.told(log, "ptbxl/cnn", Evaluate(**EVALUATE), COMPARE)
    (root / "answers.db").unlink()
    with logged(root, "a" * 64, "b" * 64) as log, pytest.raises(UserError, match=r"a{12}.*b{12}"):
        shadows.told(log, "ptbxl/cnn", Evaluate(**EVALUATE), COMPARE)
