"""Tables of features in a project, as extract_features leaves them, and the real Feast on them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from beatline.common import sums
from beatline.feature_store import definitions, store
from beatline.feature_store.definitions import Table
from beatline.features import ecg, sound
from beatline.features.tables import write_tables
from tests.paths import ROOT
from tests.serving.project import SOUND

RATE, MACHINES, CLIPS = 16000, 3, 4
MAX_AGE = 36 * 3600.0  # seconds
BEGIN = pd.Timestamp("2024-03-01", tz="UTC")
SOUND_BLOCK = {"module": "sound", **SOUND}
ECG_BLOCK = {"module": "ptbxl", "kind": "ecg", "lowest_frequency": 0.67}
CONTENT: dict[str, Any] = {
    "datasets": {"ecg_features": {"download": {"source": "data/features/ptbxl"}}},
    "extract_features": {"ptbxl": ECG_BLOCK, "machine_sound": SOUND_BLOCK},
}
needs_feast = pytest.mark.skipif(
    not (ROOT / ".venv-feast/.ready").exists(), reason="no .venv-feast: make features installs it"
)


def waveform(seed: int, seconds: float = 0.3) -> np.ndarray:
    """Noise that is another for each seed, in full scale."""
    return np.random.default_rng(seed).uniform(-0.5, 0.5, int(RATE * seconds)).astype(np.float32)


def make(root: Path) -> Path:
    """Write both tables: sounds of machines, a day apart, and ECGs some of whose values are missing."""
    parameters = sound.ExtractFeatures(**{k: v for k, v in SOUND.items() if k != "kind"})
    measured = sound.extract(map(waveform, range(MACHINES * CLIPS)), RATE, parameters)
    values = np.concatenate([part.features for part in measured])
    days = pd.to_timedelta(np.arange(MACHINES * CLIPS) // MACHINES, unit="D")
    machines = pd.DataFrame(
        {
            "record": [f"{number}.wav" for number in range(MACHINES * CLIPS)],
            "machine_id": [f"id_0{number % MACHINES}" for number in range(MACHINES * CLIPS)],
            "event_timestamp": BEGIN + days,
        }
    )
    write(root, "machine_sound", machines, values, sound.FEATURES, SOUND)
    ecgs = pd.DataFrame({"record": ["1", "2"], "group": ["9", "9"], "normal": [1, 0]})
    values = np.random.default_rng(0).standard_normal((2, len(ecg.FEATURES)))
    values[0, 3] = np.nan
    write(root, "ptbxl", ecgs, values, ecg.FEATURES, None)
    environment = root / ".venv-feast"
    if not environment.exists():
        environment.symlink_to(ROOT / ".venv-feast")
    return root


def write(
    root: Path, dataset: str, keys: pd.DataFrame, values: np.ndarray, names: Any, how: Any
) -> None:
    folder = root / "data/features" / dataset
    folder.mkdir(parents=True, exist_ok=True)
    write_tables(folder, pd.concat([keys, pd.DataFrame(values, columns=list(names))], axis=1))
    (folder / "dataset.json").write_text(json.dumps({"representation": how}))
    sums.seal(folder)


def parquet(root: Path, dataset: str) -> pd.DataFrame:
    return pd.read_parquet(root / "data/features" / dataset / "features.parquet")


def tables(root: Path, content: dict[str, Any] = CONTENT) -> list[Table]:
    return definitions.tables(content, root, MAX_AGE)


def fill(root: Path, content: dict[str, Any] = CONTENT) -> None:
    store.fill(tables(root, content), root)


def in_feast(root: Path, program: str) -> Any:
    """What a program in Feast's environment prints as JSON; `store` is the feature store."""
    begin = "import json\nfrom feast import FeatureStore\nstore = FeatureStore(repo_path='.')\n"
    command = [str(root / ".venv-feast/bin/python"), "-W", "ignore", "-c", begin + program]
    folder = root / definitions.FOLDER
    environment = {**os.environ, "PYTHONPATH": str(folder), "FEAST_USAGE": "False"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])
