"""A trained model as a folder that explains itself.

``weights.safetensors`` holds the tensors, ``model.json`` everything else that leads from a raw
recording to a prediction and what made the model, ``history.csv`` a row per epoch of training, and
``model.onnx`` the network as an ONNX graph, for predictions without torch
(:mod:`beatline.serving`). ``familiarity.safetensors`` tells which recordings are far from those of the
training (:mod:`beatline.prediction.familiarity`), ``reference.safetensors`` what it is watched by in
production (:mod:`beatline.prediction.reference`). The folder ``seeds`` holds the bundles of other seeds,
each called after its seed, if there are any. One call loads a bundle::

    from beatline import bundle
    model = bundle.load("data/models/ptbxl/cnn")
    predictions = model.predict(recordings)  # [N, T, C] or [T, C] in the data set's unit

and ``beatline describe ptbxl/cnn`` prints what it says of itself.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from beatline.bundle.model_info import (
    DESCRIPTION,
    FAMILIARITY,
    FORMAT,
    GRAPH,
    GRAPH_SHA256,
    HISTORY,
    REFERENCE,
    SEEDS,
    WEIGHTS,
    WEIGHTS_SHA256,
    shape_of,
)

if TYPE_CHECKING:
    from beatline.bundle.model import Answers, Bundle, load, network_of, other_seeds, save

__all__ = ["DESCRIPTION", "FAMILIARITY", "FORMAT", "GRAPH", "GRAPH_SHA256", "HISTORY", "SEEDS"]
__all__ += ["REFERENCE", "WEIGHTS", "WEIGHTS_SHA256", "shape_of"]
__all__ += ["Answers", "Bundle", "load", "network_of", "other_seeds", "save"]


def __getattr__(name: str) -> Any:
    """Import :mod:`beatline.bundle.model` when one of its names is asked for, and not before: the service
    reads :mod:`beatline.bundle.model_info` where there is no torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("beatline.bundle.model"), name)
