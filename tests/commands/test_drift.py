"""`beatline drift`: logged answers and recordings in files, what is printed, and the exit status."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from beatline import bundle, cli
from beatline.bundle.model_info import read_model_info
from beatline.commands.drift import ERROR, STATUS
from beatline.common import sums
from beatline.common.files import write_json
from beatline.evaluation.predictions import made as made_of
from beatline.evaluation.predictions import write
from beatline.monitoring.answers import Answer, AnswerLog
from beatline.monitoring.drift import load
from beatline.monitoring.settings import VARIABLE
from beatline.prediction.familiarity import features
from beatline.preprocessing.normalization import Normalization
from beatline.serving import model as served
from beatline.training import familiarity, reference
from tests import parameters
from tests.bundle.bundles import HISTORY, LENGTH, made
from tests.paths import ROOT

LOG = "answers.db"


def raw(count: int, seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((count, LENGTH, 3))
    return (values * [0.1, 1e3, 1] + [0.7, 1e5, 0]).astype(np.float32)


def save(folder: Path, scale: float = 1.0) -> None:
    """A bundle that is watched by recordings of :func:`raw`, with weights of its own for each `scale`."""
    network, model_info = made("cnn", "multilabel")
    for weights in network.parameters():
        weights.data *= scale
    normalize, dataset = Normalization(**model_info["normalization"]), model_info["dataset"]
    signals, validation = normalize.apply(raw(200, 0)), normalize.apply(raw(100, 1))
    known = familiarity.fit(signals, validation, dataset)
    assert known
    answers = bundle.Bundle(network.eval(), model_info).answer(validation)
    kept = reference.taken(validation, answers.values, answers.decisions, known, dataset)
    bundle.save(folder, network, model_info, HISTORY, known, kept)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    content = parameters.content()
    content["monitoring"]["log"] = LOG
    (folder / "params.yaml").write_text(yaml.safe_dump(content))
    save(folder / "data/models/ecg5000/cnn")
    return folder


@pytest.fixture(autouse=True)
def inside(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(project)
    monkeypatch.delenv(VARIABLE, raising=False)
    yield
    Path(LOG).unlink(missing_ok=True)


def log(recordings: np.ndarray, ago: timedelta = timedelta(0), **changes: Any) -> None:
    """Write answers about recordings, the last of them so long ago."""
    model = served.load(Path("data/models/ecg5000/cnn"))
    given = []
    for number, samples in enumerate(recordings):
        signal = model.normalized(samples)
        scores = model.outputs(signal).values
        content: dict[str, Any] = {
            "id": uuid.uuid4().hex,
            "moment": datetime.now(UTC) - ago - timedelta(seconds=len(recordings) - number),
            "dataset": "ecg5000",
            "model": "cnn",
            "weights": model.model_info["weights_sha256"],
            "version": None,
            "role": "champion",
            "scores": scores,
            "decisions": model.decide(scores[None])[0],
            "warnings": [],
            "seconds": 0.1,
            "embedding": features(signal, model.model_info["dataset"]),
        }
        given.append(Answer(**content | changes))
    with AnswerLog(LOG) as written:
        written.write(given)


def drift(*arguments: str) -> int:
    return cli.main(["drift", *arguments])


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What it says where it ends with the status of an error, which is none of its answers."""
    capsys.readouterr()
    assert drift(*arguments) == ERROR not in STATUS.values()
    return capsys.readouterr().err


def test_exit_status_tells_the_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    """None, drift, too few; and which feature it is."""
    log(raw(80, 2))
    assert drift("ecg5000/cnn", "--no-report") == 0
    assert drift("ecg5000/cnn", "--last", "20", "--no-report") == 2
    log(1.5 * raw(80, 3))
    capsys.readouterr()
    assert drift("ecg5000/cnn", "--last", "80", "--no-report") == 1
    assert "power of" in capsys.readouterr().out


def test_windows_in_time() -> None:
    """Old answers are drifted, new ones are not."""
    log(1.5 * raw(60, 2), timedelta(days=9))
    log(raw(60, 3))
    assert drift("ecg5000/cnn", "--since", "7d", "--no-report") == 0
    assert drift("ecg5000/cnn", "--until", "7d", "--no-report") == 1
    moment = (datetime.now(UTC) - timedelta(days=8)).isoformat()
    assert drift("ecg5000/cnn", "--until", moment, "--no-report") == 1


