"""What is new since the last commit stands in the report's page, and only beside the results that it is
about."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import pytest

pytest.importorskip("playwright", reason="playwright, which drives the browser, is not installed")

from beatline.comparing import since_commit
from beatline.comparing.comparison import NEW, UNCHANGED, Comparison
from beatline.comparing.revisions import Revision
from beatline.reporting.document import Document
from beatline.reporting.page import CHANGES, REPORT_PAGE
from beatline.reporting.page import page as report_page
from tests.comparing.test_words import comparison, lost, model
from tests.serving.browser import chromium

COMMIT = "0123456789abcdef"


class Committed:
    shown_commit = COMMIT


def write(folder: Path, results: str, compared: Comparison | None) -> None:
    """Write the page of these results and what is said of them."""
    folder.mkdir(exist_ok=True)
    document = Document(["# Report", "## Summary"], results=results)
    (folder / REPORT_PAGE).write_text(report_page(document))
    since_commit.write(folder, cast(Revision, Committed()), compared)


def content(folder: Path) -> dict[str, str | list[str]]:
    text = (folder / CHANGES).read_text()
    return json.loads(text.removeprefix("const changes = ").rstrip(";\n"))


def test_each_change_has_a_line(tmp_path: Path) -> None:
    """Those with a verdict their numbers; a model that has none is named once."""
    compared = comparison(
        model(lost("auc", 0.05)), model(status=NEW), model(lost(by=0)), model(status=UNCHANGED)
    )
    write(tmp_path, "ab1", compared)
    told = content(tmp_path)
    assert told["results"] == "ab1" and COMMIT[:7] in told["title"]
    assert str(told["first"]).startswith("Failed") and "0.8500" in told["lines"][1]
    assert len(told["lines"]) == 4


def test_without_a_page_nothing_is_written(tmp_path: Path) -> None:
    since_commit.write(tmp_path, cast(Revision, Committed()), None)
    assert not list(tmp_path.iterdir())


def test_the_page_shows_what_is_of_its_results(tmp_path: Path) -> None:
    """What an earlier run has left beside it is not taken for them; without it the page says how to find
    out."""
    for name in ("same", "other", "none"):
        write(tmp_path / name, "ab1", comparison(model(lost("auc", 0.05))))
    write(tmp_path / "unchanged", "ab1", None)
    (tmp_path / "none" / CHANGES).unlink()
    page = tmp_path / "other" / REPORT_PAGE
    page.write_text(page.read_text().replace('content="ab1"', 'content="cd2"'))
    shown = {}
    with chromium() as browser:
        for folder in tmp_path.iterdir():
            tab = browser.new_page()
            tab.goto((folder / REPORT_PAGE).as_uri())
            assert tab.locator("#changes h2").count() == 1
            shown[folder.name] = tab.locator("#changes").inner_text()
            tab.close()
    assert all(COMMIT[:7] in shown[name] for name in ("same", "unchanged"))
    assert "Failed" in shown["same"] and "Failed" not in shown["unchanged"]
    assert shown["other"] == shown["none"] and "make compare" in shown["other"]
