"""The pinned requirements: what is installed is what was looked at, byte for byte where that can be."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import distribution, requires, version

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.paths import ROOT

FILES = sorted(ROOT.glob("requirements*.txt"))
# What only builds for a GPU bring: each index has it in other versions, together with its torch.
OF_THE_BUILD = re.compile(r"nvidia-.*|cuda-.*|triton.*|pytorch-triton.*")


def pinned(text: str) -> dict[str, list[str]]:
    """Versions by name, as `make setup` hands them to pip when it installs torch."""
    found: dict[str, list[str]] = {}
    for name, release in re.findall(r"^([a-z][\w.-]*)==(\S+)", text, re.MULTILINE):
        found.setdefault(name, []).append(release)
    return found


def brought_by(name: str) -> Iterator[Requirement]:
    """Yield what a package needs here, and what that needs."""
    for line in requires(name) or []:
        need = Requirement(line)
        if need.marker and not need.marker.evaluate({"extra": ""}):
            continue
        if not OF_THE_BUILD.fullmatch(canonicalize_name(need.name)):
            yield need
            yield from brought_by(need.name)


def test_what_torch_brings_is_pinned_and_hashed() -> None:
    """torch has other bytes in each index and cannot be hashed. All else that it needs can, and would
    come unpinned, in a version of that day, if it were not in the file."""
    pins = pinned((ROOT / "requirements.txt").read_text())
    needs = list(brought_by("torch"))
    assert {"sympy", "mpmath"} <= {need.name for need in needs}
    for need in needs:
        releases = pins[canonicalize_name(need.name)]
        assert version(need.name) in releases, "installed as pinned"
        assert all(need.specifier.contains(release) for release in releases), need


def test_torch_itself_is_as_the_makefile_says() -> None:
    """The pin stands where it is installed, and in no file of hashes."""
    pin = re.findall(r"^TORCH := torch==(\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert distribution("torch").version.partition("+")[0] == pin[0]
    assert not any("torch" in pinned(path.read_text()) for path in FILES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_each_requirement_has_hashes(path: str) -> None:
    """pip refuses a file in which one has none, but says so only where it is installed."""
    blocks = re.split(r"\n(?=\S)", (ROOT / path).read_text().strip())
    assert len(blocks) > 15
    for block in blocks:
        assert re.match(r"[a-z][\w.-]*==\S+ .*\\\n +--hash=sha256:[0-9a-f]{64}", block), block[:80]
