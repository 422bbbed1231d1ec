"""Tensors beside a bundle's weights: read whole, by the SHA-256 that model.json names."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from beatline.common.errors import UserError

T = TypeVar("T")


def load(path: Path, sha256: str, largest: int, made_of: Callable[[dict[str, np.ndarray]], T]) -> T:
    """Return what is `made_of` the tensors in a file of at most `largest` bytes.

    Raises UserError if it is missing, has another `sha256` than its bundle's model.json says, or if
    `made_of` raises ValueError.
    """
    try:
        with path.open("rb") as file:
            content = file.read(largest + 1)
    except OSError as error:
        cure = f"run `beatline repair {path.parent}`"
        raise UserError(f"{path} cannot be read ({error.strerror}): {cure}") from None
    # By model.json, not by SHA256SUMS: the folder may be replaced while it is read.
    if hashlib.sha256(content).hexdigest() != sha256:
        raise UserError(
            f"{path} is not the one of model.json (another SHA-256): run `beatline repair "
            f"{path.parent}` or train the model again"
        )
    try:
        return made_of(safetensors.load(content))
    except (SafetensorError, ValueError) as error:
        reason = f"{path} does not fit the data set of model.json ({type(error).__name__})"
        raise UserError(f"{reason}: train the model again") from None


def check(
    tensors: dict[str, np.ndarray], expected: dict[str, tuple[type, tuple[int, ...]]]
) -> None:
    """Raise ValueError unless the tensors are those of the types and shapes that are `expected`."""
    if {name: (tensor.dtype.type, tensor.shape) for name, tensor in tensors.items()} != expected:
        raise ValueError("types or shapes")
