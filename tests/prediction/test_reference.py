"""What a bundle is watched by comes back as it was, and a file that does not fit is refused."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import numpy as safetensors

from beatline.common.errors import UserError
from beatline.prediction.familiarity import features
from beatline.prediction.reference import MOST_RECORDS, Reference, load

DATASET = {"drawing": "trace", "length": 50, "channels": ["I", "II"]}
MODEL_INFO = {"dataset": DATASET, "classes": ["NORM", "MI", "CD"]}
SIZE = len(features(np.zeros((50, 2)), DATASET))
RNG = np.random.default_rng(0)
GOOD = Reference(
    RNG.standard_normal((7, SIZE)).astype(np.float32),
    RNG.uniform(size=(7, 3)).astype(np.float32),
    np.array([3, 0, 7]),
    7,
    1,
)


def loaded(path: Path, reference: Reference) -> Reference:
    content = reference.to_bytes()
    path.write_bytes(content)
    return load(path, hashlib.sha256(content).hexdigest(), MODEL_INFO)


def test_a_file_comes_back_as_it_was(tmp_path: Path) -> None:
    assert loaded(tmp_path / "x", GOOD).to_bytes() == GOOD.to_bytes()


@pytest.mark.parametrize(
    "changes",
    [
        {"embeddings": np.zeros((7, SIZE + 1), np.float32)},
        {"embeddings": np.zeros((7, SIZE), np.float64)},
        {"embeddings": np.full((7, SIZE), np.nan, np.float32)},
        {"embeddings": np.zeros((0, SIZE), np.float32), "scores": np.zeros((0, 3), np.float32)},
        {"scores": np.zeros((6, 3), np.float32)},
        {"scores": np.zeros((7, 2), np.float32)},
        {"scores": np.full((7, 3), np.inf, np.float32)},
        {"decided": np.array([3, 0, 8])},
        {"decided": np.array([3, -1, 7])},
        {"records": 8},
        {"records": 6},
        {"unfamiliar": 8},
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    """A hostile bundle, whose sums are right, ends in a sentence and not in wrong alarms."""
    with pytest.raises(UserError, match=r"/x .*train the model again"):
        loaded(tmp_path / "x", replace(GOOD, **changes))


def test_damage_is_refused(tmp_path: Path) -> None:
    """No tensors, other ones, other bytes than were written, no file."""
    for content in (b"nothing", safetensors.save({"x": np.zeros(1)})):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(UserError, match="train the model again"):
            load(tmp_path / "x", hashlib.sha256(content).hexdigest(), MODEL_INFO)
    with pytest.raises(UserError, match=r"another SHA-256.*beatline repair"):
        load(tmp_path / "x", "0" * 64, MODEL_INFO)
    with pytest.raises(UserError, match=r"none .*beatline repair"):
        load(tmp_path / "none", "0" * 64, MODEL_INFO)


def test_a_file_has_no_more_records_than_one_may_have(tmp_path: Path) -> None:
    more = MOST_RECORDS + 1
    many = Reference(
        np.zeros((more, SIZE), np.float32), np.zeros((more, 3), np.float32), GOOD.decided, more, 0
    )
    with pytest.raises(UserError, match="train the model again"):
        loaded(tmp_path / "x", many)
