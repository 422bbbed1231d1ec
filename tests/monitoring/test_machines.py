"""Machines are told as detectors have spoken of them, and alarms open and close as they should."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from beatline.common.errors import UserError
from beatline.common.params import validated
from beatline.monitoring import machines
from beatline.monitoring.answers import Answer, AnswerLog
from beatline.monitoring.settings import Alarm
from tests.monitoring.logs import BEGINNING, answer

DETECTOR, OTHER = ("machine_sound", "embedding"), ("machine_features", "mahalanobis")
ALARM = Alarm(anomalies=3, answers=5)


def said(
    machine: str, number: int, score: float, key: tuple[str, str] = DETECTOR, **more: Any
) -> Answer:
    """A detector's answer, whose threshold is 1."""
    content: dict[str, Any] = {
        "entity": machine,
        "dataset": key[0],
        "model": key[1],
        "scores": np.array([score]),
        "decisions": np.array([score > 1]),
        "thresholds": np.array([1.0]),
        "measured": BEGINNING + timedelta(seconds=number),
    }
    return answer(number, **content | more)


def alarms(log: AnswerLog) -> dict[str, list[bool]]:
    overview = machines.overview(log, [DETECTOR, OTHER], ALARM)
    return {
        machine["machine"]: [detector["alarm"] for detector in machine["detectors"]]
        for machine in overview["machines"]
    }


def test_an_alarm_opens_and_closes(where: str) -> None:
    """At the third anomaly of the last five answers, and when fewer of those are left."""
    scores = [0.5, 2, 0.5, 2, 2, 0.5, 0.5]
    open_after = []
    with AnswerLog(where) as log:
        for number, score in enumerate(scores):
            log.write([said("pump", number, score), said("fan", number, 0.5)])
            open_after.append(alarms(log)["pump"][0])
        assert alarms(log)["fan"] == [False]
    assert open_after == [False, False, False, False, True, True, False]


def test_what_is_told_of_a_machine(where: str) -> None:
    """The newest answer of each detector, and what was measured last; those with alarms come first."""
    rows = [
        said("a", 0, 0.5, features={"rms": 1.0}),
        said("a", 9, 0.25),
        said("a", 5, 3.0, OTHER, features={"rms": 2.0}, thresholds=None),
        *(said("b", number, 2) for number in range(8)),
        said("c", 3, 2, ("ptbxl", "cnn")),  # no detector, or not loaded
        said("d", 3, 2, role="shadow"),
        said("e", 3, 2, entity=None, measured=None),
        *(said("patient", number, 2, measured=None) for number in range(8)),  # by X-Entity-Id
    ]
    now = BEGINNING + timedelta(seconds=10)
    with AnswerLog(where) as log:
        log.write(rows)
        overview = machines.overview(log, [DETECTOR, OTHER], ALARM, now)
    assert overview["alarm"] == {"anomalies": 3, "answers": 5} and overview["left_out"] == 0
    b, a = overview["machines"]
    assert (b["machine"], b["open_alarms"], b["features"]) == ("b", 1, None)
    assert (b["detectors"][0]["anomalies"], b["detectors"][0]["answers"]) == (5, 5)
    assert (a["machine"], a["open_alarms"], a["age_seconds"]) == ("a", 0, 1)
    assert (a["features"], a["features_age_seconds"]) == ({"rms": 2.0}, 5)
    other, detector = a["detectors"]
    assert (other["model"], other["score"], other["anomaly"]) == ("mahalanobis", 3.0, True)
    assert other["threshold"] is None and detector["threshold"] == 1
    assert (detector["score"], detector["anomaly"], detector["answers"]) == (0.25, False, 2)


