"""Point-in-time joins: what was known of a machine at a moment, and nothing that came later.

The same as Feast's historical join (`get_historical_features`) of the same table, so that a model learns
what a feature store will serve it; without Feast, which no stage may need.
"""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd

from beatline.common.errors import UserError


def features_at(
    entities: pd.DataFrame,
    table: pd.DataFrame,
    ttl: timedelta | None,
    *,
    entity: str = "machine_id",
    timestamp: str = "event_timestamp",
) -> pd.DataFrame:
    """Return, for each row of `entities` in its order, the latest features at or before its moment.

    Both frames have the columns `entity` (texts) and `timestamp` (without a time zone: UTC); the other
    columns of `table` are the features. A row is missing, NaN in all features, if `table` has nothing of
    that entity up to the moment, or nothing that is at most `ttl` old (None: of any age). Feast gives the
    same values, but leaves out such a row if `table` has the entity at other times, gives an entity and
    moment that are asked for twice once, and takes a `ttl` of 0 for none.

    Raises UserError if `table` has different features of an entity at one moment: which were the latest
    is not known, and Feast takes any of them.
    """
    known, asked = (
        frame.assign(**{timestamp: _in_utc(frame.loc[:, timestamp])})
        .dropna(subset=[entity, timestamp])
        .sort_values(timestamp, kind="stable")
        for frame in (
            table.drop_duplicates(),
            entities[[entity, timestamp]].set_axis(np.arange(len(entities))),
        )
    )
    twice = known.duplicated([entity, timestamp])
    if twice.any():
        first = known.loc[twice].iloc[0]
        raise UserError(
            f"{entity} {first[entity]} has different features at one moment, {first[timestamp]}: which "
            f"were the latest cannot be told, so give each recording a {timestamp} of its own"
        )
    joined = pd.merge_asof(asked, known, on=timestamp, by=entity, tolerance=ttl)
    features = joined.drop(columns=[entity, timestamp]).set_axis(asked.index)
    return features.reindex(np.arange(len(entities))).set_axis(entities.index)


def _in_utc(times: pd.Series) -> pd.DatetimeIndex:
    """Moments as Parquet holds them, to the microsecond; texts may give more or fewer digits."""
    return pd.DatetimeIndex(pd.to_datetime(times, utc=True, format="ISO8601")).as_unit("us")
