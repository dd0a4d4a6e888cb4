"""Which real services a test needs, and getting the machine ready for them before the first test.

What takes minutes the first time (packages, Go modules) is made here, where its progress is seen and no
test's time runs out. Each fixture of tests/services/ still starts its own service.
"""

import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.cluster import places as cluster
from tests.gomodule import Unavailable
from tests.services.shared import for_others_too, shared

ROOT = Path(__file__).parents[1]
STATE = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "linkspan"
ENGINE = STATE / "dockerd.pid"
"""Which one scripts/engine.sh started."""
STARTED_BY_TESTS = STATE / "dockerd-of-tests.pid"

# "rollouts" is no service: whoever needs them sleeps until one is ready (tests/lanes.py).
# Whoever uses one of these fixtures needs that service. What starts one in another way says so:
# `@pytest.mark.needs("prefect")`.
FIXTURES = {
    "azurite": "azurite",
    "browser": "browser",
    "cluster": "cluster",
    "digits_model": "sample app",
    "docker_client": "engine",
    "e2e_registry": "registry",
    "moto": "moto",
    "moto_s3": "moto",
    "own_prefect_server": "prefect",
    "postgres": "postgres",
    "prefect_server": "prefect",
    "worker_server": "prefect",
    "registry": "registry",
    "registry3": "registry3",
    "run_app": "sample app",
}

PACKAGES = {
    "browser": ["chromium"],
    "git hook": ["curl", "openssl"],
    "postgres": ["postgresql"],
    "prefect": ["postgresql"],
    "registry": ["docker-registry", "apache2-utils"],
    "registry3": ["apache2-utils"],
}


class CannotPrepare(Exception):
    """This machine lacks something that the tests need, and it cannot be had."""


def needs_of(item: pytest.Item) -> frozenset[str]:
    """The services that a test needs; none for one that is quick."""
    names = getattr(item, "fixturenames", ())
    marked = [need for mark in item.iter_markers("needs") for need in mark.args]
    return frozenset([*(FIXTURES[name] for name in names if name in FIXTURES), *marked])


@contextmanager
def prepared(needs: Iterable[str]) -> Iterator[None]:
    """With all that these services are made of; engine and cluster that were started for them are stopped.

    The cluster is started by its fixture and stopped by the last who used it; here, if all of them died.
    """
    wanted = set(needs)
    packages = sorted({package for need in wanted for package in PACKAGES.get(need, ())})
    if packages:
        _run("packages.sh", *packages)
    if "azurite" in wanted and shutil.which("npm") is None:
        _run("packages.sh", "npm")
    # What cannot be had here: each test that needs it is skipped and says why.
    if "cluster" in wanted:
        _run("cluster.sh", "build", also=Unavailable.exit_code)
    if "registry3" in wanted:
        _run("distribution.sh", also=Unavailable.exit_code)
    with ExitStack() as stack:
        if "cluster" in wanted:
            stack.callback(_stop_cluster_of_nobody)
        if "engine" in wanted:
            users = STATE / "engine-users.lock"
            stack.enter_context(shared(users, start=_start_engine, stop=_stop_engine))
            _run("base-image.sh")
        yield


def _stop_cluster_of_nobody() -> None:
    with shared(cluster.USERS, start=lambda: None, stop=stop_cluster):
        pass


def stop_cluster() -> None:
    """If it was started for tests."""
    if cluster.STARTED_BY_TESTS.exists():
        down = [str(ROOT / "scripts" / "cluster.sh"), "down"]
        subprocess.run(down, check=True, capture_output=True)


def _start_engine() -> None:
    ask = ["docker", "version"]
    if shutil.which("docker") is None or subprocess.run(ask, capture_output=True, check=False).returncode:
        _run("engine.sh", "start")
        shutil.copyfile(ENGINE, STARTED_BY_TESTS)


def _stop_engine() -> None:
    if STARTED_BY_TESTS.exists() and ENGINE.exists() and STARTED_BY_TESTS.read_text() == ENGINE.read_text():
        _run("engine.sh", "stop")
    STARTED_BY_TESTS.unlink(missing_ok=True)


def _run(script: str, *arguments: str, also: int = 0) -> None:
    command = [str(ROOT / "scripts" / script), *arguments]
    done = subprocess.run(command, env=for_others_too(), check=False)
    if done.returncode not in {0, also}:
        raise CannotPrepare(f"scripts/{script} {' '.join(arguments)} ended with {done.returncode}; see above")