def test_what_was_measured_once_counts_once(where: str) -> None:
    """Whoever asks again about a row of the store measures nothing: no alarm opens by that, and the row
    grows older. Each of the answers is in the history."""
    with AnswerLog(where) as log:
        log.write([said("a", number, 2, measured=BEGINNING) for number in range(6)])
        now = BEGINNING + timedelta(seconds=10)
        (machine,) = machines.overview(log, [DETECTOR], ALARM, now)["machines"]
        (detector,) = machine["detectors"]
        assert (machine["open_alarms"], detector["anomalies"], detector["answers"]) == (0, 1, 1)
        counts = machines.counts(log, [DETECTOR], ALARM, 9, now)
        assert counts == machines.Counts(1, 0, 1, BEGINNING.timestamp(), BEGINNING.timestamp())
        assert len(machines.history(log, [DETECTOR], "a")[0]["score"]) == 6
        log.write([said("a", number, 2, features={"rms": 1.0}) for number in (7, 8)])
        log.write([said("a", 9, 2, features={"rms": 2.0}, measured=BEGINNING)])
        (machine,) = machines.overview(log, [DETECTOR], ALARM, now)["machines"]
        assert (machine["open_alarms"], machine["detectors"][0]["anomalies"]) == (1, 3)
        assert (machine["features"], machine["features_age_seconds"]) == ({"rms": 1.0}, 2)


def test_a_history(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every answer in its order with the threshold of its time, of many the last ones."""
    rows = [
        *(said("a", number, number / 4, thresholds=np.array([1 + number])) for number in range(8)),
        said("a", 100, 7, OTHER),
        said("b", 3, 5),
    ]
    with AnswerLog(where) as log:
        log.write(rows[::-1])
        other, series = machines.history(log, [DETECTOR, OTHER], "a")
        assert series["score"] == [number / 4 for number in range(8)]
        assert series["threshold"] == [1 + number for number in range(8)]
        assert series["anomaly"] == [number > 4 for number in range(8)]
        assert series["answer"] == [row.id for row in rows[:8]]
        assert series["moment"][1] == "2026-03-01T00:00:01+00:00"
        assert other["score"] == [7]
        assert machines.history(log, [DETECTOR], "nobody") == []
        assert machines.names(log, [DETECTOR]) == ["a", "b"]
        monkeypatch.setattr(machines, "LONGEST", 3)
        assert machines.history(log, [DETECTOR], "a")[0]["score"] == [1.25, 1.5, 1.75]


def test_more_machines_than_are_told(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those with an open alarm are among them, and the others are counted."""
    monkeypatch.setattr(machines, "MOST", 3)
    rows = [said(f"m{n}", number, 2 if n == 7 else 0) for n in range(9) for number in range(5)]
    with AnswerLog(where) as log:
        log.write(rows)
        overview = machines.overview(log, [DETECTOR], ALARM)
    assert [machine["machine"] for machine in overview["machines"]] == ["m7", "m0", "m1"]
    assert overview["left_out"] == 6


def test_no_detectors(where: str) -> None:
    """As while none is loaded: nothing is told."""
    with AnswerLog(where) as log:
        log.write([said("a", 0, 1)])
        assert machines.overview(log, [], ALARM)["machines"] == []


def test_an_alarm_that_never_opens() -> None:
    """It is refused with its key."""
    with pytest.raises(UserError, match=r"monitoring\.alarm.*anomalies"):
        validated({"anomalies": 6, "answers": 5}, "monitoring.alarm", Alarm)


def test_machines_are_counted(where: str) -> None:
    """All that detectors were asked about, those with open alarms and those whose features are old; when
    the newest and the oldest were measured."""
    at = BEGINNING.timestamp()
    now = BEGINNING + timedelta(hours=2)
    with AnswerLog(where) as log:
        counted = [said("a", number, 2, features={"rms": 1.0}) for number in range(3)]
        fresh = [said("b", 7000, 0.5, features={"rms": 2.0}), said("c", 7100, 0.5)]
        log.write([said("patient", 7200, 2, measured=None)])
        log.write([*counted, *fresh])
        counts = machines.counts(log, [DETECTOR], ALARM, 3600, now)
        assert counts == machines.Counts(3, 1, 1, at + 7100, at + 2)
        assert machines.counts(log, [DETECTOR], ALARM, 7199, now).old == 0
        nobody = machines.Counts(0, 0, 0, None, None)
        assert machines.counts(log, [OTHER], ALARM, 3600, now) == nobody
