"""Two branches that differ in one hyperparameter, compared, gated and listed by real runs in a clone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.pipeline.clones import Clone, keep_only, make_clone, make_small

KEY = "train.cnn.ecg5000"


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The branch main trains a cnn; on `seed` it has another seed, on `untrained` it learns nothing, on
    `split` it is tested on other records."""
    clone = make_clone(tmp_path_factory.mktemp("compare") / "project", shared_cache=True)
    make_small(clone)
    keep_only(clone, "ecg5000")
    content = clone.params()
    for model in content["train"].keys() - {"cnn"}:
        content["train"][model] = {}
    content["train"]["cnn"]["ecg5000"] |= {"epochs": 4, "seed": 1}
    content["datasets"]["ecg5000"]["split"] |= {"train": 0.3, "validation": 0.1, "test": 0.6}
    clone.set_params(content)
    clone.repro()
    clone.commit("Trained")
    clone.run("git", "branch", "--move", "main")
    for branch, changed in (
        ("seed", {f"{KEY}.seed": 2}),
        ("untrained", {f"{KEY}.optimizer.learning_rate": 1e-12, f"{KEY}.epochs": 1}),
        ("split", {"datasets.ecg5000.split.seed": 5}),
    ):
        clone.run("git", "checkout", "--quiet", "-b", branch, "main")
        set_parameters(clone, changed)
        clone.repro("evaluate_cnn@ecg5000")
        clone.commit(branch)
    clone.run("git", "checkout", "--quiet", "main")
    clone.run("dvc", "checkout", "--quiet")
    return clone


def set_parameters(clone: Clone, changed: Mapping[str, float]) -> None:
    content = clone.params()
    for key, value in changed.items():
        *blocks, last = key.split(".")
        place = content
        for block in blocks:
            place = place[block]
        assert last in place
        place[last] = value
    clone.set_params(content)


def compare(clone: Clone, *arguments: str, ok: bool = True) -> str:
    return clone.run("python", "-m", "beatline", "compare", *arguments, ok=ok)


def gate(clone: Clone, *arguments: str, ok: bool = True) -> str:
    return clone.run("python", "-m", "beatline", "gate", *arguments, ok=ok)


def test_untrained_is_worse_than_trained(clone: Clone) -> None:
    """A difference that is real gets its verdict, with what was changed; the other way round it is an
    improvement."""
    said = compare(clone, "main", "untrained")
    assert f"parameter {KEY}.optimizer.learning_rate: 0.01 → 1e-12" in said
    assert f"parameter {KEY}.epochs: 4 → 1" in said
    assert "compared record by record" in said
    assert "ecg5000 cnn: worse in auc" in said
    assert "ecg5000 cnn: better in auc" in compare(clone, "untrained", "main")


def test_two_seeds_are_no_difference(clone: Clone) -> None:
    """Luck is not called progress."""
    said = compare(clone, "main", "seed")
    assert f"parameter {KEY}.seed: 1 → 2" in said
    assert "ecg5000 cnn: no evidence of a difference." in said


def test_other_test_records_are_not_comparable(clone: Clone) -> None:
    """Scores on other records are not subtracted, unless one asks for it, and then it is said."""
    said = compare(clone, "main", "split")
    assert "not comparable: other test records" in said
    assert "are only before and" in said
    assert "compared as independent samples (other test records" in compare(
        clone, "main", "split", "--other-records"
    )


def test_gate_is_red_and_green(clone: Clone) -> None:
    """Worse beyond tolerance and chance fails; progress passes, another seed does not fail, and of other
    records it cannot be told, which is said."""
    said = gate(clone, "main", "untrained", ok=False)
    assert said.startswith("**Failed: ecg5000 cnn")
    assert "| failed | ecg5000 | cnn | auc |" in said
    assert "failed" not in gate(clone, "main", "seed")
    assert gate(clone, "main", "split").startswith("**Cannot tell: ecg5000 cnn")
    assert gate(clone, "untrained", "main").startswith("**Passed: ecg5000 cnn")


