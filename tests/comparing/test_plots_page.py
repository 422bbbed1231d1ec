"""`beatline plots` on a repository of two commits, and its page in a browser."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from dvc.repo import Repo
from playwright.sync_api import Browser, Page

from beatline.cli import SITE_CACHE, main
from tests.paths import ROOT
from tests.serving.browser import chromium

DVC_YAML = """
stages:
  report:
    cmd: "true"
    plots:
      - reports/plots/roc: {cache: false, template: roc, x: fpr, y: tpr}
      - reports/plots/confusion: {cache: false, template: confusion_by_class, x: actual, y: predicted}
      - reports/plots/loss: {cache: false, template: epochs_by_split, x: epoch, y: loss}
      - reports/figures: {cache: false}
      - reports/report.md: {cache: false}
"""
PARAMS = """
datasets: {ptbxl: {}, mnist: {}}
train: {cnn: {ptbxl: {}, mnist: {}}, lstm: {ptbxl: {}}}
"""
CHARTS = 3  # of what `new` changes
PHONE, DESKTOP = {"width": 390, "height": 780}, {"width": 1280, "height": 900}


def write(root: Path, *, second: bool) -> None:
    """A training's reports, or those of another one, in which the cnn on ptbxl has changed and lost a
    picture to gain another; mnist and the lstm have not."""
    folder = root / "reports/plots"
    for name in ("roc", "confusion", "loss"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    changed = 0.1 * second
    roc = [f"{m},{c},{x},{x**0.5 * (1 - changed * (m == 'cnn'))}" for m in ("cnn", "lstm")
           for c in ("NORM", "</script>") for x in (0, 0.5, 1)]  # fmt: skip
    (folder / "roc/ptbxl.csv").write_text("\n".join(["model,class,fpr,tpr", *roc, ""]))
    cells = [f"cnn,{c},{a},{p},{10 + second}" for c in ("NORM", "MI") for a in "ny" for p in "ny"]
    (folder / "confusion/ptbxl.csv").write_text(
        "\n".join(["model,class,actual,predicted,records", *cells, ""])
    )
    for name, loss in (("ptbxl", 1 - changed), ("mnist", 1)):
        rows = [f"cnn,{epoch},{split},{loss / epoch}" for split in ("train", "validation")
                for epoch in (1, 2, 3)]  # fmt: skip
        (folder / f"loss/{name}.csv").write_text("\n".join(["model,epoch,split,loss", *rows, ""]))
    figures = root / "reports/figures/ptbxl"
    figures.mkdir(parents=True, exist_ok=True)
    for name, grey in (("comparison", 0.2 + changed), ("lstm_history", 0.5)):
        matplotlib.image.imsave(figures / f"{name}.png", np.full((300, 900, 3), grey))
    (root / "reports/report.md").write_text(f"report {second}")


def git(root: Path, *command: str) -> None:
    settings = ("-c", "user.name=Test", "-c", "user.email=test@example.invalid")
    subprocess.run(["git", *settings, *command], cwd=root, check=True)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two commits, tagged `old` and `new`, which is the other way round in the alphabet; a third,
    `moved`, changes nothing but code."""
    root = tmp_path_factory.mktemp("project")
    git(root, "init", "--quiet")
    Repo.init(str(root)).close()
    shutil.copytree(ROOT / ".dvc/plots", root / ".dvc/plots")
    (root / "dvc.yaml").write_text(DVC_YAML)
    (root / "params.yaml").write_text(PARAMS)
    for tag, second in (("old", False), ("new", True), ("moved", True)):
        write(root, second=second)
        (root / "code.py").write_text(tag)
        git(root, "add", "--all")
        git(root, "commit", "--quiet", "--message", tag)
        git(root, "tag", tag)
    return root


