"""Pages for people: what they link to and the commands that they name exist, the README is short and its
map complete, and versions and hooks agree with the files that decide them."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token
from ruamel.yaml import YAML

from beatline.cli import COMMANDS
from tests.paths import ROOT
from tests.project.test_rooms import ROOMS

README = ROOT / "README.md"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "data/README.md")),
    *sorted(ROOT.glob("docs/*.md")),
]
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.MULTILINE))
# By a recipe, or by a run.
MADE = {
    "beatline/models/gru.py",
    "reports/report.html",
    "reports/changes.js",
    "reports/cards/ptbxl.jsonld",
    "reports/drift/",
    "reports/retraining/",
}
MADE |= {"deploy/prometheus/token", "deploy/grafana/password"}  # by who runs the containers
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SCHEMAS = {
    "CITATION.cff": "citation-file-format",
    ".github/dependabot.yml": "dependabot",
    ".github/ISSUE_TEMPLATE/bug.yml": "github-issue-forms",
    ".github/ISSUE_TEMPLATE/feature.yml": "github-issue-forms",
    ".github/ISSUE_TEMPLATE/config.yml": "github-issue-config",
}


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _tokens(page: Path) -> Iterator[Token]:
    for token in MarkdownIt("commonmark").enable("table").parse(page.read_text()):
        yield token
        yield from token.children or ()


def _code(page: Path) -> list[str]:
    """Lines of code blocks, and code within sentences."""
    kinds = ("fence", "code_block", "code_inline")
    blocks = [token.content for token in _tokens(page) if token.type in kinds]
    return [line.strip() for block in blocks for line in block.splitlines()]


def _anchors(page: Path) -> set[str]:
    """The names by which GitHub and GitLab link to the headings of a page."""
    tokens = list(_tokens(page))
    pairs = itertools.pairwise(tokens)
    headings = [after.content for token, after in pairs if token.type == "heading_open"]
    return {
        re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings
    }


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_link_leads_somewhere(page: Path) -> None:
    """A file that was moved, or a heading that was reworded, leaves no reader in front of nothing."""
    links = [str(token.attrs["href"]) for token in _tokens(page) if token.type == "link_open"]
    for link in links:
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target), link


def test_every_page_is_linked_from_the_readme() -> None:
    """A page that nobody comes across is not read."""
    readme = README.read_text()
    assert {page for page in PAGES if f"]({_name(page)}" not in readme} == {README}


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_command_exists(page: Path) -> None:
    """A reader who pastes `make …`, `beatline …` or `python -m …` gets what the page says."""
    for line in _code(page):
        for words in re.findall(r"(?:^|&& )make\b([^#|&]*)", line):
            named = [word for word in words.split() if re.fullmatch(r"[a-z][a-z-]*", word)]
            assert set(named) <= TARGETS, line
        for command in re.findall(r"(?:^|&& |python -m )beatline ([a-z][a-z-]*)", line):
            assert command in COMMANDS, line
        for module in re.findall(r"python -m ((?:benchmarks|beatline|stages|tests)[\w.]*)", line):
            path = ROOT / module.replace(".", "/")
            assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), line


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_path_exists(page: Path) -> None:
    """Code that is named in a sentence is found where the page says, after a move too."""
    folders = r"(?:beatline|stages|tests|benchmarks|deploy|docs|reports|\.github|\.gitlab|\.ci)"
    pattern = re.compile(rf"(?<![\w/.]){folders}/[\w./-]*")
    named = {path for line in _code(page) for path in pattern.findall(line)} - MADE
    assert not {path for path in named if not (ROOT / path).exists()}


def test_the_readme_is_short() -> None:
    """Two screens: whoever wants more reads on in docs/."""
    assert len(README.read_text().splitlines()) <= 150


def test_the_map_is_complete() -> None:
    """Every folder of the project, and every room of beatline/ in the order of test_rooms.py."""
    section = README.read_text().split("\n## Map\n")[1].split("\n## ")[0]
    lines = re.findall(r"^    ( *)(\S+)", section, re.MULTILINE)
    rooms = [name.rstrip("/").removesuffix(".py") for indent, name in lines if indent]
    assert rooms == [room for room in ROOMS if room != "cli"]
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout
    folders = {f"{name.partition('/')[0]}/" for name in files.splitlines() if "/" in name}
    assert folders <= {name for indent, name in lines if not indent}


def test_versions_agree() -> None:
    """A release is the same in the package, the citation and the list of changes."""
    citation = YAML(typ="safe").load((ROOT / "CITATION.cff").read_text())
    releases = re.findall(
        r"^## \[(\d\S*)\] - (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    assert releases[0] == (citation["version"], citation["date-released"])
    assert citation["version"] == PROJECT["version"]


@pytest.mark.parametrize("path", SCHEMAS)
def test_fits_its_schema(path: str) -> None:
    """A key that GitHub or a reader of citations does not know is found before a push."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema"]
    done = subprocess.run(
        [*command, f"vendor.{SCHEMAS[path]}", ROOT / path], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_hooks_are_the_checks_of_make_check() -> None:
    """Who commits with pre-commit is told what CI would say, by the same tools."""
    recipe = re.search(r"^check:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    assert recipe
    hooks = YAML(typ="safe").load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repository["repo"] for repository in hooks] == ["local"]
    entries = " ".join(hook["entry"] for hook in hooks[0]["hooks"])
    for line in recipe[1].splitlines():
        assert f".venv/bin/{line.strip().removesuffix(' .')}" in entries


def test_merge_requests_ask_what_pull_requests_ask() -> None:
    """Two templates, one list."""
    ours = (ROOT / ".github/pull_request_template.md").read_text()
    assert (ROOT / ".gitlab/merge_request_templates/default.md").read_text() == ours


def test_every_promise_of_security_names_its_tests() -> None:
    """A promise that nothing holds is a hope: each row of the tables ends with files of tests."""
    rows = re.findall(
        r"^\| (.+) \| (.+) \|$", (ROOT / "docs/security.md").read_text(), re.MULTILINE
    )
    promises = [row for row in rows if row[0] != "promise"]
    assert len(promises) > 10
    for promise, tests in promises:
        assert re.fullmatch(r"(`tests/[\w/]+\.py`(, )?)+", tests), promise