def test_gate_holds_to_the_tolerance_of_the_base(clone: Clone) -> None:
    """What is worse by less than the tolerance passes, however sure it is; a change cannot loosen what
    it is judged by."""
    for branch, of in (("lenient", "main"), ("loosened", "untrained")):
        clone.run("git", "checkout", "--quiet", "-b", branch, of)
        content = clone.params()
        content["compare"]["tolerance"] = dict.fromkeys(content["compare"]["tolerance"], 1.0)
        clone.set_params(content)
        clone.commit(branch)
    clone.run("git", "checkout", "--quiet", "main")
    assert gate(clone, "lenient", "untrained").startswith("**Passed")
    said = gate(clone, "main", "loosened", ok=False)
    assert "The block compare of params.yaml was changed: the gate holds to main" in said
    clone.run("git", "branch", "--quiet", "-D", "lenient", "loosened")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["gate", ""], "there is no commit, branch, tag or experiment ''"),
        (["gate", "workspace"], "workspace is what is compared with it"),
        (["gate", "main,seed", "untrained,split"], "there is no commit, branch, tag or experiment"),
        (["compare", "main,seed", "untrained,split", "--other-records"], "leave out the options"),
        (["compare", "main,main", "untrained,split"], "a run stands twice"),
        (["compare", "main", "untrained,split"], "give at least two runs on each side"),
    ],
)
def test_gate_does_not_open_for_a_mistake(clone: Clone, command: list[str], words: str) -> None:
    """A variable of CI that is empty is no reason to let a change pass."""
    said = clone.run("python", "-m", "beatline", *command, ok=False)
    assert said.startswith("error: ")
    assert words in said


def test_gate_does_what_the_base_says_where_it_cannot_tell(clone: Clone) -> None:
    """Other test records are no progress. Whether that stops a change is for the base to say, by an exit
    status of its own; no failure and no mistake has it."""
    assert "Not judged: ecg5000 cnn" in gate(clone, "main", "split")
    clone.run("git", "checkout", "--quiet", "-b", "strict", "main")
    content = clone.params()
    content["compare"]["cannot_tell"] = "fail"
    clone.set_params(content)
    clone.commit("strict")
    clone.run("git", "checkout", "--quiet", "main")
    said = clone.run("sh", "-c", "python -m beatline gate strict split; echo status $?")
    assert said.endswith("status 3\n")
    clone.run("git", "branch", "--quiet", "-D", "strict")


def test_compare_and_gate_say_the_same(clone: Clone, tmp_path: Path) -> None:
    """One verdict, one interval: of the terminal, the comment and the gate, the first line is one."""
    first = gate(clone, "main", "untrained", ok=False).partition("\n")[0].strip("*")
    said = compare(clone, "main", "untrained", "--folder", str(tmp_path))
    assert " ".join(said.split()).startswith(first)
    comment = (tmp_path / "comparison.md").read_text().replace("\\", "")
    assert comment.startswith(f"# {first}\n")


def test_workspace_that_was_not_run_is_warned_of(clone: Clone) -> None:
    """Parameters that nobody has trained with are not silently compared by the numbers of others, and the
    gate does not open by them."""
    warning = "warning: the workspace has changes that `dvc repro` has not run"
    assert warning not in compare(clone, "seed")
    set_parameters(clone, {f"{KEY}.seed": 7})
    assert warning in compare(clone, "seed")
    said = gate(clone, "seed", ok=False)
    assert "error: the workspace has changes that `dvc repro` has not run" in said
    assert "Passed" not in said
    clone.run("git", "checkout", "--quiet", "params.yaml")


def test_without_cache_what_git_holds_is_compared(clone: Clone, tmp_path: Path) -> None:
    """In a fresh clone without a cache there are no predictions: intervals are those of independent
    samples, which is said, and the gate still works."""
    fresh = Clone(tmp_path / "fresh")
    clone.run("git", "clone", "--quiet", str(clone.root), str(fresh.root))
    said = compare(fresh, "origin/main", "origin/untrained")
    assert "compared as independent samples (the predictions of origin/main" in said
    assert "ecg5000 cnn: worse in auc" in said
    gate(fresh, "origin/main", "origin/untrained", ok=False)
    gate(fresh, "origin/main", "origin/seed")


