"""`beatline retrain`: from what experts have said to a challenger, whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx
import numpy as np
import pytest
from ruamel.yaml import YAML

from beatline.common import sums
from beatline.common.files import sha256
from beatline.monitoring import states
from beatline.monitoring.answers import Answer, AnswerLog, KeptRecording
from beatline.serving import tokens
from beatline.sources import incoming
from beatline.tracking import client, registered
from tests.pipeline import clones
from tests.pipeline.clones import Clone
from tests.serving.project import wait_until
from tests.serving.test_webhook import healthy, notification, state_of

pytestmark = pytest.mark.slow

KEY = "ecg5000/cnn"
LOG = "data/monitoring/answers.db"
SAID = datetime(2026, 3, 2, tzinfo=UTC)
BRANCH = f"retrain/{KEY}/2026-03-02"
KILLS = int(os.environ.get("KILLS", "2"))
RETRAIN = ("python", "-m", "beatline", "retrain", KEY)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A project with one small model, committed, whose log holds labelled recordings."""
    clone = clones.make_clone(tmp_path_factory.mktemp("retraining") / "project", shared_cache=True)
    clones.make_small(clone)
    clones.keep_only(clone, "ecg5000")
    content = clone.params()
    for model, names in content["train"].items():
        content["train"][model] = names if model == "cnn" else {}
    content["monitoring"] |= {"log": LOG, "retrain": {"records": 20}}
    clone.set_params(content)
    clone.commit("A small project")
    clone.run("python", "-m", "beatline", "repro")
    clone.commit("Its results")
    return clone


def answer(name: str, moment: datetime, entity: str | None = None) -> Answer:
    return Answer(
        name,
        moment,
        *KEY.split("/"),
        weights="a" * 64,
        version=None,
        role="champion",
        scores=np.array([0.5], np.float32),
        decisions=np.array([True]),
        warnings=[],
        seconds=0.001,
        entity=entity,
    )


def fill(log: AnswerLog, count: int, seed: int = 1) -> list[str]:
    """Log noisy heartbeats of patients, two of each, that experts have labelled; their answers' ids."""
    random = np.random.default_rng(seed)
    wave = np.exp(-(((np.arange(140) - 70) / 10) ** 2))
    ids = [uuid.UUID(int=1000 * seed + number).hex for number in range(count)]
    answers, kept, labels = [], [], {}
    for number, name in enumerate(ids):
        sign = -1 if number % 2 else 1
        samples = (sign * wave + random.standard_normal(140))[:, None].astype(np.float32)
        moment = SAID - timedelta(days=1) + timedelta(minutes=number)
        answers.append(answer(name, moment, f"patient {seed} {number // 2}"))
        kept.append(KeptRecording(name, samples, ["channel 1"], None, "archive units"))
        labels[name] = ["anomaly"] if number % 2 else []
    log.write(answers, kept)
    log.say(labels, SAID)
    return ids


def add_test_record(log: AnswerLog, clone: Clone) -> None:
    """Log a recording that the data set has, with a label."""
    series = np.loadtxt(clone.root / "heartbeats/ECG5000_TEST.tsv", dtype=np.float32)
    name = uuid.UUID(int=999_999).hex
    given = answer(name, SAID - timedelta(hours=1))
    log.write(
        [given], [KeptRecording(name, series[0, 1:, None], ["channel 1"], None, "archive units")]
    )
    log.say({name: ["anomaly"]}, SAID)


@pytest.fixture
def project(trained: Clone) -> Iterator[Clone]:
    """The project with 40 labelled recordings, without what an earlier test has made of them."""
    folder = trained.root / LOG
    folder.parent.mkdir(parents=True, exist_ok=True)
    for path in [*folder.parent.glob("answers.db*"), *trained.root.glob("data/mlflow/mlflow.db*")]:
        path.unlink()
    with AnswerLog(str(folder)) as log:
        fill(log, 40)
        add_test_record(log, trained)
    for branch in trained.run("git", "branch", "--list", "retrain/*").split():
        trained.run("git", "branch", "-D", branch)
    yield trained


def versions(clone: Clone) -> list[registered.Version]:
    """The versions that the registry has now, each with its bundle whole.

    They are read in a copy of its database: MLflow keeps a file open in this process, so that it would go
    on reading one that a test has deleted."""
    if not (present := clone.root / "data/mlflow/mlflow.db").exists():
        return []
    copied = clone.root.parent / f"{uuid.uuid4().hex}.db"
    shutil.copy(present, copied)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(client.URI, f"sqlite:///{copied}")
        registry = client.connect()
        found = registered._versions(registry, KEY)
        for version in found:
            registered.download(registry, version, clone.root / "data/check")
        return found


def results(clone: Clone) -> dict[str, str]:
    """What the stages have made."""
    beside = ("data/mlflow", "data/monitoring", "data/registry", "data/check")
    return {name: digest for name, digest in clone.outputs().items() if not name.startswith(beside)}


def shown(clone: Clone, path: str) -> str:
    return clone.run("git", "show", f"{BRANCH}:{path}")


