"""The stage evaluate: what it measures besides the model itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from beatline import bundle
from beatline.common import sums
from beatline.evaluation import predictions
from beatline.evaluation.estimates import Evaluate, measured
from beatline.preprocessing.arrays import Signals, SplitArrays
from stages import evaluate
from tests.bundle.bundles import HISTORY, LENGTH, made

RECORDS = 40
EVALUATE = Evaluate(resamples=100, confidence=0.95, max_fpr=0.1, seed=1)


def test_seeds(tmp_path: Path) -> None:
    """Every bundle inside a bundle is measured as the model itself is, in the order of the seeds."""
    rng = np.random.default_rng(0)
    signals = rng.standard_normal((RECORDS, LENGTH, 3)).astype(np.float32)
    names = [str(number) for number in range(RECORDS)]
    table = pd.DataFrame({"record": names, "group": names, "normal": 0})
    table[["NORM", "MI", "CD"]] = rng.integers(0, 2, (RECORDS, 3))
    test = SplitArrays(Signals(signals), table)
    for seed, place in {9: ".", 10: "seeds/10", 11: "seeds/11", 100: "seeds/100"}.items():
        network, description = made(training={"seed": seed})
        with torch.no_grad():
            for tensor in network.parameters():
                tensor += 0.1 * torch.randn(tensor.shape, generator=torch.manual_seed(seed))
        bundle.save(tmp_path / "saved", network, description, HISTORY)
        for file in (tmp_path / "saved").iterdir():
            (tmp_path / "model" / place).mkdir(parents=True, exist_ok=True)
            file.rename(tmp_path / "model" / place / file.name)
    sums.seal(tmp_path / "model")
    rows = evaluate.other_seeds(tmp_path / "model", test, EVALUATE)
    assert [row["seed"] for row in rows] == [10, 11, 100]
    assert len({row["auc"] for row in rows}) == 3
    for row in rows:
        model = bundle.load(tmp_path / f"model/seeds/{row['seed']}")
        overall = measured(evaluate.predict(model, test), EVALUATE)["overall"]
        assert row == {"seed": row["seed"]} | {
            name: estimate["value"] for name, estimate in overall.items()
        }
    assert evaluate.other_seeds(tmp_path / "model/seeds/10", test, EVALUATE) == []


def test_what_is_not_defined_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """A class without test records, and means that no resample has: each by its name, and nothing where
    all is defined."""
    rng = np.random.default_rng(0)
    classes = [f"class {number}" for number in range(12)]
    names = [str(number) for number in range(RECORDS)]
    table = pd.DataFrame({"record": names, "group": names, "normal": 0})
    table[classes] = np.eye(RECORDS, 12, dtype=int)  # a record of each
    table["class 7"] = 0
    _, description = made()
    description |= {"classes": classes, "thresholds": [0.5] * 12}
    values = rng.random((RECORDS, 12))
    for kept in (classes, classes[:1]):
        predicted = predictions.made(description, values, values > 0.5, table)
        numbers = [classes.index(name) for name in kept]
        evaluate.warn_of_undefined(measured(predicted.of_classes(numbers), EVALUATE))
        said = capsys.readouterr().out
        warnings = [line for line in said.splitlines() if line.startswith("warning: ")]
        if len(kept) > 1:
            assert "class 7:" in warnings[0] and "class 6" not in warnings[0]
            assert "auc" in warnings[1] and "accuracy" not in warnings[1]
        else:
            assert not warnings


def test_what_was_never_decided_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """By its name, with a cure; and nothing where each class was decided once."""
    rng = np.random.default_rng(0)
    _, description = made()
    classes = description["classes"]
    names = [str(number) for number in range(RECORDS)]
    table = pd.DataFrame({"record": names, "group": names, "normal": 0})
    table[classes] = rng.integers(0, 2, (RECORDS, len(classes)))
    decisions = np.eye(RECORDS, len(classes))
    for never in (None, 1):
        if never is not None:
            decisions[:, never] = 0
        values = rng.random(decisions.shape)
        evaluate.warn_of_undecided(predictions.made(description, values, decisions, table))
        said = capsys.readouterr().out
        assert ("precision" in said and "threshold" in said) == (never is not None)
        assert [name for name in classes if name in said] == ([] if never is None else [classes[1]])


@pytest.mark.parametrize(
    ("patients", "positives", "words"),
    [
        (9, 20, ("9 patients", "split")),
        (40, 4, ("MI", "5 patients")),
        (40, 36, ("MI",)),
        (40, 5, ()),
    ],
)
def test_few_patients_are_said(
    patients: int, positives: int, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """Too few for intervals at all, or of a class that a task of one class has, too; with a cure."""
    _, description = made()
    description |= {"task": "binary", "classes": ["MI"], "thresholds": [0.5]}
    number = np.arange(RECORDS)
    table = pd.DataFrame({"record": number.astype(str), "group": number % patients, "normal": 0})
    table["MI"] = (number < positives).astype(int)
    values = table[["MI"]].to_numpy(float)
    predicted = predictions.made(description, values, values > 0.5, table)
    evaluate.warn_of_few(predicted)
    evaluate.warn_of_undefined(measured(predicted, EVALUATE))  # which has nothing to add
    said = capsys.readouterr().out
    assert said.count("warning") <= 1
    assert bool(said) == bool(words) and all(word in said for word in words)
