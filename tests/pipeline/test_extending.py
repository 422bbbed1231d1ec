"""What docs/extending.md says, done to the letter in a temporary clone, and experiments with it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

from tests.pipeline.clones import ROOT, Clone, keep_only, make_clone, make_small

PAGE = (ROOT / "docs/extending.md").read_text()


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone in which only ECG5000 is left, to be quick; nothing has run."""
    made = make_clone(tmp_path_factory.mktemp("clone"), shared_cache=True)
    make_small(made)
    keep_only(made, "ecg5000")
    return made


def test_a_data_set_is_added_as_the_page_says(clone: Clone) -> None:
    """A block of params.yaml, and every stage down to the report knows the new data set."""
    dataset, training = _fenced("Add a data set", "yaml")
    write_engines(clone.root / "engines")
    _insert(clone, ["datasets"], dataset.replace("beatline/datasets/ucr/package.yaml", "engines"))
    _insert(clone, ["train", "cnn"], training.replace("epochs: 8", "epochs: 1"))
    _run_commands(clone, "Add a data set")
    metrics = json.loads((clone.root / "reports/metrics/forda/cnn.json").read_text())
    auc = metrics["metrics"][0]
    assert 0 <= auc["low"] <= metrics["auc"] <= auc["high"] <= 1
    assert "## forda" in (clone.root / "reports/report.md").read_text()


def test_a_model_is_added_as_the_page_says(clone: Clone) -> None:
    """A module, two stages and a block, and the new model stands in the comparison."""
    (code,) = _fenced("Add a model", "python")
    (training,) = _fenced("Add a model", "yaml")
    (clone.root / "beatline/models/gru.py").write_text(code)
    _insert(clone, ["train"], training.replace("epochs: 8", "epochs: 1"))
    _run_commands(clone, "Add a model")
    assert (clone.root / "data/models/ecg5000/gru/weights.safetensors").is_file()
    assert "gru" in (clone.root / "reports/report.md").read_text()
    module = clone.root / "beatline/models/gru.py"
    module.write_text(module.read_text() + "\n# a remark\n")
    ran = clone.repro()
    assert ran == {"train_gru@ecg5000", "evaluate_gru@ecg5000", "report"}


def test_a_metric_is_added_as_the_page_says(clone: Clone) -> None:
    """A formula and two lines, and it has an interval and can be compared."""
    before = {path: path.read_text() for path in (clone.root / "beatline").rglob("*.py")}
    formula, computed, told = _fenced("Add a metric", "python")
    evaluation = clone.root / "beatline/evaluation"
    _put(clone.root / "beatline/metrics.py", "\ndef accuracy(", f"\n{formula}\n\ndef accuracy(")
    _put(evaluation / "bootstrap.py", "RATES = {\n", f"RATES = {{\n{computed}")
    _put(evaluation / "measures.py", "MEASURES = {\n", f"MEASURES = {{\n{told}")
    _run_commands(clone, "Add a metric")
    metrics = json.loads((clone.root / "reports/metrics/ecg5000/cnn.json").read_text())
    found = {row["metric"]: row for row in metrics["metrics"]}["balanced_accuracy"]
    assert 0 <= found["low"] <= found["value"] <= found["high"] <= 1
    content = clone.params()
    content["compare"]["metrics"].append("balanced_accuracy")
    clone.set_params(content)
    clone.run("beatline", "validate")
    content["compare"]["metrics"].remove("balanced_accuracy")
    clone.set_params(content)
    for path, text in before.items():
        path.write_text(text)
    clone.repro("evaluate_cnn@ecg5000")


def test_experiments_and_plots_work(clone: Clone) -> None:
    """`dvc exp run -S`, `exp show`, `plots show` and `plots diff` do what docs/experiments.md says."""
    clone.commit("A data set and a model more")
    changed = "train.cnn.ecg5000.optimizer.learning_rate=0.001"
    out = clone.run("dvc", "exp", "run", "-S", changed, "--name", "slower")
    assert "train_cnn@ecg5000" in out
    assert "train_lstm@ecg5000" not in out.replace("Stage 'train_lstm@ecg5000' didn't change", "")
    assert "slower" in clone.run("dvc", "exp", "show", "--csv")
    clone.run("dvc", "plots", "show", "--out", "shown")
    clone.run("dvc", "plots", "diff", "HEAD", "--out", "compared")
    for folder in ("shown", "compared"):
        page = (clone.root / folder / "index.html").read_text()
        for kind in ("loss", "auc", "roc", "precision_recall", "confusion", "scores"):
            assert f"reports/plots/{kind}/ecg5000.csv".replace("/", "_") in page.replace("/", "_")
        shutil.rmtree(clone.root / folder)


def write_engines(folder: Path) -> None:
    """A data set in the format of FordA: 120 series of 100 samples, labelled -1 and 1."""
    folder.mkdir()
    draw = np.random.default_rng(1)
    for part, count in (("TRAIN", 80), ("TEST", 40)):
        labels = 1 - 2 * (np.arange(count) % 2)
        series = np.sin(np.arange(100) / (3 + labels[:, None])) + draw.normal(0, 0.3, (count, 100))
        np.savetxt(folder / f"FordA_{part}.tsv", np.column_stack([labels, series]), fmt="%.5f")


def _put(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def _section(heading: str) -> str:
    return PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def _fenced(heading: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", _section(heading), re.M | re.S)


def _run_commands(clone: Clone, heading: str) -> None:
    """The indented lines of a section, as a user would paste them into a shell."""
    without_fences = re.sub(r"^```.*?^```", "", _section(heading), flags=re.M | re.S)
    commands = re.findall(r"^    (.+)$", without_fences, re.M)
    assert "dvc repro" in commands[-1]
    clone.run("bash", "-e", "-c", "\n".join(commands))


def _insert(clone: Clone, place: list[str], text: str) -> None:
    """Add the page's lines of YAML, which are indented as they stand, below `place`."""
    content = clone.params()
    block = content
    for key in place:
        block = block[key]
    added = YAML(typ="safe").load(text)
    assert not added.keys() & block.keys()
    block |= added
    clone.set_params(content)
