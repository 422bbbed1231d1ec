"""The order in which tests run."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones first, so that several processes are done at about the same time."""
    items.sort(key=lambda item: "pipeline" not in item.path.parts)
