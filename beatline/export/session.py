"""A network as an ONNX graph: `windows` `[B, T, C]` in, of any number B; `answers` `[B, K]` out, and of
an autoencoder `reconstruction` `[B, T, C]` too."""

from __future__ import annotations

import os
from functools import cache

# Before the import, which is when ONNX Runtime would begin to report its use to its makers.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

WINDOWS, ANSWERS, RECONSTRUCTION = "windows", "answers", "reconstruction"


# Of all graphs of a process together. Limits are checked before (:mod:`beatline.export.limits`), for some
# numbers of windows; this holds for all.
ARENA = 2 << 30  # bytes


@cache
def _limit_memory() -> None:
    """Let all sessions of this process take their memory from one arena of a limited size."""
    info = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    onnxruntime.create_and_register_allocator(info, onnxruntime.OrtArenaCfg({"max_mem": ARENA}))


def open_session(graph: bytes) -> onnxruntime.InferenceSession:
    """Return a session that runs an ONNX graph on one thread. Any exception of ONNX Runtime otherwise."""
    _limit_memory()
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong is raised; it need not be printed too
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
