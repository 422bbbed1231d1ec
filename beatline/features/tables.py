"""Writing the outputs of extract_features: a table of features for people (CSV) and for programs and
feature stores (Parquet), and the networks' input where that is not the samples themselves."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from beatline.common.files import replacing, rounded, write_csv
from beatline.preprocessing.arrays import write_split

PARQUET, CSV = "features.parquet", "features.csv"
RECORDINGS = "recordings"
DIGITS = 9  # significant digits of a number: what float32 can tell apart


def write_tables(folder: Path, table: pd.DataFrame) -> None:
    """Write `table` as features.parquet and features.csv: same rows, columns, order and values.

    Its columns are those that identify a row (`record`, `machine_id`, `event_timestamp`, …), then the
    features. Numbers are rounded to 9 significant digits, moments (with a time zone) are in UTC to
    the microsecond, NaN is null in Parquet and empty in CSV. Equal tables give equal bytes.
    """
    table = table.copy()
    for name in table.columns:
        column = table[name]
        if isinstance(column.dtype, pd.DatetimeTZDtype):
            table[name] = column.dt.tz_convert("UTC").dt.as_unit("us")
        elif pd.api.types.is_float_dtype(column.dtype):
            # A column of missing values alone would be one of no type.
            table[name] = np.array(rounded(column.to_list(), DIGITS), dtype=np.float64)
    with replacing(folder / PARQUET) as beside:
        pyarrow.parquet.write_table(_arrow(table), beside)
    write_csv(folder / CSV, table, DIGITS)


def write_recordings(folder: Path, batches: Iterable[np.ndarray], table: pd.DataFrame) -> None:
    """Write `[N, T, C]`, the recordings of `table`'s rows, which come as float32 batches."""
    write_split(folder / RECORDINGS, batches, table)


def _arrow(table: pd.DataFrame) -> pa.Table:
    """`table` without what pandas would note of itself, texts as the plain type that all readers know."""
    arrow = pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(None)
    for position, field in enumerate(arrow.schema):
        if pa.types.is_large_string(field.type):
            column = arrow.column(position).cast(pa.string())
            arrow = arrow.set_column(position, field.name, column)
    return arrow
