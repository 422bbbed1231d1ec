"""`make clean` removes what can be made again, and nothing else."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.paths import ROOT

MADE = (".venv", ".venv-mlflow", "review", "data/raw", "data/models", "data/checkpoints")
KEPT = ("incoming", "monitoring", "mlflow", "registry", "feature_store", "README.md")


def test_what_cannot_be_made_again_stays(tmp_path: Path) -> None:
    """Registered models, what production has sent and what services have stored are nowhere else."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    kept = [f"data/{name}" for name in KEPT]
    for name in (*MADE, *kept):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").touch()
    subprocess.run(["make", "--silent", "clean"], cwd=tmp_path, check=True)
    assert sorted(each.name for each in (tmp_path / "data").iterdir()) == sorted(KEPT)
    assert not [name for name in MADE if (tmp_path / name).exists()]
    assert all((tmp_path / name / "file").exists() for name in kept)
