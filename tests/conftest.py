"""The order in which tests run, and which are the long ones."""

from __future__ import annotations

import pytest

SLOW_FOLDERS = {"pipeline"}
SLOW_MODULES = {  # of several seconds a test: whole processes, browsers, installations, statistics
    "test_bad_input",
    "test_boosted_trees",
    "test_cards",
    "test_containers",
    "test_differences",
    "test_ecg",
    "test_page",
    "test_plots_page",
    "test_report",
    "test_schema",
    "test_serve",
    "test_sweeps",
    "test_train",
    "test_ucr",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones first, so that several processes are done at about the same time."""
    items.sort(key=lambda item: "pipeline" not in item.path.parts)
    for item in items:
        if SLOW_FOLDERS & set(item.path.parts) or item.path.stem in SLOW_MODULES:
            item.add_marker("slow")
