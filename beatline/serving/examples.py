"""The bundled test recordings, to try models with."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from beatline.common.errors import UserError, names_there_are, shown
from beatline.common.files import read_json
from beatline.common.sums import verified
from beatline.serving.problems import Problem, unavailable, unknown

FOLDER = Path("data/examples")
log = logging.getLogger("beatline.serving")


def listed(root: Path, dataset: str) -> list[dict[str, Any]]:
    """Return the examples of a data set in the project in `root`: none while DVC is writing the folder,
    if there is no folder, or if they are damaged, which is logged."""
    path = root / FOLDER / dataset / "examples.json"
    with suppress(OSError, KeyError, TypeError):
        try:
            return list(read_json(verified(path))["examples"])
        except UserError as error:
            if path.exists():
                log.warning("no examples of %s: %s", dataset, error)
    return []


def read(root: Path, dataset: str, name: str) -> tuple[Mapping[str, Any], bytes]:
    """Return what is listed of an example, and its NPY file: no path is made of what a client asks for.

    Raises Problem: 404 if it is not in the list, 503 if it is damaged.
    """
    examples = listed(root, dataset)
    for example in examples:
        if example["name"] == name:
            try:
                return example, verified(root / FOLDER / dataset / f"{name}.npy").read_bytes()
            except UserError as error:
                raise unavailable(str(error)) from None
            except OSError:  # it is being replaced
                break
    word = shown(name)
    there = names_there_are(word, (example["name"] for example in examples))
    raise unknown(f"there is no example {word!r}{there}")


def first_body(
    root: Path, dataset: str, features: Sequence[str] | None = None
) -> dict[str, Any] | None:
    """Return the first example of a data set as :func:`body` does, None if there is none that can be read
    and that has these `features`."""
    for example in listed(root, dataset)[:1]:
        with suppress(Problem, ValueError):
            return body(*read(root, dataset, example["name"]), features)
    return None


def body(
    example: Mapping[str, Any], npy: bytes, features: Sequence[str] | None = None
) -> dict[str, Any]:
    """Return an example as a body in JSON that can be sent as it is: a recording with what is known of
    it, or, if `features` are named, a row of them."""
    samples = np.load(io.BytesIO(npy))
    if features is not None:
        return dict(zip(features, samples[0], strict=True))
    known = {name: example[name] for name in ("sampling_rate", "unit") if example[name]}
    return {"signal": samples, **known}
