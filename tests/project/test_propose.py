"""What `beatline retrain` has made reaches a pull or merge request once, from a job that holds no code of
anybody else's."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from base64 import b64encode
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from tests.paths import ROOT

BRANCH = "retrain/ecg5000/cnn/2026-03-02"
REPORT = f"reports/retraining/{BRANCH.removeprefix('retrain/')}/comparison.md"
HOSTS = {
    "github": {
        "GH_TOKEN": "secret",
        "GITHUB_REPOSITORY": "team/project",
        "url": "https://x-access-token@github.com/team/project.git",
    },
    "gitlab": {
        "WATCH_TOKEN": "secret",
        "CI_SERVER_HOST": "git.example",
        "CI_PROJECT_PATH": "team/project",
        "CI_PROJECT_ID": "7",
        "url": "https://oauth2@git.example/team/project.git",
    },
}


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b.invalid", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout with the script, whose origin is a bare repository beside it."""
    folder = tmp_path / "project"
    (folder / ".ci").mkdir(parents=True)
    shutil.copy(ROOT / ".ci/propose.sh", folder / ".ci")
    git(folder, "init", "--quiet", "--initial-branch", "main")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "begin")
    git(tmp_path, "clone", "--quiet", "--bare", "project", "host.git")
    git(tmp_path / "host.git", "config", "receive.advertisePushOptions", "true")
    return folder


@contextmanager
def gitlab(requested: Collection[str]) -> Iterator[str]:
    """The address of GitLab's API, which has merge requests of these branches, in whatever state."""

    class Api(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            asked = parse_qs(query)
            known = (
                path == "/projects/7/merge_requests" and self.headers["PRIVATE-TOKEN"] == "secret"
            )
            self.send_response(200 if known and asked.get("state", ["all"]) == ["all"] else 404)
            self.end_headers()
            [branch] = asked["source_branch"]
            self.wfile.write(b'[{"iid":1}]' if branch in requested else b"[]")

    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def propose(folder: Path, host: str, at: str | None = None, requested: Collection[str] = ()) -> int:
    """Run the script where the host's address leads to the repository beside it, or to `at`; `gh` writes
    down what it is told, git and curl how they are called. Return the exit status."""
    with gitlab(requested) as api:
        return _propose(folder, {**HOSTS[host], "CI_API_V4_URL": api}, host, at)


def _propose(folder: Path, settings: dict[str, str], host: str, at: str | None) -> int:
    url, place = settings.pop("url"), at or folder.parent / "host.git"
    programs = folder.parent / "bin"
    programs.mkdir(exist_ok=True)
    (programs / "gh").write_text(
        f"""#!/bin/sh
if [ "$2" = list ]; then [ ! -e {folder.parent}/gh ] || echo 1; exit; fi
echo "$@" >> {folder.parent}/gh
cat >> {folder.parent}/gh
"""
    )
    for name in ("git", "curl"):
        (programs / name).write_text(
            f'#!/bin/sh\necho "$@" >> {folder.parent}/calls\nexec {shutil.which(name)} "$@"\n'
        )
    for program in programs.iterdir():
        program.chmod(0o755)
    environment = {
        **os.environ,
        **settings,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{place}.insteadOf",
        "GIT_CONFIG_VALUE_0": url,
    }
    return subprocess.run([".ci/propose.sh", host], cwd=folder, env=environment).returncode


def packed(project: Path, branch: str = BRANCH) -> str:
    """Make a branch with a report, and pack it; return its commit."""
    git(project, "checkout", "--quiet", "-b", branch)
    report = project / REPORT.replace(BRANCH[-10:], branch[-10:])
    report.parent.mkdir(parents=True)
    report.write_text("# ecg5000/cnn version 2 against the champion: passed\n\nall of it\n")
    git(project, "add", ".")
    git(project, "commit", "--quiet", "--message", "a challenger")
    head = git(project, "rev-parse", "HEAD").strip()
    git(project, "checkout", "--quiet", "main")
    subprocess.run([".ci/propose.sh", "pack"], cwd=project, check=True)
    return head


@pytest.mark.parametrize("host", HOSTS)
def test_a_branch_is_proposed_once(project: Path, host: str) -> None:
    """With its commits and its report; a second schedule says nothing more of it."""
    head = packed(project)
    other = project.parent / "other"
    git(project.parent, "clone", "--quiet", "host.git", "other")
    shutil.copytree(project / "review", other / "review")
    for _ in range(2):
        assert propose(other, host) == 0
    assert git(project.parent / "host.git", "rev-parse", BRANCH).strip() == head
    told = project.parent / "gh"
    if host == "github":
        assert (
            told.read_text().count("version 2 against the champion: passed") == 2
        )  # and the report
        assert told.read_text().count("all of it") == 1


def test_what_was_merged_or_closed_is_not_opened_again(project: Path) -> None:
    """By a runner that keeps its checkout from night to night, where the host has deleted the branch."""
    packed(project)
    runner, host = project.parent / "runner", project.parent / "host.git"
    git(project.parent, "clone", "--quiet", "host.git", "runner")
    shutil.copytree(project / "review", runner / "review")
    assert propose(runner, "gitlab") == 0
    git(host, "update-ref", "-d", f"refs/heads/{BRANCH}")
    later = BRANCH[:-2] + "09"
    packed(project, later)  # with the one of before, as in a checkout that is kept as well
    shutil.copytree(project / "review", runner / "review", dirs_exist_ok=True)
    assert propose(runner, "gitlab", requested={BRANCH}) == 0
    assert git(host, "branch", "--list", "retrain/*").split() == [later]
    git(host, "update-ref", "-d", f"refs/heads/{later}")
    git(project, "branch", "-D", BRANCH, later)
    last = BRANCH[:-2] + "16"
    packed(project, last)
    shutil.copytree(project / "review", runner / "review", dirs_exist_ok=True)
    assert propose(runner, "gitlab") == 0
    assert git(host, "branch", "--list", "retrain/*").split() == [last]


@pytest.mark.parametrize("host", HOSTS)
def test_the_token_is_shown_to_the_host_alone(project: Path, host: str) -> None:
    """It signs in, and stands in no command, which every process of the machine can read."""
    packed(project)
    user = HOSTS[host]["url"].partition("@")[0].removeprefix("https://")
    expected = f"Basic {b64encode(f'{user}:secret'.encode()).decode()}"
    signed_in = []

    class Host(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            signed_in.append(self.headers.get("Authorization") == expected)
            self.send_response(404 if signed_in[-1] else 401)
            self.send_header("WWW-Authenticate", 'Basic realm="host"')
            self.end_headers()

    with ThreadingHTTPServer(("127.0.0.1", 0), Host) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert propose(project, host, f"http://{user}@127.0.0.1:{server.server_port}/x.git") != 0
        server.shutdown()
    assert any(signed_in)
    assert "secret" not in (project.parent / "calls").read_text()


def test_nothing_is_proposed_of_nothing(project: Path) -> None:
    """Without drift there is no branch, and the second job does nothing."""
    subprocess.run([".ci/propose.sh", "pack"], cwd=project, check=True)
    assert propose(project, "github") == 0
    assert not (project.parent / "gh").exists()
