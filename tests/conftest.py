"""How tests run: in which order, which are the long ones, without deadlines; and the database server that
they share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, settings

from tests import postgresql

# How long an example takes depends on what else runs on the machine.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")

SLOW_FOLDERS = {"pipeline", "tracking"}  # of which the latter makes databases
SLOW_MODULES = {  # of several seconds a test: whole processes, browsers, installations, statistics
    "test_access_log",
    "test_answer_log",
    "test_bad_input",
    "test_boosted_trees",
    "test_cards",
    "test_champions",
    "test_cluster",
    "test_containers",
    "test_croissant",
    "test_differences",
    "test_drift",
    "test_ecg",
    "test_fuzz_requests",
    "test_guard",
    "test_kill",
    "test_machines",
    "test_machines_page",
    "test_messages",
    "test_new",
    "test_normalize",
    "test_outcomes",
    "test_page",
    "test_page_in_browser",
    "test_parallel",
    "test_platform",
    "test_plots_page",
    "test_predict",
    "test_processes",
    "test_quality",
    "test_report",
    "test_repro",
    "test_rooms",
    "test_schema",
    "test_serve",
    "test_serve_registry",
    "test_shadow",
    "test_store",
    "test_sweeps",
    "test_telemetry",
    "test_train",
    "test_ucr",
    "test_watch",
    "test_webhook",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones first, so that several processes are done at about the same time."""
    items.sort(key=lambda item: "pipeline" not in item.path.parts)
    for item in items:
        if SLOW_FOLDERS & set(item.path.parts) or item.path.stem in SLOW_MODULES:
            item.add_marker("slow")


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """The URL of a real PostgreSQL."""
    # Not in pytest's folder, which each session closes to all but its user: root's server is another.
    with TemporaryDirectory() as folder, postgresql.server(Path(folder)) as url:
        yield url


@pytest.fixture
def database(postgresql_server: str) -> Iterator[str]:
    """The URL of an empty database of a real PostgreSQL."""
    with postgresql.database(postgresql_server) as url:
        yield url
