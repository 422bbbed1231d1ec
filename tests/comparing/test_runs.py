"""Several runs on each side: what may be put together."""

from __future__ import annotations

from typing import Any, ClassVar, cast

import numpy as np
import pytest
from dvc.repo import Repo
from sklearn.metrics import roc_auc_score

from beatline.common.errors import UserError
from beatline.comparing import runs
from beatline.comparing.differences import Compare
from beatline.evaluation.predictions import Predictions
from tests.comparing.test_differences import answered

PARAMETERS = Compare(
    resamples=100, confidence=0.95, seed=1, metrics=["auc"], tolerance={"auc": 0.005}
)


class Run:
    """A revision of one model; those whose names begin with `real` are of real recordings, and each is
    tested on records of its own."""

    def __init__(self, _: Repo, name: str) -> None:
        self.commit = self.name = self.label = name
        self.trained = [("ptbxl", "cnn")]

    def metrics(self, *_: str) -> dict[str, Any]:
        row = {"metric": "auc", "value": int(self.name[-1]) / 10}
        return {
            "simulated": not self.name.startswith("real"),
            "metrics": [row],
            "about": [{"test_records": self.name}],
        }

    def made(self, *_: str) -> dict[str, Any]:
        return {}


class Seed(Run):
    """One of several seeds of a recipe, whose name begins with that, on the same test records."""

    kept = True
    params: ClassVar = {"evaluate": {"max_fpr": 0.1}}
    common: ClassVar[dict[str, Predictions]] = {}

    def metrics(self, *_: str) -> dict[str, Any]:
        auc = roc_auc_score(self.common[self.name].targets, self.common[self.name].scores)
        row = {"metric": "auc", "value": auc}
        return {"simulated": True, "metrics": [row], "about": [{"test_records": "the same"}]}

    def predictions(self, *_: str) -> Predictions | None:
        return self.common[self.name] if self.kept else None


def recipes(study: int) -> dict[str, Predictions]:
    """The predictions of three seeds of two recipes, each as good as the other, of which each finds some
    records hard in every seed."""
    generator = np.random.default_rng(study)
    labels = (generator.random(200) < 0.3).astype(int)
    common = 1.6 * labels + 0.7 * generator.normal(size=200)
    made = {}
    for recipe in "ab":
        own = common + 0.5 * generator.normal(size=200)
        for seed in range(3):
            scores = own + 0.2 * generator.normal(size=200)
            made[f"{recipe}{seed}"] = answered(labels[:, None], scores[:, None] - 1)
    return made


def test_seeds_on_the_same_records_are_told_apart_no_more_often_than_promised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of 40 pairs of recipes that are equally good, with three seeds each, about 5 % are told to differ,
    and it is half of them by the spread between seeds alone."""
    monkeypatch.setattr(runs, "Revision", Seed)
    told, text = 0, ""
    for study in range(40):
        Seed.common = recipes(study)
        text = runs.compare_runs(
            cast(Repo, None), ["a0", "a1", "a2"], ["b0", "b1", "b2"], PARAMETERS
        )
        told += "no evidence" not in text
    assert told <= 5
    assert "the same test records" in text


def test_what_is_true_of_these_test_records_only_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the predictions of runs on the same records are not at hand; not of runs on other records."""
    monkeypatch.setattr(runs, "Revision", Seed)
    monkeypatch.setattr(Seed, "kept", False)
    Seed.common = recipes(0)
    text = runs.compare_runs(cast(Repo, None), ["a0", "a1"], ["b0", "b1"], PARAMETERS)
    assert "these test records only" in text.replace("\n", " ") and "a0, a1, b0 and b1" in text
    monkeypatch.setattr(runs, "Revision", Run)
    text = runs.compare_runs(cast(Repo, None), ["a1", "a2"], ["b3", "b4"], PARAMETERS)
    assert "only" not in text


def test_simulated_and_real_runs_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither across the sides nor within one; runs of the same kind are."""
    monkeypatch.setattr(runs, "Revision", Run)
    nowhere = cast(Repo, None)
    for before, after in ((["a1", "a2"], ["real3", "real4"]), (["a1", "real2"], ["a3", "a4"])):
        with pytest.raises(UserError, match="ptbxl/cnn"):
            runs.compare_runs(nowhere, before, after, PARAMETERS)
    assert "0.350" in runs.compare_runs(nowhere, ["real1", "real2"], ["real3", "real4"], PARAMETERS)
