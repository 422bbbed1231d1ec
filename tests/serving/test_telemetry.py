"""Metrics for Prometheus: they count what was answered, and their labels cannot be made up by clients."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from beatline.monitoring import drift, drift_report
from beatline.monitoring.settings import Drift
from beatline.serving import registry, telemetry
from tests.monitoring import watched
from tests.serving import project

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
