"""Time the bootstrap of the AUC against a loop over scikit-learn, with the same resamples.

Run with `python -m benchmarks.bootstrap` (about a minute, nearly all of it the loop). Both are
timed on all resamples and must agree to 1e-9.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from sklearn.metrics import roc_auc_score

from beatline import metrics
from beatline.evaluation.bootstrap import group_weights, resampled

CASES = (  # records, classes, resamples, models
    (500, 1, 1000, 1),
    (2200, 5, 1000, 1),
    (2200, 5, 2000, 2),
)
TOLERANCE = 1e-9


def simulated(records: int, classes: int, models: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Labels [N, K] and the scores [N, K] of each model, in thousandths, so that some are tied."""
    rng = np.random.default_rng(0)
    labels = rng.random((records, classes)) < 0.25
    return labels, [np.round(rng.normal(size=labels.shape) + labels, 3) for _ in range(models)]


def by_loop(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AUC [R, K] by calling scikit-learn for every resample and class."""
    columns = range(labels.shape[1])
    return np.array(
        [
            [roc_auc_score(labels[:, k], scores[:, k], sample_weight=w) for k in columns]
            for w in weights
        ]
    )


def timed(measure: Callable[[], list[np.ndarray]]) -> tuple[float, list[np.ndarray]]:
    """Seconds of wall time, and what `measure` gives."""
    start = time.perf_counter()
    values = measure()
    return time.perf_counter() - start, values


def compare(records: int, classes: int, resamples: int, models: int) -> tuple[float, float, float]:
    """Seconds of ours, seconds of the loop, and the largest difference between their values."""
    labels, scores = simulated(records, classes, models)
    start = time.perf_counter()
    weights = group_weights(np.arange(records) // 2, resamples)
    drawing = time.perf_counter() - start
    ours, fast = timed(
        lambda: [resampled(metrics.roc_auc, labels, model, weights=weights) for model in scores]
    )
    loop, slow = timed(lambda: [by_loop(labels, model, weights) for model in scores])
    return drawing + ours, loop, float(np.abs(np.subtract(fast, slow)).max())


def main() -> None:
    """Print one line per case; fail if values differ."""
    print("| records | classes | resamples | models | ours (s) | loop (s) | ratio | difference |")
    print("|--------:|--------:|----------:|-------:|---------:|---------:|------:|-----------:|")
    for case in CASES:
        ours, loop, gap = compare(*case)
        sizes = " | ".join(str(size) for size in case)
        print(f"| {sizes} | {ours:.2f} | {loop:.1f} | {loop / ours:.0f} | {gap:.1e} |", flush=True)
        if not gap <= TOLERANCE:
            raise SystemExit(f"values differ by {gap}, more than {TOLERANCE}")


if __name__ == "__main__":
    main()
