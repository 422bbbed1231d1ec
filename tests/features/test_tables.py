"""Tables of features: Parquet and CSV hold the same, and equal tables are equal bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beatline.features.tables import CSV, PARQUET, write_tables


def sounds(features: np.ndarray) -> pd.DataFrame:
    """A table as of machine sound: features `[N, 2]`."""
    number = len(features)
    moments = pd.date_range("2024-01-01", periods=number, freq="10s", tz="UTC")
    return pd.DataFrame(
        {
            "record": [f"{row:03d}" for row in range(number)],
            "machine_id": ["00"] * number,
            "event_timestamp": moments,
            "rms_mean": features[:, 0],
            "mfcc_0": features[:, 1],
        }
    )


def read_back(folder: Path, texts: tuple[str, ...]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The content of the Parquet file, and of the CSV file."""
    table = pd.read_csv(folder / CSV, dtype=dict.fromkeys(texts, str))
    if "event_timestamp" in table:
        table["event_timestamp"] = pd.to_datetime(table["event_timestamp"], utc=True)
    return pyarrow.parquet.read_table(folder / PARQUET).to_pandas(), table


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.floats(allow_infinity=False, allow_subnormal=False),
            st.floats(-1e6, 1e6, allow_subnormal=False, width=32),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_both_files_hold_the_same(
    tmp_path_factory: pytest.TempPathFactory, values: list[tuple[float, float]]
) -> None:
    """Same rows, columns and order, every number the same to the last bit; float32 survives whole."""
    folder = tmp_path_factory.mktemp("x")
    features = np.array(values)
    table = sounds(features)
    write_tables(folder, table)
    parquet, csv = read_back(folder, ("record", "machine_id"))
    pd.testing.assert_frame_equal(parquet, csv, check_exact=True, check_dtype=False)
    assert list(parquet.columns) == list(table.columns)
    assert list(parquet["record"]) == list(table["record"])
    assert list(parquet["event_timestamp"]) == list(table["event_timestamp"])
    np.testing.assert_allclose(parquet["rms_mean"], features[:, 0], rtol=1e-8)
    stored = parquet["mfcc_0"].to_numpy(np.float32)
    assert np.array_equal(stored, features[:, 1].astype(np.float32))


def test_a_feature_that_nobody_has(tmp_path: Path) -> None:
    """A column of missing values alone is one of numbers: a feature store refuses one without a type."""
    write_tables(tmp_path, sounds(np.full((2, 2), np.nan)))
    schema = pyarrow.parquet.read_schema(tmp_path / PARQUET)
    assert schema.field("rms_mean").type == schema.field("mfcc_0").type == pa.float64()


def test_types(tmp_path: Path) -> None:
    """A feature store can read the types: plain texts, moments in UTC, float64; nothing of pandas."""
    write_tables(tmp_path, sounds(np.ones((2, 2))))
    schema = pyarrow.parquet.read_schema(tmp_path / PARQUET)
    assert schema.types == [
        pa.string(),
        pa.string(),
        pa.timestamp("us", tz="UTC"),
        pa.float64(),
        pa.float64(),
    ]
    assert schema.metadata is None


def test_a_table_of_other_columns(tmp_path: Path) -> None:
    """A table of ECGs: no moment, whole numbers, a measure that some records have not."""
    table = pd.DataFrame(
        {
            "record": ["a", "b"],
            "patient": ["007", "12"],
            "beats": [9, 12],
            "heart_rate": [61.25, np.nan],
            "quality": np.array([0.1, 0.2], dtype=np.float32),
        }
    )
    write_tables(tmp_path, table)
    parquet, csv = read_back(tmp_path, ("record", "patient"))
    pd.testing.assert_frame_equal(parquet, csv, check_exact=True, check_dtype=False)
    assert list(parquet["patient"]) == ["007", "12"]
    assert list(parquet["beats"]) == [9, 12]
    stored = pyarrow.parquet.read_table(tmp_path / PARQUET)
    assert stored["heart_rate"].null_count == 1
    assert stored["beats"].type == pa.int64()
    assert (tmp_path / CSV).read_text().splitlines()[1:] == ["a,007,9,61.25,0.100000001",
                                                             "b,12,12,,0.200000003"]  # fmt: skip


def test_moments_of_other_zones_and_resolutions(tmp_path: Path) -> None:
    """A moment is the same moment in UTC, to the microsecond."""
    table = sounds(np.ones((2, 2)))
    moments = pd.to_datetime(["2024-06-01T12:00:00.123456789"] * 2)
    table["event_timestamp"] = moments.tz_localize("Europe/Berlin")
    write_tables(tmp_path, table)
    for found in read_back(tmp_path, ("record", "machine_id")):
        moment = found["event_timestamp"].iloc[0]
        assert moment == pd.Timestamp("2024-06-01T10:00:00.123456", tz="UTC")


def test_equal_tables_are_equal_bytes(tmp_path: Path) -> None:
    """Whatever the index, and however the table was made; and the table given is left as it was."""
    table = sounds(np.random.default_rng(0).standard_normal((100, 2)))
    before = table.copy()
    other = table.iloc[::-1].iloc[::-1].set_index(np.arange(7, 107))
    other = other.astype({"record": object, "machine_id": object})
    for name, one in (("a", table), ("b", other)):
        write_tables(tmp_path / name, one)
    pd.testing.assert_frame_equal(table, before)
    for name in (PARQUET, CSV):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
