"""Which processor computes, and how it is made to give the same bytes twice."""

from __future__ import annotations

import ctypes
import os
import platform
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

# Must be set before the first use of CUDA: cuBLAS is deterministic only with a fixed workspace.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import torch
import torch.utils.deterministic

Precision = Literal["auto", "float32", "bfloat16", "float16"]


def choose() -> torch.device:
    """CUDA where there is one, then Apple's MPS, then the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def make_deterministic(seed: int) -> None:
    """Same seed, same machine: same bytes."""
    torch.manual_seed(seed)
    # What use_deterministic_algorithms sets, without its import of the compiler: most of a second.
    torch.set_deterministic_debug_mode("error")
    # Filling what is about to be overwritten anyway costs time; it only helps to find bugs of torch.
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore
    torch.backends.cudnn.benchmark = False


def autocast(dtype: torch.dtype | None, device: torch.device) -> AbstractContextManager[object]:
    """A context that computes in `dtype`, or in float32 if it is None."""
    if dtype is None:
        return nullcontext()
    return torch.autocast(device.type, dtype=dtype)


def keep_freed_memory() -> None:
    """Stop glibc from returning large activations to the system after every training step.

    By default each large tensor is mapped anew, and its pages zeroed by the kernel, at every step;
    measured, that is a third of the time of a recurrent model (`make bench`). Does nothing on other
    C libraries. The three options are those of mallopt(3).
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    m_trim_threshold, m_top_pad, m_mmap_max = -1, -2, -4
    libc.mallopt(m_mmap_max, 0)
    libc.mallopt(m_trim_threshold, 2**31 - 1)
    libc.mallopt(m_top_pad, 256 << 20)


def has_fast_bfloat16() -> bool:
    """Whether the CPU has instructions that multiply numbers of bfloat16."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
