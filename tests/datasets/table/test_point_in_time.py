"""Point-in-time joins: nothing that came later, nothing too old, and no row of another machine."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beatline.common.errors import UserError
from beatline.datasets.table.point_in_time import features_at

START = pd.Timestamp("2024-01-01", tz="UTC")
moments = st.integers(0, 12)  # hours
machines = st.sampled_from(["id_00", "id_01", "id_02"])


def frame(rows: list[tuple[str, int]], **features: Sequence[float | None]) -> pd.DataFrame:
    times = pd.Series(
        [START + pd.Timedelta(hours=hour) for _, hour in rows], dtype="datetime64[us, UTC]"
    )
    names = pd.Series([machine for machine, _ in rows], dtype=str)
    return pd.DataFrame({"machine_id": names, "event_timestamp": times, **features})


@settings(max_examples=100)
@given(
    known=st.dictionaries(st.tuples(machines, moments), st.none() | st.floats(-9, 9), min_size=1),
    asked=st.lists(st.tuples(machines, moments), min_size=1, max_size=12),
    hours=st.none() | st.integers(1, 6),
    seed=st.integers(0, 9),
)
def test_equals_a_search_row_by_row(
    known: dict[tuple[str, int], float | None],
    asked: list[tuple[str, int]],
    hours: int | None,
    seed: int,
) -> None:
    """In the order asked for, whatever the order of the table: the latest of the machine that is not
    later and, at its bounds, not older than allowed; a feature that was missing then is missing."""
    rows = list(known)
    values = [np.nan if known[row] is None else known[row] for row in rows]
    table = frame(rows, x=values, number=list(range(len(rows)))).sample(frac=1, random_state=seed)
    entities = frame(asked).assign(x=-1.0, label="as it was").set_index(pd.Index([7] * len(asked)))
    found = features_at(entities, table, None if hours is None else timedelta(hours=hours))
    assert list(found) == ["x", "number"] and list(found.index) == [7] * len(asked)
    for (machine, moment), (x, number) in zip(asked, found.to_numpy(), strict=True):
        inside = [
            (hour, place)
            for place, (other, hour) in enumerate(rows)
            if other == machine and hour <= moment and (hours is None or hour >= moment - hours)
        ]
        expected = max(inside)[1] if inside else None
        np.testing.assert_equal(x, np.nan if expected is None else values[expected])
        np.testing.assert_equal(number, np.nan if expected is None else expected)


def test_moments_without_a_zone_are_in_utc() -> None:
    """Texts, moments of another zone and such without one name the same moment; to the microsecond."""
    table = frame([("a", 1)], x=[1.0])
    for text in ("2024-01-01T01:00:00Z", "2024-01-01 01:00:00", "2024-01-01T02:00:00+01:00"):
        entities = pd.DataFrame({"machine_id": ["a"], "event_timestamp": [text]})
        assert features_at(entities, table, timedelta(hours=1))["x"].to_list() == [1.0]
    early = pd.DataFrame({"machine_id": ["a"], "event_timestamp": ["2024-01-01T00:59:59.999999Z"]})
    assert np.isnan(features_at(early, table, None).to_numpy()).all()


def test_an_unknown_moment_or_machine_has_no_features() -> None:
    """Neither on the side that asks nor in the table, where NaN is not equal to NaN."""
    table = pd.concat([frame([("a", 1)], x=[1.0]), frame([("b", 1)], x=[2.0])], ignore_index=True)
    table.loc[1, "event_timestamp"] = pd.NaT
    entities = frame([("a", 1), ("b", 1), ("c", 1), ("a", 1)])
    entities.loc[3, "event_timestamp"] = pd.NaT
    found = features_at(entities, table, None)["x"]
    np.testing.assert_equal(found.to_numpy(), [1.0, np.nan, np.nan, np.nan])


def test_two_recordings_of_a_machine_at_one_moment() -> None:
    """Which were the latest is a guess, which would give a recording the features of another one; the
    machine and the moment are named. Where they are equal there is nothing to guess."""
    table = frame([("a", 1), ("a", 1), ("b", 1)], x=[1.0, 2.0, 3.0])
    with pytest.raises(
        UserError, match=r"machine_id a .* 2024-01-01 01:00:00.* event_timestamp of its"
    ):
        features_at(frame([("b", 1)]), table, None)
    equal = frame([("a", 1), ("a", 1)], x=[1.0, 1.0])
    assert features_at(frame([("a", 1)]), equal, None)["x"].to_list() == [1.0]
