"""A data set's source is a dependency: whatever changes in it is fetched again, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from beatline.simulators.ecg import simulator
from tests.pipeline.clones import (
    Clone,
    keep_only,
    make_clone,
    write_digits,
    write_heartbeats,
)

ROWS = [f"{value},{value % 7},{'ab'[value % 2]}" for value in range(40)]


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of one's own outside of the project: a folder for each of two data sets."""
    folder = tmp_path_factory.mktemp("elsewhere")
    simulator.simulate(folder / "ecgs", records=20, seed=1, sampling_rate=100)
    write_heartbeats(folder / "beats")
    return folder


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory, elsewhere: Path) -> Clone:
    """A clone whose five data sets come from folders and a file of one's own, absolute and relative
    paths, and have been fetched."""
    made = make_clone(tmp_path_factory.mktemp("clone"))
    write_digits(made.root / "digits")
    (made.root / "rows.csv").write_text("\n".join(["size,weight,kind", *ROWS]))
    for number, name in enumerate(["normal/1", "normal/2", "test/normal_1", "test/anomaly_1"]):
        path = made.root / f"machines/{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.sin(np.arange(4000) / (3 + number)) / 2, 8000)
    sources = {
        "ptbxl": str(elsewhere / "ecgs"),
        "ecg5000": str(elsewhere / "beats"),
        "mnist": "digits",
        "ecg_features": "./rows.csv",
        "machine_sound": "machines/",
    }
    content = made.params()
    for name, source in sources.items():
        content["datasets"][name]["download"]["source"] = source
    columns = {"label": "kind", "record": None, "group": None, "fold": None}
    content["datasets"]["ecg_features"]["download"] |= columns
    made.set_params(content)
    keep_only(made, *sources)  # without the table that is measured on one of them
    assert downloads(made) == set(sources)
    return made


def downloads(clone: Clone) -> set[str]:
    """The data sets that `dvc repro` fetches."""
    return {stage.removeprefix("download@") for stage in clone.repro("download")}


def packs(clone: Clone) -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in (clone.root / "data/raw").glob("*.zip")}


def test_an_unchanged_source_is_not_read_again(clone: Clone) -> None:
    """A team trusts that only what changed runs again."""
    assert downloads(clone) == set()


def test_each_changed_source_is(clone: Clone, elsewhere: Path) -> None:
    """A file that was repaired, a row more, a recording more: the pack is of the files that are there,
    and none that the run cache holds of the former ones."""
    before = packs(clone)
    table = elsewhere / "ecgs/ptbxl_database.csv"
    table.write_text(table.read_text().replace("100.0", "50.0", 1))
    beats = elsewhere / "beats/ECG5000_TRAIN.tsv"
    beats.write_text(beats.read_text() + beats.read_text().splitlines()[0] + "\n")
    (images,) = (clone.root / "digits").glob("t10k-images*")
    images.write_bytes(images.read_bytes()[:-1] + b"\x07")
    rows = clone.root / "rows.csv"
    rows.write_text(rows.read_text() + "\n41,3,b\n")
    (clone.root / "machines/test/anomaly_2.wav").write_bytes(
        (clone.root / "machines/test/anomaly_1.wav").read_bytes()
    )
    for path in (clone.root / "data/raw").glob("*.zip"):
        path.unlink()
    assert downloads(clone) == set(before)
    after = packs(clone)
    assert before.keys() == after.keys() and all(before[name] != after[name] for name in before)

    (clone.root / "machines/test/anomaly_2.wav").unlink()
    assert downloads(clone) == set()  # what was there before is known, and comes from the run cache
    assert packs(clone) == {**after, "machine_sound": before["machine_sound"]}
