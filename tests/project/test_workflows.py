"""Workflows cannot be run here; what can be known of them is: they fit the providers' schemas, each of
their steps is a make target that exists, and none gives a stranger's code the right to write."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from ruamel.yaml import YAML

from tests.paths import ROOT

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
ACTIONS = sorted((ROOT / ".github/actions").glob("*/action.yml"))
GITLAB = ROOT / ".gitlab-ci.yml"
SCHEMAS = {
    **dict.fromkeys(WORKFLOWS, "vendor.github-workflows"),
    **dict.fromkeys(ACTIONS, "vendor.github-actions"),
    GITLAB: "vendor.gitlab-ci",
}
TARGETS = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SCHEMAS, ids=_name)
def test_fits_the_providers_schema(path: Path) -> None:
    """A key that the provider does not know is found before a push."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", SCHEMAS[path], path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", SCHEMAS, ids=_name)
def test_every_make_target_exists(path: Path) -> None:
    """A renamed target would break a workflow that nobody runs here."""
    called = re.findall(r"\bmake(?: --silent)? ([a-z-]+)", _without_comments(path))
    assert set(called) <= TARGETS
    assert called or path.stem == "comment"


@pytest.mark.parametrize("path", [GITLAB, ROOT / ".github/workflows/pull-request.yml"], ids=_name)
def test_a_pull_request_goes_through_every_check(path: Path) -> None:
    """Installation, tests, dvc.lock, a small run, the comparison and the gate."""
    text = _without_comments(path)
    for target in ("check", "test", "committed", "repro-small", "compare", "gate"):
        assert re.search(rf"\bmake(?: --silent)? {target}\b", text), target


@pytest.mark.parametrize("path", WORKFLOWS, ids=_name)
def test_models_are_made_with_the_whole_history(path: Path) -> None:
    """A shallow clone does not know the revision that a model records, nor one to compare with."""
    for name, job in YAML(typ="safe").load(path)["jobs"].items():
        if re.search(r"make (repro|compare|committed)", str(job)):
            (checkout,) = [step for step in job["steps"] if "checkout" in step.get("uses", "")]
            assert checkout["with"]["fetch-depth"] == 0, name


@pytest.mark.parametrize(
    "path", [path for path in (*WORKFLOWS, GITLAB) if path.stem != "comment"], ids=_name
)
def test_tests_run_on_every_python_that_is_promised(path: Path) -> None:
    """Those that the package's classifiers name, from the oldest on."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    promised = re.findall(r"Python :: (3\.\d+)", " ".join(project["classifiers"]))
    assert project["requires-python"] == f">={promised[0]}"
    content = YAML(typ="safe").load(path.read_text())
    if path == GITLAB:
        (matrix,) = content["test"]["parallel"]["matrix"]
        assert content["test"]["script"] == ["make test"]
    else:
        job = content["jobs"]["test"]
        matrix = job["strategy"]["matrix"]
        assert job["steps"][-1] == {"run": "make test"}
    assert list(matrix.values()) == [promised]


@pytest.mark.parametrize("path", [*WORKFLOWS, *ACTIONS], ids=_name)
def test_actions_are_pinned(path: Path) -> None:
    """Only GitHub's own actions and ours, each at a major version."""
    for uses in re.findall(r"uses: (.+)", _without_comments(path)):
        assert re.fullmatch(r"actions/[a-z-]+@v\d+|\./\.github/actions/[a-z-]+", uses), uses


@pytest.mark.parametrize("path", WORKFLOWS, ids=_name)
def test_no_stranger_may_write(path: Path) -> None:
    """What may write runs no code of a pull request; what runs its code may only read. Texts that a
    stranger chooses (titles, names of branches) are in no script."""
    content = YAML(typ="safe").load(path.read_text())
    steps = [step for job in content["jobs"].values() for step in job["steps"]]
    writes = "write" in content["permissions"].values()
    assert not (writes and any("uses" in step for step in steps))
    assert not (writes and "pull_request" in content["on"])
    assert "pull_request_target" not in content["on"]
    assert all("permissions" not in job for job in content["jobs"].values())
    for step in steps:
        assert "${{" not in step.get("run", "")


def _without_comments(path: Path) -> str:
    return re.sub(r"^\s*#.*$", "", path.read_text(), flags=re.MULTILINE)


class Notes(HTTPServer):
    """The part of GitLab that keeps the comments of one merge request."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.notes: dict[int, str] = {1: "What a person wrote"}


class _Handler(BaseHTTPRequestHandler):
    @property
    def kept(self) -> dict[int, str]:
        assert isinstance(self.server, Notes)
        return self.server.notes

    def do_GET(self) -> None:
        self._answer([{"id": number, "body": body} for number, body in self.kept.items()])

    def do_POST(self) -> None:
        self._write(max(self.kept) + 1)

    def do_PUT(self) -> None:
        self._write(int(urlsplit(self.path).path.rsplit("/", 1)[1]))

    def _write(self, number: int) -> None:
        sent = self.rfile.read(int(self.headers["Content-Length"])).decode()
        (self.kept[number],) = parse_qs(sent)["body"]
        self._answer({"id": number})

    def _answer(self, content: Any) -> None:
        right = self.path.startswith("/projects/7/merge_requests/3/notes")
        self.send_response(200 if right and self.headers["PRIVATE-TOKEN"] == "secret" else 404)
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the tests' output stays readable."""


@pytest.fixture
def gitlab() -> Iterator[Notes]:
    with Notes() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_gitlab_has_one_comment_that_is_updated(gitlab: Notes, tmp_path: Path) -> None:
    """The second run edits what the first one posted, and no comment of a person's."""
    text = tmp_path / "comparison.md"
    for content in ("## First & 50 %", "## Second"):
        text.write_text(content + "\n")
        _comment(text, gitlab.server_port, REVIEW_TOKEN="secret")
        assert len(gitlab.notes) == 2
        assert gitlab.notes[2].endswith(f"-->\n{content}\n")
    assert gitlab.notes[1] == "What a person wrote"


def test_gitlab_without_a_token_says_so(gitlab: Notes, tmp_path: Path) -> None:
    """A fork's pipeline goes on: the comparison is an artifact."""
    assert "REVIEW_TOKEN is not set" in _comment(tmp_path / "comparison.md", gitlab.server_port)
    assert len(gitlab.notes) == 1


def _comment(path: Path, port: int, **variables: str) -> str:
    environment = {
        "PATH": os.environ["PATH"],
        "CI_API_V4_URL": f"http://127.0.0.1:{port}",
        "CI_MERGE_REQUEST_PROJECT_ID": "7",
        "CI_MERGE_REQUEST_IID": "3",
        **variables,
    }
    command = ["sh", str(ROOT / ".gitlab/comment.sh"), str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
