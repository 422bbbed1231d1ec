"""`make committed` in a clone without data and cache: it finds what a pull request forgot, and nothing
else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.pipeline.clones import Clone, keep_only, make_clone, make_small

MODELS = ("cnn", "lstm")
METRICS = "reports/metrics/ecg5000/cnn.json"
CURE = "run `dvc repro` and commit dvc.lock and reports/"


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone in which the pipeline has run on one small data set and been committed."""
    made = make_clone(tmp_path_factory.mktemp("clone"), shared_cache=True)
    make_small(made)
    keep_only(made, "ecg5000")
    content = made.params()
    content["train"] = {
        name: block if name in MODELS else {} for name, block in content["train"].items()
    }
    made.set_params(content)
    made.repro()
    made.commit("A small run")
    return made


@pytest.fixture
def fresh(pipeline: Clone, tmp_path: Path) -> Clone:
    """What Git holds of it, and nothing else: no data, no cache."""
    pipeline.run("git", "clone", "--quiet", ".", str(tmp_path / "fresh"))
    return Clone(tmp_path / "fresh")


def test_a_fresh_clone_matches(fresh: Clone) -> None:
    """No data, no cache, and nothing is written."""
    assert _committed(fresh) == "dvc.lock matches: 10 stages\n"
    assert [path.name for path in (fresh.root / "data").iterdir()] == ["README.md"]
    assert fresh.run("git", "status", "--porcelain") == ""


def test_changed_code_is_found(fresh: Clone) -> None:
    """The file is named, and the stages that run it."""
    _append(fresh, "beatline/models/cnn.py", "\n# a remark\n")
    said = _refused(fresh)
    assert "- code has changed: beatline/models/cnn.py" in said
    assert "(stages: train_cnn@ecg5000, evaluate_cnn@ecg5000)" in said
    assert said.count("\n- ") == 1


def test_recordings_that_are_here_are_looked_at(fresh: Clone) -> None:
    """A changed source is found, and one that Git does not hold need not be there."""
    _append(fresh, "heartbeats/ECG5000_TEST.tsv", "\n")
    assert "have changed: heartbeats (stages: download@ecg5000)" in _refused(fresh)
    shutil.rmtree(fresh.root / "heartbeats")
    assert "matches" in _committed(fresh)


def test_a_changed_parameter_is_found(fresh: Clone) -> None:
    """The keys that the stages name are named."""
    content = fresh.params()
    content["train"]["cnn"]["ecg5000"]["optimizer"]["learning_rate"] = 0.002
    fresh.set_params(content)
    said = _refused(fresh)
    assert "- parameters have changed: train.cnn.ecg5000, train" in said
    assert "(stages: train_cnn@ecg5000, report)" in said
    assert said.count("\n- ") == 1


@pytest.mark.parametrize("missing", [False, True], ids=["edited", "missing"])
def test_results_that_no_stage_wrote_are_found(fresh: Clone, missing: bool) -> None:
    """A number that somebody edited, or a file that was not committed."""
    path = fresh.root / METRICS
    path.unlink() if missing else path.write_text(path.read_text().replace("0.", "0.9"))
    assert f"- what is in reports/ is not what the stages wrote: {METRICS}" in _refused(fresh)


