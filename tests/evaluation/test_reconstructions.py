"""Reconstructions that the report draws: the records that it will ask for, and the same bytes twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from beatline import drawings
from beatline.common import sums
from beatline.common.errors import UserError
from beatline.evaluation import mistakes, reconstructions
from beatline.evaluation.predictions import Predictions
from beatline.prediction import tasks
from beatline.reporting.settings import Report

RECORDS = 200


@pytest.fixture
def predicted() -> Predictions:
    """A detector that is wrong about half of two machines' records."""
    rng = np.random.default_rng(0)
    scores = rng.exponential(size=RECORDS)
    table = pd.DataFrame(
        {
            "record": [f"r{number}" for number in range(RECORDS)],
            "group": range(RECORDS),
            "machine_id": ["01", "00"] * (RECORDS // 2),
            "anomaly": rng.integers(0, 2, RECORDS),
            "anomaly predicted": scores,
            "anomaly decided": (scores >= 1).astype(int),
        }
    )
    return Predictions(tasks.TASKS["reconstruction"], ["anomaly"], [1.0], "machine_id", table)


SIGNALS = np.random.default_rng(1).normal(size=(RECORDS, 5, 2)).astype(np.float32)


def doubled(signals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return 2 * signals, signals**2


def test_what_the_report_may_ask_for_is_there(predicted: Predictions, tmp_path: Path) -> None:
    """The most mistakes that it may draw, of any drawing, and the records in the middle."""
    reconstructions.write(tmp_path, predicted, SIGNALS, doubled)
    sums.seal(tmp_path)
    limit = next(
        item.le for item in Report.model_fields["mistakes"].metadata if hasattr(item, "le")
    )
    most = max(limit * drawing.across[1] // 2 for drawing in drawings.DRAWINGS.values())
    worst = [mistake.row for mistake in mistakes.most_confident(predicted, most)]
    assert len(worst) == most
    rows = [*reconstructions.in_the_middle(predicted), *worst]
    copies, errors = reconstructions.read(tmp_path, [f"r{row}" for row in rows])
    np.testing.assert_array_equal(copies, 2 * SIGNALS[rows])
    np.testing.assert_array_equal(errors, SIGNALS[rows] ** 2)


def test_the_middle_is_of_one_machine(predicted: Predictions) -> None:
    """The middle is the first machine's by name: its median normal record and median anomaly, the lower
    one of two."""
    first = predicted.table[predicted.table["machine_id"] == "00"]
    for label, row in enumerate(reconstructions.in_the_middle(predicted)):
        scores = first.loc[first["anomaly"] == label, "anomaly predicted"]
        assert predicted.scores[row, 0] == np.quantile(scores, 0.5, method="lower")
        assert row in first.index


def test_the_same_bytes_twice(predicted: Predictions, tmp_path: Path) -> None:
    for name in ("a", "b"):
        reconstructions.write(tmp_path / name, predicted, SIGNALS, doubled)
    for name in (reconstructions.VALUES, reconstructions.RECORDS):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_what_is_missing_is_named(predicted: Predictions, tmp_path: Path) -> None:
    """No file, half a file, or none of that record."""
    with pytest.raises(UserError, match=r"reconstructions\.csv is missing: run `dvc repro`"):
        reconstructions.read(tmp_path, ["r1"])
    reconstructions.write(tmp_path, predicted, SIGNALS, doubled)
    sums.seal(tmp_path)
    with pytest.raises(UserError, match=r"reconstructions\.npy .*beatline repair"):
        reconstructions.read(tmp_path, ["somebody else"])
    path = tmp_path / reconstructions.VALUES
    path.write_bytes(path.read_bytes()[:-9])
    record = predicted.table["record"].iloc[mistakes.most_confident(predicted, 1)[0].row]
    with pytest.raises(UserError, match=r"reconstructions\.npy .*beatline repair"):
        reconstructions.read(tmp_path, [record])
