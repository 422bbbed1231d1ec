"""Workflows cannot be run here; what can be known of them is: they fit the providers' schemas, each of
their steps is a make target that exists, and none gives a stranger's code the right to write."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

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
    "path",
    [path for path in (*WORKFLOWS, GITLAB) if path.stem not in ("comment", "watch")],
    ids=_name,
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
    """Only GitHub's own actions and ours. A tag can be moved to other code, a commit cannot; the version
    beside it is for people, and for Dependabot."""
    for uses in re.findall(r"uses: (.+)", path.read_text()):
        pinned = r"actions/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+|\./\.github/actions/[a-z-]+"
        assert re.fullmatch(pinned, uses), uses


def test_an_action_has_one_version() -> None:
    """A commit that stands in several files is changed in all of them."""
    text = "".join(path.read_text() for path in (*WORKFLOWS, *ACTIONS))
    pins = set(re.findall(r"uses: (actions/[a-z-]+)(@.+)", text))
    assert len({name for name, _ in pins}) == len(pins) >= 4


@pytest.mark.parametrize("path", WORKFLOWS, ids=_name)
def test_no_stranger_may_write(path: Path) -> None:
    """What may write runs no code of a pull request; what runs its code may only read, and finds no token
    in the checkout. Texts that a stranger chooses (titles, names of branches) are in no script."""
    content = YAML(typ="safe").load(path.read_text())
    assert content["permissions"] == {}, "each job names what it needs"
    assert "pull_request_target" not in content["on"]
    for job in content["jobs"].values():
        checkouts = [step["with"] for step in job["steps"] if "checkout" in step.get("uses", "")]
        assert all(checkout["persist-credentials"] is False for checkout in checkouts)
        assert not any("${{" in step.get("run", "") for step in job["steps"])
        if "write" in job["permissions"].values() and "schedule" in content["on"]:
            assert set(content["on"]) == {"schedule", "workflow_dispatch"}
            runs = [step["run"] for step in job["steps"] if "run" in step]
            assert runs == [".ci/propose.sh github"], "nothing that it fetched is run"
        elif "schedule" in content["on"]:  # of the default branch, and no stranger's
            assert job["permissions"] == {"contents": "read"} and job["environment"] == "watch"
        elif "write" in job["permissions"].values():
            assert set(content["on"]) == {"workflow_run"}, "the default branch's workflow"
            default = "${{ github.event.repository.default_branch }}"
            assert [checkout["ref"] for checkout in checkouts] == [default]
            runs = [step["run"] for step in job["steps"] if "run" in step]
            assert runs == ["python3 .ci/comment.py github"], "nothing that it fetched is run"
        else:
            assert job["permissions"] == {"contents": "read"}
            assert "github.token" not in str(job) and "secrets." not in str(job)


def test_a_cache_that_is_read_is_filled() -> None:
    """By the workflow of the default branch: what is scheduled finds its trained models there."""
    named = {
        path.stem: set(re.findall(r"^ +cache: (\w+)", path.read_text(), re.MULTILINE))
        for path in WORKFLOWS
    }
    for job in YAML(typ="safe").load(ROOT / ".github/workflows/main.yml")["jobs"].values():
        for step in job["steps"]:
            if "cache" in step.get("with", {}):
                assert "make repro" in str(job), "whoever names one has the pipeline run"
    assert named["watch"] == {"full"} and set().union(*named.values()) == named["main"]


def test_gitlab_gives_merge_requests_no_token() -> None:
    """The job that posts is in no pipeline of a merge request, where its code would be the stranger's; it
    runs one script of the default branch, without a cache that a merge request could have filled."""
    content = YAML(typ="safe").load(GITLAB.read_text())
    comment = content["comment"]
    (rule,) = comment["rules"]
    scheduled = '$CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH && $CI_PIPELINE_SOURCE == "schedule"'
    assert rule["if"] == f"{scheduled} && $WATCHED == null"
    for name in ("watch", "propose"):
        assert content[name]["rules"] == [{"if": f"{scheduled} && $WATCHED"}]
        assert content[name]["cache"] == []
    assert "WATCH_TOKEN" not in str(content)
    assert comment["script"] == ["python3 .ci/comment.py gitlab"]
    assert comment["cache"] == comment["before_script"] == []
    assert "REVIEW_TOKEN" not in str(content)
    for name in ("check", "test", "review", "results"):
        conditions = content[name].get("rules") or content[content[name]["extends"]]["rules"]
        assert all(
            "schedule" in str(each) or "merge_request_event" in str(each) for each in conditions
        )


@pytest.mark.parametrize("path", [*SCHEMAS, ROOT / "Dockerfile", ROOT / "compose.yaml"], ids=_name)
def test_no_second_index_is_asked_for_every_package(path: Path) -> None:
    """Who owns a name there could give a package that is meant to come from the first."""
    assert "EXTRA_INDEX" not in path.read_text()


def _without_comments(path: Path) -> str:
    return re.sub(r"^\s*#.*$", "", path.read_text(), flags=re.MULTILINE)
