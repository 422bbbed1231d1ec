"""What is written to the log of answers is read from it, from SQLite and PostgreSQL alike."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sqlalchemy.exc import DataError

from beatline.common.errors import UserError
from beatline.monitoring.answers import Answer, AnswerLog, KeptRecording
from beatline.monitoring.settings import VARIABLE, Monitoring
from tests.monitoring.logs import BEGINNING, answer, several

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)


def same(written: Answer, read: Answer) -> bool:
    """Whether two answers are equal, arrays in type and values."""

    def comparable(value: Any) -> Any:
        return (value.dtype, value.tobytes()) if isinstance(value, np.ndarray) else value

    names = [field.name for field in fields(Answer)]
    return all(comparable(getattr(written, n)) == comparable(getattr(read, n)) for n in names)


ANSWERS = st.builds(
    answer,
    number=st.integers(0, 1000),
    dataset=st.sampled_from(["ptbxl", "machine_sound"]),
    version=st.none() | st.just("3"),
    role=st.sampled_from(["champion", "shadow"]),
    scores=arrays.arrays(np.float32, st.integers(1, 6), elements=FINITE),
    decisions=arrays.arrays(bool, st.integers(1, 6)),
    warnings=st.lists(st.sampled_from(["far", "clipped", "unfamiliar"]), unique=True),
    seconds=st.floats(0, 100),
    embedding=st.none() | arrays.arrays(np.float32, st.integers(1, 300), elements=FINITE),
    features=st.none() | st.dictionaries(NAMES, st.none() | st.floats(-1e300, 1e300)),
    entity=st.none() | st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}", fullmatch=True),
    thresholds=st.none() | arrays.arrays(np.float32, 3, elements=FINITE),
    measured=st.none() | st.just(BEGINNING),
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(given_answers=st.lists(ANSWERS, min_size=1, max_size=5))
def test_what_is_written_is_read(where: str, given_answers: list[Answer]) -> None:
    """Every field, to the last bit."""
    with AnswerLog(where) as log:
        log.write(given_answers)
        read = log.answers([each.id for each in given_answers] + ["0" * 32])
    assert len(read) == len(given_answers)
    assert all(same(each, read[each.id]) for each in given_answers)


def test_windows(where: str) -> None:
    """A window holds the answers of its model, role and time, from the oldest to the newest, whatever
    the order in which they were written."""
    mine = several(20)
    others = [
        answer(3, role="shadow"),
        answer(4, dataset="ecg5000", scores=np.zeros(1), decisions=np.zeros(1)),
        answer(5, model="lstm"),
    ]
    with AnswerLog(where) as log:
        log.write([*others, *reversed(mine)])
        window = log.window("ptbxl", "cnn")
        assert window.ids == [each.id for each in mine] and len(window) == 20
        assert np.array_equal(window.scores, [each.scores for each in mine])
        assert np.array_equal(window.decisions, [each.decisions for each in mine])
        embeddings = np.array([each.embedding for each in mine])
        assert np.array_equal(window.embeddings, embeddings)
        assert window.moments[1] == np.datetime64("2026-03-01T00:00:01")
        assert [bool(codes) for codes in window.warnings] == [n % 3 == 0 for n in range(20)]
        assert window.warnings[0] == ("far", "clipped")
        assert log.window("ptbxl", "cnn", last=3).ids == window.ids[-3:]
        part = log.window(
            "ptbxl",
            "cnn",
            since=BEGINNING + timedelta(seconds=5),
            until=BEGINNING + timedelta(seconds=9),
        )
        assert part.ids == window.ids[5:9]
        assert log.window("ptbxl", "cnn", role="shadow").ids == [others[0].id]
        nothing = log.window("ptbxl", "lstm", entity="nobody")
        assert len(nothing) == 0 and nothing.scores.shape[0] == 0 and nothing.features.empty


def test_what_was_measured_once_is_in_a_window_once(where: str) -> None:
    """The last answer about it within the window, of the bundle that is asked for. So it is beside a
    challenger's, where what experts have said of it is not lost."""
    about: dict[str, Any] = {"entity": "pump", "measured": BEGINNING}
    old, new = ({**about, "weights": letter * 64} for letter in "ab")
    rows = [answer(0, **old), answer(1, **old), answer(2, **new), answer(3, **new)]
    rows += [answer(4, **new | {"entity": "fan"}), answer(5, **new, role="shadow")]
    rows += [answer(number, **new | {"measured": None}) for number in (6, 7)]
    shadows = [answer(number, role="shadow", beside=rows[number].id, **new) for number in (2, 3, 4)]
    names = [row.id for row in rows]

    def numbers(**which: Any) -> list[int]:
        return [names.index(each) for each in log.window("ptbxl", "cnn", **which).ids]

    with AnswerLog(where) as log:
        log.write([*rows, *shadows])
        assert numbers() == [3, 4, 6, 7]
        assert numbers(last=3) == [4, 6, 7] and numbers(entity="pump") == [3, 6, 7]
        assert numbers(weights="a" * 64) == [1]
        assert numbers(until=rows[3].moment, weights="b" * 64) == [2]
        log.say({names[2]: ["normal"]}, BEGINNING)
        pairs = log.pairs("ptbxl", "cnn")
        assert [(pair.champion.id, pair.labels) for pair in pairs] == [
            (names[2], ["normal"]),
            (names[4], None),
        ]


