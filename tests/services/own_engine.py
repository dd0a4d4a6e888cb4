"""A Docker Engine of one's own beside the machine's: all that it holds is in one folder and goes with it."""

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import docker
from docker.errors import DockerException

from linkspan.engine import engine
from linkspan.errors import LinkspanError
from linkspan.processes import Child


class OwnEngine:
    """One that runs. Its containers have no way out.

    It has a bridge of its own: without any, dockerd removes docker0, which is the machine's engine's.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.url = f"unix://{folder}/docker.sock"
        config = folder / "daemon.json"
        config.write_text("{}")  # not the machine's
        name = uuid.uuid4().hex[:8]
        self.bridge = f"ls{name}"
        subprocess.run(["ip", "link", "add", self.bridge, "type", "bridge"], check=True)
        options = {
            "config-file": config,
            "data-root": folder / "data",
            "exec-root": folder / "exec",
            "pidfile": folder / "docker.pid",
            "host": self.url,
            "bridge": self.bridge,
            "iptables": "false",
            "ip-forward": "false",
            # Where the machine has a containerd of the system, dockerd takes it.
            "containerd-namespace": f"linkspan-{name}",
            "containerd-plugins-namespace": f"linkspan-{name}-plugins",
        }
        program = _program() or "dockerd"
        self.child = Child(
            "a Docker Engine",
            [program, *(f"--{name}={value}" for name, value in options.items())],
            log=folder / "dockerd.log",
            env={**os.environ, "TMPDIR": str(folder)},
        )

    @contextmanager
    def client(self) -> Iterator[docker.DockerClient]:
        with closing(engine(self.url, timeout_seconds=3600)) as opened:
            yield opened

    def answers(self) -> bool:
        try:
            with self.client() as opened:
                opened.ping()
        except (LinkspanError, DockerException):
            return False
        return True


def unavailable() -> str:
    """Why there can be none here; empty if there can."""
    if os.geteuid() != 0:
        return "only root can start a Docker Engine of its own"
    return "" if _program() else "there is no dockerd. On Debian: apt-get install docker.io"


@contextmanager
def own_engine(folder: Path) -> Iterator[OwnEngine]:
    """One that is stopped at the end; its folder is the caller's to remove."""
    running = OwnEngine(folder)
    try:
        running.child.wait_until(running.answers, seconds=600)
        yield running
    finally:
        running.child.stop(grace=60)
        subprocess.run(["ip", "link", "delete", running.bridge], check=False, capture_output=True)


def _program() -> str | None:
    return shutil.which("dockerd") or shutil.which("dockerd", path="/usr/sbin:/usr/local/sbin:/sbin")
