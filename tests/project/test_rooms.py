"""The package is built in rooms, each of which uses only those below it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT

# From the ground up. A room uses itself and those before it.
ROOMS = (
    "common",
    "metrics",
    "sources",
    "formats",
    "preprocessing",
    "prediction",
    "simulators",
    "features",
    "models",
    "export",
    "lineage",
    "bundle",
    "training",
    "datasets",
    "evaluation",
    "drawings",
    "reporting",
    "comparing",
    "tracking",
    "feature_store",
    "monitoring",
    "serving",
    "commands",
    "cli",
)
PACKAGE = ROOT / "beatline"


def test_no_import_runs_upwards() -> None:
    """Who reads a room from the ground up meets nothing that is explained further on."""
    upwards = {
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for line, name in _imports(path)
        if ROOMS.index(_room_of(path)) < ROOMS.index(name.split(".")[1])
    }
    assert not upwards


def test_every_room_has_its_place() -> None:
    """A new package is given its place in the order above before anything leans on it. At the top there
    is nothing but packages, the metrics and the command line."""
    modules = {path.stem for path in PACKAGE.glob("[!_]*.py")}
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert modules == {"metrics", "cli"}
    assert modules | packages == set(ROOMS)


def test_stages_use_no_commands() -> None:
    """What a person types can change without a stage running again."""
    for path in (ROOT / "stages").glob("*.py"):
        rooms = {name.split(".")[1] for _, name in _imports(path)}
        assert not rooms & {
            *("commands", "cli", "comparing", "tracking", "feature_store", "monitoring", "serving")
        }, path


@pytest.mark.parametrize("module", ["stages.evaluate", "beatline.commands.repro"])
def test_what_starts_often_imports_little(module: str) -> None:
    """Pictures and statistics that a stage or command does not need would cost each start of it as long
    as all the rest but torch."""
    heavy = "{'matplotlib', 'scipy.stats', 'sklearn', 'torch._dynamo'}"
    program = f"import sys, {module}; assert not {heavy} & {{*sys.modules}}, sys.modules.keys()"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


def _room_of(path: Path) -> str:
    inside = path.relative_to(PACKAGE).parts
    return Path(inside[0]).stem if inside[0] not in ("__init__.py", "__main__.py") else "cli"


def _imports(path: Path) -> list[tuple[int, str]]:
    """Line and full name of each import of the package's own modules."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "beatline":
            found += [(node.lineno, f"beatline.{alias.name}") for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append((node.lineno, node.module))
    return [(line, name) for line, name in found if name.startswith("beatline.")]
