"""deploy/slurm/repro.sbatch, without Slurm: srun runs one task, and beatline says what it was given."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.paths import ROOT

# Workers import it again, and print nothing.
BEATLINE = """#!{python}
import os, sys
from beatline.common import parallel
parallel.STARTUP = 0
if __name__ == '__main__':
    print(sys.argv[1:], os.environ.get('DASK_SCHEDULER_ADDRESS'))
    print(list(parallel.ordered(abs, [-1, -2])))
"""


def submitted(folder: Path, tasks: int, *arguments: str) -> str:
    """Run the script in a project in `folder` as Slurm does, and return what it prints."""
    programs = folder / ".venv/bin"
    programs.mkdir(parents=True)
    scripts = {
        "beatline": BEATLINE.format(python=sys.executable),
        "dask": f'#!/bin/sh\nexec {sys.executable} -m dask "$@"\n',
        "srun": '#!/bin/sh\nexec "$@"\n',
    }
    for name, text in scripts.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    with socket.socket() as free:
        free.bind(("", 0))
        number = (free.getsockname()[1] - 20000) % 20000
    done = subprocess.run(
        ["bash", ROOT / "deploy/slurm/repro.sbatch", *arguments],
        env={
            **{name: value for name, value in os.environ.items() if "DASK" not in name},
            "SLURM_SUBMIT_DIR": str(folder),
            "SLURM_NTASKS": str(tasks),
            "SLURM_JOB_ID": str(number),
            "PYTHONPATH": str(ROOT),
            "BEATLINE_WORKERS": "2",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_one_task_is_one_machine(tmp_path: Path) -> None:
    """Nothing is started beside it, and targets are passed on."""
    assert "['repro', 'report'] None\n[1, 2]" in submitted(tmp_path, 1, "report")


def test_several_tasks_are_a_cluster(tmp_path: Path) -> None:
    """The stages find its scheduler, its workers work, and none of it outlives the job."""
    pytest.importorskip("distributed", reason="distributed is not installed: make cluster does it")
    printed = submitted(tmp_path, 2)
    assert "['repro'] tcp://" in printed and "[1, 2]" in printed
    left = [
        each
        for each in psutil.process_iter(["cmdline", "cwd"])
        if each.info["cwd"] == str(tmp_path) and "dask" in (each.info["cmdline"] or ())
    ]
    psutil.wait_procs(left, timeout=20)
    assert not [each for each in left if each.is_running()]
