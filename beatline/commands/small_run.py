"""Run the whole pipeline on few records, in a copy of the project.

The copy is the checkout as it stands, uncommitted changes included, with other values in its
params.yaml. The checkout's params.yaml, dvc.lock, data/ and reports/ stay as they are; the copy's
reports/ are left in review/small/. Both share one DVC cache, so what has run once does not run again.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from beatline.common import params
from beatline.common.errors import UserError
from beatline.common.files import replacing
from beatline.common.params import Parameters

RESULTS = Path("review")
DEFAULT = Path("small.yaml")
SCRATCH = Path(".dvc/tmp")  # which Git ignores, and which is where the cache is: links are cheap


class SmallRun(Parameters):
    """The differences of a small run: values at dotted keys, and keys that are left out. A part `*`
    of a key stands for every name there."""

    set: dict[str, Any]
    leave_out: list[str]


def apply(small: SmallRun, content: dict[str, Any], path: Path) -> None:
    """Change the content of params.yaml as a small run says.

    Raises UserError, which names the small run's `path`, if there is nothing at one of its keys.
    """
    for key, value in small.set.items():
        for block, name in _places(content, key, path):
            block[name] = value
    for key in small.leave_out:
        for block, name in _places(content, key, path):
            del block[name]


def _places(content: dict[str, Any], key: str, path: Path) -> list[tuple[dict[str, Any], str]]:
    """The mappings that hold what is at a dotted key, each with its last part."""
    nodes: list[Any] = [content]
    *parts, last = key.split(".")
    for part in parts:
        blocks = [block for block in nodes if isinstance(block, dict)]
        nodes = [value for block in blocks for name, value in block.items() if part in ("*", name)]
    places = [(block, last) for block in nodes if isinstance(block, dict) and last in block]
    if not places:
        raise UserError(f"{path}: {params.PATH} has no {key}: correct the key, or leave it out")
    return places


def copy_project(folder: Path, revision: str | None = None) -> None:
    """Clone the project in the current folder to `folder`, without its results, and with the same DVC
    cache: with what is not committed yet, or as it is in the commit `revision`."""
    clone_project(folder, revision)
    (folder / "dvc.lock").unlink(missing_ok=True)
    shutil.rmtree(folder / "reports", ignore_errors=True)
    cache = Path(shell("dvc", "cache", "dir").strip()).absolute()
    shell("dvc", "cache", "dir", "--quiet", "--local", str(cache), where=folder)


def clone_project(folder: Path, revision: str | None = None) -> None:
    """Clone the project with the results that Git holds, and without a way to those of the cache."""
    shell("git", "clone", "--quiet", ".", str(folder))
    if revision is not None:
        shell("git", "checkout", "--quiet", "--detach", revision, where=folder)
        return
    listing = ["git", "ls-files", "-z", "--modified", "--others", "--exclude-standard"]
    for name in shell(*listing).split("\0")[:-1]:
        if Path(name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(name, folder / name)
        else:
            (folder / name).unlink(missing_ok=True)


def shrink(copy: Path, small: SmallRun, name: Path, label: str = "") -> None:
    """Change params.yaml in a copy of the project as a small run says. Errors call the small run's file
    `name`, and params.yaml by its own name and `label`."""
    content = _yaml(copy / params.PATH, f"{params.PATH}{label}")
    apply(small, content, name)
    with (copy / params.PATH).open("w") as target:
        YAML().dump(content, target)


def read(path: Path, name: str = "") -> SmallRun:
    """Return what a file such as small.yaml says; errors call it `name`. Raises UserError if it is
    missing or wrong."""
    return params.validated(
        _yaml(path, name or str(path)), "the file", SmallRun, Path(name or path)
    )


def _yaml(path: Path, name: str) -> Any:
    try:
        return YAML(typ="safe", pure=True).load(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{name} is missing: name a file such as small.yaml") from None
    except YAMLError as error:
        raise UserError(f"{name} is not valid YAML: {' '.join(str(error).split())}") from None


def shell(*command: str, where: Path = Path()) -> str:
    """Return what a command prints. Raises UserError with what it says if it fails."""
    done = subprocess.run(command, cwd=where, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = " ".join((done.stderr or done.stdout).split())
        raise UserError(f"`{' '.join(command)}` failed: {reason}")
    return done.stdout


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the file that says what is different."""
    parser.add_argument("file", nargs="?", type=Path, default=DEFAULT, help="default: %(default)s")


def run(options: argparse.Namespace) -> int:
    """Run the copy and leave its reports in review/; the exit status of the first command that fails."""
    path: Path = options.file
    small = read(path)
    results = RESULTS / path.stem
    SCRATCH.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{path.stem}-", dir=SCRATCH) as scratch:
        copy = Path(scratch) / "copy"
        copy_project(copy)
        shrink(copy, small, path)
        for command in (["beatline", "validate"], ["beatline.commands.patched_dvc", "repro"]):
            if status := subprocess.run(
                ["python", "-m", *command], cwd=copy, check=False
            ).returncode:
                return status
        with replacing(results) as beside:
            shutil.copytree(copy / "reports", beside)
    print(f"\nreport: {results / 'report.html'} (open in a browser) and {results / 'report.md'}")
    return 0
