"""An interrupted training goes on after its last completed epoch, as if nothing had happened.

DVC deletes a stage's outputs before it runs, so checkpoints lie outside of them, in
``data/checkpoints/<data set>/<model>/``: a file per network, replaced after each epoch, and removed when
the stage is done. Its name is the SHA-256 of everything that went into the training: whatever changed
since, parameters, data, code or machine, training starts over. A checkpoint
of other parameters is removed when the same model is trained again. A queued experiment runs in a folder
of its own, which is removed with it: it starts over.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from beatline.common.errors import UserError, warn
from beatline.common.files import replacing

FOLDER = Path("data/checkpoints")


class InterruptedTrainingError(UserError):
    """What ended a training and would not end it again, so that its checkpoints stay."""


def key(*ingredients: Any) -> str:
    """SHA-256 of all that a training depends on, in values that JSON has."""
    return hashlib.sha256(json.dumps(ingredients, sort_keys=True).encode()).hexdigest()


@contextmanager
def kept(folder: Path, keys: Sequence[str]) -> Iterator[list[Path]]:
    """Give the checkpoint files of the networks called `keys`, and remove whatever else lies in
    `folder`: it is of other parameters, data or code.

    If all goes well, or a mistake ends it that would end it again, the folder is removed at the end.
    Raises UserError if another process has it: killing `dvc repro` alone leaves its stage running.
    """
    paths = [folder / f"{key}.state" for key in keys]
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        for path in set(folder.iterdir()) - set(paths):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        try:
            yield paths
        except InterruptedTrainingError:
            raise
        except UserError:
            _remove(folder)
            raise
        _remove(folder)


class State:
    """The checkpoint of one network's training, in the file `path`. `earlier`: the seconds that it took,
    up to the epoch that it goes on after, in runs that were interrupted."""

    def __init__(self, path: Path) -> None:
        self.earlier = 0.0
        self._path = path
        self._began = time.perf_counter()

    def load(self) -> dict[str, Any] | None:
        """Return the last saved state, tensors on the CPU; None without one. Warns if it is damaged."""
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return None
        digest, saved = content[:32], content[32:]
        if hashlib.sha256(saved).digest() != digest:
            warn(f"{self._path} is damaged, so that this training starts over")
            return None
        checkpoint = torch.load(io.BytesIO(saved), map_location="cpu", weights_only=True)
        self.earlier = checkpoint["seconds"]
        return checkpoint["state"]

    def save(self, state: dict[str, Any]) -> None:
        """Replace the checkpoint. `state`: tensors, numbers and texts, in lists and dictionaries."""
        seconds = self.earlier + time.perf_counter() - self._began
        buffer = io.BytesIO()
        torch.save({"seconds": seconds, "state": state}, buffer)
        saved = buffer.getbuffer()
        with replacing(self._path) as beside, beside.open("wb") as file:
            file.write(hashlib.sha256(saved).digest())
            file.write(saved)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock `folder` for one process at a time; the system takes it back from one that is killed."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{folder} is in use by another process that trains the same: wait until it is done, "
                f"or end it, and the next run goes on after its last epoch"
            ) from None
        yield
    finally:
        os.close(descriptor)


def _remove(folder: Path) -> None:
    """Remove `folder`, and those around it if they are empty: another model may still be at work."""
    shutil.rmtree(folder)
    with suppress(OSError):
        folder.parent.rmdir()
        folder.parent.parent.rmdir()
