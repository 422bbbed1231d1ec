"""Machines as the log of answers knows them: what detectors said of each, and which alarms are open."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from sqlalchemy import ColumnElement, func, select, tuple_

from beatline.monitoring import rows
from beatline.monitoring.answers import Answer, AnswerLog
from beatline.monitoring.database import answers
from beatline.monitoring.settings import Alarm

MOST = 500  # machines that are told of; others are counted
LONGEST = 1000  # answers of a history

Key = tuple[str, str]  # data set and model


@dataclass(frozen=True)
class Counts:
    """How many machines detectors were asked about (`known`), how many of these have an open `alarm`, or
    `old` features; when the features of the `newest` and of the `oldest` were measured, in seconds since
    1970, None if none were."""

    known: int
    alarm: int
    old: int
    newest: float | None
    oldest: float | None


def counts(
    log: AnswerLog,
    detectors: Sequence[Key],
    alarm: Alarm,
    max_age_seconds: float,
    now: datetime | None = None,
) -> Counts:
    """Return how the machines are that these detectors were asked about. Raises UserError if the log
    cannot be read."""
    now = now or datetime.now(UTC)
    machines = [
        _machine(name, newest, alarm, now) for name, newest in _newest(log, detectors, alarm)
    ]
    ages = [age for each in machines if (age := each["features_age_seconds"]) is not None]
    return Counts(
        len(machines),
        sum(bool(machine["open_alarms"]) for machine in machines),
        sum(age > max_age_seconds for age in ages),
        now.timestamp() - min(ages) if ages else None,
        now.timestamp() - max(ages) if ages else None,
    )


def overview(
    log: AnswerLog, detectors: Sequence[Key], alarm: Alarm, now: datetime | None = None
) -> dict[str, Any]:
    """Return what these detectors said last of each machine, those with an open alarm first, then by
    name. Raises UserError if the log cannot be read."""
    now = now or datetime.now(UTC)
    machines = [
        _machine(name, newest, alarm, now) for name, newest in _newest(log, detectors, alarm)
    ]
    machines.sort(key=lambda machine: (not machine["open_alarms"], machine["machine"]))
    left_out = max(len(machines) - MOST, 0)
    return {"machines": machines[:MOST], "left_out": left_out, "alarm": alarm.model_dump()}


def history(log: AnswerLog, detectors: Sequence[Key], machine: str) -> list[dict[str, Any]]:
    """Return what these detectors said of a machine, from the oldest to the newest, of many the last
    ones: a series for each; none if nobody has asked about it. Raises UserError as above."""
    columns = answers.c
    query = select(answers).where(_by(detectors), columns.entity == machine)
    query = query.order_by(columns.moment.desc(), columns.id.desc()).limit(LONGEST)
    with log.reading() as connection:
        said = [rows.answer(row) for row in connection.execute(query)][::-1]
    return [
        {
            "dataset": dataset,
            "model": model,
            "moment": [answer.moment.isoformat() for answer in series],
            "score": [float(answer.scores[0]) for answer in series],
            "threshold": [_threshold(answer) for answer in series],
            "anomaly": [bool(answer.decisions[0]) for answer in series],
            "answer": [answer.id for answer in series],
        }
        for (dataset, model), series in _grouped(said)
    ]


def names(log: AnswerLog, detectors: Sequence[Key]) -> list[str]:
    """Return the names of machines. Raises UserError as above."""
    query = select(answers.c.entity).where(_by(detectors)).distinct().limit(MOST)
    with log.reading() as connection:
        return list(connection.execute(query).scalars())


def _by(detectors: Sequence[Key]) -> ColumnElement[bool]:
    columns = answers.c
    named = tuple_(columns.dataset, columns.model).in_(detectors)
    return columns.entity.is_not(None) & (columns.role == "champion") & named


def _newest(
    log: AnswerLog, detectors: Sequence[Key], alarm: Alarm
) -> Iterator[tuple[str, list[Answer]]]:
    """Yield each machine with the answers that decide on its alarms, the newest of each detector last."""
    columns = answers.c
    newest_first = func.row_number().over(
        partition_by=(columns.entity, columns.dataset, columns.model),
        order_by=columns.moment.desc(),
    )
    ranked = select(columns.id, newest_first.label("rank")).where(_by(detectors)).subquery()
    query = select(answers).join(ranked, ranked.c.id == columns.id)
    query = query.where(ranked.c.rank <= alarm.answers).order_by(columns.entity, columns.moment)
    with log.reading() as connection:
        found = [rows.answer(row) for row in connection.execute(query)]
    for name, several in groupby(found, key=lambda answer: str(answer.entity)):
        yield name, list(several)


def _machine(name: str, said: list[Answer], alarm: Alarm, now: datetime) -> dict[str, Any]:
    measured = next((answer for answer in reversed(said) if answer.features is not None), None)
    detectors = [_detector(series, alarm, now) for _, series in _grouped(said)]
    return {
        "machine": name,
        "age_seconds": _age(said[-1], now),
        "open_alarms": sum(detector["alarm"] for detector in detectors),
        "detectors": detectors,
        "features": measured and measured.features,
        "features_age_seconds": measured and _age(measured, now),
    }


def _detector(said: list[Answer], alarm: Alarm, now: datetime) -> dict[str, Any]:
    newest = said[-1]
    anomalies = sum(bool(answer.decisions[0]) for answer in said)
    return {
        "dataset": newest.dataset,
        "model": newest.model,
        "moment": newest.moment.isoformat(),
        "age_seconds": _age(newest, now),
        "score": float(newest.scores[0]),
        "threshold": _threshold(newest),
        "anomaly": bool(newest.decisions[0]),
        "anomalies": anomalies,
        "answers": len(said),
        "alarm": anomalies >= alarm.anomalies,
    }


def _grouped(said: list[Answer]) -> Iterator[tuple[Key, list[Answer]]]:
    def key(answer: Answer) -> Key:
        return answer.dataset, answer.model

    for name, several in groupby(sorted(said, key=key), key=key):
        yield name, list(several)


def _threshold(answer: Answer) -> float | None:
    return None if answer.thresholds is None else float(answer.thresholds[0])


def _age(answer: Answer, now: datetime) -> float:
    return round((now - answer.moment).total_seconds(), 3)
