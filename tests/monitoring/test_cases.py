"""What experts have said is learned from where it fits the data set, each recording in one split."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beatline.monitoring import cases
from beatline.monitoring.answers import AnswerLog, KeptRecording
from beatline.preprocessing.splitting import SPLITS
from tests.monitoring.logs import BEGINNING, answer, several

ECG: dict[str, Any] = {
    "classes": ["MI", "CD"],
    "task": "multilabel",
    "length": 20,
    "channels": ["I", "II"],
    "sampling_rate": 100,
    "unit": "mV",
    "drawing": "twelve_leads",
    "sections": None,
}
TABLE = ECG | {"length": 1, "sampling_rate": None, "unit": "each its own", "drawing": "features"}
BLOCK = {"split": {"train": 0.7, "validation": 0.15, "test": 0.15}}


@pytest.fixture
def log(tmp_path: Path) -> AnswerLog:
    return AnswerLog(str(tmp_path / "answers.db"))


def recording(name: str, seed: int = 0) -> KeptRecording:
    samples = np.random.default_rng(seed).standard_normal((20, 2)).astype(np.float32)
    return KeptRecording(name, samples, ["I", "II"], 100.0, "mV")


@pytest.mark.parametrize(
    "other",
    [
        {"unit": "uV"},
        {"sampling_rate": 200.0},
        {"channels": ["II", "I"]},
        {"samples": np.zeros((19, 2), np.float32)},
    ],
)
def test_what_was_recorded_otherwise_is_left_out(log: AnswerLog, other: dict[str, Any]) -> None:
    """Its numbers are not those of the data set: of a model that was trained when that was another."""
    usual, different = several(2)
    log.write(
        [usual, different], [recording(usual.id), replace(recording(different.id, 1), **other)]
    )
    log.say({row.id: ["MI"] for row in (usual, different)}, BEGINNING)
    chosen = cases.chosen(log, "ptbxl", ECG, set())
    assert [each.answer.id for each in chosen.feedback] == [usual.id]
    assert sum(chosen.left_out.values()) == 1


def test_a_recording_is_in_one_split_whenever_it_is_sent(log: AnswerLog) -> None:
    """Of a recording of nobody's that is sent again after it was learned from, the model is not tested by
    it: snapshots would share it."""
    rows = several(60)
    kept = [recording(row.id, seed=number % 20) for number, row in enumerate(rows)]
    log.write(rows, kept)
    log.say({row.id: ["MI"] for row in rows}, BEGINNING)
    folds: dict[bytes, set[str]] = {}
    for begin in (0, 20, 40):
        known = {row.id for row in [*rows[:begin], *rows[begin + 20 :]]}
        chosen = cases.chosen(log, "ptbxl", ECG, known)
        for case in cases.cases(log, chosen.feedback, ECG, BLOCK):
            folds.setdefault(case.samples.tobytes(), set()).add(case.fold)
    assert len(folds) == 20 and all(len(each) == 1 for each in folds.values())
    assert set.union(*folds.values()) == set(SPLITS)


def test_rows_are_learned_from_as_they_are_logged(log: AnswerLog) -> None:
    """No recording of a row is kept, and none need be: a row with other columns is left out."""
    row = answer(0, features={"II": 2.0, "I": None})
    other = answer(1, features={"I": 1.0, "III": 2.0})
    log.write([row, other])
    log.say({row.id: ["MI"], other.id: ["MI"]}, BEGINNING)
    chosen = cases.chosen(log, "ptbxl", TABLE, set())
    [case] = cases.cases(log, chosen.feedback, TABLE, BLOCK)
    np.testing.assert_array_equal(case.samples, np.array([[np.nan, 2]], np.float32))
    assert case.answer == row.id and sum(chosen.left_out.values()) == 1


def test_what_the_data_set_has_is_not_taken_again(log: AnswerLog) -> None:
    """A test record that somebody has sent, such as an example of the page, is not learned from."""
    own, new = several(2)
    log.write([own, new], [recording(own.id), recording(new.id, 1)])
    log.say({row.id: ["MI"] for row in (own, new)}, BEGINNING)
    padded = np.vstack([recording("").samples, np.full((5, 2), np.nan)])
    chosen = cases.chosen(log, "ptbxl", ECG, set(), {cases.content(padded)})
    assert [each.answer.id for each in chosen.feedback] == [new.id]
    assert sum(chosen.left_out.values()) == 1
