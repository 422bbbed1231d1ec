"""A headless Chromium that looks at the page, and keeps account of what the page does."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, Route, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
WIDE, PHONE = {"width": 1200, "height": 900}, {"width": 360, "height": 740}
# Chromium writes each answer of status 400 and more to the console, whatever the page makes of it.
OF_STATUS = "Failed to load resource"
DROP = """([zone, files]) => {
  const transfer = new DataTransfer();
  for (const [name, content] of files) {
    const bytes = Uint8Array.from(atob(content), (one) => one.charCodeAt(0));
    transfer.items.add(new File([bytes], name));
  }
  for (const kind of ["dragenter", "dragover", "drop"]) {
    const init = { dataTransfer: transfer, bubbles: true, cancelable: true };
    document.querySelector(zone).dispatchEvent(new DragEvent(kind, init));
  }
}"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """The Chromium that this machine has; skips the tests if there is none."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f"no browser to look at the page with (none of {', '.join(NAMES)} on PATH)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def visit(
    browser: Browser,
    url: str,
    model: str,
    *,
    first: Mapping[str, Callable[[Route], None]] | None = None,
    mistake: str | None = None,
    address: str = "",
    ready: str = "#model:enabled",
    **settings: Any,
) -> Iterator[Page]:
    """The page with a model chosen, or the one at another `address`, when what is `ready` is there.
    `first`: by pattern of an address, who answers the first request to it. At the end: the page wrote no
    error but those that hold `mistake`, and asked no other host."""
    context = browser.new_context(
        **{"viewport": WIDE, "color_scheme": "light", "reduced_motion": "reduce", **settings}
    )
    page = context.new_page()
    page.set_default_timeout(10_000)
    mistakes: list[str] = []
    hosts: set[str | None] = set()
    page.on("pageerror", lambda error: mistakes.append(str(error)))
    page.on("console", lambda said: mistakes.append(said.text) if said.type == "error" else None)
    page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
    for pattern, answer in (first or {}).items():
        page.route(pattern, answer, times=1)
    page.goto(f"{url}/{address}#{model}")
    page.wait_for_selector(ready)
    yield page
    context.close()
    expected = [OF_STATUS, mistake or OF_STATUS]
    assert not [said for said in mistakes if not any(text in said for text in expected)]
    assert hosts == {"127.0.0.1"}


def drop(page: Page, files: Mapping[str, bytes], zone: str = "#drop") -> None:
    """Drop files on the page as a person does."""
    content = [[name, base64.b64encode(data).decode()] for name, data in files.items()]
    page.evaluate(DROP, [zone, content])


def answered(page: Page) -> None:
    """Waits until an answer stands on the page and its recording is drawn."""
    page.wait_for_selector("#answer:not([hidden])[aria-busy=false] .canvas > *")


def told(page: Page) -> str:
    """Waits until the page says that something is wrong, and gives what it says."""
    page.wait_for_selector("#problem > *")
    return page.get_by_role("alert").inner_text()


def sign_in(page: Page, token: str, ready: str) -> None:
    """Give another token, which is refused, then this one, whereupon `ready` (a selector) is there."""
    for given, after in ((f"{token}x", "#problem:has-text('not known')"), (token, ready)):
        assert "token" in told(page)
        page.get_by_label("Token").fill(given)
        page.keyboard.press("Enter")
        page.wait_for_selector(after)
