"""Time the comparison of two models, all metrics and resamples, against a loop over scikit-learn.

Run with `python -m benchmarks.compare` (about half a minute, nearly all of it the loop). Two models on
2,200 test records of five classes, 2,000 resamples of patients; the loop does as many of the resamples
as it can in `PATIENCE` seconds, and its time for all is reckoned from them. AUCs must agree to 1e-9.
"""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    f1_score,
    roc_auc_score,
)

from beatline.comparing.differences import Compare, paired
from beatline.evaluation import bootstrap
from beatline.evaluation.predictions import Predictions
from beatline.prediction import tasks

RECORDS, CLASSES, RESAMPLES = 2200, 5, 2000
LIMIT = 5.0  # seconds
PATIENCE = 20.0
TOLERANCE = 1e-9
PARAMETERS = Compare(
    resamples=RESAMPLES,
    confidence=0.95,
    seed=1,
    metrics=["auc", "average_precision", "f1", "accuracy", "brier"],
    tolerance={"auc": 0.0},
)


def two_models() -> list[Predictions]:
    """Made-up answers of two models on the same records, two of each patient."""
    draw = np.random.default_rng(0)
    labels = draw.random((RECORDS, CLASSES)) < 0.25
    common = draw.normal(size=labels.shape)
    found = []
    for strength in (1.5, 1.6):
        scores = 0.8 * common + 0.6 * draw.normal(size=labels.shape) + strength * labels - 1
        columns = {
            "record": np.arange(RECORDS).astype(str),
            "group": (np.arange(RECORDS) // 2).astype(str),
        }
        for k in range(CLASSES):
            columns |= {
                f"c{k}": labels[:, k].astype(int),
                f"c{k} predicted": 1 / (1 + np.exp(-scores[:, k])),
                f"c{k} decided": (scores[:, k] > 0).astype(int),
            }
        names = [f"c{k}" for k in range(CLASSES)]
        table = pd.DataFrame(columns).sort_values("record", ignore_index=True)
        found.append(Predictions(tasks.TASKS["multilabel"], names, [], None, table))
    return found


def by_loop(models: list[Predictions], weights: np.ndarray) -> tuple[list[float], int, float]:
    """Differences of the macro AUC in the first resamples, how many they were, and the seconds."""
    began, found = time.perf_counter(), []
    for row in weights:
        aucs = []
        for model in models:
            values = []
            for name in model.classes:
                label, score = model.table[name], model.table[f"{name} predicted"]
                decided = model.table[f"{name} decided"]
                values.append(roc_auc_score(label, score, sample_weight=row))
                average_precision_score(label, score, sample_weight=row)
                f1_score(label, decided, sample_weight=row)
                accuracy_score(label, decided, sample_weight=row)
                brier_score_loss(label, score, sample_weight=row)
            aucs.append(np.mean(values))
        found.append(float(aucs[1] - aucs[0]))
        if time.perf_counter() - began > PATIENCE:
            break
    return found, len(found), time.perf_counter() - began


def main() -> None:
    """Print both times; fail if ours is above the limit or the values differ."""
    models = two_models()
    began = time.perf_counter()
    paired(models[0], models[1], PARAMETERS, 0.1)
    ours = time.perf_counter() - began

    weights = bootstrap.once_and_resampled(models[0].table["group"], RESAMPLES, PARAMETERS.seed)
    differences, done, seconds = by_loop(models, weights[1:])
    loop = seconds / done * RESAMPLES
    aucs = [bootstrap.measure(model, weights[: done + 1], 0.1).overall["auc"] for model in models]
    gap = float(np.abs(aucs[1][1:] - aucs[0][1:] - differences).max())

    print("| records | classes | resamples | ours (s) | loop (s, reckoned) | ratio | difference |")
    print("|--------:|--------:|----------:|---------:|-------------------:|------:|-----------:|")
    print(
        f"| {RECORDS} | {CLASSES} | {RESAMPLES} | {ours:.2f} | {loop:.0f} | {loop / ours:.0f} "
        f"| {gap:.1e} |"
    )
    if not gap <= TOLERANCE:
        raise SystemExit(f"values differ by {gap}, more than {TOLERANCE}")
    if ours > LIMIT:
        raise SystemExit(f"{ours:.1f} s, more than {LIMIT:g}")


if __name__ == "__main__":
    main()
