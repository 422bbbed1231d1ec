"""What made a number: revision, data, code, parameters of all stages before, versions, machine.

The same commit and the same inputs give the same answer: it holds no time, no name of a host or a
user, and no path but those that params.yaml and dvc.lock hold.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from ruamel.yaml import YAML

from beatline.common.files import sha256
from beatline.prediction import devices

DVC_YAML, DVC_LOCK = Path("dvc.yaml"), Path("dvc.lock")
DURATIONS = "data/durations/"
# What the revision is compared in. Data and reports are made from it, and dvc.lock says how; what
# serves a model changes none of its numbers.
COMMITTED = (
    "beatline",
    "stages",
    "params.yaml",
    "dvc.yaml",
    "requirements.txt",
    ":(exclude)beatline/serving",
)
PACKAGES = (  # whose versions may change a number
    "torch",
    "numpy",
    "pandas",
    "scipy",
    "scikit-learn",
    "iterative-stratification",
    "pyarrow",
    "soundfile",
    "soxr",
    "safetensors",
    "onnx",
    "onnxruntime",
    "dvc",
)


def identity(data: Sequence[Path], name: str) -> dict[str, Any]:
    """What the stage `name` (`train_cnn@ptbxl`) works with when it is called, in the project's folder.

    `git`: see :func:`git_identity`. `data`: SHA-256 of the files in `data`, a folder standing for all
    that it holds. `code`, `environment`: see the functions of these names. `pipeline`: see
    :func:`upstream`; None where DVC does not run the stage, so that nobody vouches for dvc.lock.
    """
    run_by_dvc = os.environ.get("DVC_STAGE", "").rpartition(":")[2] == name
    return {
        "git": git_identity(),
        "data": sha256(*_files(data)),
        "code": code_identity(),
        "environment": environment(),
        "pipeline": upstream(name) if run_by_dvc else None,
    }


def git_identity() -> dict[str, Any]:
    """`revision`: the last commit of the history that is checked out which changed one of COMMITTED,
    so that committing what a run has made leaves it as it is; `changed`: the files of COMMITTED that
    differ from it or that it does not hold; `clean`: whether there are none.

    Without Git, outside of a repository or in one that does not hold this project, the revision is
    None and nothing is clean.
    """
    revision = _git("rev-list", "-1", "HEAD", "--", *COMMITTED)
    how = ("--name-only", "--no-renames", "--relative", "-z")
    differing = _git("diff", *how, "HEAD", "--", *COMMITTED)
    unknown = _git("ls-files", "--others", "--exclude-standard", "-z", "--", *COMMITTED)
    if not revision or differing is None or unknown is None:
        return {"revision": None, "clean": False, "changed": []}
    changed = sorted(path for path in {*differing.split("\0"), *unknown.split("\0")} if path)
    return {"revision": revision.strip(), "clean": not changed, "changed": changed}


def _git(*arguments: str) -> str | None:
    """What a Git command prints; None if it fails or there is no Git."""
    command = ["git", "--no-optional-locks", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None


def code_identity() -> str:
    """SHA-256 of the project's modules that are loaded now: what made the model, less its libraries."""
    root = Path(__file__).resolve().parents[2]
    files = {
        Path(file).resolve()
        for module in list(sys.modules.values())
        if (file := getattr(module, "__file__", None)) and file.endswith(".py")
    }
    digest = hashlib.sha256()
    for folder in ("beatline", "stages"):
        for path in sorted(files & set((root / folder).rglob("*.py"))):
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def environment() -> dict[str, Any]:
    """Versions that the numbers depend on, and what computed them: `python` and the installed ones of
    PACKAGES, `device`, and `machine` with `system`, `processor`, `cores` and `threads` (of torch)."""
    device = devices.choose()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "python": platform.python_version(),
        **_versions(),
        "device": f"{device.type} ({name})",
        "machine": {
            # The C library has the mathematical functions; the kernel's release changes no number.
            "system": " ".join([platform.system(), *platform.libc_ver()]).strip(),
            "processor": _processor(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
        },
    }


def upstream(name: str) -> dict[str, Any] | None:
    """The stages that the stage `name` builds on, in running order, as dvc.lock has them.

    Each has `params` (dotted key: value), `deps` and `outs` (path: MD5). None without a dvc.lock.
    The stage's own entry is not looked at: it tells of the run before, or is not there yet. The order
    does not depend on that of the entries in dvc.lock, which is that of first runs.
    """
    if not (DVC_LOCK.is_file() and DVC_YAML.is_file()):
        return None
    yaml = YAML(typ="safe")
    stages = yaml.load(DVC_YAML)["stages"]
    # DVC leaves the entries of removed stages where they are.
    locked = {
        stage: entry
        for stage, entry in yaml.load(DVC_LOCK)["stages"].items()
        if stage.partition("@")[0] in stages
    }
    made_by = {
        out["path"]: stage for stage, entry in locked.items() for out in entry.get("outs", ())
    }
    template, _, key = name.partition("@")
    declared = stages[template].get("do", stages[template])["deps"]
    found: dict[str, Any] = {}
    for path in declared:
        _collect(path.replace("${key}", key), locked, made_by, found)
    return found


def _collect(
    path: str, locked: dict[str, Any], made_by: dict[str, str], found: dict[str, Any]
) -> None:
    """Add to `found` the stages behind a path, each after those that it builds on: those that made it,
    a folder that holds it, or something in it."""
    makers = {
        stage
        for out, stage in made_by.items()
        if out == path or path.startswith(f"{out}/") or out.startswith(f"{path}/")
    }
    for stage in sorted(makers - found.keys()):
        if stage not in found:
            for dep in locked[stage].get("deps", ()):
                _collect(dep["path"], locked, made_by, found)
            found[stage] = _told(locked[stage])


def _told(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry of dvc.lock, less durations: they differ whenever the same is run again."""
    told: dict[str, Any] = {"params": {}}
    for values in entry.get("params", {}).values():
        told["params"] |= values
    for kind in ("deps", "outs"):
        told[kind] = {
            item["path"]: item.get("md5")
            for item in entry.get(kind, ())
            if not item["path"].startswith(DURATIONS)
        }
    return told


def _files(paths: Iterable[Path]) -> list[Path]:
    """The files that the paths name, those of a folder in the order of their names."""
    found: list[Path] = []
    for path in paths:
        inside = sorted(file for file in path.rglob("*") if file.is_file())
        found += inside if path.is_dir() else [path]
    return found


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    """The processor's model name where the system tells it, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
