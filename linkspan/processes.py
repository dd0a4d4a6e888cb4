"""Child processes that are started, waited for and stopped: by `linkspan up`, the demo and the tests."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from linkspan.errors import ConfigError

KILLED = 128 + signal.SIGKILL
"""The exit code by which shells and engines say that a process was killed."""


def free_port() -> int:
    """A TCP port on loopback that nothing listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class Child:
    """A process in a session of its own, with its output in `log`, that dies with all it started.

    Raises ConfigError when the program is not there.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.name = name
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            try:
                self._popen = subprocess.Popen(
                    list(command),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=None if env is None else dict(env),
                    cwd=cwd,
                    start_new_session=True,
                )
            except FileNotFoundError:
                raise ConfigError(f"{name} cannot be started", expected=f"a program {command[0]}") from None

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    def tail(self, lines: int = 15) -> str:
        """The last lines of its output."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def wait_until(self, ready: Callable[[], bool], *, seconds: float, every: float = 0.1) -> None:
        """Wait for a condition. Raises ConfigError, with its last lines, if it dies or takes longer."""
        end = time.monotonic() + seconds
        while not ready():
            if not self.running:
                raise ConfigError(f"{self.name} ended with code {self._popen.returncode}:\n{self.tail()}")
            if time.monotonic() > end:
                raise ConfigError(f"{self.name} is not ready after {seconds:g} s:\n{self.tail()}")
            time.sleep(every)

    def stop(self, *, grace: float = 10.0) -> None:
        """SIGTERM, then after `grace` seconds SIGKILL to all of its session. May be called twice."""
        if self.running:
            self._popen.send_signal(signal.SIGTERM)
            try:
                self._popen.wait(grace)
            except subprocess.TimeoutExpired:
                self.kill()
        self._signal_group(signal.SIGKILL)

    def kill(self) -> None:
        """SIGKILL, at once, to all of its session."""
        self._signal_group(signal.SIGKILL)
        self._popen.wait()

    def _signal_group(self, number: signal.Signals) -> None:
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return  # all of them are gone already, which is what was wanted


def listens(port: int, host: str = "127.0.0.1") -> bool:
    """Whether something accepts TCP connections there."""
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False
