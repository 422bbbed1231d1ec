"""One story from nothing to a better model in production: it drifts, experts say what was true, a
challenger
learns it, the gate lets it go, and back."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
from scipy.signal import butter, sosfilt

from beatline.simulators.machines import simulator
from beatline.simulators.machines.simulator import Clip, Simulated
from tests.pipeline import clones
from tests.pipeline.clones import Clone

pytestmark = pytest.mark.slow

KEY = "machine_sound/embedding"
LEARNED = {"train": 100, "test_normal": 20, "test_anomaly": 20}  # of each of two machines
STREAMED, SOUND = 300, 270  # sounds, and how many of machines without a fault
RATE = 16000
SIMULATED = {"machines": 2, "seconds": 2.1, "sampling_rate": RATE, "snr": [6.0], "seed": 1}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A project that has learned two machines, committed, with a log that keeps recordings."""
    clone = clones.make_clone(tmp_path_factory.mktemp("story") / "project", shared_cache=True)
    clones.keep_only(clone, "machine_sound")
    content = clone.params()
    for model, names in content["train"].items():
        content["train"][model] = names if model == "embedding" else {}
    content["datasets"]["machine_sound"]["download"]["simulated"] = SIMULATED | LEARNED
    content["datasets"]["machine_sound"]["split"] |= {"train": 0.5, "validation": 0.3, "test": 0.2}
    content["train"]["embedding"]["machine_sound"]["epochs"] = 5
    content["evaluate"]["resamples"] = 100
    # Of machines as they were, a little may be lost for the others.
    content["compare"]["tolerance"] = {"auc": 0.05}
    content["monitoring"] |= {
        "log": "data/monitoring/answers.db",
        "keep_recordings": {"days": 30, "max_megabytes": 500},
    }
    clone.set_params(content)
    clone.commit("Two machines")
    clone.run("python", "-m", "beatline", "repro")
    clone.commit("What was learned of them")
    return clone


def stream() -> tuple[list[Clip], list[Clip]]:
    """New clips of the same machines, normal and faulty: those after the ones that were learned."""
    more = {name: count + STREAMED for name, count in LEARNED.items()}
    clips = list(simulator.simulate(Simulated.model_validate(SIMULATED | more)))
    new = [clip for clip in clips if int(clip.record[-12:-4]) >= LEARNED[_purpose(clip)]]
    normal = [clip for clip in new if _purpose(clip) == "train"]
    faulty = [clip for clip in new if _purpose(clip) == "test_anomaly"]
    return _taking_turns(normal), _taking_turns(faulty)


def _purpose(clip: Clip) -> str:
    if clip.fault:
        return "test_anomaly"
    return "train" if clip.fold == "train" else "test_normal"


def _taking_turns(clips: list[Clip]) -> list[Clip]:
    by_number = sorted(clips, key=lambda clip: (clip.record[-12:], clip.machine_id))
    return by_number[:STREAMED]


def through_another_microphone(clip: Clip) -> bytes:
    """The same sound, duller: what is above 1.5 kHz is lost by and by."""
    samples, rate = soundfile.read(BytesIO(clip.content))
    dull = np.asarray(sosfilt(butter(2, 1500, fs=rate, output="sos"), samples))
    content = BytesIO()
    soundfile.write(content, 0.7 * dull, rate, format="WAV", subtype="PCM_16")
    return content.getvalue()


@contextmanager
def serving(clone: Clone) -> Iterator[httpx.Client]:
    """The service with the champions of the registry."""
    command = ["python", "-m", "beatline", "serve", "--models", "registry", "--port", "0"]
    process = clone.start(*command, "--workers", "1")
    try:
        assert process.stdout
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line)
            if "http://" in line:
                break
        url = next(word for line in lines for word in line.split() if word.startswith("http://"))
        threading.Thread(target=process.stdout.read, daemon=True).start()
        with httpx.Client(base_url=url.rstrip(".,"), timeout=30) as client:
            wait_for(lambda: client.get("/health").status_code == 200)
            yield client
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, condition
        time.sleep(0.1)


def ask(client: httpx.Client, content: bytes, machine: str) -> dict[str, Any]:
    headers = {"Content-Type": "audio/wav", "X-Machine-Id": machine, "X-Wait-For-Log": "1"}
    answer = client.post(f"/models/{KEY}/predict", content=content, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.json()["logged"]
    return answer.json()


def version_of(answer: dict[str, Any]) -> str:
    return answer["model"]["registered"]["version"]


def drift(clone: Clone, *options: str) -> int:
    with clone.start("python", "-m", "beatline", "drift", KEY, *options, session=False) as process:
        printed, _ = process.communicate()
    print(printed)
    return process.returncode


def test_from_drift_to_a_better_model_and_back(project: Clone) -> None:
    """New sounds of known machines are no drift; another microphone is. What experts then say of 300 of
    its
    sounds makes a challenger, which takes the champion's place without a failed request, cries less often
    at that microphone, and gives its place back."""
    beatline = ("python", "-m", "beatline")
    project.run(*beatline, "register", KEY)
    project.run(*beatline, "promote", KEY)
    normal, faulty = stream()
    later = [*normal[:SOUND], *faulty[: STREAMED - SOUND]]
    with serving(project) as client:
        answers = [ask(client, clip.content, clip.machine_id) for clip in normal]
        assert {version_of(answer) for answer in answers} == {"1"}
        assert drift(project) == 0

        dull = [through_another_microphone(clip) for clip in later]
        answers = [
            ask(client, content, clip.machine_id) for content, clip in zip(dull, later, strict=True)
        ]
        assert drift(project, "--last", str(STREAMED)) == 1

        labels = [["anomaly"] if clip.fault else ["normal"] for clip in later]
        said = [
            {"answer": answer["answer"], "labels": names}
            for answer, names in zip(answers, labels, strict=True)
        ]
        assert client.post("/feedback", json=said).status_code == 200
        project.run(*beatline, "retrain", KEY)
        assert version_of(ask(client, dull[0], "id_00")) == "1"

        project.run(*beatline, "promote", KEY)
        wait_for(lambda: version_of(ask(client, dull[0], "id_00")) == "2")
        again = [
            ask(client, content, clip.machine_id)
            for content, clip in zip(dull[:SOUND], later[:SOUND], strict=True)
        ]
        alarms = [sum(answer["anomaly"] for answer in side) for side in (answers[:SOUND], again)]
        assert alarms[1] < alarms[0] / 2

        project.run(*beatline, "promote", KEY, "--rollback")
        wait_for(lambda: version_of(ask(client, dull[0], "id_00")) == "1")
