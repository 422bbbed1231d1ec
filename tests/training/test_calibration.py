"""Temperatures fitted on validation records."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax
from sklearn.linear_model import LogisticRegression
from torch import nn

from beatline.models import Examples
from beatline.prediction import inference
from beatline.prediction.device_data import Recordings
from beatline.prediction.tasks import TASKS
from beatline.prediction.windows import Windows, aggregated
from beatline.preprocessing.arrays import Signals
from beatline.training import calibration

RECORDS, CLASSES = 4000, ["a", "b", "c"]
TRUE = np.array([0.5, 1.0, 3.0])
CPU = torch.device("cpu")


class Passing(nn.Module):
    """Takes the logits of a window from its first sample."""

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        return windows[:, 0]


def examples(logits: np.ndarray, targets: np.ndarray) -> Examples:
    """Recordings whose windows of one sample have these logits `[N, W, K]`."""
    signals = Signals(logits.astype(np.float32))
    return Examples(Recordings(signals, np.arange(len(signals)), CPU), targets.astype(np.int8))


def logits_of(windows: int = 1) -> np.ndarray:
    return 2 * np.random.default_rng(0).standard_normal((RECORDS, windows, 3))


def test_each_class_gets_its_own() -> None:
    """Labels drawn from probabilities of other temperatures: those are found, and they are what a
    logistic regression on the logit alone finds too."""
    logits = logits_of()
    drawn = np.random.default_rng(1).random((RECORDS, 3)) < expit(logits[:, 0] / TRUE)
    windows = Windows(length=1, stride=1)
    task = TASKS["multilabel"]
    found = calibration.fit(Passing(), task, examples(logits, drawn), windows, CLASSES)
    assert found == pytest.approx(TRUE, rel=0.15)
    for k in range(3):
        regression = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-8)
        regression.fit(logits[:, 0, [k]], drawn[:, k])
        assert found[k] == pytest.approx(1 / regression.coef_[0, 0], rel=0.02)


@pytest.mark.parametrize(("records", "classes", "scale"), [(56, 5, 3.0), (750, 10, 6.0)])
def test_what_is_calibrated_stays_as_it_is(records: int, classes: int, scale: float) -> None:
    """Labels drawn from the probabilities themselves, of few records of several classes: on average the
    temperature is 1, and nothing draws it towards unsureness."""
    generator, task, windows = np.random.default_rng(2), TASKS["multiclass"], Windows(length=1)
    names, found = [str(number) for number in range(classes)], []
    for _ in range(40):
        logits = scale * generator.standard_normal((records, 1, classes))
        shares = softmax(logits[:, 0], axis=1).cumsum(axis=1)
        labels = (generator.random((records, 1)) > shares[:, :-1]).sum(axis=1)
        known = examples(logits, np.eye(classes)[labels])
        found.append(calibration.fit(Passing(), task, known, windows, names))
    assert np.mean(found) == pytest.approx(1, abs=0.05)


def test_exclusive_classes_share_one() -> None:
    logits = logits_of()
    shares = softmax(logits[:, 0] / 2.5, axis=1).cumsum(axis=1)
    labels = (np.random.default_rng(1).random((RECORDS, 1)) > shares).sum(axis=1)
    drawn = np.eye(3)[labels]
    task = TASKS["multiclass"]
    found = calibration.fit(
        Passing(), task, examples(logits, drawn), Windows(length=1, stride=1), CLASSES
    )
    assert found == pytest.approx([2.5], rel=0.1)


@pytest.mark.parametrize("aggregate", ["mean", "max"])
def test_it_is_fitted_to_what_a_user_sees(aggregate: Literal["mean", "max"]) -> None:
    """The likelihood of the aggregated prediction of several windows: no other temperature near has a
    better one."""
    logits = logits_of(windows=4)
    task, windows = TASKS["multilabel"], Windows(length=1, stride=1, aggregate=aggregate)
    chances = aggregated(expit(logits / TRUE), windows)
    drawn = np.random.default_rng(1).random((RECORDS, 3)) < chances
    known = examples(logits, drawn)
    found = calibration.fit(Passing(), task, known, windows, CLASSES)

    class Scaled(Passing):
        def __init__(self, temperature: np.ndarray) -> None:
            super().__init__()
            self.temperature = torch.from_numpy(temperature).float()

        def forward(self, windows: torch.Tensor) -> torch.Tensor:
            return super().forward(windows) / self.temperature

    def loss(factor: float) -> float:
        predicted = inference.predict(Scaled(found * factor), task, known.recordings, windows)
        return task.prediction_loss(predicted, known.targets)

    assert loss(1.0) < min(loss(0.97), loss(1.03))


def test_too_few_records_are_said_and_change_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    logits = logits_of()
    drawn = np.random.default_rng(1).random((RECORDS, 3)) < expit(logits[:, 0] / TRUE)
    drawn[:, 1] = False
    drawn[:4, 1] = True
    found = calibration.fit(
        Passing(),
        TASKS["multilabel"],
        examples(logits, drawn),
        Windows(length=1, stride=1),
        CLASSES,
    )
    said = capsys.readouterr()
    assert found[1] == 1 and found[2] > 2
    assert "calibrate b" in said.out + said.err


@pytest.mark.parametrize("records", [24, 400])
def test_perfect_answers_do_not_become_certain(records: int) -> None:
    """Where no validation record is answered wrongly, the likelihood asks for certainty. A record that is
    answered as most are is not certain, and few become equal in float32."""
    logits = logits_of()[:records]
    known = examples(logits, logits[:, 0] > 0)
    task, windows = TASKS["multilabel"], Windows(length=1, stride=1)
    found = calibration.fit(Passing(), task, known, windows, CLASSES)
    middle = np.median(np.abs(logits[:, 0]), axis=0) / found
    assert (expit(-middle) > 1e-8).all() and (expit(-middle) < 0.1).all()
    cooled = expit((logits[:, 0] / found).astype(np.float32))
    assert min(len(np.unique(column)) for column in cooled.T) > 0.65 * records
