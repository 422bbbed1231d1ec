"""deploy/slurm, without Slurm: its commands are stood in for by scripts that say what they were asked."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.paths import ROOT

TELL = '#!/bin/sh\necho "$SLURM_PROCID at $MASTER_ADDR:$MASTER_PORT: ${0##*/} $*"\n'
COMMANDS = {
    "scontrol": "#!/bin/sh\nprintf 'node7\\nnode8\\n'\n",
    # Two tasks, of which each gets what follows srun's own options.
    "srun": (
        '#!/bin/sh\nwhile case "$1" in -*) true;; *) false;; esac; do shift; done\n'
        'for SLURM_PROCID in 0 1; do export SLURM_PROCID; "$@"; done\n'
    ),
    "beatline": TELL,
    "python": TELL,
}


def submitted(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / ".venv/bin").mkdir(parents=True, exist_ok=True)
    for name, text in COMMANDS.items():
        (folder / ".venv/bin" / name).write_text(text)
        (folder / ".venv/bin" / name).chmod(0o755)
    job = {
        "SLURM_JOB_ID": "30001",
        "SLURM_JOB_NODELIST": "node[7-8]",
        "SLURM_SUBMIT_DIR": str(folder),
    }
    return subprocess.run(
        ["bash", ROOT / "deploy/slurm/train.sbatch", *arguments],
        env={**os.environ, **job},
        capture_output=True,
        text=True,
    )


def test_process_0_is_the_stage_and_others_run_beside_it(tmp_path: Path) -> None:
    """DVC keeps the outputs of one process; all meet at the first node."""
    done = submitted(tmp_path, "cnn", "ptbxl")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "0 at node7:30001: beatline repro --single-item train_cnn@ptbxl",
        "1 at node7:30001: python -m stages.train cnn ptbxl",
    ]


@pytest.mark.parametrize("arguments", [(), ("cnn",)])
def test_what_to_train_must_be_said(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """Before a node is asked for anything."""
    done = submitted(tmp_path, *arguments)
    assert done.returncode != 0 and not done.stdout and "train.sbatch cnn ptbxl" in done.stderr