def test_an_edited_dvc_yaml_is_found(fresh: Clone) -> None:
    """Another command, another dependency, another output and another stage, each in its words."""
    path = fresh.root / "dvc.yaml"
    text = path.read_text()
    for old, new in (
        ("python -m stages.split ${key}", "python -m stages.split ${key} --fast"),
        ("[stages/report.py, ", "[stages/report.py, stages/split.py, "),
        ("      - reports/report.html\n", "      - reports/report.html\n      - data/other\n"),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    path.write_text(text + "\n  another:\n    cmd: 'true'\n    deps: [params.yaml]\n")
    said = _refused(fresh)
    assert "dvc.lock does not have all that dvc.yaml lists: stages/split.py, data/other" in said
    assert "another" in said
    assert "commands in dvc.yaml have changed: python -m stages.split ecg5000 --fast" in said


def test_a_stage_that_is_no_more_is_found(fresh: Clone) -> None:
    """DVC never removes one from dvc.lock, and goes on to compare its numbers."""
    content = fresh.params()
    content["train"]["cnn"] = {}
    fresh.set_params(content)
    said = _refused(fresh)
    assert "dvc.lock has stages that dvc.yaml does not have" in said
    assert "train_cnn@ecg5000, evaluate_cnn@ecg5000" in said


def test_a_lock_of_two_runs_is_found(fresh: Clone) -> None:
    """Two branches' dvc.lock merge without a conflict, and are no run of anything."""
    path = fresh.root / "dvc.lock"
    model = "    - path: data/models/ecg5000/cnn\n      hash: md5\n      md5: "
    before, _, after = path.read_text().rpartition(model)  # evaluate's, the last that names it
    path.write_text(f"{before}{model}{'0' * 32}{after[32:]}")
    said = _refused(fresh)
    assert "- stages read other files than the stages before them wrote: data/models" in said
    assert "evaluate_cnn@ecg5000" in said


def test_files_that_no_stage_makes_are_found(pipeline: Clone, tmp_path: Path) -> None:
    """What is left of an earlier version in a folder that a stage reads is in no fresh clone."""
    copy = Clone(tmp_path / "copy")
    shutil.copytree(pipeline.root, copy.root, symlinks=True)
    (copy.root / "data/durations/ecg5000/cnn.json").write_text("{}\n")
    copy.repro()
    assert "- stages read files that no stage makes" in (said := _refused(copy))
    assert "data/durations/ecg5000/cnn.json (stages: report)" in said


def test_without_a_lock_it_says_what_to_run(fresh: Clone) -> None:
    """Somebody ignored or forgot dvc.lock."""
    (fresh.root / "dvc.lock").unlink()
    assert _committed(fresh, ok=False) == f"error: dvc.lock is missing: {CURE}\n"


def test_a_merge_conflict_has_a_way_out(pipeline: Clone, tmp_path: Path) -> None:
    """Two branches that change a model each: Git cannot merge dvc.lock and reports/; what the sentence
    says to run leads to results that are of the merged parameters, and match."""
    copy = Clone(tmp_path / "copy")
    shutil.copytree(pipeline.root, copy.root, symlinks=True)
    main = copy.run("git", "branch", "--show-current").strip()
    for model in MODELS:
        copy.run("git", "checkout", "--quiet", "-b", model, main)
        content = copy.params()
        content["train"][model]["ecg5000"]["optimizer"]["learning_rate"] = 0.002
        copy.set_params(content)
        copy.repro()
        copy.commit(f"Another rate for the {model}")
    copy.run("git", "merge", MODELS[0], ok=False)
    said = _committed(copy, ok=False)
    assert "the marks of a merge conflict" in said
    assert f"`git checkout HEAD -- dvc.lock reports`, then {CURE}" in said
    copy.run("git", "checkout", "HEAD", "--", "dvc.lock", "reports")
    assert copy.repro() == {"report"}  # the rest comes from the run cache
    copy.commit("Both")
    assert "matches" in _committed(copy)
    changed = copy.params()["train"]
    assert {changed[model]["ecg5000"]["optimizer"]["learning_rate"] for model in MODELS} == {0.002}


def _append(clone: Clone, name: str, text: str) -> None:
    path = clone.root / name
    path.write_text(path.read_text() + text)


def _refused(clone: Clone) -> str:
    said = _committed(clone, ok=False)
    assert said.startswith(f"error: dvc.lock does not match: {CURE}\n- ")
    assert "Traceback" not in said
    return said


def _committed(clone: Clone, ok: bool = True) -> str:
    return clone.run("python", "-m", "beatline", "committed", ok=ok)
