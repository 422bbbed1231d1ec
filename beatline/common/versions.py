"""The versions of the libraries that run here."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

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
