"""What runs here: versions of libraries, and the machine, by which numbers may differ."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = (  # whose versions may change a number
    *("torch", "numpy", "pandas", "scipy", "scikit-learn", "iterative-stratification", "pyarrow"),
    *("soundfile", "soxr", "safetensors", "onnx", "onnxruntime", "dvc"),
)


def versions() -> dict[str, str]:
    """Versions of `python` and the installed ones of PACKAGES."""
    installed = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            continue
    return installed


def machine() -> dict[str, str]:
    """The `system` and the `processor`."""
    # The C library has the mathematical functions; the kernel's release changes no number.
    system = " ".join([platform.system(), *platform.libc_ver()]).strip()
    names = _told_of_processors("model name")
    return {
        "system": system,
        "processor": names[0] if names else platform.processor() or platform.machine(),
    }


def instructions() -> str:
    """The instructions that the processor has, of which libraries choose; empty where nobody tells."""
    flags = [*_told_of_processors("flags"), *_told_of_processors("Features")]
    return flags[0] if flags else ""


def _told_of_processors(name: str) -> list[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
    return [line.partition(":")[2].strip() for line in lines if line.startswith(name)]