def test_only_what_this_bundle_answered_counts(capsys: pytest.CaptureFixture[str]) -> None:
    """Not a shadow's answers, nor those of another bundle of the name, of which it is told."""
    log(1.5 * raw(60, 2), role="shadow")
    assert drift("ecg5000/cnn", "--no-report") == 2
    log(1.5 * raw(60, 2), weights="b" * 64)
    capsys.readouterr()
    assert drift("ecg5000/cnn", "--no-report") == 2
    assert "other weights" in capsys.readouterr().out


def test_it_runs_where_the_service_does() -> None:
    """Its container has the packages of requirements-serve.txt, and no others: cron asks there."""
    names = re.findall(r"(?m)^([\w-]+)==", (ROOT / "requirements-serve.txt").read_text())
    installed = {*map(normal, names)}
    there = packages_distributions().items()
    absent = {module for module, owners in there if not installed & {*map(normal, owners)}}
    program = (
        "import sys\n"
        "class Container:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name.split('.')[0] in {absent - {'beatline', 'tests'}}:\n"
        "            raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Container())\n"
        "from beatline.commands import drift\n"
        "from beatline.serving import predictor\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def test_what_has_no_numbers_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """Answers without an embedding, or whose scores are not finite, are left out and told."""
    log(raw(60, 2))
    log(raw(2, 3), embedding=None)
    log(raw(1, 4), scores=np.full(3, np.nan, np.float32))
    assert drift("ecg5000/cnn", "--no-report") == 0
    printed = capsys.readouterr().out
    assert "60 records against" in printed and "nan" not in printed
    assert "note: 3 of 63 answers" in printed


def test_embeddings_of_another_length(capsys: pytest.CaptureFixture[str]) -> None:
    """Of the same weights, as another version of the code has measured them: a sentence, no traceback."""
    log(raw(60, 2), embedding=np.zeros(7, np.float32))
    message = refused(capsys, "ecg5000/cnn", "--no-report")
    assert re.match(r"error: .*ecg5000/cnn.* 7 .*--since", message) and "Traceback" not in message


def test_without_a_model_all_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    """Each of params.yaml that was asked; one that cannot be watched is told and stops no other."""
    log(raw(60, 2))
    log(raw(3, 2), model="lstm")
    assert drift() == 0
    printed = capsys.readouterr().out
    assert "warning: ecg5000/lstm" in printed and "reports/drift/ecg5000/cnn/index.html" in printed
    assert Path("reports/drift/ecg5000/cnn/drift.json").is_file()


def test_nothing_that_can_be_watched_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Where no model that was asked has a bundle to compare with, nobody hears that nothing drifts."""
    log(raw(3, 2), model="lstm")
    assert re.search("error: .*ecg5000/lstm", refused(capsys))


def test_a_bundle_named_from_its_own_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its report goes where that of `ecg5000/cnn` does, and takes the place of no other folder."""
    watched = load(Path("data/models/ecg5000/../ecg5000/cnn"))
    monkeypatch.chdir("data/models/ecg5000")
    assert load(Path("cnn")).dataset == watched.dataset == "ecg5000"
    monkeypatch.chdir("cnn")
    assert (load(Path()).dataset, load(Path()).model) == ("ecg5000", "cnn")


def test_recordings_in_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Read as the service reads them; what cannot be read is named and left out."""
    for name, gain, expected in (("usual", 1.0, 0), ("louder", 1.5, 1)):
        folder = tmp_path / name
        folder.mkdir()
        for number, recording in enumerate(gain * raw(60, 4)):
            np.save(folder / f"{number}.npy", recording.astype(np.float32))
        (folder / "broken.npy").write_bytes(b"\x93NUMPY")
        assert drift("ecg5000/cnn", "--recordings", str(folder), "--no-report") == expected
        assert "broken.npy" in capsys.readouterr().out


def measured(folder: Path, model_info: dict[str, Any], weights: str) -> None:
    """What is known of 200 test records that were answered better than the answers of :func:`say` are."""
    rng, names = np.random.default_rng(1), model_info["classes"]
    table = pd.DataFrame({"record": np.arange(200), "group": np.arange(200), "normal": 0})
    table[names] = rng.integers(0, 2, (200, len(names)))
    right = table[names].to_numpy()
    write(folder, made_of(model_info, (right + rng.random(right.shape)) / 2, right, table))
    write_json(folder / "estimates.json", {"identity": {"model": weights}})
    sums.seal(folder)


def tested() -> Path:
    """An empty folder where evaluate would write what it has predicted."""
    folder = Path("data/predictions/ecg5000/cnn")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def say(model_info: dict[str, Any]) -> None:
    """Have experts say by chance what was true of all answers."""
    rng, names = np.random.default_rng(0), model_info["classes"]
    with AnswerLog(LOG) as written:
        ids = written.window("ecg5000", "cnn").ids
        said = {each: [name for name in names if rng.random() < 0.5] for each in ids}
        written.say(said, datetime.now(UTC))


def test_what_is_asked_again_counts_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Many answers about one row of the store are one record. What experts have said of one of them is
    not lost by the next."""
    about: dict[str, Any] = {"entity": "pump", "measured": datetime.now(UTC)}
    log(np.repeat(raw(1, 2), 60, axis=0), **about)
    assert drift("ecg5000/cnn", "--no-report") == STATUS["too few"]
    model_info = read_model_info(Path("data/models/ecg5000/cnn"))
    measured(tested(), model_info, model_info["weights_sha256"])
    for asked in range(2):
        for number, recording in enumerate(raw(60, 2)):
            moment = datetime(2026, 3, 1, tzinfo=UTC) + timedelta(seconds=number)
            log(recording[None], entity=f"pump {number}", measured=moment)
        if not asked:
            say(model_info)
    assert drift("ecg5000/cnn", "--no-report") == 1
    assert "Worse" in capsys.readouterr().out


@pytest.mark.parametrize(("weights", "expected"), [(None, 1), ("b" * 64, 0)])
def test_feedback_tells_a_model_that_is_worse(
    weights: str | None, expected: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """By what experts say, against the test records of the same weights, though nothing has drifted."""
    log(raw(80, 2))
    model_info = read_model_info(Path("data/models/ecg5000/cnn"))
    measured(tested(), model_info, weights or model_info["weights_sha256"])
    say(model_info)
    assert drift("ecg5000/cnn", "--no-report") == expected
    assert ("Worse" in capsys.readouterr().out) == bool(expected)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["ecg5000/cnn"], r"no log of answers at .*answers\.db"),
        (["--recordings", "."], "model"),
        (["ecg5000/cnn", "--recordings", ".", "--last", "3"], "--last"),
        (["ecg5000/cnn", "--recordings", "params.yaml"], "params.yaml.*none"),
        (["ecg5000/cnn", "--recordings", "nowhere"], "nowhere"),
        (["ecg5000/nothing"], "ecg5000/nothing"),
        (["ecg5000/cnn", "--since", "1d", "--until", "2d"], "--until"),
    ],
)
def test_what_cannot_be_checked(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A sentence that names what is missing."""
    assert re.search(rf"(?s)error: .*{expected}", refused(capsys, *arguments))


def test_an_unforeseen_error_is_no_drift(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A schedule would make challengers of it."""
    log(raw(80, 2))

    def check(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("beatline.monitoring.drift.check", check)
    assert "ZeroDivisionError" in refused(capsys, "ecg5000/cnn", "--no-report")


def test_without_a_log(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The key of params.yaml, and the other way."""
    content = parameters.content()
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.chdir(tmp_path)
    assert re.search(r"monitoring\.log .*--recordings", refused(capsys))


@pytest.mark.parametrize(
    "wrong",
    [["--since", "yesterday"], ["--since", "999999w"], ["--last", "0"], ["--last", "x"]],
)
def test_wrong_windows(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        drift("ecg5000/cnn", *wrong)
    assert ended.value.code == ERROR and wrong[0] in capsys.readouterr().err


def test_a_champion_from_the_registry_is_checked(capsys: pytest.CaptureFixture[str]) -> None:
    """By itself and its own metrics, where it is what was served, and not what the pipeline has made."""
    champion = Path("data/registry/champion/ecg5000/cnn")
    save(champion, scale=0.9)
    try:
        model_info = read_model_info(champion)
        measured(champion / "predictions", model_info, model_info["weights_sha256"])
        sums.seal(champion)
        log(1.5 * raw(60, 2), weights=model_info["weights_sha256"])
        say(model_info)
        assert drift("ecg5000/cnn", "--no-report") == drift("--no-report") == 1
        printed = capsys.readouterr().out
        assert "other weights" not in printed and printed.count("Worse") == 2
    finally:
        shutil.rmtree("data/registry")
