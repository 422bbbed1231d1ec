"""A temporary clone of the project with a small configuration, whose pipeline really runs."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML

from tests.paths import ROOT

# In data/: folders whose content differs between runs, what an interrupted training is kept in until the
# same one runs again, and the page that Git holds.
NOT_COMPARED = ("durations", "downloads", "checkpoints", "README.md")
# Each model once and each data set once, where params.yaml trains more: a run takes two thirds as long.
TRAINED_ON = {
    "cnn": ("ecg5000", "mnist"),
    "lstm": ("ecg5000",),
    "cnn_lstm": ("ptbxl",),
    "autoencoder": ("machine_sound",),
}
COSTS = ("| training time", "| time per prediction")  # rows of the report that hold durations


@dataclass
class Clone:
    """A project folder with a Git repository and a DVC cache of its own. `variables`: of the environment
    of its commands, besides those that they have anyway."""

    root: Path
    variables: dict[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        """Of its commands: that of this process, where the project is installed, without settings of the
        user's that would change what a command does."""
        bin_folder = str(Path(sys.executable).parent)
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("DVC_")},
            "PATH": bin_folder + os.pathsep + os.environ["PATH"],
            "GIT_CONFIG_GLOBAL": os.devnull,
            # `beatline` would otherwise be this project's, which is what is installed.
            "PYTHONPATH": str(self.root),
            **self.variables,
        }

    def run(self, *command: str, ok: bool = True) -> str:
        """What a command prints, run in the clone as in the activated environment."""
        with self.start(*command, session=False) as process:
            printed, _ = process.communicate()
        assert (process.returncode == 0) == ok, (
            f"{command} exited with {process.returncode}:\n{printed}"
        )
        return printed

    def start(self, *command: str, session: bool = True) -> subprocess.Popen[str]:
        """A command that runs beside this process. `session`: with all that it starts in a group of its
        own, which an interruption of the tests does not reach."""
        return subprocess.Popen(
            command,
            cwd=self.root,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=session,
        )

    def repro(self, *options: str) -> set[str]:
        """Run the DVC of `beatline repro` and give the names of the stages whose commands ran."""
        printed = self.run("python", "-m", "beatline.commands.patched_dvc", "repro", *options)
        return set(re.findall(r"^Running stage '(.+)':", printed, re.M))

    def would_run(self) -> set[str]:
        """The stages that `dvc repro` would run, as `--dry` says without what others would change."""
        printed = self.run("dvc", "repro", "--dry")
        return set(re.findall(r"^Running stage '(.+)'", printed, re.M))

    def params(self) -> dict[str, Any]:
        return YAML(typ="safe").load((self.root / "params.yaml").read_text())

    def set_params(self, content: dict[str, Any]) -> None:
        with (self.root / "params.yaml").open("w") as file:
            YAML().dump(content, file)

    def commit(self, message: str) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", message)

    def outputs(self) -> dict[str, str]:
        """SHA-256 by path of every file that the stages made, durations left out."""
        files = [path for folder in ("data", "reports") for path in (self.root / folder).rglob("*")]
        return {
            str(path.relative_to(self.root)): hashlib.sha256(_comparable(path)).hexdigest()
            for path in files
            if path.is_file() and path.relative_to(self.root).parts[1] not in NOT_COMPARED
        }


def _comparable(path: Path) -> bytes:
    """A file's content, less what a report says of durations (report.html shows what report.md does)."""
    if path.name == "report.html":
        return b""
    content = path.read_bytes()
    if path.name != "report.md":
        return content
    return b"\n".join(
        line for line in content.split(b"\n") if not line.startswith(tuple(map(str.encode, COSTS)))
    )