@pytest.mark.parametrize("first", ["read", "write"])
def test_a_log_of_an_older_version(where: str, first: str) -> None:
    """Which had no moment of measurement: it is read and written on, by several processes at once."""
    with AnswerLog(where) as log:
        log.write(several(3))
        with log.engine.begin() as connection:
            for change in (
                "DROP INDEX answers_of_machine",
                "ALTER TABLE answers DROP COLUMN measured",
            ):
                connection.exec_driver_sql(change)

    def go_on(number: int) -> int:
        with AnswerLog(where) as log:
            if first == "write":
                log.write([answer(number, measured=BEGINNING, entity=f"{number}")])
            return len(log.window("ptbxl", "cnn"))

    with ThreadPoolExecutor(4) as pool:
        counts = [*pool.map(go_on, range(4))]
    assert min(counts) >= 3
    with AnswerLog(where) as log:
        log.write([answer(9, measured=BEGINNING, entity="9")])
        window = log.window("ptbxl", "cnn")
        assert len(window) == 4 + 4 * (first == "write")
        assert log.answers(window.ids[-1:])[window.ids[-1]].measured == BEGINNING


def test_windows_with_gaps(where: str) -> None:
    """What an answer does not have is NaN in its row, and in no other."""
    rows = [
        answer(0, embedding=None, features={"rms": 1.0}, thresholds=None, entity="pump-1"),
        answer(1, features={"rms": None, "peak": 2.0}),
        answer(2, features={"peak": 3.0}, thresholds=None),
        answer(3),
    ]
    with AnswerLog(where) as log:
        log.write(rows)
        window = log.window("ptbxl", "cnn")
        assert log.window("ptbxl", "cnn", entity="pump-1").ids == [rows[0].id]
    assert np.isnan(window.embeddings).all(axis=1).tolist() == [True, False, False, False]
    np.testing.assert_array_equal(window.embeddings[3], rows[3].embedding)
    assert np.isnan(window.thresholds).all(axis=1).tolist() == [True, False, True, False]
    np.testing.assert_array_equal(window.features["rms"], [1, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(window.features["peak"], [np.nan, 2, 3, np.nan])
    assert window.entities == ["pump-1", None, None, None]


def test_models_of_other_outputs(where: str) -> None:
    """Scores of another number of classes are not put beside the others: one bundle must be named."""
    other = answer(1, weights="b" * 64, scores=np.zeros(3), decisions=np.zeros(3))
    with AnswerLog(where) as log:
        log.write([answer(0), other])
        with pytest.raises(UserError, match=r"ptbxl/cnn.*weights"):
            log.window("ptbxl", "cnn")
        assert log.window("ptbxl", "cnn", weights="b" * 64).ids == [other.id]


def test_a_batch_may_be_written_again(where: str) -> None:
    """As after a connection that broke when it was not known whether the rows were written."""
    rows = several(5)
    with AnswerLog(where) as log:
        log.write(rows[:3])
        log.write(rows)
        assert log.window("ptbxl", "cnn").ids == [each.id for each in rows]


def test_feedback(where: str) -> None:
    """Experts' words are read with the answer that they are about, in the order in which they came; the
    last about an answer counts."""
    rows = [*several(3), answer(4, dataset="ecg5000")]
    moment = datetime(2026, 4, 1, tzinfo=UTC)
    with AnswerLog(where) as log:
        log.write(rows)
        log.say({rows[0].id: ["MI"], rows[3].id: ["normal"]}, moment)
        log.say({rows[1].id: []}, moment + timedelta(days=1))
        log.say({rows[0].id: ["NORM", "CD"]}, moment + timedelta(days=2))
        said = log.feedback("ptbxl")
        assert [each.labels for each in said] == [[], ["NORM", "CD"]]
        assert same(said[1].answer, rows[0]) and said[1].moment == moment + timedelta(days=2)
        assert len(log.feedback()) == 3
        assert len(log.feedback(since=moment + timedelta(days=2))) == 1


def test_experts_who_speak_at_once(where: str) -> None:
    """Of the same answers, in whatever order they name these: none is refused, and each has one word."""
    rows = several(20)
    ids = [row.id for row in rows]
    with AnswerLog(where) as log, ThreadPoolExecutor(8) as experts:
        log.write(rows)
        said = [
            experts.submit(log.say, {key: ["MI"] for key in ids[:: (-1) ** number]}, BEGINNING)
            for number in range(40)
        ]
        for each in said:
            each.result()
        assert [each.labels for each in log.feedback()] == [["MI"]] * len(rows)


def test_recordings(where: str) -> None:
    """A kept recording has the samples that were sent, to the last bit, and gaps where there were."""
    samples = np.random.default_rng(0).standard_normal((500, 12)).astype(np.float32)
    samples[3, 4] = np.nan
    row = answer()
    kept = KeptRecording(row.id, samples, [f"lead {n}" for n in range(12)], 100.0, "mV")
    with AnswerLog(where) as log:
        log.write([row, answer()], [kept])
        read = log.recordings([row.id, "0" * 32])
    assert [*read] == [row.id]
    np.testing.assert_array_equal(read[row.id].samples, samples)
    assert (read[row.id].channels, read[row.id].sampling_rate, read[row.id].unit) == (
        kept.channels,
        100.0,
        "mV",
    )


def test_a_log_that_is_not_there(tmp_path: Path, database: str) -> None:
    """Who reads is told so, and no empty log appears that would look like one without answers."""
    path = tmp_path / "answers.db"
    with (
        AnswerLog(str(path)) as log,
        pytest.raises(UserError, match=r"answers\.db.*monitoring\.log"),
    ):
        log.window("ptbxl", "cnn")
    assert not path.exists()
    with AnswerLog(database) as log, pytest.raises(UserError, match=r"no answers.*monitoring\.log"):
        log.feedback()


def test_a_file_that_is_moved_away(tmp_path: Path) -> None:
    """What is written afterwards is in a new file, and not in one that nobody finds."""
    path = tmp_path / "answers.db"
    with AnswerLog(str(path)) as log:
        log.write(several(2))
        for file in tmp_path.glob("answers.db*"):
            file.rename(tmp_path / f"old-{file.name}")
        row = answer()
        log.write([row])
    with AnswerLog(str(path)) as log:
        assert log.window("ptbxl", "cnn").ids == [row.id]


def test_the_file_is_its_owners(tmp_path: Path) -> None:
    """Others on the machine cannot read what it says of patients."""
    with AnswerLog(str(tmp_path / "answers.db")) as log:
        log.write(several(1))
        modes = [stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()]
    assert len(modes) == 3 and set(modes) == {0o600}


@pytest.mark.parametrize(
    ("where", "cause"),
    [
        ("mysql://me@host/x", "mysql"),
        ("postgresql://me:hidden@host:none/x", "URL"),
        ("postgresql:/me:hidden@host/x", "URL"),
        (":memory:", "URL"),
        ("{file}", "no SQLite database"),
        ("{folder}", "monitoring.log"),
        ("{file}/answers.db", "monitoring.log"),
        ("postgresql://me:hidden@127.0.0.1:1/x", "cannot be reached"),
    ],
)
def test_places_that_are_none(where: str, cause: str, tmp_path: Path) -> None:
    """They are refused in a sentence that names the key, and no password."""
    file = tmp_path / "text.txt"
    file.write_text("no database" * 1000)
    with (
        pytest.raises(UserError, match=cause) as refused,
        AnswerLog(where.format(file=file, folder=tmp_path)) as log,
    ):
        log.write(several(1))
    assert "hidden" not in str(refused.value)


def test_a_database_that_refuses(database: str) -> None:
    """Its words are put into ours, without the password."""
    url = database.replace("postgresql://", "postgresql://nobody:hidden@").replace("postgres:@", "")
    with AnswerLog(url) as log, pytest.raises(UserError, match=VARIABLE) as refused:
        log.write(several(1))
    assert "hidden" not in str(refused.value)


def test_a_row_that_is_refused_is_not_printed(database: str) -> None:
    """The traceback of an error of ours is in the server's log, where nobody is to be found."""
    row = answer(entity="patient-7", model="m" * 100)
    with AnswerLog(database) as log, pytest.raises(DataError) as refused:
        log.write([row])
    assert "patient-7" not in str(refused.value) and row.id not in str(refused.value)


def test_what_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes before params.yaml, where a password does not belong, and turns the log off if empty."""
    settings = Monitoring(log="answers.db", keep_days=1, max_megabytes=1)
    assert settings.where == "answers.db"
    monkeypatch.setenv(VARIABLE, "postgresql://me:secret@host/x")
    assert settings.where == os.environ[VARIABLE]
    monkeypatch.setenv(VARIABLE, "")
    assert settings.where is None
