"""A network as an ONNX graph: `windows` `[B, T, C]` in, of any number B; `answers` `[B, K]` out, and of
an autoencoder `reconstruction` `[B, T, C]` too."""

from __future__ import annotations

import os

# Before the import, which is when ONNX Runtime would begin to report its use to its makers.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

WINDOWS, ANSWERS, RECONSTRUCTION = "windows", "answers", "reconstruction"


def open_session(graph: bytes) -> onnxruntime.InferenceSession:
    """Return a session that runs an ONNX graph on one thread. Any exception of ONNX Runtime otherwise."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong is raised; it need not be printed too
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
