"""An autoencoder's reconstructions of the test records that the report draws, and their errors.

They are kept beside the predictions, so that nobody needs the network to draw them: in
reconstructions.csv the n records, a row each, and in reconstructions.npy `[2, n, T, C]` float32, the
normalized reconstructions and their squared errors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from beatline.common.errors import UserError
from beatline.common.files import read_csv, replacing, write_csv
from beatline.common.sums import verified
from beatline.evaluation import mistakes
from beatline.evaluation.predictions import Predictions
from beatline.preprocessing.arrays import Signals

VALUES, RECORDS = "reconstructions.npy", "reconstructions.csv"
MOST = 30  # of the mistakes: as many as a report may be asked for, where they are drawn smallest

Reconstruct = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""From normalized recordings `[n, T, C]` to their reconstructions and errors, of the same shape."""


def write(
    folder: Path, predictions: Predictions, signals: Signals | np.ndarray, reconstruct: Reconstruct
) -> None:
    """Write what :func:`read` reads, of the test recordings `signals` `[N, T, C]`."""
    worst = [mistake.row for mistake in mistakes.most_confident(predictions, MOST)]
    rows = list(dict.fromkeys([*worst, *in_the_middle(predictions)]))
    values = np.stack(reconstruct(np.ascontiguousarray(signals[rows]))).astype("<f4")
    with replacing(folder / VALUES) as beside, beside.open("wb") as file:
        np.save(file, values)
    write_csv(folder / RECORDS, predictions.table.iloc[rows][["record"]])


def read(folder: Path, records: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Reconstructions and errors `[n, T, C]` float64 of the `records`. UserError if they are missing."""
    names = list(read_csv(verified(folder / RECORDS), ("record",))["record"])
    try:
        values = np.load(verified(folder / VALUES), mmap_mode="r")
        reconstructions, errors = values[:, [names.index(name) for name in records]]
    except (OSError, ValueError, EOFError, IndexError):
        raise UserError(
            f"{folder / VALUES} has not what the report draws: run `beatline repair {folder}`"
        ) from None
    return reconstructions.astype(np.float64), errors.astype(np.float64)


def in_the_middle(predictions: Predictions) -> list[int]:
    """The row of a normal record and that of an anomaly: of the first section, each that with the middle
    score of its kind; fewer where there is only one kind."""
    facet = predictions.facets[0]
    rows = np.flatnonzero(facet.inside)
    kinds = [np.flatnonzero(facet.targets == target) for target in (0, 1)]
    return [int(rows[_middle(facet.scores, kind)]) for kind in kinds if len(kind)]


def _middle(scores: np.ndarray, among: np.ndarray) -> int:
    """Return the position of the median of the scores `among`, the lower one of two."""
    order = np.argsort(scores[among], kind="stable")
    return int(among[order[(len(among) - 1) // 2]])
