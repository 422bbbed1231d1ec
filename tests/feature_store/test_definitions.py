"""What the store holds is what extract_features declares and has written, and nothing else."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from beatline.common import sums
from beatline.common.errors import UserError
from beatline.feature_store import definitions
from beatline.features import ecg, sound
from tests.feature_store import tables


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tables.make(tmp_path)


def test_names_are_those_that_are_measured(root: Path) -> None:
    """A feature that is added to the code is in the store too, in its order; a patient is a field."""
    ecgs, machines = tables.tables(root)
    assert machines.name == "machine_sound" and machines.features == list(sound.FEATURES)
    assert ecgs.name == "ecg_features" and ecgs.features == list(ecg.FEATURES)
    assert list(ecgs.fields) == ["patient", *ecg.FEATURES]
    assert (len(machines.features), len(ecgs.features)) == (13, 87)
    assert machines.known == ["id_00", "id_01", "id_02"]
    assert (machines.pushed, ecgs.pushed) == (True, False)


def test_ecgs_hold_whenever_they_are_asked_for(root: Path) -> None:
    """Their table has no time, so the store's copy is older than any question; values and missing values
    are the pipeline's."""
    table, _ = tables.tables(root)
    copied = pd.read_parquet(root / definitions.FOLDER / table.source)
    own = tables.parquet(root, "ptbxl")
    for name in table.features:
        np.testing.assert_array_equal(copied[name], own[name])
    assert copied["patient"].tolist() == own["group"].tolist()
    assert set(copied[table.timestamp]) == {definitions.ALWAYS} and table.ttl_seconds == 0


def test_what_is_written_is_read(root: Path) -> None:
    """The service knows what Feast was told."""
    path = root / "definitions.json"
    path.write_text(definitions.as_json(tables.tables(root)))
    assert list(definitions.read(path).values()) == tables.tables(root)


@pytest.mark.parametrize("content", ["", "[]", '{"tables": [{"name": "x"}]}', '{"tables": 1}'])
def test_damaged_definitions(root: Path, content: str) -> None:
    """They are refused by name, with what mends them."""
    path = root / "definitions.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"definitions\.json.*make features"):
        definitions.read(path)


def test_another_way_of_measuring_is_another_definition(root: Path) -> None:
    """Rows that were measured by other parameters are told apart, those of other tables are not."""
    content = copy.deepcopy(tables.CONTENT)
    content["extract_features"]["machine_sound"]["hop"] = 256
    before, after = tables.tables(root), tables.tables(root, content)
    assert before[0].definition == after[0].definition
    assert before[1].definition != after[1].definition


def test_a_damaged_table(root: Path) -> None:
    """A byte that flipped reaches no store."""
    path = root / "data/features/machine_sound/features.parquet"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"features\.parquet"):
        tables.tables(root)


def test_a_table_without_a_feature(root: Path) -> None:
    """A table of an older version is told with the column that it lacks."""
    folder = root / "data/features/machine_sound"
    tables.parquet(root, "machine_sound").drop(columns="zcr_mean").to_parquet(
        folder / "features.parquet"
    )
    sums.seal(folder)
    with pytest.raises(UserError, match=r"zcr_mean.*dvc repro"):
        tables.tables(root)
