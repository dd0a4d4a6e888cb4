"""Real Prefect servers (PostgreSQL, or SQLite in a folder of its own; password on), and workers for them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
from pydantic import SecretStr

from linkspan.errors import ServerUnavailable
from linkspan.local import prefect_settings, tether
from linkspan.local.server import START
from linkspan.prefect_api.http import Json, ServerHttp
from linkspan.prefect_api.server import Server
from linkspan.processes import Child, free_port
from tests.services.postgres import start_postgres
from tests.services.prefect_template import FLOWS_FILE, lay
from tests.services.shared import PIDS, of_this_run

ROOT = Path(__file__).parents[2]
AUTH = SecretStr("linkspan:correct horse battery staple")
# Automations and schedules act sooner than a person needs, so that tests need not wait.
SOON = {
    "PREFECT_SERVER_EVENTS_PROACTIVE_GRANULARITY": "PT1S",
    "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "2",
    "PREFECT_SERVER_SERVICES_SCHEDULER_RECENT_DEPLOYMENTS_LOOP_SECONDS": "1",
}
# What nobody waits for where no run is worked on, and what a tenth of a core goes for. Elsewhere it matters:
# the slot of a run that was claimed in vain is freed by one of these.
SELDOM = {
    f"PREFECT_SERVER_SERVICES_{service}_LOOP_SECONDS": "120"
    for service in (
        "CANCELLATION_CLEANUP",
        "CLEANUP_RECONCILER",
        "FOREMAN",
        "LATE_RUNS",
        "PAUSE_EXPIRATIONS",
        "REPOSSESSOR",
    )
}


@dataclass
class PrefectServer:
    """A server that can be stopped, killed and started again on the same port with the same database."""

    home: Path
    port: int = field(default_factory=free_port)
    auth: SecretStr = AUTH
    database: SecretStr | None = None

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    @property
    def env(self) -> dict[str, str]:
        """Environment for children that talk to it: `prefect …`, flows, `python -m flows.setup`."""
        settings = prefect_settings.client(self.home, self.api_url, self.auth)
        return {**prefect_settings.clean(), **settings, "PYTHONPATH": str(ROOT)}

    def api(self) -> Server:
        return Server(self.api_url, self.auth)

    soon: bool = True
    """Whether anybody waits for its schedules and automations."""
    flows: bool = False
    """Whether it has those of tests/flows/engine_flows.py from the start, as flows.setup deploys them."""

    def start(self) -> None:
        if self.database is None and not (self.home / "prefect.db").exists():
            lay_database(self.home, flows=self.flows)
        self.start_server()

    def start_server(self) -> None:
        """With the database that is there; the server makes one if there is none."""
        env = {
            **prefect_settings.clean(),
            **prefect_settings.server(self.home, self.api_url, self.auth, self.database),
            **(SOON if self.soon else SELDOM),
        }
        command = [sys.executable, *START, "--host", "127.0.0.1"]
        self.child = Child(
            "prefect", [*command, "--port", str(self.port)], log=self.home / "server.log", env=env
        )
        with self.api() as server:
            self.child.wait_until(server.ready, seconds=600)

    def stop(self) -> None:
        self.child.stop()

    @contextmanager
    def running(self) -> Iterator[Self]:
        """Until the block ends."""
        self.start()
        try:
            yield self
        finally:
            self.stop()

    @property
    def worker_env(self) -> dict[str, str]:
        """Environment of workers, and of what their runs are forked from."""
        return {**self.env, **prefect_settings.worker(self.home, self.api_url, self.auth)}

    @contextmanager
    def worker(self, **more: str) -> Iterator[Child]:
        """A worker of the pool that `flows.setup` makes; it has started once this is entered.

        `more` is for its environment. Its runs are forks of a process that has the flows, as with
        `linkspan up`.
        """
        name = f"test-{os.urandom(4).hex()}"
        forks = self.home / f"{name}-warm"
        env = {**self.worker_env, **more, tether.WARM: str(forks)}
        warm = Child(
            "warm",
            [sys.executable, "-m", "flows.warm", str(forks)],
            log=self.home / f"{name}-warm.log",
            env={**self.worker_env, **more},
            cwd=self.home,
        )
        command = [sys.executable, "-m", "flows.worker", "--pool", prefect_settings.POOL]
        child = Child(name, [*command, "--name", name], log=self.home / f"{name}.log", env=env, cwd=self.home)

        def known() -> bool:
            try:
                return any(each.name == name for each in server.workers(prefect_settings.POOL))
            except ServerUnavailable:
                return False  # a server that stands still for a moment

        try:
            with self.api() as server:
                child.wait_until(known, seconds=600)
            warm.wait_until((forks / "socket").exists, seconds=600)
            yield child
        finally:
            child.stop()
            warm.stop()

    def set_up(self, prefect_file: Path, *arguments: str) -> str:
        """Run `python -m flows.setup`; its output."""
        command = [sys.executable, "-m", "flows.setup", "--prefect-file", str(prefect_file), *arguments]
        done = subprocess.run(
            command, env=self.env, capture_output=True, text=True, timeout=1200, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def asked(api_url: str, auth: SecretStr, method: str, path: str, body: Json = None) -> httpx.Response:
    """What a server answers, where Server has no call for it; SQLite that was busy is asked again."""
    with closing(ServerHttp(api_url, auth, None)) as http:
        return http.request(method, path, body)


def lay_database(home: Path, *, flows: bool) -> None:
    """Put a database into a server's home that a server started with before."""
    lay("flows" if flows else "empty", home, _set_up if flows else _start_once)


