"""Examples to try served models with: of every class, and of the test split alone."""

from __future__ import annotations

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from stages.examples import choose

CLASSES = ["NORM", "MI", "CD"]


def table(rows: list[tuple[int, int, int, int]]) -> pd.DataFrame:
    found = pd.DataFrame(rows, columns=["normal", *CLASSES])
    return found.assign(record=[f"r{number}" for number in range(len(found))], machine="id_00")


@given(st.lists(st.tuples(*[st.integers(0, 1)] * 4), min_size=1, max_size=30))
def test_one_of_each_class_that_a_record_shows_alone(rows: list[tuple[int, int, int, int]]) -> None:
    """An example stands for one class: the first record that is of no other; a record that is of two
    would leave it open which of them the answer is about."""
    found = table(rows)
    chosen = choose(found, CLASSES, None)
    labels = [label for (label,) in chosen.values()]
    assert len(set(labels)) == len(labels)
    for name in CLASSES:
        alone = found[(found[name] == 1) & (found[CLASSES].sum(axis=1) == 1)]
        expected = list(alone["record"])[:1]
        assert [record for record, (label,) in chosen.items() if label == name] == expected
    normal = found[(found["normal"] == 1) & (found[CLASSES].sum(axis=1) == 0)]
    assert [r for r, (label,) in chosen.items() if label == "normal"] == list(normal["record"])[:1]


def test_one_of_each_machine() -> None:
    """A detector may know one machine better than another: each is there to be tried."""
    rows = pd.DataFrame(
        {
            "record": ["a", "b", "c", "d", "e"],
            "normal": [1, 1, 0, 1, 0],
            "anomaly": [0, 0, 1, 0, 1],
            "machine_id": ["id_00", "id_00", "id_00", "id_02", "id_02"],
        }
    )
    assert choose(rows, ["anomaly"], "machine_id") == {
        "c": ["anomaly", "id_00"],
        "e": ["anomaly", "id_02"],
        "a": ["normal", "id_00"],
        "d": ["normal", "id_02"],
    }
