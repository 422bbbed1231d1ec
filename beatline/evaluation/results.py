"""The outputs of a model's training and evaluation, read for the report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from beatline.common.files import read_csv, read_json
from beatline.common.sums import read_sealed_json, verified
from beatline.evaluation import predictions
from beatline.evaluation.predictions import Predictions


@dataclass(frozen=True)
class Evaluated(Predictions):
    """A trained model with its predictions on the N test records.

    `description`: model.json. `history`: a row per epoch. `estimates`: metrics with intervals.
    `durations`: `train_seconds` and `predict_milliseconds`.
    """

    model: str
    description: dict[str, Any]
    history: pd.DataFrame
    estimates: dict[str, Any]
    durations: dict[str, float]


def load(model: str, trained: Path, predicted: Path, durations: Path) -> Evaluated:
    """Read the outputs of `train` in the folder `trained`, of `evaluate` in `predicted`, and of both in
    `durations`.

    Raises UserError that names the file if one is missing.
    """
    model_info = read_json(verified(trained / "model.json"))
    return Evaluated(
        **vars(predictions.read(predicted, model_info)),
        model=model,
        description=model_info,
        history=read_csv(verified(trained / "history.csv"), ("epoch",)),
        estimates=read_json(verified(predicted / "estimates.json")),
        durations=read_sealed_json(durations / "train.json")
        | read_sealed_json(durations / "predict.json"),
    )
