"""A comparison for a terminal, a gate for CI, and what a model was made from."""

from __future__ import annotations

import math
from typing import Any, cast

import pytest

from beatline.comparing import words
from beatline.comparing.changes import Changes, changes
from beatline.comparing.comparison import (
    COMPARED,
    NEW,
    NOT_COMPARABLE,
    UNCHANGED,
    Comparison,
    ModelComparison,
)
from beatline.comparing.differences import Compare, Difference
from beatline.comparing.revisions import Revision
from beatline.lineage.lock import upstream

PARAMETERS = Compare(
    resamples=2000,
    confidence=0.95,
    seed=1,
    metrics=["auc", "average_precision", "brier"],
    tolerance={"auc": 0.01, "brier": 0.01},
)
NOTHING = Changes({}, [], [])


class Named:
    """All of a revision that words need."""

    def __init__(self, label: str) -> None:
        self.label = label


def comparison(*models: ModelComparison) -> Comparison:
    before, after = (cast(Revision, Named(label)) for label in ("main (0123456)", "workspace"))
    return Comparison(before, after, PARAMETERS, list(models))


def model(*found: Difference, **changed: Any) -> ModelComparison:
    fields = {"status": COMPARED, "changes": NOTHING, "simulated": False, **changed}
    return ModelComparison("ecg_features", "logistic_regression", **fields, differences=list(found))


def lost(metric: str = "auc", by: float = 0.05, p_value: float = 1e-6) -> Difference:
    sign = 1 if metric == "brier" else -1
    return Difference(metric, 0.9, 0.9 + sign * by, -0.0601, -0.0399, p_value)


def test_terminal_of_100_columns_is_enough() -> None:
    """Also for the longest names, long lists of code, and every verdict."""
    many = Changes(
        {"train.logistic_regression.ecg_features.optimizer.learning_rate": (0.0001, 0.0003)},
        [f"beatline/comparing/module_{number}.py" for number in range(9)],
        ["data/raw/ecg_features.zip"],
    )
    one = model(
        lost("average_precision"), lost(), lost("brier", p_value=0.4), changes=many, simulated=True
    )
    reason = (
        "other test records (of 1,000 before and 1,000 after, 9 are only before and 900 only after)"
    )
    text = words.text(comparison(one, model(status=NOT_COMPARABLE, reason=reason)))
    assert max(map(len, text.splitlines())) <= 100
    assert "worse in average_precision and auc" in text
    assert "(simulated data)" in text
    assert "0.0001 → 0.0003" in text


@pytest.mark.parametrize(
    ("found", "closed"),
    [
        (lost(), True),
        (lost("brier"), True),
        (lost(by=0.009), False),  # within the tolerance
        (lost(p_value=0.2), False),  # chance
        (Difference("auc", 0.8, 0.9, 0.08, 0.12, 1e-9), False),  # better
        (lost("average_precision"), False),  # not watched
        (Difference("auc", math.nan, 0.8, math.nan, math.nan, math.nan), False),
    ],
)
def test_gate_closes_for_worse_beyond_tolerance_and_chance(found: Difference, closed: bool) -> None:
    """For nothing else."""
    one = comparison(model(found))
    assert bool(one.failures) == closed
    assert ("The gate is **closed**" in words.gate(one)) == closed


def test_many_comparisons_need_more_evidence() -> None:
    """One of twenty at 0.04 is what chance brings: the gate stays open, and alone it closes."""
    weak = lost(p_value=0.04)
    assert comparison(model(weak)).failures
    others = [model(Difference("auc", 0.9, 0.9, -0.01, 0.01, 0.9)) for _ in range(19)]
    assert not comparison(model(weak), *others).failures


def test_gate_names_what_it_cannot_judge() -> None:
    """A model that is new or not comparable is in the table of a pull request, not silently left out."""
    text = words.gate(
        comparison(model(status=NEW), model(status=NOT_COMPARABLE, reason="other test records"))
    )
    assert "ecg_features logistic_regression: new" in text
    assert "not comparable: other test records" in text
    assert "**open**" in text


def test_unchanged_models_are_counted_only() -> None:
    """Fifteen models of which one changed are one section."""
    text = words.text(comparison(model(status=UNCHANGED), model(lost())))
    assert "2 models: 1 compared, 1 unchanged." in text
    assert text.count("ecg_features logistic_regression: compared") == 1


def stage(**entry: Any) -> dict[str, Any]:
    return {"deps": [], "outs": [], **entry}


def test_changes_are_what_dvc_lock_recorded_upstream() -> None:
    """Parameters by their whole key, code and raw data by path, of the stages that lead to a model and of
    no others."""
    lock = {
        "download": stage(outs=[{"path": "data/raw/a.zip", "md5": "1"}]),
        "train": stage(
            deps=[{"path": "data/raw/a.zip", "md5": "1"}, {"path": "beatline/x.py", "md5": "1"}],
            params={"params.yaml": {"train.cnn.a": {"seed": 1, "optimizer": {"name": "sgd"}}}},
            outs=[{"path": "data/models/a", "md5": "1"}],
        ),
        "other": stage(outs=[{"path": "data/models/b", "md5": "1"}]),
    }
    assert set(upstream(lock, "train")) == {"train", "download"}
    changed = {
        "download": stage(outs=[{"path": "data/raw/a.zip", "md5": "2"}]),
        "train": stage(
            deps=[{"path": "data/raw/a.zip", "md5": "2"}, {"path": "beatline/y.py", "md5": "1"}],
            params={"params.yaml": {"train.cnn.a": {"seed": 2, "optimizer": {"name": "sgd"}}}},
        ),
    }
    found = changes(upstream(lock, "train"), upstream(changed, "train"))
    assert found.parameters == {"train.cnn.a.seed": (1, 2)}
    assert found.code == ["beatline/x.py", "beatline/y.py"]
    assert found.data == ["data/raw/a.zip"]
    assert not changes(upstream(lock, "train"), upstream(lock, "train"))
