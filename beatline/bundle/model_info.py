"""The files of a bundle, and the content of its model.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from beatline.common import sums
from beatline.common.errors import UserError
from beatline.common.files import read_json

WEIGHTS, GRAPH = "weights.safetensors", "model.onnx"
DESCRIPTION, HISTORY = "model.json", "history.csv"
SEEDS = "seeds"
WEIGHTS_SHA256, GRAPH_SHA256 = "weights_sha256", "graph_sha256"  # in model.json
FORMAT = 3
PROMISED = (  # what model.json holds at least
    "architecture",
    "task",
    "classes",
    "sections",
    "thresholds",
    "windows",
    "normalization",
    "dataset",
    "training",
    "best_epoch",
    "identity",
)


def read_model_info(folder: Path) -> dict[str, Any]:
    """The content of a bundle's model.json. Raises UserError if it is missing or damaged."""
    model_info = read_json(sums.verified(folder / DESCRIPTION))
    if not isinstance(model_info, dict) or model_info.get("format") != FORMAT:
        raise UserError(f"{folder} is a bundle of another format than {FORMAT}: train it again")
    if missing := [name for name in PROMISED if name not in model_info]:
        raise UserError(f"{folder / DESCRIPTION} has no {missing[0]}: train the model again")
    return model_info


def shape_of(model_info: dict[str, Any]) -> tuple[int, int]:
    """Return the shape of the windows that a bundle's network looks at: samples and channels."""
    dataset, window = model_info["dataset"], model_info["windows"]["length"]
    return min(window or dataset["length"], dataset["length"]), len(dataset["channels"])