def test_a_challenger_is_made_once(project: Clone) -> None:
    """The branch holds recordings, parameters, results and a comparison on old and new records; the
    checkout is as it was; the same recordings make no other challenger, and new ones do."""
    before = project.run("git", "rev-parse", "HEAD"), results(project)
    project.run(*RETRAIN)
    assert (project.run("git", "rev-parse", "HEAD"), results(project)) == before
    assert not project.run("git", "status", "--porcelain", "--untracked-files=no")

    outcome = json.loads(shown(project, f"reports/retraining/{KEY}/2026-03-02/outcome.json"))
    assert outcome["left_out"] == {"in the data set already": 1}
    assert outcome["learned"] == 40 and set(outcome["sentences"]) == {"old", "new"}
    content = YAML(typ="safe").load(shown(project, "params.yaml"))
    [named] = content["datasets"]["ecg5000"]["download"]["incoming"]
    assert named["folder"] == "data/incoming/ecg5000/2026-03-02"
    [version] = versions(project)
    assert version.aliases == ("challenger",) and version.number == outcome["version"]

    # Where a process was killed after its branch, or CI has made it, the state for metrics is missing.
    shutil.rmtree(project.root / states.RETRAINING)
    project.run(*RETRAIN)
    assert len(versions(project)) == 1
    assert states.retrainings(project.root) == [outcome]

    # Who merges the branch has what it names, and is asked to learn from nothing twice.
    project.run("git", "merge", "--quiet", BRANCH)
    try:
        project.run("dvc", "checkout", "--quiet")
        folder = project.root / named["folder"]
        sums.check(folder)
        assert sha256(folder / sums.SUMS) == named["sha256"]
        assert (folder / incoming.CASES).read_text().count("\n") == 41
        assert project.run("dvc", "status").strip().endswith("up to date.")
        assert "fewer than" in project.run(*RETRAIN, ok=False)
        with AnswerLog(str(project.root / LOG)) as log:
            fill(log, 30, seed=2)
        project.run(*RETRAIN)
        second = project.run("git", "show", f"{BRANCH}.2:params.yaml")
        assert (
            len(YAML(typ="safe").load(second)["datasets"]["ecg5000"]["download"]["incoming"]) == 2
        )
        assert len(versions(project)) == 2
    finally:
        project.run("git", "reset", "--quiet", "--hard", before[0].strip())
        project.run("dvc", "checkout", "--quiet")


def test_a_killed_retraining_leaves_nothing_half_made(project: Clone) -> None:
    """Killed whenever, with all that it has started, `beatline retrain` has made a branch with everything
    in it, or none; and the next one makes one version of these recordings."""
    generator = np.random.default_rng(int(os.environ.get("SEED", "1")))
    for seconds in generator.uniform(0.5, 14, KILLS):
        process = project.start(*RETRAIN)
        end = time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if project.run("git", "branch", "--list", BRANCH).strip():
            shown(project, f"reports/retraining/{KEY}/2026-03-02/outcome.json")
            project.run("git", "branch", "-D", BRANCH)  # so that the next one begins again
        versions(project)  # each of which is whole
        assert not project.run("git", "status", "--porcelain", "--untracked-files=no")
    project.run(*RETRAIN)
    assert len(versions(project)) == 1
    shown(project, f"reports/retraining/{KEY}/2026-03-02/comparison.md")
    assert not (project.root / ".dvc/tmp/retraining").exists()


def test_an_alert_makes_a_challenger(project: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Alertmanager sends of a model that drifts ends in a branch, and its state for the service's
    metrics."""
    monkeypatch.setenv(tokens.VARIABLE, "a-token-of-some-length")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = project.start(*RETRAIN[:-1], "--listen", f"127.0.0.1:{port}")
    headers = {"Authorization": "Bearer a-token-of-some-length"}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers) as client:
        try:
            wait_until(lambda: healthy(client))
            assert client.post("/retrain", json=notification(KEY)).json()["accepted"] == [KEY]
            wait_until(lambda: state_of(client, KEY) not in ("waiting", "running"), 300)
            assert state_of(client, KEY) == "made"
        finally:
            process.terminate()
            process.communicate()
    outcome = json.loads(shown(project, f"reports/retraining/{KEY}/2026-03-02/outcome.json"))
    assert [state["key"] for state in states.retrainings(project.root)] == [KEY]
    assert states.retrainings(project.root) == [outcome]


def test_what_cannot_be_begun(project: Clone) -> None:
    """A model that is not trained, uncommitted changes, and a project without a log are refused with a
    cure."""
    assert "ecg5000/lstm" in project.run(*RETRAIN[:-1], "ecg5000/lstm", ok=False)
    content = (project.root / "params.yaml").read_text()
    try:
        (project.root / "params.yaml").write_text(content + "\n# changed\n")
        assert "commit or stash" in project.run(*RETRAIN, ok=False)
        (project.root / "params.yaml").write_text(content.replace(f"log: {LOG}", "log:"))
        assert "monitoring.log" in project.run(*RETRAIN, ok=False)
    finally:
        (project.root / "params.yaml").write_text(content)
