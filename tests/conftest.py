"""Fixtures for real services; each lives in a file of its own and starts only what a test asks for."""

import signal

import pytest

pytest_plugins = [
    "tests.services.engine",
    "tests.services.registry",
    "tests.services.cluster",
    "tests.services.azurite",
    "tests.services.moto",
    "tests.services.postgres",
    "tests.services.prefect_server",
    "tests.services.browser",
    "tests.services.sample_app",
]

# They kill processes and wait for what the survivors do within seconds: each needs a core to itself.
CALM = {
    "tests/cluster/test_cluster.py",
    "tests/cli/test_story.py",
    "tests/cli/test_up.py",
    "tests/e2e/test_worker.py",
    "tests/flows/test_coalesce.py",
    "tests/runtimes/kubernetes/test_restart.py",
    "tests/local/test_services.py",
    "tests/webhooks/test_serve.py",
    "tests/webhooks/inbox/test_storm.py",
}

# Never at once: each would notice the other.
KILL_THE_API_SERVER = {"tests/cluster/test_cluster.py", "tests/runtimes/kubernetes/test_restart.py"}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests that scripts/test.sh runs after all others, two at a time."""
    for item in items:
        path = item.path.relative_to(config.rootpath).as_posix()
        if path in CALM:
            item.add_marker("calm")
        if path in KILL_THE_API_SERVER:
            item.add_marker(pytest.mark.xdist_group("api-server"))


def pytest_configure(config: pytest.Config) -> None:
    """Hear SIGINT also where a shell started pytest in the background, and so would our children not."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
