"""Metrics for Prometheus: they count what was answered, and their labels cannot be made up by clients."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families
from scipy import stats

from beatline.bundle import model_info
from beatline.comparing import comparison
from beatline.monitoring import drift, drift_report, retraining, states
from beatline.monitoring.answers import AnswerLog
from beatline.monitoring.settings import Alarm, Drift, Monitoring
from beatline.serving import machine_watch, registry, telemetry
from beatline.tracking import names
from tests.monitoring import watched
from tests.monitoring.logs import answer
from tests.serving import project, test_shadow

CNN = "/models/ptbxl/cnn/predict"
RAW = {"Content-Type": "application/octet-stream", "X-Shape": "120,3"}
ECG = project.raw_recordings("ptbxl")[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return project.make(tmp_path)


@pytest.fixture
def client(folder: Path) -> Iterator[httpx.Client]:
    with project.client(folder) as found:
        yield found


def samples(client: httpx.Client, name: str, **labels: Any) -> list[tuple[dict[str, str], float]]:
    """The samples of a name with these labels, as Prometheus' own parser reads them."""
    text = client.get("/metrics").text
    return [
        (sample.labels, sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == f"beatline_{name}" and labels.items() <= sample.labels.items()
    ]


def value(client: httpx.Client, name: str, **labels: Any) -> float:
    return sum(value for _, value in samples(client, name, **labels))


def test_requests_are_counted(client: httpx.Client) -> None:
    """By route, method and status; each has a duration; only the one that asks is being answered."""
    route = "/models/{dataset}/{model}/predict"
    for _ in range(3):
        client.post(CNN, content=ECG.tobytes(), headers=RAW)
    client.post(CNN, content=b"", headers=RAW)
    assert value(client, "requests_total", route=route, method="POST", status="200") == 3
    assert value(client, "requests_total", route=route, method="POST", status="400") == 1
    assert value(client, "request_seconds_count", route=route) == 4
    assert 0 < value(client, "request_seconds_sum", route=route) < 10
    assert value(client, "requests_in_flight") == 1
    assert value(client, "workers_ready") == 1


def test_answers_are_counted(client: httpx.Client) -> None:
    """Decisions, how sure they are, and warnings are counted by model."""
    answer = client.post(CNN, content=ECG.tobytes(), headers=RAW).json()
    names = {"dataset": "ptbxl", "model": "cnn"}
    for name in project.CLASSES:
        counted = value(client, "predictions_total", **names, predicted=name)
        assert counted == answer["decisions"][name]
        assert value(client, "probability_sum", **names, **{"class": name}) == pytest.approx(
            answer["probabilities"][name]
        )
    beat = project.raw_recordings("ecg5000")[0, :, 0].tolist()
    answer = client.post("/models/ecg5000/autoencoder/predict", json=beat).json()
    names = {"dataset": "ecg5000", "model": "autoencoder"}
    relative = answer["score"] / answer["threshold"]
    assert value(client, "relative_score_sum", **names) == pytest.approx(relative)
    decided = "anomaly" if answer["anomaly"] else "normal"
    assert value(client, "predictions_total", **names, predicted=decided) == 1
    rows = client.post("/predict", json=[[1, 2, None], [0, 0, 0]]).json()
    names = {"dataset": "ecg_features", "model": "mlp"}
    assert value(client, "predictions_total", **names) == 2
    assert value(client, "probability_count", **names) == 2
    warned = [warning["code"] for row in rows for warning in row["warnings"]]
    assert "missing" in warned
    assert value(client, "warnings_total", **names) == len(warned)
    assert value(client, "warnings_total", **names, code="missing") == 1


def test_sources_are_those_that_the_operator_has_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever clients call themselves, there are no more time series than names and `other`."""
    monkeypatch.setenv(telemetry.SOURCES, "icu ward/3")
    with project.client(folder) as client:
        for source in ("icu", "icu", "ward/3", "", "a" * 5000, *map(str, range(20))):
            client.get("/models", headers={"X-Source": source})
        client.get("/models")
        counted = samples(client, "source_requests_total")
    assert {labels["source"]: value for labels, value in counted} == {
        "icu": 2,
        "ward/3": 1,
        telemetry.OTHER: 22,
    }


@pytest.mark.parametrize("seconds", [0.004, 30.0, 45.0, 1000.0])
def test_buckets_reach_as_far_as_an_answer_may(folder: Path, seconds: float) -> None:
    """What took as long as it may is not in one bucket with what took for ever, whatever the limit; rows
    likewise."""
    limits = {"seconds_to_send": 1.0, "seconds_to_answer": seconds, "max_rows": 700}
    with project.client(folder, **limits) as client:
        client.post("/predict", json=[[1, 2, 3]] * 3)
        times = samples(client, "request_seconds_bucket", route="/predict")
        rows = samples(client, "rows_bucket", dataset="ecg_features", model="mlp")
    bounds = [float(labels["le"]) for labels, _ in times]
    assert bounds[-2:] == [seconds + 1, math.inf]
    assert bounds == sorted(set(bounds))
    assert {float(labels["le"]): value for labels, value in rows} == {
        **dict.fromkeys((1, 2), 0),
        **dict.fromkeys((5, 10, 20, 50, 100, 200, 500, 700, math.inf), 1),
    }


def test_what_the_process_uses(client: httpx.Client) -> None:
    """Memory, files, processor time and start are what the system says of this process, and time does not
    stand still."""
    process = psutil.Process()

    def uses(name: str) -> float:
        text = client.get("/metrics").text
        (line,) = re.findall(
            rf'^process_{name}{{pid="{process.pid}",role="worker"}} (.*)$', text, re.M
        )
        return float(line)

    before = uses("cpu_seconds_total")
    while sum(process.cpu_times()[:2]) < before + 0.05:
        pass
    assert before + 0.05 <= uses("cpu_seconds_total") <= sum(process.cpu_times()[:2])
    assert uses("resident_memory_bytes") == pytest.approx(process.memory_info().rss, rel=0.2)
    assert uses("open_fds") == pytest.approx(process.num_fds(), abs=5)
    assert uses("start_time_seconds") == pytest.approx(process.create_time(), abs=1)


def test_labels_cannot_be_made_up(client: httpx.Client) -> None:
    """A client that asks for ever new paths, models, methods and classes leaves one label of each."""
    for number in range(5):
        client.get(f"/{number}")
        client.get(f"/page/{number}.js")
        client.request(("TRACE", "PROPFIND", "LOCK", "COPY", "SEARCH")[number], "/health")
        client.post(f"/models/{number}/cnn/predict")
        client.post("/predict", json={str(number): 1})
    seen = [labels for labels, _ in samples(client, "requests_total")]
    assert {labels["route"] for labels in seen} == {
        "other",
        "/page",
        "/health",
        "/predict",
        "/models/{dataset}/{model}/predict",
    }
    assert {labels["method"] for labels in seen} == {"GET", "POST", "other"}
    assert samples(client, "predictions_total") == []


def test_the_identity_is_that_of_what_is_loaded(client: httpx.Client, folder: Path) -> None:
    """After a reload the old one is 0 and the new one 1."""
    names = {"dataset": "ptbxl", "model": "cnn"}
    old = project.weights(folder, "ptbxl/cnn")[:12]
    assert [
        (labels["weights"], value) for labels, value in samples(client, "model_info", **names)
    ] == [(old, 1)]
    project.save(folder / registry.FOLDER / "ptbxl/cnn", "ptbxl/cnn", seed=3)
    new = project.weights(folder, "ptbxl/cnn")[:12]
    project.wait_until(lambda: value(client, "model_info", **names, weights=new) == 1)
    assert value(client, "model_info", **names, weights=old) == 0
    assert value(client, "model_info", **names, revision=project.REVISION[:12]) == 1
    assert value(client, "model_loads_total", **names) == 2


def test_versions_are_shown_with_their_alias(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A champion of the registry is told from a challenger, and from a bundle of this project."""
    with project.client(folder) as client:
        assert value(client, "model_info", model="cnn", version="", alias="") == 1
    monkeypatch.setenv(registry.MODELS, registry.FROM_REGISTRY)
    test_shadow.put(folder, "ptbxl/cnn", names.CHAMPION, "7", seed=1)
    with project.client(folder) as client:
        assert value(client, "model_info", model="cnn", version="7", alias="champion") == 1


def test_validation_records_are_shown(folder: Path) -> None:
    """Quantiles of what is counted in production, and shares with the interval of the check for drift; a
    bundle that has none shows none, and leaves nothing of the one before it."""
    for key in ("ptbxl/cnn", "ecg5000/autoencoder", "ecg_features/mlp"):
        project.save(folder / registry.FOLDER / key, key, validation=40)
    with project.client(folder) as client:
        for key in ("ptbxl/cnn", "ecg5000/autoencoder", "ecg_features/mlp"):
            described = model_info.read_model_info(folder / registry.FOLDER / key)
            reference = model_info.read_reference(folder / registry.FOLDER / key, described)
            of_model = dict(zip(("dataset", "model"), key.split("/"), strict=True))
            scores = reference.scores.copy()
            if key == "ecg5000/autoencoder":
                scores /= described["thresholds"][0]
            if key == "ecg_features/mlp":
                scores[np.arange(3) != scores.argmax(axis=1)[:, None]] = np.nan
            for number, name in enumerate(described["classes"]):
                labels: dict[str, Any] = {**of_model, "class": name}
                for quantile in (0.05, 0.5, 0.95):
                    expected = np.nanquantile(scores[:, number], quantile)
                    shown = value(client, "reference_score", **labels, quantile=f"{quantile:g}")
                    assert shown == pytest.approx(expected, rel=1e-6)
                test = stats.binomtest(int(reference.decided[number]), 40)
                interval = test.proportion_ci(method="wilson")
                shares = samples(client, "reference_class_share", **labels)
                assert {labels["of"]: share for labels, share in shares} == pytest.approx(
                    {"validation": test.statistic, "low": interval.low, "high": interval.high}
                )
        project.save(folder / registry.FOLDER / "ptbxl/cnn", "ptbxl/cnn", seed=3)
        cnn = {"dataset": "ptbxl", "model": "cnn"}
        project.wait_until(lambda: math.isnan(value(client, "reference_class_share", **cnn)))
        assert math.isnan(value(client, "reference_score", **cnn))


def test_a_challenger_does_not_show_its_validation_records(
    folder: Path,
) -> None:
    """Those of the champion, whose answers are counted, stay."""
    counting = telemetry.Telemetry(project.limits(), folder)
    project.save(folder / registry.FOLDER / "ptbxl/cnn", "ptbxl/cnn", validation=40)
    registry.Registry(folder, ["ptbxl/cnn"], 1, counting).look()
    before = b"beatline_reference_score{" in counting.exposition(), counting.exposition()
    place = test_shadow.put(folder, "ptbxl/cnn", names.CHALLENGER, "2", seed=2)
    challengers = registry.Registry(folder, ["ptbxl/cnn"], 1, counting, names.CHALLENGER)
    challengers.look()
    assert challengers.loaded("ptbxl/cnn") and place.is_dir() and before[0]

    def shown(content: bytes) -> list[bytes]:
        return [line for line in content.splitlines() if line.startswith(b"beatline_reference")]

    assert shown(counting.exposition()) == shown(before[1])


@pytest.mark.parametrize("damaged", [False, True])
def test_a_challenger_that_is_gone_is_not_shown(folder: Path, damaged: bool) -> None:
    """Whether it was promoted or deleted: neither as loaded nor as one that cannot be. A model that has
    never had one has no series."""
    counting = telemetry.Telemetry(project.limits(), folder)
    wanted = ["ptbxl/cnn", "ecg5000/autoencoder"]
    challengers = registry.Registry(folder, wanted, 1, counting, names.CHALLENGER)
    challengers.look()

    def shown() -> dict[str, list[str]]:
        lines = counting.exposition().decode().splitlines()
        series = ("model_info", "model_load_failing")
        return {
            name: [line.split()[-1] for line in lines if line.startswith(f"beatline_{name}{{")]
            for name in series
        }

    assert shown() == {"model_info": [], "model_load_failing": []}
    place = test_shadow.put(folder, "ptbxl/cnn", names.CHALLENGER, "2", seed=2)
    challengers.look()
    assert shown() == {"model_info": ["1.0"], "model_load_failing": ["0.0"]}
    if damaged:
        (place / model_info.GRAPH).write_bytes(b"x")
        challengers.look()
        assert shown() == {"model_info": ["1.0"], "model_load_failing": ["1.0"]}
    shutil.rmtree(place)
    challengers.look()
    assert shown() == {"model_info": ["0.0"], "model_load_failing": ["0.0"]}
    test_shadow.put(folder, "ptbxl/cnn", names.CHALLENGER, "2", seed=2)
    challengers.look()
    assert shown() == {"model_info": ["1.0"], "model_load_failing": ["0.0"]}


def test_a_damaged_reference_costs_no_answer(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The model answers; the log of the server names the file."""
    bundle = folder / registry.FOLDER / "ptbxl/cnn"
    project.save(bundle, "ptbxl/cnn", validation=40)
    damage = bytearray((bundle / "reference.safetensors").read_bytes())
    damage[-1] ^= 1
    (bundle / "reference.safetensors").write_bytes(damage)
    with project.client(folder) as client:
        assert client.post(CNN, content=ECG.tobytes(), headers=RAW).status_code == 200
        assert all(math.isnan(each) for _, each in samples(client, "reference_score"))
    assert "reference.safetensors" in caplog.text


def test_machines_are_counted_from_the_log(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without a log that can be read nothing is claimed; patients are no machines."""
    monkeypatch.setattr(machine_watch, "SECONDS", 0.05)
    where = tmp_path / "answers.db"
    monitoring = Monitoring(log=str(where), keep_days=30, max_megabytes=100)
    beat = project.raw_recordings("ecg5000")[0, :, 0].tolist()
    with project.client(folder, monitoring) as client:
        project.wait_until(
            lambda: samples(client, "machines", state="known") == [({"state": "known"}, 0)]
        )
        assert math.isnan(value(client, "machine_features_timestamp_seconds", of="oldest"))
        headers = {"X-Entity-Id": "patient-1", "X-Wait-For-Log": "1"}
        path = "/models/ecg5000/autoencoder/predict"
        assert client.post(path, json=beat, headers=headers).json()["logged"]
        about: dict[str, Any] = {"dataset": "ecg5000", "model": "autoencoder"}
        about |= {"measured": datetime.now(UTC), "moment": datetime.now(UTC)}
        with AnswerLog(str(where)) as log:
            log.write([answer(entity=name, **about) for name in ("pump-1", "pump-2")])
        project.wait_until(lambda: value(client, "machines", state="known") == 2)
        assert value(client, "machines", state="old") == 0
        where.unlink()
        project.wait_until(lambda: math.isnan(value(client, "machines", state="known")))


def test_one_process_counts_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another takes its turn once it has ended."""
    monkeypatch.setenv(telemetry.FOLDER, str(tmp_path))

    def watch() -> machine_watch.MachineWatch:
        counting: Any = None
        return machine_watch.MachineWatch(
            counting, Alarm(anomalies=1, answers=1), 1, list, counting
        )

    first, second = watch(), watch()
    assert first._is_our_turn() and not second._is_our_turn() and first._is_our_turn()
    first.start()
    first.stop()
    assert second._is_our_turn()
    second.start()
    second.stop()


def test_the_last_retraining_is_shown(client: httpx.Client, folder: Path) -> None:
    """Of each model its own; one that is of another version, or broken, hides no other metric."""
    place = folder / states.RETRAINING / "ptbxl"
    place.mkdir(parents=True)
    for model, verdict in (("cnn", "failed"), ("lstm", "passed")):
        outcome = retraining.Outcome(
            *(f"ptbxl/{model}", "retrain/x", 3, verdict, {}, 41, {}, "a" * 64),
            "2026-03-02T12:00:00+00:00",
        )
        (place / f"{model}.json").write_text(json.dumps(asdict(outcome)))
    (place / "cnn_lstm.json").write_text('{"key": "ptbxl/cnn_lstm"}')
    (place / "autoencoder.json").write_text("[")
    names = {"dataset": "ptbxl", "model": "cnn"}
    shown = samples(client, "retraining_outcome", **names)
    assert {labels["outcome"]: each for labels, each in shown} == {
        "passed": 0,
        "failed": 1,
        "cannot tell": 0,
    }
    assert value(client, "retraining_outcome", model="lstm", outcome="passed") == 1
    assert value(client, "retraining_learned_records", **names) == 41
    finished = datetime(2026, 3, 2, 12, tzinfo=UTC).timestamp()
    assert value(client, "retraining_finished_timestamp_seconds", **names) == finished
    assert {labels["model"] for labels, _ in samples(client, "retraining_outcome")} == {
        "cnn",
        "lstm",
    }


def test_every_end_of_a_retraining_is_shown() -> None:
    """A verdict that metrics do not know would look like none."""
    assert set(states.GATE) == {comparison.PASSED, comparison.FAILED, comparison.CANNOT_TELL}


def test_a_bundle_that_cannot_be_loaded_is_shown_until_it_can(
    client: httpx.Client, folder: Path
) -> None:
    """Also long after the attempt, whose count stands still while the old model answers."""
    names = {"dataset": "ptbxl", "model": "cnn", "role": "champion"}
    graph = folder / registry.FOLDER / "ptbxl/cnn" / model_info.GRAPH
    content = graph.read_bytes()
    assert value(client, "model_load_failing", **names) == 0
    graph.write_bytes(content[:-1])
    project.wait_until(lambda: value(client, "model_load_failing", **names) == 1)
    graph.write_bytes(content)
    project.wait_until(lambda: value(client, "model_load_failing", **names) == 0)


def test_the_last_check_for_drift_is_shown(client: httpx.Client, folder: Path) -> None:
    """What it found, by model, family, feature and class, and when; nothing before there was one."""
    assert not samples(client, "drift") and not samples(client, "drift_checked_timestamp_seconds")
    signals = 1.4 * watched.recordings("binary", 80, 11)
    now = datetime(2026, 3, 1, tzinfo=UTC)
    finding = drift.check(
        watched.watched("binary"), watched.records("binary", signals), Drift(), now
    )
    drift_report.write(folder, finding)
    names = {"dataset": "made", "model": "binary"}
    assert samples(client, "drift") == [(names, 1)]
    assert value(client, "drift_records", **names) == 80
    assert value(client, "drift_checked_timestamp_seconds", **names) == now.timestamp()
    p = {labels["family"]: p for labels, p in samples(client, "drift_p_value", **names)}
    assert p == pytest.approx({**finding.families, "all": finding.p})
    shifts = {labels["feature"]: shift for labels, shift in samples(client, "drift_feature_shift")}
    expected = {column.name: column.shift for column in finding.columns}
    assert shifts == pytest.approx(expected, rel=1e-4)
    shares = {labels["of"]: share for labels, share in samples(client, "drift_class_share")}
    assert shares["window"] == pytest.approx(finding.classes[0].window)
    assert shares["low"] <= shares["validation"] <= shares["high"]


def test_a_check_that_could_not_tell_says_neither(client: httpx.Client, folder: Path) -> None:
    """No 0 that would be read as "no drift"; that there was a check is seen."""
    few = watched.records("binary", watched.recordings("binary", 5, 11))
    now = datetime(2026, 3, 1, tzinfo=UTC)
    drift_report.write(folder, drift.check(watched.watched("binary"), few, Drift(), now))
    assert not samples(client, "drift") and not samples(client, "drift_p_value")
    assert value(client, "drift_records") == 5
