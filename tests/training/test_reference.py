"""A bundle keeps validation records that were chosen by chance, and counts all of them."""

from __future__ import annotations

import numpy as np
import pytest

from beatline.prediction.familiarity import features
from beatline.prediction.reference import MOST_RECORDS
from beatline.training import reference
from beatline.training.familiarity import fit
from beatline.training.reference import taken

DATASET = {"drawing": "features", "length": 1, "channels": ["age", "height"]}


@pytest.mark.parametrize("count", [1, 40, MOST_RECORDS, 3 * MOST_RECORDS])
def test_reference_is_of_validation_records(count: int) -> None:
    """Each that is kept has the embedding and the scores of one record, none is kept twice, and counts
    are those of all."""
    rng = np.random.default_rng(count)
    signals = rng.standard_normal((count, 1, 2)).astype(np.float32)
    scores = rng.uniform(size=(count, 3)).astype(np.float32)
    known = fit(rng.standard_normal((200, 1, 2)), signals, DATASET)
    assert known
    kept = taken(signals, scores, scores > 0.5, known, DATASET)
    rows = [scores.tolist().index(row) for row in kept.scores.tolist()]
    assert len(set(rows)) == len(rows) == min(count, MOST_RECORDS)
    expected = [features(signals[row], DATASET) for row in rows]
    np.testing.assert_allclose(kept.embeddings, expected, rtol=1e-6)
    assert kept.decided.tolist() == (scores > 0.5).sum(axis=0).tolist()
    far = [known.distance(signal, DATASET) > known.threshold for signal in signals]
    assert (kept.records, kept.unfamiliar) == (count, sum(far))


def test_recordings_at_once_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference is the same, whether all embeddings are in memory at once or a few."""
    rng = np.random.default_rng(1)
    signals = rng.standard_normal((MOST_RECORDS + 70, 1, 2)).astype(np.float32)
    known = fit(rng.standard_normal((200, 1, 2)), signals[:250], DATASET)
    assert known
    scores = signals[:, 0]
    whole = taken(signals, scores, scores > 0, known, DATASET).to_bytes()
    monkeypatch.setattr(reference, "AT_ONCE", 33)
    assert taken(signals, scores, scores > 0, known, DATASET).to_bytes() == whole


def test_choice_is_no_first_part() -> None:
    """Records of a split may stand in the order of their patients."""
    signals = np.arange(4 * MOST_RECORDS, dtype=np.float32)[:, None, None].repeat(2, axis=2)
    known = fit(signals, signals, DATASET)
    assert known
    found = taken(signals, signals[:, 0], signals[:, 0] > 0, known, DATASET).scores[:, 0]
    assert np.abs(np.quantile(found, [0.25, 0.5, 0.75]) - [500, 1000, 1500]).max() < 120