def plots(project: Path, *arguments: str) -> str:
    """The page that the command writes in a project."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        patch.setenv(SITE_CACHE, str(project / ".dvc/site-cache"))
        assert main(["plots", *arguments]) == 0
    return (project / "review/plots.html").read_text()


def test_just_what_changed_is_in_the_page(project: Path) -> None:
    """Grouped by data set and model; reports and cards, which DVC lists as plots, are none."""
    html = plots(project, "old", "new")
    assert re.findall(r'<h3 id="([^"]*)"', html) == ["ptbxl/", "ptbxl/cnn"]
    assert re.findall(r'data-chart="([^"]*)"', html) == [
        f"reports/plots/{kind}/ptbxl.csv/cnn" for kind in ("roc", "confusion", "loss")
    ]
    title = re.search("<h1>(.*?)</h1>", html, re.S)
    assert title
    for part in (f"{CHARTS} plots of 1 model", "1 plot of", "old", "new"):
        assert part in title[1]


def test_pictures_stand_before_and_after(project: Path) -> None:
    sources = re.findall(r'src="data:image/png;base64,([^"]*)"', plots(project, "old", "new"))
    path = "reports/figures/ptbxl/comparison.png"
    assert [base64.b64decode(source) for source in sources] == [
        subprocess.run(["git", "show", f"{tag}:{path}"], cwd=project, capture_output=True).stdout
        for tag in ("old", "new")
    ]


def test_nothing_changed_is_one_sentence(project: Path) -> None:
    html = plots(project, "new", "moved")
    assert "<script" not in html
    assert "<h2" not in html
    assert all(name in html for name in ("new", "moved"))


def test_no_such_revision_is_one_sentence(project: Path) -> None:
    with pytest.raises(SystemExit, match=r"nowhere.*git branch"):
        plots(project, "nowhere", "new")


def test_missing_libraries_are_named(project: Path, tmp_path: Path) -> None:
    """A page of empty charts would look as if nothing had changed."""
    shutil.copytree(project, tmp_path / "project")
    (tmp_path / "project/.dvc/plots/page.html").unlink()
    with pytest.raises(SystemExit, match=r"page\.html .*git checkout"):
        plots(tmp_path / "project", "old", "new")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


def opened(browser: Browser, project: Path, **settings: object) -> tuple[Page, list[str]]:
    """The page with all its charts drawn, and every mistake of its scripts and every request to anywhere
    else."""
    plots(project, "old", "new")
    page = browser.new_context(**settings).new_page()  # pyright: ignore[reportArgumentType]
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "request",
        lambda request: (
            wrong.append(request.url) if not request.url.startswith(("file:", "data:")) else None
        ),
    )
    page.goto((project / "review/plots.html").as_uri())
    for chart in page.locator(".chart").all():
        chart.scroll_into_view_if_needed()
        chart.locator("svg").wait_for()
    return page, wrong


@pytest.mark.parametrize("size", [PHONE, DESKTOP])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_charts_are_drawn_and_fit(
    browser: Browser, project: Path, size: dict[str, int], scheme: str
) -> None:
    """On a phone and a desktop, in both colours: every chart is there with its baseline first in the
    legend, nothing is wider than the page, its words are legible, and nothing is fetched."""
    page, wrong = opened(browser, project, viewport=size, color_scheme=scheme)
    assert page.locator(".chart svg").count() == CHARTS
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    assert page.evaluate(
        "[...document.querySelectorAll('.chart')].every(e => e.scrollWidth <= e.clientWidth)"
    )
    for kind in ("roc", "loss"):
        chart = page.locator(f'[data-chart*="/{kind}/"]')
        names = chart.locator(".role-legend-label text").all_text_contents()
        assert [name.partition(" ")[0] for name in names] == ["old", "new"]
    colour = page.locator(".chart .role-axis-label text").first.evaluate(
        "e => e.getAttribute('fill')"
    )
    assert colour == page.evaluate(
        "getComputedStyle(document.documentElement).getPropertyValue('--text')"
    )
    panels = page.locator('[data-chart*="/confusion/"] tspan', has_text=re.compile("^(old|new) "))
    places = [(box["y"], box["x"]) for panel in panels.all() if (box := panel.bounding_box())]
    in_order = [panels.nth(places.index(place)).text_content() or "" for place in sorted(places)]
    assert [label.partition(" ")[0] for label in in_order] == ["old", "new"] * 2
    before, after = (picture.bounding_box() for picture in page.locator(".pair img").all())
    assert before and after
    assert before["y"] < after["y"] if size is PHONE else before["x"] < after["x"]
    assert not wrong
    page.context.close()


def test_contents_fold_on_a_phone(browser: Browser, project: Path) -> None:
    """Where they stay in view, they would hide the plots; what they lead to is below their one line."""
    page, wrong = opened(browser, project, viewport=PHONE)
    folded = page.locator("nav").bounding_box()
    assert folded and folded["height"] < PHONE["height"] / 6
    page.locator("nav summary").click()
    link = page.locator("nav ul ul a").last
    place = (link.get_attribute("href") or "")[1:]
    link.click()
    heading = page.locator(f'[id="{place}"]').bounding_box()
    assert page.locator("nav details[open]").count() == 0
    assert heading and heading["y"] >= folded["height"]
    assert not wrong
    page.context.close()
