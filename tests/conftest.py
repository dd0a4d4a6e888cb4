"""Fixtures for real services; each lives in a file of its own and starts only what a test asks for."""

import signal

import pytest

pytest_plugins = [
    "tests.services.engine",
    "tests.services.registry",
    "tests.services.cluster",
    "tests.services.azurite",
    "tests.services.moto",
    "tests.services.prefect_server",
    "tests.services.browser",
    "tests.services.sample_app",
]

# They kill processes and wait for what the survivors do within seconds: each needs the cores to itself.
ALONE = {
    "tests/cli/test_story.py",
    "tests/cli/test_up.py",
    "tests/e2e/test_worker.py",
    "tests/flows/test_coalesce.py",
    "tests/runtimes/test_kubernetes_restart.py",
    "tests/test_local.py",
}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests that scripts/test.sh runs one by one, after all others."""
    for item in items:
        if item.path.relative_to(config.rootpath).as_posix() in ALONE:
            item.add_marker("alone")


def pytest_configure(config: pytest.Config) -> None:
    """Hear SIGINT also where a shell started pytest in the background, and so would our children not."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
