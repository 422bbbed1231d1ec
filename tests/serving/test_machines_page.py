"""The page of machines in headless Chromium, in front of the real server and a log of answers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("playwright", reason="playwright, which drives the browser, is not installed")

from playwright.sync_api import Browser, Page, expect

from beatline.monitoring.answers import AnswerLog
from beatline.serving import tokens
from tests.monitoring.logs import answer
from tests.serving import project
from tests.serving.browser import PHONE, chromium, sign_in, told, visit
from tests.serving.test_answer_log import settings
from tests.serving.test_page import CONTRAST, INTERACTIVE, TOKEN

DATASET, MODEL = "ecg5000", "autoencoder"
SCORES = {
    "pump-1": [0.5, 0.6, 0.4, 0.7, 0.5],
    "pump-2": [0.5, 1.5, 2.5, 0.75, 3.25],
    "fan-1": [0.25],
}
FEATURES = {"rms_mean": 0.125, "zero_crossings": None}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose log knows of machines."""
    made = project.make(tmp_path_factory.mktemp("machines"))
    now = datetime.now(UTC)
    rows = [
        answer(
            dataset=DATASET,
            model=MODEL,
            entity=machine,
            moment=(moment := now - timedelta(hours=len(scores) - number)),
            measured=moment,
            scores=np.array([score]),
            decisions=np.array([score > 1]),
            thresholds=np.array([1.0]),
            features=FEATURES if machine == "pump-2" else None,
        )
        for machine, scores in SCORES.items()
        for number, score in enumerate(scores)
    ]
    with AnswerLog(str(made / "answers.db")) as log:
        log.write(rows)
    return made


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    with project.client(folder, settings(folder), poll_seconds=60) as client:
        yield str(client.base_url).rstrip("/")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


def look(
    browser: Browser, url: str, machine: str = "", **more: Any
) -> AbstractContextManager[Page]:
    ready = more.pop("ready", "#machines table")
    return visit(browser, url, machine, address="machines.html", ready=ready, **more)


def points(page: Page, line: str) -> np.ndarray:
    drawn = page.locator(f"[data-line={line}]").get_attribute("d") or ""
    return np.array(re.findall(r"[\d.]+", drawn), float).reshape(-1, 2)


def test_alarms_are_told_first(browser: Browser, url: str) -> None:
    """In words and in the table, with scores beside their thresholds."""
    with look(browser, url) as page:
        expect(page.get_by_role("status")).to_have_text("Open alarms: pump-2.")
        rows = page.locator("tbody tr").all_inner_texts()
        cells = [row.split("\t") for row in rows]
        assert [row[0].strip() for row in cells] == ["pump-2", "fan-1", "pump-1"]
        assert cells[0][1:4] == ["open", "3.25", "1"]
        assert {"3 of 5", f"{DATASET} / {MODEL}"} <= set(cells[0]) and cells[1][1] == "none"