def test_page_and_comment_are_written(clone: Clone, tmp_path: Path) -> None:
    """The page embeds its pictures and loads nothing; the comment links to those that Git holds."""
    url = "https://example.invalid/{commit}"
    compare(clone, "main", "untrained", "--folder", str(tmp_path), "--pictures", url)
    page = (tmp_path / "comparison.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert "src=" not in page.replace('src="data:', "")
    comment = (tmp_path / "comparison.md").read_text()
    commit = clone.run("git", "rev-parse", "untrained").strip()
    assert f"https://example.invalid/{commit}/reports/figures/ecg5000/cnn_curves.png" in comment
    assert "worse in auc" in comment


def test_unknown_revision_is_one_sentence(clone: Clone) -> None:
    """A mistyped branch ends in the nearest name and what to look at, not in a traceback."""
    said = compare(clone, "mian", ok=False)
    assert said.startswith("error: there is no commit, branch, tag or experiment 'mian'")
    assert "did you mean main?" in said
    assert len(said.splitlines()) == 1


def test_a_shallow_clone_says_what_it_lacks(clone: Clone, tmp_path: Path) -> None:
    """A base that a clone for CI has left out is no mistyped one."""
    clone.run("git", "clone", "--quiet", "--depth=1", clone.root.as_uri(), str(tmp_path / "one"))
    shallow = Clone(tmp_path / "one")
    assert "git fetch --unshallow" in compare(shallow, "HEAD~1", ok=False)


def test_experiments_are_queued_run_compared_and_listed(clone: Clone) -> None:
    """The queue's runner waits, prints what happens, says where the log of a failed experiment is, and
    leaves the workspace alone; what succeeded is compared by its name and listed in the leaderboard."""
    said = clone.run("python", "-m", "beatline", "run-queue", ok=False)
    assert said == "error: nothing is queued: queue an experiment with `dvc exp run --queue`\n"
    targets = "evaluate_cnn@ecg5000"
    for name, changed in (
        ("again", f"{KEY}.seed=3"),
        ("absurd", f"{KEY}.optimizer.learning_rate=1e12"),
    ):
        clone.run("dvc", "exp", "run", "--queue", "--name", name, "-S", changed, targets)
    said = clone.run("python", "-m", "beatline", "run-queue", ok=False)
    assert re.search(
        r"^again: success after .*, ecg5000 cnn auc [\d.]+ \(auc [\d.]+ before\)", said, re.M
    )
    [failed] = [line for line in said.splitlines() if line.startswith("absurd failed")]
    assert "training diverged" in failed
    log = clone.root / failed.rpartition("its log is ")[2]
    assert "train_cnn@ecg5000" in log.read_text()
    assert clone.run("git", "status", "--porcelain") == ""

    assert f"parameter {KEY}.seed: 1 → 3" in compare(clone, "main", "again")
    clone.run("git", "commit", "--quiet", "--allow-empty", "--message", "Later")
    clone.run("beatline", "experiments", ok=False)
    listed = clone.run("beatline", "experiments", "--since", "HEAD~1")
    clone.run("git", "reset", "--quiet", "HEAD~1")
    assert re.search(r"^ *again ", listed, re.M)
    said = clone.run("python", "-m", "beatline", "leaderboard")
    page = (clone.root / "review/leaderboard.html").read_text()
    for name in ("again", "seed", "untrained", "workspace"):
        assert name in page
    assert "absurd" not in page
    assert "5 results" in said  # main and its experiment, and three branches
    assert "<script src" not in page


def test_runs_are_compared_by_their_means(clone: Clone) -> None:
    """Several runs on each side: the difference of means, each run an observation."""
    said = compare(clone, "main,seed", "untrained,again")
    assert "mean of 2 runs → mean of 2 runs" in said
    assert "auc" in said
