"""`dvc plots show|diff` must draw where nothing can be fetched."""

from __future__ import annotations

import importlib.util
import io
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from dvc.config import Config
from dvc_render import VegaRenderer, render_html

from beatline.common.errors import UserError
from tests.paths import ROOT

SCRIPT = ROOT / ".dvc/plots/make_page.py"
SPEC = importlib.util.spec_from_file_location("make_page", SCRIPT)
assert SPEC is not None and SPEC.loader is not None
plots_page: Any = importlib.util.module_from_spec(SPEC)
sys.modules["make_page"] = plots_page
SPEC.loader.exec_module(plots_page)
PAGE = ROOT / plots_page.PAGE
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
POINTS = [{"rev": "main", "epoch": str(epoch), "loss": str(1 / epoch)} for epoch in range(1, 9)]


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    """A page that DVC has made of one curve, as it does for the plots of the project."""
    renderer = VegaRenderer(POINTS, "a curve", x="epoch", y="loss", template="linear")
    return Path(render_html([renderer], tmp_path / "out/index.html", html_template=PAGE))


def test_dvc_uses_the_page() -> None:
    """Nobody needs to name it."""
    configured = Config(str(ROOT / ".dvc"))["plots"]["html_template"]
    assert ROOT / ".dvc" / configured == PAGE


def test_nothing_is_fetched(drawn: Path) -> None:
    """All three libraries are inside, with their licence, and no element refers to anything outside."""
    text = drawn.read_text()
    for library in plots_page.LIBRARIES:
        assert library.title in text
    assert (ROOT / plots_page.LICENCE).read_text().strip() in text
    around = re.sub(r"(?<=<script>).*?(?=</script>)", "", text, flags=re.DOTALL)
    assert not re.search(r"<(script|link|img)\b[^>]*\b(src|href)=", around)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to draw with")
def test_a_browser_draws_without_a_network(drawn: Path) -> None:
    """The libraries fit each other and DVC's templates: there is a curve in the end."""
    command = [
        *(str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"),
        *("--host-resolver-rules=MAP * 127.0.0.1", "--virtual-time-budget=10000"),
        f"--user-data-dir={drawn.parent / 'profile'}",
        drawn.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert re.search(r'<canvas[^>]* class="marks"', done.stdout)


def test_a_page_is_not_made_of_what_would_break_it() -> None:
    """A script that ends its own element, or holds one of DVC's places, would ruin the page."""
    made = plots_page.page({"vega 5": "draw()", "vega-lite 5": "translate()"}, "Copyright")
    assert made.index("Copyright") < made.index("draw()") < made.index("translate()")
    assert all(made.count(place) == 1 for place in plots_page.PLACES)
    for script in ("'</script>'", "'{plot_divs}'", "'{scripts}'"):
        with pytest.raises(UserError, match="cannot stand inside a page"):
            plots_page.page({"vega 5": script}, "Copyright")


def test_another_package_than_the_pinned_one_is_refused(tmp_path: Path) -> None:
    """What everybody's browser runs is what was looked at."""
    archive = tmp_path / "vega-5.33.1.tgz"
    with tarfile.open(archive, "w:gz") as files:
        files.addfile(tarfile.TarInfo("package/build/vega.min.js"), io.BytesIO())
    with pytest.raises(UserError, match="do not use it before you know why"):
        plots_page.check(archive, plots_page.LIBRARIES[0])
