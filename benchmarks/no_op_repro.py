"""The cost of a `dvc repro` with nothing to do, beside DVC's own share of it.

`python -m benchmarks.no_op_repro` takes about a minute.
Two projects are made in a temporary folder, neither of which runs a stage: a copy of this one, every
output of which is a small file or folder that `dvc commit` records, and one of as many stages that are
trivial (a file in, a file out). The time of `dvc repro` in each is the median of several runs, in turn.
The aim is 1.5 times. What keeps it from there is that DVC reads params.yaml anew for every stage.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ruamel.yaml import YAML

RUNS = 7
AIM = 1.5  # times
COPIED = (
    "beatline",
    "stages",
    "params.yaml",
    "dvc.yaml",
    ".dvc/config",
    ".dvc/plots",
    ".dvcignore",
)
FILES_OF_A_FOLDER = 3  # of an output that is a folder


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="no-op-") as scratch:
        project, trivial = Path(scratch) / "project", Path(scratch) / "trivial"
        stages = copy_of_the_project(project)
        trivial_stages(trivial, stages)
        for folder in (project, trivial):
            dvc(folder, "commit", "--force", "--quiet")
            if "up to date" not in dvc(folder, "repro"):  # which also fills DVC's state database
                sys.exit(f"error: {folder.name} is not up to date after `dvc commit`")
        times: dict[Path, list[float]] = {project: [], trivial: []}
        for _ in range(RUNS):
            for folder, seconds in times.items():
                began = time.perf_counter()
                dvc(folder, "repro")
                seconds.append(time.perf_counter() - began)
    ours, dvcs = (statistics.median(seconds) for seconds in times.values())
    ratio = ours / dvcs
    print(f"{stages} stages, nothing to do, median of {RUNS} runs of `dvc repro`:")
    print(f"  this project    {ours:.2f} s")
    print(f"  trivial stages  {dvcs:.2f} s")
    print(f"  ratio           {ratio:.2f} (aim: {AIM})")


def copy_of_the_project(folder: Path) -> int:
    """Copy code and parameters, and put a stand-in in the place of each output; the number of stages."""
    for name in COPIED:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        ignored = shutil.ignore_patterns("__pycache__")
        (
            shutil.copytree(name, target, ignore=ignored)
            if Path(name).is_dir()
            else shutil.copy(name, target)
        )
    repository(folder)
    script = (
        "import json; from dvc.repo import Repo\n"
        "with Repo('.') as repo: print(json.dumps([[out.def_path for out in stage.outs] "
        "for stage in repo.index.stages]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, capture_output=True, check=True
    )
    stages: list[list[str]] = YAML(typ="safe").load(done.stdout.decode())
    for outputs in stages:
        for output in outputs:
            stand_in(folder / output)
    return len(stages)


def stand_in(path: Path) -> None:
    """Write a small file, or a folder of some, at the place of an output."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix:
        path.write_text(f"{path}\n")
        return
    path.mkdir()
    for number in range(FILES_OF_A_FOLDER):
        (path / f"{number}.txt").write_text(f"{path} {number}\n")


def trivial_stages(folder: Path, number: int) -> None:
    """Write a project of `number` stages with a file in and a file out each."""
    folder.mkdir()
    repository(folder)
    stages = {}
    for stage in range(number):
        (folder / f"{stage}.in").write_text(f"{stage}\n")
        (folder / f"{stage}.out").write_text(f"{stage}\n")
        files = {"deps": [f"{stage}.in"], "outs": [f"{stage}.out"]}
        stages[f"stage{stage}"] = {"cmd": f"cp {stage}.in {stage}.out", **files}
    with (folder / "dvc.yaml").open("w") as file:
        YAML().dump({"stages": stages}, file)


def repository(folder: Path) -> None:
    """Make the folder a DVC project with a cache of its own, in a Git repository."""
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    if not (folder / ".dvc").exists():
        dvc(folder, "init", "--quiet")


def dvc(folder: Path, *arguments: str) -> str:
    """Return what a DVC command prints."""
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"error: `dvc {' '.join(arguments)}` failed:\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
