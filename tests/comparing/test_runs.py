"""Several runs on each side: what may be put together."""

from __future__ import annotations

from typing import Any, cast

import pytest
from dvc.repo import Repo

from beatline.common.errors import UserError
from beatline.comparing import runs
from beatline.comparing.differences import Compare

PARAMETERS = Compare(
    resamples=100, confidence=0.95, seed=1, metrics=["auc"], tolerance={"auc": 0.005}
)


class Run:
    """A revision of one model; those whose names begin with `real` are of real recordings."""

    def __init__(self, _: Repo, name: str) -> None:
        self.commit = self.name = name
        self.trained = [("ptbxl", "cnn")]

    def metrics(self, *_: str) -> dict[str, Any]:
        row = {"metric": "auc", "value": int(self.name[-1]) / 10}
        return {"simulated": not self.name.startswith("real"), "metrics": [row]}


def test_simulated_and_real_runs_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither across the sides nor within one; runs of the same kind are."""
    monkeypatch.setattr(runs, "Revision", Run)
    nowhere = cast(Repo, None)
    for before, after in ((["a1", "a2"], ["real3", "real4"]), (["a1", "real2"], ["a3", "a4"])):
        with pytest.raises(UserError, match="ptbxl/cnn"):
            runs.compare_runs(nowhere, before, after, PARAMETERS)
    assert "0.350" in runs.compare_runs(nowhere, ["real1", "real2"], ["real3", "real4"], PARAMETERS)
