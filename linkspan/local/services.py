"""Start, watch and stop a Prefect server and what belongs to it: for `linkspan up`, the demo, the tests."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Self, TypeVar

from pydantic import SecretStr

from linkspan.errors import ConfigError, ServerUnavailable
from linkspan.local import leftovers, prefect_settings, recovery, tether
from linkspan.local.home import Home, State
from linkspan.local.server import START
from linkspan.places import PORT
from linkspan.prefect_api.server import Server
from linkspan.processes import Child, listens

T = TypeVar("T")

SERVER_SECONDS = 120.0
WORKER_SECONDS = 120.0
RECEIVER_SECONDS = 120.0
SETUP_SECONDS = 300.0
# A service that dies this often within RESTART_WINDOW seconds is not restarted again.
RESTARTS = 5
RESTART_WINDOW = 300.0


class Local:
    """A server, a worker and, at the address `hooks`, a receiver of webhooks, below one home.

    Use it as a context manager, from the main thread.
    The main thread, because the services are tied to the thread that started them (tether.py).
    """

    def __init__(
        self,
        home: Home | Path | None = None,
        *,
        port: int = PORT,
        hooks: tuple[str, int] | None = None,
        database_url: SecretStr | None = None,
        prefect_file: Path | None = None,
        timezone: str | None = None,
        say: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self.home = home if isinstance(home, Home) else Home.default() if home is None else Home(home)
        self.port = port
        self.api_url = f"http://127.0.0.1:{port}/api"
        self.ui_url = f"http://127.0.0.1:{port}"
        self._hooks = hooks
        self.hooks_url = f"http://{_reached(hooks[0])}:{hooks[1]}" if hooks else ""
        self._database_url = database_url
        self._prefect_file = prefect_file
        self._timezone = timezone
        self._say = say
        self._held = ExitStack()
        self._children: dict[str, Child] = {}
        self._restarted: dict[str, list[float]] = {}
        self._awaited: set[str] = set()
        self.server: Server

    # Life

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start all, take over what a killed `up` left, and return when a run that is asked for would run.

        Raises ConfigError if the home is in use, the port is taken, or a service does not get ready.
        """
        self._held.enter_context(self.home.held())
        try:
            if ended := leftovers.end_all(self.home.mark):
                self._say(f"ended {ended} processes that a killed linkspan had left behind")
            self.home.forget_state()
            for port, option in ((self.port, "--port"), (self._hooks and self._hooks[1], "--hooks-port")):
                if port and listens(port):
                    raise ConfigError(
                        f"port {port} is taken by another program",
                        fix=f"Stop it (another Prefect server?), or choose another with {option}",
                    )
            self.server = Server(self.api_url, self.home.auth())
            self._start_server()
            self.setup()
            self._start_warm()
            self._start_receiver()
            self._start_worker()
            self._write_state()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop all, the server last; runs under way go on at the next start. May be called twice."""
        self.home.forget_state()
        for name in ("receiver", "worker", "warm", "server"):
            if child := self._children.pop(name, None):
                child.stop(grace=15)
        if hasattr(self, "server"):
            self.server.close()
        self._held.close()

    def setup(self) -> None:
        """Pool, queues, automations, blocks and deployments; quick where they are as they should be."""
        command = [sys.executable, "-m", "flows.setup"]
        if self._prefect_file:
            command += ["--prefect-file", str(self._prefect_file)]
        if self._timezone:
            command += ["--timezone", self._timezone]
        begin = time.monotonic()
        self._say("setting it up: work pool, queues, automations, blocks, deployments")
        with (
            tempfile.TemporaryFile("w+") as errors,
            subprocess.Popen(
                command,
                env=self.client_env(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            ) as child,
        ):
            late = threading.Timer(SETUP_SECONDS, child.kill)
            late.start()
            try:
                for line in child.stdout or ():  # as it comes: it takes a while, and somebody waits
                    self._say(line.rstrip())
                code = child.wait()
            finally:
                late.cancel()
                child.kill()
            errors.seek(0)
            if code == -signal.SIGKILL:
                raise ConfigError(f"the set-up of the Prefect server took more than {SETUP_SECONDS:g} s")
            if code:
                raise ConfigError(f"the Prefect server could not be set up:\n{errors.read().strip()[-4000:]}")
        self._say(f"the Prefect server is set up ({time.monotonic() - begin:.1f} s)")

    def tend(self) -> list[str]:
        """Restart what has died, and put runs that died with it back into their queues; what was restarted.

        Call it every second or so: what the server was too busy for is tried again. Raises ServerUnavailable
        when a service keeps dying, unless runs can do without it.
        """
        restarted = []
        starts = {
            "server": self._start_server,
            "warm": self._start_warm,
            "receiver": self._start_receiver,
            "worker": self._start_worker,
        }
        for name, start in starts.items():
            child = self._children.get(name)
            if child is None or child.running:
                continue
            if name not in self._awaited:
                now = time.monotonic()
                recent = [at for at in self._restarted.get(name, []) if now - at < RESTART_WINDOW]
                self._restarted[name] = [*recent, now]
                if len(recent) >= RESTARTS:
                    if name == "warm":
                        self._do_without_warm(child)
                        continue
                    raise ServerUnavailable(
                        f"the {name} keeps dying:\n{child.tail()}", fix=f"See {child.log}"
                    )
                self._say(f"the {name} has died; starting it again")
                child.kill()  # what is left of its session: the flow processes of a worker
            try:
                start()
            except ServerUnavailable as error:
                if name not in self._awaited:
                    self._say(f"the {name} has to wait for the Prefect server: {error.what}")
                self._awaited.add(name)
            if self._children[name] is not child:  # else the next call tries again
                self._awaited.discard(name)
                restarted.append(name)
        if restarted:
            self._write_state()
        return restarted

    def wait(self) -> None:
        """Tend the services until SIGTERM or SIGINT arrives."""
        stop = threading.Event()

        def ask(_number: int, _frame: FrameType | None) -> None:
            stop.set()

        before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            while not stop.wait(1):
                self.tend()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    # For others

    def client_env(self) -> dict[str, str]:
        """The environment for a child that talks to this server, and no other Prefect settings in it."""
        settings = prefect_settings.client(*self._address)
        return {**prefect_settings.clean(), **settings, "LINKSPAN_HOME": str(self.home.path)}

    @property
    def pids(self) -> dict[str, int]:
        """Process IDs of the services."""
        return {name: child.pid for name, child in self._children.items()}

    # Parts

    @property
    def _address(self) -> tuple[Path, str, SecretStr]:
        """PREFECT_HOME, the server's URL and its password."""
        return self.home.prefect, self.api_url, self.home.auth()

    def _start_server(self) -> None:
        settings = prefect_settings.server(*self._address, self._database_url)
        command = [*START, "--host", "127.0.0.1", "--port", str(self.port)]
        begin = time.monotonic()
        self._say("starting the Prefect server; the first start takes longer")
        child = self._spawn("server", command, settings)
        child.wait_until(self.server.ready, seconds=SERVER_SECONDS)
        version = self._asked(self.server.version, SERVER_SECONDS)  # proves the password too
        self._say(f"Prefect {version} is ready at {self.ui_url} ({time.monotonic() - begin:.1f} s)")

    def _start_warm(self) -> None:
        # Nobody waits for it: until it listens, and where it cannot, runs start the slow way.
        if sys.platform == "linux":
            command = ["-m", "flows.warm", str(self.home.warm)]
            self._spawn("warm", command, prefect_settings.worker(*self._address))

    def _do_without_warm(self, child: Child) -> None:
        self._say(f"the warm keeps dying, so runs start without it, slower; see {child.log}:\n{child.tail()}")
        child.kill()
        del self._children["warm"]
        self._write_state()

    def _start_receiver(self) -> None:
        if self._hooks is None:
            return
        host, port = self._hooks
        command = ["-m", "linkspan", "serve", "--host", host, "--port", str(port)]
        command += ["--inbox", str(self.home.inbox)]
        begin = time.monotonic()
        child = self._spawn("receiver", command, prefect_settings.client(*self._address))
        child.wait_until(lambda: listens(port, host), seconds=RECEIVER_SECONDS)
        self._say(f"the receiver of webhooks is ready at {self.hooks_url} ({time.monotonic() - begin:.1f} s)")

    def _start_worker(self) -> None:
        # No worker of ours runs now, so whatever is said to run has died.
        for run in self._asked(lambda: recovery.requeue_orphans(self.server), SERVER_SECONDS):
            self._say(f"run {run.name} was interrupted; it starts again")
        settings = {**prefect_settings.worker(*self._address), tether.WARM: str(self.home.warm)}
        name = f"linkspan-{self.home.mark[:8]}"
        command = ["-m", "flows.worker", "--pool", prefect_settings.POOL]
        begin = time.time()
        child = self._spawn("worker", [*command, "--name", name, "--install-policy", "never"], settings)

        def polls() -> bool:
            workers = self._asked(lambda: self.server.workers(prefect_settings.POOL), WORKER_SECONDS)
            return any(
                worker.name == name
                and worker.online
                and worker.last_heartbeat is not None
                and worker.last_heartbeat.timestamp() >= begin
                for worker in workers
            )

        child.wait_until(polls, seconds=WORKER_SECONDS, every=0.2)
        self._say(f"the worker is ready ({time.time() - begin:.1f} s)")

    def _asked(self, ask: Callable[[], T], seconds: float) -> T:
        """What the server says. On SQLite it may stand still for a minute, which is no reason to give up."""
        end = time.monotonic() + seconds
        while True:
            try:
                return ask()
            except ServerUnavailable:
                # One that has died is started again by `tend`, not by waiting.
                if not self._children["server"].running or time.monotonic() > end:
                    raise
                time.sleep(0.5)

    def _spawn(self, name: str, arguments: list[str], settings: dict[str, str]) -> Child:
        env = {
            **prefect_settings.clean(),
            **settings,
            leftovers.MARK: self.home.mark,
            "LINKSPAN_HOME": str(self.home.path),
        }
        child = Child(
            name,
            [sys.executable, "-ISs", tether.__file__, sys.executable, *arguments],
            log=self.home.logs / f"{name}.log",
            env=env,
            cwd=self.home.path,
        )
        self._children[name] = child
        return child

    def _write_state(self) -> None:
        self.home.write_state(
            State(
                api_url=self.api_url,
                ui_url=self.ui_url,
                hooks_url=self.hooks_url,
                pid=os.getpid(),
                pids=self.pids,
                auth_file=str(self.home.auth_file),
            )
        )


def _reached(host: str) -> str:
    """The address at which somebody on this machine reaches what listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104 - asked for, not used
