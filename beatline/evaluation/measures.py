"""What is to be known of each metric where it is shown or judged.

:mod:`beatline.metrics` computes them and :mod:`beatline.evaluation.bootstrap` gives them for every
resample. A metric needs an entry here to be judged and to be in the report.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Measure:
    """`words`: in reports. `share_of`: the cases (patients) whose number tells how sure the metric is if
    it is the same in every resample: `rarer`, those with a class or those without, whichever are fewer;
    `positives`, those with it; `decided`, those decided to have it; `groups`, all of them, where every
    record adds alike."""

    words: str
    share_of: Literal["rarer", "positives", "decided", "groups"] = "rarer"
    lower_is_better: bool = False


MEASURES = {
    "accuracy": Measure("accuracy", "groups"),
    "auc": Measure("AUC"),
    "pauc": Measure("pAUC"),
    "harmonic_mean": Measure("harmonic mean of AUC and pAUC"),
    "average_precision": Measure("average precision"),
    "precision": Measure("precision", "decided"),
    "recall": Measure("recall", "positives"),
    "f1": Measure("F1", "positives"),
    "brier": Measure("Brier score", "groups", lower_is_better=True),
    "calibration_error": Measure("calibration error", "groups", lower_is_better=True),
}
LOWER_IS_BETTER = tuple(name for name, measure in MEASURES.items() if measure.lower_is_better)
