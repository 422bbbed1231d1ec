"""The cure that messages advise, `beatline repair PATH`, followed for each kind of damage."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pipeline.clones import Clone, make_heartbeats_clone

TARGET = "evaluate_cnn@ecg5000"


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone in which one network has been trained and evaluated."""
    made = make_heartbeats_clone(tmp_path_factory.mktemp("clone"))
    made.repro(TARGET, "examples@ecg5000")
    return made


def flip(path: Path) -> None:
    """Change a byte under both names of the file, as a disk does: its time stays as it was."""
    before, mode = path.stat(), path.stat().st_mode
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(before.st_size // 2)
        byte = file.read(1)[0]
        file.seek(before.st_size // 2)
        file.write(bytes([byte ^ 0xFF]))
    path.chmod(mode)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def cut(path: Path) -> None:
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


@pytest.mark.parametrize("damage", [flip, cut, Path.unlink])
def test_damage_is_repaired(clone: Clone, damage: Callable[[Path], object]) -> None:
    """Wherever it is: one call brings back what each stage wrote, and nothing is made again that the
    cache has."""
    expected = clone.outputs()
    names = ("raw/ecg5000.zip", "normalized/ecg5000/train/signals.npy", "examples/ecg5000/1.npy")
    names += ("models/ecg5000/cnn/weights.safetensors",)
    for name in names:
        damage(clone.root / "data" / name)
    printed = clone.run("beatline", "repair")
    assert clone.outputs() == expected
    found = set(re.findall(r"^damaged or missing: data/(.*)$", printed, re.M))
    assert found == set(names)
    assert "1 outputs are what" in clone.run("beatline", "repair", "data/models")


def test_a_cure_that_a_message_advises(clone: Clone) -> None:
    """A stage stops at a damaged pack; its sentence names the command, which is tried."""
    pack = clone.root / "data/raw/ecg5000.zip"
    expected = pack.read_bytes()
    cut(pack)
    os.utime(pack)
    said = clone.run("python", "-m", "stages.aggregate_labels", "ecg5000", ok=False)
    (command,) = re.findall(r"run `(beatline repair .+?)`", said)
    clone.run(*command.split())
    assert pack.read_bytes() == expected


def test_a_damaged_cache_is_found_behind_a_sound_file(clone: Clone) -> None:
    """Where both are files of their own: the next checkout would have brought the damage."""
    path = clone.root / "data/splits/ecg5000.csv"
    content = path.read_bytes()
    cached = next(
        file
        for file in (clone.root / ".dvc/cache/files").rglob("*")
        if file.is_file() and file.read_bytes() == content
    )
    path.unlink()
    path.write_bytes(content)
    flip(cached)
    assert str(cached.relative_to(clone.root)) in clone.run("beatline", "repair", str(path))
    assert path.read_bytes() == content
    assert "outputs are what" in clone.run("beatline", "repair", str(path))


def test_what_no_stage_makes(clone: Clone) -> None:
    """One sentence, with the cure where it is a copy from the registry."""
    said = clone.run("beatline", "repair", "params.yaml", ok=False)
    assert said.startswith("error: ") and "params.yaml" in said and "Traceback" not in said
    copied = "data/registry/champion/ecg5000/cnn"  # whose model.onnx the service may have named
    said = clone.run("beatline", "repair", f"{copied}/model.onnx", ok=False)
    assert said.startswith("error: ") and f"delete {copied}" in " ".join(said.split())