def make_clone(root: Path, *, shared_cache: bool = False) -> Clone:
    """The project's own files, without data, results and lock, as a repository at `root`, which is in a
    folder of pytest's. With a shared cache, what another clone of this kind has run need not run again:
    for tests that care for neither what runs nor who made it."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in files.splitlines():
        if (ROOT / name).is_file() and not name.startswith(("reports/", "tests/", "dvc.lock")):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, root / name)
    clone = Clone(root)
    clone.run("git", "init", "--quiet")
    clone.run("git", "config", "user.name", "Test")
    clone.run("git", "config", "user.email", "test@example.invalid")
    if shared_cache:
        clone.run("dvc", "cache", "dir", "--quiet", "--local", str(_shared_cache(root)))
    return clone


def make_heartbeats_clone(root: Path) -> Clone:
    """A clone in which ECG5000 is left alone, committed and ready to run."""
    clone = make_clone(root)
    make_small(clone)
    keep_only(clone, "ecg5000")
    clone.commit("A small project")
    return clone


def small_clone(root: Path) -> Clone:
    """A project of one stage, which writes a number into a file, or does what `do.py` says."""
    made = Clone(root)
    made.root.mkdir()
    (made.root / "dvc.yaml").write_text(
        "stages: {do: {cmd: 'python do.py', params: [seed], outs: [out.txt]}}\n"
    )
    (made.root / "params.yaml").write_text("seed: 0\n")
    (made.root / ".gitignore").write_text("out.txt\n/.dvc/site-cache\n")
    (made.root / "do.py").write_text(
        "import pathlib\npathlib.Path('out.txt').write_text(pathlib.Path('params.yaml').read_text())\n"
    )
    # The package is this project's: here is none of its own.
    made.variables["PYTHONPATH"] = os.environ.get("PYTHONPATH", "")
    made.run("git", "init", "--quiet")
    made.run("git", "config", "user.name", "Test")
    made.run("git", "config", "user.email", "test@example.invalid")
    made.run("dvc", "init", "--quiet")
    made.commit("A small project")
    return made


def _shared_cache(root: Path) -> Path:
    """A folder of this session of pytest, whichever of its processes asks."""
    session = next(path for path in root.parents if path.name.startswith("pytest-"))
    return session / "dvc-cache"


def trained_on(train: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The block `train` with the data sets of TRAINED_ON alone, for the models that it names."""
    return {
        model: {
            name: block for name, block in names.items() if name in TRAINED_ON.get(model, names)
        }
        for model, names in train.items()
    }


def make_small(clone: Clone) -> None:
    """Few records, one epoch, few resamples, fewer training runs; heartbeats and digits written by the
    test instead of fetched."""
    write_heartbeats(clone.root / "heartbeats")
    write_digits(clone.root / "digits")
    content = clone.params()
    content["datasets"]["mnist"]["download"]["source"] = "digits"
    sounds = {"machines": 2, "train": 12, "test_normal": 4, "test_anomaly": 4, "seconds": 1.0}
    content["datasets"]["machine_sound"]["download"]["simulated"] |= sounds
    ptbxl, ecg5000 = content["datasets"]["ptbxl"], content["datasets"]["ecg5000"]
    ptbxl["download"] |= {
        "source": "beatline/simulators/ecg",
        "simulated": {"records": 120, "seed": 1},
    }
    ptbxl["aggregate_labels"]["min_records"] = 3
    ecg5000["download"] |= {"source": "heartbeats", "name": "ECG5000"}
    content["train"] = trained_on(content["train"])
    for datasets in content["train"].values():
        for block in datasets.values():
            block |= {"epochs": 1} if "epochs" in block else {}
            block["seeds"] = 1
    content["train"]["mlp"]["ecg_features"]["seeds"] = 2
    content["report"]["mistakes"] = 2
    content["evaluate"]["resamples"] = 100
    clone.set_params(content)


def keep_only(clone: Clone, *names: str) -> None:
    """Leave data sets out of params.yaml, and all that is made of them."""
    content = clone.params()
    for block in (content["datasets"], content["extract_features"], *content["train"].values()):
        for name in block.keys() - set(names):
            del block[name]
    for key in ("features", "machines"):
        if content["serve"][key].partition("/")[0] not in names:
            content["serve"][key] = None
    clone.set_params(content)


def write_heartbeats(folder: Path) -> None:
    """A UCR data set of 160 series of 140 samples: class 1 has a positive wave, 2 an inverted one."""
    folder.mkdir()
    draw = np.random.default_rng(1)
    wave = np.exp(-(((np.arange(140) - 70) / 10) ** 2))
    for part, count in (("TRAIN", 40), ("TEST", 120)):
        labels = draw.integers(1, 3, count)
        series = np.where(labels[:, None] == 1, wave, -wave) + 0.3 * draw.standard_normal(
            (count, 140)
        )
        np.savetxt(folder / f"ECG5000_{part}.tsv", np.column_stack([labels, series]), fmt="%.5f")


def write_digits(folder: Path) -> None:
    """300 images in MNIST's files, in the place and size of its digits: two bars whose distance tells the
    digit, in noise."""
    folder.mkdir()
    draw = np.random.default_rng(1)
    for part, count in (("train", 200), ("t10k", 100)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        images = draw.integers(0, 20, (count, 28, 28), dtype=np.uint8)
        for image, label in zip(images, labels.tolist(), strict=True):
            image[4:24, [13 - label, 14 + label]] = 255
        header = np.array([0x803, count, 28, 28], dtype=">i4").tobytes()
        (folder / f"{part}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        header = np.array([0x801, count], dtype=">i4").tobytes()
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(header + labels.tobytes())
