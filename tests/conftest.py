"""Fixtures for real services; each lives in a file of its own and starts only what a test asks for."""

import gc
import os
import shutil
import signal
import tempfile
import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from xdist.workermanage import NodeManager

from linkspan.local import leftovers
from linkspan.prefect_api import http, server
from tests import lanes
from tests.needs import CannotPrepare, needs_of, prepared
from tests.services.shared import stop_those_of

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
    "tests.registry.fixtures",
]

RUN = pytest.StashKey[Path]()
PREPARED = pytest.StashKey[ExitStack]()


@pytest.fixture(scope="session")
def run_folder(request: pytest.FixtureRequest) -> Path:
    """A folder of this run of the tests, the same in all its processes."""
    return _run_folder(request.config)


_USUAL = http.REQUEST_SECONDS, http.BUSY_SECONDS, server.OUTAGE_SECONDS
_PATIENT = 240.0, 240.0, 600.0
"""Longer than a Prefect server on SQLite may stand still."""
_ASK_REAL_SERVERS = {"cli", "e2e", "flows", "local", "prefect_api"}


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Our client is patient, from a test's first fixture on; tests of its limits set their own."""
    patient = item.path.parent.name in _ASK_REAL_SERVERS
    http.REQUEST_SECONDS, http.BUSY_SECONDS, server.OUTAGE_SECONDS = _PATIENT if patient else _USUAL


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what is quick."""
    for item in items:
        if not needs_of(item) and not any(item.get_closest_marker(name) for name in ("slow", "calm")):
            item.add_marker("quick")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Tell the process that schedules what it has to know of each test, before it hears that we are done."""
    gc.freeze()  # what was imported stays: nobody need look through it for garbage
    if given := getattr(session.config, "workerinput", None):
        lanes.here_is(given["workerid"], _run_folder(session.config))
        lanes.write([lanes.facts_of(item) for item in session.items], _facts(session.config))


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Where tests run in this very process, get the machine ready for them; else the scheduler does it."""
    config = session.config
    if session.items and not config.option.collectonly and not hasattr(config, "workerinput"):
        _prepare(config, {need for item in session.items for need in needs_of(item)})


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """pytest-xdist asks what a worker shall know."""
    node.workerinput["run"] = str(_run_folder(node.config))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config) -> lanes.LaneScheduling | None:
    """Our own, unless another one is asked for by `--dist`."""
    if config.getvalue("dist") != "load":
        return None
    return lanes.LaneScheduling(config, _facts(config), lambda needs: _prepare(config, needs))


def _run_folder(config: pytest.Config) -> Path:
    if given := getattr(config, "workerinput", {}).get("run"):
        return Path(given)
    if RUN not in config.stash:
        config.stash[RUN] = made = Path(tempfile.mkdtemp(prefix="linkspan-tests-"))
        made.chmod(0o711)  # PostgreSQL, which refuses to run as root, passes through it
    return config.stash[RUN]


def _facts(config: pytest.Config) -> Path:
    return _run_folder(config) / "facts"


def _prepare(config: pytest.Config, needs: set[str]) -> None:
    """Not captured: it may take minutes, and says so."""
    config.stash[PREPARED] = stack = ExitStack()
    capture: Any = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        try:
            stack.enter_context(prepared(needs))
        except CannotPrepare as error:
            pytest.exit(str(error), returncode=1)


def pytest_configure(config: pytest.Config) -> None:
    """Hear SIGINT also where a shell started pytest in the background, and so would our children not."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, "workerinput"):
        os.environ[leftovers.MARK] = f"tests-{uuid.uuid4().hex}"
        # Who is interrupted stops what it started: servers, containers, namespaces.
        NodeManager.EXIT_TIMEOUT = 60


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop what was started for the tests, also by those that had no time to do it themselves."""
    if RUN in config.stash:
        stop_those_of(config.stash[RUN])
    if not hasattr(config, "workerinput"):
        leftovers.end_all(os.environ[leftovers.MARK])
    if PREPARED in config.stash:
        config.stash[PREPARED].close()
    if RUN in config.stash:
        shutil.rmtree(config.stash[RUN], ignore_errors=True)
