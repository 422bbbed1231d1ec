"""A comparison for a terminal, a gate for CI, and what a model was made from."""

from __future__ import annotations

import importlib.util
import math
from typing import Any, cast

import pytest

from beatline.comparing import page, words
from beatline.comparing.changes import Changes, changes
from beatline.comparing.comparison import (
    CANNOT_TELL,
    COMPARED,
    FAILED,
    NEW,
    NOT_COMPARABLE,
    PASSED,
    REMOVED,
    UNCHANGED,
    Comparison,
    ModelComparison,
)
from beatline.comparing.differences import Compare, Difference, Error
from beatline.comparing.revisions import Revision
from beatline.comparing.words import COLUMNS
from beatline.lineage.lock import upstream
from tests.paths import ROOT

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


def lost(
    metric: str = "auc", by: float = 0.05, error: float = 0.005, between: float = 0.0
) -> Difference:
    """A loss with its standard error by test records, and by seeds."""
    sign = 1 if metric == "brier" else -1
    seeds = (Error(between**2, 20),) if between else ()
    return Difference(metric, 0.9, 0.9 + sign * by, Error(error**2, 200), seeds)


def test_terminal_of_100_columns_is_enough() -> None:
    """Also for the longest names, long lists of code, and every verdict."""
    many = Changes(
        {"train.logistic_regression.ecg_features.optimizer.learning_rate": (0.0001, 0.0003)},
        [f"beatline/comparing/module_{number}.py" for number in range(9)],
        ["data/raw/ecg_features.zip"],
    )
    one = model(
        lost("average_precision"), lost(), lost("brier", error=0.1), changes=many, simulated=True
    )
    reason = (
        "other test records (of 1,000 before and 1,000 after, 9 are only before and 900 only after)"
    )
    text = words.text(comparison(one, model(status=NOT_COMPARABLE, reason=reason)))
    assert max(map(len, text.splitlines())) <= 100
    assert "worse in average_precision and auc" in text
    assert "(simulated data)" in text
    assert "0.0001 → 0.0003" in text


def test_first_line_is_the_outcome_and_the_number_that_decided() -> None:
    """On a terminal, in the comment, on the page and in what the gate prints; one verdict in all of them,
    and first in its table."""
    one = comparison(model(lost(by=0.02, error=0.01)), model(lost("brier", by=0.05, error=0.005)))
    [row, *_] = one.watched
    assert (row.difference.metric, row.outcome) == ("brier", FAILED)
    markdown = page.compose(one, "").markdown
    for shown in (words.text(one), words.gate(one), markdown):
        first = shown.partition("\n\n")[0].replace("\\", "").replace("\n", " ")
        assert "Failed" in first
        assert words.interval(0.05, row.low, row.high) in first
    title, header = markdown.split("\n\n")[:2]
    assert title.startswith("# Failed")
    assert header.startswith("| outcome |")
    assert header.splitlines()[2].startswith("| failed |")
    assert COLUMNS[0] == "verdict"


def test_comment_keeps_the_outcome_readable() -> None:
    """What makes a comment harmless leaves the first line as it was, for whoever reads it."""
    spec = importlib.util.spec_from_file_location("comment", ROOT / ".ci/comment.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    markdown = page.compose(comparison(model(lost())), "").markdown
    posted = module.comment(markdown, "https://example.invalid/").replace(module.BREAK, "")
    assert posted == f"{module.MARK}\n{markdown}".rstrip("\n")


@pytest.mark.parametrize(
    ("found", "changed", "cure"),
    [
        (lost(by=0.02, error=0.02), {}, "More test records"),
        (lost(by=0.02, error=0.01, between=0.02), {"seeds": (3, 3)}, "More seeds (train."),
        (lost(by=0.02, error=0.02), {"reason": "no predictions"}, "predictions of both"),
        (
            lost(by=0.02, error=0.02),
            {"reason": "other", "same_records": False},
            "same test records",
        ),
    ],
)
def test_gate_says_what_it_could_show_and_what_would_help(
    found: Difference, changed: dict[str, Any], cure: str
) -> None:
    """Where nothing can be told, a person learns how large a loss would have been seen, and whether
    records, seeds or predictions make the interval so wide."""
    one = comparison(model(found, **changed))
    assert one.outcome == CANNOT_TELL
    said = words.gate(one)
    assert cure in said
    assert words.value(one.watched[0].could_show) in said
    assert f"{changed.get('seeds', (0, 0))[0]} seeds" in said or "seeds" not in changed


def test_what_never_differs_could_show_what_its_records_leave_open() -> None:
    """Of 20 patients without a mistake of either model, the rule of three leaves 14 % open; the sentence
    names it, and no dash."""
    one = comparison(model(Difference("auc", 1.0, 1.0, Error(0.0, 19))))
    assert one.outcome == CANNOT_TELL
    assert one.watched[0].could_show == pytest.approx(-math.log(0.05) / 20, rel=0.01)
    said = words.gate(one)
    assert words.value(one.watched[0].could_show) in said and "loss of –" not in said  # noqa: RUF001


def test_gate_names_what_it_cannot_judge() -> None:
    """A model that is gone or not comparable stands in the table of a pull request, and is not passed; a
    new one has nothing to be worse than."""
    reason = "simulated → real: not the same records"
    one = comparison(model(status=NEW), model(status=NOT_COMPARABLE, reason=reason))
    assert one.outcome == CANNOT_TELL
    said = words.gate(one)
    assert reason in said.partition("\n")[0]
    assert "ecg_features logistic_regression: new" in said
    assert comparison(model(status=NEW)).outcome == PASSED
    assert comparison(model(status=REMOVED)).outcome == CANNOT_TELL


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
