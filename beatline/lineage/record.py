"""The lineage of a number: revision, data, code, parameters of all stages before, versions, machine.

The same commit and the same inputs give the same record: it holds no time, no name of a host or a
user, and no path but those that params.yaml and dvc.lock hold.
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from beatline.common.sums import listed
from beatline.common.versions import machine, versions
from beatline.lineage import code, lock
from beatline.prediction import devices


def identity(data: Sequence[Path], name: str) -> dict[str, Any]:
    """Return what the stage `name` (`train_cnn@ptbxl`) works with when called, in the project's folder.

    `git`, `code`: see :mod:`beatline.lineage.code`. `data`: SHA-256 of the sums of the files in the
    folders `data`, which were sealed (:mod:`beatline.common.sums`). `environment`: see
    :func:`environment`. `pipeline`: see :func:`beatline.lineage.lock.upstream_of_next_run`; None where
    DVC does not run the stage, so that nobody vouches for dvc.lock.
    """
    run_by_dvc = os.environ.get("DVC_STAGE", "").rpartition(":")[2] == name
    return {
        "git": code.git_identity(),
        "data": _sum_of_sums(data),
        "code": code.code_identity(),
        "environment": environment(),
        "pipeline": lock.upstream_of_next_run(name) if run_by_dvc else None,
    }


def environment() -> dict[str, Any]:
    """Versions that the numbers depend on (:mod:`beatline.common.versions`), and what computed
    them: `device`, and `machine` with `system`, `processor`, `cores` and `threads` (of torch)."""
    device = devices.choose()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        **versions(),
        "device": f"{device.type} ({name})",
        "machine": {
            **machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
        },
    }


def _sum_of_sums(folders: Sequence[Path]) -> str:
    lines = [f"{digest}  {name}\n" for folder in folders for name, digest in listed(folder).items()]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
