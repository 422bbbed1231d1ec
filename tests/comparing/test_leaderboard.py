"""The leaderboard: which results are on the front, and a page that needs nothing else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from beatline.comparing.changes import Changes
from beatline.comparing.leaderboard import COSTS, Entry, Leaderboard, mark_fronts
from beatline.comparing.leaderboard_page import page
from tests.serving.browser import chromium


def entry(auc: float | None = 0.9, **changed: Any) -> Entry:
    fields: dict[str, Any] = {
        "dataset": "ptbxl",
        "model": "cnn",
        "revisions": ["main"],
        "simulated": False,
        "task": "multilabel",
        "test_records": "a",
        "metrics": {"auc": {"value": auc, "low": 0.8, "high": 0.95}},
        "costs": {"parameters": 10.0, "train_seconds": 5.0, "predict_milliseconds": 1.0},
        "parameters": {"seed": 1, "optimizer": {"name": "adamw"}},
        "differing": Changes({}, [], []),
    }
    return Entry(**fields | changed)


results = st.tuples(
    st.sampled_from([None, 0.5, 0.7, 0.9]),
    st.sampled_from([1.0, 2.0, 3.0]),
    st.sampled_from(["ptbxl", "mnist"]),
    st.sampled_from(["a", "b"]),
)


@given(st.lists(results, min_size=1, max_size=8))
def test_front_is_what_nothing_beats(found: list[tuple[float | None, float, str, str]]) -> None:
    """A result is on the front just if no other of its contest is as good, as cheap, and better in one;
    equal results share it, what has no AUC has no place, and who is alone has won nothing."""
    entries = [
        entry(auc, costs={"parameters": cost}, dataset=dataset, test_records=records)
        for auc, cost, dataset, records in found
    ]
    mark_fronts(entries)
    for number, (auc, cost, *contest) in enumerate(found):
        beaten = any(
            other is not None
            and auc is not None
            and rival == contest
            and other >= auc
            and price <= cost
            and (other > auc or price < cost)
            for other, price, *rival in found
        )
        rivals = [one for one in found if list(one[2:]) == contest]
        expected = ["parameters"] if auc is not None and not beaten and len(rivals) > 1 else []
        assert entries[number].fronts == expected


def test_tasks_and_test_records_are_contests_of_their_own() -> None:
    """A detector is not held against a classifier, nor a score on other records against one on these."""
    worse = [entry(0.6, task="reconstruction"), entry(0.6, test_records="b"), entry(0.6)]
    worst = [entry(0.5, task="reconstruction"), entry(0.5, test_records="b")]
    mark_fronts([entry(0.9), *worse, *worst])
    assert [bool(one.fronts) for one in worse] == [True, True, False]
    seed = {"datasets.ptbxl.download.simulated.seed": (1, 2)}
    anew = Changes(seed, [], ["data/raw/ptbxl.zip"])
    two = [entry(auc, simulated=True, differing=anew) for auc in (0.6, 0.5)]
    mark_fronts([entry(0.9, simulated=True), *two])
    assert two[0].fronts


def test_page_needs_nothing_else_and_shows_everything() -> None:
    """One file: nothing is fetched, names are escaped, what is simulated or missing is said."""
    differing = Changes({"train.cnn.ptbxl.seed": (1, 2)}, ["beatline/metrics.py"], [])
    entries = [
        entry(0.9, simulated=True, revisions=["<main>", "other"]),
        entry(None, costs={"parameters": 5.0}, differing=differing, revisions=["exp-1"]),
    ]
    mark_fronts(entries)
    html = page(Leaderboard(entries, ["0" * 40]))
    assert not re.search(r"(src|href)=", html)
    assert "<main>" not in html
    assert "&lt;main&gt;" in html
    assert "Data of ptbxl are simulated" in html
    assert "seed 2, other code" in html
    assert "as the workspace" in html
    assert "0000000." in html
    assert html.count("<tr data-set=") == 2
    assert f'data-fronts="{" ".join(COSTS)}" class="front"' in html
    assert 'data-fronts=""' in html


def test_table_has_the_page_for_itself(tmp_path: Path) -> None:
    """The report's columns, for contents beside it, are not the leaderboard's."""
    (tmp_path / "leaderboard.html").write_text(page(Leaderboard([entry(0.9)], [])))
    with chromium() as browser:
        opened = browser.new_page(viewport={"width": 1400, "height": 900})
        opened.goto((tmp_path / "leaderboard.html").as_uri())
        box = opened.locator(".table").bounding_box()
    assert box and box["width"] > 1300