def test_a_token_is_asked_for_where_one_is_needed(
    browser: Browser, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on the other page, which keeps it for both."""
    monkeypatch.setenv(tokens.VARIABLE, TOKEN)
    with project.client(folder, settings(folder), token="everything") as client:
        url = str(client.base_url).rstrip("/")
        with look(browser, url, ready="#token", mistake="401") as page:
            sign_in(page, TOKEN, "#machines table")
            expect(page.locator("#problem > *")).to_have_count(0)
            page.goto(url)
            page.wait_for_selector("#model:enabled")


def test_a_machine_is_drawn(browser: Browser, url: str) -> None:
    """Its scores and thresholds are where they belong, anomalies are marked, and what was measured is
    in a table with its age."""
    with look(browser, url, "pump-2", ready="#histories svg") as page:
        drawn, threshold = points(page, "score"), points(page, "threshold")
        scores = np.array(SCORES["pump-2"])
        assert np.allclose(np.diff(drawn[:, 0]), np.diff(drawn[:, 0])[0], atol=0.1)
        height = (drawn[0, 1] - drawn[4, 1]) / (scores[4] - scores[0])  # pixels of 1
        assert np.allclose(drawn[:, 1], threshold[0, 1] - (scores - 1) * height, atol=0.1)
        assert page.locator("#histories circle.error-mark").count() == 3
        label = page.get_by_role("img").get_attribute("aria-label") or ""
        assert "5 scores" in label and "3 of them anomalies" in label
        assert "rms mean\t0.125" in page.locator("#measured").inner_text()
        assert "zero crossings\tmissing" in page.locator("#measured").inner_text()
        assert page.locator("#measured caption").inner_text().endswith("ago")


def test_one_answer_is_drawn(browser: Browser, url: str) -> None:
    """Though it makes no line."""
    with look(browser, url, "fan-1", ready="#histories svg") as page:
        assert page.locator("#histories circle").count() == 1
        assert not page.evaluate("document.body.innerHTML.includes('NaN')")


def test_the_keyboard_chooses_a_machine(browser: Browser, url: str) -> None:
    """From the page of recordings on, and the address names it, to be passed on."""
    with visit(browser, url, "") as page:
        page.get_by_role("link", name="Machines").focus()
        page.keyboard.press("Enter")
        page.wait_for_selector("#machines table")
        for _ in range(4):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.textContent") == "fan-1":
                break
        page.keyboard.press("Enter")
        page.wait_for_selector("#histories svg")
        assert page.evaluate("document.activeElement.textContent") == "fan-1"
        assert page.evaluate("document.activeElement.tagName") == "H2"
        assert page.url.endswith("machines.html#fan-1")
        pressed = page.get_by_role("button", pressed=True)
        assert pressed.all_inner_texts() == ["fan-1"]


def test_news_come_by_themselves(browser: Browser, url: str, folder: Path) -> None:
    """What is answered meanwhile is shown, and the focus stays where it is."""
    with look(browser, url, "pump-1", ready="#histories svg") as page:
        page.get_by_role("button", name="pump-1").focus()
        now = datetime.now(UTC)
        rows = [
            answer(dataset=DATASET, model=MODEL, entity=machine, moment=now, measured=now)
            for machine in ("new-1", "pump-1")
        ]
        with AnswerLog(str(folder / "answers.db")) as log:
            log.write(rows)
        page.evaluate("dispatchEvent(new Event('visibilitychange'))")  # or a quarter of a minute
        expect(page.locator("#machines tbody")).to_contain_text("new-1")
        expect(page.locator("#histories")).to_contain_text("6 scores")
        assert page.evaluate("document.activeElement.textContent") == "pump-1"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_everything(browser: Browser, url: str, scheme: str) -> None:
    """Without sideways scrolling of the page, and readable by day and by night."""
    options: dict[str, Any] = {"viewport": PHONE, "color_scheme": scheme}
    with look(browser, url, "pump-2", ready="#histories svg", **options) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        assert not page.evaluate(CONTRAST)


def test_a_screen_reader_is_told_what_everything_is(browser: Browser, url: str) -> None:
    """Every control, picture and table has a name, and headings are in order."""
    with look(browser, url, "pump-2", ready="#histories svg") as page:
        session = page.context.new_cdp_session(page)
        nodes = session.send("Accessibility.getFullAXTree")["nodes"]
        shown = [node for node in nodes if not node["ignored"]]
        roles = [(node["role"]["value"], node.get("name", {}).get("value")) for node in shown]
        assert {"banner", "main", "contentinfo", "navigation"} <= {role for role, _ in roles}
        assert not [role for role, name in roles if role in INTERACTIVE - {"group"} and not name]
        levels = page.locator("h1, h2, h3").evaluate_all("all => all.map((one) => +one.tagName[1])")
        assert levels == [1, 2, 3, 3]


def test_a_machine_that_nobody_knows(browser: Browser, url: str) -> None:
    """It is told in the words of the server, and the others are there to choose from."""
    with look(browser, url, "pump-3") as page:
        assert "pump-3" in told(page) and "pump-1" in told(page)
        page.get_by_role("button", name="pump-1").click()
        page.wait_for_selector("#histories svg")
        expect(page.get_by_role("alert")).to_be_empty()


def test_a_server_without_a_log(browser: Browser, folder: Path) -> None:
    """The page says what to set."""
    with project.client(folder) as client:
        address = str(client.base_url).rstrip("/")
        with look(browser, address, ready="#problem > *") as page:
            assert "monitoring.log" in told(page)
