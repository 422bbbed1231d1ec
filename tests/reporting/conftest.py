from __future__ import annotations

from pathlib import Path

import pytest

from beatline.reporting.document import Document
from beatline.reporting.report import compose
from beatline.reporting.settings import Report
from tests.reporting import project


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The made-up project, which no test changes."""
    root = tmp_path_factory.mktemp("project")
    project.build(root)
    return root


@pytest.fixture(scope="session")
def document(root: Path) -> Document:
    """Its report."""
    return compose(project.CONTENT, Report(mistakes=2), root, project.REPORT)


@pytest.fixture
def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spares a test that reads the text alone the time that figures take."""
    for name in ("png", "svg"):
        monkeypatch.setattr(f"beatline.reporting.document.{name}", lambda *_: b"")
