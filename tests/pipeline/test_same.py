"""`make same` in a clone: a refactoring is recorded and trains nothing; a change of a number is found."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.pipeline.clones import Clone, keep_only, make_clone, make_small

MODELS = ("cnn", "lstm")
SMALL = {"set": {"evaluate.resamples": 100}, "leave_out": []}
SAME = ("python", "-m", "beatline", "same", "main")


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone in which the pipeline has run on one small data set and been committed."""
    made = make_clone(tmp_path_factory.mktemp("clone"))
    make_small(made)
    keep_only(made, "ecg5000")
    content = made.params()
    content["train"] = {
        name: block if name in MODELS else {} for name, block in content["train"].items()
    }
    content["evaluate"]["resamples"] = 200  # where small.yaml says 100
    made.set_params(content)
    with (made.root / "small.yaml").open("w") as file:
        YAML().dump(SMALL, file)
    made.run("git", "checkout", "--quiet", "-b", "main")
    made.commit("A small project")
    made.repro()
    made.commit("A small run")
    return made


@pytest.fixture
def checkout(pipeline: Clone, tmp_path: Path) -> Clone:
    """A copy of it, data included, with the same cache: what one test runs, the next does not."""
    shutil.copytree(pipeline.root, tmp_path / "checkout", symlinks=True)
    copy = Clone(tmp_path / "checkout")
    copy.run("dvc", "cache", "dir", "--local", str(pipeline.root / ".dvc/cache"))
    return copy


def replace(clone: Clone, name: str, old: str, new: str) -> None:
    path = clone.root / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_refactoring_is_recorded_and_runs_nothing(checkout: Clone) -> None:
    """A function of a module that every stage uses gets another name: everything would run again, and
    after recording nothing does, with the outputs as they were."""
    replace(checkout, "beatline/common/files.py", "_remove(", "_clear(")
    assert len(checkout.would_run()) == 10
    before = checkout.outputs()
    checkout.run(*SAME, "--commit")
    assert checkout.would_run() == set()
    assert "up to date" in checkout.run("dvc", "status")
    assert "matches" in checkout.run("python", "-m", "beatline", "committed")
    assert checkout.outputs() == before
    changed = checkout.run("git", "diff", "--name-only").split()
    assert set(changed) == {"beatline/common/files.py", "dvc.lock"}
    assert not list((checkout.root / ".dvc/tmp").glob("same-*/"))


def test_what_is_not_shown_to_be_the_same_is_not_recorded(checkout: Clone) -> None:
    """Of two models one computes something else: it, its evaluation and the report are named, and run.
    The other, whose module was only given a remark, is recorded. Its evaluation is not, though it is the
    same in the small run, which hides a changed parameter: small.yaml sets it."""
    replace(checkout, "beatline/models/cnn.py", "nn.ReLU()", "nn.LeakyReLU(0.1)")
    replace(checkout, "beatline/models/lstm.py", "from __future__", "# a remark\nfrom __future__")
    replace(checkout, "params.yaml", "resamples: 200", "resamples: 300")
    kept = checkout.root / "kept"
    printed = checkout.run(*SAME, "--commit", "--keep", str(kept), ok=False)
    assert "Traceback" not in printed
    (line,) = [line for line in printed.splitlines() if line.startswith("different: ")]
    assert line == "different: train_cnn, evaluate_cnn, report"
    assert "data/models/ecg5000/cnn/weights.safetensors" in printed
    assert "data/models/ecg5000/lstm" not in printed
    (line,) = [line for line in printed.splitlines() if line.startswith("not recorded: ")]
    assert "evaluate_lstm@ecg5000" in line and "resamples" in line
    evaluations = {f"evaluate_{model}@ecg5000" for model in MODELS}
    assert checkout.would_run() == {"train_cnn@ecg5000", *evaluations, "report"}
    for name in ("base", "workspace"):
        assert (kept / name / "data/models/ecg5000/cnn/model.json").is_file()


def test_results_that_are_not_those_of_the_lock_are_not_recorded(checkout: Clone) -> None:
    """Else somebody's edited or lost file would become the result of the code."""
    replace(checkout, "beatline/common/files.py", "_remove(", "_clear(")
    lock = (checkout.root / "dvc.lock").read_text()
    model = checkout.root / "data/models/ecg5000/lstm"
    shutil.rmtree(model)
    assert "data/models/ecg5000/lstm" in checkout.run(*SAME, "--commit", ok=False)
    checkout.run("dvc", "checkout")
    assert model.is_dir()
    metrics = "reports/metrics/ecg5000/cnn.json"
    replace(checkout, metrics, "0.", "0.9")
    printed = checkout.run(*SAME, "--commit", ok=False)
    assert metrics in printed
    assert (checkout.root / "dvc.lock").read_text() == lock


def test_a_base_without_its_own_results_records_nothing(checkout: Clone) -> None:
    """Code was committed without `dvc repro`: nobody knows what made the numbers."""
    replace(checkout, "beatline/common/files.py", "_remove(", "_clear(")
    checkout.commit("Without a run")
    printed = checkout.run(*SAME[:-1], "HEAD", "--commit", ok=False)
    assert "beatline/common/files.py" in printed
    assert checkout.run("git", "status", "--porcelain") == ""


def test_a_run_that_fails_shows_why(checkout: Clone) -> None:
    """Which of the two it was, and the error itself, without a search for a log."""
    replace(checkout, "stages/download.py", "def main(", "raise SystemExit('not today')\ndef main(")
    printed = checkout.run(*SAME, ok=False)
    assert "the workspace" in printed and "not today" in printed
    assert "Traceback" not in printed
