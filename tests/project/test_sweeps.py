"""The experiments of the Makefile, as far as the stage's door: nothing is trained."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides, get_hydra_sweeps

from beatline.commands import validate
from beatline.common import params
from benchmarks import mnist
from tests.paths import ROOT

TARGETS = re.findall(r"^(exp-[a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
# Stands in for dvc and beatline: writes down what it is called with; what it is to get is a bundle.
WRITE_DOWN = """#!{python}
import json, pathlib, sys
with open("{calls}", "a") as file:
    file.write(json.dumps(sys.argv) + "\\n")
if sys.argv[1] == "get":
    folder = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
    folder.mkdir()
    (folder / "model.json").write_text(json.dumps({{"weights_sha256": "0" * 64}}))
"""


@pytest.mark.parametrize("target", TARGETS)
def test_what_an_experiment_sets_fits_params_yaml(target: str, tmp_path: Path) -> None:
    """A key of params.yaml that is renamed, left out or no longer merged ends an experiment hours after
    the change, at whoever starts it."""
    calls = _calls(target, tmp_path)
    queued = [call for call in calls if call[1:3] == ["exp", "run"]]
    assert queued
    for call in queued:
        settings = [value for option, value in itertools.pairwise(call) if option == "-S"]
        for settings_of_one in get_hydra_sweeps({"params.yaml": settings}):
            path = tmp_path / "params.yaml"
            shutil.copy(ROOT / "params.yaml", path)
            apply_overrides(path, settings_of_one["params.yaml"])
            validate.validate(params.load(path))


def _calls(target: str, folder: Path) -> list[list[str]]:
    """The commands that `make target` gives to dvc and beatline."""
    calls = folder / "calls"
    (folder / "bin").mkdir()
    for name in ("dvc", "beatline"):
        script = folder / "bin" / name
        script.write_text(WRITE_DOWN.format(python=sys.executable, calls=calls))
        script.chmod(0o755)
    venv = os.path.relpath(folder, ROOT)
    command = ["make", "--silent", f"--old-file={venv}/.ready", f"VENV={venv}"]
    command += [f"PARENT={folder}/parent", target]
    subprocess.run(command, cwd=ROOT, check=True)
    return [json.loads(line) for line in calls.read_text().splitlines()]


def test_an_experiment_changes_the_lines_that_it_names(tmp_path: Path) -> None:
    """DVC writes params.yaml anew for each `-S`. It has the form that DVC gives it, so that a diff shows
    what an experiment changed and nothing else."""
    path = tmp_path / "params.yaml"
    shutil.copy(ROOT / "params.yaml", path)
    apply_overrides(path, ["train.cnn.ptbxl.batch_size=7"])
    before, after = ((each / "params.yaml").read_text().splitlines() for each in (ROOT, tmp_path))
    assert sum(a != b for a, b in zip(before, after, strict=True)) == 1


def test_a_benchmark_trains_what_its_experiment_does() -> None:
    """The cnn of all 70,000 digits, whose filters stand in both."""
    filters = ",".join(map(str, mnist.OURS["cnn"]["filters"]))
    assert f"train.cnn.mnist.architecture.filters=[{filters}]" in (ROOT / "Makefile").read_text()
