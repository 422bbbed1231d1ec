"""Machines as the log of answers knows them: what detectors said of each, and which alarms are open."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Subquery, case, func, null, select, tuple_

from beatline.monitoring import rows
from beatline.monitoring.answers import Answer, AnswerLog, is_last
from beatline.monitoring.database import answers
from beatline.monitoring.settings import Alarm

MOST = 500  # machines that are told of; others are counted
LONGEST = 1000  # answers of a history
ANOMALOUS = np.array([True], rows.BOOL).tobytes()  # decisions, as the log holds them
# Of an answer, all that is told: embeddings are most of its bytes.
FIELDS = [null().label(each.name) if each is answers.c.embedding else each for each in answers.c]

Key = tuple[str, str]  # data set and model


@dataclass(frozen=True)
class Counts:
    """How many machines detectors were asked about (`known`), how many of these have an open `alarm`, or
    were measured too long ago (`old`); when the `newest` and the `oldest` of them were measured, in
    seconds since 1970, None if there are none."""

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
    known = _known(detectors, alarm)
    newest = known.c.newest
    oldest = max(rows.microseconds(now) - int(max_age_seconds * 1e6), 0)
    numbers = (
        func.count(),
        func.sum(case((known.c.alarms > 0, 1), else_=0)),
        func.sum(case((newest < oldest, 1), else_=0)),
        func.max(newest),
        func.min(newest),
    )
    with log.reading() as connection:
        count, alarms, aged, last, first = connection.execute(
            select(*numbers).select_from(known)
        ).one()
    times = [None if each is None else rows.moment(each).timestamp() for each in (last, first)]
    return Counts(count, int(alarms or 0), int(aged or 0), *times)


def overview(
    log: AnswerLog, detectors: Sequence[Key], alarm: Alarm, now: datetime | None = None
) -> dict[str, Any]:
    """Return what these detectors said last of each machine, those with an open alarm first, then by
    name. Raises UserError if the log cannot be read."""
    now = now or datetime.now(UTC)
    known = _known(detectors, alarm)
    in_order = (case((known.c.alarms > 0, 0), else_=1), known.c.entity)
    first = select(known.c.entity, func.count().over()).order_by(*in_order).limit(MOST)
    with log.reading() as connection:
        listed = [*connection.execute(first)]
        order = {name: number for number, (name, _) in enumerate(listed)}
        ranked = _ranked(detectors, [*order])
        said = select(*FIELDS).join(ranked, ranked.c.id == answers.c.id)
        said = said.where(ranked.c.rank <= alarm.answers)
        said = said.order_by(answers.c.entity, answers.c.moment, answers.c.id)
        found = [rows.answer(row) for row in connection.execute(said)]
    machines = [
        _machine(name, [*several], alarm, now)
        for name, several in groupby(found, key=lambda answer: str(answer.entity))
    ]
    machines.sort(key=lambda machine: order[machine["machine"]])
    left_out = listed[0][1] - len(listed) if listed else 0
    return {"machines": machines, "left_out": left_out, "alarm": alarm.model_dump()}


def history(log: AnswerLog, detectors: Sequence[Key], machine: str) -> list[dict[str, Any]]:
    """Return what these detectors said of a machine, from the oldest to the newest, of many the last
    ones: a series for each; none if nobody has asked about it. Raises UserError as above."""
    columns = answers.c
    query = select(*FIELDS).where(_by(detectors), columns.entity == machine)
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
    """What answers are of: an entity that was not measured is a person's pseudonym, and told nobody."""
    columns = answers.c
    named = tuple_(columns.dataset, columns.model).in_(detectors)
    return columns.measured.is_not(None) & (columns.role == "champion") & named


def _ranked(detectors: Sequence[Key], names: Sequence[str] | None = None) -> Subquery:
    """Each answer about a machine, with how many of its detector's are newer (`rank`, from 1). Of several
    about what was measured once, the last alone."""
    columns = answers.c
    newest_first = func.row_number().over(
        partition_by=(columns.dataset, columns.model, columns.entity),
        order_by=(columns.moment.desc(), columns.id.desc()),
    )
    told = (columns.id, columns.entity, columns.dataset, columns.model, columns.measured)
    query = select(*told, columns.decisions, newest_first.label("rank"))
    query = query.where(_by(detectors), is_last())
    return (query if names is None else query.where(columns.entity.in_(names))).subquery()


def _known(detectors: Sequence[Key], alarm: Alarm) -> Subquery:
    """Each machine with how many `alarms` are open, and when it was measured last (`newest`)."""
    given = _ranked(detectors)
    anomalies = func.sum(case((given.c.decisions == ANOMALOUS, 1), else_=0))
    by_detector = (
        select(
            given.c.entity,
            case((anomalies >= alarm.anomalies, 1), else_=0).label("alarm"),
            func.max(given.c.measured).label("newest"),
        )
        .where(given.c.rank <= alarm.answers)
        .group_by(given.c.entity, given.c.dataset, given.c.model)
        .subquery()
    )
    return (
        select(
            by_detector.c.entity,
            func.sum(by_detector.c.alarm).label("alarms"),
            func.max(by_detector.c.newest).label("newest"),
        )
        .group_by(by_detector.c.entity)
        .subquery()
    )


def _machine(name: str, said: list[Answer], alarm: Alarm, now: datetime) -> dict[str, Any]:
    rows_of = [answer for answer in said if answer.features is not None]
    measured = max(rows_of, key=lambda answer: answer.measured or answer.moment, default=None)
    detectors = [_detector(series, alarm, now) for _, series in _grouped(said)]
    return {
        "machine": name,
        "age_seconds": _age(said[-1].moment, now),
        "open_alarms": sum(detector["alarm"] for detector in detectors),
        "detectors": detectors,
        "features": measured and measured.features,
        "features_age_seconds": measured and _age(measured.measured or measured.moment, now),
    }


def _detector(said: list[Answer], alarm: Alarm, now: datetime) -> dict[str, Any]:
    newest = said[-1]
    anomalies = sum(bool(answer.decisions[0]) for answer in said)
    return {
        "dataset": newest.dataset,
        "model": newest.model,
        "moment": newest.moment.isoformat(),
        "age_seconds": _age(newest.moment, now),
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


def _age(moment: datetime, now: datetime) -> float:
    return round((now - moment).total_seconds(), 3)