def _start_once(home: Path) -> None:
    server = PrefectServer(home)
    server.start_server()
    server.stop()


def _set_up(home: Path) -> None:
    lay_database(home, flows=False)
    server = PrefectServer(home)
    server.start_server()
    try:
        server.set_up(FLOWS_FILE)
    finally:
        server.stop()


@pytest.fixture(scope="session")
def prefect_server(run_folder: Path) -> PrefectServer:
    """The server of this run of the tests, with `engine_flows`. Others use it too, in other processes too.

    So use names of your own, and start no worker: it would take the runs of others.
    """
    said = of_this_run(run_folder, "prefect", _start)
    return PrefectServer(Path(said["home"]), port=said["port"])


def _start(home: Path) -> dict[str, Any]:
    # SQLite refuses what several processes ask for at once.
    (home / "postgres").mkdir()
    database, url = start_postgres(home / "postgres")
    server = PrefectServer(home / "server", database=url, soon=False)
    try:
        server.start()
        server.set_up(FLOWS_FILE)
        with server.api() as api:
            # With the first block Prefect makes the key that all are encrypted with: two at once collide.
            api.save_block("file-model-store/first", {"path": str(home)})
    except BaseException:
        server.stop()
        database.stop()
        raise
    return {PIDS: [database.pid, server.child.pid], "home": str(server.home), "port": server.port}


@pytest.fixture
def prefect_api(prefect_server: PrefectServer) -> Iterator[PrefectServer]:
    """The run's server, and Prefect calls in this very process go to it."""
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

    updates = {PREFECT_API_URL: prefect_server.api_url, PREFECT_API_AUTH_STRING: prefect_server.auth}
    with temporary_settings(updates):
        yield prefect_server


@pytest.fixture
def own_prefect_server(tmp_path: Path) -> Iterator[PrefectServer]:
    """A server with `engine_flows` for one test, which may kill it."""
    with PrefectServer(tmp_path / "prefect", flows=True).running() as server:
        yield server


@pytest.fixture(scope="module")
def worker_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """A server with `engine_flows` for one module, which may start workers and kill them."""
    with PrefectServer(tmp_path_factory.mktemp("prefect"), flows=True).running() as server:
        yield server


@pytest.fixture(scope="session")
def engine_flows(prefect_server: PrefectServer) -> PrefectServer:
    """The run's server, for the flows of tests/flows/engine_flows.py that flows.setup deployed there."""
    return prefect_server
